"""Words for how visible a change is, and the ceilings that users give as a word or a number; without torch.

The numbers are those of `metrics.visibility`, which read like butteraugli's 3-norm.
"""

from __future__ import annotations

import math

__all__ = ["MOST", "WORDS", "ceiling_of", "word"]

WORDS: dict[str, float] = {"none": 0.35, "faint": 0.9, "some": 2.0, "obvious": math.inf}
"""Each word, with the highest visibility that it stands for. What is called none had at most 0.5 by butteraugli."""

MOST = 100.0
"""The highest ceiling that may be given as a number; photos exchanged for others come to about 20."""


def word(visibility: float) -> str:
    """Return the word for a visibility of 0 or more."""
    return next(name for name, highest in WORDS.items() if visibility <= highest)


def ceiling_of(given: float | str) -> float:
    """Return the highest visibility allowed by a number, or by a word: the highest that it stands for."""
    return WORDS[given] if isinstance(given, str) else given
