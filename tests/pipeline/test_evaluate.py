from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from hashshield.errors import UnknownNameError, UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import open_models
from hashshield.pipeline.evaluate import evaluate
from hashshield.transforms import pillow_view
from hashshield.types import Evaluation, GoalSpec, Outcome
from tiny_net import SIZE, encoded, picture

BEFORE = picture(80, 100, seed=1)
AFTER = BEFORE.copy()
AFTER[::2, ::2, 1] += 5
AFTER[3, 4] = BEFORE[3, 4] - 9


def compare(one: Path, other: Path, tiny: Path, told: Any) -> list[Evaluation]:
    models = [f"{tiny}:16", f"{tiny}:24"]
    vault = tiny.parent / "no vault"
    found = evaluate(one, other, models=models, preset="invisible", vault=vault, device="cpu", progress=told)
    assert not vault.exists(), "looking writes nothing"
    return found


def file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_two_files(tmp_path: Path, tiny: Path, told: Any) -> None:
    one, other = file(tmp_path / "a.png", encoded(BEFORE)), file(tmp_path / "b.png", encoded(AFTER))
    (row,) = compare(one, other, tiny, told)
    error = np.mean((BEFORE.astype(float) - AFTER) ** 2)
    assert row.status == "compared"
    assert row.psnr_db == pytest.approx(10 * math.log10(255**2 / error))
    expected = structural_similarity(
        BEFORE, AFTER, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert row.ssim == pytest.approx(expected, abs=2e-4)
    assert row.linf_levels == 9
    assert row.changed_pixels == pytest.approx((40 * 50 + 1) / 8000)
    for found, model in zip(row.codes, open_models([f"{tiny}:16", f"{tiny}:24"]), strict=True):
        with torch.inference_mode():
            images = torch.stack([pillow_view(p, SIZE) for p in (BEFORE, AFTER)])
            bits = bits_of(model.model(images).code.numpy())
        assert found.distance_from_original == np.count_nonzero(bits[0] != bits[1])
        assert found.bits == model.bits
        assert found.class_rank is not None
    assert told.total == 1


def test_a_file_against_itself(tmp_path: Path, tiny: Path, told: Any) -> None:
    one = file(tmp_path / "a.png", encoded(BEFORE))
    (row,) = compare(one, one, tiny, told)
    assert (row.psnr_db, row.linf_levels, row.changed_pixels) == (math.inf, 0, 0.0)
    assert row.ssim == pytest.approx(1.0)
    assert [c.distance_from_original for c in row.codes] == [0, 0]
    assert [c.class_rank for c in row.codes] == [0, 0]


def test_sizes_that_differ_leave_the_hash_distance(tmp_path: Path, tiny: Path, told: Any) -> None:
    one, other = file(tmp_path / "a.png", encoded(BEFORE)), file(tmp_path / "b.png", encoded(picture(40, 50)))
    (row,) = compare(one, other, tiny, told)
    assert row.status == "compared"
    assert row.reason == "sizes differ (100x80 and 50x40): only the hash distance can be measured"
    assert (row.psnr_db, row.ssim, row.linf_levels) == (None, None, None)
    assert len(row.codes) == 2


def test_grey_and_colour_turned_and_upright_can_be_compared(tmp_path: Path, tiny: Path, told: Any) -> None:
    from PIL import Image

    grey = file(tmp_path / "grey.png", encoded(BEFORE[..., :1]))
    colour = file(tmp_path / "colour.png", encoded(np.repeat(BEFORE[..., :1], 3, axis=2)))
    (row,) = compare(grey, colour, tiny, told)
    assert (row.psnr_db, row.reason) == (math.inf, None)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = file(tmp_path / "turned.png", encoded(np.ascontiguousarray(np.rot90(BEFORE)), exif=exif.tobytes()))
    upright = file(tmp_path / "upright.png", encoded(BEFORE))
    (row,) = compare(upright, turned, tiny, told)
    assert (row.psnr_db, row.reason) == (math.inf, None)


def test_two_folders_are_paired_by_path(tmp_path: Path, tiny: Path, told: Any) -> None:
    for folder in ("one", "other"):
        file(tmp_path / folder / "a.png", encoded(BEFORE))
        file(tmp_path / folder / "deep" / "b.png", encoded(AFTER))
        file(tmp_path / folder / "notes.txt", b"no photo")
    file(tmp_path / "one" / "only here.png", encoded(AFTER))
    file(tmp_path / "other" / "a.png", encoded(AFTER))
    file(tmp_path / "one" / "cut.png", encoded(BEFORE))
    file(tmp_path / "other" / "cut.png", encoded(BEFORE)[:300])
    rows = {Path(r.original).name: r for r in compare(tmp_path / "one", tmp_path / "other", tiny, told)}
    assert {n: r.status for n, r in rows.items()} == {"a.png": "compared", "b.png": "compared", "cut.png": "failed"}
    assert rows["a.png"].linf_levels == 9
    assert rows["b.png"].linf_levels == 0
    assert rows["cut.png"].reason
    assert told.total == 3


def test_what_cannot_be_compared(tmp_path: Path, tiny: Path, told: Any) -> None:
    one = file(tmp_path / "a.png", encoded(BEFORE))
    with pytest.raises(UsageError, match=r"nowhere\.png: no such file"):
        compare(one, tmp_path / "nowhere.png", tiny, told)
    with pytest.raises(UsageError, match="give two files, or two folders"):
        compare(one, tmp_path, tiny, told)
    file(tmp_path / "x" / "b.png", encoded(BEFORE))
    (tmp_path / "y").mkdir()
    with pytest.raises(UsageError, match="hold no photos with the same names"):
        compare(tmp_path / "x", tmp_path / "y", tiny, told)
    with pytest.raises(UnknownNameError):
        evaluate(one, one, models=["lite9"], progress=told)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"preset": "balanced", "accept_best": True}, marks=pytest.mark.long),
        {"goal": GoalSpec("opposite")},
    ],
)
def test_it_says_what_protect_said_of_the_same_file(
    changes: dict[str, Any],
    tmp_path: Path,
    tiny: Path,
    told: Any,
    protect_now: Callable[..., list[Outcome]],
) -> None:
    one = file(tmp_path / "a.png", encoded(picture(96, 128, seed=5)))
    (row,) = protect_now(one, output=tmp_path / "out", **changes)
    assert row.output is not None
    (found,) = evaluate(
        one, Path(row.output), models=[f"{tiny}:16"], vault=tmp_path / "vault", device="cpu", progress=told
    )
    assert [(code.view, code.distance_from_original, code.distance_to_goal) for code in found.codes] == [
        (code.view, code.distance_from_original, code.distance_to_goal) for code in row.codes
    ]
    assert found.survival == row.survival
    assert (found.psnr_db, found.ssim) == (row.psnr_db, row.ssim)
    assert found.linf_levels == row.linf_levels_written


def test_a_goal_that_is_named_counts_and_not_that_of_the_ledger(
    tmp_path: Path, tiny: Path, told: Any, protect_now: Callable[..., list[Outcome]]
) -> None:
    one = file(tmp_path / "a.png", encoded(picture(96, 128, seed=5)))
    (row,) = protect_now(one, output=tmp_path / "out")
    assert row.output is not None
    goal = GoalSpec("image", str(one))
    (found,) = evaluate(
        one, Path(row.output), models=[f"{tiny}:16"], goal=goal, vault=tmp_path / "vault", device="cpu", progress=told
    )
    assert {code.view for code in found.codes} == {"card", "squash"}
    assert found.codes[0].distance_to_goal == found.codes[0].distance_from_original == row.distance_from_original
