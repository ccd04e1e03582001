"""What the pages on training print is what a run takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from train.config import Config

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "training").glob("*.md"))


def settings_in(page: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every YAML document printed on a page that is of a run's sections, with its line."""
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"```yaml\n(.*?)```", text, re.DOTALL):
        for found in yaml.safe_load_all(block.group(1)):
            if isinstance(found, dict) and found.keys() <= Config.model_fields.keys():
                yield text[: block.start()].count("\n") + 1, found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_a_page_prints_are_a_runs(page: Path) -> None:
    for line, found in settings_in(page):
        try:
            Config.model_validate(found)
        except ValueError as err:
            pytest.fail(f"{page.name}:{line}: {err}")


def test_pages_print_settings_of_every_objective_but_the_two_of_dual_encoders() -> None:
    shown = {found["objective"]["type"] for page in PAGES for _, found in settings_in(page) if "objective" in found}
    assert {"qformer", "caption", "multimodal", "text_only"} <= shown
