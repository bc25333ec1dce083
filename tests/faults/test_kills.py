from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hashshield

HARNESS = Path(__file__).parent / "kill_harness.py"
SOURCES = os.pathsep.join([str(Path(hashshield.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
IN_DEFAULT_RUN = 240
"""Every step of the session once, each write torn once, and some random moments."""


def run(folder: Path, *, kills: int, seed: int) -> dict[str, int]:
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    done = subprocess.run(
        [sys.executable, str(HARNESS), str(folder), str(kills), str(seed)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def test_nothing_is_lost_when_killed_at_any_step(quick: Path) -> None:
    counts = run(quick, kills=IN_DEFAULT_RUN, seed=1)
    assert counts["at_steps"] > counts["steps"], "every step was reached"
    assert counts["at_steps"] + counts["at_random"] == IN_DEFAULT_RUN


@pytest.mark.slow
def test_nothing_is_lost_in_a_thousand_kills(tmp_path: Path) -> None:
    counts = run(tmp_path, kills=1000 - IN_DEFAULT_RUN, seed=2)
    assert counts["at_random"] > 500
