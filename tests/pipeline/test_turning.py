"""A result that is shown turned is not protected, and is never searched again on top of its change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from hashshield import imaging
from hashshield.pipeline.protect import protect_bytes
from hashshield.pipeline.restore import restore
from hashshield.pipeline.turning import TURNED
from hashshield.pipeline.verify import verify
from hashshield.types import Outcome, Request
from tiny_net import encoded, picture

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
    (row,) = protect_now(path, steps=150)
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
    protect_now(path, steps=150)
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
    (row,) = protect_now(path, steps=150)
    assert row.status == "protected"
    result = path.read_bytes()
    for turn in range(2, 9):
        copy = turned(result, turn)
        path.write_bytes(copy)
        (row,) = protect_now(path, steps=150)
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
    (row,) = protect_now(path, steps=150)
    assert row.status == "protected", row.reason
    upright = turned(path.read_bytes(), orientation)
    path.write_bytes(upright)
    (row,) = protect_now(path, steps=150)
    assert row.status == "already"
    assert checked(path, request_for(), told).status == "protected"
    assert protect_bytes(upright, request_for(), name="a") == (upright, replace(row, path="a"))
    path.write_bytes(turned(upright, 1, orientation))
    (row,) = protect_now(path, steps=150)
    assert (row.status, row.reason) == ("short", TURNED), "the orientation twice"


def test_a_photo_of_its_own_is_not_taken_for_a_turned_one(tmp_path: Path, protect_now: Protect) -> None:
    path = tmp_path / "a.png"
    before = encoded(picture(60, 80, seed=6))
    path.write_bytes(before)
    protect_now(path, steps=150)
    other = tmp_path / "b.png"
    other.write_bytes(turned(before, 6))
    (row,) = protect_now(other)
    assert row.status == "protected", "the unprotected photo, turned"
