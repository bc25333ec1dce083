"""The worker of a fleet: it opens the networks once, and protects one batch of photos after another.

It records that a batch was begun, and which outputs did not exist then. So a photo that kills its worker each time
cannot block the run forever, and no file is replaced that the run did not write itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hashshield.boundary import boundary
from hashshield.errors import HashshieldError
from hashshield.fleet import manifest
from hashshield.fleet.manifest import Batch, ManifestRow, photo_of
from hashshield.import_path import trusted
from hashshield.pipeline.execute import Origin, make_context
from hashshield.pipeline.plan import Job, read_photo, text_of
from hashshield.pipeline.rows import row_of
from hashshield.pipeline.twins import Results
from hashshield.pipeline.work import Result, Source, work
from hashshield.storage.atomic import remove_file, write_copy
from hashshield.storage.calls import storage_errors
from hashshield.types import Outcome, Request

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchNote", "Worker", "clear"]

_TOGETHER = 3
"""Times that a batch is begun as a whole before its photos are processed one by one."""
_ALONE = 2
"""Number of workers that one photo may kill before it is given up."""


class BatchNote:
    """A file that exists while a batch is begun and not finished; it outlives a killed worker.

    It counts how often the run began the batch, and lists the outputs that workers may write: those that did not exist
    when the batch was first begun.
    """

    def __init__(self, folder: Path, part: str, run: str, missing: Iterable[str]) -> None:
        """Record that a worker begins the batch of `part`, and its `missing` outputs. Raises StorageError."""
        self._path = folder / f"begun-{Path(part).stem}.json"
        self._state: dict[str, Any] = {"run": run, "times": 0, "photo": None, "ended": {}}
        earlier = _read(self._path)
        if earlier.get("run") == run:
            self._state = earlier
        self._state["outputs"] = sorted({*_outputs(earlier), *missing})
        self._state["times"] += 1
        photo = self._state["photo"]
        if photo is not None:
            self._state["ended"][photo] = self._state["ended"].get(photo, 0) + 1
        self._on(None)

    @property
    def outputs(self) -> frozenset[str]:
        """The photos whose outputs are the run's own."""
        return frozenset(self._state["outputs"])

    @property
    def together(self) -> bool:
        """Whether the photos are still processed as a batch."""
        return bool(self._state["times"] <= _TOGETHER)

    def given_up(self, photo: str) -> str | None:
        """Return why a photo is given up, or None after recording that it is now processed. Raises StorageError."""
        ended = self._state["ended"].get(photo, 0)
        if ended >= _ALONE:
            return (
                f"{photo}: {ended} workers ended while each worked on this photo alone (out of memory, perhaps); "
                "protect it by itself on a machine with more"
            )
        self._on(photo)
        return None

    def end(self) -> None:
        """Record that the batch is finished. Raises StorageError."""
        remove_file(self._path)

    def _on(self, photo: str | None) -> None:
        self._state |= {"photo": photo, "pid": os.getpid()}
        write_copy(self._path, json.dumps(self._state).encode())


def _outputs_begun(folder: Path) -> frozenset[str]:
    """Return the photos whose outputs may have been written without a row, by workers that were killed."""
    return frozenset(photo for path in folder.glob("begun-*.json") for photo in _outputs(_read(path)))


def clear(folder: Path) -> None:
    """Remove the notes of a finished run. Raises StorageError."""
    for path in folder.glob("begun-*.json"):
        remove_file(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}  # missing or unreadable: the batch is begun for the first time
    return found if isinstance(found, dict) else {}


def _outputs(note: dict[str, Any]) -> list[str]:
    outputs = note.get("outputs", [])
    return [photo for photo in outputs if isinstance(photo, str)] if isinstance(outputs, list) else []


