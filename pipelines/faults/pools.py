"""Labelled pools of real pictures and texts with planted faults; the same seed makes the same pool.

What the pools are made of comes from registries by version and hash; `size` bounds the clean items of a pool.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.faults import plant
from pipelines.faults.table import CLEAN, Item, png
from pipelines.materials.drawings import FRAMES, Drawing, has_tone, held_out, is_flag, twemoji
from pipelines.materials.packages import fetch
from pipelines.materials.plain_texts import MANUALS, SAYINGS, sayings, sections
from pipelines.materials.stamps import stamps

Pool = list[Item]
STAMP_PX = 300
EDITS = (0.01, 0.02, 0.05, 0.10)
PII = Path(__file__).parents[2] / "tests" / "pii_sentences.txt"


# Pictures.


def photographs(size: int, packages: Sequence[str] = ("backgrounds", "wallpapers")) -> list[tuple[str, Image.Image]]:
    """Pieces of 400 x 300 of wallpapers, each picture's in turn; nearly blank ones (clear sky) are left out."""
    files = [
        path
        for name in packages
        for path in sorted(fetch(name).rglob("*"))
        if path.suffix in (".jpg", ".png", ".webp") and ("contents/images" in str(path) or "/gnome/" in str(path))
    ]
    found: list[list[tuple[str, Image.Image]]] = []
    for path in files:
        with Image.open(path) as opened:
            if opened.width < opened.height or "screenshot" in path.name:
                continue
            opened.draft("RGB", (1600, 900))
            whole = opened.convert("RGB").resize((1600, 900), Image.Resampling.BOX, reducing_gap=2.0)
        tiles = [
            (f"{path.parent}/{path.name}#{x},{y}", whole.crop((x, y, x + 400, y + 300)))
            for x in range(0, 1600, 400)
            for y in range(0, 900, 300)
        ]
        found.append([(name, tile) for name, tile in tiles if np.asarray(tile.convert("L")).std() > 8])
        if sum(map(len, found)) >= 4 * size:
            break
    in_turn = [tile for place in range(12) for tiles in found for tile in tiles[place : place + 1]]
    return in_turn[:size]


def drawings(size: int) -> list[tuple[str, Image.Image]]:
    """Twemoji's drawings without skin tones and flags, one a picture."""
    return [(d.code, Image.open(d.file).convert("RGBA")) for d in _plain_drawings()[:size]]


def cut_outs(size: int) -> list[tuple[str, Image.Image]]:
    """Tux Paint's stamps: photographs cut out, and drawings."""
    found = stamps(fetch("tuxpaint-stamps"), STAMP_PX)
    return [(stamp.name, stamp.image) for stamp in itertools.islice(found, size)]


def screenshots(size: int) -> list[tuple[str, Image.Image]]:
    """Screenshots of a manual's dialogs, at least 200 pixels a side; of equal ones one."""
    found: dict[bytes, tuple[str, Image.Image]] = {}
    for path in sorted(fetch("gimp-help-en").rglob("*.png")):
        with Image.open(path) as opened:
            if min(opened.size) >= 200 and max(opened.size) <= 800:
                image = opened.convert("RGB")
                found.setdefault(image.tobytes(), (str(path), image))
        if len(found) == size:
            break
    return list(found.values())


@functools.cache
def _plain_drawings() -> list[Drawing]:
    found = twemoji(fetch("twemoji"), fetch("emoji-names"))
    return [d for d in found if not has_tone(d.code) and not is_flag(d.code)]


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def distinct(pictures: Iterable[tuple[str, Image.Image]], size: int) -> list[tuple[str, Image.Image]]:
    """The first `size` pictures of which no two look alike, straight or mirrored: grey, 16 pixels a side, their
    correlation is below .8. What is natural in a collection cannot be counted against who finds it."""
    found: list[tuple[str, Image.Image]] = []
    seen = np.zeros((0, 256))
    for name, image in pictures:
        grey = np.asarray(_on_white(image).convert("L").resize((16, 16), Image.Resampling.BOX), np.float64)
        both = np.stack([_standardised(grey), _standardised(grey[:, ::-1])])
        if len(found) < size and np.ptp(grey) > 8 and (both @ seen.T).max(initial=0.0) < 0.8:
            found.append((name, image))
            seen = np.concatenate([seen, both[:1]])
    return found


