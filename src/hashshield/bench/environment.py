"""Facts about a measurement: versions, machine and settings, memory, and the seconds of its parts."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

__all__ = ["Stopwatch", "environment", "peak_mib"]


def environment(**settings: Any) -> dict[str, Any]:
    """Return versions, processor, threads, the commit of a checkout, and the settings of the run."""
    return {
        "hashshield": _version("hashshield"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": _version("torchvision"),
        "pillow": _version("pillow"),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **settings,
    }


def peak_mib() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    if platform.system() == "Linux":
        # getrusage would count the process that started this one as well.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


class Stopwatch:
    """Wall-clock seconds of named blocks, one entry per run of a block."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the time until the end of the block; a block that raises is not counted."""
        began = time.monotonic()
        yield
        self.seconds[name].append(time.monotonic() - began)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit() -> str | None:
    """Return the commit of the checkout this module lies in, or None for an installed package."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
