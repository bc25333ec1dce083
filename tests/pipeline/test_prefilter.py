"""A run that needs no network does not load the library for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import hashshield
from hashshield.pipeline.plan import plan, prefilter
from hashshield.storage import Store
from hashshield.types import GoalSpec, Outcome, Request
from tiny_net import encoded, picture

SOURCES = os.pathsep.join([str(Path(hashshield.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
QUICK = """
import sys
from hashshield.cli.app import app
try:
    app(sys.argv[1:], prog_name="hashshield")
except SystemExit as ended:
    code = ended.code
assert "torch" not in sys.modules
sys.exit(code)
"""


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def settled(tmp_path: Path, protect_now: Callable[..., list[Outcome]]) -> Path:
    """A folder of which each photo was met before: done, done and edited since, short, broken."""
    folder = tmp_path / "photos"
    put(folder / "done.png", encoded(picture(96, 128, seed=3)))
    assert protect_now(folder, tau=0.05, accept_best=True)[0].status in ("protected", "partial")
    notes = PngInfo()
    notes.add_text("Comment", "a caption")
    Image.open(folder / "done.png").save(folder / "edited.png", pnginfo=notes)
    short = put(folder / "short.png", encoded(picture(96, 128, seed=4)))
    assert protect_now(short, tau=1 / 255, steps=1, goal=GoalSpec("opposite"))[0].status == "short"
    put(folder / "cut.png", encoded(picture(seed=5))[:300])
    put(folder / "notes.txt", b"no photo")
    return folder


def test_a_run_with_nothing_to_do_loads_no_torch(settled: Path, tiny: Path, tmp_path: Path) -> None:
    words = f"protect {settled} --vault {tmp_path}/vault --model {tiny}:16 --seed 1 --tau {1 / 255!r} --steps 1"
    words += " --goal opposite --batch-size 4 --device cpu --json"
    before = {path: path.read_bytes() for path in settled.iterdir()}
    ended = subprocess.run(
        [sys.executable, "-c", QUICK, *words.split()],
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    import json

    rows = {Path(row["path"]).name: row["status"] for row in json.loads(ended.stdout)["results"]}
    assert rows == {
        "cut.png": "failed",
        "done.png": "already",
        "edited.png": "already",
        "notes.txt": "skipped",
        "short.png": "short",
    }
    assert {path: path.read_bytes() for path in settled.iterdir()} == before


def test_the_look_ends_at_the_first_photo_to_work_on(tmp_path: Path, request_for: Callable[..., Request]) -> None:
    folder = tmp_path / "photos"
    put(folder / "a.png", b"\x89PNG\r\n\x1a\n")
    put(folder / "b.png", encoded(picture()))
    put(folder / "c.png", b"\x89PNG\r\n\x1a\n")
    request = request_for()
    with Store.open(request.vault) as store:
        jobs = plan([folder], request, store).jobs
        rows: dict[str, Outcome] = {}
        left = prefilter(jobs, request, store, rows)
        assert [job.path.name for job in left] == ["b.png", "c.png"]
        assert [(Path(path).name, row.status) for path, row in rows.items()] == [("a.png", "failed")]
        assert prefilter(jobs, request_for(force=True), store, {}) == jobs


def test_the_row_of_a_photo_that_cannot_be_read_is_the_same_either_way(
    tmp_path: Path, protect_now: Callable[..., list[Outcome]]
) -> None:
    for name in ("a.gif", "z.gif"):
        put(tmp_path / "photos" / name, encoded(picture(), "GIF"))
    put(tmp_path / "photos" / "m.png", encoded(picture()))
    rows = {Path(row.path).name: row for row in protect_now(tmp_path / "photos", steps=1, accept_best=True)}
    early, late = rows["a.gif"], rows["z.gif"]
    assert early.status == late.status == "failed"
    assert str(early.reason).replace("a.gif", "z.gif") == late.reason
    assert (early.model, early.goal, early.tau, early.method) == (late.model, late.goal, late.tau, late.method)
