"""A web server on loopback for the tests of downloads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostile import Site


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()
