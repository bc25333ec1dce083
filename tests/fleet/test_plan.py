"""What a fleet is to do, and what it refuses, before a cluster is started."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra ray)")

from fleet_runs import needs_ray, put_photos

from hashshield.errors import UsageError
from hashshield.fleet.manifest import FOLDER, ManifestRow, batches_of, check_places, listed, settled_before
from hashshield.fleet.run import protect
from hashshield.pipeline.plan import Job
from hashshield.storage import Store
from hashshield.types import NullProgress, Outcome, Request


def request_to(output: Path, tmp_path: Path) -> Request:
    return Request(output=output, vault=tmp_path / "vault")


def test_files_are_listed_and_none_is_read(tmp_path: Path) -> None:
    put_photos(tmp_path / "in", 3)
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "in" / "0000.png")
    (tmp_path / "in" / "name.png").hardlink_to(tmp_path / "in" / "0002.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "0000.png").write_bytes(b"another")
    request = request_to(tmp_path / "out", tmp_path)
    with Store.open(request.vault) as store:
        asked = [tmp_path / "in", tmp_path / "in" / "0000.png", tmp_path / "other", tmp_path / "none.png"]
        jobs, settled = listed(asked, request, store)
    assert {job.path.relative_to(tmp_path / "in").as_posix() for job in jobs} == {
        "0000.png",
        "0002.png",
        "below/0001.png",
        "name.png",
    }
    reasons = {Path(row.path).relative_to(tmp_path).as_posix(): (row.status, str(row.reason)) for row in settled}
    assert reasons.pop("none.png")[0] == "failed"
    status, reason = reasons.pop("other/0000.png")
    assert status == "failed"
    assert "its copy would be" in reason
    assert not reasons


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="the file system refuses such names")
def test_a_name_that_is_no_text_has_a_row_that_says_so(tmp_path: Path) -> None:
    put_photos(tmp_path / "in", 2)
    strange = tmp_path / "in" / os.fsdecode(b"\xff.png")
    strange.write_bytes(b"photo")
    request = request_to(tmp_path / "out", tmp_path)
    with Store.open(request.vault) as store:
        jobs, resolved = listed([tmp_path / "in"], request, store)
        renamed, refused = listed([strange], replace(request, rename=True), store)
        elsewhere = replace(request, output=tmp_path / os.fsdecode(b"out-\xff"))
        none, all_of_them = listed([tmp_path / "in"], elsewhere, store)
    assert sorted(job.path.name for job in jobs) == ["0000.png", "0001.png"]
    assert [batch.part[:5] for batch in batches_of(jobs, {}, tmp_path / "out", workers=1)] == ["part-"]
    assert renamed == none == []
    assert [row.path for row in resolved] == [row.path for row in refused] == [str(strange)]
    assert len(all_of_them) == 3
    for row in (*resolved, *refused, *all_of_them):
        assert row.status == "failed"
        assert str(row.reason).endswith("rename it, or use --engine local")


@needs_ray
def test_a_sample_leaves_no_failure_out(tmp_path: Path, tiny: Path) -> None:
    put_photos(tmp_path / "in", 4)
    asked = [tmp_path / "in", tmp_path / "none.png"]
    request = replace(request_to(tmp_path / "out", tmp_path), models=(f"{tiny}:16",), sample=2, dry_run=True)
    rows = protect(asked, request, progress=NullProgress())
    assert [(Path(row.path).name, row.status) for row in rows if row.status != "planned"] == [("none.png", "failed")]
    assert len(rows) == 3


@pytest.mark.parametrize(("photos", "output"), [("in", "in"), ("in", "in/out"), ("out/in", "out"), ("in/a.png", "in")])
def test_places_that_overlap_are_refused(tmp_path: Path, photos: str, output: str) -> None:
    with pytest.raises(UsageError, match="overlaps"):
        check_places([tmp_path / photos], tmp_path / output)


def test_a_folder_with_files_of_others_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out"
    check_places([tmp_path / "in"], output)
    output.mkdir()
    check_places([tmp_path / "in"], output)
    (output / "mine.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="holds files but no hashshield-manifest"):
        check_places([tmp_path / "in"], output)
    (output / FOLDER).mkdir()
    check_places([tmp_path / "in"], output)
    with pytest.raises(UsageError, match="is a file"):
        check_places([tmp_path / "in"], output / "mine.png")


def jobs_to(output: Path, count: int) -> list[Job]:
    return [Job(Path(f"in/{i:04d}.png"), Path("in"), 100, output / f"{i:04d}.png") for i in range(count)]


def test_batches_hold_each_photo_once_and_keep_workers_busy(tmp_path: Path) -> None:
    for count, workers, most in ((0, 1, 8), (5, 2, 8), (500, 2, 15), (100_000, 4, 512)):
        jobs = jobs_to(tmp_path, count)
        batches = batches_of(jobs, {}, tmp_path, workers=workers)
        assert [job for batch in batches for job in batch.jobs] == jobs
        assert len({batch.part for batch in batches}) == len(batches)
        assert max((len(batch.jobs) for batch in batches), default=0) <= most


def test_what_failed_goes_back_to_the_part_that_has_its_row(tmp_path: Path) -> None:
    jobs = jobs_to(tmp_path, 4)
    plain = request_to(tmp_path, tmp_path)
    done = Outcome("in/0000.png", "protected", model="lite0-caltech101:48", goal="away", tau=0.032, method="rnm")
    rows = {
        "0000.png": ("part-1.parquet", ManifestRow("0000.png", "r", done)),
        "0001.png": (
            "part-1.parquet",
            ManifestRow("0001.png", "r", Outcome("in/0001.png", "failed", reason="no photo")),
        ),
        "0002.png": ("part-2.parquet", ManifestRow("0002.png", "r", Outcome("in/0002.png", "short", reason="3 bits"))),
    }
    settled = settled_before(jobs, rows, plain)
    assert {path.name: row.status for path, row in settled.items()} == {"0000.png": "already", "0002.png": "short"}
    assert settled[jobs[0].path].reason is None
    assert "tried before" in str(settled[jobs[2].path].reason)
    otherwise = settled_before(jobs, rows, replace(plain, tau=0.02))
    assert "protected earlier with tau 0.032" in str(otherwise[jobs[0].path].reason)

    left = [job for job in jobs if job.path not in settled]
    again, new = batches_of(left, rows, tmp_path, workers=1)
    assert (again.part, again.jobs) == ("part-1.parquet", (jobs[1],))
    assert new.jobs == (jobs[3],)
