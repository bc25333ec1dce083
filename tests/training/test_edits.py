"""Every edit of the training of a copy detector: it changes the photo, in RGB, and the same way from the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from copy_detector import scene
from hashshield.training.edits import EDITS, Edit, edited

PHOTO, OTHER = Image.fromarray(scene(1, 90, 120)), Image.fromarray(scene(2, 70, 60))


@pytest.mark.parametrize("edit", [edit for edit, _ in EDITS], ids=lambda edit: edit.__name__.strip("_"))
def test_an_edit_changes_the_photo_and_repeats_itself(edit: Edit) -> None:
    before = PHOTO.tobytes()
    for seed in range(30):
        made, again = (edit(PHOTO, OTHER, np.random.default_rng(seed)) for _ in range(2))
        assert made.mode == "RGB"
        assert min(made.size) >= 16
        assert (made.size, made.tobytes()) == (again.size, again.tobytes())
        assert (made.size, made.tobytes()) != (PHOTO.size, before)
    assert PHOTO.tobytes() == before, "the photo itself stays as it is"


@pytest.mark.parametrize("size", [(16, 16), (16, 300), (300, 16)])
def test_small_and_narrow_photos_can_be_edited(size: tuple[int, int]) -> None:
    photo, other = scene(3, *size), scene(4, 20, 20)
    for seed in range(40):
        made = edited(photo, other, np.random.default_rng(seed), strength=1.0)
        assert min(made.size) >= 8


def test_strength_is_the_share_of_the_probabilities() -> None:
    pixels, other = scene(5), scene(6)
    assert np.array_equal(np.asarray(edited(pixels, other, np.random.default_rng(0), strength=0.0)), pixels)
    changed = [
        sum(
            not np.array_equal(
                np.asarray(edited(pixels, other, np.random.default_rng(seed), strength=strength)), pixels
            )
            for seed in range(60)
        )
        for strength in (0.2, 1.0)
    ]
    assert 0 < changed[0] < changed[1] <= 60


def test_mirroring_is_left_and_right() -> None:
    mirror = next(edit for edit, _ in EDITS if edit.__name__ == "_mirror")
    assert mirror(PHOTO, OTHER, np.random.default_rng(0)).tobytes() == ImageOps.mirror(PHOTO).tobytes()
