"""Seconds by the name of what took them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopwatch"]


class Stopwatch:
    """Collects the wall-clock seconds of named blocks, one entry per run of a block."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the time until the end of the block; a block that raises is not counted."""
        began = time.monotonic()
        yield
        self.seconds[name].append(time.monotonic() - began)
