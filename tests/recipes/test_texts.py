from __future__ import annotations

import json
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Workplace

from curate.text.function_words import FUNCTION_WORDS
from pipelines.materials.quality import Training, train

WORDS = sorted(FUNCTION_WORDS["en"])
NOTICE = "All rights reserved by the owners of this page."
QUESTION = "Which of the seven seas has the greatest depth according to the survey of last year?"
STEPS: list[dict[str, Any]] = [
    {"op": "language", "keep": {"language": {"in": ["en"]}}},
    {"op": "gopher_quality", "keep": {"gopher_words": {"min": 10}, "gopher_stop_words": {"min": 1}}},
    {"op": "gopher_repetition", "keep": {"gopher_repeated_10_grams": {"max": 0.1}}},
    {"op": "repeated_lines", "with": {"min_texts": 10}},
    {"op": "without_repeated_lines"},
    {"op": "c4_lines", "keep": {"c4_sentences": {"min": 2}, "c4_curly_bracket": {"is": False}}},
    {"op": "fineweb", "keep": {"fineweb_lines_ended": {"min": 0.12}}},
    {"op": "obelics_text", "keep": {"obelics_stop_words": {"min": 0.35}}},
    {"op": "near_duplicate_texts", "keep": {"duplicate_of": {"is": None}}},
    {"op": "pii"},
    {"op": "mask_pii"},
    {"op": "chunks", "with": {"tokenizer": "words", "max_tokens": 40}},
]


def article(seed: int) -> str:
    chance = random.Random(seed)
    sentences = [" ".join(chance.choices(WORDS, k=12)).capitalize() + "." for _ in range(6)]
    name = "".join(chance.choices("abcdefgh", k=9))
    return "\n".join([*sentences, f"Write to {name}@example.org for more of the same."])


def texts() -> dict[str, str]:
    found = {f"article {n}": f"{article(n)}\n{NOTICE}" for n in range(40)}
    return found | {
        "copy": article(3).replace(" the ", " a ", 1).upper() + "\n" + NOTICE,
        "short": "Too short.",
        "german": "Der Zug war zu spät, weil es geregnet hatte, und niemand wusste, was man tun sollte.",
        "repeats": "This is it and that is it. " * 40,
        "code": "if (a) { return b; } and so it is.\nIt was not meant to be here at all, was it? No, it was not.",
        "quiz": f"{article(100)}\n{QUESTION}\n{NOTICE}",
    }


def source(place: Workplace) -> Path:
    path = place.src / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text, "name": name}) + "\n" for name, text in texts().items()))
    return path


def published(place: Workplace) -> dict[str, str]:
    """Text by uid, of all tars."""
    found = {}
    for path in sorted(place.dataset.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".txt"):
                    file = tar.extractfile(member)
                    assert file is not None
                    found[member.name.removesuffix(".txt")] = file.read().decode()
    return found


@pytest.mark.parametrize("shard_samples", [7, 1000])
def test_text_goes_through_every_filter_and_comes_out_clean_in_chunks(place: Workplace, shard_samples: int) -> None:
    quiz = place.root / "quiz.txt"
    quiz.write_text(QUESTION)
    checked = {"op": "contamination", "with": {"benchmarks": [str(quiz)]}, "keep": {"contaminated_runs": {"max": 0}}}
    given = {"type": "text", "path": str(source(place)), "keep": ["name"]}
    recipe = place.recipe(
        kind="text", source=given, steps=[checked, *STEPS], shard_samples=shard_samples, publish={"split": "chunks"},
        limits={"failed": 0.0},
    )  # fmt: skip
    steps = place.run(recipe).steps
    assert steps["contamination"]["kept"] == 45
    assert steps["language"]["kept"] == 44
    assert steps["gopher_quality"]["kept"] == 43
    assert steps["gopher_repetition"]["kept"] == 42
    assert steps["c4_lines"]["kept"] == 41
    assert steps["near_duplicate_texts"]["kept"] == 40
    found = published(place)
    joined = "\n".join(found.values())
    assert len(found) >= 80 and all(len(text.split()) <= 40 for text in found.values())
    assert NOTICE not in joined and "@example" not in joined and joined.count("<EMAIL>") == 40


def test_shards_of_another_size_publish_the_same_texts(place: Workplace, tmp_path: Path) -> None:
    given = {"type": "text", "path": str(source(place))}
    answers = []
    for size in (5, 60):
        out = str(place.root / f"out{size}")
        place.out = Path(out)
        recipe = place.recipe(kind="text", source=given, steps=STEPS, shard_samples=size, out=out)
        assert place.run(recipe).code == 0
        answers.append(published(place))
    assert answers[0] == answers[1] and len(answers[0]) == 41


def test_classifier_of_ones_own_scores_texts_in_a_recipe(place: Workplace) -> None:
    good, bad = place.root / "good.jsonl", place.root / "bad.jsonl"
    good.write_text("".join(json.dumps({"text": article(n)}) + "\n" for n in range(200, 300)))
    bad.write_text("".join(json.dumps({"text": f"buy cheap now {n} click {n % 7} offer"}) + "\n" for n in range(100)))
    train([str(good)], [str(bad)], place.root / "q.bin", Training(dimensions=8, buckets=100, epochs=20))
    step = {"op": "fasttext_quality", "with": {"model": str(place.root / "q.bin")}, "keep": {"quality": {"min": 0.5}}}
    given = {"type": "text", "path": str(source(place))}
    kept = place.run(place.recipe(kind="text", source=given, steps=[step])).steps["fasttext_quality"]["kept"]
    assert 40 <= kept <= 46
