"""Words for how visible a change is, and ceilings given as a word or a number. Does not import torch.

The numbers are those of `metrics.visibility`, on the scale of butteraugli's 3-norm.
"""

from __future__ import annotations

import math

__all__ = ["MOST", "WORDS", "ceiling_of", "word"]

WORDS: dict[str, float] = {"none": 0.35, "faint": 0.9, "some": 2.0, "obvious": math.inf}
"""Each word with the highest visibility it covers. Butteraugli itself gave at most 0.5 to changes called `none`."""

MOST = 100.0
"""The highest ceiling that may be given as a number. For scale: two unrelated photos differ by about 20."""


def word(visibility: float) -> str:
    """Return the word for a visibility of 0 or more."""
    return next(name for name, highest in WORDS.items() if visibility <= highest)


def ceiling_of(given: float | str) -> float:
    """Return a ceiling as a number: a number as it is, a word as the highest visibility it covers."""
    return WORDS[given] if isinstance(given, str) else given
