from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn

from hashshield.metrics.perceptual import dhash, perceptual_rows, phash
from hashshield.types import PerceptualRow
from tiny_net import picture


@settings(max_examples=15, deadline=None)
@given(st.integers(33, 200), st.integers(33, 200), st.integers(0, 1000))
def test_phash_is_that_of_a_transform_from_elsewhere(height: int, width: int, seed: int) -> None:
    image = Image.fromarray(picture(height, width, seed=seed))
    low = dctn(np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float))[:8, :8]
    sure = np.abs(low - np.median(low)) > 1e-6  # the two middle ones are the median's neighbours
    np.testing.assert_array_equal(phash(image)[sure.ravel()], (low > np.median(low))[sure])


def test_known_hashes(data: Path) -> None:
    """What imagehash 4.3.2 says of the fixture photos."""
    for name, known in KNOWN.items():
        with Image.open(data / name) as photo:
            image = photo.convert("RGB")
        assert [np.packbits(of(image)).tobytes().hex() for of in (phash, dhash)] == known


KNOWN = {
    "kangaroo.jpg": ["eddf72272c883960", "46403377a68e87a7"],
    "lotus.jpg": ["9e9a136320bfe6c2", "dd70683587417165"],
    "sunflower.jpg": ["c26d0ce478977396", "32f0cccccccce871"],
}


def test_dhash_sees_slopes_and_nothing_else() -> None:
    ramp = np.repeat(np.linspace(0, 255, 90, dtype=np.uint8)[None, :, None], 80, axis=0).repeat(3, axis=2)
    assert dhash(Image.fromarray(ramp)).all()
    assert not dhash(Image.fromarray(ramp[:, ::-1])).any()
    assert not dhash(Image.new("RGB", (90, 80), (9, 99, 199))).any()


def test_rows_of_the_same_and_of_another_photo(data: Path) -> None:
    with Image.open(data / "lotus.jpg") as one, Image.open(data / "kangaroo.jpg") as other:
        before, after = one.convert("RGB"), other.convert("RGB")
    same, different = perceptual_rows(before, before), perceptual_rows(before, after)
    assert [(row.hash, row.bits, row.threshold) for row in same] == [
        ("pHash", 64, 10),
        ("dHash", 64, 10),
        ("PDQ", 256, 31),
    ]
    for row in same[:2]:
        assert (row.distance, row.matches, row.reason) == (0, True, None)
    assert different[0].distance == np.count_nonzero(phash(before) != phash(after)) > 10
    assert different[1].distance == np.count_nonzero(dhash(before) != dhash(after)) > 10
    assert [row.matches for row in different[:2]] == [False, False]


def test_pdq(data: Path) -> None:
    pytest.importorskip("pdqhash", reason="the extra pdq is not installed")
    with Image.open(data / "lotus.jpg") as one, Image.open(data / "kangaroo.jpg") as other:
        before, after = one.convert("RGB"), other.convert("RGB")
    assert perceptual_rows(before, before)[2] == PerceptualRow("PDQ", 256, 31, 0, True)
    (row,) = perceptual_rows(before, after)[2:]
    assert row.distance is not None
    assert row.distance > 60
    assert row.matches is False


def test_pdq_that_is_not_installed_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    image = Image.new("RGB", (64, 64))
    row = perceptual_rows(image, image)[2]
    assert (row.distance, row.matches) == (None, None)
    assert row.reason == "pdqhash is not installed; add it with `pipx inject hashshield pdqhash`"
