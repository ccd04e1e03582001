"""The recipes of written texts and of the data engine run as they stand, with a chat model on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from chat_server import Reply, completion, serving
from conftest import ROOT, Workplace

NOUNS = [
    "heron",
    "kitchen",
    "ladder",
    "bakery",
    "bridge",
    "keeper",
    "drummer",
    "gutter",
    "bench",
    "garden",
    "kite",
    "ferry",
]
VERBS = ["carries", "watches", "paints", "follows", "repairs", "forgets", "finds", "sells", "holds", "cleans", "hides"]


def scene(number: int, body: dict[str, Any]) -> Reply:
    """A context, a question and its answer, another for each number."""
    chance = Random(number)
    nouns, verbs = chance.sample(NOUNS, 8), chance.sample(VERBS, 4)
    lines = [f"The old {nouns[2 * n]} {verbs[n]} a small {nouns[2 * n + 1]} in the rain." for n in range(4)]
    asked = f"Question: What is it that the old {nouns[0]} {verbs[0]}?\nAnswer: It is a small {nouns[1]}."
    return Reply(body=completion(f"Context: {' '.join(lines)}\n{asked}", model="qwen"))


def test_recipe_of_written_texts_makes_both_stages_of_the_same_answers(place: Workplace) -> None:
    with serving(scene) as server:
        mine = [
            f"llm.writer.url={server.url}",
            f"llm.writer.cache={place.root}/answers",
            "source.count=24",
            "source.max_rouge_l=0.95",
        ]
        sets = [word for value in [*mine, f"out={place.out}"] for word in ("--set", value)]
        done = place.run(ROOT / "recipes/tomgpt-text.yaml", *sets)
        assert done.steps["ingest"]["kept"] == 24 and done.steps["question_fault"]["kept"] > 20, done.json["funnel"]
        asked = server.requests
        stage = ["--set", "steps.text_only_tuning.with.stage=reconstruct"]
        again = place.run(ROOT / "recipes/tomgpt-text.yaml", *sets, *stage)
        assert again.steps["question_fault"]["kept"] == again.steps["text_only_tuning"]["kept"]
        assert server.requests == asked


def test_recipe_of_the_data_engine_asks_about_the_pictures_of_a_folder(place: Workplace) -> None:
    story = "The smudge tool spreads the colours under the brush along each stroke that you draw. " * 5
    for number, name in enumerate(("smudge", "blur")):
        picture = f'<img src="{name}.png" alt="{name}" width="300">'
        (place.src / f"{name}.html").write_text(f"<title>{name}</title><h1>{name}</h1><p>{story}{name}.</p>{picture}")
        (place.src / f"{name}.png").write_bytes(place.png(300, 200, number))

    def author(number: int, body: dict[str, Any]) -> Reply:
        asks = body["messages"][-1]["content"].startswith("List")
        sound = "Question: What is spread by the tool?\nAnswer: The smudge tool spreads the colours under the brush."
        return Reply(body=completion("1. Smudge\n2. Blur" if asks else sound, model="qwen"))

    with serving(author) as server:
        mine = [f"llm.writer.url={server.url}", f"source.folder={place.src}", f"out={place.out}"]
        done = place.run(ROOT / "recipes/data-engine.yaml", *[w for value in mine for w in ("--set", value)])
        assert done.steps["picture_questions"]["kept"] == 2, done.stderr
    info = json.loads(Path(place.dataset / "dataset.json").read_text())
    assert info["samples"] == 2
