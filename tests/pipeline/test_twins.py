"""Which other files show a photo that was protected.

A result that is shown turned is not protected, and is never searched again on top of its change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from hashshield import imaging
from hashshield.pipeline.protect import protect, protect_bytes
from hashshield.pipeline.restore import restore
from hashshield.pipeline.twins import TURNED, twins
from hashshield.pipeline.verify import verify
from hashshield.types import Outcome, Progress, Request
from tiny_net import encoded, picture


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"film or raw")


def test_files_of_the_camera_are_told_by_their_stem(tmp_path: Path) -> None:
    touch(tmp_path, "IMG_1.JPG", "IMG_1.CR2", "img_1.dng", "IMG_1.MOV", "IMG_1.HEIC", "IMG_1.JPG.NEF")
    touch(tmp_path, "IMG_10.CR2", "IMG_1.txt", "IMG_1.xmp", "IMG_1.png", "IMG_2.MP4")
    assert twins(tmp_path / "IMG_1.JPG") == (
        "raw IMG_1.CR2 beside it",
        "HEIF IMG_1.HEIC beside it",
        "raw IMG_1.JPG.NEF beside it",
        "film IMG_1.MOV beside it",
        "raw img_1.dng beside it",
    )
    assert twins(tmp_path / "IMG_1.HEIC")[0] == "raw IMG_1.CR2 beside it"
    assert twins(tmp_path / "IMG_3.JPG") == ()


def test_thumbnails_and_old_versions_are_told_by_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "deep/a[1].jpg", "deep/@eaDir/a[1].jpg/SYNOPHOTO_THUMB_XL.jpg", "deep/@eaDir/b.jpg/SYNOPHOTO_B.jpg")
    touch(tmp_path, "deep/.@__thumb/defaulta[1].jpg", "deep/.picasaoriginals/a[1].jpg", "deep/.picasaoriginals/b.jpg")
    touch(tmp_path, *(f".stversions/deep/a[1]~2026010{day}-120000.jpg" for day in range(1, 6)))
    assert twins(tmp_path / "deep" / "a[1].jpg") == (
        "thumbnails in @eaDir: SYNOPHOTO_THUMB_XL.jpg",
        "thumbnails in .@__thumb: defaulta[1].jpg",
        "original in .picasaoriginals: a[1].jpg",
        "old versions in .stversions: a[1]~20260101-120000.jpg, a[1]~20260102-120000.jpg, a[1]~20260103-120000.jpg "
        "and 2 more",
    )


def test_they_are_in_the_row(tmp_path: Path, request_for: Callable[..., Request], told: Progress) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(encoded(picture(40, 40)))
    touch(tmp_path / "photos", "a.dng", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg")
    thumbnail = encoded(picture(24, 24))
    (tmp_path / "photos" / "@eaDir" / "a.png" / "SYNOPHOTO_THUMB_M.jpg").write_bytes(thumbnail)
    rows = protect([tmp_path / "photos"], request_for(steps=4, accept_best=True), progress=told)
    (row,) = [row for row in rows if row.status in ("protected", "partial")]
    assert [copy.split()[0] for copy in row.unprotected_copies] == ["raw", "thumbnails"]
    assert {(Path(row.path).name, row.status) for row in rows} >= {("@eaDir", "skipped")}
    assert (tmp_path / "photos" / "@eaDir" / "a.png" / "SYNOPHOTO_THUMB_M.jpg").read_bytes() == thumbnail


@pytest.mark.parametrize("gone", ["nowhere", "nowhere/deep"])
def test_what_cannot_be_listed_has_none(tmp_path: Path, gone: str) -> None:
    assert twins(tmp_path / gone / "a.jpg") == ()


Protect = Callable[..., list[Outcome]]
Requests = Callable[..., Request]


def oriented(orientation: int, kind: str = "PNG") -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return encoded(picture(60, 80, seed=6), kind, exif=block.tobytes())


def turned(data: bytes, turn: int, orientation: int = 1) -> bytes:
    """The file's pixels turned and stored as PNG, with that orientation."""
    block = Image.Exif()
    block[0x0112] = orientation
    return encoded(
        np.ascontiguousarray(imaging.to_display_orientation(imaging.read(data, name="a").pixels, turn)),
        exif=block.tobytes(),
    )


