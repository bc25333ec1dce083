"""A note that a batch was begun, so that a photo which ends its worker each time cannot hold up the run for good."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hashshield.storage.copies import remove, write_copy

__all__ = ["CrashCounter", "clear"]

_TOGETHER = 3
"""Times a batch is begun as a whole before its photos go one by one."""
_ALONE = 2
"""Workers that one photo may end before it is given up."""


class CrashCounter:
    """How often this run began a batch without ending it, which is what a worker that dies leaves behind."""

    def __init__(self, folder: Path, part: str, run: str) -> None:
        """Note that a worker begins the batch of that part. Raises StorageError."""
        self._path = folder / f"begun-{Path(part).stem}.json"
        self._state: dict[str, Any] = {"run": run, "times": 0, "photo": None, "ended": {}}
        earlier = _read(self._path)
        if earlier.get("run") == run:
            self._state = earlier
        self._state["times"] += 1
        photo = self._state["photo"]
        if photo is not None:
            self._state["ended"][photo] = self._state["ended"].get(photo, 0) + 1
        self._on(None)

    @property
    def together(self) -> bool:
        """Whether the photos are to be worked on as a batch still."""
        return bool(self._state["times"] <= _TOGETHER)

    def given_up(self, photo: str) -> str | None:
        """Why a photo is not worked on any more, or None after noting that it now is. Raises StorageError."""
        ended = self._state["ended"].get(photo, 0)
        if ended >= _ALONE:
            return (
                f"{photo}: {ended} workers ended while each worked on this photo alone (out of memory, perhaps); "
                "protect it by itself on a machine with more"
            )
        self._on(photo)
        return None

    def end(self) -> None:
        """Note that the batch is done. Raises StorageError."""
        remove(self._path)

    def _on(self, photo: str | None) -> None:
        self._state |= {"photo": photo, "pid": os.getpid()}
        write_copy(self._path, json.dumps(self._state).encode())


def clear(folder: Path) -> None:
    """Remove the notes of a run that ended. Raises StorageError."""
    for path in folder.glob("begun-*.json"):
        remove(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}  # no note, or none of ours: the batch is begun for the first time
    return found if isinstance(found, dict) else {}
