"""Estimate the duration of a run before it starts: for dry runs, progress, and the question whether to go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from hashshield.models.device import choose_device
from hashshield.pipeline.plan import Job
from hashshield.pipeline.rows import method_of, preset_for
from hashshield.types import Request

__all__ = [
    "cores_in_words",
    "in_words",
    "sampled_evenly",
    "seconds_each",
    "steps_beside_search",
    "total_seconds",
    "usual_steps",
]

_STEP_CORE_SECONDS = 0.06
"""Seconds of a gradient step of one photo on one core (`bench speed`: 0.03 s on two)."""
_PHOTO_CORE_SECONDS = 0.4
"""Seconds to hash a photo before and after protection, and after each transform of the receipt."""
_AGAIN = 1.5
"""Average steps of a photo, as a multiple of those of one search: some take longer or another try (measured: 1.3 to
1.8)."""
_START_SECONDS = 4.0
"""Seconds to load torch and the networks (measured: 3 to 5 s on two cores)."""
_LOSSLESS = {".png", ".tif", ".tiff", ".bmp", ".ppm"}
_CORE_SECONDS_PER_MEGABYTE = {True: 0.3, False: 2.0}
"""Lossless? -> seconds to decode, measure and encode; a lossless file has more bytes per pixel (`bench size`)."""


def seconds_each(jobs: Sequence[Job], request: Request) -> list[float] | None:
    """Return the seconds per photo on this machine's CPU; None on a GPU, for which there are no measurements.

    Further tries after a miss are not included. Raises UsageError for an unavailable device.
    """
    if choose_device(request.device) != "cpu":
        return None
    views = len(request.models) * len(preset_for(request).views)
    steps = _steps_of_one_search(request) * views + _feature_steps(request)
    search = steps * _STEP_CORE_SECONDS + _PHOTO_CORE_SECONDS
    # Each photo is searched on one core, so with few photos some cores are idle.
    cores = min(torch.get_num_threads(), max(len(jobs), 1))
    return [(search + _file_seconds(job)) / cores for job in jobs]


def total_seconds(each: Iterable[float]) -> float:
    """Return the seconds of a run: those of its photos, plus the start."""
    return sum(each) + _START_SECONDS


def usual_steps(request: Request) -> float:
    """Return the average number of gradient steps of a photo, over all its tries."""
    return _AGAIN * _steps_of_one_search(request) + _feature_steps(request)


def _feature_steps(request: Request) -> int:
    """Return the number of steps that move features; each uses one network in one view."""
    moves = method_of(request).features
    return 0 if moves is None else moves.steps


def _steps_of_one_search(request: Request) -> int:
    chosen = method_of(request)
    return request.steps or chosen.enough or chosen.steps


def steps_beside_search(job: Job) -> float:
    """Return the cost of reading, hashing, measuring and writing a photo, in gradient steps."""
    return (_PHOTO_CORE_SECONDS + _file_seconds(job)) / _STEP_CORE_SECONDS


def cores_in_words() -> str:
    """Return the number of cores in words, such as `2 processor cores`."""
    number = torch.get_num_threads()
    return f"{number} processor core{'' if number == 1 else 's'}"


def _file_seconds(job: Job) -> float:
    return job.size / 1e6 * _CORE_SECONDS_PER_MEGABYTE[job.path.suffix.lower() in _LOSSLESS]


def in_words(seconds: Iterable[float]) -> str:
    """Return a duration in words, such as `about 3 minutes`."""
    total = sum(seconds)
    for unit, length in (("hour", 3600.0), ("minute", 60.0)):
        if total >= 1.5 * length:
            return f"about {total / length:,.0f} {unit}s"
    number = max(round(total), 1)
    return f"about {number} second{'' if number == 1 else 's'}"


def sampled_evenly(jobs: Sequence[Job], number: int) -> tuple[Job, ...]:
    """Return at most `number` jobs, spread evenly over all, so that a sample includes many folders."""
    if number >= len(jobs):
        return tuple(jobs)
    return tuple(jobs[(2 * i + 1) * len(jobs) // (2 * number)] for i in range(number))
