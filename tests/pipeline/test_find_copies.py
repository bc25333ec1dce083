"""`audit --copies` with a tiny copy detector: which pairs it reports, what stands beside them, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from copy_detector import scene
from hashshield.checkpoints.file import read_checkpoint, write_checkpoint
from hashshield.errors import UsageError
from hashshield.metrics.image import pdq
from hashshield.models.load import open_models
from hashshield.pipeline.find_copies import PDQ_WITHIN, find_copies
from hashshield.pipeline.rows import CopyPair
from tiny_net import encoded

pytest.importorskip("pdqhash")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two photos of mine, and a folder with edited copies of one of them, a copy of nobody's, and no photo."""
    mine, saved = tmp_path / "mine", tmp_path / "saved"
    for folder in (mine, saved / "deep"):
        folder.mkdir(parents=True)
    for name, seed in (("a.png", 900), ("b.png", 901)):
        (mine / name).write_bytes(encoded(scene(seed)))
    photo = Image.fromarray(scene(900))
    photo.save(saved / "again.jpg", quality=60)
    ImageOps.mirror(photo).save(saved / "deep" / "mirrored.png")
    for seed in range(910, 916):
        (saved / f"{seed}.png").write_bytes(encoded(scene(seed)))
    (saved / "notes.txt").write_text("no photo")
    (saved / "broken.png").write_bytes(encoded(scene(1))[:60])
    return mine, saved


def look(path: Path, gallery: Path, detector: Path, tmp_path: Path, told: Any, **how: Any) -> list[CopyPair]:
    plain: dict[str, Any] = {"models": [str(detector)], "vault": tmp_path / "vault", "device": "cpu"}
    return find_copies(path, gallery, progress=told, **{**plain, **how})


