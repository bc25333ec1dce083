from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hashshield import imaging
from hashshield.errors import BrokenPhotoError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import OpenModel, network_views, open_models
from hashshield.pipeline.receipt import build_receipt, measure_written
from hashshield.pipeline.targets import CodeTarget, tolerance_for
from hashshield.transforms import CARD, SQUASH, VIEWS, pillow_view
from hashshield.transforms.pillow import JPEG_Q75
from tiny_net import SIZE, encoded, picture

PIXELS = picture(60, 80, seed=2)


def photo(data: bytes) -> imaging.Photo:
    return imaging.read(data, name="a")


@pytest.fixture(scope="module")
def models(tiny: Path) -> list[OpenModel]:
    return open_models([f"{tiny}:16", f"{tiny}:24"])


@torch.inference_mode()
def bits(model: OpenModel, pixels: Any, view: str = CARD) -> Any:
    return bits_of(model.model(pillow_view(pixels, SIZE, view)[None]).code[0].numpy())


def test_what_is_measured_is_what_was_written(models: list[OpenModel]) -> None:
    changed = PIXELS.copy()
    changed[5:40, 10:60, 0] += 6
    data, looks = encoded(changed), network_views(models)
    reread = measure_written(data, photo(encoded(PIXELS)), looks, name="a")
    assert reread.linf_levels_written == 6
    assert reread.psnr_db == pytest.approx(10 * math.log10(255**2 / (36 * 35 * 50 / PIXELS.size)))
    assert reread.pixels_after == imaging.pixel_digest(photo(data))
    marks = [CodeTarget(m.name, bits(m, PIXELS), bits(m, changed), None, band=False) for m in models]
    receipt = build_receipt(reread, marks, looks, linf_applied=5, tolerance=None, lossless=True)
    assert receipt.passed
    assert (receipt.linf_levels, receipt.linf_levels_written) == (5, 6)
    for row, model in zip(receipt.codes, models, strict=True):
        assert row.distance_to_goal == 0
        assert row.distance_from_original == np.count_nonzero(bits(model, PIXELS) != bits(model, changed))
    recoded = io.BytesIO()
    Image.fromarray(changed).save(recoded, "JPEG", quality=75)
    after = np.asarray(Image.open(recoded))
    for found, model, mark in zip(receipt.survival, models, marks, strict=True):
        assert found.transform == JPEG_Q75.name
        assert found.distance_to_goal == np.count_nonzero(bits(model, after) != mark.wanted)
        assert found.passed == (found.distance_to_goal <= model.bits // 16)


def test_one_network_that_misses_is_enough_to_fail(models: list[OpenModel]) -> None:
    data, looks = encoded(PIXELS), network_views(models)
    reread = measure_written(data, photo(data), looks, name="a")
    good = [CodeTarget(m.name, bits(m, PIXELS), bits(m, PIXELS), None, band=False) for m in models]
    bad = [good[0], CodeTarget(good[1].model, good[1].original_bits, -good[1].wanted, None, band=False)]
    kinds = {"linf_applied": 0, "tolerance": None, "lossless": True}
    assert build_receipt(reread, good, looks, **kinds).passed  # type: ignore[arg-type]
    assert not build_receipt(reread, bad, looks, **kinds).passed  # type: ignore[arg-type]
    assert build_receipt(reread, bad, looks, linf_applied=0, tolerance=24, lossless=True).passed


def test_every_promised_view_of_every_network_has_a_row_and_a_say(models: list[OpenModel]) -> None:
    pixels = picture(48, 96)
    data, looks = encoded(pixels), network_views(models, VIEWS)
    reread = measure_written(data, photo(data), looks, name="a")
    own = [bits(look.model, pixels, look.view) for look in looks]
    marks = [CodeTarget(k.model.name, b, b, None, band=False, view=k.view) for k, b in zip(looks, own, strict=True)]
    receipt = build_receipt(reread, marks, looks, linf_applied=0, tolerance=None, lossless=True)
    assert [(row.model, row.view) for row in receipt.codes] == [(m.name, v) for m in models for v in (CARD, SQUASH)]
    assert [row.distance_to_goal for row in receipt.codes] == [0, 0, 0, 0]
    assert receipt.passed
    assert len(receipt.survival) == 2, "one view for each service"
    marks[1] = replace(marks[1], wanted=-marks[1].wanted)
    assert not build_receipt(reread, marks, looks, linf_applied=0, tolerance=None, lossless=True).passed


@pytest.mark.parametrize(
    ("asked", "length", "lossless", "bits_off"),
    [(None, 48, True, 0), (None, 48, False, 3), (None, 16, False, 1), (5, 48, True, 5), (0, 48, False, 0)],
)
def test_tolerance(asked: int | None, length: int, lossless: bool, bits_off: int) -> None:
    assert tolerance_for(asked, length, lossless=lossless) == bits_off


def rgba(alpha: int) -> bytes:
    return encoded(np.dstack([PIXELS, np.full(PIXELS.shape[:2], alpha, np.uint8)]))


def turned(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return encoded(PIXELS, exif=block.tobytes())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (encoded(PIXELS), encoded(PIXELS[:, :70])),
        (encoded(PIXELS), encoded(PIXELS[..., :1])),
        (encoded(PIXELS), turned(6)),
        (encoded(PIXELS), rgba(200)),
        (rgba(200), encoded(PIXELS)),
        (rgba(200), rgba(201)),
    ],
)
def test_bytes_that_are_another_photo_are_not_written(before: bytes, after: bytes, models: list[OpenModel]) -> None:
    with pytest.raises(BrokenPhotoError, match="encoding changed size, orientation or transparency"):
        measure_written(after, photo(before), network_views(models), name="a")


def test_bytes_that_do_not_decode_are_not_written(models: list[OpenModel]) -> None:
    data = encoded(PIXELS)
    with pytest.raises(BrokenPhotoError):
        measure_written(data[:500], photo(data), network_views(models), name="a")


@pytest.mark.parametrize("accept_best", [False, True])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_that_is_not_the_meant_one_is_our_bug_and_is_not_written(
    name: str, accept_best: bool, tmp_path: Path, protect_now: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    data = encoded(picture(60, 80, seed=4), "JPEG" if name == "a.jpg" else "PNG")
    path.write_bytes(data)
    write = imaging.write

    def sheared(photo: imaging.Photo, pixels: Any, **given: Any) -> bytes:
        rows = [np.roll(pixels[top : top + 8], top, axis=1) for top in range(0, len(pixels), 8)]
        return write(photo, np.concatenate(rows), **given)

    monkeypatch.setattr(imaging, "write", sheared)
    (row,) = protect_now(path, accept_best=accept_best, steps=4)
    assert row.status == "failed"
    assert "internal error: the written picture differs from the intended one" in row.reason
    assert row.reason.endswith("please report it")
    assert path.read_bytes() == data
