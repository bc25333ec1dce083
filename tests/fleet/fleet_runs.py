"""Runs of `protect --engine ray` as processes of their own, and what they leave; a module because tests share it.

In a process of its own because Ray reads its environment once, and warns of things that would end a test here.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tiny_net import encoded, picture

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None or find_spec("pyarrow") is None, reason="Ray Data is not installed (extra ray)"
)
WORKER = "MapWorker"
"""What Ray calls a process that runs a step of a data set."""


def put_photos(folder: Path, count: int) -> list[Path]:
    """Write so many small pictures, every other one into a folder below; their paths below `folder`."""
    names = [Path("below" if i % 2 else "") / f"{i:04d}.png" for i in range(count)]
    (folder / "below").mkdir(parents=True)
    for i, name in enumerate(names):
        (folder / name).write_bytes(encoded(picture(40, 48, seed=i)))
    return names


def start(photos: Path, output: Path, tiny: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    """The command, going on; it looks for few steps and writes the best it finds."""
    command = [sys.executable, "-m", "hashshield", "protect", str(photos), "--output", str(output), "--json"]
    command += ["--engine", "ray", "--model", f"{tiny}:16", "--witness", "none", "--steps", "3", "--accept-best"]
    environment = {
        **os.environ,
        "HASHSHIELD_VAULT": str(output.parent / "vault"),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    return subprocess.Popen(
        [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str], *codes: int) -> dict[str, Any]:
    """The report of a run that ends with one of these codes."""
    out, err = process.communicate(timeout=600)
    assert process.returncode in codes, err
    report: dict[str, Any] = json.loads(out)
    return report


def kill_a_worker_at_work(process: subprocess.Popen[str], output: Path, manifest: Path) -> int:
    """Kill a worker while it has written outputs whose rows are not there yet; its process number."""
    for _ in range(6000):
        assert process.poll() is None, process.communicate()
        workers = [pid for pid, name in below(process.pid) if WORKER in name]
        written = sum(1 for path in output.rglob("*.png"))
        if workers and written > rows_in(manifest):
            os.kill(workers[0], signal.SIGKILL)
            return workers[0]
        time.sleep(0.05)
    raise AssertionError("no worker was ever at work")


def rows_in(manifest: Path) -> int:
    """How many rows the parts have that are there now."""
    import pyarrow.parquet as pq

    return sum(pq.ParquetFile(part).metadata.num_rows for part in manifest.glob("part-*.parquet"))


def below(pid: int) -> list[tuple[int, str]]:
    """Processes that descend from one, with their command lines."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text()
                names[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # ended meanwhile
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [(child, names[child]) for child in found if child in names]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
