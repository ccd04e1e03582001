"""Cut documents that are longer than their sequence: where to begin, and which images to keep.

A layout (`curate.mix.content`), the form of sequences and a draw keyed by (seed, uid, epoch) decide it; no content is
looked at, so that packs are planned from indexes alone. Flamingo (2204.14198) takes 256 tokens of text from anywhere
with the first 5 images among them, and in half of the cases lets a text see the image after it; MM1 (2403.09611) takes
4,096 tokens in all with at most 16 images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from curate.mix.content import PICTURE, is_prompt, laid_tokens
from curate.sample import Kind
from curate.stream.forms import Entry, FormWords, SequenceForm, is_conversation


@dataclass(frozen=True)
class CutRule:
    """Limits of a cut: `tokens` in all, those of the form too, `text_tokens` of the sample's own text, and `images`.

    `start`: from the first token of text, or from a random one. `next_image`: how probable it is that each image moves
    in front of the text before it. A conversation is taken from its beginning, and its images stay.
    """

    tokens: int
    images: int
    text_tokens: int | None = None
    start: Literal["first", "random"] = "first"
    next_image: float = 0.0

    @property
    def text(self) -> int:
        """Tokens of text that are taken at most."""
        return self.tokens if self.text_tokens is None else min(self.text_tokens, self.tokens)


@dataclass(frozen=True)
class DocumentPiece:
    """A part of a layout: tokens `begin` to `end` of the text `number`, or of the form's ids of the image there."""

    number: int
    begin: int
    end: int


@dataclass(frozen=True)
class CutDocument:
    """The pieces that are taken of a document, in order, and whether its last text was taken to its end."""

    pieces: list[DocumentPiece | FormWords]
    complete: bool

    def size(self, layout: Sequence[int]) -> tuple[int, int]:
        """(tokens in all, images)."""
        tokens = sum(len(p.ids) if isinstance(p, FormWords) else p.end - p.begin for p in self.pieces)
        return tokens, sum(isinstance(p, DocumentPiece) and layout[p.number] == PICTURE for p in self.pieces)

    def text_tokens(self, layout: Sequence[int], prompts: bool) -> int:
        """Tokens of texts that are taken, prompts among them or not."""
        taken = (p for p in self.pieces if isinstance(p, DocumentPiece) and layout[p.number] != PICTURE)
        return sum(piece.end - piece.begin for piece in taken if prompts or not is_prompt(layout[piece.number]))


@dataclass(frozen=True)
class LaidSample:
    """A sample before it is cut: its kind, its layout, and whether its system is told something."""

    kind: Kind
    layout: list[int]
    told: bool = False


def cut_document(
    sample: LaidSample, rule: CutRule, form: SequenceForm, draw: Callable[[], np.random.Generator]
) -> CutDocument:
    """Cut a document; `draw` gives the document's own randomness."""
    layout, moved, skip = sample.layout, False, 0
    asks = is_conversation(layout)
    if sample.kind == "interleaved" and not asks and (rule.next_image or rule.start == "random"):
        rng = draw()
        moved = bool(rule.next_image) and rng.random() < rule.next_image
        skip = _skip_tokens(layout, rule, form, rng) if rule.start == "random" else 0
    entries: Sequence[Entry] = _move_images_first(layout) if moved else range(len(layout))
    chat = form.chat is not None and asks
    if chat:
        entries = form.around_turns(layout, sample.told)
    cut = _Cut(layout, rule, form, skip, moved, chat=chat, parted=sample.kind == "interleaved" and not chat)
    for entry in entries:
        if not cut.take(entry):
            return CutDocument(cut.pieces, complete=False)
    ended = cut.end_chunk()
    return CutDocument(cut.pieces, complete=ended and cut.text_left < rule.text)


@dataclass
class _Cut:
    """A cut in the making. `skip`: tokens of text left out at the beginning; `moved`: an image's chunk is one text;
    `chat`: words of the chat, not a tag, end what is said; `parted`: two texts are parted where nothing else does.
    """

    layout: Sequence[int]
    rule: CutRule
    form: SequenceForm
    skip: int
    moved: bool
    chat: bool
    parted: bool
    pieces: list[DocumentPiece | FormWords] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left, self.text_left, self.images_left = self.rule.tokens, self.rule.text, self.rule.images
        self.passed, self.shown, self.said = 0, False, list[int]()

    def take(self, entry: Entry) -> bool:
        """Take what there is room for; whether all was taken that is not to be left out."""
        if isinstance(entry, FormWords):
            return self._take_words(entry)
        if self.layout[entry] == PICTURE:
            return self._take_image(entry)
        return self._take_text(entry) and (not self.moved or self.end_chunk())

    def end_chunk(self) -> bool:
        """End what is said of an image, where something is; whether there was room for it."""
        end, said = self.form.end_of_chunk, self.said
        if end is None or self.chat or not said or not self.shown:
            return True
        self.shown, self.said = False, []
        return self._take_words(FormWords(end.ids, scored=any(not is_prompt(self.layout[number]) for number in said)))

    def _take_words(self, words: FormWords) -> bool:
        if len(words.ids) > self.left:
            return False
        self.pieces.append(words)
        self.left -= len(words.ids)
        return True

    def _take_image(self, number: int) -> bool:
        if not self.end_chunk():
            return False
        last = self.pieces[-1] if self.pieces else None
        beside = isinstance(last, DocumentPiece) and self.layout[last.number] == PICTURE
        begin, end = self.form.shared if beside else 0, len(self.form.image)
        if self.passed >= self.skip and self.images_left and self.left >= end - begin:
            self.pieces.append(DocumentPiece(number, begin, end))
            self.left, self.images_left = self.left - (end - begin), self.images_left - 1
            self.shown, self.said = True, []
        return True

    def _take_text(self, number: int) -> bool:
        size = laid_tokens(self.layout[number])
        begin = min(max(self.skip - self.passed, 0), size)
        self.passed += size
        between = self._between()
        end = min(size, begin + min(self.left - len(between.ids), self.text_left))
        if end > begin:
            self.pieces += [between] if between.ids else []
            self.pieces.append(DocumentPiece(number, begin, end))
            self.said.append(number)
            self.left, self.text_left = self.left - len(between.ids) - (end - begin), self.text_left - (end - begin)
        return max(begin, end) == size

    def _between(self) -> FormWords:
        """What parts a text that comes next from what was taken last."""
        last = self.pieces[-1] if self.pieces else None
        if not self.parted or not isinstance(last, DocumentPiece) or self.layout[last.number] == PICTURE:
            return FormWords(())
        return FormWords(self.form.between, scored=not is_prompt(self.layout[last.number]))


def _skip_tokens(layout: Sequence[int], rule: CutRule, form: SequenceForm, rng: np.random.Generator) -> int:
    """Tokens of text left out at the beginning: as many as still leave the text that there is room for."""
    images = min(sum(part == PICTURE for part in layout), rule.images)
    of_image = len(form.image) + (len(form.end_of_chunk.ids) if form.end_of_chunk else 0)
    room = min(rule.text, max(rule.tokens - images * of_image, 1))
    return int(rng.integers(max(sum(map(laid_tokens, layout)) - room, 0) + 1))


def _move_images_first(layout: Sequence[int]) -> list[int]:
    """Every image moved in front of the text that stands before it."""
    order: list[int] = []
    text: int | None = None
    for number, size in enumerate(layout):
        if size == PICTURE:
            order.append(number)
            continue
        if text is not None:
            order.append(text)
        text = number
    return order if text is None else [*order, text]
