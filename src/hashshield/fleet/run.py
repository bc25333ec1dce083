"""`protect --engine ray`: list the files, send batches to workers, and report rows as they are written."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hashshield.errors import FleetError, HashshieldError, UsageError
from hashshield.fleet.cluster import cluster, require_ray
from hashshield.paths import is_folder
from hashshield.pipeline.plan import CREDENTIALS, Job, text_of
from hashshield.pipeline.protect import check, check_names
from hashshield.pipeline.twins import Results, results_of
from hashshield.storage import Store
from hashshield.storage.atomic import locked, sweep_temporaries
from hashshield.types import Outcome, Progress, Request

if TYPE_CHECKING:
    from hashshield.fleet.manifest import Batch, ManifestRow

__all__ = ["protect"]

_CORES = 4
"""Cores of a worker without a GPU, and most cores of one with a GPU."""
_GPU_PARTS = 10_000
"""Parts into which Ray divides a GPU."""
_BLOCKS = 10_000
"""Most blocks of the Ray data set; a block may hold several batches."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The arguments that every worker gets."""

    request: Request
    secret: bytes
    results_before: Results
    run: str


def protect(
    paths: Sequence[Path],
    request: Request,
    *,
    address: str | None = None,
    workers: int | None = None,
    cores: int | None = None,
    progress: Progress,
) -> list[Outcome]:
    """Write protected copies of files and folders below `request.output`; return one row per file, sorted by path.

    `address` is a Ray cluster that requires a token; None starts one on this machine, with `cores` of its cores (None:
    all). `workers` is the number of processes; None: one for each GPU, or for every four cores. Photos with a row in
    the manifest beside the outputs are not protected again, unless they failed. Raises UsageError, CheckpointError,
    StorageError or FleetError for failures that affect the whole run.
    """
    output = _checked(request)
    require_ray()

    from hashshield.fleet import manifest
    from hashshield.fleet.manifest import check_places, listed, settled_before
    from hashshield.fleet.worker import clear

    check_places(paths, output)
    folder = output / manifest.FOLDER
    with Store.open(request.vault) as store, ExitStack() as stack:
        store.require_sound()
        for notice in store.notices:
            progress.notice(notice)
        jobs, resolved = listed(paths, request, store)
        rows = {row.path: row for row in resolved}
        if request.sample is not None and len(jobs) > request.sample:
            from hashshield.pipeline.estimate import sampled_evenly

            jobs = list(sampled_evenly(jobs, request.sample))
            rows = {path: row for path, row in rows.items() if row.status == "failed"}
        if not request.dry_run and jobs:
            stack.enter_context(locked(folder))
        known = manifest.read_all(folder) if is_folder(folder) else {}
        before = settled_before(jobs, known, request)
        rows |= {row.path: row for row in before.values()}
        left = [job for job in jobs if job.path not in before]
        if request.dry_run:
            planned = (Outcome(str(job.path), "planned", output=text_of(job.output)) for job in left)
            rows |= {row.path: row for row in planned}
        elif left:
            errand = WorkerConfig(request, store.key(), results_of(store), uuid.uuid4().hex)
            progress.start(len(left))
            signed = False
            for entry in _carry_out(left, known, errand, workers, cluster(address, cores)):
                if entry.outcome.broken_credentials and not signed:
                    # Told here, because only workers read photos.
                    signed = True
                    progress.notice(CREDENTIALS.format(entry.outcome.path))
                rows[entry.outcome.path] = entry.outcome
                progress.done(entry.outcome)
            for place in {job.output.parent for job in left if job.output is not None} | {folder}:
                sweep_temporaries(place)
            clear(folder)
        return sorted(rows.values(), key=lambda row: row.path)


