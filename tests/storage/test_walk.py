from __future__ import annotations

import os
from pathlib import Path

import pytest

from hashshield.storage import named, walk
from hashshield.storage.temporaries import temporary_name


def test_files_come_sorted_and_links_are_left_out(photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.jpg").touch()
    for name in ("b.jpg", "a/z.jpg", "a/y/x.jpg", "c.jpg", temporary_name()):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()
    (photos / "link.jpg").symlink_to(outside / "x.jpg")
    (photos / "folder").symlink_to(outside)
    (photos / "loop").symlink_to(photos)
    os.mkfifo(photos / "pipe")
    found = [str(path.relative_to(photos)) for path in walk(photos)]
    assert found == ["a/y/x.jpg", "a/z.jpg", "b.jpg", "c.jpg"]


def test_the_vault_is_not_entered(photos: Path) -> None:
    (photos / "vault" / "originals").mkdir(parents=True)
    (photos / "vault" / "originals" / "x").touch()
    (photos / "a.jpg").touch()
    assert [path.name for path in walk(photos, skip=Path(os.path.realpath(photos / "vault")))] == ["a.jpg"]
    assert list(walk(photos / "vault", skip=Path(os.path.realpath(photos / "vault")))) == []


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_goes_on(photos: Path) -> None:
    for name in ("a/1.jpg", "c/3.jpg"):
        (photos / name).parent.mkdir()
        (photos / name).touch()
    told: list[Path] = []
    files = walk(photos, failed=lambda folder, error: told.append(folder))
    assert next(files).name == "1.jpg"
    (photos / "c" / "3.jpg").unlink()
    (photos / "c").rmdir()
    assert list(files) == []
    assert told == [photos / "c"]
    with pytest.raises(FileNotFoundError):
        list(walk(photos / "c"))


@pytest.mark.parametrize(
    ("pattern", "passed_over"),
    [
        ("*.png", {"c.png"}),
        ("thumbs", {"a/thumbs/x.jpg", "thumbs/y.jpg"}),
        ("thumbs/", {"a/thumbs/x.jpg", "thumbs/y.jpg"}),
        ("a/thumbs", {"a/thumbs/x.jpg"}),
        ("a/*", {"a/thumbs/x.jpg", "a/b.jpg"}),
        ("[bc].*", {"a/b.jpg", "c.png"}),
        ("THUMBS", set()),
        ("photos", set()),
    ],
)
def test_what_is_excluded_is_passed_over(pattern: str, passed_over: set[str], photos: Path) -> None:
    every = {"a/b.jpg", "a/thumbs/x.jpg", "c.png", "thumbs/y.jpg"}
    for name in every:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()

    def never(folder: Path, error: OSError) -> None:
        raise AssertionError(folder)

    found = {str(file.relative_to(photos)) for file, _ in named([photos], exclude=[pattern], failed=never)}
    assert found == every - passed_over


def test_a_named_file_can_be_excluded_too(photos: Path) -> None:
    (photos / "a.jpg").touch()
    (photos / "a.png").touch()
    found = named([photos / "a.jpg", photos / "a.png"], exclude=["*.png"], failed=lambda folder, error: None)
    assert [file.name for file, _ in found] == ["a.jpg"]
