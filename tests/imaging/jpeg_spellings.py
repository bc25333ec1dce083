"""JPEG files in every spelling of the sampling factors, by a small encoder of our own, and what must hold for each.

`encode` knows no libjpeg: factors, component names, colour markers, scans and restarts are as asked for, legal or not.
"""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from imaging_samples import psnr, scene
from numpy.typing import NDArray
from PIL import Image

from hashshield import imaging
from hashshield.errors import PhotoError

Factors = tuple[tuple[int, int], ...]
Pixels = NDArray[np.uint8]

JFIF = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0\0"
COLOURS = {
    "ycc": (JFIF, (1, 2, 3)),
    "odd names": (JFIF, (0, 34, 200)),
    "rgb": (ADOBE_RGB, (82, 71, 66)),
    "adobe rgb": (ADOBE_RGB, (1, 2, 3)),
    "named rgb": (b"", (82, 71, 66)),
    "grey": (JFIF, (1,)),
}
"""Colour -> (marker segments, component names)."""

MODES = (
    "sequential",
    "sequential restart",
    "scans",
    "scans of chroma restart",
    "progressive",
    "progressive restart",
    "progressive by component",
)
"""How the file is coded; with `restart` there are restart markers."""

_ZIGZAG = sorted(range(64), key=lambda i: (s := i // 8 + i % 8, (i // 8 if s % 2 else i % 8)))
_DCT = np.array(
    [
        [math.sqrt((1 if k == 0 else 2) / 8) * math.cos((2 * n + 1) * k * math.pi / 16) for n in range(8)]
        for k in range(8)
    ]
)
_DC_SYMBOLS = bytes(range(12))
_AC_SYMBOLS = bytes([0x00, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, 11))])


def encode(
    pixels: Pixels,
    factors: Factors,
    *,
    colour: str = "ycc",
    mode: str = "sequential",
    steps: tuple[int, int] = (3, 6),
    displayed: tuple[int, int] | None = None,
) -> bytes:
    """Return a JPEG of (H, W, C) pixels.

    `steps` are the finest and the coarsest quantisation step. `displayed` is a smaller (H, W): the rest is hidden, as
    far as the blocks at the edge hold it, which is what losslessly cropped files look like.
    """
    height, width = displayed or pixels.shape[:2]
    marker, ids = COLOURS[colour]
    table = np.linspace(*steps, 64).round().astype(int)
    coefficients = [_quantised(plane, table) for plane in _planes(pixels, factors, colour)]
    out = b"\xff\xd8" + marker + _segment(0xDB, (b"\x10" if steps[1] > 255 else b"\0") + _table(table))
    kind = 0xC2 if mode.startswith("progressive") else 0xC1 if steps[1] > 255 else 0xC0
    frame = bytes([8]) + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([len(factors)])
    for identity, (across, down) in zip(ids, factors, strict=True):
        frame += bytes([identity, across << 4 | down, 0])
    out += _segment(kind, frame)
    # Codes of one length need no statistics: four bits for DC, eight for AC.
    out += _segment(0xC4, b"\x00" + bytes([0, 0, 0, 12, *[0] * 12]) + _DC_SYMBOLS)
    out += _segment(0xC4, b"\x10" + bytes([*[0] * 7, len(_AC_SYMBOLS), *[0] * 8]) + _AC_SYMBOLS)
    restart = 3 if mode.endswith(" restart") else 0
    if restart:
        out += _segment(0xDD, restart.to_bytes(2, "big"))
    everyone = tuple(range(len(factors)))
    alone = [(index,) for index in everyone]
    scans: list[tuple[tuple[int, ...], int, int]] = {
        "sequential": [(everyone, 0, 63)],
        "scans": [(one, 0, 63) for one in reversed(alone)],
        "scans of chroma": [(part, 0, 63) for part in (everyone[1:], everyone[:1]) if part],
        "progressive": [(everyone, 0, 0), *((one, *band) for band in ((1, 5), (6, 63)) for one in alone)],
        "progressive by component": [(one, *band) for one in alone for band in ((0, 0), (1, 63))],
    }[mode.removesuffix(" restart")]
    for components, first, last in scans:
        named = b"".join(bytes([ids[index], 0]) for index in components)
        out += _segment(0xDA, bytes([len(components)]) + named + bytes([first, last, 0]))
        out += _entropy_coded(list(_units(components, factors, width, height)), coefficients, first, last, restart)
    return out + b"\xff\xd9"


