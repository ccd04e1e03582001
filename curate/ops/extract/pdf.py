"""Read PDF pages: text layer with boxes, layout, and the page drawn as a picture.

A row is a page of a PDF file, or of an image file; `meta.page` is its number, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
from PIL import Image

from curate.image.files import Format, decode, encoded
from curate.ops.spec import Columns, Count, Failed, Natural, op
from curate.page.words import WORDS, text_noise, words_column
from curate.pdf import PageLook, PdfError, PdfLimits, covered_share, find_ruled_lines, find_tables, is_pdf, shared_guard
from curate.pool.blob import BLOB, Stored
from curate.text.characters import codes_of, script_of

Meta = Mapping[str, Any]

_KEPT = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_LIMITS = PdfLimits()
_LAYER = {
    "text": pa.string(),
    "words": WORDS,
    "layer_words": pa.int32(),
    "invisible_characters": pa.int32(),
    "form_characters": pa.int32(),
    "annotation_characters": pa.int32(),
    "text_layer_noise": pa.float32(),
    "page_columns": pa.int32(),
    "skew_degrees": pa.float32(),
    "density": pa.float32(),
    "image_share": pa.float32(),
    "table_share": pa.float32(),
    "ruled_lines": pa.int32(),
    "page_width_pt": pa.float32(),
    "page_height_pt": pa.float32(),
}


@op(reads=("bytes", "meta"), writes=_LAYER, version=3, needs=("pypdfium2",), timeout_s=3600)
def pdf_page(
    files: Sequence[bytes],
    metas: Sequence[Meta],
    *,
    max_pages: Count = _LIMITS.max_pages,
    max_characters: Count = _LIMITS.max_characters,
) -> Columns:
    """A page's text layer in the order of reading, its words with boxes, and what its layout is.

    text, words (see curate.page.words) and layer_words, their count: empty without a text layer, as in an image file.
    Characters, spaces aside: invisible_characters of the text, which the picture does not show (drawn invisibly, white
    on nothing, or below an image, as the text under a scan often is); form_characters and annotation_characters of
    fields and notes, which the picture shows and the text has not. text_layer_noise: see curate.page.words.text_noise.
    page_columns: that stand side by side. skew_degrees: the usual angle of the writing on the page as seen,
    anticlockwise, above -180 to 180. density, image_share, table_share: of the page's area, under words, images and
    between ruled lines as of tables; ruled_lines: how many there are. A page that cannot be read fails with the error's
    name (see curate.pdf.PdfError).
    """
    limits = PdfLimits(max_pages=max_pages, max_characters=max_characters)
    rows = [_read_or_fail(partial(_page_layer, data, meta, limits)) for data, meta in zip(files, metas, strict=True)]
    return {name: [row if isinstance(row, Failed) else row[name] for row in rows] for name in _LAYER}


def _read_or_fail(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except PdfError as error:
        return Failed(error.error, error.detail)


def _page_layer(data: bytes, meta: Meta, limits: PdfLimits) -> dict[str, Any]:
    if not is_pdf(data):
        nothing: dict[str, Any] = dict.fromkeys(_LAYER)
        characters = dict.fromkeys(("invisible_characters", "form_characters", "annotation_characters"), 0)
        none = {"text": "", "words": [], "layer_words": 0, "text_layer_noise": 0.0, "density": 0.0}
        return nothing | characters | none
    look = shared_guard(limits).look(data, _number(meta))
    layer = look.text
    sizes = layer.boxes[:, 2:] - layer.boxes[:, :2]
    return _shares(look) | {
        "text": layer.text,
        "words": words_column(layer.words, layer.boxes, layer.lines),
        "layer_words": len(layer.words),
        "invisible_characters": look.invisible_characters,
        "form_characters": look.form_characters,
        "annotation_characters": look.annotation_characters,
        "text_layer_noise": text_noise(layer.words),
        "page_columns": layer.columns,
        "skew_degrees": layer.skew_degrees if layer.words else None,
        "density": min(1.0, float(sizes.prod(axis=1).sum())),
        "page_width_pt": look.width_pt,
        "page_height_pt": look.height_pt,
    }


def _number(meta: Meta) -> int:
    return int(meta.get("page") or 0)


def _shares(look: PageLook) -> dict[str, Any]:
    across, down = find_ruled_lines(look.objects.paths, look.width_pt, look.height_pt)
    return {
        "image_share": covered_share(look.objects.images),
        "table_share": covered_share(find_tables(across)),
        "ruled_lines": len(across) + len(down),
    }


@op(reads=("bytes", "meta"), writes={"image": BLOB}, version=2, batch_size=16, needs=("pypdfium2",), timeout_s=3600)
def render_page(
    files: Sequence[bytes],
    metas: Sequence[Meta],
    *,
    long_side_px: Count = 1400,
    format: Format = "jpg",
    quality: Natural = 90,
    max_pages: Count = _LIMITS.max_pages,
) -> Columns:
    """A page as a picture, drawn on white with its longer side `long_side_px`; form fields with what was filled in.

    The page of an image file (one of a TIFF) is made smaller where its longer side is above that, and else stored as it
    came where it stands alone in a JPEG, PNG or WebP. `quality`: of JPEG. A page that cannot be drawn fails with the
    error's name (see curate.pdf.PdfError and curate.image.files.decode).
    """
    limits = PdfLimits(max_pages=max_pages)
    pairs = zip(files, metas, strict=True)
    return {
        "image": [
            _read_or_fail(partial(_draw_page, data, meta, limits, (long_side_px, format, quality)))
            for data, meta in pairs
        ]
    }


def _draw_page(data: bytes, meta: Meta, limits: PdfLimits, shape: tuple[int, Format, int]) -> Stored | Failed:
    if is_pdf(data):
        drawn, width, height = shared_guard(limits).draw(data, _number(meta), *shape)
        return Stored(drawn, shape[1], width, height)
    found = decode(data, frame=_number(meta))
    if found.image is None:
        return Failed(found.error or "no_image", found.detail)
    if found.frames == 1 and found.format in _KEPT and max(found.image.size) <= shape[0]:
        return Stored(data, _KEPT[found.format], found.width, found.height)
    found.image.thumbnail((shape[0], shape[0]), Image.Resampling.LANCZOS)
    return Stored(encoded(found.image, *shape[1:]), shape[1], *found.image.size)


@op(reads="text", writes={"script": pa.string()}, version=2)
def script(texts: Sequence[str]) -> Columns:
    """The script of most letters by its ISO 15924 code: Latn, Cyrl, Arab, Hani, Jpan, ...; null without letters."""
    return {"script": [script_of(codes_of(text)) for text in texts]}
