"""Mutated and crafted files: only the errors of this project, in bounded time and memory, and nothing is opened."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from imaging_samples import ICC, exif_block, exif_segment, jpeg, png, scene, with_segments, xmp_segment
from mutations import mutate
from PIL import Image

from hashshield import imaging
from hashshield.errors import HashshieldError
from hashshield.imaging.jpeg.markers import segment
from hashshield.imaging.png_chunks import chunk, chunks


def seeds() -> list[bytes]:
    """Small files that hold everything the readers look at."""
    pixels = scene(64, 80)
    block = exif_block(orientation=6, gps=True, thumbnail=jpeg(scene(30, 40)))
    extra = [exif_segment(block), xmp_segment(b'<r xmpMM:DocumentID="1" exif:GPSLatitude="1"/>')]
    extra.append(segment(0xED, b"Photoshop 3.0\x008BIM\x04\x0c\0\0" + jpeg(scene(30, 40))))
    held, _ = chunks(png(pixels, icc_profile=ICC), name="x")
    held[1:1] = [
        chunk(b"eXIf", block),
        chunk(b"tEXt", b"Author\0me"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"),
    ]
    webps = []
    for options in ({"lossless": True}, {"quality": 80}):
        out = io.BytesIO()
        Image.fromarray(scene(64, 80, 4)).save(out, "WEBP", exif=block, xmp=b"<x/>", icc_profile=ICC, **options)
        webps.append(out.getvalue())
    return [
        with_segments(jpeg(pixels, icc_profile=ICC), *extra),
        with_segments(jpeg(pixels, progressive=True, subsampling=1), *extra) + jpeg(scene(30, 40)),
        jpeg(scene(64, 80, 1), restart_marker_blocks=2),
        b"\x89PNG\r\n\x1a\n" + b"".join(item.data for item in held),
        *webps,
    ]


REFUSALS = ("NotAPhotoError", "UnsupportedError", "BrokenPhotoError")


def exercise(data: bytes) -> tuple[str, float]:
    """Read, write and strip; return what became of it and the seconds of the slowest step."""
    steps = [time.perf_counter()]
    try:
        photo = imaging.read(data, name="hostile")
        for strip in (
            imaging.StripOptions(),
            imaging.StripOptions(copies=True, gps=True),
            imaging.StripOptions(metadata=True),
        ):
            steps.append(time.perf_counter())
            written = imaging.write(photo, photo.pixels, strip=strip)
            steps.append(time.perf_counter())
            imaging.read(written, name="written")
        outcome = "read"
    except HashshieldError as error:
        outcome = f"{type(error).__name__} of {len(str(error).splitlines())} line"
    steps.append(time.perf_counter())
    return outcome, max(after - before for before, after in pairwise(steps))


def test_mutated_files_raise_nothing_else() -> None:
    generator, files, outcomes = random.Random(20), seeds(), list[str]()
    for number in range(180):
        data = mutate(files[number % len(files)], generator)
        outcome, seconds = exercise(data)
        outcomes.append(outcome)
        assert seconds < 10
    assert outcomes.count("read") > 20
    assert set(outcomes) <= {"read", *(f"{kind} of 1 line" for kind in REFUSALS)}
    assert "BrokenPhotoError of 1 line" in outcomes


def test_png_checksums_do_not_shield_what_is_behind_them() -> None:
    """Mutations with the checksums made right again, so that they reach the decoders."""
    generator, whole = random.Random(21), seeds()[3]
    for _ in range(60):
        held, _ = chunks(whole, name="x")
        index = generator.randrange(len(held) - 1)
        held[index] = chunk(held[index].kind, mutate(held[index].payload, generator))
        exercise(b"\x89PNG\r\n\x1a\n" + b"".join(item.data for item in held))


HOSTILE_EXIF = [
    b"/etc/passwd",
    b"/dev/zero",
    b"file:///etc/passwd",
    b"RIFF\x20\0\0\0WEBP" + b"EXIF\x10\0\0\0/etc/passwd\0\0\0\0\0",
    b"II*\0\x08\0\0\0\x01\0\x25\x88\x04\0\x01\0\0\0\x08\0\0\0\0\0\0\0",
    b"II*\0\x08\0\0\0\x01\0\x25\x88\x04\0\xff\xff\xff\xff\x08\0\0\0\0\0\0\0",
]

WATCH = """
import sys, json, base64, warnings
warnings.simplefilter("error")
from hashshield import imaging
from hashshield.errors import HashshieldError
cases = [base64.b64decode(line) for line in sys.stdin]
events = []
REFUSALS = ("NotAPhotoError", "UnsupportedError", "BrokenPhotoError")


