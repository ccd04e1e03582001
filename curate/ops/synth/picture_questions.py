"""The op picture_questions: questions about the pictures of a page, answered by the text around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from curate.document.segments import DOCUMENT, Segment, is_image, text_segment
from curate.llm.chat import Answer, ChatRequest, Failure, Message
from curate.llm.model import ChatModel
from curate.llm.prompts import load_prompt
from curate.llm.provenance import WRITTEN, written_by
from curate.llm.structure import Fault, Parts, Structure
from curate.ops._segments import columns_of
from curate.ops.spec import Columns, Count, Knobs, Temperature, op
from curate.ops.synth._question_faults import find_fault
from curate.ops.synth._tries import SOUND, waves

_WORDS = Structure({"question": (3, 40), "answer": (1, 60)})


_SHOWN = {
    "title": "Lighthouses",
    "caption": "The light at the end of the northern pier",
    "text": "The harbour has two lights. The one on the northern pier is a white tower of iron with a red roof, built"
    " in 1902, and 14 metres high. Its light is seen for nine miles; in fog, a horn is blown every minute.",
}
_SHOWN_REPLY = """Question: What colour is the roof of the tower at the end of the pier?
Answer: The roof of the white iron tower is red."""
"""A turn before the request, of ours: the smallest models keep its structure."""


@dataclass
class _Picture:
    """A picture and the last answer to what was asked about it."""

    values: Mapping[str, str]
    fault: str = "no_text"
    parts: Parts | None = None
    answer: Answer | None = None

    @property
    def known(self) -> str:
        """All that an answer may say."""
        return "\n".join(self.values.values())


@dataclass
class _Page:
    document: Sequence[Segment]
    pictures: list[_Picture] = field(default_factory=list)


@op(
    reads=("title", "document", "section"),
    writes={
        "document": DOCUMENT,
        "document_by": WRITTEN,
        "picture_fault": pa.list_(pa.string()),
        "questions": pa.int32(),
    },
    version=1,
    batch_size=64,
    parts={"picture_fault": "images"},
    needs=("aiohttp",),
    timeout_s=0,  # every request has its own
)
class picture_questions:  # noqa: N801 - ops are named as recipes name them
    """A conversation of a page's pictures: each image, a question about it, and its answer by the `section` around it.

    Cambrian-1's data engine (2406.16860). `section` is picture_sections' column. `picture_fault` of each image is
    `none`, or why it has no question: refusal, meta_talk, wrong_structure, too_short, too_long, no_question,
    asks_of_text, answer_in_question, ungrounded (of the answer's longer words less than .7, or a number, stand neither
    in section, caption nor title), cut_by_length, no_text, or the endpoint's own; it was asked up to `tries` times.
    `questions`: how many there are. `document_by`: of the first sound answer, with tokens and cost of all of them.
    """

    def __init__(  # noqa: PLR0913 - each is a knob
        self,
        *,
        chat: ChatModel,
        llm: str | None = None,
        prompt: str = "picture-questions",
        tries: Count = 2,
        temperature: Temperature = 0.7,
        max_tokens: Count = 200,
        max_section_words: Count = 250,
    ) -> None:
        self._chat, self._prompt, self._tries = chat.connect(), load_prompt(prompt), tries
        self._parameters = {"temperature": temperature}
        self._max_tokens, self._section_words = max_tokens, max_section_words

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """The digest of the prompt's words."""
        return load_prompt(knobs["prompt"]).digest

    def __call__(
        self, titles: Sequence[str | None], documents: Sequence[Sequence[Segment]], sections: Sequence[Sequence[str]]
    ) -> Columns:
        """Ask about all pictures of these pages at once, and again about those whose answer is at fault."""
        pages = [_Page(document) for document in documents]
        for page, title, texts in zip(pages, titles, sections, strict=True):
            images = [segment for segment in page.document if is_image(segment)]
            page.pictures = [self._picture(title, *pair) for pair in zip(images, texts, strict=True)]
        asked = [picture for page in pages for picture in page.pictures if picture.values["text"]]
        for draw, left in waves(asked, lambda picture: picture.fault != SOUND, self._tries):
            answers = self._chat.ask([self._request(picture, draw) for picture in left])
            for picture, answer in zip(left, answers, strict=True):
                _judge(picture, answer)
        return columns_of([self._row(page) for page in pages], picture_questions)

    def _picture(self, title: str | None, image: Segment, text: str) -> _Picture:
        caption = image["caption"] or image["alt"] or "none"
        words = text.split()
        cut = text if len(words) <= self._section_words else " ".join(words[: self._section_words])
        return _Picture({"title": title or "none", "caption": caption, "text": cut})

    def _request(self, picture: _Picture, draw: int) -> ChatRequest:
        *_, ask = self._prompt.messages(picture.values)
        messages = (*self._prompt.messages(_SHOWN), Message("assistant", (_SHOWN_REPLY,)), ask)
        return ChatRequest(messages, self._max_tokens, self._parameters, draw=draw)

    def _row(self, page: _Page) -> dict[str, Any]:
        document: list[Segment] = []
        pictures = iter(page.pictures)
        for image in filter(is_image, page.document):
            document.append(image)
            if (parts := next(pictures).parts) is not None:
                document += [text_segment(parts["question"], "question"), text_segment(parts["answer"], "answer")]
        sound = [
            picture.answer for picture in page.pictures if picture.parts is not None and picture.answer is not None
        ]
        return {
            "document": document,
            "document_by": self._written(sound) if sound else None,
            "picture_fault": [picture.fault for picture in page.pictures],
            "questions": len(sound),
        }

    def _written(self, answers: Sequence[Answer]) -> dict[str, Any]:
        whole = replace(
            answers[0],
            input_tokens=sum(a.input_tokens or 0 for a in answers),
            output_tokens=sum(a.output_tokens or 0 for a in answers),
            nano_usd=sum(a.nano_usd for a in answers),
        )
        return written_by(self._prompt, {**self._parameters, "max_tokens": self._max_tokens}, whole)


def _judge(picture: _Picture, answer: Answer | Failure) -> None:
    """Keep what an answer says of a picture, or its fault."""
    if isinstance(answer, Failure):
        picture.fault = answer.error
        return
    found = _WORDS.read(answer.text)
    if isinstance(found, Fault) or answer.finish == "length":
        picture.fault = found.error if isinstance(found, Fault) and answer.finish != "length" else "cut_by_length"
        return
    picture.answer, picture.fault = answer, find_fault(found["question"], found["answer"], picture.known)
    picture.parts = found if picture.fault == SOUND else None
