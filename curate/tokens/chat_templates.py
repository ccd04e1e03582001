"""Chat templates that come with a model's tokenizer, as pieces of text of which answers are scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from curate.tokens.hf import loaded

_STAND_IN = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True)
class HfChat:
    """The words that a model's own template puts around turns; pickled, it is the model's name.

    The template never sees what is said: stand-ins go through it, so that a text that holds its marks, or that it
    would strip, stays as it is.
    """

    model: str

    def __call__(self, roles: Sequence[str], texts: Sequence[str]) -> list[tuple[str, bool]]:
        """Pieces of text and whether each is scored: what an `assistant` says, and the special token that ends it.

        Raises ValueError for a tokenizer without a template, and for turns that it refuses, leaves out or moves.
        """
        words = _STAND_IN.split(self._rendered(roles))
        if [int(number) for number in words[1::2]] != list(range(len(roles))):
            raise ValueError(
                f"the chat template of {self.model} does not say every turn once and in order"
                f" ({', '.join(roles)}); name the words of the chat in the settings"
            )
        pieces = [(words[0], False)]
        for role, text, after in zip(roles, texts, words[2::2], strict=True):
            answers = role == "assistant"
            end = self._end_of_turn(after) if answers else 0
            pieces += [(text, answers), (after[:end], True), (after[end:], False)]
        return [(piece, scored) for piece, scored in pieces if piece]

    def _rendered(self, roles: Sequence[str]) -> str:
        turns = [{"role": role, "content": f"\ue000{number}\ue001"} for number, role in enumerate(roles)]
        tokenizer = loaded(self.model)
        if not tokenizer.chat_template:
            raise ValueError(f"the tokenizer of {self.model} has no chat template; name the words of the chat instead")
        try:
            return str(tokenizer.apply_chat_template(turns, tokenize=False))
        except Exception as error:  # what a template raises has no common base
            raise ValueError(
                f"the chat template of {self.model} refuses the turns {', '.join(roles)}: {error}"
            ) from error

    def _end_of_turn(self, after: str) -> int:
        """Where the first special token behind an answer ends; 0 where there is none."""
        special = sorted(loaded(self.model).all_special_tokens, key=len, reverse=True)
        found = re.search("|".join(map(re.escape, special)), after) if special else None
        return found.end() if found else 0