def exercise(data):
    try:
        photo = imaging.read(data, name="x")
        for strip in (imaging.StripOptions(), imaging.StripOptions(True, True), imaging.StripOptions(metadata=True)):
            imaging.write(photo, photo.pixels, strip=strip)
        return True
    except HashshieldError:
        return False
warm = sum(exercise(data) for data in cases[:6])
watching = True
allowed = ("object.", "sys._getframe", "builtins.id", "gc.", "array.", "marshal.", "compile")
def hook(event, arguments):
    if watching and not event.startswith(allowed):
        events.append((event, repr(arguments)[:200]))
sys.addaudithook(hook)
read = sum(exercise(data) for data in cases)
watching = False
print(json.dumps({"warm": warm, "read": read, "events": events}))
"""


def test_reading_opens_nothing_and_starts_nothing() -> None:
    out = io.BytesIO()
    Image.fromarray(scene(48, 64)).save(out, "EPS")
    cases = seeds()
    for block in HOSTILE_EXIF:
        cases.append(with_segments(jpeg(scene(48, 64)), segment(0xE1, b"Exif\0\0" + block)))
        cases.append(
            with_segments(jpeg(scene(48, 64)), segment(0xE1, b"Exif\0\0" + block), segment(0xE1, b"Exif\0\0/x"))
        )
        held, _ = chunks(png(scene(48, 64)), name="x")
        held[1:1] = [chunk(b"eXIf", block)]
        cases.append(b"\x89PNG\r\n\x1a\n" + b"".join(item.data for item in held))
    cases += [
        out.getvalue(),
        b"\xff\xd8\xff" + out.getvalue(),
        b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run\n",
        b"/etc/passwd",
    ]
    generator = random.Random(22)
    cases += [mutate(data, generator) for data in cases[:6] for _ in range(8)]
    lines = "\n".join(base64.b64encode(data).decode() for data in cases if data)
    done = subprocess.run(
        [sys.executable, "-c", WATCH], input=lines, capture_output=True, text=True, timeout=300, check=True
    )
    told = json.loads(done.stdout)
    assert told["warm"] == 6
    assert told["read"] > 10
    assert told["events"] == []


FUZZ = """
import json, random, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mutations import mutate
from test_hostile import exercise
files = sorted(p for p in Path(sys.argv[2]).rglob("*") if p.is_file())
generator, outcomes, slowest, hung = random.Random(int(sys.argv[4])), {}, (0.0, ""), []
for number in range(int(sys.argv[3])):
    path = files[number % len(files)]
    data = mutate(path.read_bytes(), generator)
    try:
        outcome, seconds = exercise(data)
    except BaseException:
        print("file", path, "number", number, file=sys.stderr)
        raise
    slowest = max(slowest, (seconds, path.name))
    # Coding a whole HEIC of 16 megapixels may take as long; a hang is more than the undamaged file takes.
    if seconds >= 10 and seconds > 2 * exercise(path.read_bytes())[1]:
        hung.append((path.name, number, seconds))
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({"outcomes": outcomes, "slowest": slowest, "hung": hung, "peak_mb": peak}))
"""


@pytest.mark.slow
@pytest.mark.files
def test_two_thousand_mutated_camera_files() -> None:
    folder = os.environ.get("HASHSHIELD_TEST_CAMERA_FILES")
    if not folder:
        pytest.skip("HASHSHIELD_TEST_CAMERA_FILES does not name the folder of camera files")
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, here, folder, "2000", "7"],
        capture_output=True,
        text=True,
        timeout=7200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    print(told)
    assert sum(told["outcomes"].values()) == 2000
    assert told["hung"] == []
    assert told["peak_mb"] < 2000


def test_memory_stays_small_for_small_files() -> None:
    """A bomb is refused by its header, before anything of its size is allocated."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    header = (14_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header).data + chunk(b"IDAT", b"x").data + chunk(b"IEND", b"").data
    assert exercise(bomb)[0] == "BrokenPhotoError of 1 line"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000
