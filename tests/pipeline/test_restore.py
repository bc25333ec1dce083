from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hashshield.imaging import pixel_digest, read
from hashshield.pipeline.restore import restore
from hashshield.storage import NewRecord, Store, read_snapshot


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        (folder / name).write_bytes(b"original " + name.encode())
        os.utime(folder / name, ns=(1, 1_500_000_000_000_000_001))
    return folder


def protect(vault: Path, *paths: Path) -> None:
    with Store.open(vault) as store:
        for path in paths:
            store.replace(read_snapshot(path, follow=True), b"protected " + path.name.encode(), NewRecord())


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back_as_it_was(vault: Path, photos: Path, tmp_path: Path) -> None:
    before = everything(photos)
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"original")
    protect(vault, photos / "a.jpg", photos / "sub" / "c.jpg", outside)
    (photos / "link.jpg").symlink_to(outside)
    (photos / "linked").symlink_to(tmp_path)
    rows = restore([photos], vault=vault)
    assert [(Path(row.path).name, row.status) for row in rows] == [
        ("a.jpg", "restored"),
        ("b.jpg", "skipped"),
        ("c.jpg", "restored"),
    ]
    (photos / "link.jpg").unlink()
    (photos / "linked").unlink()
    assert everything(photos) == before
    assert outside.read_bytes() == b"protected outside.jpg", "links met in a folder are not followed"
    assert (photos / "a.jpg").stat().st_mtime_ns == 1_500_000_000_000_000_001


def test_named_files_fail_loudly_and_the_rest_goes_on(vault: Path, photos: Path) -> None:
    protect(vault, photos / "a.jpg", photos / "b.jpg")
    (photos / "b.jpg").write_bytes(b"edited")
    rows = restore([photos / "nowhere.jpg", photos / "b.jpg", photos / "sub" / "c.jpg", photos / "a.jpg"], vault=vault)
    assert [row.status for row in rows] == ["failed", "failed", "failed", "restored"]
    assert all(row.reason for row in rows[:3])
    assert (photos / "b.jpg").read_bytes() == b"edited"
    assert [row.status for row in restore([photos / "b.jpg"], vault=vault, force=True)] == ["restored"]


def test_the_same_file_named_twice_is_restored_once(vault: Path, photos: Path) -> None:
    protect(vault, photos / "a.jpg")
    rows = restore([photos / "a.jpg", photos / "sub" / ".." / "a.jpg"], vault=vault)
    assert [row.status for row in rows] == ["restored", "skipped"]


def test_a_deleted_file_comes_back_when_named(vault: Path, photos: Path) -> None:
    protect(vault, photos / "a.jpg")
    (photos / "a.jpg").unlink()
    assert [row.status for row in restore([photos], vault=vault)] == ["skipped", "skipped"]
    assert not (photos / "a.jpg").exists()
    assert [row.status for row in restore([photos / "a.jpg"], vault=vault)] == ["restored"]
    assert (photos / "a.jpg").read_bytes() == b"original a.jpg"


def test_the_last_run_is_undone_and_no_other(vault: Path, photos: Path) -> None:
    protect(vault, photos / "a.jpg")
    protect(vault, photos / "b.jpg", photos / "sub" / "c.jpg")
    (photos / "sub" / "c.jpg").rename(photos / "sub" / "moved.jpg")
    rows = restore([], vault=vault, last_run=True)
    assert [(Path(row.path).name, row.status) for row in rows] == [("b.jpg", "restored"), ("c.jpg", "failed")]
    assert (photos / "a.jpg").read_bytes() == b"protected a.jpg"
    again = restore([], vault=vault, last_run=True)
    assert [row.status for row in again] == ["skipped", "failed"], "the run before is not undone by repeating"


def test_the_last_run_below_a_folder(vault: Path, photos: Path) -> None:
    protect(vault, photos / "b.jpg", photos / "sub" / "c.jpg")
    rows = restore([photos / "sub"], vault=vault, last_run=True)
    assert [Path(row.path).name for row in rows] == ["c.jpg"]


def test_dry_run_changes_nothing(vault: Path, photos: Path) -> None:
    protect(vault, photos / "a.jpg")
    before = everything(photos)
    assert [row.status for row in restore([photos], vault=vault, dry_run=True)] == ["planned", "skipped", "skipped"]
    assert everything(photos) == before


def test_the_vault_is_not_searched_when_it_lies_among_the_photos(photos: Path) -> None:
    vault = photos / "vault"
    protect(vault, photos / "a.jpg")
    rows = restore([photos], vault=vault)
    assert {Path(row.path).name for row in rows} == {"a.jpg", "b.jpg", "c.jpg"}


def jpeg(shade: int, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    pixels = np.full((48, 64, 3), shade, np.uint8)
    pixels[::2, :, 0] = 30
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, comment=comment)
    return buffer.getvalue()


def test_a_photo_of_which_only_the_metadata_was_edited_is_restored(vault: Path, photos: Path) -> None:
    path = photos / "a.jpg"
    original, protected, captioned = jpeg(100), jpeg(110), jpeg(110, b"a caption")
    assert protected != captioned
    path.write_bytes(original)
    with Store.open(vault) as store:
        pixels_after = pixel_digest(read(protected, name="a.jpg"))
        store.replace(read_snapshot(path, follow=True), protected, NewRecord(pixels_after=pixels_after))
    path.write_bytes(captioned)
    (photos / "b.jpg").write_bytes(jpeg(90))
    rows = restore([photos], vault=vault)
    assert [row.status for row in rows] == ["restored", "skipped", "skipped"]
    assert path.read_bytes() == original
    with Store.open(vault) as store:
        assert hashlib.sha256(captioned).hexdigest() in dict(store.vault.sizes()), "the caption is not lost"


@pytest.mark.parametrize("broken", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", jpeg(110)[:200]])
def test_broken_photos_are_no_matter(broken: bytes, vault: Path, photos: Path) -> None:
    with Store.open(vault) as store:
        store.replace(read_snapshot(photos / "b.jpg", follow=True), b"protected", NewRecord(pixels_after="pixels"))
    (photos / "a.jpg").write_bytes(broken)
    rows = restore([photos], vault=vault)
    assert [row.status for row in rows] == ["skipped", "restored", "skipped"]
