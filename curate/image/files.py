"""Image files from strangers: what they are, how large they are, and their pixels as RGB.

Nothing here believes a name or a Content-Type: the first bytes decide, only the formats on the list are ever handed
to a decoder, and the limits on side and pixels are applied to the header, before a pixel is allocated. All who open
strangers' images do it by `open_stored`: ops, stream and reports refuse the same files by the same names.
"""

import io
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from curate.image.rgb import RGB, to_rgb
from curate.image.structure import (
    JpegFrame,
    gif_frames,
    is_cut_short,
    jpeg_frame,
    jpeg_scans,
    tiff_pages,
    webp_size,
    without_notes,
)

_PLUGINS: Mapping[str, type[ImageFile.ImageFile]] = MappingProxyType(
    {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "AVIF": AvifImagePlugin.AvifImageFile,
    }
)
"""The formats that are decoded. The classes are called directly: `Image.open` would also try other decoders, and would
hand a phone's JPEG with an embedded preview to the MPO reader, which calls the preview a second frame."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_UNSUPPORTED: tuple[tuple[bytes, str], ...] = (
    (b"\0\0\x01\0", "ICO"),
    (b"8BPS", "PSD"),
    (b"%PDF", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x1f\x8b", "gzip"),
)
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_HTML = re.compile(
    rb"<(!doctype\s+html|html|head|body|title|meta|script|style|div|iframe|p|br|h1|a)[\s>/]",
    re.IGNORECASE,
)
_UNKNOWN_SAMPLES = re.compile("unknown pixel mode|cannot handle [0-9]+-bit layers")
_ORIENTATION_TAG = 0x0112
_PILLOW_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_TURNS: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)


Format = Literal["jpg", "png"]
"""What an image is written as, by its file name's extension."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits by the header: a side or an area in pixels above these is refused. `max_frames` are counted at most.

    max_pixel_passes: pixels times how often a decoder goes over them: the scans of a JPEG, the frames before one.
    """

    max_side_px: int = 30_000
    max_pixels: int = 89_478_485  # the area from which Pillow itself suspects a decompression bomb
    max_pixel_passes: int = 16 * max_pixels  # encoders make 10 to 12 scans; a second or two of work
    max_frames: int = 10_000


@dataclass(frozen=True)
class Decoded:
    """One image file: the picture as RGB (None where it was not asked for, or `error` says why there is none).

    width, height: pixels after the EXIF orientation was applied; format, mode, frames, orientation: as stored in the
    file (0, "" and 1 where unknown). A count of frames that equals the limit means "that many or more".
    """

    image: Image.Image | None = None
    error: str | None = None
    detail: str = ""
    format: str = ""
    mode: str = ""
    frames: int = 0
    width: int = 0
    height: int = 0
    orientation: int = 1


class ImageError(ValueError):
    """An image that is refused: `error` is a name that `decode` lists, `detail` says more."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(error, detail)
        self.error = error
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.error}: {self.detail}"


DEFAULT_LIMITS = ImageLimits()
_LEAST_PASS_PX = 1 << 20
"""A pass over a smaller picture counts as one over so many pixels: to begin one costs time, too."""


