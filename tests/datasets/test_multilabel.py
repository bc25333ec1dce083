from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hashshield.datasets import LabelledFiles, open_dataset
from hashshield.datasets.base import Scheme
from hashshield.errors import UnknownNameError, UsageError
from official_trees import CONCEPTS, FLICKR_LABELS, flickr, nuswide

NOTES = "mirflickr/mirflickr25k_annotations_v080"


def sets(files: LabelledFiles) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in files.labels]


@pytest.mark.parametrize(("packed", "outer"), [(True, "mirflickr"), (False, "mirflickr"), (True, ""), (False, "")])
def test_flickr_is_read_as_it_is_unpacked(packed: bool, outer: str, tmp_path: Path) -> None:
    expected = flickr(tmp_path, packed=packed, outer=outer)
    found = open_dataset("flickr25k", tmp_path)
    assert found.root == tmp_path / outer
    assert found.classes == tuple(FLICKR_LABELS)
    assert len(found.classes) == 38
    assert found.paths[:3] == ("im1.jpg", "im2.jpg", "im3.jpg"), "by number, not by letters"
    assert found.paths[10] == "im11.jpg"
    assert sets(found) == expected


def test_annotations_may_lie_beside_the_photos_folder(tmp_path: Path) -> None:
    expected = flickr(tmp_path)
    (tmp_path / NOTES).rename(tmp_path / "mirflickr25k_annotations_v080")
    assert sets(open_dataset("flickr25k", tmp_path)) == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: (root / "mirflickr/im1.jpg").unlink(), r"im1\.jpg and so on, which is missing; get it"),
        (lambda root: (root / "mirflickr/im33.jpg").unlink(), r"im33\.jpg is missing of 76 photos"),
        (lambda root: (root / "mirflickr/im76.jpg").unlink(), r"names photo '76', and photos im1\.jpg to im75"),
        (lambda root: (root / NOTES / "sea_r1.txt").unlink(), r"sea_r1\.txt: no readable list.*get it"),
        (lambda root: (root / NOTES / "sea.txt").write_text("1\n0\n"), r"sea\.txt, line 2: names photo '0'"),
        (lambda root: (root / NOTES / "sea.txt").write_text("1\n\n-3\n"), r"sea\.txt, line 3: names photo '-3'"),
        (lambda root: (root / NOTES / "sea.txt").write_text("im1.jpg"), r"line 1: names photo 'im1\.jpg'"),
        (lambda root: (root / NOTES / "sea.txt").write_text("\u00b2"), r"sea\.txt: no readable list"),
    ],
)
def test_flickr_that_does_not_fit_is_named(change: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    flickr(tmp_path)
    change(tmp_path)
    with pytest.raises(UsageError, match=says) as caught:
        open_dataset("flickr25k", tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("photos", ["Flickr", "images", "."])
@pytest.mark.parametrize("concepts", ["Concepts81.txt", "ConceptsList/Concepts81.txt"])
def test_nuswide_is_read_as_it_is_unpacked(photos: str, concepts: str, tmp_path: Path) -> None:
    expected = nuswide(tmp_path, photos=photos, concepts=concepts)
    found = open_dataset("nuswide", tmp_path)
    assert found.classes == tuple(CONCEPTS)
    assert len(found.paths) == 120
    assert found.paths[1] == "theme1/0001_7919.jpg"
    assert all((found.root / path).is_file() for path in found.paths)
    assert sets(found) == expected


LABELS = "Groundtruth/AllLabels"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda root: (root / "Concepts81.txt").unlink(), r"Concepts81\.txt: no such list"),
        (lambda root: (root / "Concepts81.txt").write_text("a\nb\n"), "names 2 concepts, not 81"),
        (lambda root: (root / "Concepts81.txt").write_text("a\n" * 81), "names 1 concepts, not 81"),
        (lambda root: (root / "ImageList/Imagelist.txt").unlink(), r"Imagelist\.txt: no such list"),
        (lambda root: (root / "ImageList/Imagelist.txt").write_text("\n"), "names 'no photo'"),
        (lambda root: (root / "ImageList/Imagelist.txt").write_text("..\\..\\a.jpg"), r"names '\.\./\.\./a\.jpg'"),
        (lambda root: (root / "ImageList/Imagelist.txt").write_text("/etc/passwd"), "names '/etc/passwd'"),
        (lambda root: (root / "Flickr/theme1/0001_7919.jpg").unlink(), r"0001_7919\.jpg: this photo.* 0 others of 120"),
        (lambda root: (root / "Flickr").rename(root / "photos"), r"Flickr/theme0/0000_0\.jpg: this photo.* 119 others"),
        (lambda root: (root / LABELS / "Labels_concept7.txt").unlink(), r"Labels_concept7\.txt: no such file"),
        (lambda root: (root / LABELS / "Labels_concept7.txt").write_text("0\n1\n"), "2 entries for 120 photos"),
        (lambda root: (root / LABELS / "Labels_concept7.txt").write_text("0\n2\n"), "entry 2 is neither 0 nor 1"),
        (lambda root: (root / LABELS / "Labels_concept7.txt").write_bytes(b"\xff"), "entry 1 is neither 0 nor 1"),
    ],
)
def test_nuswide_that_does_not_fit_is_named(change: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    nuswide(tmp_path)
    change(tmp_path)
    with pytest.raises(UsageError, match=says) as caught:
        open_dataset("nuswide", tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_photos_without_a_label_are_in_the_database_only(tmp_path: Path) -> None:
    expected = flickr(tmp_path)
    bare = {i for i, labels in enumerate(expected) if not labels}
    assert len(bare) == 7
    files = open_dataset("flickr25k", tmp_path, split="paper")
    for seed in range(5):
        split = files.split(queries=40, seed=seed)
        assert bare <= set(split.database)
        assert not bare & set(split.queries)
        assert set(split.training) == set(split.database) - bare
        assert sorted([*split.queries, *split.database]) == list(range(76))
    assert split.protocol.endswith(
        "the rest is training set and database; photos without a label are in the database only"
    )
    with pytest.raises(UsageError, match="70 queries asked of 69 files"):
        files.split(queries=70, seed=0)


def test_a_part_of_the_database_is_learnt_from(tmp_path: Path) -> None:
    flickr(tmp_path)
    files = open_dataset("flickr25k", tmp_path, split="1700-5000")
    split = files.split(queries=17, training=30, seed=0)
    assert (len(split.queries), len(split.database), len(split.training)) == (17, 59, 30)
    assert set(split.training) <= set(split.database)
    assert (np.diff(split.training) > 0).all()
    assert split.training.tolist() == files.split(queries=17, training=30, seed=0).training.tolist()
    assert split.training.tolist() != files.split(queries=17, training=30, seed=1).training.tolist()
    assert "of which 30 photos are learnt from" in split.protocol
    assert split.queries.tolist() == open_dataset("flickr25k", tmp_path).split(queries=17, seed=0).queries.tolist()
    with pytest.raises(UsageError, match="1700 queries asked of 69 files"):
        files.split(seed=0)
    with pytest.raises(UsageError, match="5000 training photos asked of 52 files"):
        files.split(queries=17, seed=0)


def test_the_numbers_are_those_of_the_papers(tmp_path: Path) -> None:
    flickr(tmp_path / "f")
    nuswide(tmp_path / "n")
    schemes = {
        **open_dataset("flickr25k", tmp_path / "f").schemes,
        **{f"nus-{k}": v for k, v in open_dataset("nuswide", tmp_path / "n").schemes.items()},
    }
    assert schemes == {
        "paper": Scheme(500),
        "1700-5000": Scheme(1700, training=5000),
        "nus-paper": Scheme(500),
        "nus-tc21": Scheme(2100, training=10500, labels=21, per_label=True),
    }


def test_the_most_frequent_labels_and_as_many_photos_of_each(tmp_path: Path) -> None:
    expected = nuswide(tmp_path, count=400)
    whole, files = open_dataset("nuswide", tmp_path), open_dataset("nuswide", tmp_path, split="tc21")
    counts = whole.labels.sum(0)
    assert files.classes == tuple(CONCEPTS[60:])
    assert min(counts[60:]) > max(counts[:60])
    kept = [i for i, labels in enumerate(expected) if max(labels) >= 60]
    assert files.paths == tuple(whole.paths[i] for i in kept)
    assert len(kept) < 400
    assert files.labels.any(1).all()
    split = files.split(queries=42, training=105, seed=0)
    assert (len(split.queries), len(split.training)) == (42, 105)
    assert set(split.training) <= set(split.database)
    assert sorted([*split.queries, *split.database]) == list(range(len(kept)))
    assert (files.labels[split.queries].sum(0) >= 2).all()
    assert (files.labels[split.training].sum(0) >= 5).all()
    assert "equally for each label" in split.protocol
    again = files.split(queries=42, training=105, seed=0)
    assert split.queries.tolist() == again.queries.tolist()
    assert split.queries.tolist() != files.split(queries=42, training=105, seed=1).queries.tolist()
    with pytest.raises(UsageError, match="43 photos cannot be drawn equally from 21 labels"):
        files.split(queries=43, training=105, seed=0)
    with pytest.raises(UsageError, match="16 photos asked of label concept"):
        files.split(queries=336, training=21, seed=0)


def test_equally_frequent_labels_keep_their_order() -> None:
    labels = np.zeros((6, 4), bool)
    labels[[0, 1, 2, 3, 4, 5], [3, 3, 1, 1, 0, 2]] = True
    names = tuple("abcdef")
    files = LabelledFiles("x", Path(), names, labels, ("p", "q", "r", "s"), schemes={"two": Scheme(1, labels=3)})
    found = files.with_scheme("two")
    assert found.classes == ("p", "q", "s")
    assert found.paths == tuple("abcde")


def test_unknown_splits_name_the_known(tmp_path: Path) -> None:
    flickr(tmp_path)
    with pytest.raises(UnknownNameError, match="flickr25k has no split 'tc21'; known are paper, 1700-5000"):
        open_dataset("flickr25k", tmp_path, split="tc21")
    files = replace(open_dataset("flickr25k", tmp_path), schemes={})
    with pytest.raises(UnknownNameError, match="it has no named ones"):
        files.with_scheme("paper")


def test_nothing_to_learn_from_is_refused() -> None:
    labels = np.zeros((5, 1), bool)
    labels[0] = True
    files = LabelledFiles("x", Path(), tuple("abcde"), labels, ("p",))
    with pytest.raises(UsageError, match="all training photos asked of 0 files"):
        files.split(queries=1, seed=0)
