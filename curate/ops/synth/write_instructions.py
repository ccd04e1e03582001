"""Write instructions about images by a chat model that is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, create_model

from curate.document.interchange import Record, RecordError, parse_record
from curate.document.segments import Segment, image_segment, is_image, text_of, text_segment
from curate.llm.chat import ChatRequest
from curate.llm.model import ChatModel
from curate.llm.prompts import PromptTemplate, load_prompt
from curate.llm.provenance import WRITTEN, written_by
from curate.mix.answers import FORMAT_PROMPTS
from curate.models.files import file_digest
from curate.ops._keys import generator
from curate.ops._segments import columns_of
from curate.ops.spec import Columns, Count, Failed, Knobs, Natural, Temperature, op
from curate.ops.synth._asking import SoundReply, ask_sound
from curate.ops.synth._conversation_faults import (
    find_conversation_fault,
    find_copy,
    find_description_fault,
    find_long_answer,
    grounded_share,
)
from curate.ops.synth._records import WRITES, generation_turns
from curate.ops.synth._scenes import describe_scene
from curate.ops.synth._templates import templated
from curate.ops.synth._tries import SOUND

Style = Literal["conversation", "description", "reasoning", "pairs", "generation"]
EXAMPLES = 5
"""Prompts of others that a request for one shows: Mini-Gemini's 3.3."""

_STRICT = ConfigDict(extra="forbid", strict=True)


class _Turn(BaseModel):
    model_config = _STRICT
    question: str
    answer: str


class _Description(BaseModel):
    model_config = _STRICT
    description: str


class _Generation(BaseModel):
    model_config = _STRICT
    request: str
    prompt: str


@op(
    reads=("bytes", "uid"),
    writes={
        **WRITES,
        "instructions_fault": pa.string(),
        "instructions_grounded": pa.float32(),
        "instructions_by": WRITTEN,
    },
    version=1,
    batch_size=256,
    timeout_s=0,  # every request has its own
    tally=("instructions_fault",),
)
class write_instructions:  # noqa: N801 - ops are named as recipes name them
    """Let a chat model write a conversation about an image which it is told of by captions, boxes and words seen in it.

    LLaVA's way (Liu et al. 2304.08485, 3): `conversation`, `description` (its question is a template), `reasoning`;
    `pairs` of questions and short answers, the system being told so (InstructBLIP, Cambrian-1); `generation`: a
    request and the prompt to draw from, with 5 drawn lines of the file `examples` shown (Mini-Gemini, 2403.18814, 3.3).
    A record has `captions`, `objects` (see annotation_questions) or `ocr`, under the keys of these names. The answer
    is JSON by a schema; at fault, it is asked for again, `tries` times in all. The document is the image alone where
    every try was; `instructions_fault` is the last one's (`none` for none), `instructions_by` who wrote.
    `instructions_grounded`: of the answers' content words the share that was told, or stands in their questions: the
    rest the model adds of its own. `prompt`: one of ours by name, or a file of yours; unsaid: `instruct-` and the
    style. Errors: not_json, bad_record, nothing_known; and those of the gateway.
    """

    def __init__(  # noqa: PLR0913 - each is a knob
        self,
        *,
        chat: ChatModel,
        llm: str | None = None,
        style: Style = "conversation",
        prompt: str | None = None,
        turns: Count = 3,
        tries: Count = 3,
        max_tokens: Count = 512,
        temperature: Temperature = 0.7,
        examples: str | None = None,
        image: str = "image",
        boxes: Literal["xyxy", "xywh"] = "xyxy",
        seed: Natural = 0,
    ) -> None:
        self._chat, self._prompt, self._style = chat.connect(), _load(prompt, style), style
        self._turns, self._tries, self._seed = 1 if style == "reasoning" else turns, tries, seed
        self._image, self._boxes = image, boxes
        self._max_tokens, self._parameters = max_tokens, {"temperature": temperature, "seed": seed}
        self._examples = _read_examples(examples)
        self._form = _form_of(style, self._turns)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the prompt's words, and of the file of examples. Raises ValueError for examples without a use."""
        if knobs["examples"] and knobs["style"] != "generation":
            raise ValueError(f"`examples` are of style generation, not of {knobs['style']}")
        digest = file_digest(Path(knobs["examples"])) if knobs["examples"] else ""
        return f"{_load(knobs['prompt'], knobs['style']).digest} {digest}"

    def __call__(self, records: Sequence[bytes], uids: Sequence[str]) -> Columns:
        """A conversation a record; all of a batch are asked for at once."""
        told = [self._tell(data) for data in records]
        asked = [n for n, one in enumerate(told) if not isinstance(one, Failed)]
        contexts = {n: one[1] for n, one in enumerate(told) if not isinstance(one, Failed)}
        requests = [self._request(contexts[n], uids[n]) for n in asked]
        read = lambda n, said: self._read(contexts[asked[n]], uids[asked[n]], said)  # noqa: E731
        replies = ask_sound(self._chat, requests, self._form, read, self._tries)
        found: list[Failed | dict[str, Any]] = [one if isinstance(one, Failed) else {} for one in told]
        for n, reply in zip(asked, replies, strict=True):
            images = told[n][0]  # type: ignore[index]
            found[n] = reply if isinstance(reply, Failed) else self._row(images, contexts[n], reply)
        return columns_of(found, write_instructions)

    def _tell(self, data: bytes) -> Failed | tuple[list[Segment], str]:
        """The images of a record, and what the model is told of them."""
        try:
            record = parse_record(data)
            return _images(record, self._image), tell_record(record, self._boxes)
        except RecordError as err:
            return Failed(err.error, err.detail)

    def _request(self, context: str, uid: str) -> ChatRequest:
        values = {"context": context, "turns": str(self._turns), "examples": self._draw_examples(uid)}
        messages = self._prompt.messages(values)
        return ChatRequest(messages, self._max_tokens, self._parameters)

    def _draw_examples(self, uid: str) -> str:
        order = generator(self._seed, uid, "examples").permutation(len(self._examples))[:EXAMPLES].tolist()
        return "\n".join(f"- {self._examples[n]}" for n in order)

    def _read(self, context: str, uid: str, said: BaseModel) -> tuple[list[Segment] | None, str]:
        """The turns that an answer says, and its fault."""
        if isinstance(said, _Description):
            fault = self._copied(said.description) or find_description_fault(said.description, context) or SOUND
            question = templated("description", {}, self._seed, uid, 0)
            return _sound([(question, said.description)], fault), fault
        if isinstance(said, _Generation):
            return _read_generation(said)
        turns = [(turn.question.strip(), turn.answer.strip()) for turn in said.turns]  # type: ignore[attr-defined]
        found = self._copied("\n".join(part for turn in turns for part in turn))
        found = found or find_conversation_fault(turns, context, self._turns)
        found = found or (find_long_answer(turns) if self._style == "pairs" else None)
        return _sound(turns, found or SOUND), found or SOUND

    def _copied(self, text: str) -> str | None:
        return find_copy(text, f"{self._prompt.system or ''}\n{self._prompt.user}")

    def _row(self, images: list[Segment], context: str, reply: SoundReply[list[Segment]]) -> dict[str, Any]:
        said = [segment["text"] for segment in reply.value or []]
        told = [text_segment(FORMAT_PROMPTS[1], "system")] if self._style == "pairs" and reply.value else []
        document = [*told, *images, *(reply.value or [])]
        parameters = self._parameters | {"max_tokens": self._max_tokens}
        return {
            "document": document,
            "text": text_of(document),
            "image_places": sum(map(is_image, document)),
            "instructions_fault": reply.fault,
            "instructions_grounded": grounded_share(list(zip(said[::2], said[1::2], strict=True)), context),
            "instructions_by": reply.answer and written_by(self._prompt, parameters, reply.answer),
        }