class Worker:
    """Protects batches; its process may be killed at any moment.

    Outputs are written before their rows, and the rows of a batch at once. So after a worker is killed, its batch is
    either repeated from the start or already has its rows. If a batch kills its worker repeatedly, its photos are
    processed one by one, and the one at fault gets a row with the reason.
    """

    def __init__(
        self,
        request: Request,
        secret: bytes,
        results_before: Results,
        run: str,
        threads: int,
        folder: str,
        memory_share: float = 1.0,
    ) -> None:
        """Open the networks; the worker uses `threads` cores, and relative paths start at `folder`.

        It uses at most `memory_share`, in (0, 1], of a GPU's memory, because other workers may use the same GPU. Raises
        StorageError and the errors of `make_context`.
        """
        assert request.output is not None
        with storage_errors(f"entering {folder}"):
            os.chdir(folder)
        # The folder may hold photos, so it is removed from the import path in case Ray put it there.
        sys.path[:] = trusted(sys.path)
        torch.set_num_threads(threads)
        self._request, self._output, self._run = request, request.output, run
        # Batches may be shared out differently from run to run, so the notes of all count.
        self._begun, self._replaceable = _outputs_begun(self._output / manifest.FOLDER), frozenset[str]()
        self._tools = make_context(request, secret, results_before=results_before, memory_share=memory_share)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Protect the batches of a table, one per row; return the manifest's rows of their photos as a table."""
        return manifest.table_of([entry for row in table.to_pylist() for entry in self.do(Batch.of_row(row))])

    def do(self, batch: Batch) -> list[ManifestRow]:
        """Protect the photos of a batch that have no final row yet; return all its rows. Raises StorageError."""
        folder = self._output / manifest.FOLDER
        part = folder / batch.part
        done = {entry.photo: entry for entry in manifest.read_part(part) if self._stands(entry)}
        photos = {photo_of(job, self._output): job for job in batch.jobs}
        left = {photo: job for photo, job in photos.items() if photo not in done}
        if left:
            there = {photo for photo in left if os.path.lexists(self._output / photo)}
            begun = BatchNote(folder, batch.part, self._run, left.keys() - there)
            self._replaceable = (begun.outputs | self._begun) & there
            for photo in there - self._replaceable:
                done[photo] = self._occupied(photo, left.pop(photo))
            if begun.together:
                done |= self._rows(list(left.values()))
                manifest.write_part(part, list(done.values()))
            else:
                for photo, job in left.items():
                    reason = begun.given_up(photo)
                    given_up = ManifestRow(photo, self._run, Outcome(str(job.path), "failed", reason=reason))
                    done |= self._rows([job]) if reason is None else {photo: given_up}
                    manifest.write_part(part, list(done.values()))
            begun.end()
        return [done[photo] for photo in photos]

    def _rows(self, jobs: Sequence[Job]) -> dict[str, ManifestRow]:
        rows = ((photo_of(job, self._output), outcome) for job, outcome in self._protect(jobs))
        return {photo: ManifestRow(photo, self._run, outcome) for photo, outcome in rows}

    def _occupied(self, photo: str, job: Job) -> ManifestRow:
        """Return the row of a photo whose output would replace a file that no run wrote."""
        reason = f"{job.output}: exists already, and no run wrote it; move it away, or name another --output"
        return ManifestRow(
            photo, self._run, Outcome(str(job.path), "failed", output=text_of(job.output), reason=reason)
        )

    def _stands(self, entry: ManifestRow) -> bool:
        """Return whether a row is final; photos that failed in an earlier run are tried again."""
        return entry.outcome.status != "failed" or entry.run == self._run

    def _protect(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        unreadable: list[tuple[Job, Outcome]] = []
        for result in work(self._sources(jobs, unreadable), self._tools):
            origin = result.source.key
            assert isinstance(origin, Origin)
            try:
                with boundary("store", result.source.name):
                    row = self._store(result, origin)
            except HashshieldError as error:
                row = Outcome(str(origin.job.path), "failed", reason=str(error))
            yield origin.job, row
        yield from unreadable

    def _sources(self, jobs: Sequence[Job], unreadable: list[tuple[Job, Outcome]]) -> Iterator[Source]:
        for job in jobs:
            snapshot = read_photo(job.path, job.within)
            if isinstance(snapshot, Outcome):
                unreadable.append((job, snapshot))
                continue
            yield Source(str(job.path), snapshot.data, snapshot.sha256, Origin(job, replace(snapshot, data=b"")))

    def _store(self, result: Result, origin: Origin) -> Outcome:
        """Write a photo that passed, or the best try with `accept_best`, and return its row."""
        job, snapshot = origin.job, origin.snapshot
        if result.earlier_result is not None and not result.reoriented:
            reason = "is a result of an earlier run of this installation"
            return Outcome(str(job.path), "already", reason=reason, sha256_before=snapshot.sha256)
        row = row_of(result, job.path, job.output, self._request)
        if row.status not in ("protected", "partial") or result.data is None:
            return row
        assert job.output is not None
        mtime_ns = snapshot.mtime_ns if self._request.file_options.keep_mtime else None
        overwrite = photo_of(job, self._output) in self._replaceable
        try:
            write_copy(job.output, result.data, mode=snapshot.mode, mtime_ns=mtime_ns, overwrite=overwrite)
        except HashshieldError as error:
            return replace(row, status="failed", reason=str(error), sha256_after=None)
        return row
