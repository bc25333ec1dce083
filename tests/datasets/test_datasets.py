from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hashshield.datasets import LabelledFiles, open_dataset
from hashshield.errors import UnknownNameError, UsageError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_each_folder_is_a_class_and_other_files_are_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path, "b/2.JPG", "b/1.png", "b/notes.txt", "a/x.webp", "a/y.jpeg", "empty/readme", "top.jpg")
    (root / "none").mkdir()
    (root / "a" / "deeper.jpg").mkdir()
    found = open_dataset("folder", root)
    assert found.name == "folder"
    assert found.root == root
    assert found.classes == ("a", "b")
    assert found.paths == ("a/x.webp", "a/y.jpeg", "b/1.png", "b/2.JPG")
    assert found.labels.dtype == bool
    assert found.labels.tolist() == [[True, False], [True, False], [False, True], [False, True]]


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, *(f"{c}/{i}.jpg" for c in "abc" for i in range(5)))
    before = open_dataset("folder", tmp_path)
    listed = Path.iterdir

    def backwards(path: Path) -> Iterator[Path]:
        yield from sorted(listed(path), reverse=True)

    monkeypatch.setattr(Path, "iterdir", backwards)
    after = open_dataset("folder", tmp_path)
    assert (before.paths, before.classes) == (after.paths, after.classes)


def labelled(count: int) -> LabelledFiles:
    return LabelledFiles("x", Path(), tuple(f"{i}" for i in range(count)), np.ones((count, 1), bool), ("x",))


def test_a_split_is_fixed_by_its_seed() -> None:
    files = labelled(100)
    one, again, other = (files.split(queries=30, seed=s) for s in (0, 0, 1))
    assert one.queries.tolist() == again.queries.tolist()
    assert one.queries.tolist() != other.queries.tolist()
    # Frozen: published figures stand and fall with this draw.
    assert one.queries[:6].tolist() == np.sort(np.random.default_rng(0).permutation(100)[:30])[:6].tolist()


@pytest.mark.parametrize("queries", [1, 50, 99])
def test_a_split_takes_every_file_once(queries: int) -> None:
    split = labelled(100).split(queries=queries, seed=3)
    assert len(split.queries) == queries
    assert sorted([*split.queries, *split.database]) == list(range(100))
    assert (np.diff(split.queries) > 0).all()
    assert (np.diff(split.database) > 0).all()


@pytest.mark.parametrize("queries", [-1, 0, 100, 101])
def test_a_split_without_queries_or_rest_is_refused(queries: int) -> None:
    with pytest.raises(UsageError, match=f"{queries} queries asked of 100 files"):
        labelled(100).split(queries=queries, seed=0)


CALTECH = ("accordion/image_0001.jpg", "accordion/image_0002.jpg", "sunflower/image_0001.jpg")


@pytest.mark.parametrize("prefix", ["", "101_ObjectCategories/"])
def test_caltech_is_read_with_and_without_its_outer_folder(prefix: str, tmp_path: Path) -> None:
    extra = ("BACKGROUND_Google/image_0001.jpg", "Faces_easy/image_0001.jpg", "Faces/image_0001.jpg")
    tree(tmp_path, *(prefix + name for name in (*CALTECH, *extra)))
    found = open_dataset("caltech101", tmp_path)
    assert found.classes == ("Faces", "accordion", "sunflower")
    assert len(found.paths) == 4
    assert all((found.root / path).is_file() for path in found.paths)


@pytest.mark.parametrize("names", [(), ("train/accordion/image_0001.jpg",), ("accordion/photo.jpg", "b/1.jpg")])
def test_caltech_in_another_layout_is_named(names: tuple[str, ...], tmp_path: Path) -> None:
    tree(tmp_path, *names)
    with pytest.raises(UsageError, match=r"accordion/image_0001\.jpg, which is missing; get it at") as caught:
        open_dataset("caltech101", tmp_path)
    assert str(tmp_path) in str(caught.value)


CIFAR = ("airplane/1.jpg", "airplane/2.jpg", "truck/1.jpg", "truck/3.jpg")


