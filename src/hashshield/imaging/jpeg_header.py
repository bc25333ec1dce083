"""What a JPEG's headers say about how it is coded, and what is refused on their word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging import markers
from hashshield.imaging.markers import Segment
from hashshield.imaging.photo import check_size

__all__ = ["Header", "inspect"]

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
"""One block of 64 pixels costs a bit at least; fewer bytes than that cannot hold the picture."""

_BLOCKS = 10
"""Blocks of an MCU in a scan of several components, at most (T.81, B.2.3)."""

_SCAN_WORK = 4_000_000_000
"""Pixels x scans; a file of thousands of empty scans would keep a decoder busy for hours."""

# Zigzag position -> natural (row by row) position, T.81 figure 5.
_NATURAL = np.array(sorted(range(64), key=lambda i: (s := i // 8 + i % 8, (i // 8 if s % 2 else i % 8))))


@dataclass(frozen=True, slots=True)
class Header:
    """How a file is coded."""

    segments: tuple[Segment, ...]
    colour: str
    """'grey', 'ycc' or 'rgb'."""
    ids: tuple[int, ...]
    """Name of each component."""
    factors: tuple[tuple[int, int], ...]
    """(horizontal, vertical) sampling factors per component."""
    tables: tuple[tuple[int, ...], ...]
    """Quantisation table per component, 64 steps in natural order."""
    restart: int
    """MCUs between restart markers, 0 for none."""

    @property
    def progressive(self) -> bool:
        """Whether the frame is progressive."""
        return any(s.marker == _PROGRESSIVE for s in self.segments)

    @property
    def scans(self) -> int:
        """How many scans the picture has."""
        return sum(s.marker == markers.SOS for s in self.segments)


def inspect(segments: Sequence[Segment], *, name: str) -> Header:
    """Read the headers; raises UnsupportedError and BrokenPhotoError."""
    frames = [s for s in segments if s.marker in markers.SOF]
    if any(s.marker == 0xF7 for s in segments):
        raise _unsupported(name, "JPEG-LS")
    if len(frames) > 1:
        raise _unsupported(name, "JPEG with several frames (hierarchical)")
    if not frames or not any(s.marker == markers.SOS for s in segments):
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
    if height == 0 or any(s.marker == markers.DNL for s in segments):
        raise _unsupported(name, "JPEG that tells its height at the end (DNL)")
    if body[5] == 4:
        raise _unsupported(name, "CMYK JPEG", "convert it to RGB first")
    if body[5] not in (1, 3):
        raise _unsupported(name, f"JPEG of {body[5]} components")
    check_size(width, height, name=name)
    scans = [s for s in segments if s.marker == markers.SOS]
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
    return Header(
        segments=tuple(segments),
        ids=tuple(c[0] for c in components),
        colour=_colour(segments, tuple(c[0] for c in components)),
        factors=tuple(c[1] for c in components),
        tables=_tables(segments, components, name=name),
        restart=next((int.from_bytes(s.payload[:2], "big") for s in segments if s.marker == markers.DRI), 0),
    )


def _check_factors(factors: list[tuple[int, int]], *, name: str) -> None:
    """Refuse what no decoder reads: factors outside 1 to 4 (T.81, B.2.2), and components that are not whole parts."""
    for axis in (0, 1):
        sides = [f[axis] for f in factors]
        if not all(1 <= side <= 4 for side in sides):
            raise BrokenPhotoError(f"{name}: the JPEG has a sampling factor outside 1 to 4; get the file again")
        if any(max(sides) % side for side in sides):
            spelled = ",".join(f"{across}x{down}" for across, down in factors)
            raise _unsupported(name, f"JPEG of sampling {spelled} (one component is no whole part of another)")


def _colour(segments: Sequence[Segment], ids: tuple[int, ...]) -> str:
    """Decide as libjpeg does (jdapimin.c): JFIF, then Adobe's transform, then component names."""
    if len(ids) == 1:
        return "grey"
    header = segments[: next(i for i, s in enumerate(segments) if s.marker == markers.SOS)]
    if any(s.marker == 0xE0 and s.payload.startswith(b"JFIF\0") and len(s.payload) >= 14 for s in header):
        return "ycc"
    adobe = [s for s in header if s.marker == 0xEE and s.payload.startswith(b"Adobe") and len(s.payload) >= 12]
    if adobe:
        return "rgb" if adobe[-1].payload[11] == 0 else "ycc"
    return "rgb" if ids == (82, 71, 66) else "ycc"


def _tables(
    segments: Sequence[Segment], components: list[tuple[int, tuple[int, int], int]], *, name: str
) -> tuple[tuple[int, ...], ...]:
    """Return each component's table: the one in force when its first scan starts (T.81, B.2.4.1)."""
    slots: dict[int, tuple[int, ...]] = {}
    latched: dict[int, tuple[int, ...]] = {}
    for s in segments:
        if s.marker == markers.DQT:
            _define_tables(s.payload, slots, name=name)
        elif s.marker == markers.SOS and s.payload:
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


def _unsupported(name: str, what: str, cure: str = "save it as plain JPEG or PNG first") -> UnsupportedError:
    return UnsupportedError(f"{name}: {what} is not supported; {cure}")
