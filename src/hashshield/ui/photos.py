"""Dropped photos: their names made harmless, their files in a private folder, and the limits on what is taken.

The folder is removed when the command ends. One that a killed process left behind is removed at the next start: each
process holds a lock in its own, so that a folder whose lock is free belongs to nobody.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Literal, Protocol
from urllib.parse import quote

import platformdirs

from hashshield.errors import StorageError, UsageError
from hashshield.storage.atomic import Lock
from hashshield.storage.calls import explain, storage_errors
from hashshield.types import Outcome

__all__ = [
    "FILE_BYTES",
    "MOST_PHOTOS",
    "TOTAL_BYTES",
    "DroppedPhoto",
    "FullError",
    "State",
    "UploadBody",
    "Workspace",
    "attachment",
    "base_folder",
    "check_room",
    "distinct",
    "forget",
    "receive",
    "safe_name",
]


_LONGEST_BYTES = 120
"""In UTF-8; file systems allow 255, and a copy is written beside a temporary name that is longer."""
# What Windows does not allow in a name, besides control characters.
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories that can reorder a line, hide in it or break it; letters, marks and emoji stay."""


def safe_name(text: str) -> str:
    r"""Return a file name that every system takes, from whatever a browser sent; its extension is kept.

    Only the part behind the last `/` or `\` counts. A name without anything usable becomes `photo`.
    """
    base = re.split(r"[/\\]", text)[-1]
    shown = "".join(c for c in unicodedata.normalize("NFC", base) if unicodedata.category(c) not in _HIDDEN)
    name = _FORBIDDEN.sub("_", shown).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    if not dot or not re.fullmatch(r"[A-Za-z0-9]{1,8}", suffix):
        stem, suffix = name, ""
    suffix = f".{suffix}" if suffix else ""
    stem = _cut(stem.strip(" ."), _LONGEST_BYTES - len(suffix)) or "photo"
    return f"_{stem}{suffix}" if _RESERVED.fullmatch(stem) else f"{stem}{suffix}"


def _cut(text: str, limit: int) -> str:
    """Return the beginning of a text that takes at most `limit` bytes in UTF-8."""
    return text.encode("utf-8")[:limit].decode("utf-8", "ignore").strip(" .")


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names so that no two are alike, also where case does not count: `a.jpg`, `a (2).jpg`."""
    taken: set[str] = set()
    found = []
    for name in names:
        path, number, unique = PurePosixPath(name), 1, name
        while unique.casefold() in taken:
            number += 1
            unique = f"{path.stem} ({number}){path.suffix}"
        taken.add(unique.casefold())
        found.append(unique)
    return found


def attachment(name: str) -> str:
    """Return the Content-Disposition that saves a file under this safe name (RFC 6266, RFC 8187)."""
    plain = re.sub(r"[^A-Za-z0-9._ ()-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


FILE_BYTES = 256 << 20
"""Largest file that is taken."""
TOTAL_BYTES = 4 << 30
"""Most that all dropped files may take together."""
MOST_PHOTOS = 500
_CHUNK = 1 << 16
_ROOM = 3
"""Free disk space that must be left, as a multiple of the file: its copy, and an archive of the copies."""

State = Literal["waiting", "working", "done"]


class UploadBody(Protocol):
    """What a dropped file is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


class FullError(UsageError):
    """A photo that the page does not take because a limit is reached."""


@dataclass(slots=True)
class DroppedPhoto:
    """One dropped photo."""

    number: int
    name: str
    size: int
    """Bytes."""
    folder: Path
    """The folder that holds this photo alone."""
    state: State = "waiting"
    row: Outcome | None = None

    @property
    def path(self) -> Path:
        """Where the dropped file lies."""
        return self.folder / self.name

    @property
    def copy(self) -> Path | None:
        """The protected copy, if there is one to save."""
        if self.row is None or self.row.output is None or self.row.status not in ("protected", "partial"):
            return None
        return Path(self.row.output)


