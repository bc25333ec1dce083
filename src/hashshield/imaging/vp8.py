"""The quality a lossy WebP was made with, read from its frame header (RFC 6386, sections 7, 9.3 and 9.6)."""

from __future__ import annotations

__all__ = ["quality"]

_LARGEST_INDEX = 127
_SEGMENTS = 4


class _BoolDecoder:
    """The arithmetic decoder of RFC 6386, section 7; reads zeros past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 2
        self.value = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
        self.range = 255
        self.shifts = 0

    def bit(self) -> int:
        """Read one bit of even odds."""
        split = 1 + ((self.range - 1) * 128 >> 8)
        found = self.value >= split << 8
        if found:
            self.range -= split
            self.value -= split << 8
        else:
            self.range = split
        while self.range < 128:
            self.value <<= 1
            self.range <<= 1
            self.shifts += 1
            if self.shifts == 8:
                self.shifts = 0
                self.value |= self.data[self.position] if self.position < len(self.data) else 0
                self.position += 1
        return int(found)

    def number(self, bits: int) -> int:
        """Read an unsigned number, high bit first."""
        value = 0
        for _ in range(bits):
            value = value << 1 | self.bit()
        return value

    def optional(self, bits: int) -> int:
        """Read a flag and, if it is set, a magnitude and a sign; 0 otherwise."""
        if not self.bit():
            return 0
        value = self.number(bits)
        return -value if self.bit() else value


def quality(frame: bytes) -> float:
    """Estimate libwebp's quality setting (0 to 100) from a VP8 key frame.

    libwebp turns quality into a quantiser index of 127 (1 - c), with c the cube root of a piecewise linear function of
    quality; this undoes it for the finest of the segments, so that none of them comes out coarser than it was.
    """
    bits = _BoolDecoder(frame[10:])
    bits.number(2)
    updates = [0] * _SEGMENTS
    absolute = segmented = False
    if bits.bit():
        maps = bits.bit()
        if bits.bit():
            segmented, absolute = True, bool(bits.bit())
            updates = [bits.optional(7) for _ in range(_SEGMENTS)]
            for _ in range(_SEGMENTS):
                bits.optional(6)
        if maps:
            for _ in range(3):
                if bits.bit():
                    bits.number(8)
    bits.number(10)
    if bits.bit() and bits.bit():
        for _ in range(8):
            bits.optional(6)
    bits.number(2)
    base = bits.number(7)
    indices = [update if absolute else base + update for update in updates] if segmented else [base]
    index = min(max(min(indices), 0), _LARGEST_INDEX)
    linear = (1 - index / _LARGEST_INDEX) ** 3
    return 100 * (linear * 1.5 if linear < 0.5 else (linear + 1) / 2)
