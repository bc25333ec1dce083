"""Open the page, and keep it until its user or Ctrl-C ends it."""

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
    """Serve the page on a port of 127.0.0.1 (0: any) until it is ended there; `announce` is told the link to open.

    For the main thread: Ctrl-C, SIGTERM and a closed terminal end it with KeyboardInterrupt. Whatever ends it, the
    dropped photos and their copies are removed. Raises UsageError for a port that cannot be had, StorageError.
    """
    # Settings that are not valid are told now, not to a browser.
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
    """Let the end of the terminal, where the system tells of it, be an interruption."""
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
