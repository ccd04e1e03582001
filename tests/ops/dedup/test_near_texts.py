from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.ops.dedup import near_texts
from curate.ops.dedup._sketches import Places, Sketches
from curate.ops.dedup.near_texts import NEAR, SIGNATURE, near_duplicate_texts, text_signature
from curate.text.function_words import FUNCTION_WORDS

VOCABULARY = sorted(filter(str.isalpha, FUNCTION_WORDS["en"] | FUNCTION_WORDS["de"] | FUNCTION_WORDS["fr"]))


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
            **{name: pa.array(columns[name], kind) for name, kind in SIGNATURE.items()},
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
    runs = [set(itertools.pairwise(text)) for text in (first, second)]
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


@pytest.mark.parametrize("words", [12, 40, 200])
def test_similarity_of_short_texts_is_exact(words: int, tmp_path: Path) -> None:
    text = article(2, words)
    texts = {"a": " ".join(text), "b": " ".join(edited(text, words // 20 or 1, 0))}
    ((_, similarity),) = [found for found in verdicts([signed(texts)], tmp_path).values() if found[0]]
    assert similarity == pytest.approx(jaccard(text, texts["b"].split()))


def test_similarity_of_long_texts_is_estimated_within_a_tenth(tmp_path: Path) -> None:
    texts = {}
    for number in range(20):
        text = article(number, 3000)
        texts |= {f"{number}": " ".join(text), f"{number}/copy": " ".join(edited(text, 10 * number, number))}
    names = {uid(name): name for name in texts}
    copies = [
        (names[name], names[of], similarity)
        for name, (of, similarity) in verdicts([signed(texts)], tmp_path, min_similarity=0.5).items()
        if of
    ]
    assert len(copies) == 20
    for copy, of, similarity in copies:
        assert similarity == pytest.approx(jaccard(texts[copy].split(), texts[of].split()), abs=0.1)


WAYS = ("replaced", "left out", "put in")


def tenth_edited(words: Sequence[str], way: str, seed: int) -> list[str]:
    """A tenth of the words edited, with words that other texts have."""
    chance, changed = random.Random(seed), [[word] for word in words]
    for place in chance.sample(range(len(words)), len(words) // 10):
        other = chance.choice(VOCABULARY)
        changed[place] = {"replaced": [other], "left out": [], "put in": [words[place], other]}[way]
    return list(itertools.chain.from_iterable(changed))


@pytest.mark.parametrize("way", WAYS)
def test_texts_with_a_tenth_of_their_words_edited_are_found_and_others_left_alone(way: str, tmp_path: Path) -> None:
    texts = {}
    for number in range(150):
        base = article(number, random.Random(number).randrange(10, 600))
        texts |= {f"{number}": " ".join(base), f"{number}/copy": " ".join(tenth_edited(base, way, number))}
    removed = {name: of for name, of in judged(texts, tmp_path).items() if of}
    assert all(name.split("/")[0] == of.split("/")[0] for name, of in removed.items())
    assert len(removed) >= 0.97 * 150


@pytest.mark.parametrize("sign", ["字", "ก", "\u1780"], ids=["Han", "Thai", "Khmer"])
def test_scripts_without_spaces_are_compared_by_the_character(sign: str, tmp_path: Path) -> None:
    texts = {}
    for number in range(40):
        signs = [chr(ord(sign) + offset) for offset in np.random.default_rng(number).integers(0, 30, 60)]
        other = [signs[0] if place % 12 == 5 else one for place, one in enumerate(signs)]
        texts |= {f"{number}": "".join(signs), f"{number}/copy": "".join(other)}
    removed = {name: of for name, of in judged(texts, tmp_path).items() if of}
    assert len(removed) == 40 and all(name.split("/")[0] == of.split("/")[0] for name, of in removed.items())


def test_likeness_is_never_passed_on_along_a_chain(tmp_path: Path) -> None:
    text, texts = article(3, 300), {}
    for step in range(12):
        text = edited(text, 20, step)
        texts[f"{step}"] = " ".join(text)
    names = {uid(name): name for name in texts}
    for name, (of, similarity) in verdicts([signed(texts)], tmp_path).items():
        if of is not None:
            exact = jaccard(texts[names[name]].split(), texts[names[of]].split())
            assert similarity == pytest.approx(exact, abs=0.1) and similarity is not None and similarity >= 0.62


def test_answer_does_not_depend_on_shards_or_their_order(tmp_path: Path) -> None:
    texts = {f"{n}/{copy}": " ".join(edited(article(n), copy, copy)) for n in range(20) for copy in range(3)}
    table = signed(texts | {"none": ""})
    whole = verdicts([table], tmp_path / "1")
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    assert verdicts([shuffled.slice(start, 7) for start in range(0, 63, 7)], tmp_path / "9") == whole
    assert sum(of is not None for of, _ in whole.values()) == 40


def test_answer_does_not_depend_on_how_much_is_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = signed({f"{n}/{copy}": " ".join(edited(article(n), copy, copy)) for n in range(20) for copy in range(3)})
    whole = verdicts([table], tmp_path / "whole")
    for name, value in (("RANGE_TEXTS", 7), ("SLICE_TEXTS", 9), ("BLOCK_PAIRS", 5)):
        monkeypatch.setattr(near_texts, name, value)
    assert verdicts([table], tmp_path / "pieces") == whole


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


def crowd(count: int, copies: Mapping[int, int]) -> pa.Table:
    """`count` texts that share four keys and no run of words; `copies` share one key more and most runs."""
    keys = np.random.default_rng(0).integers(0, 2**32, (count, 24), np.uint32)
    sketches = np.random.default_rng(1).integers(0, 2**32, (count, 30), np.uint32)
    keys[:, :4] = 7
    for copy, of in copies.items():
        keys[copy, 9] = keys[of, 9]
        sketches[copy, 1:] = sketches[of, 1:]
    sketches.sort(1)
    rows = {"text_digest": sketches, "text_keys": keys, "text_sketch": sketches}
    return pa.table(
        {
            "uid": [uid(str(n)) for n in range(count)],
            **{name: pa.array([row.tobytes() for row in column], pa.binary()) for name, column in rows.items()},
            "text_characters": pa.array([100] * count, pa.int64()),
        }
    )


def test_key_that_all_texts_share_costs_a_few_comparisons_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, similarities = [], Sketches.similarities

    def counted(sketches: Sketches, first: Places, second: Places) -> object:
        compared.append(len(first))
        return similarities(sketches, first, second)

    monkeypatch.setattr(Sketches, "similarities", counted)
    assert {of for of, _ in verdicts([crowd(1000, {})], tmp_path).values()} == {None}
    assert sum(compared) <= near_texts.BUCKET_HEADS * 1000


def test_copies_in_a_crowd_of_one_form_are_found_by_one_key_of_their_own(tmp_path: Path) -> None:
    table = crowd(1000, {700 + n: 400 + n for n in range(50)})
    assert sum(of is not None for of, _ in verdicts([table], tmp_path).values()) == 50


def test_signature_does_not_depend_on_its_batch() -> None:
    texts = [" ".join(article(n, 1500)) for n in range(3)] + ["", "x"]
    together = text_signature(texts)
    assert [text_signature([text])["text_keys"][0] for text in texts] == together["text_keys"]


def test_other_bands_are_given_to_both_ops(tmp_path: Path) -> None:
    texts = {"a": "one two three four", "b": "one two three four!"}
    assert len(text_signature(["a"], bands=9, rows=3)["text_keys"][0]) == 9 * 4
    assert len(verdicts([signed(texts, bands=9, rows=3)], tmp_path, bands=9, rows=3)) == 2
