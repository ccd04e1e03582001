"""A path is the same wherever it is written: seen from the current folder, `~` being home."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest
from conftest import Workplace
from mixtures import a_dataset

from curate.recipe.resolve import load
from curate.settings import SettingsError, expand_home
from train.config import read


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_relative_paths_of_recipes_mixtures_and_set_are_seen_from_the_current_folder(place: Workplace) -> None:
    place.images(3)
    elsewhere = place.root / "deep" / "down"
    elsewhere.mkdir(parents=True)
    recipe = place.recipe(out="out", source={"type": "folder", "path": "src"}).rename(elsewhere / "recipe.yaml")
    (elsewhere / "spec.yaml").write_text("sources: [{path: out/dataset}, {path: more}]")
    a_dataset(place.root / "more", 2)
    with chdir(place.root):
        assert place.run(recipe).code == 0 and place.dataset.is_dir()
        assert place.run(recipe, "--set", "out=other").code == 0 and (place.root / "other" / "dataset").is_dir()
        assert place.curate("mix", elsewhere / "spec.yaml", "-o", "m.json").code == 0
    with chdir(elsewhere):
        refused = place.run(recipe)
        assert refused.code == 1 and f"seen from the current folder: {elsewhere / 'src'}" in refused.stderr
        refused = place.curate("mix", "spec.yaml", "-o", "m.json")
        assert refused.code == 1 and f"seen from the current folder: {elsewhere / 'out' / 'dataset'}" in refused.stderr


def test_help_says_from_where_paths_are_seen(place: Workplace) -> None:
    for words in (("run", "--help"), ("mix", "write", "--help")):
        assert "seen from the current folder" in " ".join(place.curate(*words).stdout.split())


def test_tilde_is_home_in_recipes_and_mixtures(place: Workplace, home: Path) -> None:
    place.images(3).rename(home / "pictures")
    (home / "captions.csv").write_text("image,text\n00000.png,a cat\n")
    source = {"type": "folder", "path": "~/pictures", "captions": "~/captions.csv"}
    assert place.run(place.recipe(out="~/out", source=source)).json["samples"] == 1
    (place.root / "spec.yaml").write_text("sources: [{path: ~/out/dataset}]")
    assert place.curate("mix", place.root / "spec.yaml", "--out=~/m.json").code == 0
    assert (home / "m.json").is_file() and not (place.root / "~").exists() and not Path("~").exists()


def test_tilde_is_home_in_an_ops_knobs(place: Workplace, home: Path) -> None:
    (home / "bench.txt").write_text("a b c d e f g h i j k l m n o p")
    step = {"op": "contamination", "with": {"benchmarks": ["~/bench.txt"]}}
    recipe = place.recipe(kind="text", source={"type": "text", "path": "~/t.jsonl"}, steps=[step])
    assert load(recipe).steps[0].knobs["benchmarks"] == type(load(recipe).steps[0].knobs["benchmarks"])(
        [str(home / "bench.txt")]
    )


def test_tilde_is_home_in_a_trainings_settings(tmp_path: Path, home: Path) -> None:
    (home / "words.json").write_text('["a", "b"]')
    (tmp_path / "t.yaml").write_text("model: {tokenizer: 'words:~/words.json'}\nrun: {cache: ~/cache}\n")
    found = read(tmp_path / "t.yaml", [])
    assert found.run.cache == str(home / "cache") and found.model.tokenizer == 'words:["a","b"]'
    (tmp_path / "t.yaml").write_text("model: {clip: none.safetensors}\n")
    with pytest.raises(SettingsError, match="seen from the current folder"):
        read(tmp_path / "t.yaml", [])


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("~/x", "HOME/x"), ("--out=~/x", "HOME/x"), ("-o~/x", "HOME/x"), ("~", "HOME"), ("~/a/dataset=0.5", "HOME/a/"),
        ("x~/y", "x~/y"), ("--set=a=~/x", "--set=a=~/x"), ("steps.~", "steps.~"),
    ],
)  # fmt: skip
def test_tilde_at_the_beginning_of_an_argument_or_of_its_value_is_home(home: Path, said: str, meant: str) -> None:
    assert meant.replace("HOME", str(home)) in expand_home(said)
