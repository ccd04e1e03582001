"""Towers of a dual encoder for ops: a row's features are the same bits whatever shares its batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.models.clip import Clip
from curate.models.devices import DeviceKind
from curate.models.pixels import not_too_long

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

PASS_IMAGES = 32
_IDS: Mapping[DeviceKind, int] = {"cpu": 128, "cuda": 8192}
"""Images, and ids of texts, in every forward pass: a short batch is padded to them, because the order of a sum, and so
its last bits, may hang on the batch's shape. A row's values then depend on that row alone."""

_LENGTHS = (8, 12, 16, 24, 32, 48)
"""Token counts that texts are padded to before the whole context, for towers in which no token sees a later one."""


Features = np.ndarray[Any, np.dtype[np.float32]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Ids = np.ndarray[Any, np.dtype[np.int64]]


def normalise_rows(features: Features) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Normalise rows to length 1; in double precision, where the order of summing leaves no trace in float32."""
    wide_ND = features.astype(np.float64)
    lengths_N1 = np.sqrt((wide_ND * wide_ND).sum(axis=1, keepdims=True))
    unit_ND: np.ndarray[Any, np.dtype[np.float64]] = wide_ND / np.maximum(lengths_N1, 1e-12)
    return unit_ND


class ImageTower:
    """Images to features, N x D: open_clip's transform, its last steps done for a whole batch, then the image tower."""

    def __init__(self, clip: Clip) -> None:
        import torch
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from torchvision.transforms import Compose

        self._clip = clip
        steps = image_transform_v2(PreprocessCfg(**clip.prepare), is_train=False).transforms
        self._shape_up = Compose(steps[:-2])  # all but ToTensor and Normalize
        self._mean = torch.tensor(steps[-1].mean).view(3, 1, 1).to(clip.device.torch())
        self._std = torch.tensor(steps[-1].std).view(3, 1, 1).to(clip.device.torch())

    def __call__(self, images: Sequence[Image], threads: ThreadPoolExecutor) -> Features:
        """Features of these images."""
        return self.encode(list(threads.map(self.pixels, images)))

    def encode(self, pixels: Sequence[Pixels], rows: int = PASS_IMAGES) -> Features:
        """Features of images that `pixels` has prepared, `rows` a pass."""
        import torch

        found = []
        for start in range(0, len(pixels), rows):
            some = list(pixels[start : start + rows])
            padded_BHWC = np.stack(some + [some[-1]] * (rows - len(some)))
            features_BD = self._clip.net.encode_image(self.normalise(padded_BHWC))  # type: ignore[operator]
            found.append(features_BD[: len(some)].to("cpu", torch.float32).numpy())
        return np.concatenate(found)

    def pixels(self, image: Image) -> Pixels:
        """The image as the tower's transform has it before it is normalised."""
        return np.asarray(self._shape_up(not_too_long(image)))

    def normalise(self, pixels: Pixels) -> Tensor:
        """Normalise pixels as ToTensor and Normalize do, value for value, in the model's precision, on its device."""
        import torch

        bytes_BHWC = self._clip.device.send(torch.from_numpy(pixels))
        images_BCHW = bytes_BHWC.permute(0, 3, 1, 2).contiguous().float().div_(255)
        images_BCHW.sub_(self._mean).div_(self._std)
        return images_BCHW.to(self._clip.dtype)


class TextTower:
    """Texts to features, N x D: ids, sorted into a few lengths by each row alone, then the text tower."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._crops = _crops(clip)
        self._tower = _text_tower(clip)

    def __call__(self, texts: Sequence[str]) -> Features:
        """Features of these texts."""
        return self.encode([self.ids(text) for text in texts])

    def ids(self, text: str) -> Ids:
        """A text's ids, zeros after them up to the context."""
        ids_T = np.zeros(self._clip.context_length, np.int64)
        found = self._clip.tokens(text)
        ids_T[: len(found)] = found
        return ids_T

    def encode(self, ids: Sequence[Ids], whole: bool = False) -> Features:
        """Features of texts by their ids; `whole`: all in one pass over the whole context."""
        import torch

        ids_NT = np.stack(ids)
        if whole:
            features_ND: Tensor = self._clip.net.encode_text(self._send(ids_NT))  # type: ignore[operator]
            return features_ND.to("cpu", torch.float32).numpy()
        parts: dict[int, Features] = {}
        for rows, length in self._batches(ids_NT):
            padded = [*rows, *[rows[-1]] * (self._texts_of(length) - len(rows))]
            features_BD = self._encode(self._send(ids_NT[padded, :length]))
            parts.update(zip(rows, features_BD.to("cpu", torch.float32).numpy(), strict=False))
        return np.stack([parts[row] for row in range(len(ids))])

    def _send(self, ids: Ids) -> Tensor:
        import torch

        return self._clip.device.send(torch.from_numpy(ids))

    def _batches(self, ids: Ids) -> Iterator[tuple[list[int], int]]:
        """Row numbers, no more than a pass holds, and the length that all of them are padded to."""
        needed = ids.argmax(axis=1) + 1  # the end mark is the largest id: the first of them is what is read out
        lengths = sorted({*self._crops, self._clip.context_length})
        length_of = [next(length for length in lengths if length >= need) for need in needed]
        for length in lengths:
            rows = [row for row, own in enumerate(length_of) if own == length]
            step = self._texts_of(length)
            yield from ((rows[at : at + step], length) for at in range(0, len(rows), step))

    def _texts_of(self, length: int) -> int:
        return max(1, _IDS[self._clip.device.kind] // length)

    def _encode(self, ids: Tensor) -> Tensor:
        import torch

        changed = self._crops.get(ids.shape[1], {})
        features_BD: Tensor = torch.func.functional_call(self._tower, changed, (ids,))
        return features_BD


def _text_tower(clip: Clip) -> nn.Module:
    """The text tower as a module of its own, so that its position table and mask can be swapped for shorter ones."""
    from torch import nn

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = clip.net

        def forward(self, ids: Tensor) -> Any:
            return self.net.encode_text(ids)  # type: ignore[operator]

    return Tower()


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
