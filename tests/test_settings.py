"""What a settings file promises: nothing wrong in it is accepted, and every refusal says where, what and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from curate.settings import Settings, SettingsError, load


class Inner(Settings):
    size_px: int = 1
    mode: Literal["fast", "exact"] = "fast"


class Entry(Settings):
    op: str
    inner: Inner = Inner()


class Outer(Settings):
    name: str
    inner: Inner = Inner()
    steps: tuple[Entry, ...] = ()


class Aliased(Settings):
    name: str = ""
    in_: int = Field(0, alias="in")


def read(tmp_path: Path, text: str, *overrides: str) -> Outer:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    return load(tmp_path / "a.yaml", Outer, overrides)


def refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text, *overrides)
    return str(caught.value)


def test_wrong_key_is_named_with_file_line_path_and_the_nearest_valid_one(tmp_path: Path) -> None:
    said = refusal(tmp_path, "name: x\ninner:\n  size_pix: 3\n")
    assert said.startswith(f"{tmp_path / 'a.yaml'}:3: inner.size_pix: ")
    assert "unknown key 'size_pix'" in said and "did you mean 'size_px'" in said and "mode, size_px" in said


def test_wrong_key_in_a_list_is_named_by_its_number(tmp_path: Path) -> None:
    said = refusal(tmp_path, "name: x\nsteps:\n  - op: a\n  - op: b\n    iner: {}\n")
    assert ":5: steps.1.iner: " in said and "did you mean 'inner'" in said


def test_wrong_type_is_named_with_what_was_found(tmp_path: Path) -> None:
    said = refusal(tmp_path, "name: x\ninner:\n  size_px: many\n")
    assert ":3: inner.size_px: " in said and "integer" in said and "'many' (str)" in said


def test_wrong_choice_is_named_with_what_is_allowed_and_the_nearest(tmp_path: Path) -> None:
    said = refusal(tmp_path, "name: x\ninner: {mode: exakt}\n")
    assert "'fast' or 'exact'" in said and "'exakt'" in said and "did you mean 'exact'" in said


def test_missing_key_is_named(tmp_path: Path) -> None:
    assert "name: missing" in refusal(tmp_path, "inner: {}\n")


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, "nam: x\ninner: {size_px: many}\n")
    assert "nam: unknown key" in said and "name: missing" in said and "inner.size_px" in said


def test_key_that_stands_twice_is_refused_where_it_stands_again(tmp_path: Path) -> None:
    assert ":3: name: the key stands twice" in refusal(tmp_path, "name: x\ninner: {}\nname: y\n")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "words", "name: [", "\tname: x", "name: !!python/object:os.x {}"])
def test_file_that_is_no_mapping_or_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    """What is no mapping or no yaml is refused."""
    assert str(tmp_path / "a.yaml") in refusal(tmp_path, text)


def test_broken_yaml_is_told_in_one_line_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"a\.yaml:3: not valid YAML at column 11: .*; look at this") as refused:
        read(tmp_path, "name: a\nsteps:\n  inner: x: y\n")
    assert "\n" not in str(refused.value)


def test_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a folder; name a YAML file in it"):
        load(tmp_path, Outer)


def test_allowed_keys_are_named_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("inn: 1")
    with pytest.raises(SettingsError, match=r"unknown key 'inn' .*allowed: in, name"):
        load(tmp_path / "a.yaml", Aliased)


def test_yaml_that_expands_without_end_is_refused(tmp_path: Path) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]\n"
    assert "a.yaml" in refusal(tmp_path, bomb)


def test_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("name: x")
    with pytest.raises(SettingsError, match=r"no such file - did you mean 'demo\.yaml'"):
        load(tmp_path / "dem.yaml", Outer)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(SettingsError, match=r"a\.yaml"):
        load(tmp_path / "a.yaml", Outer)


def test_set_overrides_a_value_by_its_path(tmp_path: Path) -> None:
    found = read(tmp_path, "name: x\ninner: {size_px: 2}\n", "inner.size_px=7", "name=y")
    assert (found.inner.size_px, found.name) == (7, "y")


def test_set_makes_the_sections_that_the_file_leaves_out(tmp_path: Path) -> None:
    assert read(tmp_path, "name: x\n", "inner.mode=exact").inner.mode == "exact"


def test_set_finds_a_list_entry_by_number_or_by_its_op(tmp_path: Path) -> None:
    text = "name: x\nsteps: [{op: a}, {op: b}]\n"
    found = read(tmp_path, text, "steps.b.inner.size_px=5", "steps.0.inner.size_px=4")
    assert [s.inner.size_px for s in found.steps] == [4, 5]


def test_set_of_an_op_that_stands_twice_asks_for_its_number(tmp_path: Path) -> None:
    text = "name: x\nsteps: [{op: a}, {op: a}]\n"
    assert "stands 2 times; give its number" in refusal(tmp_path, text, "steps.a.inner.size_px=5")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("name", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("inner.size_pix=3", "did you mean 'size_px'"),
        ("inner.size_px=many", "integer"),
        ("steps.aa.inner.size_px=3", "no entry 'aa' in a list of 1"),
        ("steps.7.inner.size_px=3", "no entry '7' in a list of 1; give its number"),
        ("name.below=3", "no keys"),
        ("inner.size_px=[", "not valid YAML"),
    ],
)
def test_wrong_set_is_refused_like_a_wrong_file(tmp_path: Path, override: str, words: str) -> None:
    assert words in refusal(tmp_path, "name: x\nsteps: [{op: a}]\n", override)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_that_are_no_numbers_are_refused(tmp_path: Path, value: str) -> None:
    class Numbers(Settings):
        share: float

    (tmp_path / "a.yaml").write_text(f"share: .{value}\n".replace(".-", "-."))
    with pytest.raises(SettingsError, match="finite"):
        load(tmp_path / "a.yaml", Numbers)
