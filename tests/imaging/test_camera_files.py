"""The camera files, where they are: every one is written with its metadata byte for byte, or refused with a reason."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from imaging_samples import psnr
from numpy.typing import NDArray
from PIL import Image, ImageOps

from camera_files import check_metadata, files, named_folder
from hashshield import imaging
from hashshield.errors import PhotoError
from hashshield.imaging.isobmff import parse

pytestmark = pytest.mark.files


@pytest.fixture(scope="module")
def folder() -> Path:
    return named_folder()


def outcome(data: bytes, name: str) -> tuple[str, float, float, imaging.Photo | None]:
    """Return a line for the table, decibels, size ratio and the photo."""
    try:
        photo = imaging.read(data, name=name)
    except PhotoError as error:
        return f"refused: {str(error).removeprefix(name + ': ')}", 0, 0, None
    if photo.container in imaging.LOSSY_FORMATS:
        return "has to be asked for by --lossy-formats", 0, 0, None
    written = imaging.write(photo, photo.pixels)
    again = imaging.read(written, name=name)
    assert again.orientation == photo.orientation
    assert again.unprotected_copies == photo.unprotected_copies
    assert again.links_to_owner == photo.links_to_owner
    check_metadata(photo, written)
    decibels = psnr(photo.pixels, again.pixels)
    notes = [*(f"copy: {c}" for c in photo.unprotected_copies), *(f"link: {c}" for c in photo.links_to_owner)]
    line = f"written: {decibels:.1f} dB, size x{len(written) / len(data):.3f}" + "".join(f"; {n}" for n in notes)
    return line, decibels, len(written) / len(data), photo


def shown_by_pillow(data: bytes) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=["JPEG", "MPO"])
        return np.asarray(ImageOps.exif_transpose(image))


def test_outcomes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, decibels, ratios = [], [], []
    for path in files(folder):
        data = path.read_bytes()
        line, found, ratio, photo = outcome(data, path.name)
        table.append(f"{path.relative_to(folder)!s:46} {line}")
        if photo is not None:
            decibels.append(min(found, 120.0))
            ratios.append(ratio)
            shown = imaging.upright(photo.pixels, photo.orientation)
            assert np.array_equal(shown.squeeze(), shown_by_pillow(data)), path
    with capsys.disabled():
        print("\n" + "\n".join(table))
        print(f"{len(decibels)} written: median {np.median(decibels):.1f} dB, least {min(decibels):.1f} dB;")
        print(f"size median x{np.median(ratios):.3f}, largest x{max(ratios):.3f}; {len(table) - len(decibels)} refused")
    assert len(decibels) >= 85
    assert np.median(decibels) >= 60
    assert np.median(ratios) <= 1.05
    assert max(ratios) <= 1.25


@pytest.mark.slow
def test_lossy_formats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in files(folder):
        data = path.read_bytes()
        if imaging.sniff(data[:64]) not in imaging.LOSSY_FORMATS:
            continue
        photo = imaging.read(data, name=path.name)
        written = imaging.write(photo, photo.pixels)
        again = imaging.read(written, name=path.name)
        before, after = (parse(each, name="x").items for each in (data, written))
        assert [(i.number, i.entry) for i in before.values()] == [(i.number, i.entry) for i in after.values()]
        assert all(after[n].data == i.data for n, i in before.items() if i.kind in (b"Exif", b"mime", b"grid"))
        assert (again.orientation, again.unprotected_copies) == (photo.orientation, photo.unprotected_copies)
        decibels = psnr(photo.pixels, again.pixels)
        assert decibels > 45
        with capsys.disabled():
            print(
                f"\n{path.name:28} {decibels:.1f} dB, size x{len(written) / len(data):.2f}; {photo.unprotected_copies}"
            )
