"""Downloads from a real server that misbehaves in every way the catalogue must survive."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from file_server import (
    Answer,
    FileServer,
    cut,
    entry_for,
    other,
    redirect,
    running,
    slow,
    status,
    unsized,
    without_ranges,
)
from hashshield.checkpoints.cache import CatalogEntry
from hashshield.checkpoints.fetch import FetchProgress, RetryPolicy, fetch, sources
from hashshield.errors import CheckpointError, DownloadError, HashshieldError, UsageError
from hashshield.storage import calls

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
WRITING = ("create", "reopen", "truncate", "write", "sync", "sync_folder", "rename", "link", "make_folder")
EAGER = RetryPolicy(tries=3, first_wait_seconds=0.01, timeout_seconds=5)

CHILD = """
import json, sys
from hashshield.checkpoints.cache import CatalogEntry
from hashshield.checkpoints.fetch import fetch
from hashshield.errors import HashshieldError
class Deaf:
    def start(self, name, total): pass
    def at(self, done): pass
    def notice(self, text): pass
entry = CatalogEntry(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(sys.argv[1]).items()})
try:
    print(fetch(entry, progress=Deaf()))
except HashshieldError as error:
    sys.exit(print(error) or error.exit_code)
"""


class Heard:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.totals: list[tuple[str, int]] = []
        self.done: list[int] = []
        self.notices: list[str] = []

    def start(self, name: str, total: int) -> None:
        self.totals.append((name, total))

    def at(self, done: int) -> None:
        self.done.append(done)

    def notice(self, text: str) -> None:
        self.notices.append(text)


def get(entry: CatalogEntry, heard: Heard | None = None, retry_policy: RetryPolicy = EAGER) -> bool:
    progress: FetchProgress = heard or Heard()
    return fetch(entry, progress=progress, retry_policy=retry_policy)


def child(entry: CatalogEntry, *, before: str = "") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", before + CHILD, json.dumps(asdict(entry))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def visible(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.startswith("."))


def parts(cache: Path) -> list[Path]:
    return sorted(cache.glob(".*.part"))


@pytest.fixture
def entry(server: FileServer) -> CatalogEntry:
    server.files["small.safetensors"] = BODY
    return entry_for(BODY, server.address)


def test_a_file_is_fetched_once(entry: CatalogEntry, server: FileServer, own_cache: Path) -> None:
    heard = Heard()
    assert get(entry, heard) is True
    assert (own_cache / "small.safetensors").read_bytes() == BODY
    assert visible(own_cache) == ["small.safetensors"]
    assert parts(own_cache) == []
    assert server.asked == [("/small.safetensors", None)]
    assert heard.totals == [("small", 300_000)]
    assert (heard.done[0], heard.done[-1]) == (0, 300_000)
    assert get(entry) is False
    assert len(server.asked) == 1, "what is here is not asked for"


def test_a_damaged_file_is_fetched_again(entry: CatalogEntry, own_cache: Path) -> None:
    own_cache.mkdir()
    (own_cache / "small.safetensors").write_bytes(OTHER)
    assert get(entry) is True
    assert (own_cache / "small.safetensors").read_bytes() == BODY


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (other(OTHER), r"SHA-256 is [0-9a-f]{64} where the catalogue says [0-9a-f]{64}"),
        (other(b"x", Content_Length="1"), "has 1 bytes where the catalogue says 300000"),
        (other(b"x", Content_Length=str(10 << 30)), "has 10737418240 bytes where the catalogue says 300000"),
        (status(404), "HTTP 404 Not Found"),
        (status(403), "HTTP 403"),
        (status(204), "answered 204"),
        (redirect("ftp://127.0.0.1/small.safetensors"), "leads to what is no http or https address"),
        (redirect("file:///etc/passwd"), "Redirection to url .* is not allowed"),
    ],
)
def test_what_is_not_the_file_is_refused(
    answer: Answer, says: str, entry: CatalogEntry, server: FileServer, own_cache: Path
) -> None:
    server.answers = [answer] * 3
    with pytest.raises(DownloadError, match=says) as caught:
        get(entry)
    text = str(caught.value)
    assert caught.value.exit_code == 4
    assert f"{server.address}small.safetensors" in text
    assert "Try `hashshield models download` later" in text
    assert "HASHSHIELD_MIRROR" in text
    assert "checkpoints/ of a clone" in text
    assert visible(own_cache) == []
    assert parts(own_cache) == []


@pytest.mark.parametrize(
    "answers",
    [
        [status(500), status(500)],
        [status(503), status(429)],
        [cut(0), cut(150_000)],
        [unsized(slice(100_000)), unsized()],
        [other(b"", 206, Content_Range="bytes 5-9/300000")],
    ],
)
def test_a_server_that_falters_is_asked_again(answers: list[Answer], entry: CatalogEntry, server: FileServer) -> None:
    server.answers = list(answers)
    heard = Heard()
    assert get(entry, heard)
    assert len(server.asked) >= len(answers)
    assert len(heard.notices) == len(server.asked) - 1
    assert "asking again in 0.01 s" in heard.notices[0]


def test_patience_ends(entry: CatalogEntry, server: FileServer) -> None:
    server.answers = [status(500)] * 10
    with pytest.raises(DownloadError, match=r"HTTP 500 Internal Server Error \(3 tries\)"):
        get(entry)
    assert len(server.asked) == 3


def test_a_silent_server_is_given_up(entry: CatalogEntry, server: FileServer) -> None:
    server.answers = [lambda handler: time.sleep(0.5)] * 2
    with pytest.raises(DownloadError, match=r"timed out \(2 tries\)"):
        get(entry, retry_policy=RetryPolicy(tries=2, first_wait_seconds=0.01, timeout_seconds=0.1))


def test_redirects_are_followed(entry: CatalogEntry, server: FileServer) -> None:
    server.answers = [redirect(f"{server.address}elsewhere/small.safetensors"), redirect("/small.safetensors", 307)]
    assert get(entry)
    assert [path for path, _ in server.asked] == [
        "/small.safetensors",
        "/elsewhere/small.safetensors",
        "/small.safetensors",
    ]
    server.answers = [redirect("/small.safetensors")] * 30
    with pytest.raises(DownloadError, match="HTTP 302"):
        get(replace(entry, sha256="0" * 64))


def test_no_more_than_the_size_is_read(entry: CatalogEntry, server: FileServer, own_cache: Path) -> None:
    sent = []

    def endless(handler: object) -> None:
        for _ in range(10_000):
            handler.wfile.write(bytes(65536))  # type: ignore[attr-defined]
            sent.append(65536)

    server.answers = [lambda handler: (handler.head(200), endless(handler))[0]]
    with pytest.raises(DownloadError, match="SHA-256"):
        get(entry)
    assert sum(sent) < 100 << 20, "the rest of 600 MB was hung up on"
    assert parts(own_cache) == []


def test_a_cut_download_is_gone_on_with_by_the_next_call(
    entry: CatalogEntry, server: FileServer, own_cache: Path
) -> None:
    server.answers = [cut(200_000), cut(0), cut(0)]
    with pytest.raises(DownloadError, match="the connection"):
        get(entry, retry_policy=replace(EAGER, tries=1))
    assert visible(own_cache) == []
    (part,) = parts(own_cache)
    assert 0 < part.stat().st_size <= 200_000
    have = part.stat().st_size
    server.answers, server.asked = [], []
    heard = Heard()
    assert get(entry, heard)
    assert server.asked == [("/small.safetensors", f"bytes={have}-")]
    assert heard.done[0] == have
    assert (own_cache / "small.safetensors").read_bytes() == BODY


@pytest.mark.parametrize("answer", [without_ranges, status(416), other(b"", 206, Content_Range="bytes 0-9/300000")])
def test_servers_that_cannot_go_on_start_again(
    answer: Answer, entry: CatalogEntry, server: FileServer, own_cache: Path
) -> None:
    server.answers = [cut(200_000), answer]
    assert get(entry)
    assert (own_cache / "small.safetensors").read_bytes() == BODY


@pytest.mark.parametrize("stale", [OTHER[:100_000], OTHER, OTHER + b"more"])
def test_a_part_that_is_not_of_this_file_costs_one_try(stale: bytes, entry: CatalogEntry, own_cache: Path) -> None:
    own_cache.mkdir()
    (own_cache / f".small.safetensors.{entry.sha256[:12]}.part").write_bytes(stale)
    (own_cache / ".small.safetensors.000000000000.part").write_bytes(b"of an earlier release")
    assert get(entry)
    assert (own_cache / "small.safetensors").read_bytes() == BODY
    assert parts(own_cache) == []


def test_a_killed_download_leaves_nothing_false_and_the_next_call_completes(
    entry: CatalogEntry, server: FileServer, own_cache: Path
) -> None:
    server.answers = [slow(20, 0.1)]
    process = child(entry)
    deadline = time.monotonic() + 20
    while not any(part.stat().st_size >= 150_000 for part in parts(own_cache)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert visible(own_cache) == []
    assert get(entry)
    assert int((server.asked[1][1] or "").strip("bytes=-")) >= 150_000, "it went on where it was"
    assert (own_cache / "small.safetensors").read_bytes() == BODY
    assert parts(own_cache) == []


def test_of_two_downloads_at_once_one_waits(entry: CatalogEntry, server: FileServer) -> None:
    server.answers = [slow(10, 0.1)]
    processes = [child(entry), child(entry)]
    assert sorted(process.communicate(timeout=30)[0] for process in processes) == ["False\n", "True\n"]
    assert len(server.asked) == 1


def test_a_full_disk(entry: CatalogEntry, own_cache: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    process = child(entry, before=limit)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "cannot be kept there" in said
    assert "HASHSHIELD_CACHE" in said
    assert visible(own_cache) == []
    assert parts(own_cache) == [], "the disk is not left full"


def test_too_little_space_is_found_before_byte_one(entry: CatalogEntry, server: FileServer) -> None:
    with pytest.raises(DownloadError, match=r"needs 1,000,000,000\.0 MB .* are free; free some space"):
        get(replace(entry, size=10**15))
    assert server.asked == []


def test_a_cache_that_cannot_be_written(entry: CatalogEntry, own_cache: Path) -> None:
    own_cache.write_bytes(b"a file where the folder should be")
    with pytest.raises(
        CheckpointError, match=r"cache: small.safetensors cannot be kept there: .*HASHSHIELD_CACHE"
    ) as e:
        get(entry)
    assert e.value.exit_code == 4


def test_mirrors_are_asked_in_order(entry: CatalogEntry, server: FileServer) -> None:
    with running() as second:
        second.files = server.files
        server.answers = [status(404)]
        assert get(replace(entry, mirrors=(server.address, second.address)))
        assert (len(server.asked), len(second.asked)) == (1, 1)


def test_every_source_says_why_not(entry: CatalogEntry, server: FileServer) -> None:
    with running() as gone:
        refusing = gone.address
    server.answers = [status(404)]
    with pytest.raises(DownloadError) as caught:
        get(replace(entry, mirrors=(refusing, server.address)))
    assert f"{refusing}small.safetensors: does not answer (Connection refused)" in str(caught.value)
    assert f"{server.address}small.safetensors: HTTP 404 Not Found" in str(caught.value)
    with pytest.raises(DownloadError, match="none is known"):
        get(replace(entry, mirrors=()))


def test_the_mirror_of_the_settings_is_the_only_one_asked(
    entry: CatalogEntry, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as mirror:
        mirror.files = server.files
        monkeypatch.setenv("HASHSHIELD_MIRROR", f"{mirror.address}deep/folder")
        assert get(entry)
        assert mirror.asked == [("/deep/folder/small.safetensors", None)]
        assert server.asked == []


def in_folder(folder: Path, data: bytes) -> None:
    (folder / "small.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (lambda folder: in_folder(folder, OTHER), "SHA-256 is"),
        (lambda folder: in_folder(folder, BODY[:-1]), "has 299999 bytes"),
        (lambda folder: None, "no such file"),
        (lambda folder: os.mkfifo(folder / "small.safetensors"), "no such file"),
    ],
)
def test_a_folder_can_be_the_mirror(
    fill: Callable[[Path], None], says: str, entry: CatalogEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("HASHSHIELD_MIRROR", str(folder))
    monkeypatch.setenv("HASHSHIELD_OFFLINE", "1")
    fill(folder)
    with pytest.raises(DownloadError, match=says):
        get(entry)
    for path in folder.iterdir():
        path.unlink()
    in_folder(folder, BODY)
    assert get(entry)


def test_a_mirror_cannot_change_what_is_true(
    entry: CatalogEntry, server: FileServer, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged catalogue beside a file that matches it: the catalogue is never asked for, and the file is refused."""
    forged = replace(entry_for(OTHER, server.address), size=len(OTHER))
    server.files = {"small.safetensors": OTHER, "catalog.toml": repr(forged).encode()}
    monkeypatch.setenv("HASHSHIELD_MIRROR", server.address)
    with pytest.raises(DownloadError, match="another file, or a damaged one"):
        get(entry)
    assert {path for path, _ in server.asked} == {"/small.safetensors"}
    assert visible(own_cache) == []


