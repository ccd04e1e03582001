"""Whatever happened in a folder before - a source that grew or shrank, other rules, retries, kills at any change of the
disk - the next whole run publishes what a run from nothing does."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import Workplace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CHANGES = ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync")


class Killed(BaseException):
    """The process is dead: nothing that it still wants of the disk is done."""


@contextmanager
def death_at(change: int) -> Iterator[list[int]]:
    """Let the process die at a change of the disk, counted from 1; 0 lets it live. Yields a list of the counted."""
    seen = [0]

    def watched(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen[0] += 1
            if 0 < change <= seen[0]:
                raise Killed
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, watched(getattr(os, name)))
        yield seen


class Web(http.server.BaseHTTPRequestHandler):
    """Serves pages, and a picture for every other path; what is called late only once it is there."""

    pages: ClassVar[dict[str, str]] = {}
    picture = b""
    late = True

    def do_GET(self) -> None:
        gone = self.late and "late" in self.path
        page = self.pages.get(self.path)
        body = b"busy" if gone else self.picture if page is None else page.encode()
        self.send_response(503 if gone else 200)
        self.send_header("Content-Type", "image/png" if page is None else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Site:
    """A workplace with a table of pages, and a server on loopback that has the pages and their pictures."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.handler = type("Handler", (Web,), {"picture": place.png(9, 9), "pages": {}})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def recipe(self, pages: list[int], min_words: int, most: int, fetched: bool, out: str = "out") -> Path:
        """Pages by their numbers, in this order; every third has a picture that is late, every seventh is late."""
        base = f"http://127.0.0.1:{self.server.server_port}"
        html = {
            n: f"<article><p>{'tide ' * (n % 5 + 2)}{n}</p><img src='{base}/{n % 4}.png'>"
            + (f"<img src='{base}/late{n}.png'>" if n % 3 == 0 else "")
            for n in pages
        }
        paths = {n: f"/late-page{n}" if n % 7 == 6 else f"/page{n}" for n in pages}
        self.handler.pages.update({paths[n]: html[n] for n in pages})  # type: ignore[attr-defined]
        rows = [json.dumps({"url": base + paths[n], "html": html[n]}) + "\n" for n in pages]
        (self.place.root / "pages.jsonl").write_text("".join(rows))
        self.place.out = self.place.root / out
        steps: list[dict[str, Any]] = [
            {"op": "html_document"},
            {"op": "text_basic", "keep": {"word_count": {"min": min_words}}},
            {"op": "image_url_counts", "keep_images": {"image_url_counts": {"max": most}}},
            {"op": "fetch_images", "keep": {"images_missing_share": {"max": 0.4}}},
            {
                "op": "image_file",
                "over": "images",
                "keep_images": {"min_side": {"min": 1}},
                "keep": {"images_kept": {"min": 1}},
            },
        ]
        source = {"type": "pages", "path": str(self.place.root / "pages.jsonl"), "html": None if fetched else "html"}
        more = {"source": source, "steps": steps, "limits": {"failed": 1.0}, "out": str(self.place.out)}
        download = {"allow_private": ["127.0.0.1"], "retries": 0}
        return self.place.recipe(kind="interleaved", shard_samples=4, download=download, **more)

    def done(self, what: str, recipe: Path) -> None:
        """A command to its end."""
        found = self.place.curate(what, recipe, "--inline")
        assert found.code == 0, found.stderr

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site(place: Workplace) -> Iterator[Site]:
    found = Site(place)
    yield found
    found.close()


def changes_of(site: Site, what: str, recipe: Path) -> int:
    """How many changes of the disk a command makes."""
    with death_at(0) as seen:
        site.done(what, recipe)
    return seen[0]


@pytest.mark.slow
@pytest.mark.systems
def test_killed_retry_before_a_group_op_is_finished_by_the_next(
    site: Site,
) -> None:
    """A retry that was killed is finished by the next though a group op stands before what fetches."""
    place, recipe = site.place, site.recipe([*range(12)], 3, 9, fetched=True)
    site.done("run", recipe)
    shutil.copytree(place.out, place.root / "before")
    site.handler.late = False  # type: ignore[attr-defined]
    count = changes_of(site, "retry", recipe)
    site.done("run", recipe)
    expected = place.published()
    for change in range(1, count + 1, 3):
        shutil.rmtree(place.out)
        shutil.copytree(place.root / "before", place.out)
        with pytest.raises(Killed), death_at(change):
            place.curate("retry", recipe, "--inline")
        site.done("retry", recipe)
        site.done("run", recipe)
        assert place.published() == expected, change


EVENTS = st.one_of(
    st.tuples(st.just("source"), st.lists(st.integers(0, 20), unique=True, min_size=1, max_size=14)),
    st.tuples(st.just("words"), st.integers(1, 5)),
    st.tuples(st.just("most"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["run", "retry"]), st.integers(0, 250)),
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, min_size=3, max_size=8), mended_at=st.integers(0, 8), fetched=st.booleans())
@pytest.mark.slow
def test_run_and_retry_give_the_bytes_of_a_run_from_nothing(
    site: Site, events: list[tuple[str, Any]], mended_at: int, fetched: bool
) -> None:
    """Whatever happened before a run and a retry end in the bytes of a run from nothing."""
    said: dict[str, Any] = {"source": [*range(9)], "words": 2, "most": 3}
    shutil.rmtree(site.place.root / "out", ignore_errors=True)
    site.handler.late = True  # type: ignore[attr-defined]

    def recipe(out: str = "out") -> Path:
        return site.recipe(said["source"], said["words"], said["most"], fetched, out)

    for number, (event, value) in enumerate([("run", 0), *events]):
        site.handler.late = number < mended_at  # type: ignore[attr-defined]
        if event in said:
            said[event] = value
            continue
        try:
            with death_at(value):
                site.place.curate(event, recipe(), "--inline")  # that there is nothing to retry is no matter here
        except Killed:
            pass
    site.handler.late = False  # type: ignore[attr-defined]
    site.done("run", recipe())
    site.done("retry", recipe())
    site.done("run", recipe())
    found = site.place.published()
    shutil.rmtree(site.place.root / "anew", ignore_errors=True)
    site.done("run", recipe("anew"))
    assert found == site.place.published()
