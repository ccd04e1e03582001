"""The form of sequences: what is put between a sample's own texts and images, before any of them is read.

Tags stand at images and end what is said of one; a chat puts words around the turns of a conversation. All of it
follows from a layout (`curate.mix.content`), so that what a plan says and what then comes are one computation.

    MM1 (2403.09611)              {}
    Idefics2 (2405.02246)         {image_tag: around}
    Flamingo, as open_flamingo    {image_tag: before, end_of_chunk: true, score: after_image}
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from curate.mix.content import BETWEEN, PICTURE, is_prompt, laid_tokens
from curate.settings import Settings
from curate.stream.chats import Chat, ChatTemplate, Role, named_chat
from curate.tokens.encoders import TextCode

IMAGE = -1
"""Stands in `ids` where a vector of an image goes."""
IMAGE_TAG, END_OF_CHUNK, BOUNDARY = "<image>", "<EOC>", "<boundary>"
"""The names of the tags among a code's."""


class FormConfig(Settings):
    """The tags of images and the words of a chat; by default neither, and every text of a document is scored."""

    image_tag: Literal["none", "before", "around"] = "none"
    """`before`: the tag <image> before an image's vectors. `around`: the tag <boundary> before, after and between the
    views of an image; neighbours share one. Where a decoder attends to images across, the one place of each is a learnt
    tag already."""
    end_of_chunk: bool = False
    """The tag <EOC> behind the text that belongs to an image: before the next image, and at the end. It is scored."""
    score: Literal["all", "after_image"] = "all"
    """`after_image`: of documents, no text before the first image is scored, nor any between <EOC> and the next."""
    chat: Literal["plain", "own", "chatml", "llama2", "vicuna"] | ChatTemplate = "plain"
    """Words around the turns of a conversation, and around a template and the text that answers it. `plain`: an empty
    line between the turns. `own`: those that come with the language model's tokenizer."""

    def template(self) -> ChatTemplate | None:
        """The words of the chat; None for `plain`, and for `own`, which the settings do not know."""
        return named_chat(self.chat) if isinstance(self.chat, str) else self.chat

    def tags(self) -> tuple[str, ...]:
        """The tags that a code must have."""
        image = {"none": (), "before": (IMAGE_TAG,), "around": (BOUNDARY,)}[self.image_tag]
        template = self.template()
        return (*image, *((END_OF_CHUNK,) if self.end_of_chunk else ()), *(template.tags if template else ()))


NO_FORM = FormConfig()
"""Neither tags nor a chat."""


@dataclass(frozen=True)
class FormWords:
    """Ids that a form puts in."""

    ids: tuple[int, ...]
    scored: bool = False


Entry = int | FormWords
"""Of a sequence: the number of one of the sample's own texts and images, or words that the form puts in."""


