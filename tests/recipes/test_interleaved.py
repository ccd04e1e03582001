"""The recipes of the published interleaved sets run on a site as they stand, and take what each of them should."""

from __future__ import annotations

import json
import re
import tarfile
from typing import Any

import pytest
from conftest import ROOT, Workplace
from documents import picture

from curate.recipe.resolve import load

STORIES = [
    "When the morning came, the old man walked down to the river and sat on the stone where his father had sat before"
    " him. He looked at the water for a long time, and he thought of the days when the boats were full of fish.",
    "The kitchen of the house was small, but there was always a place for one more at the table. In the winter they"
    " would sit around the fire, and the youngest of them would ask for the story of the bear that came to the door.",
    "It is not easy to say what makes a good garden. Some people want many flowers, others are happy with a tree and"
    " a place to sit under it. What you need most is time, a little rain now and then, and someone to share it with.",
]


@pytest.fixture
def site(place: Workplace) -> Workplace:
    """Three pages of prose with a photograph each, one without images, one with nothing but a menu and a logo."""
    for n, story in enumerate(STORIES):
        (place.src / f"photo{n}.jpg").write_bytes(picture(320, 240, seed=n, kind="JPEG"))
        after = " ".join(STORIES[(n + 1) % 3].split()[:20]) + f", and that was in the year of {1900 + n}."
        body = f'<p>{story}</p><img src="photo{n}.jpg" alt="photo {n}"><p>{after}</p><img src="logo.png">'
        (place.src / f"page{n}.html").write_text(f"<html lang=en><title>{n}</title><body><article>{body}</article>")
    (place.src / "logo.png").write_bytes(picture(40, 40, seed=9))
    (place.src / "bare.html").write_text(f"<html><body><article><p>{STORIES[0]} {STORIES[1]}</p></article>")
    (place.src / "menu.html").write_text('<html><body><ul><li><a href="/">Home</a></ul><img src="logo.png"></body>')
    return place


@pytest.mark.parametrize("name", ["obelics", "mmc4", "m3w", "mm1-interleaved"])
def test_the_recipe_keeps_the_pages_with_prose_and_photographs(site: Workplace, name: str) -> None:
    changes = {"source.type": "html", "source.path": site.src, "out": site.out}
    if name == "mmc4":
        changes["steps.sentence_similarity.keep_images.best_similarity.min"] = -1
        changes["steps.assign_images.keep.max_similarity.min"] = -1
    said = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    run = site.run(ROOT / "recipes" / f"{name}.yaml", *said)
    assert run.code == 0, run.stderr
    assert sorted(images(site)) == [["photo0.jpg"], ["photo1.jpg"], ["photo2.jpg"]], run.steps


@pytest.mark.parametrize(("name", "mark"), [("mmc4", r" +# (?:core|ff)"), ("obelics", "")])
def test_what_a_recipe_has_as_a_comment_can_be_uncommented(place: Workplace, name: str, mark: str) -> None:
    said = (ROOT / "recipes" / f"{name}.yaml").read_text()
    head, steps = said.split("steps:", 1)
    path = place.root / f"{name}.yaml"
    path.write_text(f"{head}steps:" + re.sub(rf"(?m)^( *)# (.*?){mark}$", r"\1\2", steps))
    shipped = load(ROOT / "recipes" / f"{name}.yaml").recipe
    more = {s.op for s in load(path).recipe.steps} - {s.op for s in shipped.steps}
    assert more == ({"faces"} if mark else {"host_opt_out", "link_opt_out", "nsfw"})


def images(place: Workplace) -> list[list[str]]:
    """The images of each published document."""
    found: list[list[str]] = []
    for path in place.dataset.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    said: dict[str, Any] = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                    found.append([s["url"] for s in said["segments"] if s["type"] == "image"])
    return found
