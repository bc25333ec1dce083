"""Measure rate and latency of `hashshield watch` for arriving photos: `python benchmarks/arrivals.py FOLDER`.

The first photos below FOLDER arrive in an empty folder watched by `hashshield watch`, at several fixed rates. Each is
moved in as a complete file. The latency of a photo is the time from its arrival until a protected file has replaced it;
it includes the two seconds for which `watch` waits for further writes. The rate is the number of photos divided by the
time from the first arrival to the last protected file. If photos arrive faster than that, the latency grows with their
number, and the last one waits longest.

Then the same photos go through a pipe one at a time (`hashshield protect - < IN > OUT`), each in its own process.

Results go to `results/arrivals.json` beside this file, after each row, so that an interrupted run keeps what it
measured. Run it on an otherwise idle machine; 20 photos take about 8 minutes with `invisible`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from memory import photos_below

from hashshield.bench.results import environment, replacing

RESULT = Path(__file__).parent / "results" / "arrivals.json"
RATES = (1.0, 5.0, 25.0)
PRESETS = ("invisible", "balanced")
_EVERY = 0.05
"""Seconds between two checks of the folder."""
_READY = 60.0
"""Seconds in which `watch` must protect the first photo, which shows that it is ready."""
_PATIENCE = 45.0
"""Seconds without a protected photo after which the remaining ones count as `short`."""


def watched(photos: Sequence[Path], rate: float, preset: str) -> dict[str, Any]:
    """Return the row for photos that arrive at `rate` per second."""
    with tempfile.TemporaryDirectory() as place:
        folder, outside = Path(place, "in"), Path(place, "outside")
        folder.mkdir(mode=0o700)
        outside.mkdir()
        command = [sys.executable, "-m", "hashshield", "watch", str(folder), "--vault", f"{place}/vault"]
        process = subprocess.Popen([*command, "--preset", preset], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # A first photo, which is not measured, makes sure that the network is loaded.
            first = arrive(photos[0], folder / "ready", outside)
            if not wait_for({first: first.stat().st_ino}, {}, time.monotonic() + _READY):
                raise SystemExit(f"{photos[0]}: hashshield watch did not protect it in {_READY:g} seconds")
            arrived, done, before = {}, {}, {}
            began = time.monotonic()
            for number, photo in enumerate(photos[1:]):
                wait_for(before, done, began + number / rate)
                path = arrive(photo, folder / str(number), outside)
                before[path], arrived[path] = path.stat().st_ino, time.monotonic()
            last = time.monotonic()
            while len(done) < len(before) and time.monotonic() < max([last, *done.values()]) + _PATIENCE:
                wait_for(before, done, time.monotonic() + 1)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return row({path: done[path] - arrived[path] for path in done}, len(before), max(done.values()) - began) | {
        "preset": preset,
        "rate": rate,
    }


def arrive(photo: Path, stem: Path, outside: Path) -> Path:
    """Move a copy of a photo into the folder as a complete file; return its path."""
    path = stem.with_suffix(photo.suffix)
    shutil.copyfile(photo, outside / path.name)
    (outside / path.name).rename(path)
    return path


def wait_for(before: dict[Path, int], done: dict[Path, float], until: float) -> bool:
    """Record in `done` when photos are replaced, by their inodes; return whether all are when `until` is reached.

    Returns earlier if all are replaced and more than a second is left.
    """
    while True:
        for path, inode in before.items():
            if path not in done and path.stat().st_ino != inode:
                done[path] = time.monotonic()
        if time.monotonic() >= until:
            return len(done) == len(before)
        if before and len(before) == len(done) and until - time.monotonic() > 1:
            return True
        time.sleep(max(0.0, min(_EVERY, until - time.monotonic())))


def piped(photos: Sequence[Path], preset: str) -> dict[str, Any]:
    """Return the row for photos that go through a pipe one at a time."""
    spent: dict[Path, float] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "hashshield", "protect", "-", "--preset", preset, "--vault", f"{place}/vault"]
        for photo in photos:
            one = time.monotonic()
            with photo.open("rb") as handle:
                ended = subprocess.run(command, stdin=handle, capture_output=True)
            if ended.returncode == 0:
                spent[photo] = time.monotonic() - one
    return row(spent, len(photos), time.monotonic() - began) | {"preset": preset, "rate": None}


def row(latencies: dict[Path, float], photos: int, seconds: float) -> dict[str, Any]:
    """Return the figures of one run: counts, rate per second, and latencies in seconds."""
    found = sorted(latencies.values())
    return {
        "photos": photos,
        "protected": len(found),
        "photos_a_second": round(len(found) / seconds, 3),
        "median_latency": round(statistics.median(found), 2),
        "highest_latency": round(found[-1], 2),
    }


def main() -> None:
    """Run the benchmark and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=25)
    parser.add_argument("--preset", choices=PRESETS, help="measure this one only, and keep the rows of the other")
    asked = parser.parse_args()
    photos = photos_below(asked.folder, asked.photos + 1)
    presets = [asked.preset] if asked.preset else PRESETS
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if asked.preset else []
    rows = [found for found in kept if found["preset"] not in presets]
    for found in measured(photos, presets):
        rows.append(found | {"environment": environment(searches=[found["preset"]])})
        print(json.dumps(found), flush=True)
        with replacing(RESULT) as partial:
            partial.write_text(json.dumps({"bench": "arrivals", "rows": rows}, indent=2) + "\n", encoding="utf-8")


def measured(photos: Sequence[Path], presets: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows: for each preset, photos that arrive at each rate, then a pipe."""
    for preset in presets:
        for rate in RATES:
            yield watched(photos, rate, preset)
        yield piped(photos[1:11], preset)


if __name__ == "__main__":
    main()
