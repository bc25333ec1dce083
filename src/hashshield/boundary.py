"""Failures and interruptions while a photo is processed: one photo's failure must not stop the others.

Each stage of the work on a photo runs inside `boundary`. It lets an expected `HashshieldError` pass and turns any other
exception into an `InternalError` with a message fit for a result row. The traceback goes to this package's logger; the
command line writes it to a file beside the ledger and, with --verbose, to the terminal. A first Ctrl-C waits until the
photos in progress are finished and reported; a second one does not.
"""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType
from typing import Literal

from hashshield.errors import HashshieldError, InternalError
from hashshield.text import clean

__all__ = [
    "STAGES",
    "LogFormatter",
    "PhotoStage",
    "boundary",
    "defer_interrupts",
    "finishing_first",
    "logger",
    "never",
    "observe_stages",
    "reach",
    "terminable",
]


PhotoStage = Literal["read", "decode", "aim", "search", "write", "hash", "judge", "store", "compare", "row"]
STAGES: tuple[PhotoStage, ...] = (
    "read",
    "decode",
    "aim",
    "search",
    "write",
    "hash",
    "judge",
    "store",
    "compare",
    "row",
)
"""The stages of the work on a photo, in order."""

StageObserver = Callable[[PhotoStage, str], None]

logger = logging.getLogger("hashshield")
logger.addHandler(logging.NullHandler())

_LONGEST_MESSAGE = 200
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")

_observer: StageObserver | None = None


def observe_stages(observer: StageObserver | None) -> StageObserver | None:
    """Call `observer` with (stage, photo) whenever a photo reaches a stage; return the previous observer.

    An exception raised by the observer is raised by the stage, so that tests can inject faults.
    """
    global _observer
    before, _observer = _observer, observer
    return before


def reach(stage: PhotoStage, photo: str) -> None:
    """Tell the observer that a photo reached a stage."""
    if _observer is not None:
        _observer(stage, photo)


@contextmanager
def boundary(stage: PhotoStage, photo: str, *, passes: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Run one stage of one photo; log any exception that is not a HashshieldError and raise InternalError from it.

    `photo` is the path or name that rows show. Exceptions of the types in `passes`, which the caller handles, pass
    unchanged, as do KeyboardInterrupt and SystemExit.
    """
    try:
        reach(stage, photo)
        yield
    except HashshieldError:
        raise
    except passes:
        raise
    except Exception as error:
        logger.error("%s: %s", stage, photo, exc_info=error)
        raise InternalError(_message(error, photo)) from error


def _message(error: Exception, photo: str) -> str:
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return f"{photo}: there was not enough memory for this photo; close other programs, or use --jobs 1"
    said = clean(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    if len(said) > _LONGEST_MESSAGE:
        said = f"{said[:_LONGEST_MESSAGE]}..."
    return f"{photo}: internal error: {said}; please report it"


class LogFormatter(logging.Formatter):
    """Format an internal error for the log: its time, its stage, the exception's type and the stack.

    Names and paths of photos, and exception messages, which may quote them, are left out unless `names` is set.
    """

    def __init__(self, *, names: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._names = names

    def format(self, record: logging.LogRecord) -> str:
        """Return the log entry: a headline and one line per stack frame."""
        if self._names or record.exc_info is None or record.exc_info[1] is None:
            return clean_lines(super().format(record)) if self._names else self.formatTime(record)
        error = record.exc_info[1]
        stage = record.args[0] if isinstance(record.args, tuple) and record.args else "?"
        lines = [f"{self.formatTime(record)} {record.levelname} {stage}: {type(error).__name__}"]
        for frame in traceback.extract_tb(error.__traceback__):
            lines.append(f"  {_module(frame.filename)}:{frame.lineno} in {frame.name}")
        return "\n".join(lines)


def clean_lines(text: str) -> str:
    """Return the text with each line escaped by `hashshield.text.clean`."""
    return "\n".join(clean(line) for line in text.splitlines())


def _module(filename: str) -> str:
    """Return a source file's path below `hashshield` or `site-packages`, without where that is installed."""
    parts = PurePath(filename).parts
    for root in ("hashshield", "site-packages"):
        if root in parts:
            at = len(parts) - 1 - parts[::-1].index(root)
            return "/".join(parts[at:] if root == "hashshield" else parts[at + 1 :])
    return parts[-1] if parts else "?"


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Hold back a first Ctrl-C until the end of the block; a second one interrupts at once.

    Does nothing outside the main thread, which alone is interrupted, or in a process that ignores SIGINT.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual in (None, signal.SIG_IGN):
        yield
        return
    came = False

    def wait(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            signal.default_int_handler(number, frame)
        came = True

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if came:
            signal.raise_signal(signal.SIGINT)


def never() -> bool:
    """Return False: nobody asked to stop."""
    return False


@contextmanager
def finishing_first(notice: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed; a second Ctrl-C interrupts at once.

    The first calls `notice` with a message. Outside the main thread, or if another handler for SIGINT is installed or
    SIGINT is ignored, nothing is changed and the function returns False.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual is not signal.default_int_handler:
        yield never
        return
    came = False

    def first(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            signal.default_int_handler(number, frame)
        came = True
        notice("Finishing the photos in work, starting no others; Ctrl-C again stops at once.")

    signal.signal(signal.SIGINT, first)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM, which stops services, and Ctrl-C raise KeyboardInterrupt, even if SIGINT was ignored before.

    Call it in the main thread.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
