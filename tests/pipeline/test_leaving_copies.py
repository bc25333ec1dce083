"""Protecting against a copy detector: what counts as no copy any more, and that a photo gets there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from copy_detector import scene
from hashshield.models.load import open_models
from hashshield.pipeline.targets import CodeTarget, read_target
from hashshield.pipeline.verify import verify
from tiny_net import encoded

OWN = np.where(np.arange(256) % 3, 1, -1).astype(np.int8)


def target(within: int | None) -> CodeTarget:
    wanted = OWN.copy()
    wanted[:128] *= -1
    return CodeTarget("m:256", OWN, wanted, None, band=True, within=within)


def test_more_bits_than_the_detector_forgives_are_enough() -> None:
    assert target(None).allowed == (115, 141)
    assert target(60).allowed == (61, 141)
    assert target(130).allowed == (115, 141), "never more than any other network is asked for"
    assert [target(60).meets(distance, 0, 0) for distance in (60, 61, 141, 142)] == [False, True, True, False]
    assert target(60).forgives(0) == 128 - 61
    assert target(None).forgives(0) == 13, "those that turn beyond half count as well"


def test_records_keep_what_the_detector_forgives() -> None:
    kept = target(60)
    again = read_target(kept.as_details())
    assert again.within == 60
    assert again.meets(61, 0, 0)
    assert "within" not in target(None).as_details(), "records of other networks stay as they were"
    assert replace(kept, within=None).as_details() == target(None).as_details()


def test_a_photo_is_no_copy_of_itself_any_more(
    copy_detector: Path, tmp_path: Path, told: Any, protect_now: Any
) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(encoded(scene(930, 96, 128)))
    name = f"{copy_detector}:256"
    (row,) = protect_now(photo, models=(name,), tau=0.1, steps=200)
    assert row.status == "protected", row.reason
    (opened,) = open_models([name])
    (code,) = {each.view: each for each in row.codes}.values()
    assert code.distance_from_original > (opened.card.within or 0)
    assert code.cosine < (opened.card.cosine or 0)
    (seen,) = verify([photo], models=[name], vault=tmp_path / "vault", device="cpu", progress=told)
    assert seen.status == "protected"