def _planes(pixels: Pixels, factors: Factors, colour: str) -> Iterator[NDArray[np.float64]]:
    """Yield each component's samples, padded to whole MCUs."""
    height, width, channels = pixels.shape
    most = max(f[0] for f in factors), max(f[1] for f in factors)
    whole = tuple(-(-side // (8 * unit)) * 8 * unit for side, unit in ((height, most[1]), (width, most[0])))
    layers = np.pad(pixels.astype(np.float64), ((0, whole[0] - height), (0, whole[1] - width), (0, 0)), mode="edge")
    if channels == 3 and not colour.endswith("rgb"):
        red, green, blue = np.moveaxis(layers, 2, 0)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        layers = np.dstack([luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402])
    for index, (across, down) in enumerate(factors):
        rows, columns = whole[0] * down // most[1], whole[1] * across // most[0]
        small = Image.fromarray(layers[..., index].astype(np.float32)).resize((columns, rows), Image.Resampling.BOX)
        yield np.asarray(small, dtype=np.float64).round().clip(0, 255)


def _quantised(plane: NDArray[np.float64], table: NDArray[Any]) -> NDArray[Any]:
    """Return (rows, columns, 64) quantised coefficients in zigzag order."""
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    blocks = (plane - 128).reshape(rows, 8, columns, 8).swapaxes(1, 2)
    waves = (_DCT @ blocks @ _DCT.T).reshape(rows, columns, 64)[..., _ZIGZAG]
    return (waves / table).round().astype(int)


def _units(
    components: tuple[int, ...], factors: Factors, width: int, height: int
) -> Iterator[list[tuple[int, int, int]]]:
    """Yield the MCUs of a scan (T.81, A.2), each a list of (component, block row, block column)."""
    most = max(f[0] for f in factors), max(f[1] for f in factors)
    if len(components) == 1:
        (index,) = components
        across, down = factors[index]
        rows, columns = (_up(_up(height * down, most[1]), 8), _up(_up(width * across, most[0]), 8))
        for row, column in itertools.product(range(rows), range(columns)):
            yield [(index, row, column)]
        return
    for row, column in itertools.product(range(-(-height // (8 * most[1]))), range(-(-width // (8 * most[0])))):
        yield [
            (index, row * factors[index][1] + j, column * factors[index][0] + i)
            for index in components
            for j, i in itertools.product(range(factors[index][1]), range(factors[index][0]))
        ]


def _up(side: int, unit: int) -> int:
    return -(-side // unit)


def _entropy_coded(
    units: list[list[tuple[int, int, int]]], coefficients: list[NDArray[Any]], first: int, last: int, restart: int
) -> bytes:
    parts = []
    for start in range(0, len(units), restart or len(units)):
        bits, before = list[str](), Counter[int]()
        for index, row, column in itertools.chain(*units[start : start + (restart or len(units))]):
            block = coefficients[index][row, column]
            if first == 0:
                value = int(block[0])
                bits.append(_coded(_DC_SYMBOLS, 4, 0, value - before[index]))
                before[index] = value
            if last:
                bits.append(_waves(block[max(first, 1) : last + 1]))
        text = "".join(bits)
        text += "1" * (-len(text) % 8)
        parts.append(int("1" + text, 2).to_bytes(len(text) // 8 + 1, "big")[1:].replace(b"\xff", b"\xff\0"))
    return b"".join(part + (bytes([0xFF, 0xD0 + n % 8]) if n < len(parts) - 1 else b"") for n, part in enumerate(parts))


def _waves(band: NDArray[Any]) -> str:
    bits, position = list[str](), 0
    for at in np.flatnonzero(band).tolist():
        run = at - position
        bits += [_symbol(_AC_SYMBOLS, 8, 0xF0)] * (run // 16)
        bits.append(_coded(_AC_SYMBOLS, 8, run % 16, int(band[at])))
        position = at + 1
    if position < len(band):
        bits.append(_symbol(_AC_SYMBOLS, 8, 0))
    return "".join(bits)


def _coded(symbols: bytes, length: int, run: int, value: int) -> str:
    size = abs(value).bit_length()
    extra = value if value > 0 else value + (1 << size) - 1
    return _symbol(symbols, length, run << 4 | size) + (f"{extra:0{size}b}" if size else "")


def _symbol(symbols: bytes, length: int, symbol: int) -> str:
    return f"{symbols.index(symbol):0{length}b}"


def _table(table: NDArray[Any]) -> bytes:
    return table.astype(">u2" if table.max() > 255 else "u1").tobytes()


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def legal_factors() -> list[Factors]:
    """Every spelling of three components with at most ten blocks in an MCU (T.81, B.2.3)."""
    single = list(itertools.product(range(1, 5), repeat=2))
    return [f for f in itertools.product(single, repeat=3) if sum(across * down for across, down in f) <= 10]


def sizes() -> Iterator[tuple[int, int]]:
    """Yield (height, width) for ever; each 256 have every pair of remainders by 16 once."""
    for step in itertools.count():
        # 5 is odd, so that the height takes another turn through its remainders with each turn of the width.
        yield 48 + (5 * step + step // 16) % 16, 64 + step % 16


def promised(factors: Factors) -> bool:
    """Tell whether the sampling is one that is written by promise: 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1 or 4:1:0."""
    luma, *chroma = factors
    ratio = (luma[0] / chroma[0][0], luma[1] / chroma[0][1]) if chroma else (1, 1)
    return len(set(chroma)) <= 1 and ratio in {(1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (1, 4), (4, 2), (2, 4)}


@dataclass
class Tally:
    """What became of the files of a run."""

    written: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrecked: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    lowest_db: float = math.inf
    at_lowest: str = ""

    def take(self, data: bytes, name: str, *, must_be_written: bool, coarse: bool = False) -> None:
        """Write one file with its own pixels and with others, and judge both; any other exception is a finding too.

        At `coarse` tables the quantiser may drop the change.
        """
        try:
            photo = imaging.read(data, name=name)
        except PhotoError as error:
            message = str(error)
            assert message.startswith(name), message
            assert "\n" not in message
            assert not must_be_written, message
            assert DJPEG is None or complaints(data), f"{message}, and djpeg reads it"
            self.refused[message.removeprefix(name)] += 1
            return
        self.written += 1
        same = imaging.write(photo, photo.pixels)
        wanted = changed(photo.pixels)
        other = imaging.write(photo, wanted)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kept, got = (imaging.read(each, name=name) for each in (same, other))
        decibels = psnr(photo.pixels, kept.pixels)
        if decibels < self.lowest_db:
            self.lowest_db, self.at_lowest = decibels, name
        nearer = psnr(wanted, got.pixels) > psnr(wanted, photo.pixels)
        previewed = np.array_equal(imaging.previewer(photo)(wanted), got.pixels)
        if not (decibels > 45 and previewed and (coarse or (nearer and psnr(wanted, got.pixels) > 34))):
            self.wrecked.append(f"{name}: {decibels:.1f} dB, changed {psnr(wanted, got.pixels):.1f} dB, {previewed=}")
        for each in (same, other):
            told = complaints(each)
            if told and not complaints(data):
                self.warned.append(f"{name}: {told}")


def changed(pixels: Pixels, seed: int = 1) -> Pixels:
    """Return pixels with a smooth change of up to eight levels, as a protection is."""
    rng = np.random.default_rng(seed)
    height, width, channels = pixels.shape
    coarse = rng.uniform(-8, 8, (4, 4, channels)).astype(np.float32)
    layers = [np.asarray(Image.fromarray(coarse[..., c]).resize((width, height))) for c in range(channels)]
    return np.clip(pixels + np.stack(layers, axis=2).round(), 0, 255).astype(np.uint8)


DJPEG = shutil.which("djpeg")


def complaints(data: bytes) -> str:
    """Return what djpeg says of a file, '' if nothing or if it is not installed."""
    if DJPEG is None:
        return ""
    run = subprocess.run([DJPEG, "-strict"], input=data, capture_output=True, check=False)
    return run.stderr.decode() or ("" if run.returncode == 0 else f"exit {run.returncode}")


def picture(height: int, width: int, channels: int = 3) -> Pixels:
    """Return the picture that the files show."""
    return scene(height, width, channels, seed=height * 100 + width)
