"""What is public can be imported, says what it is, and is all that is promised; the recipes of ours go by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Workplace

import curate
from curate.settings import SettingsError
from curate.shipped import recipe_path, shipped_recipes

PUBLIC = {
    "curate.stream": """Batch CutRule DrawnSample Fit FormConfig MixtureView PackLimits PackedBatch Packing PackingError
        Prepare Prompts ReadOptions Replaced SampleLengths SequenceForm Sequences ServedTally Share Sizes Stages Stream
        StreamError TextChooser TextCode attention_mask text_code""",
    "curate.ops": """BLOB DOCUMENT Absent Blob Columns EmbeddingColumn Failed NumberColumn Segment Stored TextColumn
        group_op image_segment is_image op text_segment""",
    "curate.mix": None,
    "curate.shards": None,
}
"""The public modules; where names stand, exactly these are promised."""

ROOT = Path(curate.__file__).resolve().parents[1]


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_curate_says_which_modules_are_public() -> None:
    assert set(re.findall(r"`(curate\.\w+)`", curate.__doc__ or "")) == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    names = module(name).__all__
    assert sorted(names) == sorted(set(names))
    if PUBLIC[name] is not None:
        assert sorted(names) == sorted((PUBLIC[name] or "").split())
    for one in names:
        found = getattr(module(name), one)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert (getattr(found, "__doc__", None) or "").strip(), f"{name}.{one} says nothing of itself"


def test_the_pages_import_the_stream_by_its_public_name() -> None:
    for page in ("README.md", "docs/stream.md", "docs/own-trainer.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for imported, names in re.findall(r"^from (curate[\w.]*) import ([\w, ]+)", text, re.MULTILINE):
            assert imported in PUBLIC, f"{page}: {imported} is not public"
            assert set(re.split(r", *", names.strip())) <= set(module(imported).__all__), page


@pytest.mark.slow
def test_every_module_imports() -> None:
    names = [
        found.name
        for top in ("curate", "pipelines", "train")
        for found in pkgutil.walk_packages([str(ROOT / top)], f"{top}.")
    ]
    assert len(names) > 200
    program = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_without_torch() -> None:
    heavy = ("torch", "ray", "duckdb", "pyarrow")
    program = f"import sys, pipelines.cli.main, train.__main__; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_recipes_of_ours_are_listed_with_what_they_are_for(place: Workplace) -> None:
    listed = {r["name"]: r for r in place.curate("recipes", "--json").json}
    files = (ROOT / "recipes").rglob("*.yaml")
    assert {path.relative_to(ROOT / "recipes").with_suffix("").as_posix() for path in files} == set(listed)
    assert listed["mmc4"]["purpose"].startswith("MMC4 (Zhu et al. 2023): pages whose images")
    commands = {name: listed[name]["command"] for name in ("demo", "mm1", "mixtures/mm1", "demo-train")}
    assert commands == {"demo": "run", "mm1": "mix", "mixtures/mm1": "mix", "demo-train": "train"}
    assert not [name for name, one in listed.items() if "\n" in one["purpose"] or len(one["purpose"]) < 20]


def test_a_recipe_goes_by_its_name_or_by_a_path(place: Workplace) -> None:
    assert recipe_path("demo", "run") == ROOT / "recipes" / "demo.yaml"
    assert recipe_path("mixtures/mm1", "mix").read_bytes() == (ROOT / "recipes/mixtures/mm1.yaml").read_bytes()
    assert recipe_path("some/where.yaml", "run") == Path("some/where.yaml")
    assert {recipe_path(r.name, r.command) for r in shipped_recipes()} == {r.path for r in shipped_recipes()}
    place.images(3)
    assert place.curate("run", "demo", "--dry-run", "--set", f"source.path={place.root}/none.csv").code == 1
    place.recipe(steps=[{"op": "image_size"}]).rename(place.root / "mine")
    assert place.curate("run", place.root / "mine", "--inline").code == 0


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown recipe 'dmo' - did you mean 'demo'\?"):
        recipe_path("dmo", "run")
    with pytest.raises(SettingsError, match="recipe 'mm1' is none for `curate run`: it is for `curate mix`"):
        recipe_path("mm1", "run")
    with pytest.raises(SettingsError, match="did you mean 'demo-train'"):
        recipe_path("demo-trian", "train")


def test_a_mixture_of_ours_lies_where_the_command_is_run(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.root)
    assert "unknown recipe 'mm2' - did you mean 'mm1'" in place.curate("mix", "mm2").stderr
    assert place.curate("mix", "mixtures/mm1").stderr.startswith("error: work/mm1/alt: no such folder")
    place.images(4)
    for name in ("alt", "vecap", "pages", "text"):
        out = place.root / "made" / name
        assert place.curate("run", place.recipe(out=str(out), name=name, seed=len(name)), "--inline").code == 0
        (place.root / "work" / "mm1").mkdir(parents=True, exist_ok=True)
        (out / "dataset").rename(place.root / "work" / "mm1" / name)
        (place.src / f"more-{name}.png").write_bytes(place.png(30, 30, len(name) * 100))
        (place.src / f"more-{name}.txt").write_text(f"one more {name}")
    done = place.curate("mix", "mixtures/mm1", "--json")
    assert done.code == 0, done.stderr
    shares = {source["name"]: source["share"] for source in done.json["datasets"]}
    assert shares == pytest.approx({"alt": 0.4185, "vecap": 0.0315, "pages": 0.45, "text": 0.1}, abs=1e-4)
