"""What a search service finds of a photo, held against ranks counted one by one."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from hashshield.boundary import observe_stages
from hashshield.errors import HashshieldError, PhotoError, UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import open_models
from hashshield.pipeline.audit import audit
from hashshield.pipeline.rows import Audit
from hashshield.storage import Store, read_snapshot
from hashshield.transforms import pillow_view
from hashshield.types import Outcome
from tiny_net import SIZE, encoded, picture, write_tiny

Protect = Callable[..., list[Outcome]]


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Ten photos, one of them below, one near to the photo that is searched for."""
    folder = tmp_path / "gallery"
    (folder / "deep").mkdir(parents=True)
    for seed in range(9):
        (folder / f"{seed}.png").write_bytes(encoded(picture(seed=20 + seed)))
    near = picture(seed=5).copy()
    near[:3, :3] = 128
    (folder / "deep" / "near.png").write_bytes(encoded(near))
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """An original and what stands for its protected copy: another picture."""
    before, after = tmp_path / "before.png", tmp_path / "after.png"
    before.write_bytes(encoded(picture(seed=5)))
    after.write_bytes(encoded(picture(seed=6)))
    return before, after


def bits(path: Path, model: Any) -> NDArray[np.int8]:
    with Image.open(path) as image, torch.inference_mode():
        view = pillow_view(np.asarray(image.convert("RGB")), SIZE)
        return bits_of(model.model(view[None]).code[0].numpy())


def far(one: Path, other: Path, model: Any) -> int:
    return int(np.count_nonzero(bits(one, model) != bits(other, model)))


def search(pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any, **how: Any) -> list[Audit]:
    plain: dict[str, Any] = {"models": [f"{tiny}:16"], "original": pair[0], "vault": tmp_path / "vault"}
    return audit(pair[1], gallery, progress=told, device="cpu", **{**plain, **how})


