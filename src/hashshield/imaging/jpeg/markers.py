"""JPEG files as lists of marker segments, and their headers (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging.metadata import MetadataBudget
from hashshield.imaging.photo import check_size

__all__ = [
    "APP0",
    "COM",
    "DHT",
    "DNL",
    "DQT",
    "DRI",
    "EOI",
    "SOF",
    "SOI",
    "SOS",
    "JpegHeader",
    "Segment",
    "is_metadata",
    "join",
    "read_header",
    "segment",
    "walk",
]

SOI, EOI, SOS, DQT, DHT, DNL, DRI, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDC, 0xDD, 0xFE
DAC, APP0, APP15 = 0xCC, 0xE0, 0xEF
SOF = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, DAC}
_AFTER_SCAN = frozenset({DHT, DAC, SOS, EOI, DQT, DNL, DRI, COM, *range(APP0, APP15 + 1)})

# In entropy-coded data FF is followed by 00 (a stuffed byte), a restart marker, or FF (fill before a marker).
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Segment:
    """One marker segment: its bytes without fill, followed by its entropy-coded data if it is an SOS."""

    marker: int
    data: bytes
    """From the FF of the marker to the end of the segment, and of its scan."""
    body: int
    """Offset in `data` of the entropy-coded data; for other segments than SOS, the length of `data`."""

    @property
    def payload(self) -> bytes:
        """The bytes after marker and length, up to the entropy-coded data."""
        return self.data[4 : self.body]

    @property
    def scan(self) -> bytes:
        """The entropy-coded data, empty for all but SOS."""
        return self.data[self.body :]


def is_metadata(marker: int) -> bool:
    """Return True for a marker that carries metadata (APPn or COM) rather than data that decoding needs."""
    return APP0 <= marker <= APP15 or marker == COM


def segment(marker: int, payload: bytes) -> Segment:
    """Return a segment with this payload, of at most 65,533 bytes."""
    data = bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload
    return Segment(marker, data, len(data))


def walk(data: bytes, *, name: str, budget: MetadataBudget | None = None) -> tuple[list[Segment], int]:
    """Split a JPEG into segments; return them, without SOI and EOI, and the offset just after EOI.

    Fill bytes and stray bytes between header segments are tolerated, because decoders skip them. Raises
    BrokenPhotoError for damage, such as a marker that cannot follow a scan, and UnsupportedError for more segments than
    a file may have.
    """
    position, segments, budget = 2, list[Segment](), budget or MetadataBudget(name)
    while True:
        budget.segments(1)
        # This skips fill bytes and, between headers, stray bytes, as decoders do.
        found = _MARKER.search(data, position)
        if found is None:
            raise _broken(name, "ends before its end marker")
        marker, start = found[1][0], found.start(1) - 1
        if segments and segments[-1].marker == SOS and marker not in _AFTER_SCAN:
            raise _broken(name, f"has a stray marker FF{marker:02X} inside its picture data, at byte {start}")
        if marker == EOI:
            return segments, start + 2
        if marker < 0xC0 or marker == SOI:
            raise _broken(name, f"has a marker FF{marker:02X} where no such marker can be, at byte {start}")
        body = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if body < start + 4 or body > len(data):
            raise _broken(name, f"has a segment FF{marker:02X} at byte {start} that runs past the end of the file")
        end = body
        if marker == SOS:
            following = _MARKER.search(data, body)
            if following is None:
                raise _broken(name, "ends inside its picture data")
            end = following.start()
        segments.append(Segment(marker, data[start:end], body - start))
        position = end


def join(segments: Iterable[Segment], *, fill: int = 0) -> bytes:
    """Return a JPEG of these segments between SOI and EOI, with `fill` fill bytes before EOI (T.81, B.1.1.2)."""
    return b"".join((b"\xff\xd8", *(s.data for s in segments), b"\xff" * fill, b"\xff\xd9"))


def _broken(name: str, problem: str) -> BrokenPhotoError:
    return BrokenPhotoError(f"{name}: the JPEG {problem}; get the file again from its source")


_KINDS = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded",
    0xCB: "lossless",
    0xCD: "hierarchical",
    0xCE: "hierarchical",
    0xCF: "hierarchical",
}
_PROGRESSIVE = 0xC2
_PIXELS_PER_BYTE = 512
"""Most pixels per byte of picture data: a block of 64 pixels takes at least one bit."""
_BLOCKS = 10
"""Most blocks of an MCU in a scan of several components (T.81, B.2.3)."""
_SCAN_WORK = 4_000_000_000
"""Largest product of pixels and scans; a file with thousands of empty scans would take hours to decode."""

# Zigzag position -> natural (row by row) position, T.81 figure 5.
_NATURAL = np.array(sorted(range(64), key=lambda i: (s := i // 8 + i % 8, (i // 8 if s % 2 else i % 8))))


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The headers that define how a file is coded."""

    segments: tuple[Segment, ...]
    colour: str
    """'grey', 'ycc' or 'rgb'."""
    ids: tuple[int, ...]
    """Identifier of each component."""
    factors: tuple[tuple[int, int], ...]
    """(horizontal, vertical) sampling factors per component."""
    tables: tuple[tuple[int, ...], ...]
    """Quantisation table per component, 64 steps in natural order."""
    restart: int
    """MCUs between restart markers, 0 for none."""

    @property
    def progressive(self) -> bool:
        """True if the frame is progressive."""
        return any(s.marker == _PROGRESSIVE for s in self.segments)

    @property
    def scans(self) -> int:
        """Number of scans of the picture."""
        return sum(s.marker == SOS for s in self.segments)


