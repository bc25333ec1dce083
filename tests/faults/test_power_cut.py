from __future__ import annotations

import copy
import random
import sys
from pathlib import Path

import fault_scenario as scenario
import pytest
from fault_disk import Disk

from hashshield.storage import calls

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the recorder asks /proc which file a descriptor is")


def record(base: Path, *, without: frozenset[str] = frozenset()) -> list[Disk]:
    """Run the session and return the disk as it was before each step; `without` leaves out kinds of flushing."""
    scenario.lay_out(base)
    disk = Disk(base)
    disk.load()
    states = [copy.deepcopy(disk)]

    def observer(name: str, arguments: tuple[object, ...]) -> None:
        states.append(copy.deepcopy(disk))
        if name not in without:
            disk.observe(name, arguments)

    calls.observe(observer)
    scenario.act(base)
    calls.observe(None)
    states.append(disk)
    return states


def check_all(states: list[Disk], base: Path, generator: random.Random) -> None:
    for state in states:
        for aftermath in state.after_a_cut(generator):
            aftermath.materialise()
            scenario.check(base)


@pytest.fixture
def base(quick: Path) -> Path:
    folder = quick / "disk"
    folder.mkdir()
    return folder


def test_nothing_is_lost_when_the_power_goes(base: Path) -> None:
    generator = random.Random(1)
    states = record(base)
    assert len(states) > 100
    check_all(states, base, generator)
    scenario.finish(base)


@pytest.mark.parametrize("left_out", ["sync", "sync_folder"])
def test_the_model_notices_what_is_not_flushed(left_out: str, base: Path) -> None:
    """The test above would be worth nothing if it passed without the flushes."""
    generator = random.Random(1)
    states = record(base, without=frozenset({left_out}))
    with pytest.raises((AssertionError, OSError)):
        check_all(states, base, generator)
