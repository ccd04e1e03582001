"""Fetch the images of interleaved documents, or read them where pages are files of a folder."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.parse import unquote_to_bytes

from curate.document.segments import Segment, image_urls
from curate.download import Downloader, DownloadSettings, sniff
from curate.image.drawings import draw_svg
from curate.image.files import ImageError, decode, header
from curate.ops._segments import BROUGHT, count_brought
from curate.ops.spec import Columns, Count, op
from curate.pool.blob import Absent, Stored
from curate.readers.files import UnreadableError, read_file

MAX_IMAGES = 1024
MAX_DOCUMENT_BYTES = 64 << 20
"""Images of one document, and bytes of them, that are kept: those after it are absent as `too_many_images` and
`too_many_bytes`. They bound what a batch of documents holds in memory."""


@op(
    reads="document",
    writes=BROUGHT,
    version=1,
    batch_size=8,
    parts={"images": "images"},
    needs=("pycurl",),
    timeout_s=0,  # every request has its own
)
class fetch_images:  # noqa: N801 - ops are named as recipes write them
    """The original bytes of each image of a document, one entry an image segment; a dead image is absent by name.

    URLs go through the recipe's `download`; `data:` URLs are decoded; paths are files of the source's folder. An image
    that a page shows twice is fetched once. The document lives on whatever is missing: `images_missing_share` can be
    bounded by a rule. OBELICS (2306.16527, A.1.4) lost 45 % of its links, and 17 % of its documents with them.
    """

    def __init__(self, *, download: DownloadSettings, folder: str | None) -> None:
        self._fetcher = _Fetcher(download, folder, _image)

    def __call__(self, documents: Sequence[Sequence[Segment]]) -> Columns:
        """Fetch all images of these documents in one stream."""
        return self._fetcher.fetch(documents)

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()


@op(
    reads="document",
    writes=BROUGHT,
    version=1,
    batch_size=8,
    parts={"images": "images"},
    needs=("pycurl", "resvg_py"),
    timeout_s=0,
)
class fetch_pictures:  # noqa: N801 - ops are named as recipes write them
    """The images of a document as fetch_images brings them, but SVG drawn and GIF's first frame taken, as PNG.

    What Cambrian-1's data engine (2406.16860) does with pages of an encyclopedia. `side_px`: the width of a drawing;
    `fonts`: files or folders of the fonts of texts in drawings, no others are used. See curate.image.drawings.
    """

    def __init__(
        self, *, download: DownloadSettings, folder: str | None, side_px: Count = 1024, fonts: tuple[str, ...] = ()
    ) -> None:
        self._fetcher = _Fetcher(download, folder, partial(_picture, side_px, fonts))

    def __call__(self, documents: Sequence[Sequence[Segment]]) -> Columns:
        """Fetch and convert all images of these documents."""
        return self._fetcher.fetch(documents)

    def close(self) -> None:
        """Close the connections."""
        self._fetcher.close()


Make = Callable[[bytes], Stored | Absent]
"""Makes of a file's bytes the image that is kept."""


class _Fetcher:
    """Fetches the images of documents."""

    def __init__(self, download: DownloadSettings, folder: str | None, make: Make) -> None:
        self._downloader, self._folder, self._make = Downloader(download), folder, make

    def fetch(self, documents: Sequence[Sequence[Segment]]) -> Columns:
        """Fetch all images of these documents in one stream."""
        wanted = [image_urls(document) for document in documents]
        answers = self._get([url for urls in wanted for url in _unique(urls)])
        return count_brought([_place_answers(urls, answers) for urls in wanted])

    def close(self) -> None:
        """Close the connections."""
        self._downloader.close()

    def _get(self, urls: Sequence[str]) -> Iterator[Stored | Absent]:
        remote = [url for url in urls if _is_remote(url)]
        fetched = self._downloader.fetch((str(n), url) for n, url in enumerate(remote))
        for url in urls:
            if not _is_remote(url):
                yield self._local(url)
                continue
            answer = next(fetched)
            if answer.body is None:
                yield Absent(answer.error or "unexpected_error", answer.detail)
            else:
                yield self._make(answer.body)

    def _local(self, url: str) -> Stored | Absent:
        try:
            if url.startswith("data:"):
                return self._make(_decode_data_url(url))
            if self._folder is None:
                return Absent("bad_url", f"{url[:100]!r} is no http(s) URL")
            return self._make(read_file(self._folder, url))
        except UnreadableError as err:
            return Absent(err.error, err.detail)


def _unique(urls: Sequence[str]) -> list[str]:
    """The URLs of a document that are asked for, each once."""
    return list(dict.fromkeys(urls[:MAX_IMAGES]))


def _place_answers(urls: Sequence[str], answers: Iterator[Stored | Absent]) -> list[Stored | Absent]:
    """The next answers, one for each of a document's URLs, in the places of its images; no more than it may hold."""
    left = MAX_DOCUMENT_BYTES
    got: dict[str, Stored | Absent] = {}
    for url in _unique(urls):
        answer = next(answers)
        if isinstance(answer, Stored):
            left -= len(answer.data)
            answer = answer if left >= 0 else Absent("too_many_bytes", f"more than {MAX_DOCUMENT_BYTES} in a document")
        got[url] = answer
    over = Absent("too_many_images", f"a document's images after the first {MAX_IMAGES}")
    return [got.get(url, over) for url in urls]


def _is_remote(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


def _decode_data_url(url: str) -> bytes:
    """The bytes of a `data:` URL (RFC 2397). Raises UnreadableError."""
    head, comma, body = url.partition(",")
    raw = unquote_to_bytes(body)
    if not comma or not head.endswith(";base64"):
        return raw
    try:
        return base64.b64decode(raw, validate=False)
    except binascii.Error as err:
        raise UnreadableError("bad_url", f"data: {err}") from None


def _image(body: bytes) -> Stored | Absent:
    """The image as it came, its size told by its header; what no decoder will open is absent."""
    ext, error = sniff(body)
    if ext is None:
        return Absent(error or "not_an_image", f"starts with {body[:16]!r}")
    found = header(body)
    if found.error is not None:
        return Absent(found.error, found.detail)
    return Stored(body, ext, found.width, found.height)


def _picture(side_px: int, fonts: Sequence[str], body: bytes) -> Stored | Absent:
    """The image as PNG where it is an SVG or a GIF, else as it came."""
    ext = sniff(body)[0]
    if ext == "svg":
        try:
            return _image(draw_svg(body, side_px, fonts))
        except ImageError as err:
            return Absent(err.error, err.detail)
    if ext != "gif":
        return _image(body)
    found = decode(body)
    if found.image is None:
        return Absent(found.error or "decode_error", found.detail)
    found.image.save(png := io.BytesIO(), "PNG")
    return _image(png.getvalue())
