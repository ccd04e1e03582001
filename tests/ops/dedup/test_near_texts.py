from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.ops.dedup import near_texts
from curate.ops.dedup.near_texts import NEAR, near_duplicate_texts, text_signature
from curate.text.function_words import FUNCTION_WORDS

VOCABULARY = sorted(FUNCTION_WORDS["en"] | FUNCTION_WORDS["de"] | FUNCTION_WORDS["fr"])


def uid(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def signed(texts: Mapping[str, str], **knobs: int) -> pa.Table:
    """What the engine hands to the group op: one row a text, named by `uid(name)`."""
    columns = text_signature(list(texts.values()), **knobs)
    return pa.table(
        {
            "uid": [uid(name) for name in texts],
            "nbytes": pa.array([len(text.encode()) for text in texts.values()], pa.int64()),
            "sha256": [hashlib.sha256(text.encode()).hexdigest() for text in texts.values()],
            "minhash": pa.array(columns["minhash"], pa.binary()),
            "text_characters": pa.array(columns["text_characters"], pa.int64()),
        }
    )


def verdicts(shards: Sequence[pa.Table], folder: Path, **knobs: float) -> dict[str, tuple[str | None, float | None]]:
    folder.mkdir(exist_ok=True)
    inputs = [folder / f"{number}.in.parquet" for number in range(len(shards))]
    outputs = [folder / f"{number}.out.parquet" for number in range(len(shards))]
    for path, shard in zip(inputs, shards, strict=True):
        pq.write_table(shard, path)
    near_duplicate_texts(inputs, outputs, folder / "scratch", **knobs)  # type: ignore[arg-type]
    found: dict[str, tuple[str | None, float | None]] = {}
    for path, shard in zip(outputs, shards, strict=True):
        table = pq.read_table(path)
        assert table.schema.equals(pa.schema([("uid", pa.string()), *NEAR.items()]))
        assert table["uid"].to_pylist() == shard["uid"].to_pylist()
        found |= {row["uid"]: (row["duplicate_of"], row["duplicate_similarity"]) for row in table.to_pylist()}
    assert all((of is None) == (similarity is None) for of, similarity in found.values())
    assert all(found[of][0] is None for of, _ in found.values() if of), "a representative is itself kept"
    return found


def judged(texts: Mapping[str, str], folder: Path, **knobs: float) -> dict[str, str | None]:
    names = {uid(name): name for name in texts}
    return {names[u]: names[of] if of else None for u, (of, _) in verdicts([signed(texts)], folder, **knobs).items()}


def article(seed: int, count: int = 200) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=count)


def edited(words: Sequence[str], edits: int, seed: int) -> list[str]:
    changed, chance = list(words), random.Random(seed)
    for place in chance.sample(range(len(changed)), edits):
        changed[place] = f"edit{place}"
    return changed


