"""Ending a service politely: a signal waits for a write that has begun, and for nothing else."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["writes_finish"]

_WRITING = "hashshield.storage"
_AGAIN_SECONDS = 0.05
_NAMES = ("SIGINT", "SIGTERM", "SIGALRM")


@contextmanager
def writes_finish() -> Iterator[None]:
    """Meanwhile SIGTERM and SIGINT raise KeyboardInterrupt, but never while storage is at work in the main thread.

    For the main thread only. Storage survives an interruption anywhere; this spares a file the second visit.
    """
    before = {number: signal.getsignal(number) for name in _NAMES if (number := getattr(signal, name, None))}
    for number in before:
        signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_WRITING) and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
            return
        frame = frame.f_back
    raise KeyboardInterrupt
