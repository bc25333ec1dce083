"""`hashshield models` and what other commands do about a network that is not here, with a real server."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from file_server import FileServer, running, status
from hashshield.checkpoints import cache, catalog
from hashshield.checkpoints.card import entry_of
from hashshield.storage import calls
from hashshield.types import Evaluation, Verification
from tiny_net import encoded, picture, write_tiny

Run = Callable[..., Any]


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two networks, tiny-a and tiny-b, that the catalogue knows; no address of it is right."""
    folder = tmp_path / "checkpoints"
    files = [
        write_tiny(folder / f"{name}.safetensors", seed=i, name=name) for i, name in enumerate(("tiny-a", "tiny-b"))
    ]
    known = (catalog.find("lite0-caltech101"), *map(entry_of, files))
    monkeypatch.setattr(catalog, "entries", lambda: known)
    return folder


@pytest.fixture
def server(released: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with running() as server:
        server.files = {path.name: path.read_bytes() for path in released.iterdir()}
        monkeypatch.setenv("HASHSHIELD_MIRROR", server.address)
        yield server


def statuses(document: str) -> dict[str, str]:
    return {row["name"]: row["status"] for row in json.loads(document)["results"]}


def states(run: Run) -> dict[str, str]:
    return {row["name"]: row["state"] for row in json.loads(run("models", "list", "--json").out)["results"]}


def test_from_an_empty_cache_over_a_server_of_files(
    run: Run, released: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(released)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://[\d.:]+/", process.stdout.readline())
            assert address is not None
            monkeypatch.setenv("HASHSHIELD_MIRROR", address[0])
            assert states(run) == {"lite0-caltech101": "embedded", "tiny-a": "available", "tiny-b": "available"}
            ended = run("models", "download", "--all", "--json")
        finally:
            process.terminate()
    assert ended.code == 0
    assert statuses(ended.out) == {"lite0-caltech101": "already", "tiny-a": "downloaded", "tiny-b": "downloaded"}
    assert states(run) == {"lite0-caltech101": "embedded", "tiny-a": "downloaded", "tiny-b": "downloaded"}
    ended = run("models", "verify", "--json")
    assert ended.code == 0
    assert set(statuses(ended.out).values()) == {"ok"}
    assert len(statuses(ended.out)) == 3
    monkeypatch.setenv("HASHSHIELD_OFFLINE", "1")
    assert statuses(run("models", "download", "tiny-a:16", "--json").out) == {"tiny-a": "already"}
    (tmp_path / "a.png").write_bytes(encoded(picture(80, 100)))
    ended = run("protect", tmp_path / "a.png", "--model", "tiny-a:16", "--output", tmp_path / "out", "--json")
    assert json.loads(ended.out)["results"][0]["model"] == "tiny-a:16"


def test_one_that_fails_does_not_stop_the_others(run: Run, server: FileServer) -> None:
    server.answers = [status(404)]
    ended = run("models", "download", "tiny-a", "tiny-b")
    assert ended.code == 4
    assert ended.out.splitlines()[0].startswith("tiny-a\tfailed\t")
    assert ended.out.splitlines()[1].startswith("tiny-b\tdownloaded\t")
    assert ended.err.startswith("hashshield models download: tiny-a: no source gave the pinned")
    assert "HTTP 404" in ended.err
    server.files = {}
    assert run("models", "remove", "tiny-b").code == 0
    document = json.loads(run("models", "download", "--all", "--json").out)
    assert document["error"]["exit_code"] == 4
    assert [row["status"] for row in document["results"]] == ["already", "failed", "failed"]
    assert all("HTTP 404" in row["reason"] for row in document["results"][1:])


def test_without_a_network_each_is_one_line_and_the_advice_comes_once(
    run: Run, released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HASHSHIELD_OFFLINE", "1")
    ended = run("models", "download", "--all")
    assert ended.code == 4
    *failed, last = ended.err.splitlines()
    assert failed == [f"failed: {name}: HASHSHIELD_OFFLINE says to stay offline." for name in ("tiny-a", "tiny-b")]
    assert last.startswith("hashshield models download: 2 networks failed. Unset HASHSHIELD_OFFLINE, or set ")
    assert ended.err.count("HASHSHIELD_MIRROR") == 1
    one = run("models", "download", "tiny-a")
    assert one.err.startswith("hashshield models download: tiny-a: HASHSHIELD_OFFLINE says to stay offline. Unset")


def test_the_list_explains_map(run: Run, released: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        ended = run("models", "list")
    assert "MAP: mean average precision of a search among unchanged photos" in ended.err


def test_what_download_must_be_told(run: Run, released: Path) -> None:
    assert run("models", "download").code == 2
    assert run("models", "download", "tiny-a", "--all").code == 2
    assert "did you mean tiny-a?" in run("models", "download", "tinya").err
    assert "has no code of 17 bits" in run("models", "download", "tiny-a:17").err
    ended = run("models", "download", released / "tiny-a.safetensors")
    assert ended.code == 2
    assert "is a file; name networks" in ended.err


def test_verify_finds_damage_and_download_mends_it(run: Run, server: FileServer) -> None:
    run("models", "download", "--all")
    path = cache.folder() / "tiny-a.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    ended = run("models", "verify", "--json")
    assert ended.code == 4
    assert statuses(ended.out) == {"lite0-caltech101": "ok", "tiny-a": "failed", "tiny-b": "ok"}
    assert "`hashshield models download tiny-a` fetches it again" in ended.err
    assert statuses(run("models", "download", "tiny-a", "--json").out) == {"tiny-a": "downloaded"}
    assert run("models", "verify", "tiny-a").code == 0
    run("models", "remove", "tiny-a")
    ended = run("models", "verify", "tiny-a")
    assert ended.code == 4
    assert "`hashshield models download tiny-a`" in ended.err


def test_remove(run: Run, server: FileServer, tmp_path: Path) -> None:
    run("models", "download", "tiny-a")
    ended = run("models", "remove", "tiny-a", "tiny-b", "--json")
    assert statuses(ended.out) == {"tiny-a": "removed", "tiny-b": "absent"}
    assert ended.code == 0
    assert "part of the package" in run("models", "remove", "lite0-caltech101").err
    run("models", "import", write_tiny(tmp_path / "x.safetensors", name="mine"))
    ended = run("models", "remove", "mine")
    assert ended.code == 2
    assert "which no catalogue can bring back" in ended.err
    assert statuses(run("models", "remove", "mine", "--yes", "--json").out) == {"mine": "removed"}
    assert "mine" not in states(run)


def test_import_and_path(run: Run, released: Path, tmp_path: Path) -> None:
    file = write_tiny(tmp_path / "x.safetensors", name="mine")
    ended = run("models", "import", file)
    path = cache.folder(imported=True) / "mine.safetensors"
    assert (ended.code, ended.out) == (0, f"mine\timported\t{file.stat().st_size / 1e6:.1f}\t{path}\n")
    assert states(run)["mine"] == "imported"
    assert "mine:16" in run("models", "list", "--names").out.split()
    assert run("models", "path", "mine").out == f"{path}\n"
    assert run("models", "path").out == f"{cache.folder()}\n"
    assert json.loads(run("models", "path", "mine", "--json").out)["results"] == [{"name": "mine", "path": str(path)}]
    ended = run("models", "path", "tiny-a")
    assert (ended.code, ended.out) == (4, "")
    assert run("models", "import", released / "tiny-a.safetensors").out.startswith("tiny-a\tdownloaded\t")
    file.write_bytes(b"\x80\x04" + bytes(100))
    ended = run("models", "import", file)
    assert ended.code == 4
    assert "pickle" in ended.err


def test_info_of_what_is_not_here_is_the_catalogues(run: Run, released: Path) -> None:
    (row,) = json.loads(run("models", "info", "tiny-a", "--json").out)["results"]
    assert (row["state"], row["bits"]) == ("available", [16, 24])
    assert run("models", "info", "tiny-a", "--classes").code == 4
    run("models", "import", released / "tiny-a.safetensors")
    (row,) = json.loads(run("models", "info", "tiny-a", "--json").out)["results"]
    assert (row["state"], row["arch"]) == ("downloaded", "shufflenet_v2_x0_5")


def test_a_malformed_catalogue_ends_with_4(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text("[checkpoints.net]\nfile = '../net.safetensors'\n")
    monkeypatch.setattr(catalog, "_HERE", tmp_path)
    monkeypatch.setattr(catalog, "entries", catalog.entries.__wrapped__)
    ended = run("models", "list")
    assert ended.code == 4
    assert ended.err.startswith(f"hashshield models list: {tmp_path}/catalog.toml: net: file is '../net.safetensors'")


def nothing(*_: object, **__: object) -> list[object]:
    return []


COMMANDS: list[tuple[str, tuple[str, ...], str, str]] = [
    ("hashshield.pipeline.protect", ("protect", "a.jpg"), "protect", "tiny-a"),
    ("hashshield.pipeline.verify", ("verify", "a.jpg"), "verify", "tiny-a:16"),
    ("hashshield.pipeline.evaluate", ("evaluate", "a", "b"), "evaluate", "tiny-a"),
]
BENCHES: list[tuple[str, tuple[str, ...], str]] = [
    ("retrieval", ("bench", "map", "--data", "d"), "tiny-a"),
    ("goals", ("bench", "goals", "--data", "d"), "tiny-a:24"),
    ("methods", ("bench", "methods", "--data", "d"), "tiny-a"),
    ("speed", ("bench", "speed", "p"), "tiny-a"),
    ("targeted", ("bench", "targeted", "--data", "d"), "tiny-a"),
    ("targeted", ("bench", "tau", "--data", "d"), "tiny-a:24"),
    ("untargeted", ("bench", "untargeted", "--data", "d"), "tiny-a"),
    ("retrieval", ("bench", "retrieval", "--data", "d"), "tiny-a"),
    ("goals", ("bench", "adaptive", "--data", "d"), "tiny-a"),
    ("untargeted", ("bench", "heatmap", "--data", "d"), "tiny-a:16"),
    ("targeted", ("bench", "convergence", "--data", "d"), "tiny-a"),
]


@pytest.mark.parametrize(("module", "words", "function", "model"), COMMANDS)
def test_a_network_that_is_not_here_is_fetched_when_told(
    module: str,
    words: tuple[str, ...],
    function: str,
    model: str,
    run: Run,
    server: FileServer,
    stand_in: Callable[..., None],
) -> None:
    stand_in(module, **{function: nothing})
    check_fetching(run, server, words, model)


@pytest.mark.parametrize(("module", "words", "model"), BENCHES)
def test_so_is_that_of_a_bench(
    module: str,
    words: tuple[str, ...],
    model: str,
    run: Run,
    server: FileServer,
    stand_in_bench: Callable[[str, str, Any], None],
) -> None:
    stand_in_bench(module, words[1], nothing)
    check_fetching(run, server, words, model)


def check_fetching(run: Run, server: FileServer, words: tuple[str, ...], model: str) -> None:
    ended = run(*words, "--model", model)
    assert ended.code == 4
    assert "`hashshield models download tiny-a`" in ended.err
    assert server.asked == []
    assert run(*words, "--model", model, "--yes").code == 0
    assert states(run)["tiny-a"] == "downloaded"
    assert len(server.asked) == 1


@pytest.mark.parametrize(("answer", "downloaded"), [("y\n", True), ("n\n", False)])
def test_on_a_terminal_it_asks(
    answer: str,
    downloaded: bool,
    run: Run,
    server: FileServer,
    stand_in: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stand_in("hashshield.pipeline.evaluate", evaluate=lambda *_, **__: [Evaluation("a", "b", "compared")])
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    ended = run("evaluate", "a", "b", "--model", "tiny-a", "--model", "tiny-b")
    assert re.search(r"Not here yet: tiny-a \(\d\.\d MB\), tiny-b \(\d\.\d MB\)\. Download\?", ended.err)
    assert ended.code == (0 if downloaded else 1)
    assert states(run)["tiny-b"] == ("downloaded" if downloaded else "available")


def test_nothing_is_fetched_for_a_dry_run_or_for_the_ledgers_networks(
    run: Run, server: FileServer, stand_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HASHSHIELD_MODEL", "tiny-a")
    stand_in("hashshield.pipeline.protect", protect=nothing)
    assert run("protect", "a.jpg", "--dry-run").code == 0
    stand_in("hashshield.pipeline.verify", verify=lambda *_, **__: [Verification("a.jpg", "protected")])
    assert run("verify", "a.jpg", "--yes").code == 0
    assert server.asked == []


def test_a_photo_through_a_pipe_brings_its_network(
    run: Run, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pipe(io.TextIOWrapper):
        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Pipe(io.BytesIO(encoded(picture()))))
    ended = run("protect", "-", "--model", "tiny-a")
    assert ended.code == 4
    assert "`hashshield models download tiny-a`" in ended.err


def test_mirror_may_be_a_folder(run: Run, released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_MIRROR", str(released))
    assert run("models", "download", "--all").code == 0
    shutil.rmtree(released)
    assert run("models", "verify").code == 0


def test_a_full_disk_ends_a_download_in_one_line_and_the_next_goes_on(run: Run, server: FileServer) -> None:
    def full(name: str, arguments: tuple[object, ...]) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls.observe(full)
    try:
        ended = run("models", "download", "--all", "--json")
    finally:
        calls.observe(None)
    assert ended.code == 4
    document = json.loads(ended.out)
    assert {row["name"]: row["status"] for row in document["results"] if "tiny" in row["name"]} == dict.fromkeys(
        ("tiny-a", "tiny-b"), "failed"
    )
    assert len([line for line in ended.err.splitlines() if "tiny-a" in line and "the disk is full" in line]) == 1
    assert "Traceback" not in ended.err
    again = statuses(run("models", "download", "--all", "--json").out)
    assert again == {"lite0-caltech101": "already", "tiny-a": "downloaded", "tiny-b": "downloaded"}
