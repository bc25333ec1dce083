"""Where bytes come from, a folder on an http or https server or one of this machine, and how long it may take.

None of them is trusted: silence, an answer, its rate and all of it together are bounded.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection, InvalidURL
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from hashshield.checkpoints.cache import CatalogEntry, remote

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "Pace",
    "RetryPolicy",
    "SlowSource",
    "SourceInterruptedError",
    "SourceRejectedError",
    "Stream",
    "handlers",
    "opened",
    "where",
]

_HEADER_BYTES = 1 << 20
"""Of everything that comes before the file: headers, interim answers, and what redirects carry."""
_LATER = {408, 425, 429}
"""Answers below 500 that ask to come back."""
_LONGEST_NUMBER = 20
"""Digits of a size; no file has as many bytes."""


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


class SourceRejectedError(Exception):
    """The source does not have the file, or has another one; asking it again is no use."""


class SourceInterruptedError(Exception):
    """The source may do better when it is asked again."""

    def __init__(self, reason: str, *, from_start: bool = False) -> None:
        super().__init__(reason)
        self.from_start = from_start
        """What was received so far is no use to this source."""


class Stream(NamedTuple):
    """An answer that is being read."""

    start: int
    """The byte of the file its first byte is: the one asked for, or 0 from servers that cannot do that."""
    read: Callable[[int], bytes]
    """At most so many bytes, none at the end; raises InterruptedSource."""


def where(source: str, entry: CatalogEntry) -> str:
    """The address or path of a checkpoint's file at a source."""
    return f"{source.rstrip('/')}/{entry.file}" if remote(source) else str(Path(source).expanduser() / entry.file)


@contextmanager
def opened(source: str, entry: CatalogEntry, *, offset: int, timeout_seconds: float, pace: Pace) -> Iterator[Stream]:
    """Ask a source for a checkpoint's file from byte `offset` on.

    Raises UselessSource, InterruptedSource, and SlowSource when it does not keep the pace.
    """
    if not remote(source):
        with _file(Path(where(source, entry)), entry, offset) as handle:
            yield Stream(offset, _reader(handle.read))
        return
    # An open range only when there is something to go on with: some servers answer any other in odd ways.
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    try:
        response = _opener(pace).open(Request(where(source, entry), headers=headers), timeout=timeout_seconds)
    except HTTPError as error:
        error.close()
        raise _refused(error) from error
    except (ValueError, OverflowError, InvalidURL) as error:
        # A redirect to what is no address: a port that is no number or too high, a host of no such name.
        raise SourceRejectedError(f"leads to no address that can be asked ({_words(error)})") from error
    except (OSError, HTTPException) as error:
        raise _failed(error) from error
    with response:
        pace.body()
        yield Stream(_start(response.status, response.headers, entry, offset), _reader(response.read1))


def _file(path: Path, entry: CatalogEntry, offset: int) -> BinaryIO:
    try:
        # Looked at first, because opening a pipe would wait for its other end.
        if not path.is_file():
            raise SourceRejectedError("no such file")
        _check_size(path.stat().st_size, entry)
        handle = path.open("rb")
        handle.seek(offset)
    except OSError as error:
        raise SourceRejectedError(f"cannot be read ({error.strerror})") from error
    return handle


def _reader(stream: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        try:
            return stream(most)
        except (OSError, HTTPException) as error:
            raise SourceInterruptedError(f"the connection was cut ({_words(error)})") from error

    return read


def _start(status: int, headers: Mapping[str, str], entry: CatalogEntry, offset: int) -> int:
    """The byte an answer begins with, when the answer can be the file at all."""
    if status == 200:
        length = headers.get("Content-Length", "")
        if length.isascii() and length.isdigit():
            _check_size(int(length[:_LONGEST_NUMBER]), entry)
        return 0
    part = re.fullmatch(r"bytes (\d{1,20})-\d{1,20}/(\d{1,20}|\*)", headers.get("Content-Range", ""), re.ASCII)
    if status != 206 or part is None or int(part[1]) != offset:
        raise SourceInterruptedError(f"answered {status} with another part than was asked for", from_start=True)
    if part[2] != "*":
        _check_size(int(part[2]), entry)
    return offset


def _check_size(size: int, entry: CatalogEntry) -> None:
    if size != entry.size:
        raise SourceRejectedError(
            f"has {size} bytes where the catalogue says {entry.size}: another file, or a part of it"
        )


class _Redirects(HTTPRedirectHandler):
    """Follows to http and https only: urllib itself would also go to ftp."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not remote(newurl):
            raise HTTPError(req.full_url, code, "leads to what is no http or https address", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(pace: Pace) -> OpenerDirector:
    opener = OpenerDirector()
    # ProxyHandler reads http_proxy, https_proxy and no_proxy. Without handlers for them, no other scheme opens.
    for handler in (
        ProxyHandler(),
        *handlers(pace),
        _Redirects(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "hashshield"), ("Accept-Encoding", "identity")]
    return opener


def _refused(error: HTTPError) -> SourceRejectedError | SourceInterruptedError:
    answer = f"HTTP {error.code} {' '.join(str(error.reason).split())}".rstrip()
    if error.code == 416:
        return SourceInterruptedError(answer, from_start=True)
    return SourceInterruptedError(answer) if error.code >= 500 or error.code in _LATER else SourceRejectedError(answer)


def _failed(error: OSError | HTTPException) -> SourceRejectedError | SourceInterruptedError:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    # A name that is not known or a server that refuses will still do so in a second.
    if isinstance(cause, (TimeoutError, HTTPException)) or (
        isinstance(cause, ConnectionError) and not isinstance(cause, ConnectionRefusedError)
    ):
        return SourceInterruptedError(_words(cause))
    return SourceRejectedError(f"does not answer ({_words(cause)})")


def _words(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
