"""JPEG files as a list of marker segments (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hashshield.errors import BrokenPhotoError
from hashshield.imaging.budget import MetadataBudget

__all__ = [
    "COM",
    "DHT",
    "DNL",
    "DQT",
    "DRI",
    "EOI",
    "SOF",
    "SOI",
    "SOS",
    "Segment",
    "is_metadata",
    "join",
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
    """One marker segment: its bytes, without fill, and the entropy-coded data that follows when it is an SOS."""

    marker: int
    data: bytes
    """From the FF of the marker to the end of the segment, and of its scan."""
    body: int
    """Where the scan's entropy-coded data begins in `data`; its length for every other segment."""

    @property
    def payload(self) -> bytes:
        """What follows marker and length, up to the entropy-coded data."""
        return self.data[4 : self.body]

    @property
    def scan(self) -> bytes:
        """The entropy-coded data, empty for all but SOS."""
        return self.data[self.body :]


def is_metadata(marker: int) -> bool:
    """Tell whether a marker carries metadata (APPn or COM) rather than what decoding needs."""
    return APP0 <= marker <= APP15 or marker == COM


def segment(marker: int, payload: bytes) -> Segment:
    """Build a segment from at most 65,533 bytes of payload."""
    data = bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload
    return Segment(marker, data, len(data))


def walk(data: bytes, *, name: str, budget: MetadataBudget | None = None) -> tuple[list[Segment], int]:
    """Split a JPEG into its segments, SOI and EOI left out, and the offset just after EOI.

    Fill bytes and stray bytes between header segments are tolerated (decoders skip them); a marker that cannot follow a
    scan is damage. Raises BrokenPhotoError, UnsupportedError for more segments than a file may have.
    """
    position, segments, budget = 2, list[Segment](), budget or MetadataBudget(name)
    while True:
        budget.segments(1)
        # Skips fill bytes, and in headers stray bytes too, as decoders do.
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
    """Put segments between SOI and EOI, with `fill` fill bytes before EOI (T.81, B.1.1.2)."""
    return b"".join((b"\xff\xd8", *(s.data for s in segments), b"\xff" * fill, b"\xff\xd9"))


def _broken(name: str, what: str) -> BrokenPhotoError:
    return BrokenPhotoError(f"{name}: the JPEG {what}; get the file again from its source")
