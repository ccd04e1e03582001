"""Mixtures that a trainer's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from train_samples import mixture, of_every_kind


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_every_kind(tmp_path_factory.mktemp("kinds"))
