"""Bad input, through the real command line: it stops no run, is lost from no count, and is named in the funnel."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Outcome, Workplace
from hostile import JPEG, Site, cut_off, endless, hang, hang_up, trickle
from PIL import Image


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    server.pages["/ok"] = ("200 OK", ("Content-Type: image/jpeg",), JPEG)
    yield server
    server.close()


def urls(place: Workplace, rows: list[tuple[str, str]], **more: Any) -> Path:
    """A recipe over a table of these URLs and captions."""
    lines = [json.dumps({"url": url, "text": text}) for url, text in rows]
    (place.root / "urls.jsonl").write_text("\n".join(lines) + "\n")
    download = {"allow_private": ["127.0.0.1"], "retries": 0, "timeout_s": 1, "max_bytes": 1 << 20}
    source = {"type": "urls", "path": str(place.root / "urls.jsonl")}
    return place.recipe(source=source, **({"download": download} | more))


def conserved(found: Outcome) -> dict[str, dict[str, Any]]:
    """The funnel by step; every step's counts add up, and each takes in what the last one kept."""
    steps = list(found.steps.values())
    for line in steps:
        assert line["in"] == line["kept"] + sum(line["dropped"].values()) + sum(line["failed"].values())
    assert [s["in"] for s in steps[1:]] == [s["kept"] for s in steps[:-1]]
    assert found.json["samples"] == steps[-1]["kept"]
    return found.steps


LOOP = ("302 Found", ("Location: /bad",), b"")
AWAY = ("302 Found", ("Location: http://169.254.169.254/latest/meta-data",), b"")
FILE = ("302 Found", ("Location: file:///etc/passwd",), b"")
HTML = ("200 OK", ("Content-Type: image/jpeg",), b"<!DOCTYPE html><html><body>please log in</body></html>")


@pytest.mark.parametrize(
    ("page", "error"),
    [
        (hang, "timeout"),
        (trickle, "timeout"),
        (endless, "body_too_large"),
        (cut_off, "truncated_body"),
        (hang_up, "connection_reset"),
        (LOOP, "redirect_loop"),
        (AWAY, "private_address"),
        (FILE, "forbidden_scheme"),
        (HTML, "html_instead_of_image"),
        (("200 OK", ("Content-Type: image/jpeg",), b""), "empty_body"),
        (("404 Not Found", (), b"gone"), "http_404"),
        (("200 OK", ("X-Robots-Tag: noai",), JPEG), "opt_out"),
    ],
)
def test_server_that_misbehaves_costs_its_row_and_is_named(place: Workplace, site: Site, page: Any, error: str) -> None:
    site.pages["/bad"] = page
    rows = [(site.url("/ok"), "one"), (site.url("/bad"), "two"), (site.url("/ok"), "three")]
    line = conserved(place.run(urls(place, rows)))["ingest"]
    assert (line["in"], line["kept"], line["failed"]) == (3, 2, {error: 1})


@pytest.mark.parametrize(
    ("url", "error"),
    [("file:///etc/passwd", "forbidden_scheme"), ("nonsense", "bad_url"), ("", "missing_url"),
     ("http://10.0.0.1/a.png", "private_address"), ("http://a\ud800.example/", "bad_encoding")],
)  # fmt: skip
def test_url_that_may_not_be_fetched_costs_its_row_and_is_named(
    place: Workplace, site: Site, url: str, error: str
) -> None:
    rows = [(site.url("/ok"), "one"), (url, "two"), (site.url("/ok"), "three")]
    assert conserved(place.run(urls(place, rows)))["ingest"]["failed"] == {error: 1}


