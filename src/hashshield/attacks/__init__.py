"""The search for the smallest change that gives a photo another code.

Start with `search`, which is the method. What it is composed of: `goals` (which bits a photo should get), `objectives`
(losses), `steps` (how a gradient becomes a change), `methods` (a row for each way to search) and `presets` (what a
search prepares for). Around it: `grid` (the photo as the search sees it, and the way from the change to 8-bit levels),
`masking` (where a change shows least) and `batching` (how the machine is used). `SEARCH_VERSION` and `version_of`,
below, are for everything that remembers what a search came to.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "CHANGED_IN",
    "SEARCH_VERSION",
    "version_of",
]


SEARCH_VERSION = 6
"""Raise this by hand, by one, in the change after which a search may come to another result.

That is any change of a loss, a step, a stopping rule, a goal, a preset, a transform, a view, or of how a change is
written into pixels. Remembered attempts of `protect` made under another version are not used again. Moving, renaming or
documenting code leaves the number, and what is remembered, as it is.

`tests/attacks/test_version.py` holds recorded results of small searches against the code as it is, and fails when they
differ although the number is the same.
"""

_ALL = 4
"""The last version in which every search changed: raise it to SEARCH_VERSION in such a change, and empty CHANGED_IN."""

CHANGED_IN: Mapping[str, int] = {"hag": 5, "balanced": 6}
"""The version in which the search of a preset or a method changed last, for those that changed after `_ALL`.

Cached trials and results of `hashshield bench` are held against these, so that a change of one preset leaves what was
measured of the others valid.
"""


def version_of(*names: str) -> int:
    """Return the version in which the searches of these presets and methods changed last."""
    return max((CHANGED_IN.get(name, _ALL) for name in names), default=_ALL)
