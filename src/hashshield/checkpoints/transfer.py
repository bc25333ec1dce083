"""Where bytes come from: a folder on an http or https server, or one of this machine. None of them is trusted.

The standard library does it all. pooch, which was looked at, neither resumes nor stops at a known size, has no lock
between processes and takes every failure for one worth repeating; what would be left of it is a temporary file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, InvalidURL
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from hashshield.checkpoints.entry import CatalogEntry, remote
from hashshield.checkpoints.pace import Pace, handlers

__all__ = ["SourceInterruptedError", "SourceRejectedError", "Stream", "opened", "where"]

_LATER = {408, 425, 429}
"""Answers below 500 that ask to come back."""
_LONGEST_NUMBER = 20
"""Digits of a size; no file has as many bytes."""


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
