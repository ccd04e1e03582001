"""No source of bare one-word answers enters a mixture unsaid: the rule answers_short_without_prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mixtures import composed
from train_samples import published

from curate import mix
from curate.mix.answers import FORMAT_PROMPTS
from curate.sample import fingerprint

LONG = "It is a tabby cat that sleeps on a red mat."


def talk(question: str, answer: str, system: str = "") -> dict[str, Any]:
    """A published conversation of one turn."""
    turns = [("system", system), ("question", question), ("answer", answer)]
    return {"segments": [{"type": "text", "text": text, "block": block} for block, text in turns if text]}


def bare(number: int) -> dict[str, Any]:
    return talk(f"How many cats are in picture {number}?", str(number))


def chatty(number: int) -> dict[str, Any]:
    return talk(f"What is in picture {number}?", LONG)


def source(folder: Path, make: Callable[[int], dict[str, Any]], samples: int = 40) -> Path:
    return published(folder, "interleaved", [({}, make(n)) for n in range(samples)])


def test_a_source_of_bare_short_answers_does_not_enter_a_mixture(tmp_path: Path) -> None:
    source(tmp_path / "chat", chatty)
    source(tmp_path / "counts", bare)
    with pytest.raises(mix.MixtureError, match=r"source 'counts' \(answers_short_without_prompt\): of 32") as told:
        composed(tmp_path, "sources: [{path: chat}, {path: counts}]")
    assert f'system: ["{FORMAT_PROMPTS[2]}"]' in str(told.value)
    assert not (tmp_path / "mixture.json").exists()


def test_the_remedy_that_the_error_names_lets_it_in(tmp_path: Path) -> None:
    source(tmp_path / "counts", bare)
    with pytest.raises(mix.MixtureError) as told:
        composed(tmp_path, "sources: [{path: counts}]")
    remedy = str(told.value).split("Say `")[1].split("`")[0]
    entry = {"path": "counts", **yaml.safe_load(remedy)}
    built = composed(tmp_path, yaml.safe_dump({"sources": [entry]}))
    assert built.mixture.choose(0, "uid", 0, "system") == FORMAT_PROMPTS[2]


@pytest.mark.parametrize("system", ["['Be brief.']", "['']", "{'Be brief.': 1, '': 1}", "{'Be kind.': 0, '': 1}"])
def test_short_prompts_and_an_empty_one_that_is_said_are_enough(tmp_path: Path, system: str) -> None:
    source(tmp_path / "counts", bare)
    composed(tmp_path, f"sources: [{{path: counts, system: {system}}}]")


def test_a_system_prompt_that_says_nothing_of_short_answers_is_none(tmp_path: Path) -> None:
    source(tmp_path / "counts", bare)
    for system in ("['Be kind.']", "{'Be brief.': 1, 'Be kind.': 1}"):
        with pytest.raises(mix.MixtureError, match="answers_short_without_prompt"):
            composed(tmp_path, f"sources: [{{path: counts, system: {system}}}]")


@pytest.mark.parametrize(
    "make",
    [
        chatty,
        lambda n: talk(f"How many? {FORMAT_PROMPTS[1]}", str(n)),
        lambda n: talk("How many?", str(n), FORMAT_PROMPTS[4]),
        lambda n: bare(n) if n % 10 == 0 else chatty(n),
        lambda n: {"segments": [{"type": "text", "text": "cat", "block": "paragraph"}]},
        lambda n: {"segments": 7} if n % 2 else {},
    ],
    ids=["chatty", "asked", "told", "a tenth", "no conversation", "damaged"],
)
def test_prompted_long_and_other_texts_enter_as_they_are(tmp_path: Path, make: Callable[[int], Any]) -> None:
    source(tmp_path / "set", make)
    mix.load(composed(tmp_path, "sources: [{path: set}]").mixture.path)


def test_short_conversations_among_long_ones_are_found_where_they_lie_last(tmp_path: Path) -> None:
    source(tmp_path / "set", lambda n: chatty(n) if n < 300 else bare(n), 400)
    with pytest.raises(mix.MixtureError, match="answers_short_without_prompt"):
        composed(tmp_path, "sources: [{path: set}]")


def test_a_manifest_that_was_made_before_the_rule_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    source(tmp_path / "counts", bare)
    path = composed(tmp_path, "sources: [{path: counts, system: ['']}]").mixture.path
    mix.load(path)
    manifest = json.loads(path.read_text())
    manifest["datasets"][0]["choices"] = {}
    del manifest["seal"]
    path.write_text(json.dumps(manifest | {"seal": fingerprint(manifest)}))
    with pytest.raises(mix.MixtureError, match="answers_short_without_prompt"):
        mix.load(path)
