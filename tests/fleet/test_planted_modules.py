"""Workers hold the key: they import nothing from the folder in which the command was given."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fleet_runs import ended, needs_ray, put_photos

from planted import CUSTOM, OURS, RAYS, STANDARD, plant, ran

pytestmark = [pytest.mark.ray, needs_ray]


@pytest.mark.long
@pytest.mark.parametrize("path", [None, f"{os.pathsep}/nowhere"])
def test_workers_import_nothing_from_the_folder_of_photos(tmp_path: Path, tiny: Path, path: str | None) -> None:
    import subprocess

    photos, output = tmp_path / "photos", tmp_path / "out"
    put_photos(photos, 4)
    # An empty entry in PYTHONPATH has Python itself look for these before anything of ours.
    marker = plant(photos, *OURS, *RAYS, *STANDARD, *(CUSTOM if path is None else ()))
    script = tmp_path / "start.py"
    script.write_text("from hashshield.__main__ import main\nmain()\n", encoding="utf-8")
    starting = ["-m", "hashshield"] if path is None else [str(script)]
    options = ["--engine", "ray", "--model", f"{tiny}:16", "--witness", "none", "--steps", "3", "--accept-best"]
    environment = {**os.environ, "HASHSHIELD_VAULT": str(tmp_path / "vault"), "OMP_NUM_THREADS": "1"}
    if path is not None:
        environment["PYTHONPATH"] = path
    process = subprocess.Popen(
        [sys.executable, *starting, "protect", ".", "--output", str(output), "--json", *options, "--workers", "1"],
        cwd=photos,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    rows = ended(process, 0, 3)["results"]
    assert ran(marker) == ""
    told = {row["status"] for row in rows if row["path"].endswith(".png")}
    assert told <= {"protected", "partial"}
    assert sum(1 for _ in output.rglob("*.png")) == 4
    assert not list(photos.glob("__pycache__"))