def test_offline_means_no_request(entry: CatalogEntry, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_OFFLINE", "1")
    with pytest.raises(
        DownloadError, match=r"^small: HASHSHIELD_OFFLINE says to stay offline\. Unset HASHSHIELD_OFFLINE, or set"
    ):
        get(entry)
    assert server.asked == []


@pytest.mark.parametrize("mirror", ["ftp://host/", "https://", "file:///tmp", "http://name:secret@host/"])
def test_a_mirror_that_cannot_be_meant(mirror: str, entry: CatalogEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_MIRROR", mirror)
    with pytest.raises(UsageError, match="HASHSHIELD_MIRROR: a mirror is an http or https address"):
        sources(entry)


def test_proxy_variables_are_honoured(entry: CatalogEntry, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(entry, mirrors=("http://no-such-host.invalid/checkpoints/",))
    monkeypatch.setenv("http_proxy", server.address)
    assert get(entry)
    assert server.asked == [("http://no-such-host.invalid/checkpoints/small.safetensors", None)]
    monkeypatch.setenv("no_proxy", "no-such-host.invalid")
    with pytest.raises(DownloadError, match="does not answer"):
        get(replace(entry, sha256="0" * 64))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("begun", [False, True])
def test_a_full_disk_at_each_step(
    begun: bool, code: int, entry: CatalogEntry, server: FileServer, own_cache: Path
) -> None:
    """One clear line wherever it is full, nothing false in the cache, and the next call brings the file."""
    number = 0
    while True:
        shutil.rmtree(own_cache, ignore_errors=True)
        if begun:
            # What a cut download left, to be gone on with.
            server.answers = [cut(100_000)]
            with pytest.raises(DownloadError):
                get(entry, retry_policy=replace(EAGER, tries=1))
            server.answers = []
        made: list[str] = []

        def full(name: str, arguments: tuple[object, ...], made: list[str] = made, number: int = number) -> None:
            if name in WRITING:
                made.append(name)
                if len(made) > number:
                    raise OSError(code, os.strerror(code))

        calls.observe(full)
        said = None
        try:
            get(entry)
        except HashshieldError as error:
            said = str(error)
        finally:
            calls.observe(None)
        target = own_cache / entry.file
        if len(made) <= number:
            assert said is None
            assert target.read_bytes() == BODY
            break
        assert said is not None, f"full at {number} ({made[-1]}), and not a word"
        assert "\n" not in said
        assert ("the disk is full" if code == errno.ENOSPC else "quota is used up") in said
        assert str(own_cache) in said
        for path in own_cache.glob("*") if own_cache.exists() else ():
            assert path.name == f".{entry.file}.lock" or path.name.endswith(".part") or path.read_bytes() == BODY
        assert not target.exists() or target.read_bytes() == BODY
        whole = target.exists()
        assert get(entry) != whole
        assert target.read_bytes() == BODY
        assert sorted(path.name for path in own_cache.iterdir()) == sorted([entry.file, f".{entry.file}.lock"])
        number += 1
    assert {"write", "sync", "rename", "sync_folder"} <= set(made)
    assert number > 8