def tell_record(record: Record, boxes: str) -> str:
    """Tell of an image in words: its captions, how many of each kind, their boxes, words seen in it.

    Raises RecordError: bad_record; nothing_known where there is none of these.
    """
    lines = [f"- {caption}" for caption in _texts(record, "captions")]
    parts = ["It was described so:", *lines] if lines else []
    parts += describe_scene(record, boxes) if record.get("objects") else []
    if words := _texts(record, "ocr"):
        parts.append(f"Words that can be read in it: {', '.join(words)}")
    if not parts:
        raise RecordError("nothing_known", "neither captions, nor objects, nor ocr")
    return "\n".join(parts)


def _load(prompt: str | None, style: str) -> PromptTemplate:
    return load_prompt(prompt or f"instruct-{style}")


def _form_of(style: Style, turns: int) -> type[BaseModel]:
    """The form of an answer, as a model whose JSON Schema the endpoint is given."""
    if style == "description":
        return _Description
    if style == "generation":
        return _Generation
    return create_model(
        "Turns", __config__=_STRICT, turns=(Annotated[list[_Turn], Field(min_length=1, max_length=turns)], ...)
    )


def _read_generation(said: _Generation) -> tuple[list[Segment] | None, str]:
    if not said.request.strip() or not said.prompt.strip():
        return None, "empty_turn"
    try:
        return generation_turns(said.request.strip(), said.prompt.strip()), SOUND
    except RecordError as err:
        return None, err.error


def _sound(turns: Sequence[tuple[str, str]], fault: str) -> list[Segment] | None:
    """Turns without a fault as segments."""
    if fault != SOUND:
        return None
    return [s for q, a in turns for s in (text_segment(q, "question"), text_segment(a, "answer"))]


def _images(record: Record, key: str) -> list[Segment]:
    if not (paths := _texts(record, key)):
        raise RecordError("bad_record", f"{key}: expected the path or URL of an image")
    return [image_segment(path) for path in paths]


def _texts(record: Record, key: str) -> list[str]:
    """The texts under a key, one or a list of them; none where nothing stands there. Raises RecordError."""
    found = record.get(key)
    listed = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(text, str) for text in listed):
        raise RecordError("bad_record", f"{key}: expected a text, or a list of texts")
    return [text.strip() for text in listed if text.strip()]


def _read_examples(path: str | None) -> list[str]:
    if path is None:
        return list(_OUR_EXAMPLES)
    return [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


_OUR_EXAMPLES = (
    "a lighthouse on a cliff at dusk, oil painting, warm light, wide view, fine detail",
    "portrait of an old fisherman, black and white photograph, soft light from a window",
    "a bowl of ripe cherries on a wooden table, still life, shallow depth of field",
    "isometric view of a small town in winter, paper craft, pastel colours",
    "a red fox in tall grass, watercolour, morning fog, muted palette",
    "a steam train crossing a stone bridge, vintage poster, bold shapes",
    "macro photograph of a dew drop on a leaf, sharp focus, green background",
    "a robot watering plants in a greenhouse, digital illustration, bright and friendly",
)
"""Ours, where no file of examples is given."""
