"""The time left, held against a recorded run of sixty photos, and against runs that are drawn."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hashshield.cli.progress import RunPace

SINGLE, MANY = [20, 21, 22, 23, 23, 24, 26, 27, 30, 32, 33, 35, 38, 44, 56], [54] * 5 + [108] * 4 + [216]
"""Steps that photos took with `--preset invisible`, and with the default, which tries some again."""


@pytest.fixture(scope="module")
def recorded(data: Path) -> dict[str, Any]:
    """A run of `protect`, as `tests/data/README.md` has it; an event is seconds, photo, and finished or not."""
    run: dict[str, Any] = json.loads((data / "run-of-60-photos.json").read_text())
    return run


def estimates(run: dict[str, Any]) -> Iterator[tuple[float, float | None]]:
    """Seconds since the start and expected total at each event."""
    pace = RunPace()
    pace.start(len(run["beside"]), 0.0)
    pace.expect(run["usual"], {str(i): cost for i, cost in enumerate(run["beside"])}, 0.0)
    for now, photo, finished in run["events"]:
        (pace.done if finished else pace.stepped)(str(photo))
        left = pace.seconds_left(now)
        yield now, None if left is None else now + left


def worst(run: dict[str, Any]) -> float:
    """The largest error of the expected total after the first tenth of a run, as a share of the true one."""
    end = run["events"][-1][0]
    found = [total for now, total in estimates(run) if now >= end / 10]
    assert None not in found
    return max(abs(total / end - 1) for total in found if total is not None)


def test_the_total_of_a_recorded_run_is_known_after_its_first_tenth(recorded: dict[str, Any]) -> None:
    assert len(recorded["beside"]) == 60
    assert sum(finished for *_, finished in recorded["events"]) == 60
    assert worst(recorded) <= 0.25
    last, left = list(estimates(recorded))[-1]
    assert left == pytest.approx(last)


def drawn(steps: list[int], usual: float, seed: int) -> dict[str, Any]:
    """Sixty photos, two at once; each step takes about 0.1 s, each photo another 0.7."""
    rng = random.Random(seed)
    run: dict[str, Any] = {"usual": usual, "beside": [7.0] * 60, "events": []}
    left: dict[int, int] = {}
    waiting, now = list(range(60)), 0.0
    while waiting or left:
        while waiting and len(left) < 2:
            left[waiting.pop(0)] = rng.choice(steps)
        for photo in list(left):
            now += rng.uniform(0.08, 0.12)
            left[photo] -= 1
            run["events"].append((now, photo, False))
            if not left[photo]:
                del left[photo]
                now += 0.7
                run["events"].append((now, photo, True))
    return run


@pytest.mark.parametrize(("steps", "usual"), [(SINGLE, 30.0), (MANY, 81.0)], ids=["invisible", "balanced"])
def test_the_total_of_most_runs_is_known_after_their_first_tenth(steps: list[int], usual: float) -> None:
    errors = sorted(worst(drawn(steps, usual, seed)) for seed in range(20))
    assert errors[-1] <= 0.25
    assert errors[10] <= 0.15


def test_nothing_is_said_before_anything_is_known() -> None:
    pace = RunPace()
    assert pace.share() == 0.0
    assert pace.finishing is None
    pace.start(100, 0.0)
    pace.expect(50, {}, 10.0)
    assert pace.seconds_left(10.0) is None
    pace.stepped("a")
    assert pace.seconds_left(60.0) is None, "one of five thousand steps"


def test_without_steps_photos_count() -> None:
    pace = RunPace()
    pace.start(10, 0.0)
    for photo in "abcde":
        pace.done(photo)
    assert pace.work() == (5.0, 10.0)
    assert pace.seconds_left(20.0) == pytest.approx(20.0)
    pace.start(10, 30.0)
    assert pace.seconds_left(40.0) == pytest.approx(120.0), "more were found: the clock goes on"


def test_a_photo_that_took_no_step_costs_only_the_rest() -> None:
    pace = RunPace()
    pace.start(2, 0.0)
    pace.expect(50, {"a": 5.0, "b": 5.0}, 0.0)
    pace.done("a")
    assert pace.work() == (5.0, 60.0)
    for _ in range(60):
        pace.stepped("b")
    assert pace.finishing == "b"
    done, total = pace.work()
    assert (done, total > done) == (65.0, True), "longer than usual: it may go on"
