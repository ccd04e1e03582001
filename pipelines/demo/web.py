"""Make the demo's raw web: real drawings with real names, and what every crawl contains.

`build` writes a table of URLs and the files behind them; `demo_server.serve` serves them on loopback; what was planted
stands in each row's label, so that `demo_truth` can tell how well each rule did. The same seed makes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.commit import commit_text, dump_json
from pipelines.demo.copies import WAYS, make_copy, same_pictures, shrink
from pipelines.materials.drawings import FRAMES, LANGUAGES, Drawing, has_tone, held_out, twemoji
from pipelines.materials.packages import fetch

VERSION = 1
SEED = 7
PORT = 8697
"""URLs name the port and a sample's uid is made from its URL, so it is fixed; another port is another pool."""

ROLES = {
    "swapped": 0.14,
    "other_language": 0.20,
    "boilerplate": 0.02,
    "mislabelled": 0.03,
    "flaky": 0.03,
    "moved": 0.03,
}
"""Shares of the drawings whose own row is changed; the rest are clean."""

EXTRAS = {
    "copy": 320,
    "tiny": 60,
    "truncated": 30,
    "empty": 15,
    "html": 20,
    "not_an_image": 10,
    "bomb": 4,
    "dead": 90,
    "slow": 8,
    "opt_out": 25,
}
"""Further rows, each made from a clean drawing."""

BOILERPLATE = (
    "IMG_2031.JPG",
    "DSC00417.jpg",
    "image",
    "untitled",
    "click to enlarge",
    "Image not available",
    "photo 3",
)
DEAD = (404, 404, 404, 404, 404, 410, 410, 500, 0)
"""Statuses of dead URLs in turn; 0 is a port that nobody listens on."""


@dataclass(frozen=True)
class WebAnswer:
    """The server's answer for one path: `act` is file, status, hang, drip, flaky or moved; `file` is below files/."""

    act: str = "file"
    file: str = ""
    content_type: str = "image/png"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    location: str = ""


@dataclass(frozen=True)
class WebPage:
    """One row of the raw web: its path and caption, its label, how it is answered, and the bytes behind it if any."""

    path: str
    caption: str
    label: Mapping[str, Any]
    answer: WebAnswer = WebAnswer()
    data: bytes | None = None


@dataclass(frozen=True)
class DemoWeb:
    """A built raw web: the table of URLs (url, caption, label), the folder to serve, how much of what is planted."""

    table: Path
    served: Path
    plants: dict[str, int]
    port: int


def build(folder: Path, seed: int = SEED, port: int = PORT, cache: Path | None = None) -> DemoWeb:
    """Write the raw web into `folder`, or find it there. Raises PackageUnavailableError.

    A finished build is known by its `web.json`; one that was cut short is made again from nothing.
    """
    made_by = {"version": VERSION, "seed": seed, "port": port}
    marker = folder / "web.json"
    web = DemoWeb(folder / "urls.parquet", folder / "served", {}, port)
    if marker.exists():
        found = json.loads(marker.read_text(encoding="utf-8"))
        if found["made_by"] == made_by:
            return DemoWeb(web.table, web.served, found["plants"], port)
        marker.unlink()
    shutil.rmtree(web.served, ignore_errors=True)
    pages = make_pages(twemoji(fetch("twemoji", cache), fetch("emoji-names", cache)), seed)
    _write_served(pages, web.served)
    _write_table(pages, web.table, port)
    plants = dict(sorted(Counter(page.label["plant"] for page in pages).items()))
    commit_text(marker, dump_json({"made_by": made_by, "plants": plants}))
    return DemoWeb(web.table, web.served, plants, port)


def make_pages(drawings: Sequence[Drawing], seed: int) -> list[WebPage]:
    """Make the rows of the raw web, in the table's order: drawings without skin tones, each once, and the extras."""
    plain = [drawing for drawing in drawings if not has_tone(drawing.code)]
    pictures = same_pictures([drawing.file for drawing in plain])
    things = [Thing(drawing, picture, seed) for drawing, picture in zip(plain, pictures, strict=True)]
    shuffled = sorted(things, key=lambda thing: thing.draw("role"))
    pages: list[WebPage] = []
    start = 0
    for role, share in ROLES.items():
        end = start + round(share * len(shuffled))
        pages += [_own_row(thing, role, shuffled) for thing in shuffled[start:end]]
        start = end
    clean = shuffled[start:]
    pages += [_own_row(thing, "clean", shuffled) for thing in clean]
    for plant, count in EXTRAS.items():
        chosen = sorted(clean, key=lambda thing, plant=plant: thing.draw(plant))[:count]  # type: ignore[misc]
        pages += [EXTRA_MAKERS[plant](thing, number) for number, thing in enumerate(chosen)]
    return sorted(pages, key=lambda page: _number(seed, "order", page.path))


