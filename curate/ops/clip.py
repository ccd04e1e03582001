"""clip_score: how well an image and its caption agree by a dual encoder, with both embeddings kept for later ops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curate import models
from curate.models import Clip, Precision
from curate.ops import Columns, op

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

_IMAGES = 32
_IDS = 128
"""Images, and ids of texts, in every forward pass: a short batch is padded to them, because the order of a sum, and so
its last bits, may hang on the batch's shape. A row's values then depend on that row alone."""

_LENGTHS = (8, 12, 16, 24, 32, 48)
"""Token counts that texts are padded to before the whole context, for towers in which no token sees a later one."""

_LONGEST_ASPECT = 16
"""Wider pictures are cropped to this about their centre before they are resized: open_clip resizes the short side and
then crops, so that a picture of 1 x 30,000 pixels would grow to 224 x 6,720,000 on its way."""


@op(
    reads=("image", "text"),
    writes={
        "clip_score": pa.float32(),
        "clip_image_embedding": pa.list_(pa.float16()),
        "clip_text_embedding": pa.list_(pa.float16()),
    },
    version=1,
    batch_size=64,
)
class clip_score:  # noqa: N801 - ops are named as recipes name them
    """Cosine of an image's and its text's embedding, -1 to 1, and the two embeddings, of length 1, in half precision.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021; as a filter Schuhmann
    et al., LAION-400M, 2021. `model` and `pretrained`: see curate.models.load_clip. `precision`: float32, bfloat16, or
    auto: bfloat16 where the GPU or processor computes in it natively. Pixels and ids are those that open_clip's own
    transform and tokenizer give; a text beyond the context is cut as open_clip cuts it. The default is a toy that knows
    drawings: for photographs name a real model.
    """

    def __init__(
        self, *, model: str = models.BUNDLED_CLIP, pretrained: str = "", precision: Precision = "auto"
    ) -> None:
        import torch

        self._clip = models.load_clip(model, pretrained, precision)
        self._images = _Images(self._clip)
        self._texts = _Texts(self._clip)
        self._threads = ThreadPoolExecutor(torch.get_num_threads())

    @staticmethod
    def identity(*, model: str = models.BUNDLED_CLIP, pretrained: str = "", precision: Precision = "auto") -> str:
        """Digest of what changes the values beside the knobs: the model's files and the precision that `auto` means."""
        return models.clip_identity(model, pretrained, precision)

    def __call__(self, images: Sequence[Image], texts: Sequence[str]) -> Columns:
        """One score and two embeddings a pair."""
        import torch

        with torch.inference_mode():
            image_ND = _unit(self._images(images, self._threads))
            text_ND = _unit(self._texts(texts))
        scores = [float(np.dot(image_D, text_D)) for image_D, text_D in zip(image_ND, text_ND, strict=True)]
        return {
            "clip_score": scores,
            "clip_image_embedding": list(image_ND.astype(np.float16)),
            "clip_text_embedding": list(text_ND.astype(np.float16)),
        }


