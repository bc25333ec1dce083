"""`protect --engine ray` on a real cluster of this machine, with workers that are killed."""

from __future__ import annotations

import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from fleet_runs import below, ended, kill_a_worker_at_work, needs_ray, put_photos, rows_in, sha256, start

pytestmark = [pytest.mark.ray, needs_ray]


def held_against_the_files(photos: Path, output: Path, names: list[Path]) -> None:
    """Every photo has one output and, to Parquet's own reader, one row, and all digests are right."""
    import pyarrow.parquet as pq

    manifest = output / "hashshield-manifest"
    rows: list[dict[str, Any]] = [
        row for part in manifest.glob("part-*.parquet") for row in pq.ParquetFile(part).read().to_pylist()
    ]
    others = [path.name for path in photos.iterdir() if path.name in ("broken.jpg", "notes.txt")]
    assert sorted(row["photo"] for row in rows) == sorted([*others, *map(Path.as_posix, names)])
    for row in rows:
        if row["photo"] in others:
            assert row["sha256_after"] is None
            continue
        assert row["sha256_before"] == sha256(photos / row["photo"])
        assert row["sha256_after"] == sha256(output / row["photo"]) != row["sha256_before"]
    outputs = [path for path in output.rglob("*") if path.is_file() and path.parent != manifest]
    assert sorted(outputs) == sorted(output / name for name in names)
    assert {path.suffix for path in manifest.iterdir()} == {".parquet", ""}


@pytest.mark.parametrize("count", [24, pytest.param(500, marks=pytest.mark.slow)])
def test_a_killed_worker_loses_nothing_and_doubles_nothing(tmp_path: Path, tiny: Path, count: int) -> None:
    photos, output = tmp_path / "photos", tmp_path / "out"
    names = put_photos(photos, count)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    (photos / "notes.txt").write_bytes(b"no image")
    manifest = output / "hashshield-manifest"

    process = start(photos, output, tiny, "--workers", "2")
    kill_a_worker_at_work(process, output, manifest)
    report = ended(process, 1)

    held_against_the_files(photos, output, names)
    told = {Path(row["path"]).name: row for row in report["results"]}
    assert told.pop("notes.txt")["reason"] == "not an image"
    assert "JPEG" in told.pop("broken.jpg")["reason"]
    assert len(told) == count
    assert {row["status"] for row in told.values()} <= {"protected", "partial"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in manifest.iterdir()} == {0o600}
    assert stat.S_IMODE(manifest.stat().st_mode) == 0o700
    key = (tmp_path / "vault" / "key").read_bytes()
    assert not [path for path in output.rglob("*") if path.is_file() and (key in path.read_bytes())]
    assert not [path for path in output.rglob("*") if path.is_file() and (key.hex().encode() in path.read_bytes())]

    # Nothing is left to do but the file that is none, so no cluster is started.
    before = {part.name: part.read_bytes() for part in manifest.iterdir()}
    again = ended(start(photos, output, tiny, "--exclude", "broken.jpg"), 0)["results"]
    assert [row["status"] for row in again].count("already") == count
    assert {part.name: part.read_bytes() for part in manifest.iterdir()} == before


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, tiny: Path) -> None:
    photos, output = tmp_path / "photos", tmp_path / "out"
    names = put_photos(photos, 48)
    manifest = output / "hashshield-manifest"
    process = start(photos, output, tiny, "--workers", "1")
    while not rows_in(manifest):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    first = ended(process, 130)
    assert first["error"]["type"] == "Interrupted"
    written = rows_in(manifest)
    assert 0 < written < len(names)
    assert not below(process.pid), "Ray's processes outlive the command"

    rows = ended(start(photos, output, tiny), 0, 3)["results"]
    assert [row["status"] for row in rows].count("already") == written
    held_against_the_files(photos, output, names)
