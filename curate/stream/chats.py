"""Words of chats: what is put around the turns of a conversation, and which of it is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator

from curate.settings import Settings

Role = Literal["system", "user", "assistant"]
Chat = Callable[[Sequence[Role], Sequence[str]], list[tuple[str, bool]]]
"""From the roles and texts of turns to pieces of text and whether each is scored: an answer and what ends it.

Pure, and hashable. Texts must come back as they are, each once and in order: it is asked with stand-ins for them, so
that the lengths of conversations follow from their layouts.
"""
PLACE = "{text}"


def _with_place(words: str) -> str:
    if words.count(PLACE) != 1:
        raise ValueError(f"{words!r} must say once where the text goes: {PLACE}")
    return words


TurnWords = Annotated[str, AfterValidator(_with_place)]


class ChatTemplate(Settings):
    """Words around each role's turns, `{text}` where its text goes; `{begin}` and `{end}` are the sequence's marks.

    What an assistant says is scored, and the words that end it.
    """

    user: TurnWords
    assistant: TurnWords
    system: TurnWords = "{text}\n\n"
    user_after_system: TurnWords | None = None
    """Of the first user behind a system that is told something, where that is otherwise."""
    tags: tuple[str, ...] = ()
    """Names among these words that are one id each, which no text can spell."""

    def __call__(self, roles: Sequence[Role], texts: Sequence[str]) -> list[tuple[str, bool]]:
        """The pieces of a chat (`Chat`)."""
        out: list[tuple[str, bool]] = []
        for number, (role, text) in enumerate(zip(roles, texts, strict=True)):
            after_system = role == "user" and number > 0 and roles[number - 1] == "system"
            words = (self.user_after_system if after_system else None) or getattr(self, role)
            before, _, after = words.partition(PLACE)
            out += [(before, False), (text + after, role == "assistant")]
        return out


def named_chat(name: Literal["plain", "own", "chatml", "llama2", "vicuna"]) -> ChatTemplate | None:
    """The words of a published chat; None for `plain`."""
    return _NAMED.get(name)


_NAMED = {
    "chatml": ChatTemplate(
        system="<|im_start|>system\n{text}<|im_end|>\n",
        user="<|im_start|>user\n{text}<|im_end|>\n",
        assistant="<|im_start|>assistant\n{text}<|im_end|>\n",
        tags=("<|im_start|>", "<|im_end|>"),
    ),
    "llama2": ChatTemplate(
        system="{begin}[INST] <<SYS>>\n{text}\n<</SYS>>\n\n",
        user="{begin}[INST] {text} [/INST]",
        user_after_system="{text} [/INST]",
        assistant=" {text} {end}",
    ),
    "vicuna": ChatTemplate(system="{text} ", user="USER: {text} ", assistant="ASSISTANT: {text}{end}"),
}
"""OpenAI's ChatML; Llama 2 (Touvron et al., 2307.09288); Vicuna 1.1 (FastChat), as LLaVA has it."""
