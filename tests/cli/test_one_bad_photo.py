"""Whatever one photo does, the others are done: a folder of twenty, two of which raise at one stage of their way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hashshield.boundary import PhotoStage, logger, observe_stages
from hashshield.storage import digest
from tiny_net import encoded, picture, write_tiny

Run = Callable[..., Any]
BAD = frozenset({"03.png", "12.png"})


@pytest.fixture
def folder(tmp_path: Path, own_settings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty small photos, the tiny network and a vault; four photos are searched at once."""
    net = write_tiny(tmp_path / "tiny.safetensors")
    texts = {
        "model": f"{net}:16",
        "witness": "none",
        "vault": tmp_path / "vault",
        "device": "cpu",
        "preset": "invisible",
    }
    lines = [
        *(f'{key} = "{value}"' for key, value in texts.items()),
        "steps = 1",
        "batch_size = 4",
        "accept_best = true",
    ]
    own_settings.write_text("\n".join(lines))
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(20):
        (photos / f"{number:02}.png").write_bytes(encoded(picture(32 + number % 3, 32, seed=number)))
    monkeypatch.chdir(tmp_path)
    return photos


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Raise at the stage that the test names, for the two bad photos; the list says where it was raised."""
    stage, error = request.param
    raised: list[str] = []

    def observer(at: PhotoStage, photo: str) -> None:
        if at == stage and Path(photo).name in BAD:
            raised.append(Path(photo).name)
            raise error

    before = observe_stages(observer)
    yield raised
    observe_stages(before)


def faults(*stages: str) -> list[Any]:
    return [pytest.param((stage, ValueError("a bug\nof ours")), id=stage) for stage in stages]


def check(ended: Any, *, good: set[str], named: str = "path") -> dict[str, Any]:
    """One document: eighteen rows that are done, two that say whose bug it is; exit code 1."""
    document: dict[str, Any] = json.loads(ended.out)
    rows = {Path(row[named]).name: row for row in document["results"]}
    assert len(document["results"]) == len(rows) == 20
    assert ended.code == 1, ended.err
    bad = {name: row for name, row in rows.items() if row["status"] == "failed"}
    assert set(bad) == BAD
    for row in bad.values():
        assert "internal error: ValueError: a bug; please report it" in row["reason"]
    assert {row["status"] for name, row in rows.items() if name not in BAD} <= good
    assert "Traceback" not in ended.err
    return document


@pytest.mark.parametrize(
    "fault", faults("read", "decode", "hash", "aim", "search", "write", "judge", "store"), indirect=True
)
def test_protect(folder: Path, fault: list[str], run: Run) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    document = check(run("protect", folder, "--json", "--yes"), good={"protected", "partial"})
    assert set(fault) == BAD
    for row in document["results"]:
        path = Path(row["path"])
        held = before[path.name] if path.name in BAD else None
        assert digest(path.read_bytes()) == (row["sha256_after"] if held is None else digest(held))


@pytest.mark.parametrize("fault", faults("compare"), indirect=True)
def test_verify(folder: Path, fault: list[str], run: Run) -> None:
    check(run("verify", folder, "--json", "--yes"), good={"unknown"})


@pytest.mark.parametrize("fault", faults("compare"), indirect=True)
def test_evaluate(folder: Path, fault: list[str], run: Run) -> None:
    shutil.copytree(folder, folder.parent / "copies")
    check(run("evaluate", folder, folder.parent / "copies", "--json", "--yes"), good={"compared"}, named="protected")


@pytest.mark.parametrize("fault", faults("store"), indirect=True)
def test_restore(folder: Path, fault: list[str], run: Run) -> None:
    held = observe_stages(None)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run("protect", folder, "--json", "--yes").code in (0, 3)
    observe_stages(held)
    check(run("restore", folder, "--json"), good={"restored"})
    kept = {path.name for path in folder.iterdir() if path.read_bytes() != before[path.name]}
    assert kept == BAD, "and the two can be restored later"
    observe_stages(None)
    assert run("restore", folder).code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("fault", faults("decode", "hash"), indirect=True)
def test_audit(folder: Path, fault: list[str], run: Run) -> None:
    original, protected = folder.parent / "a.png", folder.parent / "b.png"
    for path, seed in ((original, 98), (protected, 99)):
        path.write_bytes(encoded(picture(34, 34, seed=seed)))
    ended = run("audit", protected, "--original", original, "--gallery", folder, "--json", "--yes")
    document = json.loads(ended.out)
    failed = {Path(row["path"]).name for row in document["results"] if row["status"] == "failed"}
    assert failed == BAD
    assert [row["gallery"] for row in document["results"] if row["status"] == "audited"] == [18]
    assert ended.code == 1


@pytest.mark.parametrize("fault", [pytest.param(("search", MemoryError()), id="memory")], indirect=True)
def test_a_photo_without_memory_is_told_what_to_do(folder: Path, fault: list[str], run: Run) -> None:
    document = json.loads(run("protect", folder, "--json", "--yes").out)
    reasons = [row["reason"] for row in document["results"] if row["status"] == "failed"]
    assert len(reasons) == 2
    assert all(
        "not enough memory for this photo; close other programs, or use --jobs 1" in reason for reason in reasons
    )


@pytest.mark.parametrize("fault", faults("search"), indirect=True)
def test_each_of_a_batch_that_raises_is_tried_once_alone(folder: Path, fault: list[str], run: Run) -> None:
    run("protect", folder, "--json", "--yes")
    assert sorted(fault) == sorted([*BAD, *BAD]), "in its batch, and alone"


def entries(folder: Path) -> str:
    return (folder.parent / "vault" / "errors.log").read_text()


@pytest.mark.parametrize("fault", faults("write"), indirect=True)
def test_the_log_has_the_place_and_no_names(folder: Path, fault: list[str], run: Run) -> None:
    ended = run("protect", folder, "--json", "--yes")
    said = entries(folder)
    assert said.count("ERROR write: ValueError") == 2
    assert "hashshield/boundary.py" in said
    for secret in (*BAD, str(folder.parent), "a bug"):
        assert secret not in said
    assert (folder.parent / "vault" / "errors.log").stat().st_mode & 0o777 == 0o600
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("fault", faults("write"), indirect=True)
def test_verbose_shows_tracebacks_and_logs_names(folder: Path, fault: list[str], run: Run) -> None:
    ended = run("protect", folder, "--json", "--yes", "--verbose")
    assert ended.err.count("Traceback") == 2
    assert "a bug" in ended.err
    assert all(name in entries(folder) for name in BAD)
    assert not [handler for handler in logger.handlers if "StreamHandler" in type(handler).__name__]


def test_the_log_stays_small(tmp_path: Path) -> None:
    from hashshield.boundary import boundary
    from hashshield.errors import InternalError
    from hashshield.storage.calls import ErrorLog

    log = ErrorLog(tmp_path).attach()
    try:
        (tmp_path / "errors.log").write_bytes(b"x" * 300_000)
        with pytest.raises(InternalError), boundary("write", "a.png"):
            raise KeyError("a.png")
    finally:
        log.close()
    assert (tmp_path / "errors.log").stat().st_size < 2000
    assert (tmp_path / "errors.log.1").stat().st_size == 300_000


class OutOfMemoryAt:
    """A device that is out of memory when a photo reaches the search for these times."""

    def __init__(self, calls: set[int]) -> None:
        self.calls, self.count = calls, 0

    def __call__(self, stage: PhotoStage, photo: str) -> None:
        if stage == "search":
            self.count += 1
            if self.count in self.calls:
                raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize("calls", [{1}, {5, 6}])
def test_out_of_memory_loses_no_photo(calls: set[int], folder: Path, run: Run) -> None:
    before = observe_stages(OutOfMemoryAt(calls))
    try:
        document = json.loads(run("protect", folder, "--json", "--yes").out)
    finally:
        observe_stages(before)
    assert len(document["results"]) == 20
    assert {row["status"] for row in document["results"]} <= {"protected", "partial"}


def test_what_never_fits_is_a_row_and_the_rest_goes_on(folder: Path, run: Run) -> None:
    before = observe_stages(OutOfMemoryAt(set(range(1, 12))))
    try:
        ended = run("protect", folder, "--json", "--yes")
    finally:
        observe_stages(before)
    rows = json.loads(ended.out)["results"]
    assert len(rows) == 20
    failed = [row for row in rows if row["status"] == "failed"]
    assert 0 < len(failed) < 20
    assert all("fits into memory; close other programs" in row["reason"] for row in failed)
