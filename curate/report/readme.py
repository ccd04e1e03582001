"""Make the README.md beside a dataset's tars, as Hugging Face's `datasets` reads it.

Without it `datasets` takes the members of the first five samples for those of all, and refuses or loses what others
have: documents differ in how many images they have, pictures in their format, what a source said in its fields.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from curate.engine.formats import is_picture, part_names
from curate.report.examples import shown
from curate.shards import DatasetInfo

README = "README.md"


def described(folder: Path, info: DatasetInfo) -> dict[str, Any]:
    """The fields of a card's head by which `datasets.load_dataset(folder)` opens the tars (it needs version 5)."""
    found: dict[str, Any] = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "*.tar"}]}]
    }
    if info.samples:
        names = part_names(folder, info)
        columns = [{"name": name, "dtype": _type(name)} for name in (*names, "__key__", "__url__")]
        found["dataset_info"] = {"features": columns}
    return found


def front(fields: dict[str, Any]) -> str:
    """The head of a card; a text in it is one line, and nothing in it ends the head."""
    fields = {name: shown(value, 200) if isinstance(value, str) else value for name, value in fields.items()}
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1 << 30)}---\n"


def markdown(text: str) -> str:
    """Text of anyone's inside Markdown: one line, its marks as they are, no HTML, no link."""
    escaped = re.sub(r"([\\`*_{}\[\]<>#|!~&])", r"\\\1", shown(text, 200))
    return re.sub(r"(?i)(?<=[a-z])(:)(?=//)|(?<=\bwww)(\.)", lambda found: f"&#{ord(found[0])};", escaped)


def plain(folder: Path, info: DatasetInfo, license_of: str = "unknown") -> str:
    """The README.md beside a dataset's tars: of what lies in them alone, so that the same dataset has the same."""
    fields = {"pretty_name": info.name, "license": license_of} | described(folder, info)
    return (
        f"{front(fields)}\n# {markdown(info.name)}\n\n"
        f"{info.samples:,} samples of kind `{info.kind}`: webdataset tars, an index beside each.\n\n"
        "```python\nimport datasets\n\n"
        'rows = datasets.load_dataset("the/path/of/this/folder", split="train", streaming=True)\n```\n'
    )


def _type(name: str) -> str:
    known = {"json": "json", "txt": "string", "__key__": "string", "__url__": "string"}
    return known.get(name) or ("image" if is_picture(name) else "binary")
