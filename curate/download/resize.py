"""Resize images through img2dataset's resizer, guarding what it would get wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from curate.download.fetched import Fetched, sniff
from curate.download.settings import ResizeSettings

EXIF_ORIENTATION = 0x0112


class ImageResizer:
    """Turns a downloaded row into a resized one; loads img2dataset and OpenCV once."""

    def __init__(self, settings: ResizeSettings) -> None:
        resizer = _load_resizer()
        self._settings = settings
        self._resize = resizer.Resizer(
            settings.size_px,
            settings.mode,
            settings.only_if_bigger,
            upscale_interpolation=settings.upscale,
            downscale_interpolation=settings.downscale,
            encode_quality=settings.quality,
            encode_format=settings.format,
            skip_reencode=settings.skip_reencode,
        )

    def __call__(self, row: Fetched) -> Fetched:
        """Resize a row: new body, sizes and extension; or failed_to_resize with an error and no body."""
        assert row.body is not None
        error, detail, upright = _prepare_bytes(row.body, row.ext, self._settings.max_pixels)
        if error:
            return _fail(row, error, detail)
        body, width, height, original_width, original_height, problem = self._resize(io.BytesIO(upright))
        if problem is not None:
            return _fail(row, "decode_error", str(problem))
        return replace(
            row, body=body, ext=sniff(body)[0], width=width, height=height,
            original_width=original_width, original_height=original_height,
        )  # fmt: skip


def _load_resizer() -> Any:
    """A copy of our own of img2dataset's resizer module, made fit for threads; its resizing stays as it is.

    The file is loaded by itself: importing the package would import ray, wandb and torch as well, for seconds.
    """
    # Without this, importing albumentations asks the network whether there is a newer one.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    package = importlib.util.find_spec("img2dataset")
    assert package is not None and package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "resizer.py"
    spec = importlib.util.spec_from_file_location("curate.download.img2dataset_resizer", path)
    assert spec is not None and spec.loader is not None
    resizer: Any = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        # It imports `imghdr`, which is deprecated; a caller who makes warnings errors is not at fault.
        warnings.simplefilter("ignore", DeprecationWarning)
        spec.loader.exec_module(resizer)
    # It silences OpenCV by pointing the process's own stdout and stderr to nowhere during each image: what other
    # threads print then is lost, and two threads doing so at once lose both streams for good.
    resizer.SuppressStdoutStderr = contextlib.nullcontext
    # It builds and validates the same few transforms anew for each image, which costs half a millisecond of the GIL.
    names = ("SmallestMaxSize", "LongestMaxSize", "CenterCrop", "PadIfNeeded")
    resizer.A = SimpleNamespace(**{name: _build_once(getattr(resizer.A, name)) for name in names})
    return resizer


def _build_once(transform: Callable[..., Any]) -> Callable[..., Any]:
    of_thread = threading.local()  # a transform writes to itself while it works

    def build(**knobs: Any) -> Any:
        key = repr(sorted(knobs.items()))
        if key not in of_thread.__dict__:
            with warnings.catch_warnings():  # img2dataset's arguments are of an older albumentations; they still work
                warnings.simplefilter("ignore")
                setattr(of_thread, key, transform(**knobs))
        return of_thread.__dict__[key]

    return build


def _fail(row: Fetched, error: str, detail: str) -> Fetched:
    return replace(row, status="failed_to_resize", error=error, detail=detail[:500], body=None, ext=None)


def _prepare_bytes(body: bytes, ext: str | None, max_pixels: int) -> tuple[str | None, str, bytes]:
    """(error, detail, bytes to resize). A bomb or a cut file is refused from its header; a file that EXIF turns, or of
    16 bits a channel, is decoded here, because OpenCV would drop the turn and clip the upper half of the range."""
    from PIL import Image

    if _is_cut(body, ext):
        return "truncated_image", f"the {ext} has no end marker", b""
    try:
        with Image.open(io.BytesIO(body)) as image:
            if image.width * image.height > max_pixels:
                return "image_too_large", f"{image.width}x{image.height}; at most {max_pixels} pixels", b""
            if image.getexif().get(EXIF_ORIENTATION, 1) == 1 and not image.mode.startswith("I"):
                return None, "", body
            return None, "", _decode_to_png(image)
    except Image.DecompressionBombError as err:
        return "image_too_large", str(err), b""
    except Exception as err:  # noqa: BLE001 - a stranger's file makes the decoder raise whatever it likes
        return "decode_error", f"{type(err).__name__}: {err}", b""


def _is_cut(body: bytes, ext: str | None) -> bool:
    if ext == "jpg":  # scan data never holds these markers, so the last end lies after the last start of a scan
        return body.rfind(b"\xff\xd9") < body.rfind(b"\xff\xda")
    return ext == "png" and b"IEND" not in body[-4096:]


def _decode_to_png(image: Any) -> bytes:
    import numpy as np
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        values = np.asarray(upright).astype(np.int64).clip(0, 65535)
        upright = Image.fromarray((values // 257).astype(np.uint8))
    elif upright.mode not in ("L", "RGB", "RGBA"):
        upright = upright.convert("RGB")
    out = io.BytesIO()
    upright.save(out, "png", compress_level=0)
    return out.getvalue()
