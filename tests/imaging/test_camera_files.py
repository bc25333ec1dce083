"""The camera files, where they are: every one is written with its metadata byte for byte, or refused with a reason."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from imaging_samples import psnr
from numpy.typing import NDArray
from PIL import Image, ImageOps

from camera_files import check_metadata, files, named_folder
from hashshield import imaging
from hashshield.errors import PhotoError
from hashshield.imaging.heif.boxes import parse_still
from hashshield.pipeline.plan import open_photo

pytestmark = pytest.mark.files
PAGE = Path(__file__).parents[2] / "docs" / "camera-files.md"


@pytest.fixture(scope="module")
def folder() -> Path:
    return named_folder()


def write_again(data: bytes, photo: imaging.Photo, name: str) -> tuple[float, float]:
    """Write a photo with its own pixels, hold everything else against the file; return decibels and size ratio."""
    written = imaging.write(photo, photo.pixels)
    again = imaging.read(written, name=name)
    assert again.orientation == photo.orientation
    assert again.unprotected_copies == photo.unprotected_copies
    assert again.links_to_owner == photo.links_to_owner
    check_metadata(photo, written)
    shown = imaging.to_display_orientation(photo.pixels, photo.orientation)
    assert np.array_equal(shown.squeeze(), shown_by_pillow(data)), name
    return min(psnr(photo.pixels, again.pixels), 120.0), len(written) / len(data)


def shown_by_pillow(data: bytes) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=["JPEG", "MPO"])
        return np.asarray(ImageOps.exif_transpose(image))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def test_outcomes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[tuple[str, ...]] = []
    kinds = Counter[tuple[str, ...]]()
    figures: list[tuple[float, float]] = []
    for path in files(folder):
        data, name = path.read_bytes(), path.relative_to(folder).as_posix()
        container = imaging.sniff(data[:64])
        format_name, outcome, reason, copies = str(container).upper() if container else "none", "written", "", ""
        try:
            photo = open_photo(data, name=name, lossy_formats=False)
        except PhotoError as error:
            outcome, reason = "refused" if container else "skipped", str(error).removeprefix(f"{name}: ")
        else:
            figures.append(write_again(data, photo, name))
            copies = "; ".join(photo.unprotected_copies)
        kinds[format_name, outcome, reason] += 1
        rows.append((f"`{name}`", format_name, outcome, copies or reason))
    counted = [(kind, str(number), outcome, reason) for (kind, outcome, reason), number in sorted(kinds.items())]
    tables = (
        table(("format", "files", "outcome", "reason"), counted),
        table(("file", "format", "outcome", "reason, or copies of the picture left in the file"), rows),
    )
    decibels, ratios = zip(*figures, strict=True)
    with capsys.disabled():
        print("\n" + "\n".join(tables))
        print(f"{len(figures)} written: median {np.median(decibels):.1f} dB, least {min(decibels):.1f} dB;")
        print(f"size median x{np.median(ratios):.3f}, largest x{max(ratios):.3f}")
    assert len(figures) >= 85
    assert np.median(decibels) >= 60
    assert np.median(ratios) <= 1.05
    assert max(ratios) <= 1.25
    page = PAGE.read_text(encoding="utf-8")
    assert all(each in page for each in tables), f"{PAGE.name} is out of date; paste the tables printed above"


@pytest.mark.slow
def test_lossy_formats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in files(folder):
        data = path.read_bytes()
        if imaging.sniff(data[:64]) not in imaging.LOSSY_FORMATS:
            continue
        photo = imaging.read(data, name=path.name)
        written = imaging.write(photo, photo.pixels)
        again = imaging.read(written, name=path.name)
        before, after = (parse_still(each, name="x").items for each in (data, written))
        assert [(i.number, i.entry) for i in before.values()] == [(i.number, i.entry) for i in after.values()]
        assert all(after[n].data == i.data for n, i in before.items() if i.kind in (b"Exif", b"mime", b"grid"))
        assert (again.orientation, again.unprotected_copies) == (photo.orientation, photo.unprotected_copies)
        decibels = psnr(photo.pixels, again.pixels)
        assert decibels > 45
        with capsys.disabled():
            print(
                f"\n{path.name:28} {decibels:.1f} dB, size x{len(written) / len(data):.2f}; {photo.unprotected_copies}"
            )