def header(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Decoded:
    """Read the header, `image` left None; no pixel is decoded, so a file that is cut short may still pass."""
    try:
        found, _ = open_stored(data, limits)
    except ImageError as refused:
        return Decoded(error=refused.error, detail=refused.detail)
    return found


def decode(data: bytes, limits: ImageLimits = DEFAULT_LIMITS, frame: int = 0) -> Decoded:
    """Decode one frame (or page of a TIFF) whole to 8-bit RGB, upright; what is transparent lies on white, and on black
    where white would hide all that there is to see (a white drawing).

    Never raises for what is in `data`. Errors: empty_file, not_an_image, html_instead_of_image, unsupported_format,
    image_too_large, image_too_costly, truncated_image, missing_frame, decode_error. Colour profiles are left alone:
    values are as stored.
    """
    found = Decoded()
    try:
        found, stored = open_stored(data, limits, frame)
        image = load_rgb(stored, data, found)
    except ImageError as refused:
        return replace(found, error=refused.error, detail=refused.detail)
    return replace(found, image=image)


def open_stored(
    data: bytes, limits: ImageLimits = DEFAULT_LIMITS, frame: int = 0
) -> tuple[Decoded, ImageFile.ImageFile]:
    """Read the header and hold it against the limits; the picture comes back unread. Raises ImageError."""
    _silence_pillow()
    name = _sniff(data)
    if name == "WEBP":
        check_limits(webp_size(data) or (1, 1), limits)  # the plugin allocates the canvas when it opens the file
    try:
        stored = _PLUGINS[name](io.BytesIO(without_notes(data) if name == "PNG" else data))
        frames = _count_frames(stored, data, limits.max_frames)
        if frame:
            _turn_to(stored, frame, frames, limits)
        mode = stored.mode
        orientation = _orientation(stored)
        width, height = stored.size
    except ImageError:
        raise
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        raise _explained(error, data, name) from error
    check_limits((width, height), limits)
    if name == "JPEG":
        check_scans(data, jpeg_frame(data), (width, height), limits)
    elif isinstance(stored, TiffImagePlugin.TiffImageFile):
        check_limits(_tile_size(stored), limits)  # its decoder fills a whole tile, however little of it is shown
    if orientation >= 5 and name != "TIFF":  # the TIFF plugin swaps by itself
        width, height = height, width
    return Decoded(None, None, "", name, mode, frames, width, height, orientation), stored


def load_rgb(stored: ImageFile.ImageFile, data: bytes, found: Decoded, background: RGB | None = None) -> Image.Image:
    """Decode what `open_stored` opened to 8-bit RGB, upright, on `background`, or as `decode`. Raises ImageError."""
    return _loaded(stored, data, found, lambda image: upright(to_rgb(image, data, background), found))


def load_stored(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> Image.Image:
    """Decode the first frame, its mode and turn left as stored. Raises ImageError for what `decode` refuses.

    For those who must show a model what another project's transform shows it; ops and training take RGB.
    """
    found, stored = open_stored(data, limits)
    return _loaded(stored, data, found, lambda image: image)


def upright(image: Image.Image, found: Decoded) -> Image.Image:
    """The pixels of a file, turned as its EXIF orientation says."""
    turn = _TURNS.get(found.orientation)
    return image if turn is None or found.format == "TIFF" else image.transpose(turn)  # the TIFF plugin turns by itself


def encoded(image: Image.Image, format: Format, quality: int) -> bytes:
    """An image as a file; `quality` 1 to 95 is of JPEG, whose colours are kept at full resolution, for small print."""
    file = io.BytesIO()
    if format == "png":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def _sniff(data: bytes) -> str:
    """The name of the format (a key of _PLUGINS) that the first bytes show; raises ImageError for anything else."""
    if not data:
        raise ImageError("empty_file", "zero bytes")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and (data[8:12] == b"WEBP" or len(data) < 12):
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = {data[at : at + 4] for at in range(8, min(64, int.from_bytes(data[:4], "big"), len(data)), 4)}
        if brands & set(_AVIF_BRANDS):
            return "AVIF"
        if brands & set(_HEIF_BRANDS):
            raise ImageError("unsupported_format", "HEIF")
    for magic, name in _UNSUPPORTED:
        if data.startswith(magic):
            raise ImageError("unsupported_format", name)
    raise _named_text(data)


def _named_text(data: bytes) -> ImageError:
    """Tell a web page and an SVG from other things that are no picture."""
    head = data[:4096]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head.decode("utf-16", "ignore").encode()
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"<") and re.search(rb"<([a-z]+:)?svg[\s>]", head, re.IGNORECASE) and not _HTML.match(head):
        return ImageError("unsupported_format", "SVG")
    if head.startswith(b"<") and _HTML.search(head):
        return ImageError("html_instead_of_image", "the file is a web page")
    return ImageError("not_an_image", f"starts with {data[:16]!r}")


def _turn_to(stored: ImageFile.ImageFile, frame: int, frames: int, limits: ImageLimits) -> None:
    if not 0 <= frame < frames:
        raise ImageError("missing_frame", f"frame {frame} of {frames}, counted from 0")
    if not isinstance(stored, TiffImagePlugin.TiffImageFile):  # its pages stand alone, frames are drawn on those before
        _check_passes(1 + frame, "frames", stored.size, limits)
    stored.seek(frame)


def _loaded(
    stored: ImageFile.ImageFile, data: bytes, found: Decoded, finish: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    size = stored.size
    try:
        stored.load()
        if stored.im.size != size:
            raise ImageError("decode_error", f"the header and the pixels disagree on the size: {stored.im.size}")
        _check_samples(stored)
        return finish(stored)
    except ImageError:
        raise
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        raise _explained(error, data, found.format) from error


def check_limits(size: tuple[int, int], limits: ImageLimits) -> None:
    """Raise ImageError for a (width, height) above the limits, or of no pixels."""
    width, height = size
    if width < 1 or height < 1:
        raise ImageError("decode_error", f"the header says {width} x {height} pixels")
    if max(size) > limits.max_side_px or width * height > limits.max_pixels:
        allowed = f"{limits.max_side_px} a side and {limits.max_pixels} in all are allowed"
        raise ImageError("image_too_large", f"{width} x {height} pixels; {allowed}")


def check_scans(data: bytes, frame: JpegFrame | None, size: tuple[int, int], limits: ImageLimits) -> None:
    """Raise ImageError for a JPEG of more scans than a picture of its (width, height) needs, before one is decoded.

    `frame` is what `jpeg_frame` tells of it. Nothing is done for one that is scanned once; the bytes of others are
    looked through, 0.4 ms a megabyte.
    """
    if frame is not None and frame.scanned_once:
        return
    try:
        _check_passes(
            data.count(b"\xff\xda"), "scans", size, limits
        )  # others hold these two bytes, too: at most so many
    except ImageError:
        _check_passes(jpeg_scans(data), "scans", size, limits)


def _check_passes(passes: int, of: str, size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    allowed = limits.max_pixel_passes // max(width * height, _LEAST_PASS_PX)
    if passes > allowed:
        raise ImageError("image_too_costly", f"{passes} {of} of {width} x {height} pixels; {allowed} are allowed")


def _tile_size(stored: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    width, height = (stored.tag_v2.get(tag, 1) for tag in (322, 323))
    return int(width), int(height)


def _orientation(stored: ImageFile.ImageFile) -> int:
    """EXIF orientation 1 to 8; a broken EXIF block costs a picture its orientation, not its life."""
    if isinstance(stored, PngImagePlugin.PngImageFile) and "exif" not in stored.info:
        return 1  # looking further would make the plugin decode the pixels
    try:
        value: Any = stored.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - hostile bytes make the parser raise nearly anything
        return 1
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _count_frames(stored: ImageFile.ImageFile, data: bytes, bound: int) -> int:
    """Frames (pages of a TIFF), at most `bound`, in time that no file can stretch."""
    if isinstance(stored, GifImagePlugin.GifImageFile):
        return gif_frames(data, bound)
    if isinstance(stored, TiffImagePlugin.TiffImageFile):
        return tiff_pages(data, bound)
    return max(1, min(int(getattr(stored, "n_frames", 1)), bound))


def _check_samples(stored: Image.Image) -> None:
    """Refuse samples of which nobody knows what is white. Raises ImageError."""
    if stored.mode == "F":
        raise ImageError("unsupported_format", "floating point samples have no agreed white")
    if stored.mode == "I":
        grey_HW = np.asarray(stored)
        if grey_HW.min() < 0 or grey_HW.max() > 0xFFFF:
            raise ImageError("unsupported_format", "32-bit samples have no agreed white")


def _explained(error: Exception, data: bytes, name: str) -> ImageError:
    """Name what a decoder raised: cut short, a bomb, or broken in another way."""
    detail = re.sub(r" at 0x[0-9a-f]+", "", f"{type(error).__name__}: {error}")[:200]  # no addresses: same every run
    if isinstance(error, Image.DecompressionBombError):
        return ImageError("image_too_large", detail)
    if _UNKNOWN_SAMPLES.search(detail):
        return ImageError("unsupported_format", detail)
    if "truncated" in detail.lower() or isinstance(error, EOFError) or is_cut_short(data, name):
        return ImageError("truncated_image", detail)
    return ImageError("decode_error", detail)


def _silence_pillow() -> None:
    """Pillow warns on stderr about odd metadata; a row's outcome must not hang on the process's warning filters."""
    if _PILLOW_FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_FILTER[3].pattern)


IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")

_REFUSED_SUFFIXES = ("heic", "heif", "hif", "jp2", "jxl", "svg")
CLAIMED_SUFFIXES = (*IMAGE_SUFFIXES, "jpe", "jfif", "jif", "pjpeg", "apng", "dib", *_REFUSED_SUFFIXES)
"""What names of strangers' image files end in, of formats that are decoded and of those that are refused by name."""