@dataclass(frozen=True)
class Thing:
    """A drawing with the picture it shows (drawings that look the same share one) and its keyed randomness."""

    drawing: Drawing
    picture: str
    seed: int

    @property
    def code(self) -> str:
        """The thing's plain code."""
        return self.drawing.code

    def draw(self, what: str) -> int:
        """64 bits that depend on (seed, what, thing) only."""
        return _number(self.seed, what, self.code)

    def rng(self, what: str) -> np.random.Generator:
        """Randomness that depends on (seed, what, thing) only."""
        return np.random.Generator(np.random.Philox(key=self.draw(what)))

    def caption(self, language: str = "en", what: str = "frame") -> str:
        """The thing's name in a frame of `language`."""
        frames = FRAMES[language]
        return frames[self.draw(what) % len(frames)].format(self.drawing.names[language])

    def data(self) -> bytes:
        """The drawing's own file."""
        return self.drawing.file.read_bytes()

    def label(self, plant: str, **more: Any) -> dict[str, Any]:
        """The label of a row that shows this thing."""
        return {"plant": plant, "thing": self.code, "picture": self.picture, "known": not held_out(self.code)} | more


def _number(seed: int, *parts: str) -> int:
    key = "\0".join((str(seed), *parts)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


def _own_row(thing: Thing, role: str, things: Sequence[Thing]) -> WebPage:
    """The row of a drawing itself: clean, or with its caption or its serving changed."""
    path, data, caption = f"/pictures/{thing.code}.png", thing.data(), thing.caption()
    answer = WebAnswer(file=f"{thing.code}.png")
    label = thing.label(role)
    if role == "swapped":
        other = _another(thing, things)
        caption = other.caption()
        label |= {"caption_of": other.code, "caption_known": not held_out(other.code)}
    elif role == "other_language":
        language = _other_language(thing)
        caption = thing.caption(language)
        label |= {"language": language}
    elif role == "boilerplate":
        caption = BOILERPLATE[thing.draw(role) % len(BOILERPLATE)]
    elif role == "mislabelled":
        path, answer = f"/pictures/{thing.code}.jpg", WebAnswer(file=f"{thing.code}.png", content_type="image/jpeg")
    elif role == "flaky":
        answer = WebAnswer("flaky", f"{thing.code}.png", status=503)
    elif role == "moved":
        return WebPage(
            f"/old/{thing.code}.png", caption, label, WebAnswer("moved", location=path, file=answer.file), data
        )
    return WebPage(path, caption, label, answer, data)


def _another(thing: Thing, things: Sequence[Thing]) -> Thing:
    """A thing of another picture and another name, by the thing's own randomness."""
    rng = thing.rng("swapped")
    while True:
        other = things[int(rng.integers(len(things)))]
        if other.picture != thing.picture and other.drawing.names["en"] != thing.drawing.names["en"]:
            return other


def _other_language(thing: Thing) -> str:
    languages = [name for name in LANGUAGES if name != "en" and name in thing.drawing.names]
    return languages[thing.draw("language") % len(languages)]


def _copy(thing: Thing, number: int) -> WebPage:
    way = WAYS[number % len(WAYS)]
    made = make_copy(thing.data(), way, thing.rng("copy"))
    name = f"{thing.code}-copy.{made.ext}"
    answer = WebAnswer(file=name, content_type=made.content_type)
    return WebPage(f"/copies/{name}", thing.caption(what="copy"), thing.label("copy", how=way), answer, made.data)


def _tiny(thing: Thing, number: int) -> WebPage:
    side = (1, 8, 16, 24)[number % 4]
    name = f"{thing.code}-{side}px.png"
    data = shrink(thing.data(), side)
    return WebPage(f"/thumbs/{name}", thing.caption(), thing.label("tiny"), WebAnswer(file=name), data)


def _truncated(thing: Thing, number: int) -> WebPage:
    data = thing.data()
    if number % 2:
        data = make_copy(data, "jpeg", thing.rng("truncated")).data
    name = f"{thing.code}-cut.{'jpg' if number % 2 else 'png'}"
    kind = "image/jpeg" if number % 2 else "image/png"
    cut = data[: int(len(data) * thing.rng("cut").uniform(0.3, 0.8))]
    return WebPage(
        f"/broken/{name}", thing.caption(), thing.label("truncated"), WebAnswer(file=name, content_type=kind), cut
    )


def _empty(thing: Thing, _: int) -> WebPage:
    name = f"{thing.code}-empty.png"
    return WebPage(f"/broken/{name}", thing.caption(), thing.label("empty"), WebAnswer(file=name), b"")


def _html(thing: Thing, _: int) -> WebPage:
    name = f"{thing.code}-page.jpg"
    page = f"<!DOCTYPE html><html><head><title>Sign in</title></head><body>{thing.drawing.names['en']}</body></html>"
    answer = WebAnswer(file=name, content_type="image/jpeg")
    return WebPage(f"/broken/{name}", thing.caption(), thing.label("html"), answer, page.encode())


def _not_an_image(thing: Thing, _: int) -> WebPage:
    name = f"{thing.code}-noise.png"
    data = b"\x01" + thing.rng("noise").bytes(400)
    return WebPage(f"/broken/{name}", thing.caption(), thing.label("not_an_image"), WebAnswer(file=name), data)


def _bomb(thing: Thing, _: int) -> WebPage:
    name = f"{thing.code}-large.png"
    return WebPage(f"/broken/{name}", thing.caption(), thing.label("bomb"), WebAnswer(file=name), bomb_png(60_000))


def bomb_png(side_px: int) -> bytes:
    """Make a PNG of a few hundred bytes whose header says `side_px` x `side_px`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _dead(thing: Thing, number: int) -> WebPage:
    status = DEAD[number % len(DEAD)]
    answer = WebAnswer("status", status=status)
    return WebPage(f"/gone/{thing.code}.png", thing.caption(), thing.label("dead", status=status), answer)


def _slow(thing: Thing, number: int) -> WebPage:
    answer = WebAnswer(("hang", "drip")[number % 2])
    return WebPage(f"/slow/{thing.code}.png", thing.caption(), thing.label("slow"), answer)


def _opt_out(thing: Thing, _: int) -> WebPage:
    name = f"{thing.code}-reserved.png"
    answer = WebAnswer(file=name, headers={"X-Robots-Tag": "noai, noimageai"})
    return WebPage(f"/reserved/{name}", thing.caption(), thing.label("opt_out"), answer, thing.data())


EXTRA_MAKERS: dict[str, Callable[[Thing, int], WebPage]] = {
    "copy": _copy,
    "tiny": _tiny,
    "truncated": _truncated,
    "empty": _empty,
    "html": _html,
    "not_an_image": _not_an_image,
    "bomb": _bomb,
    "dead": _dead,
    "slow": _slow,
    "opt_out": _opt_out,
}


def _write_served(pages: Iterable[WebPage], served: Path) -> None:
    files = served / "files"
    files.mkdir(parents=True)
    answers: dict[str, WebAnswer] = {}
    for page in pages:
        answers[page.path] = page.answer
        if page.answer.location:
            answers[page.answer.location] = WebAnswer(file=page.answer.file)
        if page.data is not None:
            (files / page.answer.file).write_bytes(page.data)
    commit_text(served / "answers.json", dump_json({path: asdict(answer) for path, answer in answers.items()}))


def _write_table(pages: Sequence[WebPage], path: Path, port: int) -> None:
    table = pa.table(
        {
            "url": [f"http://127.0.0.1:{_port(page, port)}{page.path}" for page in pages],
            "caption": [page.caption for page in pages],
            "label": [json.dumps(page.label, sort_keys=True) for page in pages],
        }
    )
    pq.write_table(table, path)


def _port(page: WebPage, port: int) -> int:
    """The server's port, or for a host that is gone the discard port, on which nothing answers."""
    return 9 if page.answer.act == "status" and page.answer.status == 0 else port