def test_copies_are_the_pairs_above_the_cards_cosine_and_those_of_pdq(
    folders: tuple[Path, Path], copy_detector: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    mine, saved = folders
    rows = look(mine, saved, copy_detector, tmp_path, told, models=[str(copy_detector), f"{tiny}:16"])
    (opened,) = open_models([str(copy_detector)])
    expected = {}
    for photo in sorted(mine.iterdir()):
        for other in sorted(saved.rglob("*.*")):
            if other.name in ("notes.txt", "broken.png"):
                continue
            one, two = (opened.hash(np.asarray(Image.open(path).convert("RGB"))) for path in (photo, other))
            cosine = float(one.features @ two.features / (one.features.norm() * two.features.norm()))
            classical = [pdq(Image.open(path).convert("RGB")) for path in (photo, other)]
            if cosine >= (opened.card.cosine or 0) or int((classical[0] != classical[1]).sum()) <= PDQ_WITHIN:
                expected[str(photo), str(other)] = (round(cosine, 3), int((one.bits != two.bits).sum()))
    pairs = [row for row in rows if row.status == "copy"]
    found = {(row.path, str(row.copy)): (round(row.cosine or 0, 3), row.distance) for row in pairs}
    assert found == expected
    assert (str(mine / "a.png"), str(saved / "again.jpg")) in found
    again = next(row for row in pairs if str(row.copy).endswith("again.jpg"))
    bits = [pdq(Image.open(path).convert("RGB")) for path in (mine / "a.png", saved / "again.jpg")]
    assert again.pdq_distance == int((bits[0] != bits[1]).sum())
    assert again.pdq_match == (again.pdq_distance <= 31)
    assert [(each.model, each.bits, each.match) for each in again.semantic] == [
        (f"{tiny}:16", 16, again.semantic[0].distance <= 2)
    ]
    assert (again.model, again.bits, again.within) == (opened.name, 256, opened.card.within)
    assert {(Path(row.path).name, row.status) for row in rows if row.status != "copy"} == {
        ("notes.txt", "skipped"),
        ("broken.png", "failed"),
    }
    assert told.total == 11


def test_pdq_finds_what_the_network_does_not_unless_a_threshold_was_asked_for(
    folders: tuple[Path, Path], copy_detector: Path, tmp_path: Path, told: Any
) -> None:
    mine, saved = folders
    Image.fromarray(scene(900)).filter(ImageFilter.GaussianBlur(2)).save(saved / "blurred.png")
    checkpoint = read_checkpoint(copy_detector)
    strict = tmp_path / "strict.safetensors"
    write_checkpoint(strict, replace(checkpoint.card, cosine=0.99999), checkpoint.weights, {})
    rows = [row for row in look(mine / "a.png", saved, strict, tmp_path, told) if row.status == "copy"]
    blurred = next(row for row in rows if str(row.copy).endswith("blurred.png"))
    assert blurred.cosine is not None
    assert blurred.cosine < 0.99999
    assert blurred.pdq_distance is not None
    assert blurred.pdq_distance <= PDQ_WITHIN == blurred.pdq_within
    assert all(row.pdq_distance is not None and row.pdq_distance <= PDQ_WITHIN for row in rows)
    asked = [row for row in look(mine / "a.png", saved, strict, tmp_path, told, threshold=0) if row.status == "copy"]
    assert not any(str(row.copy).endswith("blurred.png") and row.distance for row in asked)
    assert all(row.pdq_within is None and row.distance == 0 for row in asked)


def test_a_folder_searched_in_itself_names_each_pair_once(copy_detector: Path, tmp_path: Path, told: Any) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    for name, seed in (("a.png", 920), ("b.png", 921), ("c.png", 922)):
        (folder / name).write_bytes(encoded(scene(seed)))
    Image.fromarray(scene(920)).save(folder / "z.jpg", quality=80)
    rows = look(folder, folder, copy_detector, tmp_path, told, threshold=40)
    assert [(Path(row.path).name, Path(str(row.copy)).name) for row in rows] == [("a.png", "z.jpg")]
    assert rows[0].cosine_threshold is None
    assert rows[0].within == 40
    assert look(folder / "b.png", folder, copy_detector, tmp_path, told, threshold=40) == []


def test_the_nearest_come_first_and_no_more_than_asked_for(
    folders: tuple[Path, Path], copy_detector: Path, tmp_path: Path, told: Any
) -> None:
    mine, saved = folders
    every = [
        row for row in look(mine / "a.png", saved, copy_detector, tmp_path, told, threshold=255) if row.status == "copy"
    ]
    assert len(every) == 8
    cosines = [row.cosine or 0 for row in every]
    assert cosines == sorted(cosines, reverse=True)
    few = look(mine / "a.png", saved, copy_detector, tmp_path, told, threshold=255, top=3)
    assert [row for row in few if row.status == "copy"] == every[:3]


def test_the_sheet_shows_the_photo_and_its_copies(
    folders: tuple[Path, Path], copy_detector: Path, tmp_path: Path, told: Any
) -> None:
    mine, saved = folders
    heard: list[CopyPair] = []
    sheet = tmp_path / "pairs.png"
    rows = look(mine / "a.png", saved, copy_detector, tmp_path, told, sheet=sheet, found=heard.extend)
    assert heard == rows
    with Image.open(sheet) as image:
        assert image.width > 300
        assert image.height > 200
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 500, "the photos are on it"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": "nowhere"}, "PATH .*nowhere: no such file or folder"),
        ({"gallery": "nowhere"}, "--gallery .*nowhere: no such file or folder"),
        ({"gallery": "empty"}, "--gallery .*empty: holds no photo"),
        ({"sheet": "pairs.gif"}, "--sheet .*: a contact sheet is a JPEG or PNG file"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    change: dict[str, str],
    says: str,
    folders: tuple[Path, Path],
    copy_detector: Path,
    tmp_path: Path,
    told: Any,
) -> None:
    (tmp_path / "empty").mkdir()
    places: dict[str, Any] = {"path": folders[0], "gallery": folders[1]}
    places |= {key: tmp_path / value for key, value in change.items()}
    with pytest.raises(UsageError, match=says):
        look(places.pop("path"), places.pop("gallery"), copy_detector, tmp_path, told, **places)
