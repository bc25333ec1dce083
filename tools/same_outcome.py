"""Compare two commits: protect, verify and evaluate the same photos with both, and require the same bytes and JSON.

    python tools/same_outcome.py BEFORE [--after REF] [--photos DIR] [--presets invisible,balanced] [--count 20]

Both commits run on this machine with this interpreter and the same seed. Without --photos, the photos are cut from the
fixtures in tests/data and stored as JPEG, grey JPEG, PNG, PNG with alpha and WebP. Only times and the program's version
may differ; the exit code is 1 if anything else does, and the differences are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IGNORED = frozenset({"seconds", "hashshield", "elapsed_seconds"})
"""JSON keys that hold times or the program's version."""
COMMANDS = ("protect", "verify", "evaluate")


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison and print one line per preset and command; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="commit to compare with")
    parser.add_argument("--after", default=None, help="commit to compare; the working tree if not given")
    parser.add_argument("--photos", type=Path, default=None, help="folder of photos to use in place of the fixtures")
    parser.add_argument("--presets", default="invisible,balanced")
    parser.add_argument("--count", type=int, default=20)
    options = parser.parse_args(arguments)
    differences = 0
    with tempfile.TemporaryDirectory(prefix="same-outcome-") as name, checkout(options.before) as before:
        place = Path(name)
        photos = place / "photos"
        photos.mkdir()
        count = (
            copy_photos(options.photos, photos, options.count) if options.photos else make_photos(photos, options.count)
        )
        with checkout(options.after) as after:
            for preset in options.presets.split(","):
                began = time.monotonic()
                runs = [
                    run(tree, place / f"{preset}-{side}", photos, preset)
                    for side, tree in (("before", before), ("after", after))
                ]
                differences += compare(*runs, preset=preset, count=count, seconds=time.monotonic() - began)
    return 1 if differences else 0


@contextmanager
def checkout(ref: str | None) -> Iterator[Path]:
    """Yield a folder with the commit checked out; the working tree for None."""
    if ref is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="same-outcome-tree-") as name:
        tree = Path(name) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), ref], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def copy_photos(source: Path, folder: Path, count: int) -> int:
    """Copy the first `count` files of `source`, by name; return the number of files copied."""
    files = sorted(path for path in source.iterdir() if path.is_file())[:count]
    for path in files:
        shutil.copyfile(path, folder / path.name)
    return len(files)


def make_photos(folder: Path, count: int) -> int:
    """Write `count` different photos of five file types, cut from the fixtures; return `count`."""
    sources = sorted((ROOT / "tests" / "data").glob("*.jpg"))
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as image:
            width, height = image.size
            shift = 4 * (number // len(sources))
            photo = image.convert("RGB").crop((shift, shift, width - shift, height - 2 * shift))
        kind = number % 5
        if kind == 0:
            photo.save(folder / f"{number:02}.jpg", quality=88)
        elif kind == 1:
            photo.save(folder / f"{number:02}.png")
        elif kind == 2:
            photo.convert("L").save(folder / f"{number:02}-grey.jpg", quality=90, progressive=True)
        elif kind == 3:
            photo.putalpha(Image.linear_gradient("L").resize(photo.size))
            photo.save(folder / f"{number:02}-alpha.png")
        else:
            photo.save(folder / f"{number:02}.webp", quality=90)
    return count


def run(tree: Path, place: Path, photos: Path, preset: str) -> dict[str, Any]:
    """Protect a copy of the photos with the code of `tree`, then verify and evaluate it; return JSON and digests."""
    work = place / "photos"
    shutil.copytree(photos, work)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("HASHSHIELD_")},
        "PYTHONPATH": str(tree / "src"),
        "HASHSHIELD_VAULT": str(place / "vault"),
        "OMP_NUM_THREADS": "1",
    }
    calls = {
        "protect": [
            "protect",
            "photos",
            "--preset",
            preset,
            "--seed",
            "7",
            "--device",
            "cpu",
            "--witness",
            "none",
            "--yes",
        ],
        "verify": ["verify", "photos", "--device", "cpu", "--yes"],
        "evaluate": ["evaluate", str(photos), "photos", "--device", "cpu", "--yes"],
    }
    found: dict[str, Any] = {}
    for name in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "hashshield", *calls[name], "--json"],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout:
            raise SystemExit(f"{name} printed no document in {tree}:\n{done.stderr}")
        found[name] = {"exit": done.returncode, "document": without_ignored(json.loads(done.stdout))}
    found["bytes"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(work.iterdir())}
    return found


def without_ignored(value: Any) -> Any:
    """Return the JSON value without the keys that may differ."""
    if isinstance(value, dict):
        return {key: without_ignored(item) for key, item in value.items() if key not in IGNORED}
    return [without_ignored(item) for item in value] if isinstance(value, list) else value


def compare(before: dict[str, Any], after: dict[str, Any], *, preset: str, count: int, seconds: float) -> int:
    """Print which files and documents are equal and which differ; return the number of differences."""
    differing = [name for name in before["bytes"] if before["bytes"][name] != after["bytes"].get(name)]
    statuses = [row["status"] for row in before["protect"]["document"]["results"]]
    print(f"{preset}: {count} photos, {statuses.count('protected')} protected, {seconds:.0f} s for both")
    print(
        f"  bytes: {count - len(differing)} of {count} files are the same"
        + "".join(f"\n    differs: {name}" for name in differing)
    )
    wrong = len(differing)
    for name in COMMANDS:
        same = before[name] == after[name]
        wrong += not same
        print(f"  {name}: JSON and exit code {'are the same' if same else 'DIFFER'}")
        if not same:
            print_difference(before[name]["document"], after[name]["document"])
    return wrong


def print_difference(before: Any, after: Any, where: str = "$") -> None:
    """Print each place where two JSON values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            print_difference(before.get(key), after.get(key), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            print_difference(*pair, f"{where}[{index}]")
    elif before != after:
        print(f"    {where}: {before!r} before, {after!r} after")


if __name__ == "__main__":
    raise SystemExit(main())