def jaccard(first: Sequence[str], second: Sequence[str]) -> float:
    runs = [{tuple(text[at : at + 5]) for at in range(len(text) - 4)} for text in (first, second)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def test_lightly_edited_text_is_a_copy_of_the_longer_one(tmp_path: Path) -> None:
    text = article(1)
    texts = {"first": " ".join(text), "longer": " ".join([*edited(text, 3, 0), "and", "more"]), "other": "One more."}
    assert judged(texts, tmp_path) == {"first": "longer", "longer": None, "other": None}


def test_case_signs_and_the_width_of_spaces_make_no_other_text(tmp_path: Path) -> None:
    texts = {"plain": "one two three four five six!", "loud": "ONE  two,\nthree: four -- five (six)"}
    found = verdicts([signed(texts)], tmp_path)
    assert found[uid("plain")] == (uid("loud"), 1.0)


def test_texts_without_a_word_are_never_copies(tmp_path: Path) -> None:
    assert set(judged({"a": "", "b": "", "c": "!!!", "d": "..."}, tmp_path).values()) == {None}


def test_short_texts_are_copies_only_when_all_their_words_agree(tmp_path: Path) -> None:
    texts = {"a": "Chapter one", "b": "chapter One.", "c": "Chapter two"}
    found = judged(texts, tmp_path)
    assert {found["a"], found["b"]} == {None, "b"} and found["c"] is None


def test_share_of_agreeing_numbers_estimates_jaccard_similarity() -> None:
    text = article(2, 400)
    for edits in (0, 5, 15, 40):
        other = edited(text, edits, edits)
        pair = text_signature([" ".join(text), " ".join(other)])["minhash"]
        first, second = (np.frombuffer(signature, "<u4") for signature in pair)
        assert (first == second).mean() == pytest.approx(jaccard(text, other), abs=0.13)


def test_near_copies_are_found_and_others_left_alone(tmp_path: Path) -> None:
    texts, wanted = {}, set()
    for number in range(150):
        base = article(number, random.Random(number).randrange(60, 400))
        texts[f"{number}"] = " ".join(base)
        for copy, share in enumerate((0.005, 0.02, 0.15)):
            changed = edited(base, max(1, int(share * len(base))), copy)
            texts[f"{number}/{copy}"] = " ".join(changed)
            if jaccard(base, changed) >= 0.9:
                wanted.add(f"{number}/{copy}")
    removed = {name: of for name, of in judged(texts, tmp_path).items() if of}
    same_base = sum(name.split("/")[0] == of.split("/")[0] for name, of in removed.items())
    assert same_base == len(removed)
    missed = [name for name in wanted if not {name, name.split("/")[0]} & removed.keys()]
    assert len(wanted) > 100
    assert len(missed) <= 0.01 * len(wanted)


def test_likeness_is_never_passed_on_along_a_chain(tmp_path: Path) -> None:
    text, texts = article(3, 300), {}
    for step in range(12):
        text = edited(text, 6, step)
        texts[f"{step}"] = " ".join(text)
    table = signed(texts)
    signatures = dict(zip(table["uid"].to_pylist(), table["minhash"].to_pylist(), strict=True))
    for name, (of, similarity) in verdicts([table], tmp_path).items():
        if of is not None:
            pair = [np.frombuffer(signatures[u], "<u4") for u in (name, of)]
            assert similarity == pytest.approx((pair[0] == pair[1]).mean())
            assert similarity is not None and similarity >= 0.75


def test_answer_does_not_depend_on_shards_or_their_order(tmp_path: Path) -> None:
    texts = {f"{n}/{copy}": " ".join(edited(article(n), copy, copy)) for n in range(20) for copy in range(3)}
    table = signed(texts | {"none": ""})
    whole = verdicts([table], tmp_path / "1")
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    assert verdicts([shuffled.slice(start, 7) for start in range(0, 63, 7)], tmp_path / "9") == whole
    assert sum(of is not None for of, _ in whole.values()) == 40


def test_second_run_over_what_a_killed_one_left_gives_the_same_bytes(tmp_path: Path) -> None:
    shard = signed({f"{n}": " ".join(article(n % 7)) for n in range(20)})
    verdicts([shard], tmp_path)
    first = (tmp_path / "0.out.parquet").read_bytes()
    for left in (tmp_path / "scratch").iterdir():
        if left.is_file():
            left.write_bytes(b"half written")
    verdicts([shard], tmp_path)
    assert (tmp_path / "0.out.parquet").read_bytes() == first


def test_shards_without_rows_get_answers_without_rows(tmp_path: Path) -> None:
    full = signed({"one": "a b c", "two": "a b c"})
    empty = full.slice(0, 0)
    assert len(verdicts([empty, full, empty], tmp_path / "some")) == 2
    assert verdicts([empty], tmp_path / "none") == {}
    assert verdicts([], tmp_path / "nothing") == {}


def test_band_that_all_texts_share_costs_a_few_comparisons_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A band that all texts share costs no more than a few comparisons each."""
    count, width = 3000, 125
    numbers = np.random.default_rng(0).integers(0, 2**32, (count, width), np.uint32)
    numbers[:, :20] = 7  # four bands of twenty-five agree in all of them
    compared = []
    decide = near_texts._decide

    def counted(db: object, *rest: object) -> None:
        compared.append(near_texts._groups.query_one(db, "SELECT count(*) FROM fresh"))  # type: ignore[arg-type]
        decide(db, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(near_texts, "_decide", counted)
    table = pa.table(
        {
            "uid": [uid(str(n)) for n in range(count)],
            "minhash": pa.array([row.tobytes() for row in numbers], pa.binary()),
            "text_characters": pa.array([100] * count, pa.int64()),
        }
    )
    assert {of for of, _ in verdicts([table], tmp_path).values()} == {None}
    assert sum(compared) <= near_texts.BUCKET_HEADS * count


def test_signature_does_not_depend_on_its_batch() -> None:
    texts = [" ".join(article(n, 1500)) for n in range(3)] + ["", "x"]
    together = text_signature(texts)
    assert [text_signature([text])["minhash"][0] for text in texts] == together["minhash"]


def test_other_bands_are_given_to_both_ops(tmp_path: Path) -> None:
    texts = {"a": "one two three four", "b": "one two three four!"}
    assert len(text_signature(["a"], bands=9, rows=3)["minhash"][0]) == 9 * 3 * 4
    assert len(verdicts([signed(texts, bands=9, rows=3)], tmp_path, bands=9, rows=3)) == 2
