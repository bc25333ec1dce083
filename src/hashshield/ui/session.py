"""The photos on the page, the runs that protect them, and the copies to save.

Requests come from the server's threads. `work` runs in the main thread, which Ctrl-C interrupts, so that the pipeline
ends cleanly. The page's Stop button causes the same interruption.
"""

from __future__ import annotations

import _thread
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hashshield import api
from hashshield.boundary import boundary, defer_interrupts
from hashshield.errors import HashshieldError, UsageError
from hashshield.report.cards import verdict_of, worst_first
from hashshield.report.html import fragment
from hashshield.storage.calls import storage_errors
from hashshield.types import NullProgress, Outcome
from hashshield.ui.photos import DroppedPhoto, State, UploadBody, check_room, forget, receive, safe_name

__all__ = ["Session"]


@dataclass(slots=True)
class _Run:
    """One run over the photos that were waiting."""

    photos: list[DroppedPhoto]
    settings: Mapping[str, Any]
    folder: Path
    """Folder of the run: dropped files below `in`, copies below `out`."""
    total: int = 0
    done: int = 0
    current: str = ""
    notices: list[str] = field(default_factory=list)


class Session:
    """The state of the page: dropped photos, the run in progress, and messages. Used by several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._photos: dict[int, DroppedPhoto] = {}
        self._next = 1
        self._runs = 0
        self._receiving: dict[int, int] = {}
        """Sizes of the files that are being received."""
        self._ordered: _Run | None = None
        self._running: _Run | None = None
        self._last: _Run | None = None
        self._error: str | None = None
        self._stopping = False
        self._interrupted = False
        """True from an interruption by the page until the main thread gets it, perhaps after the end of the run."""
        self._ending = False

    # Requests

    def add(self, name: str, size: int, source: UploadBody) -> DroppedPhoto:
        """Receive a dropped file of `size` bytes from a stream.

        Raises FullError if a limit is reached, StorageError, and EOFError if the stream ends early.
        """
        with self._changed:
            there = [photo.size for photo in self._photos.values()]
            check_room(size, [*there, *self._receiving.values()], self._folder)
            number, self._next = self._next, self._next + 1
            self._receiving[number] = size
        folder = self._folder / "waiting" / str(number)
        try:
            with storage_errors(f"making {folder}"):
                folder.mkdir(mode=0o700, parents=True)
            photo = DroppedPhoto(number, safe_name(name), size, folder)
            receive(photo.path, size, source)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            with self._changed:
                del self._receiving[number]
        with self._changed:
            self._photos[number] = photo
        return photo

    def remove(self, number: int) -> None:
        """Remove a photo and its copy from the page. Raises KeyError, and UsageError while it is being protected."""
        with self._changed:
            photo = self._idle(number)
            del self._photos[number]
        forget(photo)

    def again(self, number: int) -> None:
        """Put a finished photo back among the waiting. Raises KeyError, and UsageError while it is being protected."""
        with self._changed:
            photo = self._idle(number)
            if photo.copy is not None:
                photo.copy.unlink(missing_ok=True)
            self._wait(photo)

    def _idle(self, number: int) -> DroppedPhoto:
        photo = self._photos[number]
        if photo.state == "working":
            raise UsageError("This photo is being protected; stop that first.")
        return photo

    def start(self, settings: Mapping[str, Any]) -> None:
        """Order a run over all waiting photos, with these arguments of the API.

        Raises UsageError if none is waiting or a run is in progress.
        """
        with self._changed:
            if self._running is not None or self._ordered is not None:
                raise UsageError("Photos are being protected already.")
            waiting = [photo for photo in self._photos.values() if photo.state == "waiting"]
            if not waiting:
                raise UsageError("There is no photo to protect; drop some first.")
            self._runs += 1
            run = _Run(waiting, settings, self._folder / f"run-{self._runs}", total=len(waiting))
            for photo in waiting:
                self._move(photo, run.folder / "in" / str(photo.number), "working")
            self._error, self._last, self._ordered = None, run, run
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop the run in progress; finished photos stay."""
        with self._changed:
            if self._ordered is not None:
                for photo in self._ordered.photos:
                    self._wait(photo)
                self._ordered = None
            elif self._running is not None and not self._stopping:
                self._stopping = self._interrupted = True
                _thread.interrupt_main()

    def end(self) -> None:
        """End the session and the command."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self.stop()

    def photo(self, number: int) -> DroppedPhoto:
        """Return the photo with this number. Raises KeyError."""
        with self._changed:
            return self._photos[number]

    def saved(self) -> list[DroppedPhoto]:
        """Return the photos that have a copy to save, in the order in which they were dropped."""
        with self._changed:
            return [photo for photo in self._photos.values() if photo.copy is not None]

    def card(self, number: int) -> str:
        """Return the card of a finished photo as HTML. Raises KeyError."""
        photo = self.photo(number)
        if photo.row is None:
            raise KeyError(number)
        return fragment(self._named(photo.row, photo), number)

    def state(self) -> dict[str, Any]:
        """Return everything that changes on the page, for JSON; finished photos have a rank, 0 for the worst."""
        with self._changed:
            run = self._last
            busy = self._running is not None or self._ordered is not None
            done = [photo.row for photo in self._photos.values() if photo.row is not None]
            rank = {row.path: position for position, row in enumerate(worst_first(done))}
            return {
                "busy": busy,
                "stopping": self._stopping,
                "total": 0 if run is None else run.total,
                "done": 0 if run is None else run.done,
                "current": "" if run is None or not busy else run.current,
                "notices": [] if run is None else list(run.notices),
                "error": self._error,
                "photos": [self._entry(photo, rank) for photo in self._photos.values()],
            }

    def _entry(self, photo: DroppedPhoto, rank: Mapping[str, int]) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "number": photo.number,
            "name": photo.name,
            "size": photo.size,
            "state": photo.state,
            "saved": photo.copy is not None,
        }
        if photo.row is not None:
            verdict = verdict_of(photo.row)
            entry |= {"verdict": verdict.words, "mood": verdict.mood, "rank": rank[photo.row.path]}
        return entry

    # The main thread

    def work(self) -> None:
        """Carry out ordered runs until the page ends the session. Raises KeyboardInterrupt on Ctrl-C."""
        while True:
            try:
                run = self._await()
                if run is None:
                    return
                self._carry_out(run)
            except KeyboardInterrupt:
                with self._owned():
                    by_page, self._interrupted = self._interrupted, False
                if not by_page:
                    raise
                self._finish(None)

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """Hold the lock in the main thread, without interruptions, one of which could leave it locked for good."""
        with defer_interrupts(), self._changed:
            yield

    def _await(self) -> _Run | None:
        with self._changed:
            while self._ordered is None and not self._ending:
                # On Windows, Ctrl-C does not interrupt a wait without a timeout.
                self._changed.wait(timeout=1)
            if self._ending:
                return None
            self._running, self._ordered = self._ordered, None
            return self._running

    def _carry_out(self, run: _Run) -> None:
        error: str | None = None
        try:
            with boundary("row", "the page"):
                rows = api.protect_files(
                    run.folder / "in", output=run.folder / "out", progress=_Progress(self, run), **run.settings
                )
            # Photos that needed no search have a row, but were not reported to `progress`.
            for row in rows:
                self.settle(run, row)
        except HashshieldError as trouble:
            error = self._shortened(str(trouble))
        self._finish(error)

    def _finish(self, error: str | None) -> None:
        """End the run in progress; its unfinished photos wait for the next one."""
        with self._owned():
            run, self._running = self._running, None
            left = [] if run is None else [photo for photo in run.photos if photo.state == "working"]
            if run is not None and left and error is None and not self._stopping:
                run.notices.append(f"{left[0].name}: was passed over; does the setting exclude match its name?")
            for photo in left:
                self._wait(photo)
            self._error, self._stopping = error, False

    def settle(self, run: _Run, row: Outcome) -> None:
        """Record the row of one photo, which may come twice; rows of other files are ignored."""
        with self._owned():
            for photo in run.photos:
                if photo.path == Path(row.path) and photo.state == "working":
                    photo.row, photo.state = row, "done"
                    run.done += 1

    def tell(self, run: _Run, *, current: str | None = None, notice: str | None = None) -> None:
        """Record the photo that is being protected, and a message for the user."""
        with self._owned():
            if current is not None:
                run.current = Path(current).name
            if notice is not None:
                said = self._shortened(notice)
                run.notices += [] if said in run.notices else [said]

    def _shortened(self, text: str) -> str:
        """Return a message with the paths of dropped files replaced by the names that the user knows."""
        for photo in self._photos.values():
            text = text.replace(str(photo.path), photo.name)
        return text

    def _named(self, row: Outcome, photo: DroppedPhoto) -> Outcome:
        """Return the row with the photo's path in its reason replaced by the name that the user knows."""
        return row if row.reason is None else replace(row, reason=row.reason.replace(str(photo.path), photo.name))

    def _wait(self, photo: DroppedPhoto) -> None:
        photo.row = None
        self._move(photo, self._folder / "waiting" / str(photo.number), "waiting")

    def _move(self, photo: DroppedPhoto, folder: Path, state: State) -> None:
        if photo.folder != folder:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            photo.folder = photo.folder.rename(folder)
        photo.state = state


class _Progress(NullProgress):
    """The `Progress` of one run, which updates the session."""

    def __init__(self, session: Session, run: _Run) -> None:
        self._session, self._run = session, run

    def photo(self, path: str) -> None:  # type: ignore[override]
        """Record the photo that is being protected."""
        self._session.tell(self._run, current=path)

    def done(self, outcome: object) -> None:  # type: ignore[override]
        """Record one finished photo."""
        if isinstance(outcome, Outcome):
            self._session.settle(self._run, outcome)

    def notice(self, text: str) -> None:  # type: ignore[override]
        """Record a message for the user."""
        self._session.tell(self._run, notice=text)
