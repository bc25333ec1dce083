"""The search for the smallest change that gives a photo another code.

Start with `search`, the loop, and `state`, the rule that moves one photo's change. They are built from `goals` (which
bits a photo should get), `objectives` (losses), `steps` and `balls` (how a gradient becomes a change), `methods` (one
row per way to search) and `presets` (which transforms a search prepares for). `features` moves the features of
surrogate networks first. `grid` holds the small copy of the photo that is searched and writes a change as 8-bit levels,
`masking` says where a change shows least, and `batching` shares a batch out over cores and device memory.

Caches of search results are keyed by `SEARCH_VERSION` and `version_of`, below.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "CHANGED_IN",
    "SEARCH_VERSION",
    "version_of",
]


SEARCH_VERSION = 7
"""Raise this by one, by hand, in every commit that can change the result of a search.

That includes any change to a loss, a step, a stopping rule, a goal, a preset, a transform, a view, or to how a change
is written into pixels. `protect` does not reuse attempts remembered under another version. Moving, renaming or
documenting code does not change the number.

`tests/attacks/test_version.py` compares small searches with recorded results, and fails if they differ while the number
is unchanged.
"""

_ALL = 4
"""The last version that changed every search. After such a change, set it to SEARCH_VERSION and empty CHANGED_IN."""

CHANGED_IN: Mapping[str, int] = {"hag": 5, "balanced": 6, "rnm": 7}
"""Presets and methods whose search changed after `_ALL`, with the version of their last change.

Cached trials and results of `hashshield bench` are checked against these, so a change to one preset leaves the
measurements of the others valid.
"""


def version_of(*names: str) -> int:
    """Return the version in which any of these presets and methods last changed its search."""
    return max((CHANGED_IN.get(name, _ALL) for name in names), default=_ALL)
