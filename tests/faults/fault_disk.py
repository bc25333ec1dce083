"""A model of a disk that loses power: what was never flushed may be gone, kept, or torn.

Files have a flushed and a current content; folders have flushed names and a list of changes since. `sync` flushes one
file, `sync_folder` the names of one folder. After a cut each folder has kept some first part of its unflushed changes
(a journal keeps their order), and each unflushed file holds its flushed, its current or a torn content. The ledger's
transactions are taken as atomic and durable, which SQLite promises at the synchronous level the ledger sets.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

LEDGER = "ledger.sqlite"
Names = dict[str, int]


@dataclass
class File:
    flushed: bytes = b""
    current: bytes = b""
    mode: int = 0o600
    mtime_ns: int | None = None


@dataclass
class Disk:
    """Paths are absolute strings; folders made during the recording are entries like files."""

    base: Path
    files: dict[int, File] = field(default_factory=dict)
    folders: dict[int, str] = field(default_factory=dict)
    flushed: dict[str, Names] = field(default_factory=dict)
    pending: dict[str, list[tuple[tuple[str, int | None], ...]]] = field(default_factory=dict)
    ledger: dict[str, bytes] = field(default_factory=dict)
    _count: int = 0

    def load(self) -> None:
        """Take everything below `base` as flushed."""
        for folder, folders, files in os.walk(self.base):
            names = self.flushed.setdefault(folder, {})
            for name in folders:
                names[name] = self._number()
                self.folders[names[name]] = str(Path(folder, name))
            for name in files:
                path = Path(folder, name)
                data = path.read_bytes()
                names[name] = self._number()
                self.files[names[name]] = File(data, data, path.stat().st_mode & 0o777, path.stat().st_mtime_ns)

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _current(self, folder: str) -> Names:
        names = dict(self.flushed.get(folder, {}))
        for change in self.pending.get(folder, []):
            _apply(names, change)
        return names

    def _change(self, folder: str, *change: tuple[str, int | None]) -> None:
        self.pending.setdefault(folder, []).append(change)

    def _file_of(self, descriptor: int) -> File:
        path = _path_of(descriptor)
        return self.files[self._current(str(path.parent))[path.name]]

    def observe(self, name: str, arguments: tuple[object, ...]) -> None:
        """Take part in one step of `storage.calls`."""
        if name in {"reopen", "forgetting.scrub"}:
            return
        if name.startswith("ledger."):
            if name.endswith(".done"):
                ledger = Path(str(arguments[0]))
                self.ledger = {path.name: path.read_bytes() for path in ledger.parent.glob(LEDGER + "*")}
                self.ledger.pop(LEDGER + "-shm", None)
            return
        first = arguments[0]
        if name in {"sync", "write", "change_mode", "set_times", "sync_folder"}:
            assert isinstance(first, int)
            if name == "sync_folder":
                folder = str(_path_of(first))
                self.flushed[folder] = self._current(folder)
                self.pending.pop(folder, None)
                return
            file = self._file_of(first)
            if name == "sync":
                # Also what did not pass through `calls`: SQLite writes backups itself.
                file.flushed = file.current = _path_of(first).read_bytes()
            elif name == "write":
                file.current += bytes(arguments[1])  # type: ignore[call-overload]
            elif name == "change_mode":
                file.mode = int(str(arguments[1]))
            else:
                file.mtime_ns = int(str(arguments[1]))
            return
        folder = str(_path_of(arguments[-1]))
        if name == "create":
            number = self._number()
            self.files[number] = File()
            self._change(folder, (str(first), number))
        elif name == "make_folder":
            if str(first) not in self._current(folder):
                number = self._number()
                self.folders[number] = str(Path(folder, str(first)))
                self._change(folder, (str(first), number))
        elif name == "rename":
            number = self._current(folder)[str(first)]
            self._change(folder, (str(first), None), (str(arguments[1]), number))
        elif name == "link":
            self._change(folder, (str(arguments[1]), self._current(folder)[str(first)]))
        elif name == "remove":
            self._change(folder, (str(first), None))
        else:
            raise AssertionError(f"a step this model does not know: {name}")

    def after_a_cut(self, generator: random.Random) -> Iterator[Aftermath]:
        """Yield what may be found after a power cut now: all lost, names kept, all kept, and something between."""
        yield Aftermath(self, lambda count: 0, lambda file: file.flushed)
        yield Aftermath(self, lambda count: count, lambda file: file.flushed)
        yield Aftermath(self, lambda count: count, lambda file: file.current)
        yield Aftermath(
            self,
            lambda count: generator.randint(0, count),
            lambda file: generator.choice(
                [file.flushed, file.current, file.current[: len(file.current) // 2], bytes(len(file.current))]
                if file.flushed != file.current
                else [file.flushed]
            ),
        )


@dataclass
class Aftermath:
    """One state the disk may be in when power returns."""

    disk: Disk
    kept_changes: Callable[[int], int]
    content: Callable[[File], bytes]

    def materialise(self) -> None:
        """Make the real folder hold this state."""
        shutil.rmtree(self.disk.base)
        self._folder(str(self.disk.base))

    def _folder(self, folder: str) -> None:
        Path(folder).mkdir(mode=0o700)
        names = dict(self.disk.flushed.get(folder, {}))
        changes = self.disk.pending.get(folder, [])
        for change in changes[: self.kept_changes(len(changes))]:
            _apply(names, change)
        for name, number in names.items():
            path = Path(folder, name)
            if number in self.disk.folders:
                self._folder(str(path))
                continue
            file = self.disk.files[number]
            path.write_bytes(self.content(file))
            path.chmod(file.mode)
            if file.mtime_ns is not None:
                os.utime(path, ns=(file.mtime_ns, file.mtime_ns))
            if name == LEDGER:
                for part, data in self.disk.ledger.items():
                    path.with_name(part).write_bytes(data)


def _path_of(descriptor: object) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def _apply(names: Names, change: tuple[tuple[str, int | None], ...]) -> None:
    for name, number in change:
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number
