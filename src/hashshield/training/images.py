"""Photos as training reads them: features computed once, augmented batches decoded ahead of the network, and edits.

A copy detector must find a photo again after these random edits. They are those of SSCD (Pizzi et al. 2022, section
4.1) and of people who publish a photo again: crops, mirroring, slight rotation, filters, blur, text, stickers, frames,
screenshots, mixtures and re-encoding. An edit takes a photo, a second photo (used by some) and a generator, and returns
RGB of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.checkpoints.card import InputSpec
from hashshield.imaging.coders import decode
from hashshield.models.hashing import HashNet, displayed_rgb, view_batches
from hashshield.transforms import pillow_view, resized, short_side, to_image

__all__ = ["EDITS", "Images", "edited", "view_features"]

_CACHE_BYTES = 2**30


@torch.no_grad()
def view_features(network: HashNet, paths: Sequence[Path], size: InputSpec, *, device: str) -> Tensor:
    """Return the (N, D) features of the card's view of each file, on the CPU. Raises PhotoError."""
    network = network.eval()
    batches = view_batches(paths, lambda pixels: pillow_view(pixels, size))
    return torch.cat([network.features(images.to(device)).cpu() for images in batches])


class Images:
    """The photos of a stage, as augmented batches; each is decoded once, as long as the cache has room."""

    def __init__(
        self, paths: Sequence[Path], size: InputSpec, *, augment: bool, pad: int = 0, cache_bytes: int = _CACHE_BYTES
    ) -> None:
        self._paths, self._size, self._augment, self._pad = paths, size, augment, pad
        self._cache: dict[int, Pixels] = {}
        self._cache_bytes = cache_bytes
        self.cached_bytes = 0
        """Bytes of the decoded photos in the cache, at most `cache_bytes`."""

    def batches(self, chunks: Sequence[Tensor], generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one (N, 3, crop, crop) batch in [0, 1] per chunk of indices, in order, one chunk decoded ahead.

        To augment, `pad` pixels are reflected around the resized photo, and a random crop and a horizontal flip are
        drawn from `generator`. Raises PhotoError.
        """
        draws = [torch.rand((len(chunk), 3), generator=generator).numpy() for chunk in chunks]

        def load(chunk: Tensor, draw: NDArray[np.float32]) -> Tensor:
            return torch.stack([self._image(int(i), row) for i, row in zip(chunk, draw, strict=True)])

        with ThreadPoolExecutor(1) as pool:
            pending = [pool.submit(load, chunk, draw) for chunk, draw in zip(chunks[:2], draws[:2], strict=True)]
            for index in range(len(chunks)):
                batch = pending.pop(0).result()
                if index + 2 < len(chunks):
                    pending.append(pool.submit(load, chunks[index + 2], draws[index + 2]))
                yield batch

    def _image(self, index: int, draw: NDArray[np.float32]) -> Tensor:
        """Return one (3, crop, crop) image in [0, 1]; `draw` has row, column and flip, each in [0, 1)."""
        small = self._small(index)
        if not self._augment:
            return pillow_view(small, self._size)
        if self._pad:
            small = np.pad(small, ((self._pad, self._pad), (self._pad, self._pad), (0, 0)), mode="reflect")
        y, x, flip = map(float, draw)
        top = int(y * (small.shape[0] - self._size.crop + 1))
        left = int(x * (small.shape[1] - self._size.crop + 1))
        crop = small[top : top + self._size.crop, left : left + self._size.crop]
        return to_image(crop[:, ::-1] if flip < 0.5 else crop)

    def _small(self, index: int) -> Pixels:
        """Return the photo with its short side at the card's size, from the cache if it is there."""
        small = self._cache.get(index)
        if small is None:
            path = self._paths[index]
            pixels = displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
            small = resized(pixels, *short_side(pixels.shape[0], pixels.shape[1], self._size.resize))
            if self.cached_bytes + small.nbytes <= self._cache_bytes:
                self._cache[index] = small
                self.cached_bytes += small.nbytes
        return small


Edit = Callable[[Image.Image, Image.Image, np.random.Generator], Image.Image]

_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789     !?"))
_SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
_SMALLEST = 16
"""Least side, in pixels, that an edit leaves."""


def edited(pixels: Pixels, other: Pixels, random: np.random.Generator, *, strength: float) -> Image.Image:
    """Return a randomly edited copy of (H, W, 3) `pixels`; `other` is the photo that overlays and mixtures use.

    Each edit is applied with its probability in `EDITS` times `strength`, independently, in the order of `EDITS`.
    """
    image, second = Image.fromarray(pixels), Image.fromarray(other)
    for edit, probability in EDITS:
        if random.random() < probability * strength:
            image = edit(image, second, random)
    return image


def _crop(image: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Keep a rectangle of 30 to 95% of the area, the aspect within 3:4 and 4:3 of the photo's."""
    area, aspect = random.uniform(0.3, 0.95), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    width = min(image.width, max(_SMALLEST, round(image.width * (area * aspect) ** 0.5)))
    height = min(image.height, max(_SMALLEST, round(image.height * (area / aspect) ** 0.5)))
    left, top = random.integers(image.width - width + 1), random.integers(image.height - height + 1)
    return image.crop((int(left), int(top), int(left) + width, int(top) + height))


def _mirror(image: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


def _rotate(image: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Turn by at most 15 degrees; corners are filled with one colour, or lie outside."""
    angle = random.uniform(-15, 15)
    return image.rotate(angle, Image.Resampling.BILINEAR, expand=random.random() < 0.5, fillcolor=_colour(random))


def _filter(image: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Change brightness, contrast and saturation, and for every third photo the tint."""
    for enhancer, low, high in (
        (ImageEnhance.Brightness, 0.6, 1.5),
        (ImageEnhance.Contrast, 0.6, 1.6),
        (ImageEnhance.Color, 0.0, 2.0),
    ):
        image = enhancer(image).enhance(float(random.uniform(low, high)))
    kind = random.random()
    if kind < 0.1:
        return ImageOps.grayscale(image).convert("RGB")
    if kind < 0.35:
        share = random.uniform(0.3, 1.0)
        matrix = share * np.array(_SEPIA) + (1 - share) * np.eye(3)
        if kind > 0.15:
            matrix = np.diag(random.uniform(0.7, 1.2, 3)) + random.uniform(-0.1, 0.1, (3, 3))
        rows = np.concatenate([matrix, np.zeros((3, 1))], axis=1)
        return image.convert("RGB", tuple(float(value) for value in rows.ravel()))
    return ImageOps.posterize(image, int(random.integers(3, 6))) if kind > 0.95 else image


def _blur(image: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Blur, or reduce to as little as a quarter of the size and enlarge again."""
    if random.random() < 0.5:
        return image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.5, 3))))
    scale = random.uniform(0.25, 0.7)
    small = (max(_SMALLEST, int(image.width * scale)), max(_SMALLEST, int(image.height * scale)))
    return image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BILINEAR)


def _text(image: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Write one to three lines of letters across the photo, with an outline or on a bar."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    size = max(8, int(image.height * random.uniform(0.06, 0.18)))
    font, ink, edge = ImageFont.load_default(size), _colour(random), _colour(random)
    for _ in range(int(random.integers(1, 4))):
        words = "".join(random.choice(_LETTERS, int(random.integers(4, 25))))
        left, top = random.uniform(-0.1, 0.5) * image.width, random.uniform(0, 0.9) * image.height
        if random.random() < 0.3:
            draw.rectangle((0, top, image.width, top + 1.3 * size), fill=edge)
        draw.text((left, top), words, ink, font, stroke_width=int(random.integers(0, 3)), stroke_fill=edge)
    return image


def _sticker(image: Image.Image, other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Paste a part of the other photo, or a flat shape, of 5 to 25% of the area."""
    image = image.copy()
    scale = random.uniform(0.05, 0.25) ** 0.5
    width, height = max(4, int(image.width * scale)), max(4, int(image.height * scale))
    left, top = (int(random.uniform(0, 1 - scale) * side) for side in image.size)
    mask = Image.new("L", (width, height), 255)
    if random.random() < 0.5:
        mask = Image.new("L", (width, height), 0)
        ImageDraw.Draw(mask).ellipse((0, 0, width - 1, height - 1), fill=int(random.integers(150, 256)))
    flat = random.random() < 0.4
    part = Image.new("RGB", (width, height), _colour(random)) if flat else other.resize((width, height))
    image.paste(part, (left, top), mask)
    return image


def _mix(image: Image.Image, other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Blend with the other photo, which keeps 15 to 40%, or put both side by side."""
    if random.random() < 0.6:
        return Image.blend(image, other.resize(image.size), float(random.uniform(0.15, 0.4)))
    share = random.uniform(0.5, 0.75)
    wide = random.random() < 0.5
    first = image.resize((max(_SMALLEST, int(image.width * share)), image.height) if wide else image.size)
    rest = max(_SMALLEST, int((image.width if wide else image.height) * (1 - share)))
    second = other.resize((rest, image.height) if wide else (image.width, rest))
    whole = Image.new("RGB", (first.width + rest, first.height) if wide else (first.width, first.height + rest))
    at, after = (0, 0), (first.width, 0) if wide else (0, first.height)
    if random.random() < 0.5:
        at, after = ((rest, 0) if wide else (0, rest)), (0, 0)
    whole.paste(first, at)
    whole.paste(second, after)
    return whole


def _frame(image: Image.Image, other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Put the photo on a larger background: one colour, a gradient, the other photo or the photo, blurred or not."""
    width = int(image.width * random.uniform(1.05, 1.7))
    height = int(image.height * random.uniform(1.05, 1.7))
    kind = random.random()
    if kind < 0.5:
        ground = Image.new("RGB", (width, height), _colour(random))
    elif kind < 0.65:
        ends = random.integers(0, 256, (2, 2, 3)).astype(np.uint8)
        ground = Image.fromarray(ends).resize((width, height), Image.Resampling.BILINEAR)
    else:
        ground = (other if kind < 0.8 else image).resize((width, height), Image.Resampling.BILINEAR)
        if kind > 0.75:
            ground = ground.filter(ImageFilter.BoxBlur(6))
    return _pasted(ground, image, random.uniform(0.2, 0.8), random.uniform(0.2, 0.8))


def _screenshot(image: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Show the photo in a window: bars above and below with lines of text and buttons, margins at the sides."""
    light = random.random() < 0.5
    paper, ink = ((245, 245, 247), (40, 40, 40)) if light else ((22, 24, 28), (225, 225, 225))
    width = int(image.width * random.uniform(1.0, 1.25))
    above, below = (int(image.height * random.uniform(0.08, 0.45)) for _ in range(2))
    ground = Image.new("RGB", (width, image.height + above + below), paper)
    left = (width - image.width) // 2
    draw = ImageDraw.Draw(ground)
    for top, space in ((0, above), (above + image.height, below)):
        font = ImageFont.load_default(int(np.clip(space * 0.25, 8, 20)))
        for line in range(int(random.integers(1, 4))):
            at = (random.uniform(0.15, 0.4) * width, top + space * (0.05 + 0.3 * line))
            draw.text(at, "".join(random.choice(_LETTERS, int(random.integers(5, 30)))), ink, font)
        radius, middle = 0.2 * space, (0.08 * width, top + space / 2)
        draw.ellipse((middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius), _colour(random))
    ground.paste(image, (left, above))
    return ground


def _jpeg(image: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Encode as JPEG of quality 15 to 85."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=int(random.integers(15, 86)))
    return decode(JpegImageFile, buffer.getvalue(), name="JPEG")


def _pasted(ground: Image.Image, image: Image.Image, across: float, down: float) -> Image.Image:
    """Return `ground` with the image pasted on it; `across` and `down`, 0 to 1, place it from left or top to the other
    edge.
    """
    room = (ground.width - image.width, ground.height - image.height)
    ground.paste(image, (int(room[0] * across), int(room[1] * down)))
    return ground


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    """Return a colour: white, black, or any."""
    kind = random.random()
    if kind < 0.5:
        return (255, 255, 255) if kind < 0.25 else (0, 0, 0)
    drawn: NDArray[np.int64] = random.integers(0, 256, 3)
    return int(drawn[0]), int(drawn[1]), int(drawn[2])


EDITS: tuple[tuple[Edit, float], ...] = (
    (_crop, 0.5),
    (_mirror, 0.35),
    (_rotate, 0.25),
    (_filter, 0.5),
    (_mix, 0.12),
    (_sticker, 0.25),
    (_text, 0.3),
    (_frame, 0.25),
    (_screenshot, 0.2),
    (_blur, 0.25),
    (_jpeg, 0.5),
)
"""Every edit with its probability at strength 1, in the order in which they are applied."""
