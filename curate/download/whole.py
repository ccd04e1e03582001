"""Run img2dataset as the whole back end: one call of its `download` a shard, in a process of its own.

Its output is keyed by position; ours by uid, which it carries along as a column. What it did not account for is
given a named error, so that no row is lost.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import curate
from curate.download.fetched import Fetched, sha256, sniff
from curate.download.settings import DownloadSettings
from curate.readers.urls import BadUrlError, parse_url

MAX_THREADS = 256
# img2dataset keeps only the sentence of an exception; these are the ones that have a name here.
_SENTENCES = (
    (r"infinite loop", "redirect_loop"),
    (r"unknown url type|[Rr]edirection to url", "forbidden_scheme"),
    (r"HTTP Error (\d{3})", "http_{}"),
    (r"not a public address", "private_address"),
    (r"X-Robots-Tag", "opt_out"),
    (r"body_too_large", "body_too_large"),
    (r"bad_encoding", "bad_encoding"),
    (r"got more than \d+ (?:headers|bytes)", "headers_too_large"),
    (r"timed out|timeout", "timeout"),
    (r"Name or service not known|name resolution|No address associated|nodename nor servname", "dns"),
    (r"Connection refused", "connection_refused"),
    (r"Connection reset|closed connection without response|Broken pipe|EOF occurred", "connection_reset"),
    (r"IncompleteRead", "truncated_body"),
    (r"CERTIFICATE|SSL|TLS", "tls"),
    (r"No route to host|unreachable", "unreachable"),
    (r"URL can't contain|nonnumeric port|no host given|codec can't", "bad_url"),
)


def fetch_with_img2dataset(
    rows: Iterable[tuple[str, str | None]], settings: DownloadSettings, scratch: Path | None = None
) -> Iterator[Fetched]:
    """Fetch rows by img2dataset: one Fetched a row, in their order. Raises RuntimeError if it breaks down.

    Private addresses, schemes, `max_bytes` and the time of a whole request are held to as in our own transport;
    `per_host`, the back-off between retries and Retry-After are not: it has no place for them.
    """
    shard = [(uid, url, _refusal(uid, url)) for uid, url in rows]
    with tempfile.TemporaryDirectory(prefix="img2dataset.", dir=scratch) as folder:
        wanted = [(uid, str(parse_url(url))) for uid, url, refusal in shard if refusal is None]
        found = _run(wanted, settings, Path(folder)) if wanted else {}
        tars = {name: tarfile.open(name) for name in {tar for _, tar in found.values()}}  # noqa: SIM115
        try:
            for uid, url, refusal in shard:
                yield refusal or _read_outcome(uid, url, found.get(uid), tars, settings)
        finally:
            for tar in tars.values():
                tar.close()


def _refusal(uid: str, url: str | None) -> Fetched | None:
    try:
        parse_url(url)
        return None
    except BadUrlError as err:
        return Fetched(uid, url, "failed_to_download", err.error, str(err))


def _run(
    wanted: list[tuple[str, str]], settings: DownloadSettings, folder: Path
) -> dict[str, tuple[dict[str, Any], Path]]:
    """Run img2dataset on (uid, url) rows; its metadata and tar by uid."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"uid": [uid for uid, _ in wanted], "url": [url for _, url in wanted]})
    pq.write_table(table, folder / "urls.parquet")
    order = {"settings": settings.model_dump(mode="json"), "arguments": _arguments(settings, folder, len(wanted))}
    with (folder / "log.txt").open("w+b") as log:
        command = [sys.executable, "-m", "curate.download.whole_process", json.dumps(order)]
        # Without the first variable, importing albumentations asks the network whether there is a newer one.
        path = os.pathsep.join(filter(None, (str(Path(curate.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONPATH": path}
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, check=False)
        if ended.returncode:
            log.seek(0)
            tail = log.read()[-2000:].decode("utf-8", "replace")
            raise RuntimeError(f"img2dataset ended with status {ended.returncode}; its last words:\n{tail}")
    found = {}
    for part in sorted((folder / "out").glob("*.parquet")):
        for meta in pq.read_table(part).to_pylist():
            found[str(meta["uid"])] = (meta, part.with_suffix(".tar"))
    return found


def _arguments(settings: DownloadSettings, folder: Path, rows: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "url_list": str(folder / "urls.parquet"),
        "output_folder": str(folder / "out"),
        "input_format": "parquet",
        "output_format": "webdataset",
        "save_additional_columns": ["uid"],
        "number_sample_per_shard": max(rows, 2),
        "thread_count": min(settings.concurrency, MAX_THREADS),
        "processes_count": 1,
        "timeout": settings.timeout_s,
        "retries": settings.retries,
        "user_agent_token": settings.user_agent_token,
        "disallowed_header_directives": list(settings.respect_opt_out),
        "extract_exif": False,
        "compute_hash": None,
    }
    if settings.resize is None:
        return arguments | {"disable_all_reencoding": True}
    resize = settings.resize
    return arguments | {
        "image_size": resize.size_px,
        "resize_mode": resize.mode,
        "resize_only_if_bigger": resize.only_if_bigger,
        "upscale_interpolation": resize.upscale,
        "downscale_interpolation": resize.downscale,
        "encode_quality": resize.quality,
        "encode_format": resize.format,
        "skip_reencode": resize.skip_reencode,
        "max_image_area": resize.max_pixels,
    }


def _read_outcome(
    uid: str,
    url: str | None,
    found: tuple[dict[str, Any], Path] | None,
    tars: dict[Path, tarfile.TarFile],
    settings: DownloadSettings,
) -> Fetched:
    if found is None:
        return Fetched(uid, url, "failed_to_download", "lost", "img2dataset gave no account of this row")
    meta, tar = found
    if meta["status"] != "success":
        error = _error_name(meta["error_message"], meta["status"])
        detail = str(meta["error_message"])[:500]
        code = int(error[5:]) if error.startswith("http_") else None
        return Fetched(uid, url, meta["status"], error, detail, http_status=code)
    member = tars[tar].extractfile(f"{meta['key']}.{settings.resize.format if settings.resize else 'jpg'}")
    body = member.read() if member else b""
    ext, error_of_bytes = sniff(body)
    if error_of_bytes:
        return Fetched(uid, url, "failed_to_download", error_of_bytes, "by its first bytes")
    sizes = {name: meta[name] for name in ("width", "height", "original_width", "original_height")}
    return Fetched(uid, url, "success", body=body, ext=ext, sha256=sha256(body), **sizes)


def _error_name(sentence: str | None, status: str) -> str:
    if status == "failed_to_resize":
        return "image_too_large" if "area too large" in str(sentence) else "decode_error"
    for pattern, name in _SENTENCES:
        match = re.search(pattern, str(sentence))
        if match:
            return name.format(*match.groups())
    return "download_error"
