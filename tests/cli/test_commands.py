"""What the command line promises: exit codes, results on stdout and all else on stderr, help with examples."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Workplace, kill_group

from pipelines.cli.main import app

COMMANDS = sorted(c.name or c.callback.__name__ for c in app.registered_commands if c.callback)  # type: ignore[union-attr]
HEAVY = ("torch", "ray", "open_clip", "datasets", "duckdb", "cv2", "img2dataset", "pandas", "webdataset")


@pytest.fixture(scope="module")
def done(make_place: Any) -> Workplace:
    """A workplace with a finished run."""
    place: Workplace = make_place("cli")
    place.images(30)
    (place.src / "broken.png").write_bytes(b"<html>")
    (place.src / "broken.txt").write_text("text")
    steps = [{"op": "image_size", "keep": {"min_side": {"min": 12}, "pixels": {"top": 0.7}}}]
    assert place.run(place.recipe(steps=steps, publish={"columns": ["width"]})).code == 0
    return place


def uid_of_kept(place: Workplace) -> str:
    return str(next(t["uid"] for t in place.explained() if t["outcome"] == "kept"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(done: Workplace, command: str) -> None:
    found = done.curate(command, "--help")
    assert found.code == 0
    if command != "train":  # the trainer's own help
        assert "Example:" in found.stdout and f"curate {command}" in found.stdout.partition("Example:")[2]


def test_command_without_arguments_shows_help_and_is_wrong_use(done: Workplace) -> None:
    """No arguments show the help and are wrong use."""
    found = done.curate()
    assert found.code == 2 and "run" in found.stdout + found.stderr


def test_version_is_told(done: Workplace) -> None:
    from curate import __version__

    assert done.curate("--version").stdout == f"curate {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["run"], ["run", "a.yaml", "--worker", "3"], ["run", "a.yaml", "--workers", "0"], ["ru", "a.yaml"],
        ["status"], ["explain", "abc"], ["run", "no-such.yaml"], ["run", "no-such.yaml", "--set", "x"],
    ],
)  # fmt: skip
def test_wrong_use_exits_with_2_and_says_why_on_stderr(done: Workplace, words: list[str]) -> None:
    found = done.curate(*words)
    assert found.code == 2 and found.stdout == "" and found.stderr.strip()
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["status", "no-such-folder"],
        ["explain", "ffffffffffffffff", "--out", "{out}"],
        ["verify", "{out}/nothing"],
        ["mix", "{out}/nothing=1", "-o", "{out}/m.json"],
        ["mix", "{out}/dataset=much", "-o", "{out}/m.json"],
    ],
)
def test_command_that_cannot_be_done_exits_with_1_and_one_sentence(done: Workplace, words: list[str]) -> None:
    """What cannot be done exits with 1 and one sentence."""
    found = done.curate(*(w.format(out=done.out) for w in words))
    assert found.code == 1 and found.stdout == "" and found.stderr.startswith("error: ")


def test_json_stands_alone_on_stdout_wherever_a_table_is_printed(done: Workplace) -> None:
    recipe = done.root / "recipe.yaml"
    dataset = f"{done.dataset}=0.5"
    for words in (
        ["run", recipe, "--inline", "--json"],
        ["run", recipe, "--dry-run", "--json"],
        ["status", done.out, "--json"],
        ["explain", uid_of_kept(done), "--out", done.out, "--json"],
        ["ops", "--json"],
        ["ops", "image_size", "--json"],
        ["sources", "--json"],
        ["sources", "warc", "--json"],
        ["mix", dataset, "-o", done.root / "m.json", "--json"],
        ["schema"],
    ):
        found = done.curate(*words)
        assert found.code == 0, (words, found.stderr)
        assert found.json, words


def test_progress_goes_to_stderr_and_the_funnel_to_stdout(done: Workplace) -> None:
    done.out = done.root / "again"
    path = done.root / "again.yaml"
    path.write_text((done.root / "recipe.yaml").read_text().replace(str(done.root / "out"), str(done.out)))
    found = done.command("run", path, "--inline")
    done.out = done.root / "out"
    assert found.code == 0
    assert "shards done" in found.stderr and "shards done" not in found.stdout
    for words in ("funnel", "ingest", "min_side.min", "pixels.top", "html_instead_of_image", "dataset"):
        assert words in found.stdout and words not in found.stderr.replace(str(path), "").replace("ingest:", "")


def test_status_shows_the_funnel_of_the_last_run(done: Workplace) -> None:
    found = done.curate("status", done.out)
    assert found.code == 0 and "html_instead_of_image" in found.stdout and "pixels.top" in found.stdout
    said = done.curate("status", done.out, "--json").json
    assert said["funnel"][0]["failed"] == {"html_instead_of_image": 1}


def test_explain_tells_every_column_the_rule_its_value_and_the_origin(done: Workplace) -> None:
    rows = [r for first in "0123456789abcdef" for r in done_explained(done, first)]
    dropped = next(r for r in rows if r["rule"] == "pixels.top")
    columns = next(iter(dropped["columns"].values()))
    assert dropped["outcome"] == "dropped" and dropped["step"] == "image_size"
    assert dropped["value"] == columns["pixels"] == columns["width"] * columns["height"]
    assert dropped["origin"].endswith(".png") and dropped["text"]
    failed = next(r for r in rows if r["outcome"] == "failed")
    assert failed["rule"] == "html_instead_of_image" and failed["remedy"] and failed["origin"] == "broken.png"
    assert failed["columns"] == {}
    shown = done.curate("explain", dropped["uid"][:10], "--out", done.out).stdout
    assert "pixels.top" in shown and dropped["origin"] in shown


def done_explained(place: Workplace, prefix: str) -> list[dict[str, Any]]:
    found = place.curate("explain", prefix, "--out", place.out, "--json")
    return list(found.json) if found.code == 0 else []


def test_dry_run_computes_nothing_and_leaves_no_dataset(place: Workplace) -> None:
    place.images(12)
    path = place.recipe(steps=[{"op": "image_size", "keep": {"width": {"min": 10}}}])
    found = place.curate("run", path, "--dry-run")
    assert found.code == 0 and "12 rows in 2 shards" in found.stdout and "width min 10" in found.stdout
    assert not list(place.out.rglob("*.tar")) and not place.dataset.exists()


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, {}])
def test_colour_is_written_only_where_it_is_wanted(done: Workplace, env: dict[str, str]) -> None:
    """No colour is written where none is wanted."""
    for words in (["status", done.out], ["run", "no-such.yaml"], ["--help"]):
        found = done.command(*words, env=env)
        assert not re.search(r"\x1b\[[0-9;]*(3[0-8]|9[0-7])m", found.stdout + found.stderr)


def interrupted(process: Any, place: Workplace, shards: int, within_s: float) -> tuple[str, str]:
    """Ctrl-C once an op's columns of so many shards are committed; what the process said."""
    try:
        until = time.monotonic() + within_s
        while len(list(place.out.glob("pool-*/columns/*/*.parquet"))) < shards:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        said: tuple[str, str] = process.communicate(timeout=60)
        return said
    finally:
        kill_group(process)