def test_retry_asks_only_for_failed_urls_and_takes_in_what_came(place: Workplace, site: Site) -> None:
    """Only the failed URLs are tried again and what came is taken in."""
    rows = [(site.url(f"/{n}"), f"caption {n}") for n in range(6)]
    site.pages |= {f"/{n}": ("200 OK", (), JPEG) if n < 3 else ("404 Not Found", (), b"") for n in range(6)}
    path = urls(place, rows, steps=[{"op": "image_size"}], shard_samples=4)
    assert conserved(place.run(path))["ingest"]["failed"] == {"http_404": 3}
    asked = len(site.requests)
    site.pages |= {f"/{n}": ("200 OK", (), JPEG) for n in range(3, 5)}
    again = place.curate("retry", path, "--inline")
    assert again.code == 0 and "3 failed URLs tried again, 2 came" in again.stdout
    assert sorted(path for _, path, *_ in site.requests[asked:]) == ["/3", "/4", "/5"]
    steps = conserved(place.run(path))
    assert steps["ingest"]["failed"] == {"http_404": 1} and steps["image_size"]["computed"] == 2
    assert place.curate("verify", place.dataset).code == 0
    told = {t["origin"]: (t["outcome"], t["attempts"]) for t in place.explained()}
    assert told[rows[0][0]] == ("kept", 1) and told[rows[4][0]] == ("kept", 2) and told[rows[5][0]] == ("failed", 2)


def test_run_that_gave_up_is_mended_by_a_setting_and_a_retry(place: Workplace, site: Site) -> None:
    path = urls(place, [(site.url("/ok"), "one"), ("ftp://x/a.png", "two")], download={})
    found = place.run(path)
    assert found.code == 1 and "private_address" in found.stderr and "curate retry" in found.stderr
    allowed = ("--set", "download.allow_private=[127.0.0.1]")
    again = place.curate("retry", path, *allowed, "--inline")
    assert again.code == 0 and "1 failed URLs tried again, 1 came" in again.stdout, again.stderr
    assert conserved(place.run(path, *allowed))["ingest"]["failed"] == {"forbidden_scheme": 1}
    nothing = place.curate("retry", path, *allowed, "--inline")
    assert nothing.code == 0 and nothing.stdout.startswith("nothing to try again"), nothing.stdout


def test_run_whose_failures_pass_the_limit_stops_and_says_what_to_do(place: Workplace, site: Site) -> None:
    pages = {"/gone": ("404 Not Found", (), b""), "/html": HTML, "/loop": ("302 Found", ("Location: /loop",), b"")}
    site.pages |= pages
    counts = {"/ok": 4, "/gone": 3, "/html": 2, "/loop": 1}
    rows = [(site.url(f"{page}?{n}"), f"{page} {n}") for page, count in counts.items() for n in range(count)]
    rows.append((site.url("/bad"), "x"))
    site.pages["/bad"] = ("403 Forbidden", (), b"")
    path = urls(place, rows, limits={"failed": 0.5}, shard_samples=100)
    found = place.run(path)
    assert found.code == 1 and not place.dataset.exists()
    told = [line.strip() for line in found.stderr.splitlines() if line.startswith("  ")]
    assert "7 of 11 rows failed, more than limits.failed = 0.5 allows" in found.stderr
    assert [line.partition(" ")[0] for line in told[:2]] == ["http_404:", "html_instead_of_image:"] and len(told) == 3
    assert all(len(line.partition(". ")[2]) > 10 for line in told)
    assert conserved(place.run(path, "--set", "limits.failed=0.7"))["ingest"]["kept"] == 4


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def svg() -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


