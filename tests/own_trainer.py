"""The adapters of docs/own-trainer.md as a reader copies them: a section's code, printed into a module and imported."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from curate import mix

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-trainer.md"
FIRST = 1000
"""Uids that are compared."""


def blocks(page: Path) -> dict[str, list[str]]:
    """The Python of each section, by its heading."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        heading: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


def adapter(folder: Path, *headings: str) -> ModuleType:
    """A module of the code of these sections, in a file of its own, so that other processes can import it too."""
    name = "own_" + "_".join(re.sub(r"\W+", "", heading).lower() for heading in headings)
    path = folder / f"{name}.py"
    path.write_text("\n\n".join(code for heading in headings for code in blocks(PAGE)[heading]))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_uids(manifest: Path, count: int = FIRST) -> list[str]:
    """The uids at the mixture's first positions, from the indexes alone."""
    return [sample.uid for sample in mix.uids_at(mix.read(manifest), np.arange(count))]
