from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hashshield
from hashshield.storage import Store, digest

SOURCES = os.pathsep.join([str(Path(hashshield.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
PHOTOS = 6
# How hard the search is decides nothing here.
PROTECTED = ("-m", "hashshield", "protect", "--preset", "invisible", "--witness", "none", "--batch-size", "2")
PROTECTED += ("--steps", "20", "--accept-best", "--quiet")


def make_photos(folder: Path) -> dict[str, bytes]:
    folder.mkdir(mode=0o700)
    for index in range(PHOTOS):
        coarse = np.random.default_rng(index).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)
        image.save(folder / f"{index}.{'png' if index % 2 else 'jpg'}", quality=90)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check(folder: Path, vault: Path, originals: dict[str, bytes]) -> int:
    """Every photo is its original, or a recorded result whose original the vault holds; return how many are results."""
    protected = 0
    with Store.open(vault) as store:
        assert {path.name for path in folder.iterdir()} == set(originals), "no temporary is left, no photo is gone"
        for name, original in originals.items():
            now = (folder / name).read_bytes()
            if now == original:
                continue
            record = store.known(digest(now))
            assert record is not None, f"{name} is neither the original nor a recorded result"
            assert store.original(record) == original
            protected += 1
    return protected


def kill_once(folder: Path, vault: Path, tiny: Path, *, after_writes: int, delay: float) -> None:
    """Start `protect`, wait until some photos are written and a moment more, and kill the whole process."""
    environment = {**os.environ, "PYTHONPATH": SOURCES, "HASHSHIELD_VAULT": str(vault), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *PROTECTED, "--model", f"{tiny}:16", "--allow-root", str(folder)]
    before = {path: path.stat().st_ino for path in folder.iterdir()}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while child.poll() is None and time.monotonic() < deadline:
        written = sum(path.stat().st_ino != inode for path, inode in before.items() if path.exists())
        if written >= after_writes:
            break
        time.sleep(0.002)
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.wait(30)


def run_kills(tmp_path: Path, tiny: Path, *, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    for index in range(kills):
        folder, vault = tmp_path / f"photos{index}", tmp_path / f"vault{index}"
        originals = make_photos(folder)
        kill_once(folder, vault, tiny, after_writes=moments.randint(0, PHOTOS - 1), delay=moments.random() * 0.2)
        check(folder, vault, originals)
        # The next run finishes the folder, and everything can be undone.
        environment = {**os.environ, "PYTHONPATH": SOURCES, "HASHSHIELD_VAULT": str(vault), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *PROTECTED, "--model", f"{tiny}:16", "--allow-root", str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode in (0, 3), done.stderr
        assert check(folder, vault, originals) == PHOTOS
        undo = [sys.executable, "-m", "hashshield", "restore", "--allow-root", str(folder)]
        done = subprocess.run(undo, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == originals


def test_a_run_killed_in_the_middle_of_a_folder_loses_nothing(tmp_path: Path, tiny: Path) -> None:
    run_kills(tmp_path, tiny, kills=2, seed=1)


@pytest.mark.slow
def test_twenty_runs_killed_in_the_middle_lose_nothing(tmp_path: Path, tiny: Path) -> None:
    run_kills(tmp_path, tiny, kills=20, seed=2)
