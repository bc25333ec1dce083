"""Measure the memory of a long run: `python benchmarks/memory.py FOLDER`, with hashshield installed, on Linux.

One process protects copies of the first photos below FOLDER in place, as a user would. Another reads its resident set
size and the number of photos replaced so far twice a second. For each hundred photos the median and the largest reading
go to `results/memory.json` beside this file, with the ratio of the last hundred to the second, the first without
start-up.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from hashshield import imaging
from hashshield.bench.results import environment

RESULT = Path(__file__).parent / "results" / "memory.json"
EVERY = 0.5
HUNDRED = 100
BAR = 0.10


def photos_below(folder: Path, count: int) -> list[Path]:
    """Return the first `count` supported photos below a folder, sorted by path."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as handle:
            if imaging.sniff(handle.read(64)) in imaging.SUPPORTED:
                found.append(path)
        if len(found) == count:
            return found
    raise SystemExit(f"{folder}: holds {len(found)} photos, and {count} are wanted; name a larger folder")


def resident_mib(process: int) -> float | None:
    """Return the resident set size of a process in MiB; None if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), None)
    return None if kib is None else kib / 1024


def main() -> None:
    """Run the benchmark and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=None)
    asked = parser.parse_args()
    readings: dict[int, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        copies = Path(place) / "photos"
        copies.mkdir(mode=0o700)
        before = {}
        for index, path in enumerate(photos_below(asked.folder, asked.photos)):
            copy = copies / f"{index:05d}{path.suffix}"
            shutil.copyfile(path, copy)
            before[copy] = copy.stat().st_ino
        command = [sys.executable, "-m", "hashshield", "protect", str(copies), "--vault", f"{place}/vault"]
        command += ["--preset", "invisible", "--witness", "none", "--yes", "--json"]
        command += [] if asked.steps is None else ["--steps", str(asked.steps)]
        began = time.monotonic()
        with (Path(place) / "rows.json").open("wb") as rows:
            process = subprocess.Popen(command, stdout=rows)
            waiting = set(before)
            while process.poll() is None:
                # A replaced photo has another inode; one that falls short keeps its own and is not counted.
                waiting = {path for path in waiting if path.stat().st_ino == before[path]}
                held = resident_mib(process.pid)
                if held is not None:
                    readings[(len(before) - len(waiting)) // HUNDRED].append(held)
                time.sleep(EVERY)
        seconds = time.monotonic() - began
        counts = json.loads((Path(place) / "rows.json").read_text())["summary"]["counts"]
    hundreds = [
        {
            "photos": f"{number * HUNDRED} to {(number + 1) * HUNDRED - 1}",
            "median_mib": round(statistics.median(readings[number]), 1),
            "largest_mib": round(max(readings[number]), 1),
        }
        for number in sorted(readings)
        if len(readings[number]) > 1
    ]
    change = hundreds[-1]["median_mib"] / hundreds[1]["median_mib"] - 1
    result = {
        "photos": asked.photos,
        "steps": asked.steps or "default",
        "counts": counts,
        "seconds": round(seconds, 1),
        "hundreds": hundreds,
        "last_over_second_hundred": round(1 + change, 3),
        "bar": f"within {BAR:.0%}",
        "holds": abs(change) <= BAR,
        "environment": environment(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
