"""How long a source may take: silence, its answer, its rate and all of it together are bounded.

A limit on silence alone lets a source that sends one byte now and then hold a download, and its lock, for ever. So
every read from a connection waits no longer than the nearest of these limits, in headers and redirects too.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import IO, TYPE_CHECKING, Any
from urllib.request import HTTPHandler, HTTPSHandler, Request

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Pace", "RetryPolicy", "SlowSource", "handlers"]

_HEADER_BYTES = 1 << 20
"""Of everything that comes before the file: headers, interim answers, and what redirects carry."""


class SlowSource(Exception):  # noqa: N818 - a source's answer, not a failure of the download
    """The source takes longer, or sends more, than it may; another one is asked."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a source is borne with."""

    tries: int = 4
    first_wait_seconds: float = 0.5
    """Before the second try; it doubles with each."""
    timeout_seconds: float = 30.0
    """Without a byte."""
    answer_seconds: float = 60.0
    """From the request to the first byte of the file, redirects included."""
    least_bytes_per_second: float = 4096.0
    """Of the file, on average over `rate_seconds`."""
    rate_seconds: float = 30.0
    longest_seconds: float = 1800.0
    """For one source, all its tries together; what has come by then is gone on with by the next."""


class Pace:
    """The clock of one source. Every reader of its connections asks how long it may wait, and tells what came."""

    def __init__(self, retry_policy: RetryPolicy, *, size: int) -> None:
        """Begin now; `size` is the file's, in bytes."""
        self._patience = retry_policy
        self._most = 2 * size + _HEADER_BYTES
        now = time.monotonic()
        self._end = now + retry_policy.longest_seconds
        self._answer(now)

    def request(self) -> None:
        """Begin another try. Raises SlowSource when the time for this source is over."""
        now = time.monotonic()
        if now >= self._end:
            raise SlowSource(self._too_long())
        self._answer(now)

    def _answer(self, now: float) -> None:
        self._in_body = False
        self._heard = now
        self._window, self._window_bytes, self._bytes = now, 0, 0
        self._answer_end = now + self._patience.answer_seconds

    def body(self) -> None:
        """Note that what follows is the file."""
        self._in_body = True
        self._window, self._window_bytes = time.monotonic(), 0

    def wait(self) -> float:
        """Return for how many seconds the next byte may be waited for. Raises SlowSource, TimeoutError."""
        retry_policy, now = self._patience, time.monotonic()
        if now >= self._end:
            raise SlowSource(self._too_long())
        if now >= self._heard + retry_policy.timeout_seconds:
            raise TimeoutError("timed out")
        ends = [self._end, self._heard + retry_policy.timeout_seconds]
        if not self._in_body:
            if now >= self._answer_end:
                raise SlowSource(f"gave no file within {retry_policy.answer_seconds:g} s of being asked")
            ends.append(self._answer_end)
        else:
            if now >= self._window + retry_policy.rate_seconds:
                self._check_rate()
                self._window, self._window_bytes = now, 0
            ends.append(self._window + retry_policy.rate_seconds)
        return max(min(ends) - now, 0.001)

    def came(self, size: int) -> None:
        """Count what was read. Raises SlowSource for more than the file and its headers can be."""
        self._heard = time.monotonic()
        self._bytes += size
        self._window_bytes += size
        if self._bytes > (self._most if self._in_body else _HEADER_BYTES):
            raise SlowSource(f"sent {self._bytes} bytes and not the file among them")

    def _check_rate(self) -> None:
        least = self._patience.least_bytes_per_second
        if self._window_bytes < least * self._patience.rate_seconds:
            raise SlowSource(f"sends less than {least:,.0f} bytes a second")

    def _too_long(self) -> str:
        return f"took more than {self._patience.longest_seconds:,g} s"


def handlers(pace: Pace) -> tuple[HTTPHandler, HTTPSHandler]:
    """Return urllib's handlers of http and https, on connections that keep the pace."""
    return _Plain(pace), _Secure(pace)


class _PacedFile(io.RawIOBase):
    """What is read from a connection, each time no longer than the pace allows."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        # Held open for as long as this is: the connection closes its socket when the answer has no end of its own.
        self._sock, self._pace, self._held = sock, pace, sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while True:
            self._sock.settimeout(self._pace.wait())
            try:
                size = self._sock.recv_into(buffer)
            except TimeoutError:
                continue
            self._pace.came(size)
            return size

    def close(self) -> None:
        if not self.closed:
            self._held.close()
        super().close()


class _PacedSocket:
    """As much of a socket as an answer asks for."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self._sock, self._pace = sock, pace

    def makefile(self, *_: Any, **__: Any) -> IO[bytes]:
        return io.BufferedReader(_PacedFile(self._sock, self._pace))


def _answer(pace: Pace) -> Any:
    """Return what a connection makes its answers with."""

    def make(sock: socket.socket, *arguments: Any, **named: Any) -> HTTPResponse:
        paced: Any = _PacedSocket(sock, pace)
        return HTTPResponse(paced, *arguments, **named)

    return make


class _Connection(HTTPConnection):
    def __init__(self, *arguments: Any, pace: Pace, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.response_class = _answer(pace)


class _SecureConnection(HTTPSConnection):
    def __init__(self, *arguments: Any, pace: Pace, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.response_class = _answer(pace)


class _Plain(HTTPHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_Connection, pace=self._pace), req)


class _Secure(HTTPSHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_SecureConnection, pace=self._pace), req, context=ssl.create_default_context())