def test_ctrl_c_stops_with_130_and_the_same_command_goes_on(place: Workplace) -> None:
    place.images(30)
    place.write_module("sleepy", SLEEPY)
    path = place.recipe(steps=[{"op": "sleepy:doze"}], shard_samples=5)
    process = place.start("run", path, "--inline")
    out, err = interrupted(process, place, 2, 60)
    assert process.returncode == 130 and out == ""
    assert err.rstrip().endswith("stopped; run the same command to go on") and "Traceback" not in err
    (place.root / "awake").touch()
    assert 5 <= place.run(path).steps["doze"]["reused"] < 30


SLEEPY = '''
import time
from pathlib import Path
import pyarrow as pa
from curate.ops import op

@op(reads="text", writes={"awake": pa.bool_()}, version=1)
def doze(texts):
    """Takes its time."""
    if not Path(__file__).with_name("awake").exists():
        time.sleep(1)
    return {"awake": [True] * len(texts)}
'''


@pytest.mark.slow
def test_ctrl_c_stops_ray_as_well(place: Workplace) -> None:
    place.images(40)
    place.write_module("sleepy", SLEEPY)
    process = place.start("run", place.recipe(steps=[{"op": "sleepy:doze"}], shard_samples=2), "--workers", "2")
    _, err = interrupted(process, place, 1, 120)
    assert process.returncode == 130, err
    assert "stopped; run the same command to go on" in err and "Traceback" not in err


def test_closed_pipe_ends_quietly(done: Workplace) -> None:
    words = [sys.executable, "-m", "pipelines", "schema"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, bufsize=0) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        err = process.stderr.read().decode()
        code = process.wait(60)
    assert "Traceback" not in err and "BrokenPipe" not in err and code in (0, 1, 141)


