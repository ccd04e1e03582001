"""Learn `curate/weights/html-trees.json`, the weights of main-text selection, from labelled pages.

    python bench/html_weights.py --pages wcxb/dev readability/test/test-pages trafilatura/tests \\
        tests/pages [--check]

Each --pages is a folder of pages in a layout of `bench/html_sets.py`. A text counts as wanted by the share of its runs
of three words that the known text has; where snippets alone are known, the texts that have one count, and no others.
All texts of a page together weigh one, however long it is, on tests/pages four. Pages of two manuals (materials) are
learned as the rules alone read them. Oblivious trees are boosted on the logistic loss; all that is written is whole
numbers. The same pages give the same file. --check writes nothing: it holds out a third in turn, and prints the word
F1 of what was held out beside that of the rules.

The weights here were learned from WCXB's `dev` (Foley 2026, CC BY 4.0), mozilla/readability's and adbar/trafilatura's
test pages; no page or sentence of them is part of this project.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from html_sets import Labelled, read, words

from curate.html import PageError, walk_page
from curate.html.evidence import text_features
from curate.html.select import select_by_rules

OUT = Path(__file__).resolve().parent.parent / "curate" / "weights" / "html-trees.json"
TREES, DEPTH, RATE, SMOOTHING = 80, 3, 0.2, 1e-4
BINS = 48
UNIT = 1000  # of a leaf's value, so that it is a whole number
LEAST = 0
SHARE_OF_ROWS, SHARE_OF_COLUMNS = 0.7, 0.5
MANUALS = {"gimp-help-en": 5, "installation-guide-amd64": 7}
"""Of so many of their pages one is learned."""
OWN, OWN_WEIGHT = "pages", 4.0
SNIPPET_WEIGHT = 0.1

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabelledPage:
    """A page's texts: their evidence, how much of each is wanted, what the rules keep, their words; its known text."""

    rows: Array
    wanted: Array
    kept: Array
    tokens: list[list[str]]
    known: list[str]
    weights: Array


def main() -> None:
    """Learn, and write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, nargs="+", required=True)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    sets = {folder.name: examples(read(folder), folder.name == OWN) for folder in given.pages}
    sets["manuals"] = examples(manuals(), False)
    if given.check:
        check(sets)
        return
    trees = learn([each for found in sets.values() for each in found])
    names = ("columns", "limits", "values")
    found = {name: [tree[n] for tree in trees] for n, name in enumerate(names)} | {"least": LEAST}
    OUT.write_text(json.dumps(found, separators=(",", ":")) + "\n", "utf-8")


def manuals() -> Iterator[Labelled]:
    """Pages without a known text."""
    from pipelines.materials.packages import fetch

    for name, every in MANUALS.items():
        for path in sorted(fetch(name).rglob("*.html"))[::every]:
            yield Labelled(path.stem, path.read_bytes(), "")


def examples(pages: Iterator[Labelled], own: bool) -> list[LabelledPage]:
    found = (example(page, OWN_WEIGHT if own else 1.0) for page in pages)
    return [each for each in found if each]


def example(page: Labelled, weight: float) -> LabelledPage | None:
    try:
        page_of = walk_page(page.html, "https://example.org/x/")
    except PageError:
        return None
    found = page_of.found
    at = [n for n, piece in enumerate(found.pieces) if not piece.url]
    if not at:
        return None
    rules = select_by_rules(found.containers, found.pieces, (page_of.title or "").casefold())
    tokens = [words(found.pieces[n].text) for n in at]
    kept = np.array([rules.kept[n] for n in at])
    known = words(page.text) or [word for piece, keep in zip(tokens, kept, strict=True) if keep for word in piece]
    rows = text_features(found.containers, found.pieces, at, rules)
    sizes = np.array([len(piece) for piece in tokens]) ** 0.75
    weights = weight * sizes / (sizes.sum() + 20)
    if not page.without:
        return LabelledPage(rows, wanted(tokens, known), kept, tokens, known, weights)
    within, without = having(tokens, page.within), having(tokens, page.without)
    weights *= SNIPPET_WEIGHT * (within | without)
    return LabelledPage(rows, within.astype(float), kept, tokens, known, weights)


def having(tokens: Sequence[Sequence[str]], snippets: Sequence[str]) -> Array:
    """Mark the texts that have a snippet, or are a part of one."""
    found = [" ".join(words(each)) for each in snippets]
    texts = [" ".join(piece) for piece in tokens]
    return np.array([any(s and (s in t or (len(t.split()) > 2 and t in s)) for s in found) for t in texts])


def wanted(tokens: Sequence[Sequence[str]], known: Sequence[str]) -> Array:
    """The share of each text's runs of three words that are known; shorter ones must be, with a neighbour's word."""
    runs = {n: {tuple(known[at : at + n]) for at in range(len(known) - n + 1)} for n in (1, 2, 3)}
    found = []
    for n, piece in enumerate(tokens):
        if len(piece) > 3:
            found.append(sum(tuple(piece[at : at + 3]) in runs[3] for at in range(len(piece) - 2)) / (len(piece) - 2))
            continue
        around = [*(tokens[n - 1][-2:] if n else []), *piece, *(tokens[n + 1][:2] if n + 1 < len(tokens) else [])]
        near = any(tuple(around[at : at + 3]) in runs[3] for at in range(len(around) - 2))
        found.append(float(bool(piece) and near and tuple(piece) in runs[len(piece)]))
    return np.array(found)


def learn(pages: Sequence[LabelledPage]) -> list[tuple[list[int], list[int], list[int]]]:
    """Boosted trees: of each the columns it asks for, the limits, and the values of its leaves."""
    rng = np.random.default_rng(0)
    rows, y = np.concatenate([each.rows for each in pages]), np.concatenate([each.wanted for each in pages])
    weights = np.concatenate([each.weights for each in pages])
    weights /= weights.mean()
    limits = [limits_of(column) for column in rows.T]
    binned = [np.searchsorted(cuts, column) for cuts, column in zip(limits, rows.T, strict=True)]
    score, trees = np.zeros(len(y)), []
    for _ in range(TREES):
        chance = 1 / (1 + np.exp(-score))
        slopes, bends = weights * (chance - y), weights * chance * (1 - chance)
        some = np.flatnonzero(rng.random(len(y)) < SHARE_OF_ROWS)
        columns = [n for n in rng.permutation(len(limits))[: int(SHARE_OF_COLUMNS * len(limits))] if len(limits[n])]
        splits = grown([binned[n][some] for n in columns], slopes[some], bends[some])
        asked = [(columns[n], cut) for n, cut in splits]
        leaf = sum((binned[n] > cut).astype(int) << (DEPTH - 1 - level) for level, (n, cut) in enumerate(asked))
        down, curve = (np.bincount(leaf[some], each[some], 1 << DEPTH) for each in (slopes, bends))
        values = np.round(-UNIT * RATE * down / (curve + SMOOTHING * len(y))).astype(int)
        score += values[leaf] / UNIT
        trees.append(([int(n) for n, _ in asked], [int(limits[n][cut]) for n, cut in asked], values.tolist()))
    return trees


def limits_of(column: Array) -> Array:
    found = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    return found[found < column.max()]


def grown(binned: Sequence[Array], slopes: Array, bends: Array) -> list[tuple[int, int]]:
    """The splits of one tree, each the best for all leaves at once: the column's place and the bin it splits after."""
    leaf, splits = np.zeros(len(slopes), int), []
    for level in range(DEPTH):
        best = max((*gain(column, leaf, 1 << level, slopes, bends), n) for n, column in enumerate(binned))
        _, cut, n = best
        splits.append((n, cut))
        leaf = 2 * leaf + (binned[n] > cut)
    return splits