def receive(path: Path, size: int, source: UploadBody) -> None:
    """Write `size` bytes of a stream to a new private file. Raises StorageError, EOFError if the stream ends early."""
    with storage_errors(f"keeping {path.name}"), open(path, "xb", opener=_private) as file:
        left = size
        while left:
            chunk = source.read(min(left, _CHUNK))
            if not chunk:
                raise EOFError(f"{path.name}: the connection ended {left} bytes early")
            file.write(chunk)
            left -= len(chunk)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def forget(photo: DroppedPhoto) -> None:
    """Remove a photo's file and copy."""
    if photo.copy is not None:
        photo.copy.unlink(missing_ok=True)
    shutil.rmtree(photo.folder, ignore_errors=True)


def check_room(size: int, there: Collection[int], folder: Path) -> None:
    """Raise FullError if a file of `size` bytes cannot be taken beside files of these sizes, into this folder.

    The sizes of `there` include files that are being received.
    """
    if size > FILE_BYTES:
        raise FullError(f"A photo may have {FILE_BYTES >> 20} MB; this file has {size / (1 << 20):,.0f}.")
    if len(there) >= MOST_PHOTOS:
        raise FullError(f"The page takes {MOST_PHOTOS} photos; for more, use hashshield protect on their folder.")
    if sum(there) + size > TOTAL_BYTES:
        raise FullError(f"The page takes {TOTAL_BYTES >> 30} GB; for more, use hashshield protect on their folder.")
    if shutil.disk_usage(folder).free < _ROOM * size:
        raise FullError(f"{folder}: the disk has too little space left for this photo and its copy.")


_PREFIX = "session-"
_LOCK = "lock"


def base_folder() -> Path:
    """Return the folder of this user's sessions; it need not exist."""
    return Path(platformdirs.user_cache_path("hashshield", appauthor=False)) / "ui"


class Workspace:
    """A folder of mode 0700 that lives as long as the block it is entered for."""

    def __init__(self, base: Path | None = None) -> None:
        self._base = base_folder() if base is None else base
        self._lock: Lock | None = None
        self.path = Path()
        """The folder; of meaning inside the block only."""

    def __enter__(self) -> Workspace:
        """Make the folder, and remove those of processes that were killed. Raises StorageError."""
        with storage_errors(f"making a private folder in {self._base}"):
            _private_folder(self._base)
            with Lock(self._base / _LOCK):
                for left in sorted(self._base.glob(f"{_PREFIX}*")):
                    _remove_if_left(left)
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._base))
                self._lock = Lock(self.path / _LOCK, wait_seconds=0)
                self._lock.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Remove the folder with all that is in it. Raises StorageError, naming it, if that fails."""
        if self._lock is not None:
            # Windows removes no file that is open.
            self._lock.__exit__(None, None, None)
            self._lock.close()
        try:
            shutil.rmtree(self.path)
        except FileNotFoundError:
            pass
        except OSError as trouble:
            raise StorageError(
                f"{self.path}: holds photos that were dropped on the page and could not be removed "
                f"({explain(trouble)}); remove the folder"
            ) from trouble


def _private_folder(base: Path) -> None:
    """Make the folder if it is missing. Raises StorageError if it is no folder of this user alone."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = base.lstat()
    mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or not mine:
        raise StorageError(
            f"{base}: is a link or belongs to somebody else, and dropped photos would lie there; move it"
        )
    base.chmod(0o700)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder that no process holds the lock of; a link is no such folder."""
    if folder.is_symlink() or not folder.is_dir():
        return
    try:
        lock = Lock(folder / _LOCK, wait_seconds=0)
    except OSError:
        return
    try:
        with lock:
            pass
    except StorageError:
        return
    finally:
        lock.close()
    # What stays is tried again at the next start.
    with suppress(OSError):
        shutil.rmtree(folder)
