"""A search that comes to something else is another version of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hashshield.attacks import CHANGED_IN, SEARCH_VERSION, version_of
from hashshield.attacks.methods import METHODS
from hashshield.attacks.presets import PRESETS
from search_outcomes import FILE, outcomes

RECORDED: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
ADVICE = (
    "{name}: the search comes to another result. If that is meant, raise SEARCH_VERSION in "
    "src/hashshield/attacks/__init__.py and run `python tests/search_outcomes.py`"
)
# Rounding a thousand times coarser moves nothing by more than a tenth of these; double precision in the first three.
NORM = {"rel": 1e-3}
CODE = {"abs": 0.02}
DECIBEL = {"abs": 0.4}
BITS = {"abs": 1}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return outcomes()


def test_results_are_recorded_under_the_version_of_now(found: dict[str, dict[str, Any]]) -> None:
    assert RECORDED["version"] == SEARCH_VERSION, "run `python tests/search_outcomes.py`"
    assert list(RECORDED["outcomes"]) == list(found)


@pytest.mark.parametrize("name", RECORDED["outcomes"])
def test_the_same_version_comes_to_the_same(name: str, found: dict[str, dict[str, Any]]) -> None:
    before, now = RECORDED["outcomes"][name], dict(found[name])
    for key, tolerance in (
        ("norm", NORM),
        ("last_norm", NORM),
        ("code", CODE),
        ("psnr_db", DECIBEL),
        ("distance_from_original", BITS),
    ):
        if key in now:
            now[key] = pytest.approx(now[key], **tolerance)
    assert before == now, ADVICE.format(name=name)


def test_a_change_of_one_search_leaves_the_versions_of_the_others() -> None:
    changed = max(CHANGED_IN, key=lambda name: CHANGED_IN[name])
    assert all(version_of() <= version <= SEARCH_VERSION for version in CHANGED_IN.values())
    assert version_of("no such search", changed) == CHANGED_IN[changed]
    assert version_of("no such search") == version_of()
    assert set(CHANGED_IN) <= {*METHODS, *PRESETS}, "versions are told of presets and methods"
