"""Every edit of the training of a copy detector: it changes the photo, in RGB, and the same way from the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from copy_detector import scene
from hashshield import imaging
from hashshield.errors import PhotoError
from hashshield.models.hashing import displayed_rgb
from hashshield.training.images import EDITS, Edit, Images, edited
from hashshield.transforms import pillow_view
from tiny_net import SIZE, encoded, picture

SHAPES = ((48, 64), (64, 48), (36, 36), (50, 50), (37, 120), (36, 41))
CHUNKS = [torch.tensor(c) for c in ([3, 0], [5, 1, 2], [4], [0, 3])]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Upright and lying, of the card's size already, grey."""
    root = tmp_path_factory.mktemp("images")
    found = []
    for number, (height, width) in enumerate(SHAPES):
        found.append(root / f"{number}.png")
        channels = 1 if number == 3 else 3
        found[-1].write_bytes(encoded(picture(height, width, seed=number, channels=channels)))
    return found


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batches(images: Images, *, seed: int = 0) -> list[Tensor]:
    return list(images.batches(CHUNKS, seeded(seed)))


def by_hand(path: Path, draw: list[float], pad: int) -> np.ndarray:
    """The augmented photo by Pillow and index arithmetic alone."""
    photo = Image.open(path).convert("RGB")
    scale = SIZE.resize / min(photo.size)
    photo = photo.resize((int(photo.width * scale + 1e-9), int(photo.height * scale + 1e-9)), Image.Resampling.BILINEAR)
    small = np.asarray(photo)

    def mirrored(index: int, size: int) -> int:
        index = abs(index)
        return index if index < size else 2 * (size - 1) - index

    y, x, flip = draw
    top = int(y * (small.shape[0] + 2 * pad - SIZE.crop + 1)) - pad
    left = int(x * (small.shape[1] + 2 * pad - SIZE.crop + 1)) - pad
    rows = [mirrored(i, small.shape[0]) for i in range(top, top + SIZE.crop)]
    columns = [mirrored(i, small.shape[1]) for i in range(left, left + SIZE.crop)]
    crop = small[np.ix_(rows, columns)]
    return crop[:, ::-1] if flip < 0.5 else crop


@pytest.mark.parametrize("pad", [0, 4, 20])
def test_a_crop_and_a_flip_are_drawn_for_each_photo(paths: list[Path], pad: int) -> None:
    found = batches(Images(paths, SIZE, augment=True, pad=pad))
    generator = seeded()
    for chunk, batch in zip(CHUNKS, found, strict=True):
        draws = torch.rand((len(chunk), 3), generator=generator).tolist()
        assert batch.shape == (len(chunk), 3, SIZE.crop, SIZE.crop)
        for index, draw, image in zip(chunk.tolist(), draws, batch, strict=True):
            pixels = (image * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
            assert np.array_equal(pixels, by_hand(paths[index], draw, pad)), (index, draw)


@pytest.mark.parametrize("pad", [0, 4])
def test_a_seed_gives_the_same_batches_and_another_seed_others(paths: list[Path], pad: int) -> None:
    images = Images(paths, SIZE, augment=True, pad=pad)
    one, again, other = batches(images), batches(images), batches(images, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True)), "whether decoded or kept"
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_without_augmentation_it_is_the_cards_view(paths: list[Path]) -> None:
    images = Images(paths, SIZE, augment=False)
    for _ in ("decoded", "kept"):
        for chunk, batch in zip(CHUNKS, batches(images), strict=True):
            for index, image in zip(chunk.tolist(), batch, strict=True):
                photo = imaging.read(paths[index].read_bytes(), name="x")
                assert torch.equal(image, pillow_view(displayed_rgb(photo), SIZE))


def test_a_photo_is_decoded_once(paths: list[Path], tmp_path: Path) -> None:
    copies = [tmp_path / path.name for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    images = Images(copies, SIZE, augment=True)
    before = batches(images)
    for copy in copies:
        copy.unlink()
    assert all(torch.equal(a, b) for a, b in zip(before, batches(images), strict=True))


@pytest.mark.parametrize("room", [0, 10_000])
def test_what_does_not_fit_in_memory_is_decoded_again(room: int, paths: list[Path]) -> None:
    expected = batches(Images(paths, SIZE, augment=True, pad=2))
    images = Images(paths, SIZE, augment=True, pad=2, cache_bytes=room)
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(expected, batches(images), strict=True))
    everything = Images(paths, SIZE, augment=True, pad=2)
    batches(everything)
    assert images.cached_bytes <= room
    assert images.cached_bytes < everything.cached_bytes
    assert bool(images.cached_bytes) == bool(room)


def test_a_broken_photo_is_named(paths: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(paths[0].read_bytes()[:200])
    images = Images([paths[0], broken], SIZE, augment=True)
    found = images.batches([torch.tensor([0]), torch.tensor([0]), torch.tensor([1, 0])], seeded())
    assert len(next(found)) == len(next(found)) == 1
    with pytest.raises(PhotoError, match=r"broken\.png"):
        next(found)


def test_no_batch_of_no_chunk(paths: list[Path]) -> None:
    assert list(Images(paths, SIZE, augment=True).batches([], seeded())) == []


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
