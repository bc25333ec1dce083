"""The HTTP server of the page, built on the standard library: checks of requests, routes and answers.

Other users and programs of this machine can reach the port too, and so can every page open in the browser. A request
must therefore name this server exactly (no rebound DNS name), come from this page (no foreign origin) and carry the
session's cookie, which only the holder of the token gets. The token works once. The cookie is limited to a random path,
because browsers send cookies to all ports of a host.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from email.message import Message
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from hashshield.boundary import boundary
from hashshield.errors import HashshieldError, UsageError
from hashshield.storage.calls import storage_errors
from hashshield.ui.page import ASSETS, page
from hashshield.ui.photos import FILE_BYTES, FullError, attachment, distinct
from hashshield.ui.session import Session

__all__ = [
    "POLICY",
    "Guard",
    "PageServer",
    "Refusal",
]


_SAME = ("same-origin", "none")
"""Values of Sec-Fetch-Site for requests by the page itself and by the user."""


class Refusal(NamedTuple):
    """The status and the reason with which a request is refused."""

    status: int
    reason: str


class Guard:
    """The secrets of one run, and the checks of a request's headers."""

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.origin = f"http://{self.host}"
        self.base = f"/{secrets.token_urlsafe(12)}/"
        """The random path that all addresses of the session begin with."""
        self._token = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self._used = False

    @property
    def link(self) -> str:
        """The address to open; it works once."""
        return f"{self.origin}/open?token={self._token}"

    @property
    def cookie(self) -> str:
        """The Set-Cookie header of the session."""
        return f"session={self._session}; Path={self.base}; HttpOnly; SameSite=Strict"

    def redeem(self, token: str) -> bool:
        """Return True for the right token, but only the first time."""
        with self._lock:
            if self._used or not _equal(token, self._token):
                return False
            self._used = True
            return True

    def refuse_sender(self, method: str, headers: Message) -> Refusal | None:
        """Return why a request of this method is refused, whatever its path; None if it is not.

        Host must be exactly this server. Origin must be exactly this page; only a GET may have none.
        """
        if headers.get_all("Host") != [self.host]:
            return Refusal(421, f"This page answers at {self.origin} only.")
        origins = headers.get_all("Origin") or []
        if origins != [self.origin] and (method != "GET" or origins):
            return Refusal(403, "Requests from other pages are not answered.")
        return None

    def refuse_stranger(self, headers: Message) -> Refusal | None:
        """Return why a request without the session's cookie, or from another page, is refused; None if it is not."""
        if headers.get("Sec-Fetch-Site", "none") not in _SAME:
            return Refusal(403, "Requests from other pages are not answered.")
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load("; ".join(headers.get_all("Cookie") or []))
        except CookieError:
            jar.clear()
        given = jar["session"].value if "session" in jar else ""
        if not _equal(given, self._session):
            return Refusal(
                403, "Open the link that hashshield ui printed; it works once. If it was used, start it again."
            )
        return None


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode("utf-8"))


POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_MOST_CONNECTIONS = 32
_IDLE_SECONDS = 60
_ORDER_BYTES = 4096
"""Longest body of a request, photos excepted."""
_ORDERED: Mapping[str, type] = {"preset": str, "strip_gps": bool, "strip_metadata": bool, "rename": bool}
"""Settings of the API that the page offers, with their types."""


