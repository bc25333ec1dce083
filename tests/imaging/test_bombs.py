"""Small files that ask for much get one line, or are written, within seconds and under a limit on memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from bombs import BOMBS, with_chunks
from imaging_samples import exif_block, jpeg, scene

from hashshield import imaging
from hashshield.errors import BrokenPhotoError
from hashshield.imaging.heif.boxes import parse_still
from hashshield.imaging.heif.items import HeifItem, ItemReference, StillImage
from hashshield.imaging.metadata import MetadataBudget
from hashshield.imaging.png_chunks import chunk, chunks

CHILD = """
import json, resource, sys, time
sys.path[:0] = sys.argv[1:3]
from bombs import BOMBS
from hashshield import imaging
from hashshield.errors import HashshieldError

def protect(data):
    photo = imaging.read(data, name="bomb")
    for strip in (imaging.StripOptions(), imaging.StripOptions(copies=True, gps=True)):
        imaging.write(photo, photo.pixels, strip=strip)
    return "written"

protect(BOMBS["jpeg_tail"]())
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (400 << 20), resource.RLIM_INFINITY))
told = {}
for name, make in BOMBS.items():
    data = make()
    began = time.process_time()
    try:
        outcome = protect(data)
    except HashshieldError as error:
        outcome = str(error)
    except MemoryError:
        outcome = "out of memory"
    told[name] = (outcome, time.process_time() - began, len(data))
print(json.dumps(told))
"""

REFUSED = {
    "png_xmp": "compressed text unpacks to more than 16 MB",
    "png_text": "compressed text unpacks to more than 16 MB",
    "png_overlong_text": "compressed text unpacks to more than 16 MB",
    "png_exif_entries": "more than 20,000 EXIF entries",
    "png_empty_chunks": "more than 20,000 segments",
    "png_walks": "more than 20,000 segments",
    "jpeg_beginnings": "more than 20,000 segments",
    "jpeg_exif": "more than 20,000 EXIF entries",
    "jpeg_segments": "more than 20,000 segments",
    "webp_chunks": "more than 20,000 segments",
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to set the limit")
def test_bombs_under_a_memory_limit() -> None:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(here), str(here.parent)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told.keys() == BOMBS.keys()
    for name, (outcome, seconds, _) in told.items():
        assert seconds < 10, (name, seconds)
        assert "\n" not in outcome
        if name in REFUSED:
            assert REFUSED[name] in outcome, (name, outcome)
            assert outcome.startswith("bomb: its metadata is far more than a photo's"), outcome
            assert outcome.endswith("save the photo again without its metadata"), outcome
        else:
            assert outcome == "written", (name, outcome)


def test_previews_beyond_the_budget_are_left_and_listed() -> None:
    photo = imaging.read(BOMBS["jpeg_previews"](), name="x")
    assert photo.unprotected_copies == ("image in APP4 (1900x1900)",)
    again = imaging.read(imaging.write(photo, photo.pixels), name="x")
    assert again.unprotected_copies == photo.unprotected_copies


def test_what_a_file_may_spend_is_shared_by_its_parts() -> None:
    budget = MetadataBudget("x")
    assert [budget.preview(100, 100) for _ in range(17)] == [True] * 16 + [False]
    budget = MetadataBudget("x")
    assert [budget.preview(2000, 2000) for _ in range(3)] == [True, True, False]
    assert budget.preview(100, 100), "a small one still fits"


def test_a_second_exif_chunk_is_not_drawn_into() -> None:
    """Of several the last one is in use; what was found in it once went into all of them."""
    thumbnail = jpeg(scene(30, 40))
    blocks = [exif_block(), exif_block(thumbnail=thumbnail)]
    photo = imaging.read(with_chunks(*(chunk(b"eXIf", block) for block in blocks)), name="x")
    written, _ = chunks(imaging.write(photo, photo.pixels), name="x")
    first, second = (item.payload for item in written if item.kind == b"eXIf")
    assert first == blocks[0]
    assert len(second) == len(blocks[1])
    photo = imaging.read(with_chunks(*(chunk(b"eXIf", block) for block in reversed(blocks))), name="x")
    assert photo.unprotected_copies == ("thumbnail in a second EXIF chunk",)
    assert [item.payload for item in photo.encoding.chunks if item.kind == b"eXIf"] == blocks[::-1]  # type: ignore[attr-defined]


def test_packed_text_that_cannot_be_read_is_named_and_stripped() -> None:
    overlong = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 << 20)))
    photo = imaging.read(with_chunks(overlong), name="x")
    assert photo.unprotected_copies == ("compressed text that cannot be read",)
    assert overlong.data in imaging.write(photo, photo.pixels)
    for strip in (
        imaging.StripOptions(copies=True),
        imaging.StripOptions(gps=True),
        imaging.StripOptions(metadata=True),
    ):
        assert overlong.data not in imaging.write(photo, photo.pixels, strip=strip)


def box(kind: bytes, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return (8 + len(payload)).to_bytes(4, "big") + kind + payload


def heif(*, iloc: bytes = bytes(8), ipma: bytes = b"", iref: bytes = b"", more: bytes = b"") -> bytes:
    """The skeleton of a HEIC with these tables."""
    entry = box(b"infe", b"\2\0\0\0\0\1\0\0hvc1\0")
    parts = [box(b"pitm", bytes(4), b"\0\1"), box(b"iinf", bytes(4), b"\0\1", entry), box(b"iloc", iloc)]
    parts += [box(b"iprp", box(b"ipco", box(b"ispe", bytes(12))), ipma), box(b"iref", bytes(4), iref)]
    return box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(4), *parts) + more


@pytest.mark.parametrize(
    "data",
    [
        heif(iloc=bytes(6) + b"\x07\xd0" + b"\0\1\0\0\x07\xd0" * 2000),
        heif(ipma=box(b"ipma", bytes(4), b"\0\0\0\1\0\1\xff" + b"\1" * 255) * 100),
        heif(ipma=box(b"ipco", box(b"ispe", bytes(12))) * 2),
        heif(iref=box(b"dimg", b"\0\1\x07\xd0" + bytes(4000)) * 20),
        heif(iref=box(b"dimg", b"\0\1\0\0") * 3000),
        heif(more=box(b"abcd") * 100_000),
    ],
    ids=["pieces of no bytes", "properties", "lists of properties", "targets", "references", "boxes"],
)
def test_tables_of_a_heic(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(BrokenPhotoError, match=r"x: the file's structure is damaged .*(too many|two lists)"):
        parse_still(data, name="x")
    assert time.process_time() - began < 1


def test_derived_images_are_followed_once() -> None:
    """Each of many alpha planes was followed through all references anew."""
    items = {n: HeifItem(n, b"grid", b"", b"", b"", False, ()) for n in range(2000)}
    still = StillImage(b"", 0, items, tuple(ItemReference(b"dimg", n, (n + 1,)) for n in range(2000)), (), (), b"")
    began = time.process_time()
    assert still.tree(*range(2000)) == tuple(range(2000))
    assert still.tree(1990) == tuple(range(1990, 2000))
    assert time.process_time() - began < 1
