"""What a run is said to take before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hashshield.pipeline.estimate import in_words, seconds_each, steps_beside_search, total_seconds, usual_steps
from hashshield.pipeline.plan import Job
from hashshield.types import Request


def jobs(number: int, size: int = 30_000, suffix: str = ".jpg") -> list[Job]:
    return [Job(Path(f"{i}{suffix}"), None, size, None) for i in range(number)]


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)


@pytest.mark.usefixtures("four_cores")
def test_one_photo_is_searched_on_one_core_and_many_share_them() -> None:
    request = Request(device="cpu")
    one, many = seconds_each(jobs(1), request), seconds_each(jobs(40), request)
    assert one is not None
    assert many is not None
    assert one[0] == pytest.approx(4 * many[0])
    assert sum(seconds_each(jobs(4), request) or ()) == pytest.approx(one[0])


def test_the_start_counts() -> None:
    assert total_seconds([1.0, 2.0]) > 3.0 + 2.0
    assert total_seconds([]) == total_seconds([0.0])


def test_steps_are_those_of_the_preset_unless_they_are_named() -> None:
    assert usual_steps(Request(preset="invisible")) < usual_steps(Request(preset="balanced"))
    assert usual_steps(Request(preset="invisible", steps=7)) == pytest.approx(10.5)
    assert usual_steps(Request(steps=7)) == pytest.approx(40.5), "features are moved as long as ever"


def test_large_and_lossless_files_cost_more_beside_the_search() -> None:
    small, large = jobs(1)[0], jobs(1, 4_000_000)[0]
    assert 5 < steps_beside_search(small) < 10
    assert steps_beside_search(large) > 10 * steps_beside_search(small)
    assert steps_beside_search(jobs(1, 4_000_000, ".png")[0]) < steps_beside_search(large)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 second"), (44, "about 44 seconds"), (200, "about 3 minutes"), (9000, "about 2 hours")],
)
def test_lengths_in_words(seconds: float, words: str) -> None:
    assert in_words([seconds]) == words
