"""Choose the text and the prompts that a sample is trained on, by (uid, epoch)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from curate import mix
from curate.mix.content import own_text, texts_under
from curate.stream.images import keyed_rng
from curate.stream.reading import DrawnSample

PLACE = "{text}"
"""Where a template puts the sample's text; without it the text comes last."""


@dataclass(frozen=True)
class Prompts:
    """Prompts around a sample's text, not scored: a system prompt, and a template's two halves."""

    system: str = ""
    before: str = ""
    after: str = ""

    def wrap(self, text: str) -> str:
        """Put the text within its template."""
        return self.before + text + self.after


@dataclass(frozen=True)
class TextChooser:
    """Chooses texts and prompts as the mixture says; `seed` decides among several texts under one key."""

    mixture: mix.Mixture
    seed: int

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The sources' numbers by their names."""
        return {source.name: number for number, source in enumerate(self.mixture.manifest.datasets)}

    def key(self, source: int, uid: str, epoch: int) -> str | None:
        """The key of the text that is taken at this access; None for the sample's own."""
        return self.mixture.choose(source, uid, epoch)

    def choose_index(self, uid: str, epoch: int, count: int) -> int:
        """Choose one of `count` texts under one key."""
        return int(keyed_rng(self.seed, uid, epoch, "text").integers(count)) if count > 1 else 0

    def choose_text(self, drawn: DrawnSample) -> str | None:
        """Choose the text that the mixture says; None for the sample's own. Raises ValueError where it is not there."""
        key = self.key(self.numbers[drawn.source], drawn.uid, drawn.epoch)
        if key is None:
            return None
        found = texts_under(drawn.parts, key)
        if not found:
            raise ValueError(f"the mixture chose the text {key!r}, which is no part and no text in the JSON")
        return found[self.choose_index(drawn.uid, drawn.epoch, len(found))]

    def text(self, drawn: DrawnSample) -> str:
        """The sample's text at this access. Raises ValueError."""
        chosen = self.choose_text(drawn)
        return own_text(drawn.parts) if chosen is None else chosen

    def prompts(self, source: int, uid: str, epoch: int) -> Prompts:
        """The prompts that the mixture puts around the text at this access."""
        choices = self.mixture.manifest.datasets[source].choices
        if not (choices.get("template") or choices.get("system")):
            return Prompts()
        template = self.mixture.choose(source, uid, epoch, "template")
        before, _, after = (template or PLACE).partition(PLACE)
        system = self.mixture.choose(source, uid, epoch, "system") or ""
        return Prompts(system, before, after)

    def refuse_choices(self, kind: str, reason: str) -> None:
        """Raise MixtureError if a source has choices of that kind."""
        for source in self.mixture.manifest.datasets:
            if source.choices.get(kind):
                raise mix.MixtureError(
                    f"the mixture's source {source.name!r} chooses a {kind}, {reason}; leave it out of the"
                    " specification"
                )
