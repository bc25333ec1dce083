"""Damaged and hostile variants of image files, from a seed."""

from __future__ import annotations

import random

INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\xff\xd8\xff",
    b"\xff\xd9",
    b"\xff\xda",
)


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Flip bits, cut, repeat, swap or overwrite, one to four times, at the head more often than elsewhere."""
    for _ in range(generator.randint(1, 4)):
        data = generator.choice(_KINDS)(data, generator)
    return data


def _place(data: bytes, generator: random.Random) -> int:
    reach = min(len(data), 4096) if generator.random() < 0.6 else len(data)
    return generator.randrange(max(reach, 1))


def _flip(data: bytes, generator: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(generator.choice((1, 1, 4, 32))):
        if out:
            out[_place(data, generator)] ^= 1 << generator.randrange(8)
    return bytes(out)


def _cut(data: bytes, generator: random.Random) -> bytes:
    return data[: _place(data, generator)]


def _remove(data: bytes, generator: random.Random) -> bytes:
    start = _place(data, generator)
    return data[:start] + data[start + generator.choice((1, 2, 16, 300)) :]


def _swap(data: bytes, generator: random.Random) -> bytes:
    first, second = sorted((_place(data, generator), _place(data, generator)))
    size = generator.choice((2, 64, 600))
    return (
        data[:first]
        + data[second : second + size]
        + data[first + size : second]
        + data[first : first + size]
        + data[second + size :]
    )


def _repeat(data: bytes, generator: random.Random) -> bytes:
    start = _place(data, generator)
    part = data[start : start + generator.choice((2, 20, 700))]
    return data[:start] + part * generator.choice((2, 50)) + data[start:]


def _overwrite(data: bytes, generator: random.Random) -> bytes:
    start, part = _place(data, generator), generator.choice(INTERESTING)
    return data[:start] + part + data[start + len(part) :]


_KINDS = (_flip, _flip, _cut, _remove, _swap, _repeat, _overwrite, _overwrite)