def without_orientation(data: bytes) -> bytes:
    """The orientation entry made 1; no pixel is touched."""
    order: Literal["big", "little"] = "big" if b"MM\0*" in data else "little"
    entry = b"".join(n.to_bytes(size, order) for n, size in ((0x0112, 2), (3, 2), (1, 4)))
    place = data.index(entry) + len(entry)
    return data[:place] + (1).to_bytes(2, order) + data[place + 2 :]


def checked(path: Path, request: Request, told: Any) -> Any:
    (row,) = verify([path], models=[], vault=request.vault, device="cpu", progress=told)
    return row


def test_a_result_without_its_orientation_is_not_already(
    tmp_path: Path, protect_now: Protect, request_for: Requests, told: Any
) -> None:
    path, before = tmp_path / "a.jpg", oriented(6, "JPEG")
    path.write_bytes(before)
    (row,) = protect_now(path)
    assert row.status == "protected", row.reason
    edited = without_orientation(path.read_bytes())
    path.write_bytes(edited)
    for _ in range(2):
        (row,) = protect_now(path, accept_best=True)
        assert (row.status, row.reason) == ("short", TURNED)
        assert path.read_bytes() == edited
    found = checked(path, request_for(), told)
    assert (found.status, found.reason) == ("not_protected", TURNED)
    (back,) = restore([path], vault=request_for().vault)
    assert back.status == "restored"
    assert path.read_bytes() == before


def test_beside_others_it_is_told_too(tmp_path: Path, protect_now: Protect) -> None:
    """The first photo that needs the networks ends the look; what follows is told by the work."""
    path, other = tmp_path / "b.png", tmp_path / "a.png"
    path.write_bytes(encoded(picture(60, 80, seed=6)))
    protect_now(path)
    path.write_bytes(turned(path.read_bytes(), 8))
    other.write_bytes(encoded(picture(60, 80, seed=7)))
    rows = {Path(row.path).name: row for row in protect_now(other, path)}
    assert rows["a.png"].status == "protected"
    assert (rows["b.png"].status, rows["b.png"].reason) == ("short", TURNED)


def test_no_turn_of_a_lossless_result_is_searched_again(
    tmp_path: Path, protect_now: Protect, request_for: Requests
) -> None:
    path, before = tmp_path / "a.png", encoded(picture(60, 80, seed=6))
    path.write_bytes(before)
    (row,) = protect_now(path)
    assert row.status == "protected"
    result = path.read_bytes()
    for turn in range(2, 9):
        copy = turned(result, turn)
        path.write_bytes(copy)
        (row,) = protect_now(path)
        assert (row.status, row.reason) == ("short", TURNED), turn
        assert path.read_bytes() == copy
        assert protect_bytes(copy, request_for(), name="a")[0] is None
    (row,) = protect_now(path, force=True)
    assert row.status == "protected"
    assert imaging.read(path.read_bytes(), name="a").pixels.shape == (60, 80, 3), "begun from the original"
    path.write_bytes(turned(path.read_bytes(), 3))
    (back,) = restore([path], vault=request_for().vault)
    assert back.status == "restored"
    assert path.read_bytes() == before


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_turned_in_pixels_and_orientation_alike_it_shows_the_same_and_is_already(
    orientation: int, tmp_path: Path, protect_now: Protect, request_for: Requests, told: Any
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(oriented(orientation))
    (row,) = protect_now(path)
    assert row.status == "protected", row.reason
    upright = turned(path.read_bytes(), orientation)
    path.write_bytes(upright)
    (row,) = protect_now(path)
    assert row.status == "already"
    assert checked(path, request_for(), told).status == "protected"
    assert protect_bytes(upright, request_for(), name="a") == (upright, replace(row, path="a"))
    path.write_bytes(turned(upright, 1, orientation))
    (row,) = protect_now(path)
    assert (row.status, row.reason) == ("short", TURNED), "the orientation twice"


def test_a_photo_of_its_own_is_not_taken_for_a_turned_one(tmp_path: Path, protect_now: Protect) -> None:
    path = tmp_path / "a.png"
    before = encoded(picture(60, 80, seed=6))
    path.write_bytes(before)
    protect_now(path)
    other = tmp_path / "b.png"
    other.write_bytes(turned(before, 6))
    (row,) = protect_now(other)
    assert row.status == "protected", "the unprotected photo, turned"
