"""What a run will take, roughly, before byte one: for plans and for the question whether to go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from hashshield.attacks.presets import preset
from hashshield.models.device import choose_device
from hashshield.pipeline.plan import Job
from hashshield.pipeline.rows import method_of
from hashshield.types import Request

__all__ = ["cores_in_words", "in_words", "sampled_evenly", "seconds_each"]

_STEP_CORE_SECONDS = 0.06
"""One gradient step of one photo on one processor core (`bench speed`: 0.03 s on two)."""
_PHOTO_CORE_SECONDS = 0.4
"""Hashing a photo before, after and after each transform of the receipt."""
_LOSSLESS = {".png", ".tif", ".tiff", ".bmp", ".ppm"}
_CORE_SECONDS_PER_MEGABYTE = {True: 0.3, False: 2.0}
"""Decoding, measuring and encoding, by losslessness: a pixel takes ten times as many bytes there (`bench size`)."""


def seconds_each(jobs: Sequence[Job], request: Request) -> list[float] | None:
    """Seconds per photo on this machine's processor; None on a GPU, which no figure here was measured on.

    Tries again after a miss are not in it. Raises UsageError for a device that is not there.
    """
    if choose_device(request.device) != "cpu":
        return None
    chosen = method_of(request)
    steps = request.steps or chosen.enough or chosen.steps
    views = len(request.models) * len(preset(request.preset).views)
    search = steps * views * _STEP_CORE_SECONDS + _PHOTO_CORE_SECONDS
    return [(search + _file_seconds(job)) / torch.get_num_threads() for job in jobs]


def cores_in_words() -> str:
    """What the estimate is for: `2 processor cores`."""
    number = torch.get_num_threads()
    return f"{number} processor core{'' if number == 1 else 's'}"


def _file_seconds(job: Job) -> float:
    return job.size / 1e6 * _CORE_SECONDS_PER_MEGABYTE[job.path.suffix.lower() in _LOSSLESS]


def in_words(seconds: Iterable[float]) -> str:
    """`about 3 minutes`."""
    total = sum(seconds)
    for unit, length in (("hour", 3600.0), ("minute", 60.0)):
        if total >= 1.5 * length:
            return f"about {total / length:,.0f} {unit}s"
    number = max(round(total), 1)
    return f"about {number} second{'' if number == 1 else 's'}"


def sampled_evenly(jobs: Sequence[Job], number: int) -> tuple[Job, ...]:
    """At most `number` of the jobs, evenly over all of them, so that a sample sees every folder."""
    if number >= len(jobs):
        return tuple(jobs)
    return tuple(jobs[(2 * i + 1) * len(jobs) // (2 * number)] for i in range(number))
