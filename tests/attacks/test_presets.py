from __future__ import annotations

import pytest

from hashshield.attacks.methods import METHODS
from hashshield.attacks.presets import PRESETS, preset
from hashshield.config import SETTINGS
from hashshield.errors import UnknownNameError
from hashshield.transforms import VIEWS


def test_what_can_be_asked_for_is_what_there_is() -> None:
    assert tuple(PRESETS) == SETTINGS["preset"].choices
    for name, found in PRESETS.items():
        assert found is preset(name)
        assert found.name == name
        assert found.search in METHODS
        assert found.views == VIEWS[: len(found.views)], "the first is the card's, which decides what is wanted"


def test_an_unknown_preset_names_the_known() -> None:
    with pytest.raises(UnknownNameError, match="unknown preset 'stealthy'; known are invisible, balanced, strong"):
        preset("stealthy")


def test_later_tries_of_a_preset_never_keep_less() -> None:
    for found in PRESETS.values():
        for lossless in (True, False):
            for sees_writing in (True, False):
                kept = [
                    found.margins.of(tries, sees_writing=sees_writing, lossless=lossless, method_margin=0.02)
                    for tries in range(3)
                ]
                assert kept == sorted(kept)
                assert kept[0] > 0
