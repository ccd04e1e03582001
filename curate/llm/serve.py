"""Serve a chat model for as long as a run lasts: a GGUF file by llama.cpp, any by vLLM on GPUs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from curate.extras import require
from curate.lacks import MachineError
from curate.lfs import REMEDY, is_lfs_pointer
from curate.llm.hosted import HostedServer, ServerError
from curate.llm.settings import LOCAL, VLLM, Endpoint, Price, Serving
from curate.models.files import ModelError, file_digest
from curate.settings import seen_from_here

AT_ONCE = 4
"""Requests that llama.cpp answers at once, where the recipe does not say."""

TIMEOUT_S = 600.0
"""For a request to what runs here, where the recipe does not say: some tokens a second are to be expected."""

PATIENCE_S = 60.0
"""For what runs here and answers nothing, where the recipe does not say: nobody else can have ended it for a while."""

START_S = {LOCAL: 600.0, VLLM: 3600.0}
"""How long a server may take until it answers: vLLM may have a model to fetch, and kernels to make."""

Why = Callable[[], str | None]
"""Why a server is at work no more, if it is not."""


def resolve(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the name that its answers are kept under, `known_as`, read from what it will serve.

    A GGUF file is known by its SHA-256 and llama.cpp's version, wherever it lies and whatever its port. Raises
    ModelError (no such file, or not a GGUF) and MissingExtraError.
    """
    if endpoint.url != LOCAL or endpoint.known_as is not None:
        return endpoint
    require("a chat model with `url: local`", "aiohttp", "xllamacpp")
    path = Path(endpoint.model).expanduser()
    _check_gguf(path)
    known_as = f"gguf {file_digest(path)} llama.cpp {version('xllamacpp')}"
    return endpoint.model_copy(update={"known_as": known_as})


@contextmanager
def serve(endpoint: Endpoint, ray: Any = None) -> Iterator[Endpoint]:
    """Serve the endpoint's model while `with` lasts, if that is wanted, and yield the endpoint to ask in its place.

    With `ray`, vLLM's server is an actor with its share of GPUs; else it is a child of this process, as llama.cpp's is
    in any case. Raises ModelError, MissingExtraError, ServerError.
    """
    if not endpoint.is_served_here:
        yield endpoint
        return
    asked = resolve(endpoint)
    start = _on_ray if ray is not None and endpoint.url == VLLM else _here
    with start(asked, ray) as (url, why_ended):
        try:
            yield _at(asked, url)
        except MachineError as err:
            if (why := why_ended()) is None:
                raise
            raise ServerError(f"the server of {endpoint.model} was lost: {why}") from err


def _at(endpoint: Endpoint, url: str) -> Endpoint:
    """The endpoint as it is asked while it is served."""
    changed: dict[str, Any] = {"url": url, "model": endpoint.name, "key": None, "server": None}
    changed["known_as"] = endpoint.known_as or f"{endpoint.url} {endpoint.model}"
    if endpoint.price is None:
        changed["price"] = Price(input=0, output=0)
    unsaid = {"timeout_s": TIMEOUT_S, "patience_s": PATIENCE_S}
    changed |= {name: value for name, value in unsaid.items() if name not in endpoint.model_fields_set}
    if endpoint.url == LOCAL:
        changed["concurrency"] = _at_once(endpoint)
    return endpoint.model_copy(update=changed)


@contextmanager
def _here(endpoint: Endpoint, ray: Any) -> Iterator[tuple[str, Why]]:
    server = HostedServer(_command(endpoint), endpoint.name)
    try:
        yield _told(endpoint, lambda: server.start(START_S[endpoint.url])), server.why_ended
    finally:
        server.close()


@contextmanager
def _on_ray(endpoint: Endpoint, ray: Any) -> Iterator[tuple[str, Why]]:
    gpus, there = (endpoint.server or Serving()).gpus, int(ray.cluster_resources().get("GPU", 0))
    if there < gpus:
        raise ServerError(f"{endpoint.model} by vLLM wants gpus: {gpus}; Ray has {there}: give it more, or say less")
    seen_from = ray.util.get_node_ip_address() if os.environ.get("RAY_ADDRESS") else "127.0.0.1"
    kind = ray.remote(num_cpus=0, num_gpus=gpus, max_restarts=0, max_concurrency=4)(HostedServer)
    actor = kind.remote(_command(endpoint), endpoint.name, seen_from)

    def start() -> str:
        try:
            return str(ray.get(actor.start.remote(START_S[VLLM]), timeout=START_S[VLLM] + 60))
        except ray.exceptions.RayTaskError as err:
            raise err.cause from None
        except ray.exceptions.RayError as err:
            raise ServerError(f"Ray could not start it: {' '.join(str(err).split())[:300]}") from None

    def why_ended() -> str | None:
        try:
            return ray.get(actor.why_ended.remote(), timeout=10)  # type: ignore[no-any-return]
        except ray.exceptions.RayError as err:
            return " ".join(str(err).split())[:300]

    try:
        yield _told(endpoint, start), why_ended
    finally:
        with suppress(ray.exceptions.RayError):  # it is gone already
            ray.get(actor.close.remote(), timeout=20)
        ray.kill(actor)


def _told(endpoint: Endpoint, start: Callable[[], str]) -> str:
    """Start a server, and tell what was to be served where it does not."""
    try:
        return start()
    except ServerError as err:
        raise ServerError(f"{endpoint.model} cannot be served: {err}. {_remedy(endpoint, str(err))}") from None


def _remedy(endpoint: Endpoint, said: str) -> str:
    if "memory" in said:
        return "Name a smaller model or a smaller `server.context_tokens`, or free memory"
    if endpoint.url == LOCAL:
        return "The file is damaged, or of a model that this llama.cpp does not know: fetch it again, or name another"
    if "No module named" in said:
        return "vLLM is wanted where the GPUs are: pip install vllm"
    return "Mend that, then run the same command to go on: all answers are kept"


def _at_once(endpoint: Endpoint) -> int:
    return endpoint.concurrency if "concurrency" in endpoint.model_fields_set else AT_ONCE


def _command(endpoint: Endpoint) -> list[str]:
    server = endpoint.server or Serving()
    if endpoint.url == LOCAL:
        order = {
            "model": os.path.abspath(os.path.expanduser(endpoint.model)),
            "name": endpoint.name,
            "context_tokens": server.context_tokens,
            "at_once": _at_once(endpoint),
            "threads": server.threads,
        }
        return ["{python}", "-m", "curate.llm.llamacpp", "{ip}", "{port}", json.dumps(order)]
    words = ["{python}", "-m", "vllm.entrypoints.openai.api_server", "--model", endpoint.model]
    words += ["--host", "{ip}", "--port", "{port}", "--max-model-len", str(server.context_tokens)]
    return [*words, "--tensor-parallel-size", str(server.gpus), *server.arguments]


def _check_gguf(path: Path) -> None:
    """Raises ModelError for what is no GGUF file."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as err:
        hint = " (`url: local` wants the path of a GGUF file as `model`)" if not path.exists() else ""
        raise ModelError(f"{path}: {err.strerror}{seen_from_here(path)}{hint}") from None
    if is_lfs_pointer(head):
        raise ModelError(f"{path}: {REMEDY}")
    if not head.startswith(b"GGUF"):
        raise ModelError(f"{path}: no GGUF file, which is what `url: local` serves; give the path of one as `model`")
