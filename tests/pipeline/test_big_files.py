"""Films and disk images among photos: their first bytes are looked at, and no more."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hashshield.errors import HashshieldError
from hashshield.pipeline.audit import audit
from hashshield.pipeline.evaluate import evaluate
from hashshield.pipeline.plan import asked_now, plan
from hashshield.pipeline.restore import restore
from hashshield.pipeline.verify import verify
from hashshield.storage import Store
from hashshield.types import GoalSpec, Progress, Request
from tiny_net import encoded, picture

FILM = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    """A film of 3 GB and an unknown file of 1 GB less a byte, which take no room on the disk."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(40, 40)))
    for name, head, size in (("film.mp4", FILM, 3 << 30), ("unknown.jpg", b"\0" * 8, (1 << 30) - 1)):
        with (folder / name).open("wb") as handle:
            handle.write(head)
            handle.truncate(size)
    return [folder / "film.mp4", folder / "unknown.jpg"]


@pytest.fixture(autouse=True)
def _light(films: list[Path], tmp_path: Path) -> Iterator[None]:
    """None of it takes the memory of such a file, or the time to read one."""
    Store.open(tmp_path / "vault").close()
    tracemalloc.start()
    began = time.monotonic()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20
    assert time.monotonic() - began < 60


def test_protect_passes_over_them_and_names_a_named_one(films: list[Path], tmp_path: Path) -> None:
    with Store.open(tmp_path / "vault") as store:
        met = plan([films[0].parent], Request(), store)
        named = plan(films, Request(force=True), store)
    assert [job.path.name for job in met.jobs] == ["a.png"]
    assert [(row.status, row.reason) for row in met.resolved] == [("skipped", "not an image")] * 2
    assert [row.status for row in named.resolved] == ["failed"] * 2
    assert all("not an image" in str(row.reason) for row in named.resolved)


def test_restore_passes_over_them(films: list[Path], tmp_path: Path) -> None:
    rows = {Path(row.path).name: row.status for row in restore([films[0].parent], vault=tmp_path / "vault")}
    assert rows == {"a.png": "skipped", "film.mp4": "skipped", "unknown.jpg": "skipped"}
    assert [row.status for row in restore(films, vault=tmp_path / "vault", force=True)] == ["failed"] * 2


def test_verify_passes_over_them(films: list[Path], tmp_path: Path, tiny: Path, told: Progress) -> None:
    def statuses(paths: list[Path]) -> dict[str, str]:
        rows = verify(paths, models=[f"{tiny}:16"], vault=tmp_path / "vault", device="cpu", progress=told)
        return {Path(row.path).name: row.status for row in rows}

    assert statuses([films[0].parent]) == {"a.png": "unknown", "film.mp4": "skipped", "unknown.jpg": "skipped"}
    assert statuses(films) == {"film.mp4": "failed", "unknown.jpg": "failed"}


def test_evaluate_pairs_photos_only(films: list[Path], tiny: Path, told: Progress) -> None:
    folder, models = films[0].parent, [f"{tiny}:16"]
    rows = evaluate(folder, folder, models=models, device="cpu", progress=told)
    assert [Path(row.original).name for row in rows] == ["a.png"]
    (row,) = evaluate(films[0], films[1], models=models, device="cpu", progress=told)
    assert row.status == "failed"


def test_audit_searches_among_photos_only(films: list[Path], tmp_path: Path, tiny: Path, told: Progress) -> None:
    other = tmp_path / "b.png"
    other.write_bytes(encoded(picture(40, 40, seed=1)))

    def run(photo: Path, original: Path) -> list[str]:
        common: dict[str, object] = {"models": [f"{tiny}:16"], "vault": tmp_path / "vault", "device": "cpu"}
        rows = audit(photo, films[0].parent, original=original, progress=told, **common)  # type: ignore[arg-type]
        return [row.status for row in rows]

    assert run(other, other) == ["audited", "skipped", "skipped"]
    with pytest.raises(HashshieldError, match="not an image"):
        run(films[0], other)
    with pytest.raises(HashshieldError, match="not an image"):
        run(other, films[0])


def test_a_folder_of_targets_is_told_apart_without_reading_them(
    films: list[Path], request_for: Callable[..., Request]
) -> None:
    before = asked_now(request_for(goal=GoalSpec("set", str(films[0].parent))), b"key")
    (films[0].parent / "a.png").write_bytes(encoded(picture(40, 40, seed=3)))
    assert asked_now(request_for(goal=GoalSpec("set", str(films[0].parent))), b"key") != before


def test_an_export_that_meets_one_does_not_read_it(films: list[Path], tmp_path: Path) -> None:
    with Store.open(tmp_path / "vault") as store, pytest.raises(HashshieldError, match="exists already"):
        store.export(films[1], b"original", mode=0o600, mtime_ns=None)
