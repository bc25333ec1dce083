"""Names that tell when a photo was taken, and names that tell nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hashshield import api
from hashshield.errors import UsageError
from hashshield.pipeline.places import links_in_name, secret_name
from tiny_net import encoded, picture


@pytest.mark.parametrize(
    "name",
    [
        "IMG_20240131_123456.jpg",
        "PXL_20240131_123456789.MP.jpg",
        "20240131123456.jpg",
        "2024-01-31 12.34.56.png",
        "Screenshot 2024-01-31 at 12.34.56.png",
        "IMG-20240131-WA0007.jpg",
        "signal-2024-01-31-123456.jpg",
        "Strand 31.01.2024.jpg",
        "01-31-2024.jpg",
        "FB_IMG_1706700000000.jpg",
    ],
)
def test_a_date_in_the_name_is_told(name: str) -> None:
    assert links_in_name(Path("DCIM") / name) == ("date in the file name",)


@pytest.mark.parametrize(
    "name",
    [
        "IMG_1234.jpg",
        "P1000001.JPG",
        "DSC_20241331.jpg",
        "20240230.jpg",
        "n02097130_dog.jpg",
        "1920x1080.png",
        "18991231.jpg",
        "photo-2024.jpg",
        "12345678901234567890.jpg",
    ],
)
def test_other_numbers_are_not(name: str) -> None:
    assert links_in_name(Path("2024-01-31") / name) == ()


def test_a_name_that_tells_nothing_is_the_same_each_time_and_needs_the_key(tmp_path: Path) -> None:
    one = secret_name(tmp_path / "Greece 2019.JPG", b"k" * 32)
    assert re.fullmatch(r"[0-9a-f]{16}\.jpg", one)
    assert one == secret_name(tmp_path / "Greece 2019.JPG", b"k" * 32)
    others = {secret_name(tmp_path / "Greece 2019.JPG", b"l" * 32), secret_name(tmp_path / "b.JPG", b"k" * 32)}
    assert len({one, *others}) == 3


def test_copies_get_such_names_and_the_ledger_knows_what_they_are(tiny: Path, tmp_path: Path) -> None:
    photos, out, vault = tmp_path / "photos", tmp_path / "out", tmp_path / "vault"
    # The same name, and the same content, twice: each has its own copy.
    sent = {"2019 Greece/IMG_20190704_101112.PNG": 1, "2020 Italy/IMG_20190704_101112.PNG": 1, "b.png": 2}
    for name, seed in sent.items():
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(encoded(picture(seed=seed)))
    settings = {"model": f"{tiny}:16", "preset": "invisible", "steps": 60, "witness": "none", "vault": vault}
    rows = api.protect_files(photos, output=out, rename=True, **settings)
    assert [row.status for row in rows] == ["protected"] * 3
    copies = [Path(str(row.output)) for row in rows]
    assert all(copy.parent == out and re.fullmatch(r"[0-9a-f]{16}\.png", copy.name) for copy in copies)
    assert sorted(out.iterdir()) == sorted(copies)
    assert [row.links_to_owner for row in rows] == [()] * 3
    told = api.protect_files(photos / "2019 Greece", output=tmp_path / "named", **settings)
    assert told[0].links_to_owner == ("date in the file name",)

    # Met again, the run writes the same files and no others.
    assert [row.output for row in api.protect_files(photos, output=out, rename=True, **settings)] == [*map(str, copies)]
    assert sorted(out.iterdir()) == sorted(copies)

    # Moved and known by what it holds.
    moved = copies[2].rename(tmp_path / "elsewhere.png")
    assert api.verify(moved, vault=vault).status == "protected"
    (row,) = api.restore(moved, vault=vault)
    assert row.status == "skipped"
    assert str(row.reason).endswith(f"its original was never changed and is {photos / 'b.png'}")


def test_new_names_are_for_copies(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    with pytest.raises(UsageError, match="folder for copies with output"):
        api.protect(tmp_path / "a.png", in_place=True, rename=True, model=f"{tiny}:16", vault=tmp_path / "vault")
