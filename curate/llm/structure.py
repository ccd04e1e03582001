"""The structure of texts that a chat model writes: how examples are shown to it, and its own read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from curate.text.words import plain_words

Parts = Mapping[str, str]
"""A text by its parts: `text` alone, or `context`, `question` and `answer`."""

_REFUSALS = re.compile(
    r"\s*(?:i['’]?m (?:very |so )?sorry|sorry\b|i apologi[sz]e|as an? (?:ai|artificial|(?:large )?language model)"
    r"|(?:unfortunately,? )?i (?:can(?:no|['’])?t|am (?:not able|unable)|won['’]?t|will not)\b)",
    re.IGNORECASE,
)
_META = re.compile(
    r"\s*(?:(?:sure|certainly|of course|okay)[,!.:]|here(?:['’]s| is| are) [^\n]{0,80}:\s"
    r"|(?:the )?(?:fourth )?example(?: \d)?:)"
    r"|[^\n]{0,80}\b(?:fourth example|example 4|same structure|examples? (?:above|given|provided))",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\A\s*```\w*\n(.*?)\n?```\s*\Z", re.DOTALL)


class Fault(NamedTuple):
    """A text that is not of the structure: a name in snake_case, and what was found."""

    error: str
    detail: str


class Structure:
    """The parts of a text in their order, each with the fewest and the most words that it may have.

    Several parts are shown with their names before them, a line each (`Question: ...`); one part is shown bare.
    """

    def __init__(self, bounds: Mapping[str, tuple[float, float]]) -> None:
        self.names, self._bounds = tuple(bounds), bounds
        labels = [f"{_label(name)}:" for name in self.names]
        between = r"(.*?)\n\s*".join(re.escape(label) for label in labels)
        self._labelled = re.compile(rf"\A\s*{between}(.*)\Z", re.DOTALL | re.IGNORECASE)
        self._label = re.compile(rf"^\s*(?:{'|'.join(map(re.escape, labels))})", re.MULTILINE | re.IGNORECASE)

    @staticmethod
    def of(examples: Sequence[Parts]) -> Structure:
        """The structure of examples: a part has half the words of the shortest to twice those of the longest."""
        counts = {name: [len(plain_words(example[name]).tokens) for example in examples] for name in examples[0]}
        return Structure({name: (min(found) / 2, max(found) * 2) for name, found in counts.items()})

    def show(self, parts: Parts) -> str:
        """The text as it stands in a prompt, and in the pool."""
        if len(self.names) == 1:
            return parts[self.names[0]]
        return "\n".join(f"{_label(name)}: {parts[name]}" for name in self.names)

    def read(self, said: str) -> Parts | Fault:
        """The parts of a model's text, or why it is not one more example.

        refusal, meta_talk (it talks of the examples, or to whoever asked), wrong_structure (a part is missing, empty,
        or there twice), too_short, too_long.
        """
        said = fenced[1] if (fenced := _FENCE.match(said)) else said
        if _REFUSALS.match(said):
            return Fault("refusal", said)
        parts = self._split(said)
        if parts is None or not all(parts.values()):
            return Fault("meta_talk" if _META.match(said) else "wrong_structure", said)
        if any(_META.match(part) for part in parts.values()):
            return Fault("meta_talk", said)
        for name, (least, most) in self._bounds.items():
            count = len(plain_words(parts[name]).tokens)
            if not least <= count <= most:
                return Fault("too_short" if count < least else "too_long", f"{name}: {count} words")
        return parts

    def _split(self, said: str) -> Parts | None:
        if len(self.names) == 1:
            return {self.names[0]: said.strip()}
        found = self._labelled.match(said)
        if found is None or len(self._label.findall(said)) != len(self.names):
            return None
        return {name: part.strip() for name, part in zip(self.names, found.groups(), strict=True)}


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()
