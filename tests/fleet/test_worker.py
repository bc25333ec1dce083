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
from hashshield.imaging.png_chunks import chunk
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
def worker_of(request_: Request) -> Iterator[Callable[..., Worker]]:
    """A worker of the run of that name; it changes folder and threads of the process, which are put back."""
    folder, threads = Path.cwd(), torch.get_num_threads()
    yield lambda run, **more: Worker(request_, KEY, frozenset(), run, 1, str(folder), **more)
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
    photos: Path, request_: Request, worker_of: Callable[..., Worker], tmp_path: Path
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
    photos: Path, request_: Request, worker_of: Callable[..., Worker]
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


class Killed(BaseException):
    """Stands for the end of the process."""


def killed_after(worker: Worker, count: int) -> None:
    """Let the worker end once it has written so many outputs."""
    whole = worker._protect

    def fatal(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        for number, each in enumerate(whole(jobs), start=1):
            yield each
            if number == count:
                raise Killed

    worker._protect = fatal  # type: ignore[method-assign]


@pytest.mark.parametrize("regrouped", [False, True])
def test_an_output_that_a_killed_worker_wrote_is_written_again(
    photos: Path, request_: Request, worker_of: Callable[..., Worker], regrouped: bool
) -> None:
    assert request_.output is not None
    batch = batch_of(photos, request_.output)
    worker = worker_of("r1")
    killed_after(worker, 2)
    with pytest.raises(Killed):
        worker.do(batch)
    written = list(request_.output.rglob("*.png"))
    assert len(written) == 2
    for path in written:
        path.write_bytes(b"half of a photo")
    # The next run may share out the photos differently.
    next_batch = Batch("part-2.parquet", batch.jobs) if regrouped else batch
    entries = worker_of("r2").do(next_batch)
    assert len(entries) == 4
    assert [e.outcome.sha256_after for e in entries] == [sha256(request_.output / e.photo) for e in entries]


def test_a_file_that_no_run_wrote_is_never_replaced(
    photos: Path, request_: Request, worker_of: Callable[..., Worker]
) -> None:
    """Also not if the worker is killed and its batch begun again, nor if the file appears meanwhile."""
    assert request_.output is not None
    batch = batch_of(photos, request_.output)
    request_.output.mkdir()
    mine = request_.output / "0000.png"
    mine.write_bytes(b"mine")
    worker = worker_of("r1")
    killed_after(worker, 1)
    with pytest.raises(Killed):
        worker.do(batch)
    entries = {entry.photo: entry.outcome for entry in worker_of("r2").do(batch)}
    refused = entries.pop("0000.png")
    assert (refused.status, mine.read_bytes()) == ("failed", b"mine")
    assert "0000.png: exists already, and no run wrote it" in str(refused.reason)
    assert all(row.sha256_after == sha256(request_.output / photo) for photo, row in entries.items())

    mine.unlink()
    worker = worker_of("r3")
    whole = worker._protect

    def late(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        mine.write_bytes(b"mine, late")
        yield from whole(jobs)

    worker._protect = late  # type: ignore[method-assign]
    entries = {entry.photo: entry.outcome for entry in worker.do(batch)}
    assert (entries["0000.png"].status, mine.read_bytes()) == ("failed", b"mine, late")
    mine.unlink()
    entries = {entry.photo: entry.outcome for entry in worker_of("r4").do(batch)}
    assert entries["0000.png"].sha256_after == sha256(mine)


def test_a_photo_that_ends_its_worker_each_time_is_given_up_and_the_others_are_not(
    photos: Path, request_: Request, worker_of: Callable[..., Worker]
) -> None:
    """As when a worker is killed: what it was doing stops, and the next one finds what is on the disk."""
    assert request_.output is not None
    batch = batch_of(photos, request_.output)
    folder = request_.output / manifest.FOLDER

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
    photos: Path, request_: Request, worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
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