def read_header(segments: Sequence[Segment], *, name: str) -> JpegHeader:
    """Return the headers of a file. Raises UnsupportedError for unsupported codings, BrokenPhotoError for damage."""
    frames = [s for s in segments if s.marker in SOF]
    if any(s.marker == 0xF7 for s in segments):
        raise _unsupported(name, "JPEG-LS")
    if len(frames) > 1:
        raise _unsupported(name, "JPEG with several frames (hierarchical)")
    if not frames or not any(s.marker == SOS for s in segments):
        raise BrokenPhotoError(f"{name}: the JPEG has no picture in it; get the file again from its source")
    frame = frames[0]
    if frame.marker in _KINDS:
        raise _unsupported(name, f"{_KINDS[frame.marker]} JPEG")
    body = frame.payload
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise BrokenPhotoError(f"{name}: the JPEG's frame header has a wrong length; get the file again")
    if body[0] != 8:
        raise _unsupported(name, f"JPEG of {body[0]} bits per sample")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if height == 0 or any(s.marker == DNL for s in segments):
        raise _unsupported(name, "JPEG that states its height at the end (DNL)")
    if body[5] == 4:
        raise _unsupported(name, "CMYK JPEG", "convert it to RGB first")
    if body[5] not in (1, 3):
        raise _unsupported(name, f"JPEG of {body[5]} components")
    check_size(width, height, name=name)
    scans = [s for s in segments if s.marker == SOS]
    if width * height > _PIXELS_PER_BYTE * sum(len(s.scan) for s in scans):
        raise BrokenPhotoError(
            f"{name}: the JPEG claims {width}x{height} pixels and holds too few bytes for them; get the file again"
        )
    if width * height * len(scans) > _SCAN_WORK:
        raise UnsupportedError(f"{name}: {len(scans)} scans are more than a photo has; save it again as plain JPEG")
    components = [(body[i], (body[i + 1] >> 4, body[i + 1] & 15), body[i + 2]) for i in range(6, len(body), 3)]
    _check_factors([c[1] for c in components], name=name)
    blocks = {identity: across * down for identity, (across, down), _ in components}
    for s in scans:
        held = s.payload[1 : 1 + 2 * s.payload[0] : 2] if s.payload else b""
        if len(held) > 1 and sum(blocks.get(identity, 0) for identity in held) > _BLOCKS:
            raise BrokenPhotoError(
                f"{name}: the JPEG has a scan of more than {_BLOCKS} blocks per MCU; get the file again"
            )
    return JpegHeader(
        segments=tuple(segments),
        ids=tuple(c[0] for c in components),
        colour=_colour(segments, tuple(c[0] for c in components)),
        factors=tuple(c[1] for c in components),
        tables=_tables(segments, components, name=name),
        restart=next((int.from_bytes(s.payload[:2], "big") for s in segments if s.marker == DRI), 0),
    )