@dataclass(frozen=True)
class SequenceForm:
    """The form of a decoder's sequences: `places` of an image, over all its `views`, and what stands around them.

    `chat` stands in place of the settings' own words, where a tokenizer brings some. Raises ValueError for tags that
    the code lacks, and for images that would leave no trace.
    """

    code: TextCode
    places: int
    views: int = 1
    config: FormConfig = NO_FORM
    own_chat: Chat | None = None

    def __post_init__(self) -> None:
        if missing := [tag for tag in self.config.tags() if tag not in self.code.tags]:
            raise ValueError(f"the tokenizer {self.code.name!r} lacks the tags {', '.join(missing)}; add them to it")
        if not self.places and self.config.image_tag == "none":
            raise ValueError("images take no places in the sequence: say where they stand by `image_tag: before`")

    @property
    def chat(self) -> Chat | None:
        """The chat that puts words around turns; None: an empty line between them."""
        return self.own_chat or self.config.template()

    @cached_property
    def image(self) -> tuple[int, ...]:
        """The ids of an image: places and tags."""
        tags = self.code.tags
        if self.config.image_tag == "around":
            view = (*[IMAGE] * (self.places // self.views), tags[BOUNDARY])
            return (tags[BOUNDARY], *view * self.views)
        return (*((tags[IMAGE_TAG],) if self.config.image_tag == "before" else ()), *[IMAGE] * self.places)

    @property
    def shared(self) -> int:
        """The number of its first ids that an image shares with one right before it."""
        return int(self.config.image_tag == "around")

    @cached_property
    def end_of_chunk(self) -> FormWords | None:
        """The tag that ends the text that belongs to an image."""
        return FormWords((self.code.tags[END_OF_CHUNK],), scored=True) if self.config.end_of_chunk else None

    @cached_property
    def between(self) -> tuple[int, ...]:
        """The ids that part two texts."""
        return tuple(self.code.encode(BETWEEN))

    def open_with(self, system: Sequence[int], layout: Sequence[int]) -> list[int]:
        """The first ids of a sequence, behind its begin: those that the system is told, in this form; none if none."""
        if not system:
            return []
        if self.chat is not None and is_conversation(layout):
            gaps = chat_gaps(self, ("system", *(role for role, _ in turns(layout))))
            return [*_ids(gaps[0]), *system, *_ids(gaps[1])]
        return [*system, *(self.between if layout and layout[0] != PICTURE else ())]

    def around_turns(self, layout: Sequence[int], told: bool) -> list[Entry]:
        """A conversation in the words of the chat; of one whose system is told something, what comes behind that."""
        spoken = turns(layout)
        gaps = chat_gaps(self, (*(("system",) if told else ()), *(role for role, _ in spoken)))
        before = gaps[1:] if told else gaps
        out: list[Entry] = [] if told else [*before[0]]
        for (_, numbers), after in zip(spoken, before[1:], strict=True):
            out += [*numbers, *after]
        return out

    def score_chunks(self, ids_T: Tensor) -> Tensor:
        """Tell which ids of a document may be scored, T bool: all but images, or as `score: after_image` says."""
        tags = self.code.tags
        image_T = (ids_T == IMAGE) | (ids_T == tags.get(IMAGE_TAG, IMAGE)) | (ids_T == tags.get(BOUNDARY, IMAGE))
        if self.config.score == "all":
            return ~image_T
        return ~image_T & follows_image(image_T, ids_T == tags.get(END_OF_CHUNK, IMAGE - 1))


def follows_image(image_T: Tensor, end_T: Tensor) -> Tensor:
    """Tell which ids stand behind an image and not behind the end of its chunk, T bool; the end itself does.

    As open_flamingo scores interleaved documents; its `<image>` is then left out.
    """
    at_T = torch.arange(1, len(image_T) + 1)
    last_image_T, last_end_T = (torch.cummax(at_T * found_T, 0).values for found_T in (image_T, end_T))
    before_T = torch.cat((torch.zeros(1, dtype=torch.long), last_end_T[:-1]))
    found: Tensor = last_image_T > before_T
    return found


def is_conversation(layout: Sequence[int]) -> bool:
    """Whether something is asked in a sample: its images stay where they are, and it is taken from its beginning."""
    return any(is_prompt(part) and laid_tokens(part) for part in layout)


def turns(layout: Sequence[int]) -> list[tuple[Role, list[int]]]:
    """The turns of a conversation, each with the numbers of its parts: images are shown by who asks."""
    out: list[tuple[Role, list[int]]] = []
    for number, part in enumerate(layout):
        role: Role = "assistant" if part >= 0 else "user"
        if part == PICTURE or laid_tokens(part):
            if not out or out[-1][0] != role:
                out.append((role, []))
            out[-1][1].append(number)
    return out


def chat_gaps(form: SequenceForm, roles: tuple[Role, ...]) -> list[tuple[FormWords, ...]]:
    """The words before the first turn of a chat, between any two, and behind the last.

    A begin before all and an end behind all are left out: those are the sequence's own.
    """
    assert form.chat is not None
    return _chat_gaps(form.code, form.chat, roles)


@functools.lru_cache(4096)
def _chat_gaps(code: TextCode, chat: Chat, roles: tuple[Role, ...]) -> list[tuple[FormWords, ...]]:
    stand_ins = [f"\ue000{number}\ue001" for number in range(len(roles))]
    gaps: list[list[FormWords]] = [[]]
    for text, scored in chat(roles, stand_ins):
        for n, words in enumerate(re.split("\ue000[0-9]+\ue001", text)):
            if n:
                gaps.append([])
            if ids := _spell(code, words):
                gaps[-1].append(FormWords(ids, scored))
    if len(gaps) != len(roles) + 1:
        raise ValueError(f"the chat's words hold {len(gaps) - 1} of {len(roles)} turns' texts ({', '.join(roles)})")
    if gaps[0] and gaps[0][0].ids[0] == code.begin:
        gaps[0][0] = FormWords(gaps[0][0].ids[1:], gaps[0][0].scored)
    if gaps[-1] and gaps[-1][-1].ids[-1] == code.end:
        gaps[-1][-1] = FormWords(gaps[-1][-1].ids[:-1], gaps[-1][-1].scored)
    return [tuple(gap) for gap in gaps]


def _spell(code: TextCode, words: str) -> tuple[int, ...]:
    """The ids of words of a chat, in which tags and `{begin}` and `{end}` are those ids."""
    marks = {"{begin}": code.begin, "{end}": code.end, **code.tags}
    pieces = re.split(f"({'|'.join(map(re.escape, sorted(marks, key=len, reverse=True)))})", words)
    return tuple(n for piece in pieces for n in ((marks[piece],) if piece in marks else code.encode(piece)))


def _ids(words: Sequence[FormWords]) -> list[int]:
    return [n for one in words for n in one.ids]
