"""Which other files show a photo that was protected."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import pytest

from hashshield.pipeline.protect import protect
from hashshield.pipeline.twins import twins
from hashshield.types import Progress, Request
from tiny_net import encoded, picture


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"film or raw")


def test_files_of_the_camera_are_told_by_their_stem(tmp_path: Path) -> None:
    touch(tmp_path, "IMG_1.JPG", "IMG_1.CR2", "img_1.dng", "IMG_1.MOV", "IMG_1.HEIC", "IMG_1.JPG.NEF")
    touch(tmp_path, "IMG_10.CR2", "IMG_1.txt", "IMG_1.xmp", "IMG_1.png", "IMG_2.MP4")
    assert twins(tmp_path / "IMG_1.JPG") == (
        "raw IMG_1.CR2 beside it",
        "HEIF IMG_1.HEIC beside it",
        "raw IMG_1.JPG.NEF beside it",
        "film IMG_1.MOV beside it",
        "raw img_1.dng beside it",
    )
    assert twins(tmp_path / "IMG_1.HEIC")[0] == "raw IMG_1.CR2 beside it"
    assert twins(tmp_path / "IMG_3.JPG") == ()


def test_thumbnails_and_old_versions_are_told_by_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "deep/a[1].jpg", "deep/@eaDir/a[1].jpg/SYNOPHOTO_THUMB_XL.jpg", "deep/@eaDir/b.jpg/SYNOPHOTO_B.jpg")
    touch(tmp_path, "deep/.@__thumb/defaulta[1].jpg", "deep/.picasaoriginals/a[1].jpg", "deep/.picasaoriginals/b.jpg")
    touch(tmp_path, *(f".stversions/deep/a[1]~2026010{day}-120000.jpg" for day in range(1, 6)))
    assert twins(tmp_path / "deep" / "a[1].jpg") == (
        "thumbnails in @eaDir: SYNOPHOTO_THUMB_XL.jpg",
        "thumbnails in .@__thumb: defaulta[1].jpg",
        "original in .picasaoriginals: a[1].jpg",
        "old versions in .stversions: a[1]~20260101-120000.jpg, a[1]~20260102-120000.jpg, a[1]~20260103-120000.jpg "
        "and 2 more",
    )


def test_they_are_in_the_row(tmp_path: Path, request_for: Callable[..., Request], told: Progress) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(encoded(picture(40, 40)))
    touch(tmp_path / "photos", "a.dng", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg")
    thumbnail = encoded(picture(24, 24))
    (tmp_path / "photos" / "@eaDir" / "a.png" / "SYNOPHOTO_THUMB_M.jpg").write_bytes(thumbnail)
    rows = protect([tmp_path / "photos"], request_for(steps=4, accept_best=True), progress=told)
    (row,) = [row for row in rows if row.status in ("protected", "partial")]
    assert [copy.split()[0] for copy in row.unprotected_copies] == ["raw", "thumbnails"]
    assert {(Path(row.path).name, row.status) for row in rows} >= {("@eaDir", "skipped")}
    assert (tmp_path / "photos" / "@eaDir" / "a.png" / "SYNOPHOTO_THUMB_M.jpg").read_bytes() == thumbnail


@pytest.mark.parametrize("gone", ["nowhere", "nowhere/deep"])
def test_what_cannot_be_listed_has_none(tmp_path: Path, gone: str) -> None:
    assert twins(tmp_path / gone / "a.jpg") == ()


def test_thumbnails_of_file_managers_are_found_by_the_digest_of_the_uri(
    tmp_path: Path, request_for: Callable[..., Request], told: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of the freedesktop specification first; its digest is given there."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    cache = tmp_path / "home" / ".cache" / "thumbnails"
    touch(cache, "normal/c6ee772d9e49320e97ec29a7eb5b1697.png", "fail/c6ee772d9e49320e97ec29a7eb5b1697.png")
    found = twins(Path("/home/jens/photos/me.png"))
    assert found == ("thumbnails in ~/.cache/thumbnails: normal/c6ee772d9e49320e97ec29a7eb5b1697.png",)
    assert twins(Path("/home/jens/photos/you.png")) == ()

    # As GLib quotes it; a folder of this run has no character that it would quote.
    photo = tmp_path / "photos" / "sommer (1) ü#.png"
    name = md5(f"file://{tmp_path}/photos/sommer%20(1)%20%C3%BC%23.png".encode()).hexdigest()
    shared = md5(b"sommer%20(1)%20%C3%BC%23.png").hexdigest()
    photo.parent.mkdir()
    photo.write_bytes(encoded(picture(40, 40)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    touch(tmp_path, f"cache/thumbnails/large/{name}.png", f"cache/thumbnails/xx-large/{name}.png")
    touch(tmp_path, f"photos/.sh_thumbnails/normal/{shared}.png")
    thumbnail = tmp_path / "cache" / "thumbnails" / "large" / f"{name}.png"
    before = thumbnail.read_bytes()
    monkeypatch.chdir(photo.parent)
    (row,) = protect([Path(photo.name)], request_for(steps=4, accept_best=True), progress=told)
    assert row.unprotected_copies == (
        f"thumbnails in .sh_thumbnails: normal/{shared}.png",
        f"thumbnails in {tmp_path / 'cache' / 'thumbnails'}: large/{name}.png, xx-large/{name}.png",
    )
    assert thumbnail.read_bytes() == before, "told, and left to whom it belongs"