def test_ranks_and_matches_are_those_counted_one_by_one(
    pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    names = [f"{tiny}:16", f"{tiny}:24"]
    rows = search(pair, gallery, tiny, tmp_path, told, models=names, top=4, threshold=5)
    assert [row.model for row in rows] == names
    files = list(gallery.rglob("*.png"))
    for row, model in zip(rows, open_models(names), strict=True):
        before, after = ({file: far(photo, file, model) for file in files} for photo in pair)
        between = far(*pair, model)
        assert (row.status, row.gallery, row.threshold, row.distance) == ("audited", 10, 5, between)
        assert row.original == str(pair[0])
        assert row.original_rank == 1 + sum(distance < between for distance in after.values())
        assert row.protected_rank == 1 + sum(distance < between for distance in before.values())
        assert row.within_before == sum(distance <= 5 for distance in before.values()) > 0
        assert row.within_after == sum(distance <= 5 for distance in after.values())
        for nearest, seen in ((row.nearest_before, before), (row.nearest_after, after)):
            assert [seen[Path(photo.path)] for photo in nearest] == sorted(seen.values())[:4]
            for photo in nearest:
                path = Path(photo.path)
                assert (photo.distance_before, photo.distance_after) == (before[path], after[path])
                assert photo.rank_before == 1 + sum(distance < before[path] for distance in before.values())
                assert photo.rank_after == 1 + sum(distance < after[path] for distance in after.values())
        names_of = ({photo.path for photo in nearest} for nearest in (row.nearest_before, row.nearest_after))
        assert row.shared == len(set.intersection(*names_of))
    assert rows[0].nearest_before[0].path == str(gallery / "deep" / "near.png")
    assert told.total == 10
    assert told.rows == [None] * 10


def test_neither_of_the_two_is_searched_among(
    pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    for number, path in enumerate(pair):
        (gallery / f"copy {number}.png").write_bytes(path.read_bytes())
    (row,) = search(pair, gallery, tiny, tmp_path, told)
    assert row.gallery == 10
    assert row.threshold == 2, "an eighth of 16 bits"


def test_the_vault_knows_the_original(
    gallery: Path, tiny: Path, tmp_path: Path, told: Any, protect_now: Protect
) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(encoded(picture(seed=5)))
    before = photo.read_bytes()
    assert protect_now(photo, tau=0.1, steps=150)[0].status == "protected"
    (row,) = audit(photo, gallery, models=[f"{tiny}:16"], vault=tmp_path / "vault", device="cpu", progress=told)
    (tmp_path / "before.png").write_bytes(before)
    (model,) = open_models([f"{tiny}:16"])
    assert row.original == "the vault"
    assert row.distance == far(photo, tmp_path / "before.png", model)
    assert row.distance in (7, 8, 9)
    assert row.nearest_before[0].path == str(gallery / "deep" / "near.png")
    edited = tmp_path / "edited.png"
    with Image.open(photo) as image:
        image.save(edited)
    assert edited.read_bytes() != photo.read_bytes()
    (again,) = audit(edited, gallery, models=[f"{tiny}:16"], vault=tmp_path / "vault", device="cpu", progress=told)
    assert again.distance == row.distance, "it is known by its pixels too"


def test_an_original_that_cannot_be_had(
    pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any, protect_now: Protect
) -> None:
    (row,) = search(pair, gallery, tiny, tmp_path, told, original=None)
    assert (row.status, row.reason) == ("unknown", "not in the ledger; give its original with --original")
    protect_now(pair[0], output=tmp_path / "out", tau=0.1)
    (row,) = search((pair[0], tmp_path / "out" / "before.png"), gallery, tiny, tmp_path, told, original=None)
    assert row.status == "failed"
    assert "made by --output" in str(row.reason)
    assert str(row.reason).endswith("; give the original with --original")


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    (gallery / "cut.png").write_bytes(encoded(picture(seed=3))[:200])
    (gallery / "old.tiff").write_bytes(encoded(picture(seed=3), "TIFF"))
    (gallery / "notes.txt").write_text("no photo")
    (gallery / "link.png").symlink_to(gallery / "1.png")
    shape = write_tiny(tmp_path / "other.safetensors", name="other", input=replace(SIZE, resize=40))
    rows = search(pair, gallery, tiny, tmp_path, told, models=[f"{tiny}:16", f"{shape}:16"])
    assert [(row.status, row.gallery) for row in rows[:2]] == [("audited", 10), ("audited", 10)]
    assert {(row.status, Path(row.path).name) for row in rows[2:]} == {
        ("failed", "cut.png"),
        ("failed", "old.tiff"),
        ("skipped", "notes.txt"),
    }
    assert len(rows) == 5
    assert all(row.reason for row in rows[2:])


def test_a_picture_of_both_searches(
    pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    sheet = tmp_path / "sheet.png"
    search(pair, gallery, tiny, tmp_path, told, top=20, sheet=sheet)
    assert sheet.stat().st_mode & 0o777 == 0o600
    with Image.open(sheet) as image:
        shown = np.asarray(image)
    crimson = (shown == (220, 20, 60)).all(axis=2)
    half = len(crimson) // 2
    assert crimson[:half].any(), "the protected photo is among what the original finds, as the gallery is small"
    assert crimson[half:].any()
    held = sheet.read_bytes()
    with pytest.raises(UsageError, match="exists, so it is left as it is"):
        search(pair, gallery, tiny, tmp_path, told, sheet=sheet)
    assert sheet.read_bytes() == held
    other = tmp_path / "sheet.jpg"
    search(pair, gallery, tiny, tmp_path, told, top=1, sheet=other)
    assert Image.open(io.BytesIO(other.read_bytes())).format == "JPEG"


def test_what_is_refused_before_any_work(
    pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    with pytest.raises(UsageError, match=r"end its name with \.jpg or \.png"):
        search(pair, gallery, tiny, tmp_path, told, sheet=tmp_path / "sheet.gif")
    with pytest.raises(UsageError, match=r"its folder .*none does not exist"):
        search(pair, gallery, tiny, tmp_path, told, sheet=tmp_path / "none" / "sheet.jpg")
    with pytest.raises(UsageError, match="no such folder"):
        search(pair, pair[0], tiny, tmp_path, told)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="holds no photo to search among"):
        search(pair, empty, tiny, tmp_path, told)
    with pytest.raises(PhotoError, match=r"gone\.png"):
        search((pair[0], tmp_path / "gone.png"), gallery, tiny, tmp_path, told)
    assert told.total in (None, 0)


def test_a_file_name_may_hold_anything(
    pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    (gallery / "0.png").rename(gallery / "line\nbreak \x1b[31m a name that is longer than any picture is wide.png")
    (gallery / "1.png").rename(gallery / os.fsdecode(b"\xff\xfe.png"))
    search(pair, gallery, tiny, tmp_path, told, top=20, sheet=tmp_path / "sheet.jpg")
    with Image.open(tmp_path / "sheet.jpg") as image:
        assert image.width == 12 * (160 + 12) + 24


def test_the_ledger_is_not_written(
    pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    search(pair, gallery, tiny, tmp_path, told)
    with Store.open(tmp_path / "vault") as store:
        assert store.known(read_snapshot(pair[1], follow=True).sha256) is None


@pytest.mark.parametrize("time", [1, 2])
def test_a_photo_that_one_network_cannot_have_shifts_no_code(
    time: int, pair: tuple[Path, Path], gallery: Path, tiny: Path, tmp_path: Path, told: Any
) -> None:
    """The gallery is hashed once per way of looking at it; a photo may fail the second time only."""
    other = write_tiny(tmp_path / "other.safetensors", input=replace(SIZE, resize=40))
    names = [f"{tiny}:16", f"{other}:24", f"{tiny}:24"]
    seen: list[str] = []

    def fault(stage: str, photo: str) -> None:
        if stage == "decode" and photo == str(gallery / "3.png"):
            seen.append(photo)
            if len(seen) == time:
                raise ZeroDivisionError("at my fault point")

    before = observe_stages(fault)
    try:
        *rows, failed = search(pair, gallery, tiny, tmp_path, told, models=names)
    finally:
        observe_stages(before)
    assert (failed.path, failed.status) == (str(gallery / "3.png"), "failed")
    assert "internal error" in str(failed.reason)
    assert rows == search(pair, gallery, tiny, tmp_path, told, models=names, exclude=["3.png"])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ZeroDivisionError("at my fault point")])
def test_the_rows_are_told_before_a_sheet_that_cannot_be_written(
    error: Exception,
    pair: tuple[Path, Path],
    gallery: Path,
    tiny: Path,
    tmp_path: Path,
    told: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("hashshield.pipeline.audit.contact_sheet", fail)
    found: list[Audit] = []
    with pytest.raises(HashshieldError, match="please report it"):
        search(pair, gallery, tiny, tmp_path, told, sheet=tmp_path / "found.png", found=found.extend)
    assert [row.status for row in found] == ["audited"]
    assert found == search(pair, gallery, tiny, tmp_path, told)
