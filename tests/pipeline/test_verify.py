from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hashshield.errors import CheckpointError, GoalError, UnknownNameError
from hashshield.metrics.retrieval import bits_of, to_hex
from hashshield.models.load import open_models
from hashshield.pipeline.verify import verify
from hashshield.transforms import pillow_view
from hashshield.types import GoalSpec, Outcome, Verification
from tiny_net import SIZE, encoded, picture

Protect = Callable[..., list[Outcome]]


@pytest.fixture
def check(tmp_path: Path, tiny: Path, told: Any) -> Callable[..., list[Verification]]:
    def now(*paths: Path, **changes: Any) -> list[Verification]:
        plain: dict[str, Any] = {"models": [], "preset": "invisible", "vault": tmp_path / "vault", "device": "cpu"}
        return verify(paths, **{**plain, **changes}, progress=told)

    return now


@pytest.fixture
def pair(tmp_path: Path, protect_now: Protect) -> tuple[Path, Path, Outcome]:
    """A protected photo, its original kept elsewhere, and its row."""
    path, original = tmp_path / "photos" / "a.png", tmp_path / "original.png"
    path.parent.mkdir()
    for seed in range(5):
        # An untrained network keeps some photos to itself; one of five will do.
        path.write_bytes(encoded(picture(96, 128, seed=seed)))
        shutil.copy(path, original)
        (row,) = protect_now(path, tau=0.1)
        if row.status == "protected":
            return path, original, row
    pytest.fail(f"not one of five photos could be protected: {row.reason}")


def hex_code(tiny: Path, path: Path) -> str:
    (model,) = open_models([f"{tiny}:16"])
    with torch.inference_mode():
        image = pillow_view(np.asarray(Image.open(path).convert("RGB")), SIZE)
        return to_hex(bits_of(model.model(image[None]).code[0].numpy()))


def test_the_ledger_knows_what_was_promised(
    pair: tuple[Path, Path, Outcome], check: Callable[..., list[Verification]], tiny: Path
) -> None:
    path, _, row = pair
    (found,) = check(path)
    assert found.status == "protected"
    assert found.source == "ledger"
    assert found.goal == "away"
    assert found.distance_from_original == row.distance_from_original
    assert found.codes == row.codes
    assert found.hex_codes == {f"{tiny.resolve()}:16": hex_code(tiny, path)}


@pytest.mark.parametrize("suffix", [":16", ""])
def test_networks_may_be_named_in_any_way(
    suffix: str,
    pair: tuple[Path, Path, Outcome],
    check: Callable[..., list[Verification]],
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tiny.parent)
    (found,) = check(pair[0], models=[f"{tiny.name}{suffix}"])
    if suffix:
        assert found.status == "protected"
        return
    # Without a length it is the longest, of which nothing was promised.
    assert found.status == "unknown"
    assert found.reason is not None
    assert "tiny.safetensors:16 only; give --original" in found.reason
    assert set(found.hex_codes) == {f"{tiny.resolve()}:24"}


def test_an_edit_of_the_metadata_is_no_matter(
    pair: tuple[Path, Path, Outcome], check: Callable[..., list[Verification]]
) -> None:
    path, _, _ = pair
    Image.open(path).save(path, dpi=(99, 99))
    (found,) = check(path)
    assert (found.status, found.source) == ("protected", "ledger")


def test_what_the_ledger_does_not_know_is_unknown(
    pair: tuple[Path, Path, Outcome], check: Callable[..., list[Verification]], tiny: Path
) -> None:
    path, original, _ = pair
    other = path.with_name("other.png")
    other.write_bytes(encoded(picture(96, 128, seed=8)))
    rows = check(original, other, models=[f"{tiny}:16"])
    assert [r.status for r in rows] == ["original", "unknown"]
    assert rows[0].reason == "the photo as it was before it was protected; searches find it by its own code"
    assert rows[1].reason == "not in the ledger; give the photo it was made from with --original"
    assert rows[1].hex_codes == {f"{tiny.resolve()}:16": hex_code(tiny, other)}
    assert rows[1].codes == ()


def test_a_protected_photo_stands_for_what_it_was(
    pair: tuple[Path, Path, Outcome], check: Callable[..., list[Verification]], tiny: Path, tmp_path: Path, told: Any
) -> None:
    """In place, nothing else is left to name; held against its own code, every faithful copy is not protected."""
    path, original, row = pair
    online = tmp_path / "online.png"
    Image.open(path).convert("RGB").resize((96, 72)).save(online)
    (found,) = check(online, original=path, otherwise=["lite0-caltech101:48"])
    (against,) = check(online, original=original, models=[f"{tiny}:16"])
    assert (found.source, found.goal) == ("original", "away")
    assert found.distance_from_original == against.distance_from_original
    assert [code.model for code in found.codes] == [f"{tiny.resolve()}:16"]
    told_of = [text for text in told.notices if "new vault" not in text]
    assert told_of == [f"{path}: is protected; compared with the photo it was"]
    (copy,) = check(path, original=path)
    assert (copy.status, copy.codes) == ("protected", row.codes)


def test_a_network_or_goal_that_was_not_promised_takes_the_original_from_the_vault(
    pair: tuple[Path, Path, Outcome], check: Callable[..., list[Verification]], tiny: Path
) -> None:
    path, original, _ = pair
    for changes in ({"models": [f"{tiny}:24"]}, {"models": [f"{tiny}:16"], "goal": GoalSpec("opposite")}):
        (found,), (against,) = check(path, original=path, **changes), check(path, original=original, **changes)
        assert found == against


