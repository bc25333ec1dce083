"""Every spelling of the sampling factors: written as it was, or refused in one line, and no decoder complains anew."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from imaging_samples import psnr, scene
from jpeg_spellings import (
    COLOURS,
    DJPEG,
    MODES,
    Factors,
    Tally,
    changed,
    complaints,
    encode,
    legal_factors,
    picture,
    promised,
    sizes,
)

from hashshield import imaging
from hashshield.errors import PhotoError

SHAPES: list[Factors] = [
    (luma, (1, 1), (1, 1)) for luma in ((1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (1, 4), (4, 2), (2, 4))
]
USUAL: list[Factors] = [
    *SHAPES,
    ((2, 1),) * 3,
    ((1, 2),) * 3,
    ((3, 1),) * 3,
    ((1, 3),) * 3,
    ((4, 1), (2, 1), (2, 1)),
    ((2, 2), (1, 2), (1, 2)),
    ((2, 2), (2, 1), (2, 1)),
    ((3, 2), (3, 1), (1, 1)),
    ((2, 2), (1, 1), (1, 2)),
    ((3, 1), (1, 1), (1, 1)),
    ((1, 1), (2, 2), (2, 2)),
    ((3, 1), (2, 1), (1, 1)),
    ((3, 1), (2, 1), (2, 1)),
]
COLOURED = [colour for colour in COLOURS if colour != "grey"]
NO_DJPEG = "without djpeg (libjpeg-turbo-progs) its warnings are not looked at"


def build_receipt(cases: Iterator[tuple[Factors, str, str, tuple[int, int]]]) -> Tally:
    """Make each file, (factors, colour, mode, (height, width)), write it twice, and fail for the worst of them."""
    tally = Tally()
    for factors, colour, mode, (height, width) in cases:
        spelled = ",".join(f"{across}x{down}" for across, down in factors)
        pixels = picture(height, width, len(factors))
        data = encode(pixels, factors, colour=colour, mode=mode)
        tally.take(data, f"{spelled} {colour} {mode} {width}x{height}", must_be_written=promised(factors))
    print(f"{tally.written} written, {sum(tally.refused.values())} refused, lowest {tally.lowest_db:.1f} dB")
    assert tally.wrecked == []
    assert tally.warned == []
    if DJPEG is None:
        pytest.skip(NO_DJPEG)
    return tally


def test_usual_spellings() -> None:
    colours, size = itertools.cycle(COLOURED), sizes()
    build_receipt((factors, next(colours), mode, next(size)) for factors in USUAL for mode in MODES)


def test_grey_of_any_factors() -> None:
    size = sizes()
    build_receipt(
        ((factors,), "grey", mode, next(size)) for factors in ((1, 1), (2, 2), (4, 3), (1, 2)) for mode in MODES
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_all_spellings(mode: str) -> None:
    colours, size = itertools.cycle(COLOURED), sizes()
    tally = build_receipt((factors, next(colours), mode, next(size)) for factors in legal_factors() for _ in range(2))
    assert tally.written + sum(tally.refused.values()) == 2 * 515


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sequential", "sequential restart", "progressive"])
@pytest.mark.parametrize("factors", SHAPES)
def test_all_sizes(factors: Factors, mode: str) -> None:
    size = sizes()
    colours = itertools.cycle(("ycc", "rgb", "ycc", "ycc"))
    tally = build_receipt((factors, next(colours), mode, next(size)) for _ in range(256))
    assert tally.written == 256


@pytest.mark.slow
def test_grey_of_all_factors_and_sizes() -> None:
    size = sizes()
    single = itertools.product(range(1, 5), repeat=2)
    tally = build_receipt(
        ((factors,), "grey", mode, next(size)) for factors in single for mode in MODES for _ in range(16)
    )
    assert tally.written == 16 * len(MODES) * 16


def test_sizes_take_every_pair_of_remainders() -> None:
    assert len({(height % 16, width % 16) for height, width in itertools.islice(sizes(), 256)}) == 256


@pytest.mark.slow
@pytest.mark.parametrize("factors", [((2, 2), (1, 1), (1, 1)), ((1, 2), (1, 1), (1, 1)), ((4, 2), (1, 1), (1, 1))])
@pytest.mark.parametrize("mode", ["sequential", "scans", "progressive"])
@pytest.mark.parametrize("side", [16_371, 65_485, 65_499, 65_500])
def test_the_longest_sides(factors: Factors, mode: str, side: int) -> None:
    """Libjpeg codes 65,500 samples at most, and whole MCUs may go past that."""
    pixels = np.full((40, side, 3), (90, 140, 180), np.uint8)
    pixels[:, ::64] += np.uint8(30)
    for turned in (pixels, pixels.swapaxes(0, 1)):
        photo = imaging.read(encode(turned, factors, mode=mode), name="long.jpg")
        again = imaging.read(imaging.write(photo, photo.pixels), name="long.jpg")
        assert psnr(photo.pixels, again.pixels) > 45
        assert complaints(photo.source) == complaints(imaging.write(photo, changed(photo.pixels))) == ""


@pytest.mark.parametrize(
    ("factors", "reason"),
    [
        (
            ((3, 1), (2, 1), (2, 1)),
            "sampling 3x1,2x1,2x1 (the factors of one component do not divide those of another)",
        ),
        (
            ((2, 3), (2, 2), (1, 1)),
            "sampling 2x3,2x2,1x1 (the factors of one component do not divide those of another)",
        ),
        (((4, 4), (1, 1), (1, 1)), "more than 10 blocks per MCU"),
    ],
)
def test_what_no_decoder_reads_is_refused(factors: Factors, reason: str) -> None:
    with pytest.raises(PhotoError) as error:
        imaging.read(encode(scene(64, 64), factors), name="a.jpg")
    assert str(error.value).startswith("a.jpg: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [0x01, 0x10, 0x51, 0x15, 0x00])
def test_factors_outside_one_to_four_are_refused(bad: int) -> None:
    data = bytearray(encode(scene(64, 64), ((1, 1),) * 3))
    at = data.index(b"\x01\x11\0\x02\x11\0\x03\x11\0")
    data[at + 1] = bad
    with pytest.raises(PhotoError, match="sampling factor outside 1 to 4"):
        imaging.read(bytes(data), name="a.jpg")


CJPEG = shutil.which("cjpeg")


@pytest.mark.slow
@pytest.mark.skipif(CJPEG is None, reason="cjpeg (libjpeg-turbo-progs) is not installed")
def test_files_of_cjpeg(capfd: pytest.CaptureFixture[str]) -> None:
    """Its progressive files have successive approximation, which the encoder of these tests has not."""
    assert CJPEG is not None
    tally, size = Tally(), sizes()
    for factors, options in itertools.product(
        legal_factors(),
        (("-progressive",), ("-progressive", "-rgb"), ("-optimize",), ("-restart", "2B"), ("-quality", "4")),
    ):
        height, width = next(size)
        source = b"P6\n%d %d\n255\n" % (width, height) + picture(height, width).tobytes()
        sample = ",".join(f"{across}x{down}" for across, down in factors)
        command = [CJPEG, "-quality", "90", "-sample", sample, *options]
        made = subprocess.run(command, input=source, capture_output=True, check=False)
        if made.returncode == 0:
            name, coarse = f"{sample} {' '.join(options)} {width}x{height}", "4" in options
            tally.take(made.stdout, name, must_be_written=promised(factors), coarse=coarse)
    assert capfd.readouterr().err == ""
    print(tally.written, tally.refused, tally.lowest_db, tally.at_lowest)
    assert tally.written > 500
    assert tally.wrecked == []
    assert tally.warned == []
