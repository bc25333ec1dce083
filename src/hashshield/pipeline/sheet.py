"""A contact sheet: what two searches show, one strip each, the photo that was searched with first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from hashshield import imaging
from hashshield.errors import UsageError
from hashshield.imaging.formats import read_photo_file
from hashshield.models.hash_files import displayed_rgb

__all__ = ["Match", "SheetRow", "contact_sheet", "sheet_kind"]

_KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_TILE, _GAP, _LINE, _TEXT = 160, 12, 20, 13
_PAPER, _INK, _QUERY, _MATCH = "white", "black", "royalblue", "crimson"


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """One photo of a search's result."""

    name: str
    distance: int
    """Bits from the photo that was searched with."""
    image: Image.Image | Path
    is_query: bool = False
    """Whether it is the other one of original and protected photo: the one that should not be here."""


@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    """One search."""

    title: str
    query: Image.Image
    matches: Sequence[Match]
    """Nearest first."""


def sheet_kind(path: Path) -> str:
    """Pillow's name of the format that a sheet's file name asks for. Raises UsageError."""
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"--sheet {path}: is to be a JPEG or PNG file; let its name end with .jpg or .png")
    return kind


def contact_sheet(strips: Sequence[SheetRow], *, kind: str) -> bytes:
    """The strips below each other, encoded. Raises PhotoError for a photo that is gone since it was found."""
    columns = 1 + max(len(strip.matches) for strip in strips)
    height = _LINE + _TILE + 2 * _LINE + 2 * _GAP
    sheet = Image.new("RGB", (columns * (_TILE + _GAP) + 2 * _GAP, len(strips) * height + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for number, strip in enumerate(strips):
        top = number * height + _GAP
        draw.text((_GAP, top), _printable(strip.title), _INK, font)
        _tile(sheet, draw, font, _GAP, top + _LINE, strip.query, _QUERY, ["searched with"])
        for place, found in enumerate(strip.matches):
            left = 2 * _GAP + (place + 1) * (_TILE + _GAP)
            image = _opened(found.image) if isinstance(found.image, Path) else found.image
            words = [f"{place + 1}: {found.distance} bits", found.name]
            _tile(sheet, draw, font, left, top + _LINE, image, _MATCH if found.is_query else None, words)
    buffer = BytesIO()
    sheet.save(buffer, kind, quality=90)
    return buffer.getvalue()


def _tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    left: int,
    top: int,
    image: Image.Image,
    frame: str | None,
    words: Sequence[str],
) -> None:
    small = image.copy()
    small.thumbnail((_TILE, _TILE))
    x, y = left + (_TILE - small.width) // 2, top + (_TILE - small.height) // 2
    sheet.paste(small, (x, y))
    if frame is not None:
        draw.rectangle((x - 3, y - 3, x + small.width + 2, y + small.height + 2), outline=frame, width=3)
    for number, text in enumerate(words):
        draw.text((left, top + _TILE + 4 + number * _LINE), _fitting(text, font), frame or _INK, font)


def _fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    text = _printable(text)
    while font.getlength(text) > _TILE:
        text = text[:-2] + "~"
    return text


def _printable(text: str) -> str:
    """File names may hold line breaks and what no font can draw."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _opened(path: Path) -> Image.Image:
    photo = imaging.read(read_photo_file(path, follow=True).data, name=str(path))
    return Image.fromarray(displayed_rgb(photo))
