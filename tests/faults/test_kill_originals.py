from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hashshield

HARNESS = Path(__file__).parent / "kill_originals.py"
SOURCES = os.pathsep.join([str(Path(hashshield.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
TRIALS = int(os.environ.get("HASHSHIELD_TEST_KILLS", "1200"))
"""Of the slow test: every step with both signals, and some random moments."""


def run(folder: Path, *, trials: int, seed: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HARNESS), str(folder), str(trials), str(seed)],
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def test_every_command_of_the_vault_can_be_cut_short(quick: Path) -> None:
    counts = run(quick, trials=50, seed=1)
    assert counts["trials"] == 50
    assert counts["came"] > 40


@pytest.mark.slow
def test_every_command_of_the_vault_can_be_cut_short_at_every_step(quick: Path) -> None:
    counts = run(quick, trials=TRIALS, seed=2)
    print(counts)
    assert counts["trials"] == TRIALS