def _check_factors(factors: list[tuple[int, int]], *, name: str) -> None:
    """Raise for factors outside 1 to 4 (T.81, B.2.2), and for those of a component that do not divide the largest."""
    for axis in (0, 1):
        sides = [f[axis] for f in factors]
        if not all(1 <= side <= 4 for side in sides):
            raise BrokenPhotoError(f"{name}: the JPEG has a sampling factor outside 1 to 4; get the file again")
        if any(max(sides) % side for side in sides):
            spelled = ",".join(f"{across}x{down}" for across, down in factors)
            raise _unsupported(
                name, f"JPEG of sampling {spelled} (the factors of one component do not divide those of another)"
            )


def _colour(segments: Sequence[Segment], ids: tuple[int, ...]) -> str:
    """Return the colour space as libjpeg chooses it (jdapimin.c): by JFIF, Adobe's transform, then component names."""
    if len(ids) == 1:
        return "grey"
    header = segments[: next(i for i, s in enumerate(segments) if s.marker == SOS)]
    if any(s.marker == 0xE0 and s.payload.startswith(b"JFIF\0") and len(s.payload) >= 14 for s in header):
        return "ycc"
    adobe = [s for s in header if s.marker == 0xEE and s.payload.startswith(b"Adobe") and len(s.payload) >= 12]
    if adobe:
        return "rgb" if adobe[-1].payload[11] == 0 else "ycc"
    return "rgb" if ids == (82, 71, 66) else "ycc"


def _tables(
    segments: Sequence[Segment], components: list[tuple[int, tuple[int, int], int]], *, name: str
) -> tuple[tuple[int, ...], ...]:
    """Return each component's table: the one in force at the start of its first scan (T.81, B.2.4.1)."""
    slots: dict[int, tuple[int, ...]] = {}
    latched: dict[int, tuple[int, ...]] = {}
    for s in segments:
        if s.marker == DQT:
            _define_tables(s.payload, slots, name=name)
        elif s.marker == SOS and s.payload:
            present = s.payload[1 : 1 + 2 * s.payload[0] : 2]
            for identity, _, slot in components:
                if identity in present and identity not in latched and slot in slots:
                    latched[identity] = slots[slot]
    if len({c[0] for c in components} & latched.keys()) != len(components):
        raise BrokenPhotoError(f"{name}: the JPEG lacks a scan or a quantisation table; get the file again")
    return tuple(latched[c[0]] for c in components)


def _define_tables(payload: bytes, slots: dict[int, tuple[int, ...]], *, name: str) -> None:
    position = 0
    while position < len(payload):
        wide, slot = payload[position] >> 4, payload[position] & 15
        size = 128 if wide else 64
        held = payload[position + 1 : position + 1 + size]
        steps = np.frombuffer(held.ljust(size, b"\0"), dtype=">u2" if wide else "u1")
        if not steps.all():
            raise BrokenPhotoError(f"{name}: the JPEG has a damaged quantisation table; get the file again")
        natural = np.empty(64, dtype=np.int64)
        natural[_NATURAL] = steps
        slots[slot] = tuple(natural.tolist())
        position += 1 + size


def _unsupported(name: str, coding: str, remedy: str = "save it as plain JPEG or PNG first") -> UnsupportedError:
    return UnsupportedError(f"{name}: {coding} is not supported; {remedy}")
