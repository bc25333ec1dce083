"""What is left of a protection after services, in receipts and in `evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from hashshield.metrics.image import dhash, phash
from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import open_models
from hashshield.pipeline.evaluate import evaluate
from hashshield.transforms import pillow_view, to_image
from hashshield.transforms.pillow import SERVICES
from hashshield.types import GoalSpec, Outcome
from tiny_net import SIZE, encoded, picture

Protect = Callable[..., list[Outcome]]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(160, 200, seed=4)))
    return path


def seen(path: Path, model: Any, name: str = "png") -> NDArray[np.int8]:
    """Bits of a file after a service, with nothing of the pipeline."""
    with Image.open(path) as image:
        (service,) = [s for s in SERVICES if s.name == name]
        done = service.done(image.convert("RGB"))
    if name == "squash":
        view = to_image(np.asarray(done.resize((SIZE.crop, SIZE.crop), Image.Resampling.BILINEAR)))
    else:
        view = pillow_view(np.asarray(done), SIZE)
    with torch.inference_mode():
        return bits_of(model.model(view[None]).code[0].numpy())


def test_a_receipt_holds_every_service_and_the_classical_hashes(
    photo: Path, tiny: Path, tmp_path: Path, protect_now: Protect
) -> None:
    names = (f"{tiny}:16", f"{tiny}:24")
    asked: dict[str, Any] = {"tau": 0.1, "models": names, "accept_best": True, "steps": 8}
    (plain,) = protect_now(photo, output=tmp_path / "plain", vault=tmp_path / "v", **asked)
    (row,) = protect_now(photo, output=tmp_path / "out", survival=True, **asked)
    assert (row.status, row.sha256_after) == (plain.status, plain.sha256_after)
    assert plain.perceptual == ()
    assert {kept.transform for kept in plain.survival} == {"jpeg q75"}
    assert set(plain.survival) <= set(row.survival)
    assert [k.transform for k in row.survival] == [service.name for service in SERVICES for _ in names]
    for model in open_models(names):
        own = seen(photo, model)
        low, high = (7, 9) if model.bits == 16 else (11, 13)
        for kept in (k for k in row.survival if k.model == model.name):
            assert kept.view == ("squash" if kept.transform == "squash" else "card")
            if kept.transform in ("long side 2048", "long side 1024", "thumbnail 320"):
                assert (kept.distance_from_original, kept.distance_to_goal, kept.passed) == (None, None, None)
                assert str(kept.reason).startswith("not applicable: the long side is 200 pixels")
                continue
            distance = np.count_nonzero(seen(tmp_path / "out" / "a.png", model, kept.transform) != own)
            assert kept.distance_from_original == distance
            assert kept.passed == (low <= distance <= high)
            assert kept.reason is None
    with Image.open(photo) as before, Image.open(tmp_path / "out" / "a.png") as after:
        for kind, of in zip(row.perceptual, (phash, dhash), strict=False):
            assert kind.distance == np.count_nonzero(of(before) != of(after)), kind.hash


def test_what_does_not_survive_never_withholds_protection(photo: Path, tmp_path: Path, protect_now: Protect) -> None:
    (row,) = protect_now(photo, output=tmp_path / "out", tau=0.1, survival=True, steps=150)
    assert row.status == "protected"
    assert not all(kept.passed for kept in row.survival if kept.reason is None)


def test_evaluate_measures_the_same(photo: Path, tiny: Path, tmp_path: Path, protect_now: Protect, told: Any) -> None:
    (row,) = protect_now(photo, output=tmp_path / "out", tau=0.1, survival=True, steps=150)
    copy = tmp_path / "out" / "a.png"
    (found,) = evaluate(photo, copy, models=[f"{tiny}:16"], preset="invisible", survival=True, progress=told)
    (plain,) = evaluate(photo, copy, models=[f"{tiny}:16"], preset="invisible", progress=told)
    # Only the draw of `away` cannot be known here: the second file's own code is taken for the goal.
    assert [replace(kept, distance_to_goal=None) for kept in found.survival] == [
        replace(kept, distance_to_goal=None) for kept in row.survival
    ]
    assert found.survival[0].distance_to_goal == 0
    assert found.perceptual == row.perceptual
    assert found.codes == plain.codes
    assert [kept.transform for kept in plain.survival] == ["jpeg q75"]
    assert plain.perceptual == ()


def test_a_target_is_held_against_its_tolerance(photo: Path, tiny: Path, tmp_path: Path, told: Any) -> None:
    target = tmp_path / "target.png"
    target.write_bytes(encoded(picture(160, 200, seed=9)))
    goal = GoalSpec("image", str(target))
    (row,) = evaluate(photo, target, models=[f"{tiny}:16"], goal=goal, survival=True, progress=told)
    (model,) = open_models([f"{tiny}:16"])
    assert row.codes[0].distance_to_goal == 0
    measured = [kept for kept in row.survival if kept.reason is None]
    for kept in measured:
        distance = np.count_nonzero(seen(target, model, kept.transform) != seen(target, model))
        assert (kept.distance_to_goal, kept.passed) == (distance, distance <= 1), kept.transform
    assert {kept.passed for kept in measured} == {True, False}


def test_a_photo_of_another_size_is_measured_too(photo: Path, tiny: Path, tmp_path: Path, told: Any) -> None:
    small = tmp_path / "small.png"
    with Image.open(photo) as image:
        image.resize((100, 80)).save(small)
    (row,) = evaluate(photo, small, models=[f"{tiny}:16"], survival=True, progress=told)
    assert str(row.reason).startswith("sizes differ")
    assert len(row.survival) == len(SERVICES)
    assert row.perceptual[0].matches
