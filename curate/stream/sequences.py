"""Make sequences of tokens and images from samples of every kind, and tell their lengths unread.

    caption, ocr    begin, system, image, template, text, template, end
    text            begin, system, template, text, template, end
    interleaved     begin, system, the document's texts and images in order, end (of a conversation, its turns)

What the mixture tells the system and what a conversation tells it are one and the same: it stands first, whatever else
is cut. Two texts that follow each other are parted by an empty line. Tags of images and the words of a chat are those
of the form (`curate.stream.forms`).

An image takes places, which the connector's vectors fill. Only texts and the end are scored, no prompts and no
questions, and the end only where nothing was cut off. What a plan says of a sample's length and what then comes are
one computation on one layout, the first on the index's numbers, the second on the sample's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curate import mix
from curate.image.tensors import is_of_pictures, of_document
from curate.mix.content import (
    PICTURE,
    Picture,
    Segment,
    is_prompt,
    laid_prompt,
    laid_tokens,
    part_system,
    sample_segments,
)
from curate.mix.indexes import IMAGES, LAYOUT, SYSTEM_TOKENS, TEXT_TOKENS, chosen_tokens
from curate.stream.documents import CutDocument, CutRule, LaidSample
from curate.stream.forms import SequenceForm, is_conversation
from curate.stream.images import keyed_rng
from curate.stream.instructions import Instructions
from curate.stream.prompts import Prompts, TextChooser
from curate.stream.reading import DrawnSample
from curate.stream.sample_lengths import Ints, SampleLengths
from curate.stream.spelling import (
    MARKS,
    SpelledPart,
    SpelledSample,
    SpelledText,
    cut_sample,
    encode_prompt,
    lay,
    spell,
    system_ids,
)

Pixels = Callable[[bytes, np.random.Generator, DrawnSample], Mapping[str, Tensor]]
"""From an image's bytes, its sample's randomness and the sample to {image: CHW}, or what several towers see of it
(`curate.image.tensors`)."""
RuleOf = Callable[[int, int], CutRule]
"""From a source and a position to what is taken of a sample; `CutRule.tokens` counts the marks too."""


class SampleAccount(NamedTuple):
    """Counts of D prepared samples: text tokens and images of their own, of these taken, and tokens in all."""

    source: Any
    text: Any
    images: Any
    text_taken: Any
    images_taken: Any
    tokens: Any


def account_of_pair(source: int, text: int, taken: int) -> Tensor:
    """The account of a pair of an image and a text of which so many tokens were taken."""
    return torch.tensor([source, text, 1, taken, 1, taken])


@dataclass(frozen=True)
class Sequences:
    """Prepares a drawn sample: {ids, scored: T, image: N x CHW, image_at: N x 2, source: its number, account: 6}.

    `image`: see `curate.image.tensors`. `image_at`: where the ids of each image begin and end, its tags among them;
    `account`: a `SampleAccount`. `rules` and `pixels` follow the stages. With `instructions`, {instruction: N x L}
    besides: what is asked, for each image.
    """

    chooser: TextChooser
    form: SequenceForm
    rules: RuleOf
    pixels: Pixels
    instructions: Instructions | None = None

    def __call__(self, drawn: DrawnSample) -> dict[str, Tensor]:
        """Tensors of one sample. Raises ValueError, which ContentError and ImageError are."""
        source, code = self.chooser.numbers[drawn.source], self.form.code
        prompts = self.chooser.prompts(source, drawn.uid, drawn.epoch)
        told, segments = part_system(sample_segments(drawn.kind, drawn.parts, self.chooser.choose_text(drawn)))
        parts = self._parts(drawn, segments, prompts)
        told_ids = code.encode(told)
        system = system_ids(self.form, prompts, told_ids)
        sample = LaidSample(drawn.kind, [lay(part) for part in parts], bool(system))
        draw = _document_rng(self.chooser, drawn.uid, drawn.epoch)
        opening, lost, cut = cut_sample(sample, system, self.rules(source, drawn.at), self.form, draw)
        spelled = spell(self.form, parts, [code.begin, *opening], cut)
        told_taken = max(len(told_ids) - lost, 0)
        ids_T, scored_T = torch.tensor([*spelled.ids, code.end]), torch.tensor([*spelled.scored, cut.complete])
        if drawn.kind == "interleaved" and not is_conversation(sample.layout):
            scored_T &= self.form.score_chunks(ids_T)
        account = [source, *_account(sample, cut, (len(told_ids), told_taken)), len(ids_T)]
        instruction = self.instructions(segments, prompts) if self.instructions else None
        return {
            "ids": ids_T,
            "scored": scored_T,
            **self._shown(drawn, spelled),
            "source": torch.tensor(source),
            "account": torch.tensor(account),
            **({} if instruction is None else {"instruction": instruction.expand(len(spelled.images), -1)}),
        }

    def _shown(self, drawn: DrawnSample, spelled: SpelledSample) -> dict[str, Tensor]:
        """The images of a sequence, and where they stand in it."""
        rng = keyed_rng(self.chooser.seed, drawn.uid, drawn.epoch)
        images = [self.pixels(drawn.parts[name], rng, drawn) for name in spelled.images]
        image_at = torch.tensor(spelled.image_at, dtype=torch.long).reshape(-1, 2)
        return {**of_document(images), "image_at": image_at}

    def _parts(self, drawn: DrawnSample, segments: Sequence[Segment], prompts: Prompts) -> list[SpelledPart]:
        """The sample's images and texts, and what its template puts before and after its text."""
        parts = [s if isinstance(s, Picture) else SpelledText.of(s, self.form.code) for s in segments]
        if drawn.kind == "interleaved":
            return parts
        pictures = [part for part in parts if isinstance(part, Picture)]
        if drawn.kind != "text" and not pictures:
            raise ValueError(f"no image among the sample's parts ({', '.join(sorted(drawn.parts)) or 'none'})")
        before, after = (
            SpelledText(encode_prompt(self.form.code, text), asks=True) for text in (prompts.before, prompts.after)
        )
        return [*pictures, before, *parts[len(pictures) :], after]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the sequences at positions of a mixture, from the indexes alone.

    Raises MixtureError for lengths that are not there or were counted by another tokenizer, and for choices that a
    source's kind has no use for.
    """

    chooser: TextChooser
    form: SequenceForm
    rules: RuleOf
    lengths: SampleLengths

    def __post_init__(self) -> None:
        self.lengths.check_columns([TEXT_TOKENS, IMAGES])
        self.lengths.check_tokenizer(self.form.code.name)
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
            tokens[mine], images[mine] = self._of_source(number, epoch[mine], row[mine], self.rules(number, at))
        return tokens + MARKS, images

    def _of_source(self, source: int, epoch: Ints, row: Ints, rule: CutRule) -> tuple[Ints, Ints]:
        which, form = np.full(len(row), source), self.form
        text, images = (self.lengths.of(which, row, unit) for unit in (TEXT_TOKENS, IMAGES))
        ends = (images > 0) & (text > 0) & (form.end_of_chunk is not None)
        tokens = text + images * len(form.image) + ends
        fits = (text <= rule.text) & (images <= rule.images) & (tokens <= rule.tokens - MARKS)
        chosen = any(self.chooser.mixture.manifest.datasets[source].choices.values())
        if self.lengths.infos[source].kind == "interleaved":
            fits &= not chosen and self._are_bare(source, row)
        others = np.flatnonzero(~fits | chosen)
        if len(others):
            sizes = self._cut_sizes(source, epoch[others], row[others], rule)
            tokens[others], images[others] = np.array(sizes, np.int64).T
        return tokens, images

    def _are_bare(self, source: int, row: Ints) -> npt.NDArray[np.bool_]:
        """Whether documents that fit are their texts and images alone: no words, no tags that depend on their order."""
        if self.form.end_of_chunk is not None or self.form.shared:
            return np.zeros(len(row), np.bool_)
        told, layouts = (self.lengths.values(source, row, column) for column in (SYSTEM_TOKENS, LAYOUT))
        bare = [not n and min(layout, default=0) >= PICTURE for n, layout in zip(told, layouts, strict=True)]
        return np.array(bare, np.bool_)

    def _cut_sizes(self, source: int, epoch: Ints, row: Ints, rule: CutRule) -> list[tuple[int, int]]:
        """(tokens, images) of what is taken of each sample, as `Sequences` takes it."""
        uids = self.lengths.values(source, row, "uid")
        if self.lengths.infos[source].kind == "interleaved":
            told, layouts = (self.lengths.values(source, row, column) for column in (SYSTEM_TOKENS, LAYOUT))
        else:
            told, layouts = [0] * len(row), [self._paired(source, *of) for of in zip(uids, epoch, row, strict=True)]
        of = zip(uids, epoch.tolist(), told, layouts, strict=True)
        return [self._cut_size(source, (uid, turn), tokens, layout, rule) for uid, turn, tokens, layout in of]

    def _cut_size(
        self, source: int, access: tuple[str, int], told: int, layout: list[int], rule: CutRule
    ) -> tuple[int, int]:
        """(tokens, images) of what is taken of one sample; `access` is its uid and epoch."""
        system = system_ids(self.form, self.chooser.prompts(source, *access), [0] * told)
        sample = LaidSample(self.lengths.infos[source].kind, layout, bool(system))
        opening, _, cut = cut_sample(sample, system, rule, self.form, _document_rng(self.chooser, *access))
        tokens, images = cut.size(layout)
        return len(opening) + tokens, images

    def _paired(self, source: int, uid: str, epoch: int, row: int) -> list[int]:
        """The layout of a pair or a text."""
        at = np.array([row])
        text, images = (int(self.lengths.of(np.array([source]), at, unit)[0]) for unit in (TEXT_TOKENS, IMAGES))
        if (key := self.chooser.key(source, uid, epoch)) is not None:
            found = self.lengths.values(source, at, chosen_tokens(key))[0]
            text = found[self.chooser.choose_index(uid, epoch, len(found))] if found else 0
        prompts = self.chooser.prompts(source, uid, epoch)
        before, after = (
            laid_prompt(len(encode_prompt(self.form.code, words))) for words in (prompts.before, prompts.after)
        )
        return [*([PICTURE] * images), before, text, after]


def cut_sequence(sample: dict[str, Tensor], tokens: int, images: int) -> dict[str, Tensor]:
    """Cut a sequence to a smaller place: its first tokens, no image in part; the end then does not count."""
    ids, scored, length = sample["ids"], sample["scored"], min(len(sample["ids"]), tokens - 1)
    spans = sample["image_at"].tolist()
    length = min([length, *(begin for begin, _ in spans[images:]), *(b for b, e in spans if b < length < e)])
    kept = sum(begin < length for begin, _ in spans)
    account = SampleAccount(*sample["account"])._replace(
        images_taken=torch.tensor(kept), tokens=torch.tensor(length + 1)
    )
    return {
        **sample,
        "ids": torch.cat((ids[:length], ids[-1:])),
        "scored": torch.cat((scored[:length], torch.zeros(1, dtype=torch.bool))),
        **{name: sample[name][:kept] for name in sample if is_of_pictures(name)},
        "image_at": sample["image_at"][:kept],
        **({"instruction": sample["instruction"][:kept]} if "instruction" in sample else {}),
        "account": torch.stack(account),
    }


def _account(sample: LaidSample, cut: CutDocument, told: tuple[int, int]) -> tuple[int, int, int, int]:
    """(text tokens, images, of these taken: text tokens, images): a sample's own, its template's words left out.

    `told`: tokens that it tells its system, and of these taken.
    """
    own = sample.kind == "interleaved"
    parts = [part for part in sample.layout if own or not is_prompt(part)]
    _, images = cut.size(sample.layout)
    text, taken = sum(map(laid_tokens, parts)), cut.text_tokens(sample.layout, prompts=own)
    return told[0] + text, sample.layout.count(PICTURE), told[1] + taken, images


def _document_rng(chooser: TextChooser, uid: str, epoch: int) -> Callable[[], np.random.Generator]:
    return lambda: keyed_rng(chooser.seed, uid, epoch, "document")
