"""Mirrors that trickle, stall, or send without end: given up within their time, and the next one is asked."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from file_server import Answer, FileServer, Handler, cut, entry_for, redirect, running, serve, status
from hashshield.checkpoints.cache import CatalogEntry, held
from hashshield.checkpoints.fetch import fetch
from hashshield.checkpoints.transfer import Pace, RetryPolicy, SlowSource
from hashshield.errors import DownloadError

BODY = bytes(range(256)) * 400
HURRIED = RetryPolicy(
    tries=3,
    first_wait_seconds=0.01,
    timeout_seconds=2,
    answer_seconds=1,
    least_bytes_per_second=1000,
    rate_seconds=0.6,
    longest_seconds=5,
)


class Silent:
    def start(self, name: str, total: int) -> None: ...
    def at(self, done: int) -> None: ...
    def notice(self, text: str) -> None: ...


def drip(handler: Handler, data: bytes, *, each: int = 1, seconds: float = 0.05, most: float = 8) -> None:
    """Send so many bytes at a time with a pause before each, until the other side hangs up."""
    end = time.monotonic() + most
    with suppress(OSError):
        for start in range(0, len(data), each):
            if time.monotonic() > end:
                return
            time.sleep(seconds)
            handler.wfile.write(data[start : start + each])
            handler.wfile.flush()


def trickling_body(handler: Handler) -> None:
    handler.head(200, Content_Length=str(len(BODY)))
    drip(handler, BODY)


def trickling_after_a_start(handler: Handler) -> None:
    handler.head(200, Content_Length=str(len(BODY)))
    handler.wfile.write(BODY[:50_000])
    drip(handler, BODY[50_000:])


def trickling_chunks(handler: Handler) -> None:
    """One byte of the file for each line of a kilobyte that says nothing."""
    handler.head(200, Transfer_Encoding="chunked")
    chunks = (b"1;" + b"x" * 1020 + b"\r\n" + BODY[i : i + 1] + b"\r\n" for i in range(2000))
    drip(handler, b"".join(chunks), each=200_000, seconds=0.001)


def trickling_status(handler: Handler) -> None:
    drip(handler, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000)


def trickling_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    drip(handler, b"X-Header: value\r\n" * 90)


def continues(handler: Handler) -> None:
    drip(handler, b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, each=25, seconds=0.02)


def fast_continues(handler: Handler) -> None:
    with suppress(OSError):
        for _ in range(4000):
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def huge_headers(handler: Handler) -> None:
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n")


def long_header(handler: Handler) -> None:
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n")


def endless_redirect(handler: Handler) -> None:
    """Urllib reads what a redirect carries to its end."""
    handler.head(302, Location="/small.safetensors")
    with suppress(OSError):
        for _ in range(4000):
            handler.wfile.write(bytes(65_536))


def slow_redirect(handler: Handler) -> None:
    time.sleep(0.3)
    handler.head(302, Location=f"/{time.monotonic()}/small.safetensors", Content_Length="0")


def length(text: str) -> Answer:
    return lambda handler: handler.head(200, Content_Length=text)


CASES: list[tuple[str, Answer | list[Answer], str]] = [
    ("body", trickling_body, "sends less than 1,000 bytes a second"),
    ("body after a start", trickling_after_a_start, "sends less than 1,000 bytes a second"),
    ("chunks", trickling_chunks, "sent .* bytes and not the file among them"),
    ("status", trickling_status, r"gave no file within 1 s"),
    ("headers", trickling_headers, r"gave no file within 1 s"),
    ("continues", continues, r"gave no file within 1 s"),
    ("fast continues", fast_continues, "sent .* bytes and not the file among them"),
    ("redirects", [slow_redirect] * 9, r"gave no file within 1 s"),
    ("redirect without end", endless_redirect, "sent .* bytes and not the file among them"),
    ("many headers", [huge_headers] * 3, "got more than 100 headers"),
    ("long header", [long_header] * 3, "got more than 65536 bytes"),
    ("redirect to no port", redirect("http://127.0.0.1:99999/x"), "leads to no address|does not answer"),
    ("redirect to no number", redirect("http://127.0.0.1:port/x"), "leads to no address"),
    ("redirect to no host", redirect("http://[::1/x"), "leads to no address"),
    ("redirect to dots", redirect("http://..../x"), "leads to no address|does not answer"),
    ("a length of many digits", length("9" * 5000), "has 9{20} bytes where the catalogue says"),
    ("another length", length("5"), "has 5 bytes where the catalogue says"),
    ("a range of many digits", [lambda h: h.head(206, Content_Range=f"bytes {'1' * 5000}-2/3")] * 3, "another part"),
]


@pytest.fixture
def entry(server: FileServer) -> CatalogEntry:
    server.files["small.safetensors"] = BODY
    return entry_for(BODY, server.address)


@pytest.mark.parametrize(("answer", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_next_mirror_is_asked(
    answer: Answer | list[Answer], says: str, entry: CatalogEntry, server: FileServer, own_cache: Path
) -> None:
    server.answers = list(answer) if isinstance(answer, list) else [answer]
    with running() as second:
        second.answers = [status(404)]
        both = replace(entry, mirrors=(server.address, second.address))
        began = time.monotonic()
        with pytest.raises(DownloadError, match=says) as caught:
            fetch(both, progress=Silent(), retry_policy=HURRIED)
        assert time.monotonic() - began < 6
        assert "\n" not in str(caught.value)
        assert f"{second.address}small.safetensors: HTTP 404 Not Found" in str(caught.value), "it was asked"
        with held(own_cache / entry.file):
            pass  # the lock is free at once
        server.files, second.files = {}, server.files
        assert fetch(both, progress=Silent(), retry_policy=HURRIED)
    assert (own_cache / entry.file).read_bytes() == BODY


def test_what_a_slow_mirror_sent_is_gone_on_with(entry: CatalogEntry, server: FileServer) -> None:
    server.answers = [trickling_after_a_start]
    with running() as second:
        second.files = server.files
        assert fetch(replace(entry, mirrors=(server.address, second.address)), progress=Silent(), retry_policy=HURRIED)
        ((_, asked),) = second.asked
    assert asked is not None
    assert int(asked.removeprefix("bytes=").rstrip("-")) >= 50_000


def test_all_tries_of_a_source_share_its_longest_time(entry: CatalogEntry, server: FileServer) -> None:
    def late_cut(handler: Handler) -> None:
        time.sleep(0.3)
        cut(1000)(handler)

    server.answers = [late_cut] * 50
    retry_policy = replace(HURRIED, tries=50, answer_seconds=5, longest_seconds=0.7)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"took more than 0\.7 s"):
        fetch(entry, progress=Silent(), retry_policy=retry_policy)
    assert time.monotonic() - began < 3


def test_a_line_that_is_slow_but_steady_is_borne_with(entry: CatalogEntry, server: FileServer) -> None:
    def steady(handler: Handler) -> None:
        handler.head(200, Content_Length=str(len(BODY)))
        drip(handler, BODY, each=10_000, seconds=0.1)

    server.answers = [steady]
    assert fetch(entry, progress=Silent(), retry_policy=replace(HURRIED, timeout_seconds=0.5))


@pytest.mark.parametrize("answer", [serve, cut(0)])
def test_the_defaults_leave_honest_servers_alone(answer: Answer, entry: CatalogEntry, server: FileServer) -> None:
    server.answers = [answer]
    assert fetch(entry, progress=Silent(), retry_policy=RetryPolicy(first_wait_seconds=0.01))


def test_limits_of_a_pace() -> None:
    pace = Pace(replace(HURRIED, answer_seconds=0.05), size=10)
    assert 0 < pace.wait() <= 0.05
    pace.body()
    pace.came(20)
    assert 0.05 < pace.wait() <= 0.6
    with pytest.raises(SlowSource, match="sent 2000020 bytes"):
        pace.came(2_000_000)
    pace = Pace(replace(HURRIED, longest_seconds=0), size=10)
    with pytest.raises(SlowSource, match="took more than 0 s"):
        pace.request()
    pace = Pace(replace(HURRIED, timeout_seconds=0), size=10)
    with pytest.raises(TimeoutError):
        pace.wait()
