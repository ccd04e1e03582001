"""What an op is, and the one table that names the ops.

An op looks at a batch of samples and returns columns; it never decides. It is a plain function, or a class where
a model must be held: knobs are keyword-only, annotated and JSON-able, and enter the fingerprint of its columns.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from curate.blob import BLOB
from curate.document.segments import DOCUMENT
from curate.settings import unknown

Columns = Mapping[str, Sequence[Any]]
"""Columns by name: a list, numpy or Arrow array each, one entry a row, None for null."""

READABLE = ("uid", "text", "meta", "origin", "bytes", "image_bytes", "decoded", "image")
"""What every op can read: see `Spec.reads`."""

CONTENT: Mapping[str, pa.DataType | None] = {
    "text": pa.string(),
    "image": BLOB,
    "document": DOCUMENT,
    "images": pa.list_(BLOB),
    "words": None,
}
"""Columns that are the sample's content, and what they hold: a later step's takes the place of an earlier one's, and of
the source's. `words` are a page's, or how many a text has: one of the two in a recipe."""

OWN = ("row", "error", "detail", "inputs")
"""Names in every file of columns, which no op may give one of its own."""

TAKEN = ("uid", "meta", "origin", "bytes", "image_bytes", "decoded", "tar", "ext", "offset", "nbytes", "sha256",
         "order", "image_name", "content", "content_at", "content_bytes", "content_size")  # fmt: skip
"""What a row is read by and published from: no step's column takes the place of one."""

GIVEN = ("download", "folder")
"""Knobs that no recipe writes: an op that has them is given the recipe's download settings and its source's folder."""

OPS: Mapping[str, str] = {
    "image_size": "curate.ops.image:image_size",
    "image_ok": "curate.ops.image:image_ok",
    "text_basic": "curate.ops.text:text_basic",
    "language": "curate.ops.text:language",
    "text_digest": "curate.ops.text:text_digest",
    "text_copies": "curate.ops.text:text_copies",
    "clip_score": "curate.ops.clip:clip_score",
    "image_signature": "curate.ops.dedup:image_signature",
    "duplicate_images": "curate.ops.dedup:duplicate_images",
    "gopher_quality": "curate.ops.quality:gopher_quality",
    "gopher_repetition": "curate.ops.repetition:gopher_repetition",
    "fineweb": "curate.ops.quality:fineweb",
    "c4_lines": "curate.ops.quality:c4_lines",
    "obelics_text": "curate.ops.quality:obelics_text",
    "text_signature": "curate.ops.near_text:text_signature",
    "near_duplicate_texts": "curate.ops.near_text:near_duplicate_texts",
    "chunks": "curate.ops.chunks:chunks",
    "pii": "curate.ops.pii:pii",
    "mask_pii": "curate.ops.pii:mask_pii",
    "contamination": "curate.ops.decontaminate:contamination",
    "perplexity": "curate.ops.perplexity:perplexity",
    "paragraph_perplexity": "curate.ops.perplexity:paragraph_perplexity",
    "drop_unlikely_paragraphs": "curate.ops.perplexity:drop_unlikely_paragraphs",
    "fasttext_quality": "curate.ops.text:fasttext_quality",
    "line_digests": "curate.ops.text_repeats:line_digests",
    "repeated_lines": "curate.ops.text_repeats:repeated_lines",
    "without_repeated_lines": "curate.ops.text_repeats:without_repeated_lines",
    "fetch_images": "curate.ops.fetch:fetch_images",
    "obelics_document": "curate.ops.records:obelics_document",
    "mmc4_document": "curate.ops.records:mmc4_document",
    "llava_document": "curate.ops.records:llava_document",
    "clean_paragraphs": "curate.ops.interleaved:clean_paragraphs",
    "drop_foreign_paragraphs": "curate.ops.interleaved:drop_foreign_paragraphs",
    "image_links": "curate.ops.interleaved:image_links",
    "document_images": "curate.ops.interleaved:document_images",
    "image_hashes": "curate.ops.image_copies:image_hashes",
    "image_copies": "curate.ops.image_copies:image_copies",
    "drop_copied_images": "curate.ops.image_copies:drop_copied_images",
    "nsfw": "curate.ops.nsfw:nsfw",
    "document_nsfw": "curate.ops.nsfw:document_nsfw",
    "drop_nsfw_images": "curate.ops.nsfw:drop_nsfw_images",
    "faces": "curate.ops.faces:faces",
    "document_faces": "curate.ops.faces:document_faces",
    "drop_face_images": "curate.ops.faces:drop_face_images",
    "assign_images": "curate.ops.assign:assign_images",
    "page_opt_out": "curate.ops.opt_out:page_opt_out",
    "host_opt_out": "curate.ops.opt_out:host_opt_out",
    "drop_opted_out_links": "curate.ops.opt_out:drop_opted_out_links",
    "image_url_keys": "curate.ops.pages_dedup:image_url_keys",
    "image_url_counts": "curate.ops.pages_dedup:image_url_counts",
    "drop_common_links": "curate.ops.pages_dedup:drop_common_links",
    "image_keys": "curate.ops.pages_dedup:image_keys",
    "image_counts": "curate.ops.pages_dedup:image_counts",
    "drop_common_images": "curate.ops.pages_dedup:drop_common_images",
    "paragraph_keys": "curate.ops.pages_dedup:paragraph_keys",
    "repeated_paragraphs": "curate.ops.pages_dedup:repeated_paragraphs",
    "drop_repeated_paragraphs": "curate.ops.pages_dedup:drop_repeated_paragraphs",
    "page_key": "curate.ops.pages_dedup:page_key",
    "duplicate_urls": "curate.ops.pages_dedup:duplicate_urls",
    "host_pages": "curate.ops.pages_dedup:host_pages",
    "image_set": "curate.ops.pages_dedup:image_set",
    "duplicate_image_sets": "curate.ops.pages_dedup:duplicate_image_sets",
    "html_document": "curate.ops.html:html_document",
    "pdf_page": "curate.ops.pdf:pdf_page",
    "render_page": "curate.ops.pdf:render_page",
    "script": "curate.ops.pdf:script",
    "ocr": "curate.ops.ocr:ocr",
    "page_text": "curate.ops.ocr:page_text",
    "render_text": "curate.ops.typeset:render_text",
    "text_agreement": "curate.ops.ocr:text_agreement",
}