def test_against_an_original(
    pair: tuple[Path, Path, Outcome], check: Callable[..., list[Verification]], tiny: Path, tmp_path: Path
) -> None:
    path, original, row = pair
    common = {"models": [f"{tiny}:16"], "original": original, "vault": tmp_path / "another"}
    found, same = check(path, original, **common)
    assert (found.status, found.source) == ("protected", "original")
    assert found.distance_from_original == row.distance_from_original
    assert (same.status, same.distance_from_original) == ("not_protected", 0)


def test_against_a_goal(
    tmp_path: Path, protect_now: Protect, check: Callable[..., list[Verification]], tiny: Path
) -> None:
    path, original = tmp_path / "a.png", tmp_path / "original.png"
    path.write_bytes(encoded(picture(96, 128, seed=4)))
    shutil.copy(path, original)
    goal = GoalSpec("opposite")
    (row,) = protect_now(path, goal=goal, tau=0.1, accept_best=True)
    common = {"models": [f"{tiny}:16"], "original": original, "goal": goal}
    for tolerance in (0, 16):
        (found,) = check(path, tolerance=tolerance, **common)
        assert found.goal == "opposite"
        assert found.distance_to_goal == row.distance_to_goal == 16 - (row.distance_from_original or 0)
        assert found.status == ("protected" if (row.distance_to_goal or 0) <= tolerance else "not_protected")
    (by_ledger,) = check(path)
    assert by_ledger.distance_to_goal == row.distance_to_goal
    assert by_ledger.status == ("protected" if row.status == "protected" else "not_protected")


def test_folders_and_bad_files(
    pair: tuple[Path, Path, Outcome], check: Callable[..., list[Verification]], tmp_path: Path, told: Any
) -> None:
    path, _, _ = pair
    (path.parent / "notes.txt").write_text("no photo")
    (path.parent / "cut.png").write_bytes(path.read_bytes()[:300])
    rows = {Path(r.path).name: r for r in check(path.parent, tmp_path / "nowhere.png")}
    assert {name: r.status for name, r in rows.items()} == {
        "a.png": "protected",
        "notes.txt": "skipped",
        "cut.png": "failed",
        "nowhere.png": "failed",
    }
    assert all(rows[name].reason for name in ("notes.txt", "cut.png", "nowhere.png"))
    assert told.total == 4
    named = check(path.parent / "notes.txt")
    assert [r.status for r in named] == ["failed"]


def test_verify_writes_nothing(pair: tuple[Path, Path, Outcome], check: Callable[..., list[Verification]]) -> None:
    path, _, _ = pair
    before, stat = path.read_bytes(), path.stat()
    check(path.parent)
    assert path.read_bytes() == before
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)


def test_a_network_that_is_gone_is_a_failure_of_the_file(
    pair: tuple[Path, Path, Outcome],
    check: Callable[..., list[Verification]],
    tmp_path: Path,
    protect_now: Protect,
    tiny: Path,
) -> None:
    copied = tmp_path / "copied.safetensors"
    shutil.copy(tiny, copied)
    path = tmp_path / "b.png"
    path.write_bytes(encoded(picture(96, 128, seed=5)))
    protect_now(path, models=(f"{copied}:16",), accept_best=True)
    copied.unlink()
    rows = check(path, pair[0])
    assert [r.status for r in rows] == ["failed", "protected"]
    assert rows[0].reason is not None
    assert "copied.safetensors: no such checkpoint file" in rows[0].reason


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"models": ["lite9"]}, UnknownNameError),
        ({"models": ["nowhere.safetensors"]}, CheckpointError),
        ({"goal": GoalSpec("class", "nothing")}, UnknownNameError),
        ({"goal": GoalSpec("set", "nowhere")}, GoalError),
    ],
)
def test_what_cannot_be_meant(
    changes: dict[str, Any],
    error: type[Exception],
    pair: tuple[Path, Path, Outcome],
    check: Callable[..., list[Verification]],
    tiny: Path,
) -> None:
    with pytest.raises(error):
        check(pair[0], **{"models": [f"{tiny}:16"], "original": pair[1], **changes})


@pytest.mark.long
def test_every_promised_view_is_checked(
    tmp_path: Path, protect_now: Protect, check: Callable[..., list[Verification]], tiny: Path
) -> None:
    path, original = tmp_path / "photos" / "wide.png", tmp_path / "original.png"
    path.parent.mkdir()
    for seed in range(10):
        path.write_bytes(encoded(picture(96, 160, seed=seed)))
        shutil.copy(path, original)
        (row,) = protect_now(path, tau=0.2, preset="balanced", steps=150)
        if row.status == "protected":
            break
    assert row.status == "protected"
    assert row.preset == "balanced"
    assert [code.view for code in row.codes] == ["card", "squash"]
    (found,) = check(path)
    assert found.status == "protected"
    assert found.codes == row.codes
    common = {"models": [f"{tiny}:16"], "original": original, "vault": tmp_path / "another"}
    (by_original,) = check(path, preset="balanced", **common)
    assert by_original.status == "protected"
    assert [code.view for code in by_original.codes] == ["card", "squash"]
    (card_only,) = check(path, **common)
    assert [code.view for code in card_only.codes] == ["card"]
