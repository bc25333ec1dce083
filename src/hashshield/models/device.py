"""Which processor to compute on."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import torch

from hashshield.errors import UsageError

__all__ = ["choose_device", "keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def choose_device(asked: str) -> str:
    """Turn auto, cpu, cuda or mps into a device that is there. Raises UsageError for one that is not."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(asked, False):
        found = ", ".join(name for name, present in there.items() if present)
        raise UsageError(f"device {asked} is not available; this machine has: {found}")
    return asked


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for the next step; a no-op elsewhere. True where it was done.

    A gradient step allocates and frees hundreds of megabytes. By default each large block is mapped from the kernel
    anew and its pages are faulted in again.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(
        mallopt(option, value) == 1
        for option, value in ((_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 256 << 20), (_M_TOP_PAD, 64 << 20))
    )
