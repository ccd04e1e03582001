"""Spell samples: from texts and images to ids, in the form of sequences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.mix.content import PICTURE, Picture, Prompt, Segment, laid_prompt, part_system
from curate.stream.documents import CutDocument, CutRule, LaidSample, cut_document
from curate.stream.forms import FormWords, SequenceForm
from curate.stream.prompts import Prompts
from curate.tokens.encoders import TextCode

MARKS = 2
"""Begin and end of a sequence."""


@dataclass(frozen=True)
class SpelledText:
    """The ids of a text, and whether it asks something, is a prompt and never scored."""

    ids: list[int]
    asks: bool

    @classmethod
    def of(cls, segment: str | Prompt, code: TextCode) -> SpelledText:
        """Spell a segment."""
        asks = isinstance(segment, Prompt)
        return cls(code.encode(segment.text if isinstance(segment, Prompt) else segment), asks)


SpelledPart = Picture | SpelledText


def lay(part: SpelledPart) -> int:
    """A part as it stands in a layout."""
    if isinstance(part, Picture):
        return PICTURE
    return laid_prompt(len(part.ids)) if part.asks else len(part.ids)


@dataclass
class SpelledSample:
    """Ids, whether each is scored, the names of the images' parts, and where each image's ids begin and end."""

    ids: list[int]
    scored: list[bool]
    images: list[str]
    image_at: list[tuple[int, int]]


def spell(form: SequenceForm, parts: Sequence[SpelledPart], opening: list[int], cut: CutDocument) -> SpelledSample:
    """The ids of what was taken of a sample, behind its opening."""
    out = SpelledSample(opening, [False] * len(opening), [], [])
    for piece in cut.pieces:
        part = None if isinstance(piece, FormWords) else parts[piece.number]
        if isinstance(piece, FormWords):
            ids, scored = list(piece.ids), piece.scored
        elif isinstance(part, SpelledText):
            ids, scored = part.ids[piece.begin : piece.end], not part.asks
        else:
            assert isinstance(part, Picture)
            ids, scored = list(form.image[piece.begin : piece.end]), False
            out.images.append(part.part)
            out.image_at.append((len(out.ids), len(out.ids) + len(ids)))
        out.ids += ids
        out.scored += [scored] * len(ids)
    return out


def spell_prompt(form: SequenceForm, segments: Sequence[Segment], tokens: int) -> SpelledSample:
    """Spell all of a document or conversation before its last answer, as in training, to the words that open it.

    A model goes on from there; one that ends in a question or an image has its answer still to come. Raises ValueError
    where that takes more than `tokens`.
    """
    told, segments = part_system(segments)
    answers = [number for number, segment in enumerate(segments) if isinstance(segment, str)]
    before = segments[: answers[-1]] if answers and answers[-1] == len(segments) - 1 else segments
    parts = [
        *(s if isinstance(s, Picture) else SpelledText.of(s, form.code) for s in before),
        SpelledText([form.code.end], asks=False),
    ]
    system = form.code.encode(told)
    sample = LaidSample("interleaved", [lay(part) for part in parts], bool(system))
    rule = CutRule(tokens + MARKS, images=len(parts))
    opening, lost, cut = cut_sample(sample, system, rule, form, np.random.default_rng)
    at = [n for n, p in enumerate(cut.pieces) if not isinstance(p, FormWords) and p.number == len(parts) - 1]
    if lost or not at or cut.size(sample.layout)[1] < sample.layout.count(PICTURE):
        raise ValueError(f"prompt_too_long: it takes more than {tokens} tokens; ask less, or show fewer examples")
    before_answer = CutDocument(cut.pieces[: at[0]], complete=False)
    return spell(form, parts, [form.code.begin, *opening], before_answer)


def cut_sample(
    sample: LaidSample,
    system: list[int],
    rule: CutRule,
    form: SequenceForm,
    draw: Callable[[], np.random.Generator],
) -> tuple[list[int], int, CutDocument]:
    """(the ids that the system is told, how many have no room, what of the sample is taken in the room left)."""
    room, whole = max(rule.tokens - MARKS, 0), form.open_with(system, sample.layout)
    opening = whole[:room]
    cut = cut_document(sample, replace(rule, tokens=room - len(opening)), form, draw)
    return opening, len(whole) - len(opening), cut


def system_ids(form: SequenceForm, prompts: Prompts, told: list[int]) -> list[int]:
    """The ids of the mixture's system prompt, and behind it those that the sample brings."""
    own = encode_prompt(form.code, prompts.system)
    return [*own, *(form.between if own and told else ()), *told]


@functools.lru_cache(4096)
def encode_prompt(code: TextCode, text: str) -> list[int]:
    """A prompt's ids; there are few of them, each said again and again."""
    return code.encode(text)
