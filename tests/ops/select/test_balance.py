"""What balancing promises: entries where they stand as words, and MetaCLIP's probabilities to the letter, by uid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from grouping import cuts, grouped

from curate.ops.select.balance import balance, entries

LISTS = pa.list_(pa.int32())


def matched(lines: list[str], *texts: str, folder: Path) -> list[list[str]]:
    path = folder / "entries.txt"
    path.write_text("\n".join(lines))
    rows = entries(entries=str(path))(texts)["entries"]
    return [[lines[number] for number in row] for row in rows]


def test_entries_are_found_as_words_where_words_have_spaces(tmp_path: Path) -> None:
    found = matched(
        ["cat", "black cat", "cats", "at", "t-shirt", "U.S.", "élan vital", "c++"],
        "A Black cat, and cats!",
        "the black-cat T-shirt of the u.s. army",
        "concatenate",
        "cat",
        "Élan\n  vital in C++",
        "",
        folder=tmp_path,
    )
    assert found == [["cat", "black cat", "cats"], ["t-shirt", "U.S."], [], ["cat"], ["élan vital", "c++"], []]


def test_entries_of_scripts_without_spaces_are_found_anywhere(tmp_path: Path) -> None:
    lines = ["北京", "天安门", "猫", "ラーメン", "แมว", "ແມວ", "ឆ្មា", "ကြောင်", "བོད", "cat"]
    texts = ["我爱北京天安门", "黒猫とラーメン", "รูปแมวดำ", "ຮູບແມວ", "រូបឆ្មា", "ကြောင်နက်", "བོད་ཡིག", "一只cat在北京"]
    found = matched(lines, *texts, folder=tmp_path)
    assert found == [["北京", "天安门"], ["猫", "ラーメン"], ["แมว"], ["ແມວ"], ["ឆ្មា"], ["ကြောင်"], ["བོད"], ["北京"]]


def test_each_entry_of_a_text_counts_once_and_the_first_of_two_lines_that_say_the_same(tmp_path: Path) -> None:
    assert matched(["dog", "", "Dog", "cat"], "dog dog DOG", folder=tmp_path) == [["dog"]]


def test_list_without_an_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no entry"):
        matched(["", "  "], "x", folder=tmp_path)


def by_the_letter(rows: list[list[int]], p: float | None, t: int | None, size: int) -> tuple[list[float], int]:
    """Probabilities as published (MetaCLIP 2), row by row: t of p, then 1 - prod(1 - t / max(count, t)); and t."""
    counts = np.zeros(size, np.int64)
    for row in rows:
        counts[row] += 1
    if t is None:
        rising = np.sort(counts)
        t = int(rising[np.abs(np.cumsum(rising) / counts.sum() - p).argmin()])
    chance = t / np.maximum(counts, t)
    return [float(1 - np.prod([1 - chance[n] for n in row])) if row else 0.0 for row in rows], t


def common(rows: int, seed: int = 0) -> list[list[int]]:
    """Entries as they come in texts: few common ones, many rare."""
    chance = np.random.default_rng(seed)
    return [sorted(set((chance.zipf(1.6, chance.integers(0, 5)) % 200).tolist())) for _ in range(rows)]


@pytest.mark.parametrize(("knobs", "p", "t"), [({}, 0.06, None), ({"tail_share": 0.3}, 0.3, None), ({"most": 9}, 0, 9)])
def test_rows_are_kept_with_the_published_probability(
    tmp_path: Path, knobs: dict[str, Any], p: float, t: int | None
) -> None:
    rows = common(3000)
    wanted, top = by_the_letter(rows, p, t, 200)
    columns = {"entries": pa.array(rows, LISTS)}
    ways = [grouped(balance, columns, tmp_path / str(n), cut, **knobs) for n, cut in enumerate(cuts(3000))]
    assert ways[0] == ways[1] == ways[2] and 1 < top < 1000
    assert ways[0]["keep_probability"] == pytest.approx(wanted, abs=1e-12)
    kept = np.array(ways[0]["balanced"])
    assert kept[np.array(wanted) == 1].all() and not kept[np.array(wanted) == 0].any()
    spread = np.sqrt(sum(q * (1 - q) for q in wanted))
    assert abs(kept.sum() - sum(wanted)) < 4 * spread


def test_each_language_has_its_own_t_by_the_tail_share_of_english(tmp_path: Path) -> None:
    english, german = common(2000, 1), common(500, 2)
    columns = {
        "entries": pa.array(english + german, LISTS),
        "language": pa.array(["en"] * 2000 + ["de"] * 500),
    }
    counts = np.bincount([n for row in english for n in row], minlength=200)
    p = counts[counts < 30].sum() / counts.sum()
    found = grouped(balance, columns, tmp_path, most=30, language="language")["keep_probability"]
    assert found[:2000] == pytest.approx(by_the_letter(english, None, 30, 200)[0], abs=1e-12)
    chances, top = by_the_letter(german, p, None, 200)
    assert found[2000:] == pytest.approx(chances, abs=1e-12) and top != 30
    with pytest.raises(ValueError, match="no row is of the language 'fr'"):
        grouped(balance, columns, tmp_path / "fr", most=30, language="language", reference="fr")


def test_tail_share_keeps_the_same_share_at_any_scale(tmp_path: Path) -> None:
    """The same texts four times over: t is four times as large, and each row's probability what it was."""
    rows = common(1000)
    once = grouped(balance, {"entries": pa.array(rows, LISTS)}, tmp_path / "1")["keep_probability"]
    fourfold = grouped(balance, {"entries": pa.array(rows * 4, LISTS)}, tmp_path / "4")["keep_probability"]
    assert fourfold == pytest.approx(once * 4)


def test_rows_without_entries_or_a_language_are_no_obstacle(tmp_path: Path) -> None:
    columns = {"entries": pa.array([[1], [], None, [1, 2]], LISTS), "language": pa.array([None, "en", None, "en"])}
    found = grouped(balance, columns, tmp_path, language="language")
    assert found["balanced"] == [True, False, False, True]
    none = {"entries": pa.array([], LISTS)}
    assert grouped(balance, none, tmp_path / "none")["balanced"] == []
