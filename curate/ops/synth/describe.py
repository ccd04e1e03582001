"""The op describe: captions that a chat model with vision writes of an image, without its alt text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.llm.chat import ChatPicture
from curate.llm.model import ChatModel
from curate.llm.prompts import load_prompt
from curate.llm.provenance import WRITTEN
from curate.ops.spec import Amount, Columns, Count, Knobs, Mass, Natural, op
from curate.ops.synth._writing import TextDraws, WantedTexts, columns_of_texts, write
from curate.pool.blob import Blob
from curate.text.model_talk import find_meta_talk, find_refusal
from curate.text.words import plain_words

if TYPE_CHECKING:
    from PIL.Image import Image


_MEDIA = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
"""Formats that endpoints take, by how the pool calls them."""
_QUALITY = 90


@op(
    reads=("image", "image_bytes", "blob", "uid"),
    writes={
        "caption": pa.string(),
        "captions": pa.list_(pa.string()),
        "caption_by": WRITTEN,
        "caption_fault": pa.string(),
    },
    version=1,
    batch_size=64,
    timeout_s=0,
    tally=("caption_fault",),
)
class describe:  # noqa: N801 - ops are named as recipes name them
    """Captions that a chat model writes of an image, without the alt text: `captions`, the first as `caption`.

    VeCLIP's first step (Lai et al. 2310.07699, 3.1): what is seen, in less than 20 words, greedily, 77 tokens at most.
    `prompt`: `describe`, `describe-dense` (a paragraph: raise `max_tokens` and `max_words`), `describe-tags`, or a file
    of yours. `caption_fault` is none, or why there is no caption: refusal, meta_talk, too_short, too_long (more than
    `max_words`, or cut at `max_tokens`); such an answer is drawn again, `tries` times at most. A picture with a side
    above `max_side_px`, or in a format that endpoints do not take, is sent as a JPEG, made that small. `temperature` 0
    draws once the same for all; above it, each draw is seeded by `seed`, the row's uid and the draw's number.
    """

    def __init__(  # noqa: PLR0913 - each is a knob
        self,
        *,
        chat: ChatModel,
        llm: str | None = None,
        prompt: str = "describe",
        n: Count = 1,
        temperature: Amount = 0.0,
        top_p: Mass = 1.0,
        max_tokens: Count = 77,
        max_words: Count = 40,
        tries: Count = 1,
        max_side_px: Count = 1024,
        seed: Natural = 0,
    ) -> None:
        del llm  # the name by which the recipe chose `chat`
        self._prompt, self._max_words, self._side = load_prompt(prompt), max_words, max_side_px
        self._draws = TextDraws(n, tries, seed, temperature, top_p, max_tokens)
        self._chat = chat.connect()

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the prompt."""
        return load_prompt(knobs["prompt"]).digest

    def __call__(
        self, images: Sequence[Image], files: Sequence[bytes], blobs: Sequence[Blob], uids: Sequence[str]
    ) -> Columns:
        """Up to `n` captions an image."""
        wanted = [
            WantedTexts(self._prompt.messages({}, [_picture(image, file, blob, self._side)]), uid, self._find_fault)
            for image, file, blob, uid in zip(images, files, blobs, uids, strict=True)
        ]
        return columns_of_texts("caption", write(self._chat, wanted, self._draws), self._prompt, self._draws)

    def _find_fault(self, text: str) -> str | None:
        words = len(plain_words(text).tokens)
        if find_refusal(text):
            return "refusal"
        if find_meta_talk(text):
            return "meta_talk"
        return "too_long" if words > self._max_words else None if words else "too_short"


def _picture(image: Image, file: bytes, blob: Blob, side_px: int) -> ChatPicture:
    """The file as it is, or a JPEG of it of at most `side_px`; named by the file's SHA-256, and by what was done."""
    media = _MEDIA.get(blob.ext or "")
    if media is not None and max(image.size) <= side_px:
        return ChatPicture(str(blob.sha256), file, media)
    small = image.copy()
    small.thumbnail((side_px, side_px))
    small.convert("RGB").save(out := io.BytesIO(), "JPEG", quality=_QUALITY)
    return ChatPicture(f"{blob.sha256} jpeg {side_px}px q{_QUALITY}", out.getvalue())
