"""Skips are counted, and one that is not on this short list fails the run: no promise goes untested unseen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

ALLOWED = {
    r"right to mount|only root may mount": "a full disk is a small one, mounted by root",
    r"\((debian|npm|pypi)\): ": "a package of a registry is out of reach, or its client is not installed",
    r"engine tesseract: ": "tesseract and its languages are programs of the system",
    r"DejaVu Sans is not installed": "a typeface of the system",
    r"FriBiDi": "a library of the system, by which Pillow shapes Arabic and Hebrew",
}
"""What a skip's reason may say, and why the machine and not the package decides it."""


def reasons(reporter: Any) -> Iterator[str]:
    """Why each test, or file of tests, was skipped."""
    for report in reporter.stats.get("skipped", ()):
        told = report.longrepr
        yield str(told[2] if isinstance(told, tuple) else told).removeprefix("Skipped: ")


def unlisted(reporter: Any) -> list[str]:
    """The reasons that are not allowed."""
    return [told for told in reasons(reporter) if not any(re.search(allowed, told) for allowed in ALLOWED)]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for a skip that is not on the list. The workers of xdist report to a session that counts."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and unlisted(reporter) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many were skipped, and which of them must not be."""
    count, wrong = len(list(reasons(terminalreporter))), unlisted(terminalreporter)
    terminalreporter.write_line(f"{count} skipped, {len(wrong)} of them not on the list of tests/skips.py")
    for told in sorted(set(wrong)):
        terminalreporter.write_line(f"FAILED: skipped without leave: {told}", red=True)