def test_op_in_a_module_where_the_command_is_given_is_found(place: Workplace) -> None:
    place.images(3)
    place.write_module("sleepy", SLEEPY)
    (place.root / "awake").touch()
    command = Path(sys.executable).with_name("curate")
    words = [command, "run", place.recipe(steps=[{"op": "sleepy:doze"}]), "--inline", "--json"]
    found = subprocess.run(words, capture_output=True, text=True, cwd=place.root, check=False)
    assert found.returncode == 0, found.stderr


def test_module_beside_the_recipe_is_no_traceback_when_it_is_broken(place: Workplace) -> None:
    place.images(1)
    place.write_module("torn", "def f(:\n")
    found = place.run(place.recipe(steps=[{"op": "torn:f"}]))
    assert found.code == 2 and "torn" in found.stderr


@pytest.mark.parametrize("code", ["import curate, curate.recipe.model", "import curate.engine.run, pipelines.cli.show"])
def test_heavy_libraries_are_imported_only_where_they_are_used(code: str) -> None:
    told = f"{code}; import sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout) == []


def test_every_command_of_the_readme_and_the_recipes_exists() -> None:
    texts = [p.read_text() for p in (ROOT / "README.md", *(ROOT / "recipes").glob("*.yaml")) if p.exists()]
    named = {m for text in texts for m in re.findall(r"(?:^|[`#$]) *curate ([a-z]+) ", text, re.MULTILINE)}
    known = {*COMMANDS, *(group.name for group in app.registered_groups)}
    assert named <= known, named - known


def test_paths_in_funnel_json_do_not_depend_on_the_machine(done: Workplace) -> None:
    for name in ("funnel.json", "published.json", "dataset/dataset.json"):
        assert str(Path(done.root)) not in (done.out / name).read_text()


def test_earlier_pool_that_is_not_read_any_more_is_named(place: Workplace) -> None:
    place.images(3)
    path = place.recipe()
    assert "pool-" not in place.run(path).stderr
    (before,) = place.out.glob("pool-*")
    (place.src / "new.png").write_bytes(place.png(40, 40))
    assert "also holds" not in place.curate("run", path, "--inline").stderr  # the same pool has grown
    found = place.curate("run", path, "--inline", "--set", "shard_samples=7")
    assert found.code == 0 and f"also holds {before.name}" in found.stderr


def test_out_that_is_a_file_is_named_without_numbers(place: Workplace) -> None:
    place.images(1)
    (place.root / "taken").write_text("")
    found = place.run(place.recipe(), "--set", f"out={place.root / 'taken'}")
    assert found.code == 1 and "[Errno" not in found.stderr
    assert f"{place.root / 'taken'}: a file lies where a folder should be" in found.stderr


def test_op_describes_itself_in_a_whole_sentence(done: Workplace) -> None:
    """What an op says of itself is a whole sentence."""
    said = json.loads(done.command("ops", "--json").stdout)
    assert [op["op"] for op in said if not op["summary"].endswith(".")] == []


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "much"])
def test_weight_that_is_none_is_named_with_its_dataset(done: Workplace, weight: str) -> None:
    found = done.command("mix", f"{done.out / 'dataset'}={weight}", "-o", done.root / "none.json")
    assert found.code == 1 and f"dataset={weight}: expected PATH=WEIGHT" in found.stderr


def test_step_beyond_every_position_is_refused_in_words(done: Workplace) -> None:
    manifest = done.root / "far.json"
    assert done.command("mix", done.out / "dataset", "-o", manifest).code == 0
    found = done.command("mix", "at", manifest, "--step", 10**20, "--batch", 4)
    assert found.code == 1 and "positions end at 2**63" in found.stderr
    found = done.command("mix", "simulate", manifest, "--steps", 10**20, "--batch", 4)
    assert found.code == 1 and f"at most {2**46:,} steps" in found.stderr


def test_folder_of_an_earlier_version_is_said_to_be_one(place: Workplace) -> None:
    """What an earlier version made is said to be of an earlier version."""
    place.out.mkdir()
    (place.out / "funnel.json").write_text('{"pool": "pool-0123", "key": "4567", "columns": {}}')
    found = place.curate("explain", "ab", "--out", place.out)
    assert found.code != 0 and "earlier version" in found.stderr and "Traceback" not in found.stderr
