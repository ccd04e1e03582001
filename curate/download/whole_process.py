"""The process that runs img2dataset: `python -m curate.download.whole_process ORDER` (ORDER is JSON).

img2dataset opens URLs with urllib, which reads local files, goes to private addresses and reads bodies without end.
So this process, and each one that img2dataset spawns from it, is given an opener that does none of this.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
import urllib.request
from functools import partial
from typing import Any

from curate.download.fetched import is_plain
from curate.download.guard import AddressGuard
from curate.download.settings import DownloadSettings
from curate.readers.codings import CodingError, UnpackedTooLargeError, undo_codings

BLOCK = 1 << 16


class BodyTooLargeError(Exception):
    """The body passed `max_bytes`."""


class BadEncodingError(Exception):
    """The body's codings cannot be undone."""


class _Response(http.client.HTTPResponse):
    """A response whose whole body has a limit of bytes and of seconds."""

    max_bytes = 0
    timeout_s = 0.0

    def read(self, amt: int | None = None) -> bytes:
        if amt is not None:
            return super().read(amt)
        deadline = time.monotonic() + self.timeout_s
        body = bytearray()
        while block := self.read1(BLOCK):
            body += block
            if len(body) > self.max_bytes:
                raise BodyTooLargeError(f"body_too_large: more than {self.max_bytes} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"timed out: no complete body in {self.timeout_s} s")
        if self.length:  # read1 ends silently where a server hangs up early
            raise http.client.IncompleteRead(bytes(body), self.length)
        listed = ",".join(self.headers.get_all("content-encoding", ()))
        try:
            return undo_codings(bytes(body), listed, self.max_bytes, partial(is_plain, wants="image"))
        except CodingError as err:
            raise BadEncodingError(f"bad_encoding: {err}") from None
        except UnpackedTooLargeError as err:
            raise BodyTooLargeError(f"body_too_large: {err}") from None


class _Http(http.client.HTTPConnection):
    guard = AddressGuard(())
    response_class = _Response

    def connect(self) -> None:
        if self.guard.trusts(self.host):
            super().connect()
            return
        self.sock = _connect(self.host, self.port, self.timeout, self.guard)


class _Https(http.client.HTTPSConnection, _Http):  # HTTPSConnection.connect wraps what _Http.connect made
    response_class = _Response


def _connect(host: str, port: int, timeout_s: Any, guard: AddressGuard) -> socket.socket:
    last: OSError = OSError(f"{host} has no address")
    for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            sock = guard.socket(info)
            try:
                sock.settimeout(timeout_s)
                sock.connect(info[4])
                return sock
            except OSError:
                sock.close()
                raise
        except OSError as err:
            last = err
    raise last


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Http, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Https, req)


def install(settings: DownloadSettings) -> None:
    """Make this process's urllib fetch http and https only, within `settings`, and through no proxy."""
    _Http.guard = AddressGuard(settings.allow_private)
    _Response.max_bytes, _Response.timeout_s = settings.max_bytes, settings.timeout_s
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.UnknownHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        _HttpHandler,
        _HttpsHandler,
    ):
        opener.add_handler(handler())
    urllib.request.install_opener(opener)


def main() -> None:
    """Run img2dataset's `download` with the arguments of the order."""
    import img2dataset

    img2dataset.download(**json.loads(sys.argv[1])["arguments"])


# A spawned process imports this module again under the second name, before it does any work.
if __name__ in ("__main__", "__mp_main__"):
    install(DownloadSettings.model_validate(json.loads(sys.argv[1])["settings"]))
if __name__ == "__main__":
    main()
