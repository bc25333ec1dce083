from __future__ import annotations

from pathlib import Path

import pytest

from hashshield.datasets import open_dataset
from hashshield.errors import UsageError

PHOTOS = ("a/1.jpg", "a/2.jpg", "b c/3.png", "4.webp", "5,6.jpg")
GOOD = """path,labels
a/1.jpg,sea;boat
a\\2.jpg, sea

b c/3.png,
4.webp,boat ; boat;
"5,6.jpg","Kiel, harbour"
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in PHOTOS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "photos.csv").write_text(GOOD)
    return tmp_path / "photos.csv"


@pytest.mark.parametrize("dataset", ["table", "own"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_table_in_the_order_of_its_lines(dataset: str, encoding: str, ending: str, table: Path) -> None:
    table.write_bytes(GOOD.replace("\n", ending).encode(encoding))
    found = open_dataset(dataset, table)
    assert found.root == table.parent
    assert found.paths == PHOTOS
    assert found.classes == ("Kiel, harbour", "boat", "sea")
    assert found.labels.astype(int).tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_own_is_a_folder_of_classes_where_a_folder_is_named(table: Path) -> None:
    found = open_dataset("own", table.parent)
    assert found.classes == ("a", "b c")
    assert found.paths == ("a/1.jpg", "a/2.jpg", "b c/3.png")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"line 1: begins with ''; a table begins with path,labels"),
        ("a/1.jpg,sea\n", r"line 1: begins with 'a/1\.jpg,sea'"),
        ("path;labels\na/1.jpg;sea\n", r"line 1: begins with 'path;labels'"),
        ("path,labels\na/1.jpg,sea,boat\n", r"line 2: 3 cells; two are expected, and labels are separated by"),
        ("path,labels\na/1.jpg\n", "line 2: 1 cells"),
        ("path,labels\na/1.jpg,sea\n\na/1.jpg,boat\n", r"line 4: a/1\.jpg is in line 2 already"),
        ("path,labels\na/1.jpg,sea\na\\1.jpg,boat\n", r"line 3: a/1\.jpg is in line 2 already"),
        ("path,labels\n4.webp,x\na/9.jpg,sea\n", r"line 3: no photo .*a/9\.jpg; .*\(1 of 2 are missing\)"),
        ("path,labels\na,sea\n", r"line 2: no photo"),
        ("path,labels\n../x.jpg,sea\n", r"line 2: '\.\./x\.jpg' is not a path inside"),
        ("path,labels\n/etc/passwd,sea\n", "line 2: '/etc/passwd' is not a path inside"),
        ("path,labels\nC:\\x.jpg,sea\n", "line 2: 'C:/x.jpg' is not a path inside"),
        ("path,labels\n.,sea\n", "is not a path inside"),
        ("path,labels\n,sea\n", r"line 2: '' is not a path inside"),
        ("path,labels\na/1.jpg,sea\n", "1 labels in 1 photos; at least two are needed"),
        ("path,labels\n", "0 labels in 0 photos"),
        ('path,labels\n"a/1.jpg,sea\n', "cannot be read as CSV in UTF-8"),
        ("path,labels\na/1.jpg,\udcff\n", "cannot be read as CSV in UTF-8"),
    ],
)
def test_a_wrong_line_is_named(text: str, says: str, table: Path) -> None:
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=says) as caught:
        open_dataset("table", table)
    assert str(table) in str(caught.value)


def test_what_is_no_table(table: Path) -> None:
    with pytest.raises(UsageError, match="no such table; name a CSV file with the columns path and labels"):
        open_dataset("table", table.parent)
    with pytest.raises(UsageError, match="no such folder"):
        open_dataset("own", table.parent / "nowhere.csv")
