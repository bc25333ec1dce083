"""How work that takes long reports; what shows it implements `Progress`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

__all__ = ["NullProgress", "Progress", "StepProgress"]


class Progress(Protocol):
    """How the pipeline reports; the core knows no terminal."""

    def start(self, total: int) -> None:
        """Announce how many photos will be worked on."""

    def photo(self, path: str) -> None:
        """Name the photo that is being worked on."""

    def done(self, outcome: object) -> None:
        """Report one finished file with its row; None counts work that has no row of its own."""

    def notice(self, text: str) -> None:
        """Tell the user something once (a fallback to the CPU, say)."""


@runtime_checkable
class StepProgress(Progress, Protocol):
    """A `Progress` that also counts gradient steps, to say how long a run will take."""

    def expect(self, steps: float, beside: Mapping[str, float]) -> None:
        """Announce how many steps a photo usually takes, and what else each photo costs, in steps, by its path."""

    def stepped(self, path: str) -> None:
        """Count one step of a photo; called by any thread."""


class NullProgress:
    """A `Progress` that reports nothing, for callers who read only the rows that are returned."""

    def _ignore(self, *_args: object, **_named: object) -> None:
        """Ignore what there is to report."""

    start = photo = done = notice = _ignore
