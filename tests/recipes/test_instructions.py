"""The recipes of instruction data on scenes that are drawn here: without a model, and by a scripted one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from chat_server import serving
from conftest import ROOT
from PIL import Image, ImageDraw

from curate import mix
from curate.engine import run
from curate.mix.answers import FORMAT_PROMPTS
from curate.mix.spec import Entry
from curate.pool.funnel import check_funnel
from curate.recipe.resolve import load
from curate.stream.stream import DatasetReader
from pipelines.materials.drawings import Drawing
from pipelines.materials.scenes import FOCAL_PX, SIZE, draw_scene

SCENES = 12
COLOURS = {"apple": "red", "leaf": "green", "sea": "blue", "sun": "yellow", "coal": "black"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    drawings = []
    for name, colour in COLOURS.items():
        image = Image.new("RGBA", (72, 72))
        ImageDraw.Draw(image).rectangle((10, 20, 60, 50), colour)
        image.save(folder / f"{name}.png")
        drawings.append(Drawing(name, {"en": name}, folder / f"{name}.png"))
    (folder / "images").mkdir()
    lines = []
    for number in range(SCENES):
        picture, record = draw_scene(drawings, number)
        picture.save(folder / "images" / f"{number}.png")
        lines.append(json.dumps(record | {"image": f"images/{number}.png"}) + "\n")
    (folder / "scenes.jsonl").write_text("".join(lines))
    return folder


def given(home: Path, out: Path, *more: str) -> list[str]:
    return [f"source.path={home / 'scenes.jsonl'}", f"source.folder={home}", f"out={out}", *more]


def segments(folder: Path) -> list[list[dict[str, Any]]]:
    reader = DatasetReader("found", folder)
    try:
        return [json.loads(reader.read(row)[1]["json"])["segments"] for row in range(reader.rows)]
    finally:
        reader.close()


def test_a_scene_holds_what_its_record_says(home: Path) -> None:
    for line in (home / "scenes.jsonl").read_text().splitlines():
        record = json.loads(line)
        picture = Image.open(home / record["image"])
        assert picture.size == SIZE == (record["width"], record["height"])
        nearest = min(record["objects"], key=lambda o: o["depth_m"])
        left, top, right, bottom = nearest["box"]
        colour = ImageDraw.ImageColor.getrgb(COLOURS[nearest["category"]])
        assert picture.getpixel(((left + right) // 2, (top + bottom) // 2)) == colour
        assert max(right - left, bottom - top) == pytest.approx(FOCAL_PX / nearest["depth_m"], abs=1)
        for category in {o["category"] for o in record["objects"]}:
            assert category in record["captions"][0]


def test_annotations_become_conversations_that_a_mixture_takes(home: Path, tmp_path: Path) -> None:
    summary = run.run(load(ROOT / "recipes" / "instructions.yaml", given(home, tmp_path / "out")), workers=0)
    check_funnel(summary.funnel)
    found = segments(summary.folder)
    assert len(found) == SCENES
    for document in found:
        assert document[0]["text"] == FORMAT_PROMPTS[3] and document[1]["part"].startswith("0.")
        assert all(re.fullmatch("[A-D]", s["text"]) for s in document if s.get("block") == "answer")
    spec = mix.MixtureSpec(sources=(Entry(path=str(summary.folder)),))
    mix.load(mix.compose(spec, Path(), tmp_path / "mixture.json").mixture.path)


def test_a_chat_model_writes_about_the_scenes_and_what_it_gets_wrong_is_dropped_by_name(
    home: Path, tmp_path: Path
) -> None:
    def script(_: int, body: dict[str, Any]) -> str:
        told = body["messages"][-1]["content"]
        if "coal" in told:
            return "I would rather not."
        turns = [{"question": f"What is {n} here?", "answer": "It is what one sees."} for n in ("first", "next")]
        return json.dumps({"turns": turns})

    with serving(script) as server:
        more = (f"llm.writer={{url: '{server.url}', model: small, key: null}}", "limits.failed=1")
        recipe = load(ROOT / "recipes" / "instructions-chat.yaml", given(home, tmp_path / "out", *more))
        summary = run.run(recipe, workers=0)
        asked = server.requests
        run.run(recipe, workers=0)
        assert server.requests == asked
    check_funnel(summary.funnel)
    (step,) = [s for s in summary.funnel if s.step == "write_instructions"]
    records = [json.loads(line) for line in (home / "scenes.jsonl").read_text().splitlines()]
    dark = sum(any(o["category"] == "coal" for o in record["objects"]) for record in records)
    assert 0 < dark < SCENES and asked == SCENES + 2 * dark
    assert (
        step.dropped == {"instructions_fault.is": dark}
        and step.tallies["instructions_fault"]["malformed_answer"] == dark
    )
    assert len(segments(summary.folder)) == SCENES - dark