def _unit(features: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows of length 1; in double precision, where the order of summing leaves no trace in the float32 that is kept."""
    wide_ND = features.astype(np.float64)
    lengths_N1 = np.sqrt((wide_ND * wide_ND).sum(axis=1, keepdims=True))
    unit_ND: np.ndarray[Any, np.dtype[np.float64]] = wide_ND / np.maximum(lengths_N1, 1e-12)
    return unit_ND


class _Images:
    """Images to features, N x D: open_clip's transform, its last steps done for a whole batch, then the image tower."""

    def __init__(self, clip: Clip) -> None:
        import torch
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from torchvision.transforms import Compose

        self._clip = clip
        steps = image_transform_v2(PreprocessCfg(**clip.prepare), is_train=False).transforms
        self._shape_up = Compose(steps[:-2])  # all but ToTensor and Normalize
        self._mean = torch.tensor(steps[-1].mean).view(3, 1, 1)
        self._std = torch.tensor(steps[-1].std).view(3, 1, 1)

    def __call__(self, images: Sequence[Image], threads: ThreadPoolExecutor) -> np.ndarray[Any, np.dtype[np.float32]]:
        import torch

        pixels_NHWC = list(threads.map(self._pixels, images))
        rows = []
        for start in range(0, len(images), _IMAGES):
            some = pixels_NHWC[start : start + _IMAGES]
            padded_BHWC = np.stack(some + [some[-1]] * (_IMAGES - len(some)))
            features_BD = self._clip.net.encode_image(self.normalised(padded_BHWC))  # type: ignore[operator]
            rows.append(features_BD[: len(some)].to("cpu", torch.float32).numpy())
        return np.concatenate(rows)

    def _pixels(self, image: Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.asarray(self._shape_up(_not_too_long(image)))

    def normalised(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        """What ToTensor and Normalize give, value for value, in the model's precision and on its device."""
        import torch

        images_BCHW = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)
        images_BCHW.sub_(self._mean).div_(self._std)
        return images_BCHW.to(self._clip.device, self._clip.dtype)


def _not_too_long(image: Image) -> Image:
    width, height = image.size
    if max(width, height) <= _LONGEST_ASPECT * min(width, height):
        return image
    keep = _LONGEST_ASPECT * min(width, height)
    left, top = max(0, (width - keep) // 2), max(0, (height - keep) // 2)
    return image.crop((left, top, min(width, left + keep), min(height, top + keep)))


class _Texts:
    """Texts to features, N x D: ids, sorted into a few lengths by each row alone, then the text tower."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._crops = _crops(clip)
        self._tower = _text_tower(clip)

    def __call__(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        import torch

        ids_NT = np.zeros((len(texts), self._clip.context_length), np.int64)
        for row, text in enumerate(texts):
            ids = self._clip.tokens(text)
            ids_NT[row, : len(ids)] = ids
        parts: dict[int, np.ndarray[Any, np.dtype[np.float32]]] = {}
        for rows, length in self._batches(ids_NT):
            padded = [*rows, *[rows[-1]] * (_texts_of(length) - len(rows))]
            features_BD = self._encode(torch.from_numpy(ids_NT[padded, :length]).to(self._clip.device))
            parts.update(zip(rows, features_BD.to("cpu", torch.float32).numpy(), strict=False))
        return np.stack([parts[row] for row in range(len(texts))])

    def _batches(self, ids: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[tuple[list[int], int]]:
        """Row numbers, no more than a pass holds, and the length that all of them are padded to."""
        needed = ids.argmax(axis=1) + 1  # the end mark is the largest id: the first of them is what is read out
        lengths = sorted({*self._crops, self._clip.context_length})
        length_of = [next(length for length in lengths if length >= need) for need in needed]
        for length in lengths:
            rows = [row for row, own in enumerate(length_of) if own == length]
            step = _texts_of(length)
            yield from ((rows[at : at + step], length) for at in range(0, len(rows), step))

    def _encode(self, ids: Tensor) -> Tensor:
        import torch

        changed = self._crops.get(ids.shape[1], {})
        features_BD: Tensor = torch.func.functional_call(self._tower, changed, (ids,))
        return features_BD


def _texts_of(length: int) -> int:
    return max(1, _IDS // length)


def _text_tower(clip: Clip) -> nn.Module:
    """The text tower as a module of its own, so that its position table and mask can be swapped for shorter ones."""
    from torch import nn

    class TextTower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = clip.net

        def forward(self, ids: Tensor) -> Any:
            return self.net.encode_text(ids)  # type: ignore[operator]

    return TextTower()


def _crops(clip: Clip) -> dict[int, dict[str, Tensor]]:
    """By length, what to swap so that the tower reads just so many ids; empty if that would change its embedding.

    It does not where attention is causal and the end mark is read out: no token up to it sees what comes after.
    """
    from open_clip.model import CLIP, CustomTextCLIP
    from open_clip.transformer import TextTransformer

    net: Any = clip.net
    if type(net) is CLIP:
        tower, prefix, reads_end = net, "net", net.text_pool_type == "argmax"
    elif type(net) is CustomTextCLIP and isinstance(net.text, TextTransformer):
        tower, prefix = net.text, "net.text"
        reads_end = tower.pool_type == "argmax" and tower.cls_emb is None
    else:
        return {}
    if not reads_end or tower.attn_mask is None:
        return {}
    return {
        length: {
            f"{prefix}.positional_embedding": tower.positional_embedding[:length],
            f"{prefix}.attn_mask": tower.attn_mask[:length, :length],
        }
        for length in _LENGTHS
        if length < clip.context_length
    }