def _standardised(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = (grey - grey.mean()).ravel()
    values /= max(1e-9, float(np.linalg.norm(values)))
    return values


def copies_of(pictures: Iterable[tuple[str, Image.Image]], seed: int = 7) -> Pool:
    """Each picture, and of each one copy; the kinds of copy take turns."""
    pool, kinds = [], list(plant.COPIES)
    for number, (name, image) in enumerate(pictures):
        draw, plain = np.random.default_rng([seed, number]), _on_white(image)
        kind = kinds[number % len(kinds)]
        pool.append(Item(name, CLEAN, png(plain), of=name))
        pool.append(Item(name, kind, plant.copy_of(plain, kind, draw), of=name))
    return pool


def broken_pictures(size: int, seed: int = 7) -> Pool:
    """Photographs and cut-outs as they are, and the same with each of PICTURE_FAULTS; every file is a JPEG."""
    pool = []
    for number, (name, image) in enumerate([*photographs(size // 2), *cut_outs(size - size // 2)]):
        plain = _on_white(image)
        draw = np.random.default_rng([seed, number])
        pool.append(Item(name, CLEAN, plant.stored(plain)))
        pool += [Item(name, fault, make(plain, draw)) for fault, make in plant.PICTURE_FAULTS.items()]
    return pool


# Pictures with captions.


def pairs(size: int, known: bool, seed: int = 7) -> Pool:
    """Twemoji's drawings of things that the shipped model's training knew, or left out, with their names in a frame;
    each again with another's caption, with another's caption printed across it, and with the name of a file."""
    drawn = [d for d in _plain_drawings() if held_out(d.code) != known]
    taken = drawn[:: max(1, len(drawn) // size)][:size]
    draw = np.random.default_rng(seed)
    captions = [FRAMES["en"][n % len(FRAMES["en"])].format(d.names["en"]) for n, d in enumerate(taken)]
    wrong = plant.swapped(captions, draw)
    pool = []
    for drawing, caption, other in zip(taken, captions, wrong, strict=True):
        data = drawing.file.read_bytes()
        pool.append(Item(drawing.code, CLEAN, data, caption))
        pool.append(Item(drawing.code, "swapped caption", data, other))
        printed = plant.written_over(_on_white(Image.open(drawing.file).convert("RGBA")), other)
        pool.append(Item(drawing.code, "caption printed on it", png(printed), other))
    names = [
        path.name
        for name in ("backgrounds", "openclipart-png")
        for path in sorted(fetch(name).rglob("*"))
        if path.suffix in (".png", ".jpg", ".webp")
    ]
    for drawing, name in zip(taken, draw.permutation(np.array(names)), strict=False):
        pool.append(Item(drawing.code, "file name as caption", drawing.file.read_bytes(), str(name)))
    return pool


# Texts.


def _english(size: int, least_words: int) -> list[str]:
    name = "debian-reference-en"
    both = [
        *(r["text"] for r in sections(name, fetch(name))),
        *(r["text"] for r in sayings("fortunes", fetch("fortunes")) if r),
    ]
    long = list(_distinct_texts(text for text in both if len(text.split()) >= least_words))
    return random.Random(7).sample(long, min(size, len(long)))


def paragraphs(package: str, least: int = 200, most: int = 1500) -> list[str]:
    """Prose of a manual: its paragraphs of that many characters, seven in ten of them letters."""
    whole = "\n\n".join(row["text"] for row in sections(package, fetch(package)))
    found = (" ".join(text.split()) for text in whole.split("\n\n"))
    return [text for text in found if least <= len(text) <= most and sum(map(str.isalpha, text)) > 0.7 * len(text)]


def languages(size: int, kind: str) -> Pool:
    """English texts, and those in other languages: sections of a manual (`long`), sayings of up to 120 characters
    (`short`), names of things in one to four words (`names`)."""
    by_language = {"long": _manuals, "short": _sayings, "names": _names}[kind]()
    english = _some(by_language.pop("en"), size)
    others = [t for texts in by_language.values() for t in _some(texts, max(1, size // len(by_language)))]
    return [Item(f"{n}", CLEAN, text=t) for n, t in enumerate(english)] + [
        Item(f"{n}", "other language", text=t) for n, t in enumerate(others)
    ]


def mixed_languages(size: int) -> Pool:
    """English sections, and English ones whose second half is another language's."""
    by = _manuals()
    english = _some(by.pop("en"), 2 * size)
    foreign = [t for texts in by.values() for t in _some(texts, size // len(by) + 1)]
    clean = [Item(f"{n}", CLEAN, text=t) for n, t in enumerate(english[:size])]
    halves = zip(english[size:], foreign, strict=False)
    return clean + [
        Item(f"{n}", "mixed languages", text=f"{a[: len(a) // 2]} {b[: len(a) // 2]}")
        for n, (a, b) in enumerate(halves)
    ]


def _manuals() -> dict[str, list[str]]:
    """Paragraphs by language, without those that nobody translated."""
    by = {package.removeprefix("debian-reference-"): paragraphs(package) for package in MANUALS}
    english = set(by["en"])
    return {language: [t for t in texts if language == "en" or t not in english] for language, texts in by.items()}


def _sayings() -> dict[str, list[str]]:
    by: dict[str, list[str]] = {}
    for package in SAYINGS:
        for row in sayings(package, fetch(package)):
            if row and 20 < len(row["text"]) <= 120:
                by.setdefault(row["language"], []).append(row["text"])
    return by


def _names() -> dict[str, list[str]]:
    by: dict[str, list[str]] = {}
    for drawing in _plain_drawings():
        for language, name in drawing.names.items():
            by.setdefault(language, []).append(name)
    return by


def _some(texts: Sequence[str], size: int) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    return random.Random(7).sample(distinct, min(size, len(distinct)))


def near_copies(size: int, least_words: int = 30) -> Pool:
    """English texts, and of each a copy: 1, 2, 5 or 10 % of its words edited, its sentences in another order, its last
    tenth left out, or a notice put before it; the kinds take turns."""
    texts = _english(size, least_words)
    kinds: Mapping[str, Callable[[str, np.random.Generator], str]] = {
        **{f"{round(100 * share)} % of words edited": functools.partial(_edited, share, texts) for share in EDITS},
        "sentences rearranged": lambda text, draw: plant.rearranged(text, draw),
        "last tenth left out": lambda text, draw: " ".join(text.split(" ")[: -max(1, len(text.split(" ")) // 10)]),
        "notice before it": lambda text, draw: f"This text was found on the web and is shown as it stood there. {text}",
    }
    pool = []
    for number, text in enumerate(texts):
        kind = list(kinds)[number % len(kinds)]
        pool.append(Item(f"{number}", CLEAN, text=text, of=f"{number}"))
        pool.append(Item(f"{number}", kind, text=kinds[kind](text, np.random.default_rng([7, number])), of=f"{number}"))
    return pool


def _distinct_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts that do not repeat one before them: of their runs of three words less than a third stand in it."""
    seen: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        runs = {" ".join(words[at : at + 3]) for at in range(len(words) - 2)}
        shared = Counter(other for run in runs for other in seen.get(run, ()))
        if runs and max(shared.values(), default=0) < len(runs) / 3:
            yield text
            for run in runs:
                seen.setdefault(run, []).append(number)


def _edited(share: float, texts: Sequence[str], text: str, draw: np.random.Generator) -> str:
    return plant.edited(text, share, texts, draw)


def leaks(size: int, home: Path) -> tuple[Pool, Path]:
    """Sections of a manual, and the same with an item of a benchmark in them: word for word, in other case and spaces,
    or with one word in twenty edited. The benchmark is a file of sayings, a blank line between them."""
    draw = np.random.default_rng(7)
    rows = (r["text"] for r in sayings("fortunes", fetch("fortunes")) if r)
    items = _some([t for t in rows if 20 <= len(t.split()) <= 60 and "\n\n" not in t], size)
    path = home / "benchmark.txt"
    path.write_text("\n\n".join(items), encoding="utf-8")
    texts = _some(paragraphs("debian-reference-en"), size)
    ways: Mapping[str, Callable[[str], str]] = {
        "leaked word for word": lambda item: item,
        "leaked in capitals": lambda item: "  ".join(item.split()).upper(),
        "leaked, 5 % of words edited": lambda item: plant.edited(item, 0.05, texts, draw),
    }
    pool = [Item(f"{n}", CLEAN, text=text) for n, text in enumerate(texts)]
    for number, (text, item) in enumerate(zip(texts, items, strict=False)):
        cut, way = len(text) // 2, list(ways)[number % len(ways)]
        pool.append(Item(f"{number}", way, text=f"{text[:cut]}\n{ways[way](item)}\n{text[cut:]}"))
    return pool, path


def repeated(size: int) -> Pool:
    """Sections of a manual, and the same with one of their sentences said six times more, at random places."""
    texts = _some(paragraphs("debian-reference-en"), size)
    pool = [Item(f"{n}", CLEAN, text=text) for n, text in enumerate(texts)]
    for number, text in enumerate(texts):
        pool.append(
            Item(f"{number}", "a sentence repeated", text=plant.with_refrain(text, np.random.default_rng([7, number])))
        )
    return pool


_MARK = re.compile(r"\{\{(\w+):(.*?)\}\}(?!\})")


def personal(kind: str) -> Pool:
    """The labelled sentences of the tests: those with personal data of a kind, and those without any of that kind."""
    found: Iterator[str] = (s for s in PII.read_text(encoding="utf-8").splitlines() if s and not s.startswith("#"))
    pool = []
    for number, line in enumerate(found):
        kinds = {mark[1] for mark in _MARK.finditer(line)}
        pool.append(Item(f"{number}", f"has {kind}" if kind in kinds else CLEAN, text=_MARK.sub(r"\2", line)))
    return pool


COPIES_POOLS: Mapping[str, Callable[[int], Pool]] = {
    "copies of photographs": lambda size: copies_of(distinct(photographs(2 * size), size)),
    "copies of cut-outs": lambda size: copies_of(distinct(cut_outs(2 * size), size)),
    "copies of drawings": lambda size: copies_of(distinct(drawings(2 * size), size)),
    "copies of screenshots": lambda size: copies_of(distinct(screenshots(2 * size), size)),
    "copies of texts": lambda size: near_copies(10 * size),
}


def pool(name: str, size: int, home: Path) -> tuple[Pool, dict[str, Any]]:
    """The pool of a name, and the knobs that an op must be given to find its faults; `home` holds what these name."""
    if name == "leaks":
        found, benchmark = leaks(size, home)
        return found, {"benchmarks": [str(benchmark)], "split": "\n\n"}
    first, _, rest = name.partition(": ")
    makers: Mapping[str, Callable[[], Pool]] = {
        "pictures": lambda: broken_pictures(size),
        "pairs": lambda: pairs(size, known=True),
        "pairs, unknown things": lambda: pairs(size, known=False),
        "languages, long": lambda: languages(size, "long"),
        "languages, short": lambda: languages(size, "short"),
        "languages, names": lambda: languages(size, "names"),
        "languages, mixed": lambda: mixed_languages(size),
        "repetition": lambda: repeated(size),
        "personal data": lambda: personal(rest),
    }
    return makers[first](), {}
