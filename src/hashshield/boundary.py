"""The photo's boundary: where an exception that nobody foresaw becomes a row, and where an interruption waits.

Whatever one photo does, the others are done. Each stage of a photo's way runs inside `boundary`; what it raises is an
expected `HashshieldError` or, from anything else, an `InternalError` whose message is fit for a row. The traceback goes
to this package's logger, which the command line sends to a file beside the ledger and, with --verbose, to the terminal.
Ctrl-C waits until what is in work is complete and reported; a second one does not.
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
"""The stages of a photo's way, in order, for those who watch them."""

StageObserver = Callable[[PhotoStage, str], None]

logger = logging.getLogger("hashshield")
logger.addHandler(logging.NullHandler())

_LONGEST_MESSAGE = 200
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")

_observer: StageObserver | None = None


def observe_stages(observer: StageObserver | None) -> StageObserver | None:
    """Call `observer` with (stage, photo) whenever a photo reaches a stage; return the one before. What it raises, the
    stage raises: tests put faults there.
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
    """Run one stage of one photo; raise InternalError for whatever it raises that is no HashshieldError.

    `photo` is the path or name that rows show. Exceptions of `passes` are let through, for callers that know what to
    do about them. KeyboardInterrupt and SystemExit always are.
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
    """Format an internal error for the log: when, where in the program, which exception.

    File names, paths and messages, which may quote them, are left out unless `names` is set.
    """

    def __init__(self, *, names: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._names = names

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry, one line per frame."""
        if self._names or record.exc_info is None or record.exc_info[1] is None:
            return clean_lines(super().format(record)) if self._names else self.formatTime(record)
        error = record.exc_info[1]
        stage = record.args[0] if isinstance(record.args, tuple) and record.args else "?"
        lines = [f"{self.formatTime(record)} {record.levelname} {stage}: {type(error).__name__}"]
        for frame in traceback.extract_tb(error.__traceback__):
            lines.append(f"  {_module(frame.filename)}:{frame.lineno} in {frame.name}")
        return "\n".join(lines)


def clean_lines(text: str) -> str:
    """Return the text with each line made harmless; see `hashshield.text.clean`."""
    return "\n".join(clean(line) for line in text.splitlines())


def _module(filename: str) -> str:
    """Return a source file's name from its package on, which says nothing about where it is installed."""
    parts = PurePath(filename).parts
    for root in ("hashshield", "site-packages"):
        if root in parts:
            at = len(parts) - 1 - parts[::-1].index(root)
            return "/".join(parts[at:] if root == "hashshield" else parts[at + 1 :])
    return parts[-1] if parts else "?"


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Let an interruption wait for the end of the block; a second one does not wait.

    Only the main thread is ever interrupted, and a process that ignores interruptions goes on doing so: there, nothing
    is to be held back.
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
    """Stand for a run that nobody asks to stop."""
    return False


@contextmanager
def finishing_first(notice: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C came once; a second one interrupts as usual.

    `notice` is told once. Where Ctrl-C does not interrupt as Python has it (another thread, a handler of somebody else,
    interruptions ignored), nothing is changed and the answer is always no.
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
    """Let SIGTERM, which ends services, be the same interruption as Ctrl-C, also where the latter is ignored.

    For the main thread only.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
