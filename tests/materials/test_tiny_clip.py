"""The tiny model that the demo ships: small, made from the drawings it names, measured on drawings it never saw."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from conftest import ROOT

from curate.commit import file_sha256
from curate.shards import ShardReader
from pipelines.materials.drawings import FRAMES, held_out
from pipelines.materials.packages import MATERIALS, PackageUnavailableError, fetch
from pipelines.materials.tiny_clip import pairs
from pipelines.materials.tiny_clip.card import card, measure
from pipelines.materials.tiny_clip.pairs import Named, captions, write_pairs

WEIGHTS = Path(str(files("curate") / "weights" / "tiny-clip.safetensors"))
CARD = ROOT / "data_cards" / "tiny-clip.md"


def test_shipped_weights_are_at_most_ten_megabytes() -> None:
    assert WEIGHTS.stat().st_size <= 10_000_000


def test_drawings_under_share_alike_and_twemojis_are_not_trained_on() -> None:
    """No drawing under a share alike licence and none of Twemoji's is trained on."""
    assert "twemoji" not in pairs.HANDS
    assert not [hand for hand in pairs.HANDS if "SA" in MATERIALS[hand].licence]


def test_data_card_names_every_source_with_its_licence_and_its_digest() -> None:
    said = CARD.read_text(encoding="utf-8")
    assert file_sha256(WEIGHTS) in said
    for name in (*pairs.HANDS, "emojibase"):
        material = MATERIALS[name]
        for word in (material.package, material.version, material.licence, material.sha256):
            assert word in said, (name, word)


def test_captions_say_the_name_and_depend_on_hand_and_thing_alone() -> None:
    """Captions say the name in every frame and depend on hand and thing alone."""
    named = Named("octopus", ("animal", "creature", "ocean"))
    found = captions("noto", "1f419", named)
    assert found == captions("noto", "1f419", named)
    assert {frame.format("octopus") for frame in FRAMES["en"]} < set(found)
    assert all(captions("noto", "2b1b", Named("square", ())))


@pytest.mark.slow
def test_pairs_leave_out_the_held_out_things_in_every_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py", reason="making the pairs needs resvg_py: pip install resvg_py")
    monkeypatch.setattr(pairs, "HANDS", ("fxemoji",))
    try:
        things, tones = write_pairs(tmp_path)
    except PackageUnavailableError as err:
        pytest.skip(f"drawings or names cannot be had: {err}")
    assert things.samples > 300
    assert tones.samples == 0
    reader = ShardReader(tmp_path / "things" / "00000.tar")
    for row in range(len(reader)):
        parts = reader.read(row)
        said = json.loads(parts["json"])
        assert not held_out(said["thing"])
        assert said["captions"][0] == parts["txt"].decode()
        assert parts["png"].startswith(b"\x89PNG")
    reader.close()


@pytest.mark.slow
def test_matched_captions_are_told_from_swapped_on_unseen_drawings() -> None:
    """Matched captions are told from swapped ones on drawings never seen."""
    try:
        fetch("twemoji"), fetch("emoji-names")
    except PackageUnavailableError as err:
        pytest.skip(f"the drawings to measure on cannot be had: {err}")
    found = measure(WEIGHTS)
    assert found.drawings["known"] > 1500
    assert found.auc["known"] >= 0.9
    assert found.auc["unknown"] >= 0.7


@pytest.mark.slow
def test_data_card_says_what_is_measured_today() -> None:
    try:
        made = card(WEIGHTS)
    except PackageUnavailableError as err:
        pytest.skip(f"drawings or names cannot be had: {err}")
    figure = re.compile(r"0\.\d{3}(?= \|)")
    said = CARD.read_text(encoding="utf-8")
    assert figure.sub("*", made) == figure.sub("*", said)
    now, then = ([float(one) for one in figure.findall(text)] for text in (made, said))
    assert now == pytest.approx(then, abs=0.005)  # another processor's bf16, or float32, ends in other last bits
