"""Serve the page until its user closes it or presses Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hashshield.boundary import terminable
from hashshield.errors import UsageError
from hashshield.storage.calls import explain
from hashshield.ui.page import page
from hashshield.ui.photos import Workspace
from hashshield.ui.server import PageServer
from hashshield.ui.session import Session

__all__ = ["serve"]


def serve(port: int, announce: Callable[[str], None]) -> None:
    """Serve the page on a port of 127.0.0.1 (0: any) until it is closed; `announce` gets the link to open.

    Call it in the main thread: Ctrl-C, SIGTERM and a closed terminal end it with KeyboardInterrupt. The dropped photos
    and their copies are always removed. Raises UsageError if the port is not available, StorageError.
    """
    # Reports invalid settings here rather than in the browser.
    page()
    with Workspace() as workspace, terminable(), _hangup_interrupts():
        session = Session(workspace.path)
        try:
            server = PageServer(port, session, workspace.path)
        except OSError as error:
            raise UsageError(f"--port {port}: cannot be had on 127.0.0.1: {explain(error)}; 0 takes any") from error
        thread = threading.Thread(target=server.serve_forever, name="page", daemon=True)
        thread.start()
        try:
            announce(server.guard.link)
            session.work()
        finally:
            server.shutdown()
            server.server_close()


@contextmanager
def _hangup_interrupts() -> Iterator[None]:
    """Make SIGHUP, which a closed terminal sends, an interruption, on systems that have it."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGHUP, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
