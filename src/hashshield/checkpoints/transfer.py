"""Read a checkpoint's bytes from an http or https server or a local folder, within limits on time and size.

Sources are not trusted: `Pace` limits silence, the time to answer, the transfer rate, and total time and bytes.
"""

from __future__ import annotations

import io
import os
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
"""Most bytes before the file: headers, interim responses and redirects."""
_LATER = {408, 425, 429}
"""Status codes below 500 after which to try again."""
_LONGEST_NUMBER = 20
"""Digits of a size that are read; more than any file needs."""


class SlowSource(Exception):  # noqa: N818 - a source's answer, not a failure of the download
    """The source takes longer, or sends more, than allowed; the next source is tried."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries and time limits of one source."""

    tries: int = 4
    first_wait_seconds: float = 0.5
    """Wait before the second try; it doubles with each further one."""
    timeout_seconds: float = 30.0
    """Longest time without a byte."""
    answer_seconds: float = 60.0
    """Longest time from the request to the first byte of the file, redirects included."""
    least_bytes_per_second: float = 4096.0
    """Least average rate of the file over `rate_seconds`."""
    rate_seconds: float = 30.0
    longest_seconds: float = 1800.0
    """Longest time for all tries at one source; the next source continues with the bytes received by then."""


class Pace:
    """Time and size limits of one source. Readers ask how long to wait for bytes, and report those that came."""

    def __init__(self, retry_policy: RetryPolicy, *, size: int) -> None:
        """Start the clock; `size` is the file's, in bytes."""
        self._patience = retry_policy
        self._most = 2 * size + _HEADER_BYTES
        now = time.monotonic()
        self._end = now + retry_policy.longest_seconds
        self._answer(now)

    def request(self) -> None:
        """Start another try. Raises SlowSource if the time for this source is over."""
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
        """Note that the bytes of the file follow."""
        self._in_body = True
        self._window, self._window_bytes = time.monotonic(), 0

    def wait(self) -> float:
        """Return how many seconds to wait for the next byte. Raises SlowSource, TimeoutError."""
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
        """Count `size` bytes read. Raises SlowSource for more bytes than file and headers can have."""
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
    """Return urllib handlers of http and https whose connections keep the limits of `pace`."""
    return _Plain(pace), _Secure(pace)


class _PacedFile(io.RawIOBase):
    """A connection's bytes; each read waits no longer than the pace allows."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        # Keeps the socket open: the connection closes it early if the response has no Content-Length.
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
    """The part of a socket's interface that HTTPResponse uses."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self._sock, self._pace = sock, pace

    def makefile(self, *_: Any, **__: Any) -> IO[bytes]:
        return io.BufferedReader(_PacedFile(self._sock, self._pace))


def _answer(pace: Pace) -> Any:
    """Return the `response_class` of a connection."""

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
    """The source does not have the right file; do not try it again."""


class SourceInterruptedError(Exception):
    """The transfer failed, but another try at the same source may work."""

    def __init__(self, reason: str, *, from_start: bool = False) -> None:
        super().__init__(reason)
        self.from_start = from_start
        """True if the source cannot continue from the bytes received so far."""


class Stream(NamedTuple):
    """The body of a response."""

    start: int
    """Offset in the file of the first byte: the requested one, or 0 if the server does not support ranges."""
    read: Callable[[int], bytes]
    """Read at most that many bytes; b"" at the end. Raises SourceInterruptedError."""


def where(source: str, entry: CatalogEntry) -> str:
    """Return the address or path of a checkpoint's file at a source."""
    if remote(source):
        return f"{source.rstrip('/')}/{entry.file}"
    # Unlike pathlib's, this leaves the ~ of an unknown user as it is.
    return str(Path(os.path.expanduser(source)) / entry.file)  # noqa: PTH111


@contextmanager
def opened(source: str, entry: CatalogEntry, *, offset: int, timeout_seconds: float, pace: Pace) -> Iterator[Stream]:
    """Request a checkpoint's file from a source, from byte `offset` on; yield the stream.

    Raises SourceRejectedError, SourceInterruptedError, and SlowSource if the source exceeds the limits of `pace`.
    """
    if not remote(source):
        with _file(Path(where(source, entry)), entry, offset) as handle:
            yield Stream(offset, _reader(handle.read))
        return
    # Request a range only to resume: some servers answer a range from 0 oddly.
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    try:
        response = _opener(pace).open(Request(where(source, entry), headers=headers), timeout=timeout_seconds)
    except HTTPError as error:
        error.close()
        raise _refused(error) from error
    except (ValueError, OverflowError, InvalidURL) as error:
        # A redirect to an invalid address, such as one with a bad port or host.
        raise SourceRejectedError(f"leads to no address that can be asked ({_words(error)})") from error
    except (OSError, HTTPException) as error:
        raise _failed(error) from error
    with response:
        pace.body()
        yield Stream(_start(response.status, response.headers, entry, offset), _reader(response.read1))


def _file(path: Path, entry: CatalogEntry, offset: int) -> BinaryIO:
    try:
        # Checked first, because opening a pipe would block.
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
    """Return the file offset at which a response's body starts.

    Raises SourceRejectedError for a file of another size, SourceInterruptedError for another part than requested.
    """
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
    """Follow redirects to http and https only; urllib itself would also follow to ftp."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not remote(newurl):
            raise HTTPError(req.full_url, code, "leads to what is no http or https address", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(pace: Pace) -> OpenerDirector:
    opener = OpenerDirector()
    # ProxyHandler reads http_proxy, https_proxy and no_proxy. Other schemes have no handler here, so they do not open.
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
    # Trying again does not help with an unknown host or a refused connection.
    if isinstance(cause, (TimeoutError, HTTPException)) or (
        isinstance(cause, ConnectionError) and not isinstance(cause, ConnectionRefusedError)
    ):
        return SourceInterruptedError(_words(cause))
    return SourceRejectedError(f"does not answer ({_words(cause)})")


def _words(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