def gain(column: Array, leaf: Array, leaves: int, slopes: Array, bends: Array) -> tuple[float, int]:
    bins = int(column.max()) + 1
    if bins < 2:
        return -1.0, 0
    at, smoothing = leaf * bins + column, SMOOTHING * len(slopes)
    down, curve = (np.bincount(at, each, leaves * bins).reshape(leaves, bins) for each in (slopes, bends))
    left, left_curve = down.cumsum(1)[:, :-1], curve.cumsum(1)[:, :-1]
    right, right_curve = down.sum(1, keepdims=True) - left, curve.sum(1, keepdims=True) - left_curve
    gains = (left**2 / (left_curve + smoothing) + right**2 / (right_curve + smoothing)).sum(0)
    cut = int(gains.argmax())
    return float(gains[cut]), cut


def check(sets: dict[str, list[LabelledPage]]) -> None:
    """Word F1 of pages that were held out, and of the rules on them."""
    pages = [each for found in sets.values() for each in found]
    fold = np.random.default_rng(1).integers(0, 3, len(pages))
    scores: dict[int, float] = {}
    for held in range(3):
        trees = learn([each for each, n in zip(pages, fold, strict=True) if n != held])
        scores |= {
            id(each): f1(each, kept_by(trees, each.rows)) for each, n in zip(pages, fold, strict=True) if n == held
        }
    for name, found in sets.items():
        learned = statistics.fmean(scores[id(each)] for each in found)
        rules = statistics.fmean(f1(each, each.kept) for each in found)
        print(
            json.dumps({"set": name, "pages": len(found), "held_out_f1": round(learned, 4), "rules": round(rules, 4)})
        )


def kept_by(trees: Sequence[tuple[list[int], list[int], list[int]]], rows: Array) -> Array:
    bits = 1 << np.arange(DEPTH)[::-1]
    found: Array = sum(np.array(values)[(rows[:, columns] > limits) @ bits] for columns, limits, values in trees)
    return found > LEAST


def f1(page: LabelledPage, keep: Array) -> float:
    got = Counter(word for piece, kept in zip(page.tokens, keep, strict=True) if kept for word in piece)
    return 2 * (got & Counter(page.known)).total() / max(1, got.total() + len(page.known))


if __name__ == "__main__":
    main()