class _Answer(Exception):  # noqa: N818 - an answer is not an error
    """Ends a request with a status and a sentence for the page."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status, self.said = status, said


class PageServer(ThreadingHTTPServer):
    """The server of one session, on 127.0.0.1."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, session: Session, folder: Path) -> None:
        """Bind a port of 127.0.0.1; 0 means any free one. Raises OSError."""
        self._slots = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(("127.0.0.1", port), _Handler)
        self.session, self.folder = session, folder
        self.guard = Guard(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a new thread, or close the connection if there are too many."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, then free the connection's slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a closed connection is not an error, and bugs are already in the log."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server_version, sys_version = "HashShield", ""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Log nothing, because requests name photos."""

    def do_GET(self) -> None:
        """Answer with a page, a picture or a file."""
        self._handle({"": self._page, "state": self._state, "saved.zip": self._archive})

    def do_POST(self) -> None:
        """Accept a photo or an order."""
        self._handle(
            {"photos": self._add, "protect": self._protect, "stop": self._stop, "end": self._end}, changes=True
        )

    def do_DELETE(self) -> None:
        """Remove a photo from the page."""
        self._handle({}, changes=True)

    # Routing

    def _handle(self, named: Mapping[str, Callable[[], None]], *, changes: bool = False) -> None:
        self._unread = changes or "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        try:
            with boundary("row", "the page", passes=(_Answer, ConnectionError, TimeoutError, EOFError)):
                self._route(named)
            # An unread body would be taken for the next request.
            self.close_connection = self.close_connection or self._unread
        except _Answer as answer:
            self._say(answer.status, answer.said)
        except UsageError as error:
            self._say(413 if isinstance(error, FullError) else 409, str(error))
        except HashshieldError as error:
            self._say(500, str(error))
        except (ConnectionError, TimeoutError, EOFError):
            self.close_connection = True

    def _route(self, named: Mapping[str, Callable[[], None]]) -> None:
        guard, parts = self.server.guard, urlsplit(self.path)
        refused = guard.refuse_sender(self.command, self.headers)
        if refused is None and self.command == "GET" and parts.path == "/open":
            return self._open(parse_qs(parts.query).get("token", [""])[0])
        refused = refused or guard.refuse_stranger(self.headers)
        if refused is not None:
            raise _Answer(*refused)
        if not parts.path.startswith(guard.base):
            raise _Answer(404, "There is no such page.")
        what = parts.path.removeprefix(guard.base)
        if what in named:
            return named[what]()
        return self._numbered(what)

    def _numbered(self, what: str) -> None:
        """Answer a request for one photo, or for an asset of the page."""
        kind, _, number = what.partition("/")
        routes: Mapping[tuple[str, str], Callable[[int], None]] = {
            ("GET", "cards"): self._card,
            ("GET", "saved"): self._saved,
            ("POST", "again"): self._again,
            ("DELETE", "photos"): self._remove,
        }
        if self.command == "GET" and what in ASSETS:
            return self._send(200, *ASSETS[what])
        route = routes.get((self.command, kind))
        if route is None or not (number.isascii() and number.isdigit() and len(number) < 10):
            raise _Answer(404, "There is no such page.")
        try:
            return route(int(number))
        except KeyError:
            raise _Answer(404, "There is no such photo on the page; load it again.") from None

    # Pages and files

    def _open(self, token: str) -> None:
        guard = self.server.guard
        if not guard.redeem(token):
            raise _Answer(403, "This link works once. If you have not opened it yourself, end hashshield ui.")
        self._send(303, b"", "text/plain; charset=utf-8", {"Location": guard.base, "Set-Cookie": guard.cookie})

    def _page(self) -> None:
        self._send(200, page(), "text/html; charset=utf-8")

    def _state(self) -> None:
        self._json(self.server.session.state())

    def _card(self, number: int) -> None:
        self._send(200, self.server.session.card(number).encode("utf-8"), "text/html; charset=utf-8")

    def _saved(self, number: int) -> None:
        photo = self.server.session.photo(number)
        if photo.copy is None:
            raise _Answer(404, "This photo has no copy to save.")
        self._file(photo.copy, photo.copy.name)

    def _archive(self) -> None:
        copies = [photo.copy for photo in self.server.session.saved() if photo.copy is not None]
        if not copies:
            raise _Answer(404, "There is no copy to save yet.")
        with storage_errors("making the archive"):
            descriptor, name = tempfile.mkstemp(suffix=".zip", dir=self.server.folder)
        try:
            # Stored, because photos are already compressed. The entries hold names and bytes, but no times.
            with (
                storage_errors("making the archive"),
                os.fdopen(descriptor, "wb") as out,
                zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive,
            ):
                for path, unique in zip(copies, distinct(path.name for path in copies), strict=True):
                    with path.open("rb") as copy, archive.open(zipfile.ZipInfo(unique), "w") as entry:
                        shutil.copyfileobj(copy, entry)
            self._file(Path(name), "protected-photos.zip")
        finally:
            Path(name).unlink(missing_ok=True)

    def _file(self, path: Path, name: str) -> None:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._head(200, "application/octet-stream", size, {"Content-Disposition": attachment(name)})
            shutil.copyfileobj(file, self.wfile)

    # Orders

    def _add(self) -> None:
        size = self._length(FILE_BYTES, "A photo may have {limit} MB; this file has {size}.")
        name = unquote(self.headers.get("X-Name", ""), errors="replace")
        photo = self.server.session.add(name, size, self.rfile)
        self._unread = False
        self._json({"number": photo.number, "name": photo.name}, status=201)

    def _protect(self) -> None:
        try:
            ordered = json.loads(self.rfile.read(self._length(_ORDER_BYTES, "This order is too long.")))
        except ValueError:
            raise _Answer(400, "This order is not JSON.") from None
        self._unread = False
        if not isinstance(ordered, dict) or any(type(v) is not _ORDERED.get(k) for k, v in ordered.items()):
            raise _Answer(400, f"An order has {', '.join(_ORDERED)} and nothing else.")
        self.server.session.start(ordered)
        self._json({}, status=202)

    def _again(self, number: int) -> None:
        self.server.session.again(number)
        self._json({})

    def _remove(self, number: int) -> None:
        self.server.session.remove(number)
        self._json({})

    def _stop(self) -> None:
        self.server.session.stop()
        self._json({}, status=202)

    def _end(self) -> None:
        self._json({}, status=202)
        self.server.session.end()

    def _length(self, limit: int, too_long: str) -> int:
        """Return the length of the body in bytes, at most `limit`."""
        given = self.headers.get_all("Content-Length") or []
        if self.headers.get("Transfer-Encoding") is not None or len(given) != 1:
            raise _Answer(411, "A request must state its length.")
        if not (given[0].isascii() and given[0].isdigit() and len(given[0]) < 16):
            raise _Answer(400, "The length of this request is not a number.")
        size = int(given[0])
        if size > limit:
            raise _Answer(413, too_long.format(limit=limit >> 20, size=f"{size / (1 << 20):,.0f}"))
        return size

    # Answers

    def _say(self, status: int, said: str) -> None:
        # The unread body of a refused request would be taken for the next request.
        self.close_connection = True
        with_page = self.command == "GET" and "text/html" in self.headers.get("Accept", "")
        kind = "text/plain" if with_page else "application/json"
        body = f"{said}\n" if with_page else json.dumps({"error": said})
        self._send(status, body.encode("utf-8"), f"{kind}; charset=utf-8", {"Connection": "close"})

    def _json(self, value: Mapping[str, Any], *, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode("utf-8"), "application/json; charset=utf-8")

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, kind, len(body), headers or {})
        self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
