from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from curate.ops.spec import identity
from curate.ops.table import find_op
from curate.sample import fingerprint

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("op", "knobs", "named"),
    [
        ("language", {}, "a49b8fc1b3f616a2"),
        ("nsfw", {}, "c3cd1ca44f729341"),
        ("obelics_text", {"flagged": "words.txt"}, "946cf9075054867e"),
        ("contamination", {"benchmarks": ["words.txt"]}, "261008ea6568b820"),
    ],
)
def test_fingerprint_of_an_op_with_files_is_that_of_pools_made_before(
    op: str, knobs: Mapping[str, Any], named: str
) -> None:
    """Golden values: what version 0.1 gives, by which its pools name the columns. Another value computes them anew.

    Those of obelics_text (2) and contamination (3) are of the versions in which scripts without spaces have words.
    """
    assert fingerprint(identity(find_op(op), knobs)) == named
