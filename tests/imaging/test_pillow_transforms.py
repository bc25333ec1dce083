from __future__ import annotations

import io

import numpy as np
import pytest
from imaging_samples import scene
from PIL import Image

from hashshield.transforms.pillow import JPEG_Q75, SERVICES, Transform

PHOTO = Image.fromarray(scene(240, 400))
BY_NAME = {service.name: service for service in SERVICES}


def saved(image: Image.Image, kind: str, **options: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return Image.open(out)


def lanczos(width: int, height: int) -> Image.Image:
    return PHOTO.resize((width, height), Image.Resampling.LANCZOS)


EXPECTED = {
    "png": PHOTO,
    "jpeg q95": saved(PHOTO, "JPEG", quality=95),
    "jpeg q90": saved(PHOTO, "JPEG", quality=90),
    "jpeg q75": saved(PHOTO, "JPEG", quality=75),
    "jpeg q50": saved(PHOTO, "JPEG", quality=50),
    "half size": lanczos(200, 120),
    "half + jpeg q75": saved(lanczos(200, 120), "JPEG", quality=75),
    "webp q80": saved(PHOTO, "WEBP", quality=80),
    "crop 90%": PHOTO.crop((20, 12, 380, 228)),
    "squash": PHOTO,
    "rotate 2 degrees": PHOTO.rotate(2, Image.Resampling.BICUBIC),
    "thumbnail 320": saved(lanczos(320, 192), "JPEG", quality=75),
    "thumbnail 150": saved(lanczos(150, 90), "JPEG", quality=75),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_service_does_what_its_name_says(name: str) -> None:
    np.testing.assert_array_equal(np.asarray(BY_NAME[name].done(PHOTO)), np.asarray(EXPECTED[name]))


def test_mirrored_and_brighter() -> None:
    pixels = np.asarray(PHOTO).astype(float)
    np.testing.assert_array_equal(np.asarray(BY_NAME["flip"].done(PHOTO)), pixels[:, ::-1])
    brighter = np.asarray(BY_NAME["brightness +10%"].done(PHOTO))
    assert np.abs(brighter - np.minimum(255, 1.1 * pixels)).max() <= 0.5


@pytest.mark.parametrize("size", [2048, 1024])
def test_a_long_side(size: int) -> None:
    service = BY_NAME[f"long side {size}"]
    assert service.done(Image.new("RGB", (4096, 2048))).size == (size, size // 2)
    assert service.refused(size + 1, 10) is None
    assert service.refused(10, size) == f"not applicable: the long side is {size} pixels, not more than {size}"


def test_what_a_photo_is_too_small_or_too_large_for() -> None:
    def refused(width: int, height: int) -> set[str]:
        return {service.name for service in SERVICES if service.refused(width, height)}

    assert refused(300, 200) == {"long side 2048", "long side 1024", "thumbnail 320"}
    assert refused(3000, 2000) == set()
    assert refused(300, 16_384) == {"webp q80"}
    assert refused(70_000, 64) == {"webp q80", "jpeg q95", "jpeg q90", "jpeg q75", "jpeg q50"}
    assert str(BY_NAME["webp q80"].refused(20_000, 64)).endswith("20000 pixels, and the encoder takes 16383")


def test_the_limits_are_those_of_the_encoders() -> None:
    for service, side in ((JPEG_Q75, 65_500), (BY_NAME["webp q80"], 16_383)):
        assert service.longest == side
        assert service.done(Image.new("RGB", (side, 1))).size == (side, 1)
        with pytest.raises((OSError, ValueError)):
            service.done(Image.new("RGB", (side + 1, 1)))


def test_a_photo_of_200_megapixels_is_no_bomb() -> None:
    """Pillow's own opening warns above 89 megapixels, and refuses above 178; what it is given here we made."""
    assert JPEG_Q75.done(Image.new("RGB", (16_320, 12_240))).size == (16_320, 12_240)


def test_names_are_used_once_and_q75_is_among_them() -> None:
    assert len(BY_NAME) == len(SERVICES) == 17
    assert BY_NAME["jpeg q75"] is JPEG_Q75
    assert [service.name for service in SERVICES if service.squashed] == ["squash"]
    assert all(isinstance(service, Transform) and service.what for service in SERVICES)
