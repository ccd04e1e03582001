"""Pages that are searched for: what was searched for and found is told of every page, and nothing is lost unsaid."""

from __future__ import annotations

import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from chat_server import serving
from conftest import Workplace, errors

from curate.sources.search import FolderSearch, HttpSearch
from curate.sources.searched import topics_of

TOPICS = "1. Lighthouse at night\n2. **Harbour crane**\n- Zzyzx qwv\n* harbour crane\n"
BODY = {
    "light": "The lighthouse stands on a cliff and turns its lamp at night. " * 6,
    "crane": "A harbour crane lifts containers from the ship to the quay. " * 6,
    "short": "A lighthouse and a crane.",
}


def page(name: str) -> str:
    picture = f'<figure><img src="{name}.png" width="200"><figcaption>The {name}</figcaption></figure>'
    other = '<h2>Other</h2><p>Boats.</p><img src="other.png">'
    return f"<title>{name}</title><h1>{name}</h1><p>{BODY[name]}</p>{picture}{other if name == 'crane' else ''}"


@pytest.fixture
def site(place: Workplace) -> Path:
    """A folder of pages with their pictures."""
    for seed, name in enumerate(BODY):
        (place.src / f"{name}.html").write_text(page(name))
        (place.src / f"{name}.png").write_bytes(place.png(200, 150, seed))
    (place.src / "other.png").write_bytes(place.png(100, 100, 9))
    return place.src


def author(number: int, body: dict[str, Any]) -> str:
    """Names topics, and asks about pictures by the words around them."""
    asked = body["messages"][-1]["content"]
    if asked.startswith("List 3 topics"):
        return TOPICS
    text = asked.split("Text around the picture:\n")[1].split("\n\n")[0]
    return f"Question: What can be seen here?\nAnswer: {text.split('.')[0]}."


def recipe(place: Workplace, url: str, **source: Any) -> Path:
    writer = {"url": url, "model": "small", "key": None}
    said = {"type": "searched", "fields": ["the sea"], "topics": 3, "pages": 2} | source
    steps = [
        {"op": "html_document"},
        {"op": "picture_sections", "keep_images": {"section_words": {"min": 51}}, "keep": {"images_kept": {"min": 1}}},
        {"op": "fetch_images"},
        {"op": "picture_questions", "keep": {"questions": {"min": 1}}},
    ]
    download = {"allow_private": ["127.0.0.1"], "retries": 0, "timeout_s": 5}
    return place.recipe(
        kind="interleaved", llm={"writer": writer}, source=said, steps=steps, download=download, limits={"failed": 1}
    )


def published(place: Workplace) -> dict[str, Any]:
    """The samples' JSON by their origin."""
    with tarfile.open(place.dataset / "00000.tar") as tar:
        texts = [tar.extractfile(m).read() for m in tar if m.name.endswith(".json")]  # type: ignore[union-attr]
    return {one["origin"].rsplit("/", 1)[-1]: one for one in map(json.loads, texts)}


def test_every_picture_has_its_way_from_field_to_question(place: Workplace, site: Path) -> None:
    with serving(author) as server:
        done = place.run(recipe(place, server.url, folder=str(site)))
        assert done.steps["ingest"]["failed"] == {"no_page": 1}
        assert done.steps["ingest"]["dropped"] == {"unique_uid": 1}, "the short page is found twice"
        parts = done.steps["picture_sections"]["parts"]["images"]
        assert parts["in"] == 4 and parts["dropped"] == {"section_words.min": 2}
        asked = server.requests
        assert place.run(place.root / "recipe.yaml").code == 0 and server.requests == asked == 3
    found = published(place)
    assert set(found) == {"light.html", "crane.html"}
    meta = found["light.html"]["meta"]
    way = ("the sea", "Lighthouse at night", "Lighthouse at night", 1)
    assert tuple(meta[name] for name in ("field", "topic", "query", "rank")) == way
    assert meta["topic_by"]["model"] == "small"
    picture, question, answer = found["crane.html"]["segments"]
    assert picture["url"] == "crane.png" and picture["caption"] == "The crane"
    assert (question["block"], question["text"]) == ("question", "What can be seen here?")
    assert answer["block"] == "answer" and answer["text"] == BODY["crane"].split(".")[0] + "."


@contextmanager
def web(answer: Callable[[str], tuple[int, bytes]]) -> Iterator[str]:
    """A server on loopback that answers paths."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_pages_of_a_search_endpoint_are_fetched_from_their_servers(place: Workplace, site: Path) -> None:
    busy = [503]

    def answer(path: str) -> tuple[int, bytes]:
        if path.startswith("/search?"):
            if busy:
                return busy.pop(), b""
            name = "crane" if "crane" in path else "light" if "Lighthouse" in path else None
            return 200, json.dumps(
                {"results": [{"url": f"{url}/{name}.html"}, {"title": "no url"}] * bool(name)}
            ).encode()
        file = site / path.lstrip("/")
        return (200, file.read_bytes()) if file.exists() else (404, b"")

    with serving(author) as server, web(answer) as url:
        done = place.run(recipe(place, server.url, search=f"{url}/search", query="Wikipedia {topic}"))
        assert done.steps["ingest"]["kept"] == 2 and done.steps["picture_questions"]["kept"] == 2
    found = published(place)
    assert found["crane.html"]["meta"]["query"] == "Wikipedia Harbour crane"
    assert found["crane.html"]["origin"] == f"{url}/crane.html"


def test_what_is_no_search_endpoint_ends_the_run_in_a_sentence(place: Workplace) -> None:
    with serving(author) as server, web(lambda path: (200, b"{}")) as url:
        done = place.run(recipe(place, server.url, search=url))
        assert done.code == 1 and "is it a search endpoint?" in done.stderr
        assert not list(place.out.glob("pool-*/plans/*/plan.json"))
    errors(place.run(recipe(place, url, search="ftp://a")), ["search", "ftp://a"])
    errors(place.run(recipe(place, url, search="http://a", folder="b")), ["folder", "search"])


def test_a_field_whose_answer_holds_no_topics_is_a_row_that_failed(place: Workplace, site: Path) -> None:
    talk = "I would be very happy to list topics of this field for you."
    with serving(lambda n, body: talk) as server:
        done = place.run(recipe(place, server.url, folder=str(site)))
    assert done.steps["ingest"]["failed"] == {"no_topics": 1}
    rows = pq.read_table(next(place.out.glob("pool-*/rows/*.parquet"))).to_pylist()
    assert rows[0]["detail"] == talk


def test_topics_are_lines_without_their_numbers_each_once() -> None:
    assert topics_of(TOPICS, 3) == ["Lighthouse at night", "Harbour crane", "Zzyzx qwv"]
    assert topics_of("Tides, currents, and waves.", 5) == ["Tides", "currents", "and waves"]
    assert topics_of("Here are some topics that you might like to read:\n1) Tides", 5) == ["Tides"]


def test_a_search_in_a_folder_ranks_by_rare_words_and_by_length(site: Path) -> None:
    search = FolderSearch(str(site))
    assert search.find("lighthouse", 9) == ["light.html", "short.html"]
    assert search.find("the quay", 1) == ["crane.html"]
    assert search.find("nothing of it", 0) == [] and search.find("zzyzx", 9) == []


def test_a_search_endpoint_that_never_answers_is_named() -> None:
    with web(lambda path: (404, b"")) as url, pytest.raises(ValueError, match=r"gives no results.*404"):
        HttpSearch(url).find("sea", 3)
