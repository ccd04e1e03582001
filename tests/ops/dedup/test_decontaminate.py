from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.ops.dedup.decontaminate import contamination
from curate.ops.spec import identity

QUESTION = "Which of the following gases makes up the largest part of the air people breathe every day at sea level?"
SHORT = "Name the capital city of the republic of Kenya"


def benchmark(folder: Path) -> str:
    rows = [
        {"question": QUESTION, "answer": "Nitrogen"},
        {"question": SHORT, "answer": None},
        {"question": "Who? What?"},
    ]
    path = folder / "quiz.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def one(op: contamination, text: str) -> dict[str, object]:
    return {name: values[0] for name, values in op([text]).items()}


def test_text_that_quotes_a_benchmark_names_the_item_and_the_words(tmp_path: Path) -> None:
    op = contamination(benchmarks=[benchmark(tmp_path)], columns=["question"])
    found = one(op, f"Before. {QUESTION.upper().replace(',', ' --')} After it.")
    assert found["contaminated_by"] == "quiz.jsonl#1"
    assert found["contaminated_words"] == "which of the following gases makes up the largest part of the air"
    assert found["contaminated_runs"] == 8
    assert found["contaminated_share"] == pytest.approx(20 / 23)


def test_twelve_words_are_no_contamination_and_thirteen_are(tmp_path: Path) -> None:
    op = contamination(benchmarks=[benchmark(tmp_path)], columns=["question"])
    words = QUESTION.split()
    assert one(op, "So " + " ".join(words[:12]) + " or not")["contaminated_runs"] == 0
    assert one(op, "So " + " ".join(words[:13]) + " or not")["contaminated_runs"] == 1


def test_short_item_is_looked_for_as_whole_and_very_short_one_not_at_all(tmp_path: Path) -> None:
    op = contamination(benchmarks=[benchmark(tmp_path)], columns=["question"])
    assert one(op, f"Please: {SHORT}!")["contaminated_by"] == "quiz.jsonl#2"
    assert one(op, "Who? What?") == {
        "contaminated_runs": 0, "contaminated_share": 0.0, "contaminated_by": None, "contaminated_words": None,
    }  # fmt: skip


def test_several_files_columns_and_kinds_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [" ".join(f"w{n}" for n in range(20))]}), tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_text("one\n\n" + " ".join(f"v{n}" for n in range(13)))
    op = contamination(benchmarks=[str(tmp_path / "*.parquet"), str(tmp_path / "c.txt")])
    assert one(op, " ".join(f"w{n}" for n in range(3, 17)))["contaminated_by"] == "b.parquet#1"
    assert one(op, "x " + " ".join(f"v{n}" for n in range(13)))["contaminated_by"] == "c.txt#2"


def test_text_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    op = contamination(benchmarks=[benchmark(tmp_path)], columns=["question"])
    texts = [QUESTION, "", "x", QUESTION * 2]
    together = op(texts)
    assert [one(op, text)["contaminated_share"] for text in texts] == together["contaminated_share"]


def test_changed_benchmark_is_a_changed_column(tmp_path: Path) -> None:
    path = benchmark(tmp_path)
    before = identity(contamination, {"benchmarks": [path]})["files"]
    Path(path).write_text(json.dumps({"question": QUESTION[::-1]}))
    assert identity(contamination, {"benchmarks": [path]})["files"] != before


def test_missing_empty_or_damaged_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        contamination(benchmarks=[str(tmp_path / "none.jsonl")])
    with pytest.raises(ValueError, match=r"most items of .*quiz\.jsonl have fewer than 8 words"):
        contamination(benchmarks=[benchmark(tmp_path)], columns=["answer"])
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    with pytest.raises(ValueError, match=r"bad_row: bad\.jsonl:2"):
        contamination(benchmarks=[str(tmp_path / "bad.jsonl")])


def test_scripts_without_spaces_need_runs_twice_as_long(tmp_path: Path) -> None:
    """Thirteen characters are some eight words, and stand in many texts that nobody copied."""
    chinese = "".join(chr(0x4E00 + 7 * n) for n in range(40))
    thai = "".join(chr(0xE01 + n) for n in range(40))
    for text in (chinese, thai):
        (tmp_path / "quiz.jsonl").write_text(json.dumps({"text": text}))
        op = contamination(benchmarks=[str(tmp_path / "quiz.jsonl")])
        assert one(op, "一" + text[3:28] + "一")["contaminated_runs"] == 0
        assert one(op, "一" + text[3:29] + "一")["contaminated_runs"] == 1


def test_short_questions_are_looked_for_as_wholes_where_one_says_how_short(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    rows = [{"question": q, "choices": ["Paris", "Lyon"]} for q in ("What is the capital of France?", "Who was he?")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"most items of .* lower `min_words`"):
        contamination(benchmarks=[str(path)], columns=["question"])
    op = contamination(benchmarks=[str(path)], columns=["question"], min_words=5)
    assert one(op, "Q: What is the capital of France? A. Paris")["contaminated_by"] == "choices.jsonl#1"
    with pytest.raises(ValueError, match=r"'choices' .* holds no text"):
        contamination(benchmarks=[str(path)], columns=["question", "choices"], min_words=5)
