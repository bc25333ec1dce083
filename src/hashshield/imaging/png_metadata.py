"""A PNG's metadata chunks: EXIF, XMP and the text forms older writers use for them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from hashshield.imaging import blocks, metadata
from hashshield.imaging.budget import MetadataBudget
from hashshield.imaging.metadata import Findings
from hashshield.imaging.photo import Strip
from hashshield.imaging.png_chunks import Chunk, chunk

__all__ = ["Text", "exif_block", "rewrite", "survey", "texts", "xmp_packet"]

_TEXT_LIMIT = 1 << 20
"""Bytes of one inflated text chunk, as much as Pillow accepts."""

_XMP = b"XML:com.adobe.xmp"
_PROFILES = (b"Raw profile type exif", b"Raw profile type APP1")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")

_NEEDED = frozenset(
    {
        b"IEND",
        b"PLTE",
        b"tRNS",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"cICP",
        b"sBIT",
        b"mDCV",
        b"cLLI",
        b"bKGD",
        b"pHYs",
    }
)
"""Chunks that say how pixels are to be shown: `Strip.metadata` keeps them."""

_OWNER_KEYWORDS = (b"Author", b"Copyright")


@dataclass(frozen=True, slots=True)
class Text:
    """A text chunk taken apart; `head` is all that stands before the value."""

    kind: bytes
    keyword: bytes
    head: bytes
    value: bytes
    compressed: bool

    def with_value(self, value: bytes) -> Chunk:
        """Build the chunk with another value."""
        return chunk(self.kind, self.head + (zlib.compress(value) if self.compressed else value))


def texts(found: Sequence[Chunk], budget: MetadataBudget) -> list[Text | None]:
    """Take each text chunk apart, in the chunks' order; None for other chunks, damaged and overlong ones.

    Raises UnsupportedError when they unpack to more than a file may hold.
    """
    return [_text(item, budget) for item in found]


def _text(item: Chunk, budget: MetadataBudget) -> Text | None:
    if item.kind not in _TEXT:
        return None
    payload = item.payload
    keyword, found, rest = payload.partition(b"\0")
    compressed = item.kind == b"zTXt"
    if item.kind == b"zTXt":
        rest = rest[1:]
    elif item.kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        parts = rest[2:].split(b"\0", 2)
        if len(parts) != 3:
            return None
        rest = parts[2]
    head = payload[: len(payload) - len(rest)]
    if not found:
        return None
    if compressed:
        inflate = zlib.decompressobj()
        try:
            rest = inflate.decompress(rest, _TEXT_LIMIT)
        except zlib.error:
            return None
        budget.inflated(len(rest))
        if not inflate.eof:
            return None
    return Text(item.kind, keyword, head, rest, compressed)


def exif_block(found: Sequence[Chunk], held_texts: Sequence[Text | None]) -> bytes | None:
    """Return the EXIF block a viewer reads: eXIf, or else the text profile."""
    held = [item.payload for item in found if item.kind == b"eXIf"]
    if held:
        return held[-1]
    for text in held_texts:
        if text and text.keyword == _PROFILES[0]:
            return _profile(text.value)
    return None


def xmp_packet(held_texts: Sequence[Text | None]) -> bytes | None:
    """Return the XMP packet, the last one if there are several."""
    return next((text.value for text in reversed(held_texts) if text and text.keyword == _XMP), None)


def _profile(value: bytes) -> bytes | None:
    """Decode the text form of a block: name, length, hexadecimal lines; None when damaged."""
    try:
        return bytes.fromhex(b"".join(value.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None


def _with_profile(value: bytes, block: bytes) -> bytes:
    """Put a block of the same length into the text form, line breaks where they were."""
    lines = value.split(b"\n")
    digits = block.hex().encode("ascii")
    out, position = lines[:3], 0
    for line in lines[3:]:
        size = len(line.strip())
        out.append(line.replace(line.strip(), digits[position : position + size]))
        position += size
    return b"\n".join(out)


def survey(
    found: Sequence[Chunk], held_texts: Sequence[Text | None], photo: Image.Image, budget: MetadataBudget
) -> Findings:
    """Look through all metadata; spots belong to the last eXIf chunk, the one that `exif_block` returns.

    Raises UnsupportedError when that goes beyond the file's budget.
    """
    told = Findings()
    for item, text in zip(found, held_texts, strict=True):
        if item.kind == b"eXIf":
            part = blocks.inspect_exif(item.payload, photo, budget)
            if told.spots or told.leftovers:
                told.copies.append("thumbnail in a second EXIF chunk")
            told.spots, told.leftovers = part.spots, part.leftovers
            told.add(part)
        elif item.kind == b"caBX":
            told.links.append(metadata.C2PA)
        if text:
            told.add(_inspect_text(text, photo, budget))
        elif _packed(item):
            told.copies.append("compressed text that cannot be read")
    return told


def _packed(item: Chunk) -> bool:
    return item.kind == b"zTXt" or (item.kind == b"iTXt" and item.payload.partition(b"\0")[2][:1] == b"\1")


def _inspect_text(text: Text, photo: Image.Image, budget: MetadataBudget) -> Findings:
    if text.keyword == _XMP:
        return metadata.inspect_xmp(text.value)
    if text.keyword in _PROFILES:
        part = blocks.inspect_exif(_profile(text.value) or b"", photo, budget)
        # A picture in hexadecimal is not re-made; stripping copies drops the chunk.
        copies = ["EXIF thumbnail in a text chunk"] if part.spots or part.leftovers else []
        return Findings(copies=copies, links=part.links)
    return Findings(links=["owner name"] if text.keyword in _OWNER_KEYWORDS else [])


def rewrite(item: Chunk, found: Findings, photo: Image.Image, what: Strip) -> list[Chunk]:
    """Return what becomes of one chunk that is neither header nor image data: itself, another, or nothing."""
    if what.metadata:
        return [item] if item.kind in _NEEDED else []
    if item.kind == b"eXIf":
        block = blocks.rewrite_exif(item.payload, found, photo, what)
        return [item] if block == item.payload else [chunk(b"eXIf", block)]
    # What was read once is within the budget of a file.
    text = _text(item, MetadataBudget("PNG")) if what.gps or what.copies else None
    if text and text.keyword == _XMP:
        value = blocks.rewrite_xmp(text.value, what)
        return [item] if value == text.value else [text.with_value(value)]
    if text and text.keyword in _PROFILES:
        return _rewrite_profile(item, text, photo, what)
    # What cannot be read may hold anything.
    return [] if text is None and (what.gps or what.copies) and _packed(item) else [item]


def _rewrite_profile(item: Chunk, text: Text, photo: Image.Image, what: Strip) -> list[Chunk]:
    block = _profile(text.value)
    if block is None:
        return [item]
    if what.copies and _inspect_text(text, photo, MetadataBudget("PNG")).copies:
        return []
    after = blocks.rewrite_exif(block, Findings(), photo, what)
    return [item] if after == block else [text.with_value(_with_profile(text.value, after))]
