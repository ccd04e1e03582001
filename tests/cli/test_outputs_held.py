"""One command at a time writes an output: a second is refused in a sentence, and a dead one holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Workplace
from mixtures import a_dataset

from curate.process import HeldError, hold

HOLDER = """
import sys, time
from pathlib import Path
from curate.process import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A published dataset of pairs."""
    return a_dataset(tmp_path / "pairs", 4)


COMMANDS: dict[str, tuple[list[str], bool]] = {
    "run": (["run", "RECIPE", "--inline"], False),
    "retry": (["retry", "RECIPE", "--inline"], False),
    "convert": (["convert", "DATASET", "--to", "datasets", "--out", "OUT"], True),
    "index": (["index", "OUT"], False),
    "mix": (["mix", "DATASET=1", "--out", "OUT"], True),
    "quality": (["quality", "--positive", "a.txt", "--negative", "b.txt", "--out", "OUT.bin"], True),
    "prepare": (["prepare", "fonts", "--out", "OUT"], False),
    "demo": (["demo", "--out", "OUT", "--inline"], False),
}
"""Each command with an output OUT, and whether it makes that whole."""


@pytest.mark.parametrize("name", COMMANDS)
def test_second_command_into_one_output_is_refused_in_a_sentence(place: Workplace, dataset: Path, name: str) -> None:
    words, whole = COMMANDS[name]
    place.images(2)
    recipe = place.recipe()
    said = {"RECIPE": recipe, "DATASET": dataset, "OUT": place.out}
    if name == "index":
        place.out.mkdir()
        (place.out / "0.tar").write_bytes(bytes(1024))
    filled = [str(said.get(word, word)).replace("OUT.", f"{place.out}.") for word in words]
    filled = [word.replace("DATASET=", f"{dataset}=") for word in filled]
    held = Path(f"{place.out}.bin") if name == "quality" else place.out
    with hold(held, whole):
        found = place.curate(*filled)
    assert found.code == 1 and "another run is at work" in found.stderr and str(held) in found.stderr
    assert "Traceback" not in found.stderr and len(found.stderr.strip().splitlines()) <= 2


def test_second_training_into_one_folder_is_refused_in_a_sentence(place: Workplace, dataset: Path) -> None:
    assert place.curate("mix", dataset, "-o", place.root / "m.json").code == 0
    with hold(place.out):
        words = (
            "train",
            place.root / "m.json",
            "--config",
            "demo-train",
            "--out",
            place.out,
            "--set",
            "run.device=cpu",
        )
        found = place.curate(*words)
    assert found.code == 1 and f"{place.out}: another run is at work in this folder" in found.stderr


def test_lock_goes_with_its_process_however_it_dies_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(HeldError), hold(out):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with hold(out):
        (out / "made").touch()
    assert [path.name for path in out.iterdir()] == ["made"]


def test_folder_that_was_held_for_nothing_is_not_left_behind(tmp_path: Path) -> None:
    with hold(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()
    assert not (tmp_path / "out").exists()
