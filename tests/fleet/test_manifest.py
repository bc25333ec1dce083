"""The manifest by itself: what is written comes back, and what is none is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra ray)")

from hashshield.errors import StorageError  # noqa: E402
from hashshield.fleet.manifest import ManifestRow, entries_of, part_name, read_all, read_part, table_of, write_part  # noqa: E402
from hashshield.types import CodeRow, Outcome, SurvivalRow, WitnessRow  # noqa: E402

FULL = Outcome(
    "in/a.jpg",
    "protected",
    output="out/a.jpg",
    model="m:16",
    bits=16,
    method="rnm",
    goal="away",
    tau=0.032,
    linf_levels=3,
    linf_levels_written=4,
    distance_from_original=8,
    distance_to_goal=0,
    psnr_db=math.inf,
    ssim=0.99,
    steps=40,
    seconds=0.5,
    sha256_before="0" * 64,
    sha256_after="1" * 64,
    codes=(CodeRow("m:16", 16, "crop", 8, 0, 0.3, class_rank=2), CodeRow("m:16", 16, "squash", 8, 0, 0.2)),
    survival=(SurvivalRow("jpeg q75", "m:16", "crop", 8, 0, True),),
    witness=(WitnessRow("w:48", 48, "crop", 24, True),),
    unprotected_copies=("EXIF thumbnail",),
    links_to_owner=("GPS", "serial number"),
)
ENTRIES = [
    ManifestRow("a.jpg", "r1", FULL),
    ManifestRow("below/b.jpg", "r1", Outcome("in/below/b.jpg", "failed", reason="no photo")),
]


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    assert entries_of(table_of(ENTRIES)) == ENTRIES
    write_part(tmp_path / "folder" / "part-1.parquet", ENTRIES[::-1])
    assert read_part(tmp_path / "folder" / "part-1.parquet") == ENTRIES
    assert read_part(tmp_path / "folder" / "part-2.parquet") == []


def test_a_batch_has_one_name_whatever_the_order() -> None:
    assert part_name(["a.jpg", "b.jpg"]) == part_name(["b.jpg", "a.jpg"])
    assert part_name(["a.jpg", "b.jpg"]) != part_name(["a.jpg"])


def test_a_photo_with_two_rows_is_told(tmp_path: Path) -> None:
    write_part(tmp_path / "part-1.parquet", ENTRIES)
    assert read_all(tmp_path) == {entry.photo: ("part-1.parquet", entry) for entry in ENTRIES}
    write_part(tmp_path / "part-2.parquet", ENTRIES[:1])
    with pytest.raises(StorageError, match=r"a\.jpg has a row in part-1\.parquet and one in part-2\.parquet"):
        read_all(tmp_path)


@pytest.mark.parametrize("data", [b"", b"PAR1 and nothing more", None])
def test_what_is_no_part_is_refused(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "part-1.parquet"
    if data is None:
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"photo": ["a.jpg"]}), path)
    else:
        path.write_bytes(data)
    with pytest.raises(StorageError, match=r"part-1\.parquet: is no part of a manifest"):
        read_all(tmp_path)
