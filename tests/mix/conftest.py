"""Three datasets to mix."""

from __future__ import annotations

from pathlib import Path

import pytest
from mixtures import THREE, listed


@pytest.fixture
def home(tmp_path: Path) -> Path:
    listed(tmp_path, THREE, per_shard=50)
    return tmp_path
