"""Prompts: a readable file each, with its source, filled in with data in one pass.

`{{name}}` stands for a value. What is filled in is never read again, so braces in data break nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from curate import settings
from curate.llm.chat import ChatPicture, Message
from curate.settings import Settings, SettingsError, unknown_message

FOLDER = Path(__file__).parent / "prompts"
_PLACE = re.compile(r"\{\{([a-z][a-z0-9_]*)\}\}")


class _PromptFile(Settings):
    """The keys of a prompt's file."""

    source: str = Field(description="Where it comes from, a paper with its section, or what it is for.")
    wording: Literal["ours", "verbatim"] = Field(description="Whether the words are the source's own.")
    system: str | None = None
    user: str


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with places to fill in. `digest` is of its words alone: it names answers, and columns."""

    name: str
    source: str
    wording: str
    system: str | None
    user: str

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of its words."""
        return hashlib.sha256(f"{self.system or ''}\0{self.user}".encode()).hexdigest()[:16]

    @property
    def places(self) -> frozenset[str]:
        """The names of what is filled in."""
        return frozenset(_PLACE.findall(f"{self.system or ''}\0{self.user}"))

    def messages(self, values: Mapping[str, str], pictures: Sequence[ChatPicture] = ()) -> tuple[Message, ...]:
        """The messages of a request; pictures stand before the words. Raises ValueError where values do not fit."""
        if missing := sorted(self.places - set(values)):
            raise ValueError(f"prompt {self.name}: no value for {{{{{missing[0]}}}}}; known are {', '.join(values)}")

        def fill(text: str) -> str:
            return _PLACE.sub(lambda place: values[place[1]], text.strip())

        system = [Message("system", (fill(self.system),))] if self.system else []
        return (*system, Message("user", (*pictures, fill(self.user))))


def load_prompt(name: str) -> PromptTemplate:
    """Load a prompt of ours by its name, or a user's own by its path. Raises SettingsError."""
    path = FOLDER / f"{name}.yaml" if re.fullmatch(r"[a-z0-9_-]+", name) else Path(name).expanduser()
    if path.parent == FOLDER and not path.exists():
        known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
        raise SettingsError(f"{unknown_message('prompt', name, known)}; your own is named by its path")
    said = settings.load(path, _PromptFile)
    return PromptTemplate(path.stem, said.source, said.wording, said.system, said.user)
