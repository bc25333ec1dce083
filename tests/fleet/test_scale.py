"""`bench scale` on real clusters of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fleet_runs import needs_ray, put_photos


@pytest.mark.ray
@pytest.mark.slow
@needs_ray
def test_one_worker_and_two_are_compared(tmp_path: Path, tiny: Path) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("each worker needs a core of its own, and there is one")
    put_photos(tmp_path / "photos", 56)
    command = [sys.executable, "-m", "hashshield", "bench", "scale", str(tmp_path / "photos"), "--json"]
    asked = ["--photos", "48", "--steps", "2", "--model", f"{tiny}:16"]
    ended = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    one, two = json.loads(ended.stdout)["results"]
    assert (one["workers"], one["photos"], one["efficiency"]) == (1, 40, 1.0)
    assert (two["workers"], two["photos"]) == (2, 32)
    assert two["cores_each"] == one["cores_each"]
    assert two["written"] == 32
    assert two["efficiency"] == pytest.approx(two["photos_per_second"] / one["photos_per_second"] / 2, abs=0.001)
