"""A worker by itself, in this process: what it does with a batch, and with one that was begun before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra ray)")

from fleet_runs import put_photos, sha256

from hashshield.fleet import manifest
from hashshield.fleet import run as fleet
from hashshield.fleet.manifest import Batch
from hashshield.fleet.worker import Worker
from hashshield.imaging.png import chunk
from hashshield.pipeline.plan import Job
from hashshield.pipeline.protect import protect
from hashshield.types import NullProgress, Outcome, Request

KEY = bytes(range(32))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    put_photos(tmp_path / "photos", 4)
    return tmp_path / "photos"


@pytest.fixture
def request_(tmp_path: Path, tiny: Path) -> Request:
    return Request(
        models=(f"{tiny}:16",),
        steps=3,
        accept_best=True,
        batch_size=1,
        device="cpu",
        witness="none",
        output=tmp_path / "out",
        vault=tmp_path / "vault",
    )


@pytest.fixture
def worker_of(request_: Request) -> Iterator[Callable[[str], Worker]]:
    """A worker of the run of that name; it changes folder and threads of the process, which are put back."""
    folder, threads = Path.cwd(), torch.get_num_threads()
    yield lambda run: Worker(request_, KEY, frozenset(), run, 1, str(folder))
    os.chdir(folder)
    torch.set_num_threads(threads)


def batch_of(photos: Path, output: Path) -> Batch:
    jobs = [Job(p, photos, p.stat().st_size, output / p.relative_to(photos)) for p in sorted(photos.rglob("*.*"))]
    return Batch("part-1.parquet", tuple(jobs))


def test_a_batch_travels_as_a_row(tmp_path: Path) -> None:
    named = Job(tmp_path / "a.jpg", None, 7, tmp_path / "out" / "a.jpg")
    met = Job(tmp_path / "in" / "b.jpg", tmp_path / "in", 8, tmp_path / "out" / "b.jpg")
    batch = Batch("part-1.parquet", (named, met))
    assert Batch.of_row(batch.as_row()) == batch


def test_outputs_are_those_of_one_machine(
    photos: Path, request_: Request, worker_of: Callable[[str], Worker], tmp_path: Path
) -> None:
    from dataclasses import replace

    class Silent:
        def start(self, total: int) -> None: ...
        def photo(self, path: str) -> None: ...
        def done(self, outcome: object) -> None: ...
        def notice(self, text: str) -> None: ...

    (tmp_path / "vault").mkdir(mode=0o700)
    (tmp_path / "vault" / "key").write_bytes(KEY)
    alone = tmp_path / "alone"
    protect([photos], replace(request_, output=alone), progress=Silent())
    assert request_.output is not None
    entries = worker_of("r1").do(batch_of(photos, request_.output))
    assert len(entries) == 4
    for entry in entries:
        assert entry.outcome.sha256_after == sha256(request_.output / entry.photo) == sha256(alone / entry.photo)


def test_what_was_done_is_only_read_and_what_failed_is_tried_again_by_the_next_run(
    photos: Path, request_: Request, worker_of: Callable[[str], Worker]
) -> None:
    assert request_.output is not None
    broken = photos / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no photo")
    batch = batch_of(photos, request_.output)
    part = request_.output / manifest.FOLDER / batch.part
    worker = worker_of("r1")
    first = worker.do(batch)
    assert [entry.outcome.status for entry in first].count("failed") == 1
    written = part.read_bytes()

    kept = request_.output / first[0].photo
    kept.unlink()
    assert worker.do(batch) == first
    assert part.read_bytes() == written
    assert not kept.exists(), "a batch with all its rows was done again"

    broken.write_bytes((photos / "0000.png").read_bytes())
    second = {entry.photo: entry for entry in worker_of("r2").do(batch)}
    mended = second.pop("broken.jpg")
    assert (mended.run, mended.outcome.status) == ("r2", "partial") or mended.outcome.status == "protected"
    assert sorted(second.values(), key=lambda e: e.photo) == sorted(
        (entry for entry in first if entry.photo != "broken.jpg"), key=lambda e: e.photo
    )
    assert len(manifest.read_part(part)) == 5


def test_an_output_without_a_row_is_written_again(
    photos: Path, request_: Request, worker_of: Callable[[str], Worker]
) -> None:
    assert request_.output is not None
    batch = batch_of(photos, request_.output)
    worker = worker_of("r1")
    first = worker.do(batch)
    (request_.output / manifest.FOLDER / batch.part).unlink()
    (request_.output / first[0].photo).write_bytes(b"half of a photo")
    again = worker.do(batch)
    assert [e.outcome.sha256_after for e in again] == [sha256(request_.output / e.photo) for e in again]
    assert [e.outcome.sha256_after for e in again] == [e.outcome.sha256_after for e in first]


def test_a_photo_that_ends_its_worker_each_time_is_given_up_and_the_others_are_not(
    photos: Path, request_: Request, worker_of: Callable[[str], Worker]
) -> None:
    """As when a worker is killed: what it was doing stops, and the next one finds what is on the disk."""
    assert request_.output is not None
    batch = batch_of(photos, request_.output)
    folder = request_.output / manifest.FOLDER

    class Killed(BaseException):
        """Stands for the end of the process."""

    worker = worker_of("r1")
    whole = worker._protect

    def fatal(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        if any(job.path.name == "0002.png" for job in jobs):
            raise Killed
        yield from whole(jobs)

    worker._protect = fatal  # type: ignore[method-assign]
    for _ in range(5):
        with pytest.raises(Killed):
            worker.do(batch)
    entries = {entry.photo: entry.outcome for entry in worker.do(batch)}
    assert "2 workers ended while each worked on this photo alone" in str(entries.pop("0002.png").reason)
    assert len(entries) == 3
    for photo, row in entries.items():
        assert row.sha256_after == sha256(request_.output / photo)
    assert [path.name for path in folder.iterdir()] == [batch.part], "a note was left"

    # The next run tries it again.
    again = {entry.photo: entry.outcome.status for entry in worker_of("r2").do(batch)}
    assert again["0002.png"] in ("protected", "partial")


def test_credentials_that_no_longer_match_are_told_of_once(
    photos: Path, request_: Request, worker_of: Callable[[str], Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers say it in their rows, and the process that the user sees says it aloud."""
    signed = sorted(photos.rglob("*.png"))[1:3]
    for path in signed:
        plain = path.read_bytes()
        path.write_bytes(plain[:33] + chunk(b"caBX", b"jumb c2pa").data + plain[33:])

    def carry_out(jobs: Sequence[Job], *rest: object) -> Iterator[manifest.ManifestRow]:
        assert request_.output is not None
        entries = worker_of("one").do(Batch("part-1.parquet", tuple(jobs)))
        yield from manifest.entries_of(manifest.table_of(entries))

    monkeypatch.setattr(fleet, "_carry_out", carry_out)
    monkeypatch.setattr(fleet, "require_ray", lambda: None)
    monkeypatch.setattr(fleet, "cluster", lambda address, cores: None)

    class Told(NullProgress):
        notices: tuple[str, ...] = ()

        def notice(self, text: str) -> None:
            if "C2PA" in text:
                self.notices += (text,)

    told = Told()
    rows = fleet.protect([photos], request_, progress=told)
    assert {row.path for row in rows if row.broken_credentials} == set(map(str, signed))
    assert len(told.notices) == 1
