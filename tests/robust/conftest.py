"""The table of what was killed and what became of it, printed at the end."""

from __future__ import annotations

from typing import Any

import pytest

ROWS = pytest.StashKey[list[dict[str, Any]]]()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Rows of the table, a dict each: victim, command, deaths, outcome."""
    found: list[dict[str, Any]] = request.config.stash.setdefault(ROWS, [])
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        terminalreporter.write_line("\n| victim | command | deaths | outcome |\n|---|---|---|---|")
        for row in rows:
            terminalreporter.write_line(f"| {row['victim']} | {row['command']} | {row['deaths']} | {row['outcome']} |")
