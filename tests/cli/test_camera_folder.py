"""The camera files as a user has them: the folder is protected in place, compared file by file, and restored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import hashshield
from camera_files import check_metadata, files, named_folder
from hashshield import imaging
from hashshield.imaging.jpeg.codec import JpegEncoding

SOURCES = os.pathsep.join([str(Path(hashshield.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
WRITTEN = ("protected", "partial")


def command(vault: Path, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    """Run the program as a user would; return its exit code and its rows."""
    environment = {**os.environ, "PYTHONPATH": SOURCES, "HASHSHIELD_VAULT": str(vault)}
    done = subprocess.run(
        [sys.executable, "-m", "hashshield", *arguments, "--allow-root", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)["results"]


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Bytes, mode and modification time in ns of every file, by its name below the folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), (found := path.stat()).st_mode, found.st_mtime_ns)
        for path in files(folder)
    }


def compare(name: str, before: bytes, after: bytes, row: dict[str, object]) -> int:
    """Hold a row against its file; return how many metadata segments were compared, 0 for a file left as it was."""
    if row["status"] not in WRITTEN:
        assert before == after, name
        assert row["status"] in ("failed", "skipped", "short"), row
        assert len(str(row["reason"]).splitlines()) == 1, row
        return 0
    photo, again = imaging.read(before, name=name), imaging.read(after, name=name)
    segments = check_metadata(photo, after)
    assert again.orientation == photo.orientation
    assert again.unprotected_copies == photo.unprotected_copies
    assert again.links_to_owner == photo.links_to_owner
    old, new = photo.encoding, again.encoding
    assert isinstance(old, JpegEncoding)
    assert isinstance(new, JpegEncoding)
    assert new.header.tables == old.header.tables
    assert new.header.colour == old.header.colour
    return segments


@pytest.mark.slow
@pytest.mark.files
def test_a_folder_of_camera_files_is_protected_in_place_and_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, vault = tmp_path / "photos", tmp_path / "vault"
    shutil.copytree(named_folder(), folder)
    before = state(folder)
    # Few steps: what the search finds is measured elsewhere, what is kept of the files does not depend on it.
    _, rows = command(vault, "protect", str(folder), "--steps", "10", "--accept-best", "--yes")
    after = state(folder)
    assert after.keys() == before.keys()
    assert sorted(str(Path(str(row["path"])).relative_to(folder)) for row in rows) == sorted(before)
    segments = 0
    for row in rows:
        name = str(Path(str(row["path"])).relative_to(folder))
        assert after[name][1] == before[name][1]
        segments += compare(name, before[name][0], after[name][0], row)
    statuses = Counter(row["status"] for row in rows)
    assert sum(statuses[status] for status in WRITTEN) >= 85
    code, undone = command(vault, "restore", str(folder))
    with capsys.disabled():
        print(f"\n{dict(statuses)}; {segments} metadata segments compared; restored: {Counter(map(status_of, undone))}")
    assert code == 0
    assert state(folder) == before


def status_of(row: dict[str, object]) -> str:
    return str(row["status"])
