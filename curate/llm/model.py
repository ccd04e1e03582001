"""A chat model as an op is given it, and the gateways through which a run asks."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from curate.commit import commit_text
from curate.lacks import MachineError
from curate.llm.prices import find_price
from curate.llm.serve import resolve, serve
from curate.llm.service import Chat, GatewayService, RemoteChat
from curate.llm.settings import Endpoint
from curate.llm.store import FILE, NOTHING, Account, AnswerStore, Sum, total
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
        """Name what could change its answers, as plain data: where it is and which; of a file, its bytes.

        Raises ModelError where that is not there.
        """
        url, model = resolve(self.endpoint).known
        return {"url": url, "model": model}

    def connect(self) -> Chat:
        """The run's gateway to it, for the thread that computes; closed when the run ends. Raises MachineError."""
        if self.name not in _connected:
            if (address := _addresses.get(self.name)) is None:
                raise MachineError(
                    f"chat model {self.name!r}: no run serves it here; ops that ask one are run by a recipe"
                )
            _connected[self.name] = RemoteChat(address)
        return _connected[self.name]

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.clear()
        self._stack.__exit__(kind, error, trace)

    def addresses(self, chats: Sequence[ChatModel], ip: str = "127.0.0.1", ray: Any = None) -> dict[str, str]:
        """Addresses at which workers ask these models, by name; `ip`: this machine's, as workers see it.

        What the run serves itself is started, by `ray` where its GPUs are.
        """
        for chat in chats:
            if chat.name not in self._open:
                folder, account = answers_folder(self._out, chat), account_of(self._out, chat)
                endpoint = self._stack.enter_context(serve(chat.endpoint, ray))
                self._open[chat.name] = self._stack.enter_context(GatewayService(endpoint, folder, account, ip))
        return {chat.name: self._open[chat.name].address for chat in chats}


@dataclass(frozen=True)
class ChatCost:
    """Costs of a chat model in an output folder, of all its runs (see curate.llm.store.Account)."""

    chat: ChatModel
    account: Account

    @property
    def usd(self) -> float:
        """The dollars."""
        return self.account.spent.nano_usd / 1e9

    def usd_per_1000(self, kept: int) -> float | None:
        """The dollars for a thousand samples of those that are kept; None where none is."""
        return 1000 * self.usd / kept if kept else None

    def to_json(self, kept: int) -> dict[str, Any]:
        """As plain data; `kept`: the samples that it was spent for."""
        spent = self.account.spent
        dollars = self.usd_per_1000(kept)
        each = {"usd_per_1000_kept": round(dollars, 6)} if dollars is not None else {}
        counted = {"requests": spent.requests, "tokens": spent.tokens, "usd": self.usd}
        doubts = {"unsaid": self.account.unsaid, "in_doubt": self.account.in_doubt}
        return {"name": self.chat.name, "model": self.chat.endpoint.name, **counted, **each, **doubts}


def costs_of(out: Path, chats: Sequence[ChatModel]) -> tuple[ChatCost, ...]:
    """Read what was spent on these models in an output folder; those that were never asked are left out."""
    found = ((chat, read_account(out, chat)) for chat in chats)
    return tuple(ChatCost(chat, account) for chat, account in found if account is not None)


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
    """Read what the runs of an output folder spent on a model so far; None where they never asked it."""
    folder = answers_folder(out, chat)
    if not (folder / FILE).exists() or not (out / ACCOUNT).exists():
        return None
    store = AnswerStore(folder)
    try:
        return store.account(account_of(out, chat))
    finally:
        store.close()


_addresses: dict[str, str] = {}
_connected: dict[str, RemoteChat] = {}
_asked: dict[str, Sum] = {}


def share_chats(addresses: Mapping[str, str]) -> None:
    """Let ops that are made in this process from now on ask at these addresses, by the model's name; end what was."""
    while _connected:
        name = next(iter(_connected))
        _asked[name] = asked_here(name)
        _connected.pop(name).close()
    _addresses.clear()
    _addresses.update(addresses)


def asked_here(name: str) -> Sum:
    """The sum of what all answers cost that this process had of a model, whether they were paid for now or before."""
    now = _connected[name].asked if name in _connected else NOTHING
    return total([_asked.get(name, NOTHING), now])
