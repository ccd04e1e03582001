"""A chat model as an op is given it, and the gateways through which a run asks."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from curate.commit import commit_text
from curate.lacks import MachineError
from curate.llm.prices import find_price
from curate.llm.service import GatewayService, RemoteChat
from curate.llm.settings import Endpoint
from curate.llm.store import FILE, Account, AnswerStore
from curate.llm.transport import key_of
from curate.settings import SettingsError

ANSWERS = "answers"
"""The folder of answers in a run's output, where the recipe names no other."""

ACCOUNT = "chat-account"
"""The file in a run's output with the name that its spending is booked under."""


@dataclass(frozen=True)
class ChatModel:
    """A chat model that a recipe names: an op has it as its knob `chat`, and asks what `connect` gives."""

    name: str
    endpoint: Endpoint

    def identity(self) -> dict[str, str]:
        """What could change its answers, as plain data: where it is and which."""
        return {"url": self.endpoint.url, "model": self.endpoint.model}

    def connect(self) -> RemoteChat:
        """The run's gateway to it, for one thread; to be closed. Raises MachineError."""
        if (address := _addresses.get(self.name)) is None:
            raise MachineError(f"chat model {self.name!r}: no run serves it here; ops that ask one are run by a recipe")
        return RemoteChat(address, self.endpoint)

    def check(self) -> None:
        """Raise SettingsError or EndpointError where it cannot be asked or paid: before anything runs."""
        key_of(self.endpoint)
        try:
            find_price(self.endpoint)
        except ValueError as err:
            raise SettingsError(f"llm.{self.name}: {err}") from None


class Gateways:
    """The gateways of a run, each opened when a step first asks for it, and open until the run ends."""

    def __init__(self, out: Path) -> None:
        self._out, self._stack = out, ExitStack()
        self._open: dict[str, GatewayService] = {}

    def __enter__(self) -> Gateways:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.clear()
        self._stack.close()

    def addresses(self, chats: Sequence[ChatModel], ip: str = "127.0.0.1") -> dict[str, str]:
        """Where workers ask these models, by name; `ip`: this machine's, as workers see it."""
        for chat in chats:
            if chat.name not in self._open:
                folder, account = answers_folder(self._out, chat), account_of(self._out, chat)
                self._open[chat.name] = self._stack.enter_context(GatewayService(chat.endpoint, folder, account, ip))
        return {chat.name: self._open[chat.name].address for chat in chats}


def answers_folder(out: Path, chat: ChatModel) -> Path:
    """The folder that keeps a model's answers."""
    return Path(chat.endpoint.cache) if chat.endpoint.cache else out / ANSWERS


def account_of(out: Path, chat: ChatModel) -> str:
    """The account of a model in an output folder: it goes with the folder, wherever that is moved."""
    path = out / ACCOUNT
    if not path.exists():
        commit_text(path, secrets.token_hex(8))
    return f"{path.read_text(encoding='utf-8').strip()} {chat.name}"


def read_account(out: Path, chat: ChatModel) -> Account | None:
    """What the runs of an output folder spent on a model so far; None where they never asked it."""
    folder = answers_folder(out, chat)
    if not (folder / FILE).exists() or not (out / ACCOUNT).exists():
        return None
    store = AnswerStore(folder)
    try:
        return store.account(account_of(out, chat))
    finally:
        store.close()


_addresses: dict[str, str] = {}


def share_chats(addresses: Mapping[str, str]) -> None:
    """Let ops that are made in this process from now on ask at these addresses, by the model's name."""
    _addresses.clear()
    _addresses.update(addresses)
