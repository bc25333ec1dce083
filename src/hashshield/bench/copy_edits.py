"""The ten edits of `bench copies`, at fixed strengths: what people do to photos that they publish again.

They are written apart from those of training, which a network that learnt from its own edits would find too easily.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from hashshield.arrays import Pixels
from hashshield.imaging.coders import decode

__all__ = ["COPY_EDITS", "RE_ENCODED", "CopyEdit"]

CopyEdit = Callable[[Image.Image, Image.Image, np.random.Generator], Image.Image]
"""RGB photo, another photo, randomness -> the edited photo, of any size."""

RE_ENCODED = "jpeg"
"""The edit that only encodes anew, which classical hashes are made for."""
_QUALITY = 30
_WARM = np.array(((1.10, 0.12, -0.04), (0.02, 0.98, 0.02), (-0.06, 0.10, 0.78)))
"""Rows give red, green and blue of a warm filter."""
_WORDS = ("when you see it", "NOBODY:", "follow for more", "best day ever", "monday mood")


def _crop(photo: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Keep 70% of each side, half of the area, at a random place."""
    width, height = round(0.7 * photo.width), round(0.7 * photo.height)
    left = int(random.integers(photo.width - width + 1))
    top = int(random.integers(photo.height - height + 1))
    return photo.crop((left, top, left + width, top + height))


def _mirrored(photo: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(photo)


def _rotated(photo: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Turn by 8 degrees to either side, the corners black."""
    return photo.rotate(8 if random.random() < 0.5 else -8, Image.Resampling.BICUBIC)


def _filtered(photo: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    """Apply a warm tint, more contrast, lifted shadows and a dark rim, as photo applications do."""
    pixels = np.asarray(photo, np.float32) / 255
    pixels = np.clip(pixels @ _WARM.T.astype(np.float32), 0, 1)
    pixels = 0.08 + 0.92 * pixels**1.2 * (1.5 - 0.5 * pixels)
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in pixels.shape[:2])
    rim = 1 - 0.35 * np.clip(rows[:, None] ** 2 + columns[None] ** 2 - 0.4, 0, 1)
    found: Pixels = np.clip(np.rint(255 * pixels * rim[..., None]), 0, 255).astype(np.uint8)
    return Image.fromarray(found)


def _blurred(photo: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    """Blur with a sigma of a hundredth of the long side."""
    return photo.filter(ImageFilter.GaussianBlur(max(photo.size) / 100))


def _texted(photo: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Write two lines across it, above and below, white with a black edge, a sixth of the height each."""
    photo = photo.copy()
    draw, size = ImageDraw.Draw(photo), max(10, photo.height // 6)
    font = ImageFont.load_default(size)
    for top in (0.02, 0.78):
        words = _WORDS[int(random.integers(len(_WORDS)))]
        at = (photo.width / 2, top * photo.height)
        draw.text(at, words, "white", font, anchor="ma", stroke_width=max(1, size // 14), stroke_fill="black")
    return photo


def _covered(photo: Image.Image, other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Paste another photo on it, two fifths of each side, at a random place."""
    photo = photo.copy()
    size = round(0.4 * photo.width), round(0.4 * photo.height)
    at = (int(random.integers(photo.width - size[0] + 1)), int(random.integers(photo.height - size[1] + 1)))
    photo.paste(other.resize(size, Image.Resampling.BILINEAR), at)
    return photo


def _framed(photo: Image.Image, other: Image.Image, _random: np.random.Generator) -> Image.Image:
    """Hang it in a white frame with a brown edge in the middle of another photo; it is 70% of each side."""
    border = max(2, min(photo.size) // 25)
    picture = ImageOps.expand(ImageOps.expand(photo, border, "white"), max(1, border // 2), "saddlebrown")
    wall = other.resize((round(photo.width / 0.7), round(photo.height / 0.7)), Image.Resampling.BILINEAR)
    wall.paste(picture, ((wall.width - picture.width) // 2, (wall.height - picture.height) // 2))
    return wall


def _screenshot(photo: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Show it in a phone's portrait screen: a status line, a name with its picture, buttons and lines of text."""
    width = photo.width
    height = max(round(1.4 * width), photo.height + round(0.5 * width))
    dark = random.random() < 0.5
    paper, ink = ("#101014", "#e8e8ea") if dark else ("#ffffff", "#18181c")
    screen = Image.new("RGB", (width, height), paper)
    draw, unit = ImageDraw.Draw(screen), width / 100
    font = ImageFont.load_default(max(8, round(4 * unit)))
    draw.text((4 * unit, 1.5 * unit), "12:04", ink, font)
    draw.ellipse((4 * unit, 9 * unit, 14 * unit, 19 * unit), fill="#c04080")
    draw.text((18 * unit, 11 * unit), "someone_else", ink, font)
    top = round(23 * unit)
    screen.paste(photo, (0, top))
    below = top + photo.height + 3 * unit
    for place in (4, 16, 28):
        draw.rectangle((place * unit, below, (place + 8) * unit, below + 8 * unit), outline=ink, width=2)
    for line, words in enumerate(("1,204 likes", "look what I found today", "view all 18 comments")):
        draw.text((4 * unit, below + (11 + 6 * line) * unit), words, ink, font)
    return screen


def _encoded(photo: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    buffer = BytesIO()
    photo.save(buffer, "JPEG", quality=_QUALITY)
    return decode(JpegImageFile, buffer.getvalue(), name="JPEG")


COPY_EDITS: dict[str, CopyEdit] = {
    "crop": _crop,
    "mirrored": _mirrored,
    "rotated": _rotated,
    "filter": _filtered,
    "blur": _blurred,
    "text": _texted,
    "picture": _covered,
    "frame": _framed,
    "screenshot": _screenshot,
    RE_ENCODED: _encoded,
}
"""By name, in the order of tables."""
