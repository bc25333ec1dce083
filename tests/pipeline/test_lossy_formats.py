"""HEIC and AVIF through the whole pipeline: refused until asked for, then measured on the written bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image

from hashshield.pipeline.restore import restore
from hashshield.pipeline.verify import verify
from hashshield.types import FileOptions, Outcome, Request
from tiny_net import encoded, picture

Protect = Callable[..., list[Outcome]]


def put(folder: Path, name: str) -> Path:
    """Write a picture as HEIC or AVIF, by its name."""
    image = Image.open(io.BytesIO(encoded(picture(96, 128, seed=3, channels=3), "PNG")))
    path = folder / name
    if path.suffix == ".heic":
        pillow_heif.from_pillow(image).save(path, quality=80)
    else:
        image.save(path, quality=92)
    return path


@pytest.mark.long
@pytest.mark.parametrize("name", ["a.heic", "a.avif"])
def test_asked_for_and_back(
    name: str, tmp_path: Path, protect_now: Protect, request_for: Callable[..., Request], told: Any
) -> None:
    path = put(tmp_path, name)
    before = path.read_bytes()
    (row,) = protect_now(path)
    assert row.status == "failed"
    assert "--lossy-formats" in str(row.reason)
    assert path.read_bytes() == before
    # Their coders, run on several threads, do not give the same bytes twice: asked is what any of them can carry.
    (row,) = protect_now(path, tolerance=4, tau=0.1, steps=80, file_options=FileOptions(lossy_formats=True))
    assert row.status == "protected", row.reason
    assert any("lose a little" in text for text in told.notices)
    assert path.read_bytes() != before
    request = request_for()
    assert [r.status for r in verify([path], models=request.models, vault=request.vault, progress=told)] == [
        "protected"
    ]
    (row,) = protect_now(path)
    assert row.status == "already"
    restore([path], vault=request.vault)
    assert path.read_bytes() == before