BROKEN = {
    "bomb": (bomb(), "image_too_large"),
    "empty": (b"", "empty_file"),
    "html": (b"<html>not found</html>", "html_instead_of_image"),
    "words": (b"just words", "not_an_image"),
    "cut": (JPEG[: len(JPEG) // 2], "truncated_image"),
    "svg": (svg(), "unsupported_format"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_image_costs_its_row_and_is_named(place: Workplace, name: str) -> None:
    place.images(4)
    data, error = BROKEN[name]
    (place.src / f"{name}.png").write_bytes(data)
    (place.src / f"{name}.txt").write_text("a caption")
    place.write_module("looks", LOOKS)
    found = place.run(place.recipe(steps=[{"op": "looks:look"}]))
    steps = conserved(found)
    assert steps["ingest"]["in"] == 5 and steps["look"]["kept"] == 4
    assert (steps["ingest"]["failed"] or steps["look"]["failed"]) == {error: 1}


LOOKS = '''
import pyarrow as pa
from curate.ops import op

@op(reads="image", writes={"wide": pa.int32()}, version=1)
def look(images):
    """Decodes."""
    return {"wide": [i.width for i in images]}
'''


@pytest.mark.parametrize("mode", ["CMYK", "P", "I;16", "LA", "1"])
def test_unusual_images_are_taken_on_purpose(place: Workplace, mode: str) -> None:
    image = Image.new(mode, (30, 20))
    image.save(body := io.BytesIO(), "JPEG" if mode == "CMYK" else "PNG")
    (place.src / "a.png").write_bytes(body.getvalue())
    (place.src / "a.txt").write_text("a caption")
    place.write_module("looks", LOOKS)
    steps = [{"op": "looks:look"}, {"op": "image_ok", "keep": {"image_ok": {"is": True}}}]
    assert conserved(place.run(place.recipe(steps=steps)))["image_ok"]["kept"] == 1


CAPTIONS = {
    "megabyte": "a word " * 150_000,
    "one word of a megabyte": "x" * (1 << 20),
    "nul": "a\0b",
    "control": "a\x01\x1b[31mred\x7f \u202eback",
    "newlines": "one\r\ntwo\n\nthree",
    "empty": "",
    "emoji": "\U0001f469\u200d\U0001f4bb " * 10,
    "noncharacter": "\ufffe\uffff",
}


@pytest.mark.parametrize("name", sorted(CAPTIONS))
def test_strange_caption_is_carried_as_it_is_or_dropped_by_a_named_rule(place: Workplace, name: str) -> None:
    place.images(1)
    text = CAPTIONS[name]
    (place.root / "captions.jsonl").write_text(json.dumps({"image": "00000.png", "text": text}))
    source = {"type": "folder", "path": str(place.src), "captions": str(place.root / "captions.jsonl")}
    steps = [{"op": "text_basic"}, {"op": "language"}]
    conserved(place.run(place.recipe(source=source, steps=steps)))
    with tarfile.open(place.dataset / "00000.tar") as tar:
        (member,) = [m for m in tar if m.name.endswith(".txt")]
        assert tar.extractfile(member).read().decode() == text  # type: ignore[union-attr]
    steps[0]["keep"] = {"characters": {"min": 1, "max": 500}, "control_characters": {"max": 0}}  # type: ignore[assignment]
    dropped = conserved(place.run(place.recipe(source=source, steps=steps)))["text_basic"]["dropped"]
    expected = {"megabyte": "characters.max", "one word of a megabyte": "characters.max", "empty": "characters.min",
                "noncharacter": "characters.min", "nul": "control_characters.max",
                "control": "control_characters.max"}  # fmt: skip
    assert dropped == ({expected[name]: 1} if name in expected else {})
    shown = place.curate("explain", "", "--out", place.out)
    assert shown.code == 0 and not set("\0\x01\x1b\x7f\u202e") & set(shown.stdout)


def test_table_with_broken_rows_loses_none_of_them(place: Workplace, site: Site) -> None:
    good = f"{site.url('/ok')},fine"
    table = f'url,text\n{good} 1\nonly one field\n{good} 2\na,b,c\n{site.url("/ok")},"open\n{good} 3\n'
    table += f'{site.url("/ok")},"quoted, as csv is"\n'
    (place.root / "t.csv").write_bytes(table.encode() + f"{site.url('/ok')},caf\xe9\n".encode("latin-1"))
    source = {"type": "urls", "path": str(place.root / "t.csv")}
    path = place.recipe(source=source, download={"allow_private": ["127.0.0.1"]}, limits={"failed": 1})
    line = conserved(place.run(path))["ingest"]
    assert (line["in"], line["kept"], line["failed"]) == (8, 4, {"bad_row": 3, "bad_encoding": 1})


def test_truncated_and_a_corrupt_tar_lose_only_what_is_broken(place: Workplace) -> None:
    for name in ("cut.tar", "bad.tar", "good.tar"):
        with tarfile.open(place.root / name, "w") as tar:
            for n in range(4):
                for part, body in (("png", place.png(seed=n)), ("txt", b"words")):
                    (member := tarfile.TarInfo(f"{name}-{n}.{part}".replace(".tar", ""))).size = len(body)
                    tar.addfile(member, io.BytesIO(body))
    cut, bad = (bytearray((place.root / n).read_bytes()) for n in ("cut.tar", "bad.tar"))
    (place.root / "cut.tar").write_bytes(cut[: cut.index(b"cut-3") + 100])
    bad[(at := bad.index(b"bad-3") & ~511) : at + 300] = b"\xff" * 300
    (place.root / "bad.tar").write_bytes(bad)
    (place.root / "not.tar").write_bytes(b"<html>not found</html>" * 100)
    (place.root / "zero.tar").write_bytes(b"")
    source = {"type": "webdataset", "path": str(place.root / "*.tar")}
    line = conserved(place.run(place.recipe(source=source, limits={"failed": 1})))["ingest"]
    assert line["kept"] >= 4 + 2 + 2
    assert line["failed"]["corrupt_tar"] == 2 and line["failed"]["truncated_tar"] == 2


def small_disk(place: Workplace, mebibytes: int) -> Path | None:
    """A file system with so little room, where we may mount one."""
    folder = place.root / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "curate-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return folder if done.returncode == 0 else None


def big_images(place: Workplace, count: int) -> None:
    for n in range(count):
        (place.src / f"{n}.png").write_bytes(place.png(200, 200, n))
        (place.src / f"{n}.txt").write_text(f"noise {n}")


STEPS = [{"op": "image_size"}, {"op": "text_basic", "keep": {"word_count": {"min": 1}}}]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("mebibytes", [*(pytest.param(n, marks=pytest.mark.robust) for n in (1, 6)), 4])
def test_full_disk_stops_the_run_and_with_room_it_goes_on(place: Workplace, mebibytes: int) -> None:
    big_images(place, 30)
    disk = small_disk(place, mebibytes)
    if disk is None:
        pytest.skip("no right to mount here")
    try:
        place.run(place.recipe(steps=STEPS))
        expected = place.published()
        place.out = disk / "out"
        path = place.recipe(steps=STEPS, out=str(place.out))
        found = place.command("run", path, "--inline")
        assert found.code == 1 and "No space left on device" in found.stderr and "Traceback" not in found.stderr
        assert not list(disk.rglob("*.tmp")) and not place.dataset.exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert place.command("run", path, "--inline").code == 0
        assert place.published() == expected and place.leftovers() == []
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_file_that_may_not_grow_stops_the_run_and_with_room_it_goes_on(place: Workplace) -> None:
    big_images(place, 12)
    place.run(place.recipe(steps=STEPS))
    expected = place.published()
    place.out = place.root / "limited"
    path = place.recipe(steps=STEPS, out=str(place.out))
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, {resource.RLIM_INFINITY}))"
    code = f"{limit}; from pipelines.__main__ import start; start()"
    command = [sys.executable, "-c", code, "run", str(path), "--inline"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 1 and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert not list(place.out.rglob("*.tmp")) and not place.dataset.exists()
    assert place.run(path).code == 0
    assert place.published() == expected


def test_pool_that_was_damaged_is_found_by_verify(place: Workplace) -> None:
    place.images(5)
    place.run(place.recipe())
    assert place.curate("verify", place.dataset).code == 0
    tar = place.dataset / "00000.tar"
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    with suppress(PermissionError):
        tar.write_bytes(data)
    found = place.curate("verify", place.dataset)
    assert found.code == 1 and "00000.tar" in found.stderr


def test_out_that_is_a_pattern_is_refused(place: Workplace) -> None:
    place.images(1)
    found = place.run(place.recipe(out=str(place.root / "run[1]")))
    assert found.code == 1 and "run[1] is a pattern" in found.stderr


def test_two_ops_of_one_s_own_with_the_same_name_share_no_values(place: Workplace) -> None:
    place.images(3)
    for name, value in (("mine", 1), ("yours", 2)):
        text = f"""
import pyarrow as pa
from curate.ops import op

@op(reads="text", writes={{"score": pa.int64()}}, version=1)
def score(texts):
    return {{"score": [{value}] * len(texts)}}
"""
        place.write_module(f"{name}_scores", text)
        keep = {"score": {"is": value}}
        assert place.run(place.recipe(steps=[{"op": f"{name}_scores:score", "keep": keep}])).json["samples"] == 3
