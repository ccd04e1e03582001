"""The op clip_score: image-caption similarity by a dual encoder, and both embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curate.models.clip import BUNDLED_CLIP, clip_dims, clip_identity, clip_tower, load_clip
from curate.models.devices import CPU, Device, Precision
from curate.ops.alignment._towers import PASS_IMAGES, Ids, ImageTower, Pixels, TextTower, normalise_rows
from curate.ops.spec import Columns, Knobs, Tower, op

if TYPE_CHECKING:
    from PIL.Image import Image


@op(
    reads=("image", "text"),
    writes={
        "clip_score": pa.float32(),
        "clip_image_embedding": pa.list_(pa.float16()),
        "clip_text_embedding": pa.list_(pa.float16()),
    },
    version=2,
    batch_size=64,
    needs=("open_clip",),
    runs_on="accelerator",
    memory_gb=4.0,
    device_batch=256,
)
class clip_score:  # noqa: N801 - ops are named as recipes name them
    """Cosine of an image's and its text's embedding, -1 to 1, and the two embeddings, of length 1, in half precision.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021; as a filter Schuhmann
    et al., LAION-400M, 2021. `model` and `pretrained`: see curate.models.clip.load_clip. `precision`: float32,
    bfloat16, or auto: bfloat16 where the GPU or processor computes in it natively. Pixels and ids are those
    that open_clip's own transform and tokenizer give; a text beyond the context is cut as open_clip cuts it. The
    default is a toy that knows drawings: for photographs name a real model.
    """

    def __init__(
        self,
        *,
        model: str = BUNDLED_CLIP,
        pretrained: str = "",
        precision: Precision = "auto",
        device: Device = CPU,
    ) -> None:
        clip = load_clip(model, pretrained, precision, device)
        self._images, self._texts = ImageTower(clip), TextTower(clip)
        self._on_cpu = device.kind == "cpu"
        self._threads = ThreadPoolExecutor(device.threads)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of what changes the values beside the knobs: the model's files."""
        return clip_identity(knobs["model"], knobs["pretrained"])

    @staticmethod
    def towers(knobs: Knobs) -> dict[str, Tower]:
        """The tower of each column of embeddings."""
        name, dims = clip_tower(knobs["model"], knobs["pretrained"]), clip_dims(knobs["model"], knobs["pretrained"])
        return {f"clip_{side}_embedding": Tower(f"{name} {side}", dims) for side in ("image", "text")}

    def __call__(self, images: Sequence[Image], texts: Sequence[str]) -> Columns:
        """One score and two embeddings a pair."""
        return self.compute(list(self._threads.map(self.prepare, images, texts)))

    def prepare(self, image: Image, text: str) -> tuple[Pixels, Ids]:
        """A pair as the towers read it."""
        return self._images.pixels(image), self._texts.ids(text)

    def compute(self, prepared: Sequence[tuple[Pixels, Ids]]) -> Columns:
        """Columns of pairs that were prepared; on an accelerator in one pass, all calls being of one shape there."""
        import torch

        pixels, ids = zip(*prepared, strict=True)
        with torch.inference_mode():
            image_ND = normalise_rows(self._images.encode(pixels, PASS_IMAGES if self._on_cpu else len(pixels)))
            text_ND = normalise_rows(self._texts.encode(ids, whole=not self._on_cpu))
        scores = [float(np.dot(image_D, text_D)) for image_D, text_D in zip(image_ND, text_ND, strict=True)]
        return {
            "clip_score": scores,
            "clip_image_embedding": list(image_ND.astype(np.float16)),
            "clip_text_embedding": list(text_ND.astype(np.float16)),
        }