@dataclass(frozen=True)
class Failed:
    """Put in any slot of a returned column, this fails the row with the named error (snake_case)."""

    error: str
    detail: str = ""


@dataclass(frozen=True)
class Spec:
    """What the engine knows of an op.

    `reads`: its positional arguments: `uid`, `text`, `origin`, `meta` (a dict), `bytes` (of the source's file),
    `image` (decoded, RGB; a row that does not decode fails before the op), `decoded` (curate.image.files.Decoded: every
    row), `image_bytes` (undecoded), or a column that an earlier step writes; one called `text` or `image` stands
    before the source's own. `writes`: its columns and their Arrow types. `version`: raised when the op's values
    change. `batch_size`: rows a call. A class may have a `close`. `after`: for a group op, the row op whose columns
    it reads.
    """

    name: str
    reads: tuple[str, ...]
    writes: Mapping[str, pa.DataType]
    version: int
    batch_size: int = 64
    after: Callable[..., Any] | None = None
    summary: str = ""
    knobs: Mapping[str, inspect.Parameter] = field(default_factory=dict)

    @property
    def is_group(self) -> bool:
        """Whether the op sees all rows at once."""
        return self.after is not None

    @property
    def stored(self) -> tuple[str, ...]:
        """Its columns that hold bytes (see curate.blob)."""
        return tuple(name for name, kind in self.writes.items() if kind in (BLOB, pa.list_(BLOB)))

    @property
    def stores(self) -> bool:
        """Whether the op brings bytes along."""
        return bool(self.stored)


F = TypeVar("F", bound=Callable[..., Any])


