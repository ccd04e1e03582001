"""Make sequences of tokens and images from samples of every kind, and tell their lengths unread.

    caption, ocr    begin, system, image, template, text, template, end
    text            begin, system, template, text, template, end
    interleaved     begin, system, the document's texts and images in order, end (of a conversation, its turns)

What the mixture tells the system and what a conversation tells it are one and the same: it stands first, whatever else
is cut, and an empty line parts it from a text that follows.

An image takes `visual_tokens` places, which the connector's vectors fill. Only texts and the end are scored, no prompts
and no questions, and the end only where nothing was cut off. What a plan says of a sample's length and what then comes
are one computation on one layout, the first on the index's numbers, the second on the sample's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from curate import mix
from curate.image.tensors import is_of_pictures, of_document
from curate.mix.content import BETWEEN, PICTURE, Picture, Segment, part_system, sample_segments, segment_text
from curate.mix.indexes import IMAGES, LAYOUT, SYSTEM_TOKENS, TEXT_TOKENS, chosen_tokens
from curate.sample import Kind
from curate.stream.documents import CutRule, DocumentPiece, cut_document, size_of
from curate.stream.images import keyed_rng
from curate.stream.prompts import Prompts, TextChooser
from curate.stream.reading import DrawnSample
from curate.stream.sample_lengths import Ints, SampleLengths
from curate.tokens.encoders import TextCode

IMAGE = -1
"""Stands in `ids` where a vector of an image goes."""
MARKS = 2
"""Begin and end of a sequence."""

Pixels = Callable[[bytes, np.random.Generator, DrawnSample], Mapping[str, Tensor]]
"""From an image's bytes, its sample's randomness and the sample to {image: CHW}, or what several towers see of it
(`curate.image.tensors`)."""
RuleOf = Callable[[int, int], CutRule]
"""From a source and a position to what is taken of a sample; `CutRule.tokens` counts the marks too."""


@dataclass(frozen=True)
class _Run:
    ids: list[int]
    scored: bool


@dataclass(frozen=True)
class Sequences:
    """Prepares a drawn sample: {ids: T, scored: T, image: N x CHW (see `curate.image.tensors`), source: its number}.

    `rules` and `pixels` follow the stages.
    """

    chooser: TextChooser
    code: TextCode
    rules: RuleOf
    pixels: Pixels

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample. Raises ValueError, which ContentError and ImageError are."""
        source = self.chooser.numbers[drawn.source]
        prompts = self.chooser.prompts(source, drawn.uid, drawn.epoch)
        told, segments = part_system(sample_segments(drawn.kind, drawn.parts, self.chooser.choose_text(drawn)))
        runs = self._runs(drawn, segments, prompts)
        layout = [PICTURE if isinstance(run, Picture) else len(run.ids) for run in runs]
        system = _system(self.code, prompts, self.code.encode(told), layout)
        system, rule = _system_and_rule(system, self.rules(source, drawn.at), drawn.kind)
        pieces = cut_document(layout, rule, _document_rng(self.chooser, drawn.uid, drawn.epoch))
        ids, scored, parts = [self.code.begin, *system], [False] * (1 + len(system)), []
        for piece in pieces:
            run = runs[piece.number]
            if isinstance(run, Picture):
                ids += [IMAGE] * rule.visual_tokens
                scored += [False] * rule.visual_tokens
                parts.append(run.part)
            else:
                ids += run.ids[piece.begin : piece.end]
                scored += [run.scored] * (piece.end - piece.begin)
        rng = keyed_rng(self.chooser.seed, drawn.uid, drawn.epoch)
        images = [self.pixels(drawn.parts[part], rng, drawn) for part in parts]
        return {
            "ids": torch.tensor([*ids, self.code.end]),
            "scored": torch.tensor([*scored, _is_complete(pieces, layout)]),
            **of_document(images),
            "source": torch.tensor(source),
        }

    def _runs(self, drawn: DrawnSample, segments: Sequence[Segment], prompts: Prompts) -> list[_Run | Picture]:
        """The sample's images and texts, and what its template puts before and after its text."""
        runs = [
            s if isinstance(s, Picture) else _Run(self.code.encode(segment_text(s)), isinstance(s, str))
            for s in segments
        ]
        if drawn.kind == "interleaved":
            return runs
        pictures = [run for run in runs if isinstance(run, Picture)]
        if drawn.kind != "text" and not pictures:
            raise ValueError(f"no image among the sample's parts ({', '.join(sorted(drawn.parts)) or 'none'})")
        before, after = (_Run(_encode_prompt(self.code, text), False) for text in (prompts.before, prompts.after))
        return [*pictures, before, *runs[len(pictures) :], after]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the sequences at positions of a mixture, from the indexes alone.

    Raises MixtureError for lengths that are not there or were counted by another tokenizer, and for choices that a
    source's kind has no use for.
    """

    chooser: TextChooser
    code: TextCode
    rules: RuleOf
    lengths: SampleLengths

    def __post_init__(self) -> None:
        self.lengths.check_columns([TEXT_TOKENS, IMAGES])
        self.lengths.check_tokenizer(self.code.name)
        for source, info in enumerate(self.lengths.infos):
            choices = self.chooser.mixture.manifest.datasets[source].choices
            vain = sorted(kind for kind in ("text", "template") if info.kind == "interleaved" and choices.get(kind))
            if vain:
                raise mix.MixtureError(
                    f"the mixture's source {info.name!r} chooses a {' and a '.join(vain)}, of which documents have no"
                    " use; leave it out of the specification"
                )

    def of(self, positions: Ints, at: int) -> tuple[Ints, Ints]:
        """(tokens in all, images) of the sequence at each position, for a batch at position `at`."""
        source, epoch, row = self.chooser.mixture.locate(positions)
        tokens, images = np.empty(len(positions), np.int64), np.empty(len(positions), np.int64)
        for number in np.unique(source).tolist():
            mine = np.flatnonzero(source == number)
            rule = self.rules(number, at)
            tokens[mine], images[mine] = self._of_source(number, epoch[mine], row[mine], rule)
        return tokens + MARKS, images

    def _of_source(self, source: int, epoch: Ints, row: Ints, rule: CutRule) -> tuple[Ints, Ints]:
        which = np.full(len(row), source)
        text, images = (self.lengths.of(which, row, unit) for unit in (TEXT_TOKENS, IMAGES))
        tokens = text + images * rule.visual_tokens
        fits = (text <= rule.text) & (images <= rule.images) & (tokens <= rule.tokens - MARKS)
        plain = fits & (not any(self.chooser.mixture.manifest.datasets[source].choices.values()))
        for n, uid in zip(np.flatnonzero(~plain).tolist(), self._uids(source, row[~plain]), strict=True):
            own = int(text[n]), int(images[n])
            tokens[n], images[n] = self._cut_size(source, uid, (int(epoch[n]), int(row[n])), own, rule)
        return tokens, images

    def _uids(self, source: int, row: Ints) -> list[str]:
        return self.lengths.values(source, row, "uid") if len(row) else []

    def _cut_size(
        self, source: int, uid: str, access: tuple[int, int], own: tuple[int, int], rule: CutRule
    ) -> tuple[int, int]:
        """(tokens, images) of what is taken of one sample, as `Sequences` takes it; `access` is its epoch and row."""
        prompts = self.chooser.prompts(source, uid, access[0])
        kind = self.lengths.infos[source].kind
        layout = self._layout(source, uid, access, own, prompts)
        told = self.lengths.values(source, np.array([access[1]]), SYSTEM_TOKENS)[0] if kind == "interleaved" else 0
        system, rule = _system_and_rule(_system(self.code, prompts, [0] * told, layout), rule, kind)
        tokens, images = size_of(
            cut_document(layout, rule, _document_rng(self.chooser, uid, access[0])), layout, rule.visual_tokens
        )
        return len(system) + tokens, images

    def _layout(
        self, source: int, uid: str, access: tuple[int, int], own: tuple[int, int], prompts: Prompts
    ) -> list[int]:
        """As `Sequences` lays the sample out, its own text and images being so many."""
        (epoch, row), (text, images) = access, own
        if self.lengths.infos[source].kind == "interleaved":
            return list(self.lengths.values(source, np.array([row]), LAYOUT)[0])
        if (key := self.chooser.key(source, uid, epoch)) is not None:
            found = self.lengths.values(source, np.array([row]), chosen_tokens(key))[0]
            text = found[self.chooser.choose_index(uid, epoch, len(found))] if found else 0
        before, after = (len(_encode_prompt(self.code, words)) for words in (prompts.before, prompts.after))
        return [*([PICTURE] * images), before, text, after]


def cut_sequence(sample: dict[str, Tensor], tokens: int, images: int, visual_tokens: int) -> dict[str, Tensor]:
    """Cut a sequence to a smaller place: its first tokens, no image in part; the end then does not count."""
    ids, scored = sample["ids"], sample["scored"]
    starts = torch.nonzero(ids == IMAGE).flatten()[::visual_tokens].tolist()
    length = min(len(ids), tokens - 1)
    length = min([length, *starts[images : images + 1], *(at for at in starts if at < length < at + visual_tokens)])
    kept = sum(at < length for at in starts)
    return {
        **sample,
        "ids": torch.cat((ids[:length], ids[-1:])),
        "scored": torch.cat((scored[:length], torch.zeros(1, dtype=torch.bool))),
        **{name: sample[name][:kept] for name in sample if is_of_pictures(name)},
    }


def _system(code: TextCode, prompts: Prompts, told: list[int], layout: Sequence[int]) -> list[int]:
    """The ids of the mixture's system prompt, and behind it those that the sample brings, whose last line is parted."""
    parted = bool(told) or (bool(layout) and layout[0] != PICTURE)
    text = prompts.system + BETWEEN if prompts.system and parted else prompts.system
    return [*_encode_prompt(code, text), *told]


def _system_and_rule(system: list[int], rule: CutRule, kind: Kind) -> tuple[list[int], CutRule]:
    """(the system prompt's ids, what is left to the sample between the marks beside it).

    Only in documents do images move.
    """
    system = system[: max(rule.tokens - MARKS, 0)]
    left = max(rule.tokens - MARKS - len(system), 0)
    return system, replace(rule, tokens=left, next_image=rule.next_image if kind == "interleaved" else 0.0)


def _is_complete(pieces: Sequence[DocumentPiece], layout: Sequence[int]) -> bool:
    """Whether the last of a document's texts was taken to its end."""
    last = max((number for number, size in enumerate(layout) if size > 0), default=-1)
    return any(piece.number == last and piece.end == layout[last] for piece in pieces)


def _document_rng(chooser: TextChooser, uid: str, epoch: int) -> Callable[[], np.random.Generator]:
    return lambda: keyed_rng(chooser.seed, uid, epoch, "document")


@functools.lru_cache(4096)
def _encode_prompt(code: TextCode, text: str) -> list[int]:
    """A prompt's ids; there are few of them, each said again and again."""
    return code.encode(text)
