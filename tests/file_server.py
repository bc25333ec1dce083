"""A real HTTP server on 127.0.0.1 that can misbehave, and catalogue entries for what it serves."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hashshield.checkpoints.cache import CatalogEntry


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        with self.server.guard:
            self.server.asked.append((self.path, self.headers.get("Range")))
            answer = self.server.answers.pop(0) if self.server.answers else serve
        answer(self)

    def log_message(self, *_: Any) -> None:
        """Nothing: the server keeps its own list of what it was asked."""

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    @property
    def body(self) -> bytes:
        return self.server.files[self.path.rpartition("/")[2]]


Answer = Callable[[Handler], None]


class FileServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        """What the next requests get; after them every file is served as it should be."""
        self.asked: list[tuple[str, str | None]] = []
        self.guard = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


@contextmanager
def running() -> Iterator[FileServer]:
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def serve(handler: Handler) -> None:
    """As servers of files do, ranges included."""
    if handler.path.rpartition("/")[2] not in handler.server.files:
        handler.head(404)
        return
    body = handler.body
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
    if asked is None:
        handler.head(200, Content_Length=str(len(body)))
        handler.wfile.write(body)
        return
    start = int(asked[1])
    rest = body[start:]
    handler.head(206, Content_Length=str(len(rest)), Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.wfile.write(rest)


def without_ranges(handler: Handler) -> None:
    handler.head(200, Content_Length=str(len(handler.body)))
    handler.wfile.write(handler.body)


def status(code: int) -> Answer:
    return lambda handler: handler.head(code, Content_Length="0")


def redirect(to: str, code: int = 302) -> Answer:
    return lambda handler: handler.head(code, Location=to, Content_Length="0")


def cut(after: int) -> Answer:
    """Promise the whole, close after so many bytes."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=str(len(handler.body)))
        handler.wfile.write(handler.body[:after])

    return answer


def unsized(part: slice = slice(None)) -> Answer:
    """No length is promised; the end of the connection is the end of the file."""

    def answer(handler: Handler) -> None:
        handler.head(200)
        handler.wfile.write(handler.body[part])

    return answer


def other(body: bytes, code: int = 200, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.head(code, **headers)
        handler.wfile.write(body)

    return answer


def slow(pieces: int, seconds: float) -> Answer:
    """The whole, in pieces with a wait before each."""

    def answer(handler: Handler) -> None:
        body = handler.body
        handler.head(200, Content_Length=str(len(body)))
        step = -(-len(body) // pieces)
        for start in range(0, len(body), step):
            time.sleep(seconds)
            handler.wfile.write(body[start : start + step])
            handler.wfile.flush()

    return answer


def entry_for(data: bytes, *mirrors: str, name: str = "small", **changes: Any) -> CatalogEntry:
    values: dict[str, Any] = {
        "name": name,
        "file": f"{name}.safetensors",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "licence": "Apache-2.0",
        "summary": "for tests",
        "bits": (16, 24),
        "mirrors": mirrors,
    }
    return CatalogEntry(**{**values, **changes})
