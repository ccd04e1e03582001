"""Tell what an endpoint's reply means: an answer, a request's own fault, another try, a pause, or the end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from curate.lacks import MachineError
from curate.llm.chat import Answer, Failure
from curate.llm.settings import Endpoint
from curate.readers.rows import excerpt
from curate.strict_json import plain

WORDS = 300
"""Characters of an endpoint's own words that an error shows."""

_NO_PICTURES = re.compile(
    r"(image|vision|multimodal|picture)[^.]{0,60}\bnot\b[^.]{0,20}support"
    r"|(n't|not) support[^.]{0,40}(image|vision|multimodal)|image_url is only supported|not a multimodal model"
    r"|support image input|unknown variant .image_url",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(
    r"(image|picture)[^.]{0,60}(too large|too big|exceed|larger than|maximum)|payload too large", re.IGNORECASE
)
_TOO_LONG = re.compile(
    r"context[ _](length|size|window)|maximum context|too many tokens|exceeds? the available context", re.IGNORECASE
)
_NO_SCHEMA = re.compile(r"response_format|json_schema|json schema|structured output", re.IGNORECASE)
_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance")


class EndpointError(MachineError):
    """A lack of an endpoint that no request can be answered for; it ends the run, and no sample is failed for it."""


class Usage(NamedTuple):
    """Tokens as the endpoint counted them."""

    input: int
    output: int

    @property
    def sum(self) -> int:
        """Both together."""
        return self.input + self.output


@dataclass(frozen=True)
class Answered:
    """The model's answer; without `usage` the endpoint did not say what it took."""

    answer: Answer
    usage: Usage | None

    def paid(self, nano_usd: int, seconds: float) -> Answer:
        """The answer with what it cost."""
        a = self.answer
        return replace(a, nano_usd=nano_usd, seconds=round(seconds, 3), at=round(time.time(), 3))


@dataclass(frozen=True)
class AtFault:
    """The request's own fault; `usage` where it was counted nevertheless."""

    failure: Failure
    usage: Usage | None = None


@dataclass(frozen=True)
class Again:
    """The endpoint failed: another try may bring an answer. `in_doubt`: it may have counted this one."""

    failure: Failure
    wait_s: float | None = None
    in_doubt: bool = False


@dataclass(frozen=True)
class TooFast:
    """The endpoint wants a pause, of `wait_s` if it said so."""

    said: str
    wait_s: float | None


@dataclass(frozen=True)
class Ends:
    """The endpoint can answer nothing: the run ends."""

    error: EndpointError


Outcome = Answered | AtFault | Again | TooFast | Ends


def judge(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """The meaning of a reply; `headers` are found by their names in any case."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    try:
        if status >= 300 or error is not None:
            return _refused(endpoint, _status(status, error), headers, _words(said, body), _code(error))
        return _answered(endpoint, said) if isinstance(said, dict) else _no_object(endpoint, headers, body)
    except EndpointError as err:
        return Ends(err)


def _status(status: int, error: Any) -> int:
    """The status of an error, also of one that came as if all were well."""
    if status >= 300:
        return status
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _refused(endpoint: Endpoint, status: int, headers: Mapping[str, str], words: str, code: str) -> Outcome:
    if status == 402 or any(one in code for one in _SPENT):
        raise EndpointError(
            f"{endpoint.url}: the account has no more money or quota ({words}). Nothing that was paid for is lost:"
            " add to it, then run the same command to go on"
        )
    if status == 429:
        return TooFast(words, retry_after(headers))
    if status >= 400 and _NO_PICTURES.search(words):
        raise EndpointError(
            f"model {endpoint.model!r} at {endpoint.url} takes no pictures ({words}): name one that does"
        )
    if status in (400, 422, 501) and _NO_SCHEMA.search(words):
        raise EndpointError(
            f"{endpoint.url} takes no JSON Schema, or not this one ({words}): write json_schema: false, then structure"
            " is asked for in words"
        )
    if status in (408, 409, 425) or status >= 500:
        return Again(Failure("server_error", f"HTTP {status}: {words}"), retry_after(headers))
    if status in (400, 413, 422):
        error = _own_fault(status, code, words)
        return AtFault(Failure(error, f"HTTP {status}: {words}{_REMEDIES.get(error, '')}"))
    raise EndpointError(_why_refused(endpoint, status, headers, words))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to be left alone for (RFC 9110, 10.2.3; in milliseconds as some say it)."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(milliseconds) / 1000)
    except ValueError:
        pass
    value = headers.get("retry-after")
    if value is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _answered(endpoint: Endpoint, said: dict[str, Any]) -> Outcome:
    usage = _usage(said.get("usage"))
    choices = said.get("choices")
    if not isinstance(choices, list) or not choices:
        return AtFault(Failure("no_choices", "the endpoint answered without a choice"), usage)
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return AtFault(Failure("no_choices", f"a choice without a message: {_short(str(choice))}"), usage)
    finish = choice.get("finish_reason") or "stop"
    if finish == "content_filter":
        return AtFault(Failure("content_filtered", "the endpoint's filter kept the answer back"), usage)
    if refusal := message.get("refusal"):
        return AtFault(Failure("refused", _short(str(refusal))), usage)
    text = message.get("content")
    if not isinstance(text, str) or not text.strip():
        return AtFault(Failure("no_content", f"an answer without text (finish_reason {finish})"), usage)
    model = _check_model(endpoint, said.get("model"))
    tokens = usage or (None, None)
    return Answered(Answer(plain(text), "length" if finish == "length" else "stop", model, *tokens), usage)


def _check_model(endpoint: Endpoint, answered: Any) -> str:
    """The model's name in the answer. Raises EndpointError where another one answered."""
    wanted = endpoint.answers_as or endpoint.model
    if not isinstance(answered, str) or not answered:
        return wanted
    if not answered.startswith(wanted):  # models are asked for by a name without its date
        raise EndpointError(
            f"{endpoint.url} was asked for {endpoint.model!r} and answered as {_short(answered)!r}: correct `model`, or"
            f" write answers_as: {_short(answered)} if that is the same"
        )
    return answered


def _no_object(endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Outcome:
    if "html" in headers.get("content-type", "") or body.lstrip()[:1] == b"<":
        raise EndpointError(
            f"{endpoint.url} answers with a web page, not as an OpenAI-compatible endpoint: the base URL mostly ends in"
            " /v1; or something between here and there asks for a login"
        )
    return Again(Failure("malformed_answer", f"no JSON object: {_short(body[:2000].decode('utf-8', 'replace'))}"))


def _usage(said: Any) -> Usage | None:
    if not isinstance(said, dict):
        return None
    counts = [
        n for n in (said.get("prompt_tokens"), said.get("completion_tokens")) if type(n) is int and 0 <= n < 1 << 40
    ]
    return Usage(*counts) if len(counts) == 2 else None


def _own_fault(status: int, code: str, words: str) -> str:
    if "context_length" in code or _TOO_LONG.search(words):
        return "prompt_too_long"
    if "content" in code and ("policy" in code or "filter" in code):
        return "content_filtered"
    return "request_too_large" if status == 413 or _TOO_LARGE.search(words) else "request_refused"


_REMEDIES = {
    "prompt_too_long": "; shorten what the prompt holds, or name a model with a longer context",
    "request_too_large": "; have pictures made smaller before they are sent, or fewer of them",
}


def _why_refused(endpoint: Endpoint, status: int, headers: Mapping[str, str], words: str) -> str:
    where = f"{endpoint.url} answered HTTP {status}"
    if status == 401 and endpoint.key is None:
        return f"{where} ({words}): it wants a key; name its environment variable as `key`"
    if status in (401, 403):
        return f"{where} ({words}): the key in {endpoint.key} is not accepted for model {endpoint.model!r}; correct it"
    if status == 404:
        return f"{where} ({words}): there is no such path or no model {endpoint.model!r}; correct `url` or `model`"
    if status < 400:
        return (
            f"{where}, which leads to {_short(headers.get('location', 'nowhere'))}: write that as `url` if you trust it"
        )
    return f"{where} ({words}), which no other try will change"


def _words(said: Any, body: bytes) -> str:
    """What an error says, wherever it stands in the reply."""
    found = said
    while isinstance(found, dict):
        inner = next((found[name] for name in ("error", "message", "detail", "msg") if found.get(name)), None)
        if inner is None:
            break
        found = inner
    text = found if isinstance(found, str) else body[:2000].decode("utf-8", "replace")
    return _short(text) or "no words"


def _code(error: Any) -> str:
    """The codes by which an error is told, as one text."""
    if not isinstance(error, dict):
        return ""
    return " ".join(str(error.get(name) or "") for name in ("code", "type")).lower()


def _short(text: str) -> str:
    shown = excerpt(text, WORDS)
    return " ".join(shown.split())
