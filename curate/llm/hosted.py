"""A process that serves a chat model, started by a command: here, or where a Ray actor has its share of GPUs."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from curate.llm.outcomes import EndpointError
from curate.process import starting

LINES = 200
"""The last lines of a server's own words that are remembered."""

POLL_S = 0.1
END_S = 5.0

_OF_ERROR = re.compile(r"^(?:[\d.]+ )?E |error|no module named|out of memory|cannot|failed|not enough", re.IGNORECASE)


class ServerError(EndpointError):
    """A server of a chat model that did not start, or ended by itself; the message says why and what to do."""


class HostedServer:
    """A server of the OpenAI surface, in a process that ends with this one.

    `command` has the places `{python}`, `{ip}` and `{port}`. `name`: the model's name among those that it serves.
    `seen_from`: the address of the machine that will ask; for that one's own, 127.0.0.1, nobody else can.
    """

    def __init__(self, command: Sequence[str], name: str, seen_from: str = "127.0.0.1") -> None:
        self._command, self._name = command, name
        self._ip = _own_ip(seen_from)
        self._said: deque[str] = deque(maxlen=LINES)
        self._process: subprocess.Popen[str] | None = None
        self._listener = threading.Thread(target=self._listen, name="curate-hosted", daemon=True)

    def start(self, within_s: float) -> str:
        """Start it, and return its base URL once it serves the model. Raises ServerError."""
        port = _free_port(self._ip)
        places = {"{python}": sys.executable, "{ip}": self._ip, "{port}": str(port)}
        words = [re.sub(r"\{(python|ip|port)\}", lambda m: places[m[0]], word) for word in self._command]
        paths = os.pathsep.join(path for path in sys.path if path)
        try:
            with starting():
                self._process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                    errors="replace", start_new_session=True, env={**os.environ, "PYTHONPATH": paths},
                )  # fmt: skip
        except OSError as err:
            raise ServerError(f"{words[0]} cannot be started: {err}") from None
        self._listener.start()
        until = time.monotonic() + within_s
        while not _serves(self._ip, port, self._name):
            if self._process.poll() is not None or time.monotonic() > until:
                raise ServerError(self.why_ended() or f"it does not serve after {within_s:.0f} s: {self._words()}")
            time.sleep(POLL_S)
        return f"http://{self._ip}:{port}/v1"

    def why_ended(self) -> str | None:
        """Tell what ended it; None while it is at work."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._listener.join(END_S)
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        hint = " (mostly for want of memory)" if code == -signal.SIGKILL else ""
        return f"it {how}{hint}: {self._words()}"

    def close(self) -> None:
        """End it, and all that it started."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(OSError):  # it has ended
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
                break

    def _words(self) -> str:
        """The first of the lines that tell of an error, else the last that it said."""
        said = [line.strip() for line in list(self._said) if line.strip()]
        told = next((line for line in said if _OF_ERROR.search(line)), said[-1] if said else "it said nothing")
        return re.sub(r"^(?:[\d.]+ )?E ", "", told)[:500]

    def _listen(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with self._process.stdout as said:
            self._said.extend(said)


def _serves(ip: str, port: int, name: str) -> bool:
    """Whether the model is served there."""
    connection = http.client.HTTPConnection(ip, port, timeout=5)
    try:
        connection.request("GET", "/v1/models")
        reply = connection.getresponse()
        said = json.loads(reply.read(1 << 20))
        return reply.status == 200 and name in [model.get("id") for model in said["data"]]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError):
        return False
    finally:
        connection.close()


def _free_port(ip: str) -> int:
    with socket.socket() as held:
        held.bind((ip, 0))
        return int(held.getsockname()[1])


def _own_ip(seen_from: str) -> str:
    """This machine's address on the way to another; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((seen_from, 9))
        return str(way.getsockname()[0])