@pytest.mark.parametrize("prefix", ["", "cifar10/"])
def test_cifar_has_its_test_part_first_and_apart(prefix: str, tmp_path: Path) -> None:
    tree(tmp_path, *(f"{prefix}{part}/{name}" for part in ("train", "test") for name in CIFAR))
    tree(tmp_path, f"{prefix}train/truck/4.jpg")
    found = open_dataset("cifar10", tmp_path)
    assert found.classes == ("airplane", "truck")
    assert found.paths == (*(f"test/{n}" for n in CIFAR), *(f"train/{n}" for n in CIFAR), "train/truck/4.jpg")
    assert all((found.root / path).is_file() for path in found.paths)
    assert found.labels.argmax(1).tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 1]
    assert found.official_test is not None
    assert found.official_test.tolist() == [0, 1, 2, 3]
    assert "official test part" in found.split(queries=2, seed=0).protocol


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((), "train/airplane/ and so on, which is missing; get it at"),
        (("train/airplane/1.jpg",), "test/airplane/ and so on, which is missing"),
        (("data_batch_1",), "save each picture as a file"),
        (("train/airplane/1.jpg", "train/bird/1.jpg", "test/airplane/1.jpg", "test/cat/1.jpg"), "the class bird is in"),
        (("train/airplane/1.jpg", "test/airplane/1.jpg"), "expected one folder per class"),
    ],
)
def test_cifar_in_another_layout_is_named(names: tuple[str, ...], says: str, tmp_path: Path) -> None:
    tree(tmp_path, *names)
    with pytest.raises(UsageError, match=says) as caught:
        open_dataset("cifar10", tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("queries", [1, 7, 20])
def test_queries_of_an_official_test_part_come_from_it_and_its_rest_is_left_out(queries: int) -> None:
    test = np.arange(100)[5:25]
    files = replace(labelled(100), official_test=test)
    split = files.split(queries=queries, seed=4)
    assert len(split.queries) == queries
    assert set(split.queries) <= set(test)
    assert (np.diff(split.queries) > 0).all()
    assert split.database.tolist() == [*range(5), *range(25, 100)]
    assert split.queries.tolist() == files.split(queries=queries, seed=4).queries.tolist()
    # Frozen: published figures stand and fall with this draw.
    assert split.queries.tolist() == sorted(np.random.default_rng(4).permutation(test)[:queries])
    with pytest.raises(UsageError, match="21 queries asked of 20 files"):
        files.split(queries=21, seed=0)


def test_a_bench_draws_its_photos_from_the_queries() -> None:
    split = labelled(100).split(queries=30, seed=0)
    drawn = split.sample(10, seed=1)
    assert set(drawn) <= set(split.queries)
    assert len(set(drawn)) == 10
    assert drawn.tolist() != split.queries[:10].tolist()
    assert len(split.sample(99, seed=1)) == 30


@pytest.mark.parametrize("names", [(), ("1.jpg",), ("one/1.jpg",), ("one/1.jpg", "two/notes.txt")])
def test_fewer_than_two_classes_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    tree(tmp_path, *names)
    with pytest.raises(UsageError, match="expected one folder per class"):
        open_dataset("folder", tmp_path)


def test_unknown_names_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match="unknown dataset 'imagenet'; known are caltech101, cifar10, flickr25k, folder, nuswide"
    ):
        open_dataset("imagenet", tmp_path)
    for root in (tmp_path / "nowhere", tree(tmp_path, "file") / "file"):
        with pytest.raises(UsageError, match="no such folder; unpack the dataset there"):
            open_dataset("folder", root)


@pytest.mark.parametrize(
    ("name", "place", "layout"),
    [
        ("caltech101", "data.caltech.edu", "101_ObjectCategories/accordion/image_0001.jpg"),
        ("cifar10", "www.cs.toronto.edu", "train/airplane/"),
        ("flickr25k", "press.liacs.nl", "im1.jpg"),
        ("nuswide", "lms.comp.nus.edu.sg", "Concepts81.txt"),
    ],
)
def test_a_published_dataset_that_is_not_there_says_where_it_is(
    name: str, place: str, layout: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(UsageError, match=re.escape(str(root))) as caught:
            open_dataset(name, root)
        assert f"https://{place}/" in str(caught.value)
        assert layout in str(caught.value)
