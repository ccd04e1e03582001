"""Resize images through img2dataset's resizer, which is given the pixels that ops see.

Its own decoder, OpenCV, drops turns, clips 16 bits, knows nothing of a transparent colour and takes what is cut: files
are opened where all are, by `curate.image.files`, and refused by the same names.
"""

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
from curate.image.files import Decoded, ImageLimits, decode

_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


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
        found = decode(row.body, ImageLimits(max_pixels=self._settings.max_pixels))
        if found.error is not None:
            return _fail(row, found.error, found.detail)
        stream = io.BytesIO(_as_pnm(found))
        body, width, height, original_width, original_height, problem = self._resize(stream)
        if problem is not None:
            return _fail(row, "decode_error", str(problem))
        assert found.image is not None
        if (width, height) == found.image.size and self._may_stay(row.body, found):
            body = row.body
        return replace(
            row, body=body, ext=sniff(body)[0], width=width, height=height,
            original_width=original_width, original_height=original_height,
        )  # fmt: skip

    def _may_stay(self, body: bytes, found: Decoded) -> bool:
        """Whether a file that was not resized is handed over as it came: any reader shows the same pixels.

        Nothing is turned, clear, moving, or of a printer's colours.
        """
        wanted = self._settings.skip_reencode and found.format == _FORMATS[self._settings.format]
        plain = found.orientation == 1 and found.frames == 1 and found.mode in ("1", "L", "RGB")
        return wanted and plain and not (found.format == "PNG" and b"tRNS" in body)


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


def _as_pnm(found: Decoded) -> bytes:
    """The pixels as a PNM, which costs nothing to write and to read: grey where the file was."""
    assert found.image is not None
    grey = found.mode in ("1", "L", "LA", "La") or found.mode.startswith("I")
    image = found.image.getchannel(0) if grey else found.image
    return f"{'P5' if grey else 'P6'} {image.width} {image.height} 255\n".encode() + image.tobytes()
