"""A look at photos before any network is opened: what decoding alone can settle needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

from hashshield import imaging
from hashshield.boundary import boundary
from hashshield.errors import HashshieldError, UnsupportedError
from hashshield.imaging.file import read_photo_file
from hashshield.pipeline.plan import Job, already_row, base_fields
from hashshield.pipeline.turning import TURNED, Results, earlier_result, results_of
from hashshield.storage import Store
from hashshield.types import Outcome, Request

__all__ = ["open_photo", "prefilter"]


def open_photo(data: bytes, *, name: str, lossy_formats: bool) -> imaging.Photo:
    """Decode a photo to be protected; HEIC and AVIF only where they were asked for. Raises PhotoError."""
    container = imaging.sniff(data[:64])
    if container in imaging.LOSSY_FORMATS and not lossy_formats:
        raise UnsupportedError(
            f"{name}: {str(container).upper()} loses a little with each writing; accept that with "
            "--lossy-formats, or convert it to JPEG, PNG or WebP first"
        )
    return imaging.read(data, name=name)


def prefilter(jobs: Sequence[Job], request: Request, store: Store, rows: dict[str, Outcome]) -> Sequence[Job]:
    """Settle photos, from the first on, until one needs the networks; its row goes to `rows`, the rest is returned.

    Not all of them, because each would be decoded twice. With `force` nothing is settled: an edited file may stand for
    an original in the vault, which only the work finds out. Raises UnknownNameError, CheckpointError.
    """
    results = {} if request.force else results_of(store)
    for index, job in enumerate(jobs):
        row = None if request.force else _resolved_row(job, request, store, results)
        if row is None:
            return jobs[index:]
        rows[row.path] = row
    return ()


def _resolved_row(job: Job, request: Request, store: Store, results: Results) -> Outcome | None:
    """The row of a photo that cannot be decoded, or that is an earlier result, also with other metadata or turned."""
    try:
        with boundary("read", str(job.path)):
            snapshot = read_photo_file(job.path, follow=job.within is None, within=job.within)
    except HashshieldError as error:
        return Outcome(str(job.path), "failed", reason=str(error))
    try:
        lossy_formats = request.file_options.lossy_formats
        with boundary("decode", str(job.path)):
            photo = open_photo(snapshot.data, name=str(job.path), lossy_formats=lossy_formats)
    except HashshieldError as error:
        return Outcome(
            status="failed", reason=str(error), **base_fields(job.path, job.output, snapshot.sha256, request)
        )
    earlier = earlier_result(photo, results)
    if earlier is None:
        return None
    if earlier.reoriented:
        asked = base_fields(job.path, job.output, snapshot.sha256, request)
        return Outcome(status="short", reason=TURNED, **asked)
    known = store.known(snapshot.sha256, earlier.digest)
    return None if known is None else already_row(job.path, known, request)