def _checked(request: Request) -> Path:
    """Return the output folder of a request that a fleet can do. Raises UsageError, CheckpointError, GoalError."""
    check(request)
    if request.output is None:
        raise UsageError("--engine ray: needs --output DIR, because many machines never work in place")
    in_place = {
        "--no-backup": not request.backup,
        "--force": request.force,
        "--break-links": request.file_options.break_links,
        "--allow-root": request.file_options.allow_root,
    }
    given = [name for name, is_given in in_place.items() if is_given]
    if given:
        raise UsageError(f"--engine ray: leave out {' and '.join(given)}, meant for photos changed in place")
    if request.place_name is not None:
        raise UsageError(
            f"--engine ray: --for {request.place_name} needs the ledger, where many machines record nothing; leave one "
            "of the two out"
        )
    # The device is checked by the workers, which may have others than this machine.
    check_names(replace(request, device="auto"))
    return request.output


def _carry_out(
    jobs: Sequence[Job],
    known: dict[str, tuple[str, ManifestRow]],
    errand: WorkerConfig,
    workers: int | None,
    connection: AbstractContextManager[None],
) -> Iterator[ManifestRow]:
    """Send the jobs to workers; yield their rows, batch by batch. Raises FleetError, and the errors of workers."""
    with connection:
        import ray

        from hashshield.fleet.manifest import batches_of

        assert errand.request.output is not None
        share = _share(ray.cluster_resources(), errand.request, workers)
        batches = batches_of(jobs, known, errand.request.output, workers=share["workers"])
        try:
            yield from _stream(batches, errand, share)
        except ray.exceptions.RayError as error:
            _raise(error)


def _stream(batches: Sequence[Batch], errand: WorkerConfig, share: dict[str, Any]) -> Iterator[ManifestRow]:
    import ray.data

    from hashshield.fleet.manifest import entries_of
    from hashshield.fleet.worker import Worker

    ray.data.DataContext.get_current().enable_progress_bars = False
    data = ray.data.from_items(
        [batch.as_row() for batch in batches], override_num_blocks=min(len(batches), _BLOCKS)
    ).map_batches(
        Worker,
        batch_size=1,
        batch_format="pyarrow",
        # Ray restarts a killed worker and gives it the same batches again.
        compute=ray.data.ActorPoolStrategy(size=share["workers"], max_tasks_in_flight_per_actor=2),
        fn_constructor_kwargs={
            "request": errand.request,
            "secret": errand.secret,
            "results_before": errand.results_before,
            "run": errand.run,
            "threads": share["threads"],
            "memory_share": share["gpus"] or 1.0,
            "folder": str(Path.cwd()),
        },
        num_cpus=share["cpus"],
        num_gpus=share["gpus"],
    )
    for table in data.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from entries_of(table)


def _share(resources: dict[str, float], request: Request, workers: int | None) -> dict[str, Any]:
    """Return the number of workers, and the cores, GPU share and threads of each."""
    cpus = max(resources.get("CPU", 1.0), 1.0)
    gpus = 0 if request.device == "cpu" else int(resources.get("GPU", 0))
    count = workers or gpus or max(int(cpus) // _CORES, 1)
    each = cpus / count
    # A worker uses one GPU, so the share is that of the fullest GPU: three workers on two GPUs get a half each.
    on_one = -(-count // gpus) if gpus else 1
    threads = max(int(each) if gpus == 0 else min(int(each), _CORES), 1)
    return {
        "workers": count,
        "cpus": min(float(threads), each),
        "gpus": None if gpus == 0 else math.floor(_GPU_PARTS / on_one) / _GPU_PARTS,
        "threads": threads,
    }


def _raise(error: BaseException) -> NoReturn:
    """Raise the HashshieldError of a worker, else Ray's error for a bug, else a FleetError."""
    from ray.exceptions import RayTaskError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HashshieldError) and not isinstance(cause, RayTaskError):
            raise cause from None
        cause = getattr(cause, "cause", None) or cause.__cause__
    if isinstance(error, RayTaskError):
        raise error
    reason = str(error).strip().splitlines()[0]
    raise FleetError(f"Ray gave up ({reason}); what was written is in the manifest, so run again to go on") from error
