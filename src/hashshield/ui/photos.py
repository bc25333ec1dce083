"""Dropped photos: safe names, files in a private folder, and limits on number and size.

The folder is removed when the command ends. One left by a killed process is removed at the next start: each process
holds a lock in its folder, so a folder whose lock is free is no longer in use.
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
from hashshield.paths import is_folder
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
"""Longest name in UTF-8. File systems allow 255 bytes, and temporary names are longer."""
# Characters that Windows does not allow in a name, with control characters.
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories of characters that can reorder a line, be invisible or break it; they are removed."""


def safe_name(text: str) -> str:
    r"""Turn a name sent by a browser into a file name that every system accepts; keep its extension.

    Only the part after the last `/` or `\` is used. A name without usable characters becomes `photo`.
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
    """Return the names with numbers added so that they are unique, ignoring case: `a.jpg`, `a (2).jpg`."""
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
"""Largest file that is accepted."""
TOTAL_BYTES = 4 << 30
"""Largest total size of all dropped files."""
MOST_PHOTOS = 500
_CHUNK = 1 << 16
_ROOM = 3
"""Free disk space that must be left, as a multiple of the file: its copy, and an archive of the copies."""

State = Literal["waiting", "working", "done"]


class UploadBody(Protocol):
    """The stream that a dropped file is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; b"" at the end."""


class FullError(UsageError):
    """A photo is not accepted because a limit is reached."""


@dataclass(slots=True)
class DroppedPhoto:
    """One dropped photo."""

    number: int
    name: str
    size: int
    """Bytes."""
    folder: Path
    """The folder that holds only this photo."""
    state: State = "waiting"
    row: Outcome | None = None

    @property
    def path(self) -> Path:
        """The path of the dropped file."""
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
    """Raise FullError if `folder` cannot accept another file of `size` bytes.

    `there` are the sizes of the files already in it, including those that are being received.
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
    """Return the folder of this user's sessions, whether it exists or not."""
    return Path(platformdirs.user_cache_path("hashshield", appauthor=False)) / "ui"


class Workspace:
    """A temporary folder of mode 0700, removed at the end of the `with` block."""

    def __init__(self, base: Path | None = None) -> None:
        self._base = base_folder() if base is None else base
        self._lock: Lock | None = None
        self.path = Path()
        """The folder; valid only inside the block."""

    def __enter__(self) -> Workspace:
        """Create the folder, and remove those of killed processes. Raises StorageError."""
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
            # Windows does not remove open files.
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
    """Create the folder if it is missing. Raises StorageError if it is a link or belongs to another user."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = base.lstat()
    mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or not mine:
        raise StorageError(
            f"{base}: is a link or belongs to somebody else, and dropped photos would be stored there; move it"
        )
    base.chmod(0o700)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder whose lock no process holds; links are left alone."""
    if folder.is_symlink() or not is_folder(folder):
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
    # If this fails, the next start tries again.
    with suppress(OSError):
        shutil.rmtree(folder)