def op(
    *, reads: str | Sequence[str], writes: Mapping[str, pa.DataType], version: int, batch_size: int = 64
) -> Callable[[F], F]:
    """Declare a row op: its values depend on each row alone, bit for bit, whatever rows share its batch."""
    names = (reads,) if isinstance(reads, str) else tuple(reads)
    return _declare(names, writes, version, batch_size, None)


def group_op(*, after: Callable[..., Any], writes: Mapping[str, pa.DataType], version: int) -> Callable[[F], F]:
    """Declare a group op: `f(inputs, outputs, scratch, *, knobs)` over one Parquet file a shard, out of core.

    Each input holds the admitted rows of a shard: `uid`, `nbytes`, `sha256` and the columns of `after`. The op
    writes the output of the same number with `uid` and its own columns, the same rows in the same order.
    """
    return _declare((), writes, version, 0, after)


def _declare(
    reads: tuple[str, ...],
    writes: Mapping[str, pa.DataType],
    version: int,
    batch_size: int,
    after: Callable[..., Any] | None,
) -> Callable[[F], F]:
    def declare(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        knobs = {n: p for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
        summary = (inspect.getdoc(function) or "").split("\n\n", 1)[0].replace("\n", " ")
        spec = Spec(function.__name__, reads, dict(writes), version, batch_size, after, summary, knobs)
        function.spec = spec  # type: ignore[attr-defined]
        return function

    return declare


def find(name: str) -> Callable[..., Any]:
    """The op called `name`: one of the table, or a user's own as `package.module:function`. Raises ValueError."""
    target = OPS.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not colon:
        raise ValueError(f"{unknown('op', name, OPS)}; your own op is written package.module:function")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as err:  # a user's module may raise anything while it is imported
        raise ValueError(f"op {name!r} cannot be imported: {type(err).__name__}: {err}") from err
    if not isinstance(getattr(found, "spec", None), Spec):
        raise ValueError(f"op {name!r} is not declared: put @op(reads=..., writes=..., version=1) above it")
    return found  # type: ignore[no-any-return]


def writers(column: str) -> list[str]:
    """The ops of the table that write `column` and do not read it: what makes it in the first place."""
    specs = {name: spec_of(find(name)) for name in OPS}
    return [name for name, spec in specs.items() if column in spec.writes and column not in spec.reads]


def spec_of(function: Callable[..., Any]) -> Spec:
    """The declaration of an op."""
    found = function.spec  # type: ignore[attr-defined]
    assert isinstance(found, Spec)
    return found


def identity(function: Callable[..., Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """All that could change the op's values, as plain data: name, version, columns, every knob, its files' digest."""
    spec = spec_of(function)
    full = {name: knobs.get(name, p.default) for name, p in spec.knobs.items()}
    said: dict[str, Any] = {"knobs": {name: _said(name, value) for name, value in full.items()}}
    files = _files_of(function, spec.name, full)
    before = identity(spec.after, _shared(spec.after, knobs)) if spec.after else None
    writes = {name: str(kind) for name, kind in spec.writes.items()}
    said |= {"version": spec.version, "writes": writes, "files": files, "after": before}
    mine = getattr(function, "__module__", "").startswith("curate.")
    return {"op": spec.name if mine else f"{function.__module__}:{spec.name}"} | said


def _files_of(function: Callable[..., Any], name: str, knobs: Mapping[str, Any]) -> str:
    """The digest of the files that an op reads. Raises ValueError, with the op's name, where one cannot be had."""
    own = getattr(function, "identity", None)
    try:
        return str(own(**knobs)) if own else ""
    except ValueError as err:
        raise ValueError(f"op {name}: {str(err).removeprefix(f'op {name}: ')}") from err


def _said(name: str, value: Any) -> Any:
    """A knob as plain data. Where the source's folder lies changes nothing: its files are part of the pool's name."""
    if name in GIVEN:
        return value.identity() if hasattr(value, "identity") else None
    return value


def _shared(function: Callable[..., Any], knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in knobs.items() if name in spec_of(function).knobs}
