"""What a figure was measured with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

__all__ = ["environment", "peak_mib"]


def environment(**settings: Any) -> dict[str, Any]:
    """Versions, processor, threads, the commit where there is one, and the settings of the run."""
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
    """Largest resident size of this process so far, in MiB; NaN where the system does not say (Windows)."""
    if platform.system() == "Linux":
        # The figure of getrusage is handed down by the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit() -> str | None:
    """The checkout this module lies in; None for an installed package."""
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
