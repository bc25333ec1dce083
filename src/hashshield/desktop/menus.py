"""Write and remove the files that add entries to the menus of file managers.

Files of other programs are left alone. On Windows an entry is a shell link ([MS-SHLLINK]) with only the parts needed to
start a program with arguments.
"""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import struct
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hashshield.desktop.actions import ACTIONS
from hashshield.errors import StorageError, UsageError
from hashshield.storage.atomic import put
from hashshield.storage.calls import storage_errors
from hashshield.storage.folder import Attributes, Folder, temporary_name

__all__ = [
    "MENUS",
    "MenuFile",
    "install",
    "program",
    "remove",
    "shell_link",
]


_CLASS = bytes.fromhex("0114020000000000c000000000000046")
_HAS_NAME, _HAS_ARGUMENTS, _IS_UNICODE, _HAS_TARGET = 0x4, 0x20, 0x80, 0x200
_SHOW_MINIMIZED = 7
_TARGET_BLOCK, _TARGET_CHARACTERS = 0xA0000001, 260


def shell_link(target: str, arguments: str, comment: str) -> bytes:
    """Return a link that starts `target`, a path, with `arguments`; Windows appends the selected files to them.

    The target is stored in an EnvironmentVariableDataBlock (2.5.4), which needs no list of shell items. Raises
    ValueError for a path of 260 characters or more.
    """
    if len(target) >= _TARGET_CHARACTERS:
        raise ValueError(f"{target}: {len(target)} characters, and a link holds {_TARGET_CHARACTERS - 1}")
    flags = _HAS_NAME | _HAS_ARGUMENTS | _IS_UNICODE | _HAS_TARGET
    header = struct.pack("<I16sII", 0x4C, _CLASS, flags, 0) + bytes(24)
    header += struct.pack("<IIIHHII", 0, 0, _SHOW_MINIMIZED, 0, 0, 0, 0)
    narrow = target.encode("cp1252", "replace").ljust(_TARGET_CHARACTERS, b"\0")
    wide = target.encode("utf-16-le").ljust(2 * _TARGET_CHARACTERS, b"\0")
    block = struct.pack("<II", 8 + len(narrow) + len(wide), _TARGET_BLOCK) + narrow + wide
    return header + _counted(comment) + _counted(arguments) + block + bytes(4)


def _counted(text: str) -> bytes:
    """Return a StringData (2.4): the number of characters, then the characters in UTF-16."""
    encoded = text.encode("utf-16-le")
    return struct.pack("<H", len(encoded) // 2) + encoded


_WRITTEN = "Written by hashshield integrate {0}; hashshield integrate {0} --remove takes it away."


class MenuFile(NamedTuple):
    """One file to write."""

    path: Path
    data: bytes
    mode: int = 0o644


def _nautilus(program: Path) -> list[MenuFile]:
    """Return the scripts for GNOME's Files, which starts them with the selected files as arguments."""
    folder = _data_home() / "nautilus" / "scripts" / "HashShield"
    return [
        MenuFile(
            folder / action.title,
            f'#!/bin/sh\n# {_WRITTEN.format("nautilus")}\nexec {_started(program, name)} "$@"\n'.encode(),
            0o755,
        )
        for name, action in ACTIONS.items()
    ]


def _dolphin(program: Path) -> list[MenuFile]:
    """Return KDE's service menu, a desktop entry, which KDE uses only if it is executable."""
    lines = [
        f"# {_WRITTEN.format('dolphin')}",
        "[Desktop Entry]",
        "Type=Service",
        "ServiceTypes=KonqPopupMenu/Plugin",
        "X-KDE-ServiceTypes=KonqPopupMenu/Plugin",
        "MimeType=image/jpeg;image/png;image/webp;image/heic;image/avif;inode/directory;",
        f"Actions={';'.join(ACTIONS)};",
        "X-KDE-Submenu=HashShield",
    ]
    for name, action in ACTIONS.items():
        words = (str(program), "integrate", "run", name, "--")
        started = " ".join(_entry_word(word) for word in words)
        lines += ["", f"[Desktop Action {name}]", f"Name={action.title}", f"Exec={started} %F"]
    folder = _data_home() / "kio" / "servicemenus"
    return [MenuFile(folder / "hashshield.desktop", ("\n".join(lines) + "\n").encode(), 0o755)]


def _entry_word(word: str) -> str:
    """Quote an argument of Exec, then as a value of the file (Desktop Entry Specification, "The Exec key")."""
    plain = word.replace("%", "%%")
    if plain and not any(character in plain for character in " \t\n\"'\\><~|&;$*?#()`"):
        return plain
    quoted = "".join(f"\\{c}" if c in '"`$\\' else c for c in plain)
    return '"' + quoted.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t") + '"'


def _finder(program: Path) -> list[MenuFile]:
    """Return macOS Quick Actions: Automator workflows that run a shell command with the files as arguments."""
    files = []
    for name, action in ACTIONS.items():
        title = f"HashShield: {action.title}"
        # No colon in the file's name, because the Finder shows it as a slash.
        folder = Path.home() / "Library" / "Services" / f"HashShield {action.title}.workflow" / "Contents"
        written = _WRITTEN.format("finder")
        command = f'# {written}\nexec {_started(program, name)} "$@"\n'
        information = {"NSServices": [_service(title)], "HashShield": written}
        files += [
            MenuFile(folder / "Info.plist", plistlib.dumps(information)),
            MenuFile(folder / "document.wflow", plistlib.dumps(_workflow(command, name))),
        ]
    return files


def _service(title: str) -> dict[str, Any]:
    return {
        "NSMenuItem": {"default": title},
        "NSMessage": "runWorkflowAsService",
        "NSRequiredContext": {"NSApplicationIdentifier": "com.apple.finder"},
        "NSSendFileTypes": ["public.image", "public.folder"],
    }


def _workflow(command: str, name: str) -> dict[str, Any]:
    """Return an Automator document with one action, Run Shell Script, which gets its input as arguments."""
    bundle = "/System/Library/Automator/Run Shell Script.action"
    strings = {"Container": "List", "Types": ["com.apple.cocoa.string"]}

    def identity(part: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"hashshield:{name}:{part}")).upper()

    action = {
        "AMAccepts": {**strings, "Optional": True},
        "AMActionVersion": "2.0.3",
        "AMApplication": ["Automator"],
        "AMProvides": strings,
        "ActionBundlePath": bundle,
        "ActionName": "Run Shell Script",
        "ActionParameters": {
            "CheckedForUserDefaultShell": True,
            "COMMAND_STRING": command,
            "inputMethod": 1,
            "shell": "/bin/sh",
            "source": "",
        },
        "BundleIdentifier": "com.apple.RunShellScript",
        "CFBundleVersion": "2.0.3",
        "CanShowSelectedItemsWhenRun": False,
        "CanShowWhenRun": True,
        "Category": ["AMCategoryUtilities"],
        "Class Name": "RunShellScriptAction",
        "InputUUID": identity("input"),
        "OutputUUID": identity("output"),
        "UUID": identity("action"),
        "isViewVisible": True,
    }
    return {
        "AMApplicationVersion": "2.10",
        "AMDocumentVersion": "2",
        "actions": [{"action": action, "isViewVisible": True}],
        "connectors": {},
        "workflowMetaData": {
            "serviceApplicationBundleID": "com.apple.finder",
            "serviceInputTypeIdentifier": "com.apple.Automator.fileSystemObject",
            "serviceOutputTypeIdentifier": "com.apple.Automator.nothing",
            "serviceProcessesInput": 0,
            "workflowTypeIdentifier": "com.apple.Automator.servicesMenu",
        },
    }


def _sendto(program: Path) -> list[MenuFile]:
    """Return the links of Windows' Send To menu.

    These are not batch files, because the names that Explorer appends would be parsed as code, and may contain `&`.
    """
    roaming = os.environ.get("APPDATA")
    folder = (Path(roaming) if roaming else Path.home() / "AppData" / "Roaming") / "Microsoft" / "Windows" / "SendTo"
    return [
        MenuFile(
            folder / f"HashShield - {action.title}.lnk",
            shell_link(str(program), f"integrate run {name} --", _WRITTEN.format("sendto")),
        )
        for name, action in ACTIONS.items()
    ]


def _started(program: Path, name: str) -> str:
    """Return the shell command that starts an action; it ends in `--`, because file names may begin with a hyphen."""
    return shlex.join([str(program), "integrate", "run", name, "--"])


def _data_home() -> Path:
    """Return $XDG_DATA_HOME if it is an absolute path, else its default."""
    named = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if os.path.isabs(named) else Path.home() / ".local" / "share"  # noqa: PTH117


MENUS: Mapping[str, Callable[[Path], list[MenuFile]]] = {
    "nautilus": _nautilus,
    "dolphin": _dolphin,
    "finder": _finder,
    "sendto": _sendto,
}
"""For each file manager, a function that returns the files of its menu for the path of the program to start."""


_MARK = "hashshield integrate"


def program() -> Path:
    """Return the path of `hashshield` for menus to start. Raises UsageError if it is not installed as a program."""
    for name in (sys.argv[0] if sys.argv[:1] else "", shutil.which("hashshield") or ""):
        path = Path(os.path.abspath(name)) if name else None  # noqa: PTH100 - pipx's link outlives what it points to
        if path is not None and path.stem == "hashshield" and os.access(path, os.X_OK) and path.is_file():
            return path
    raise UsageError("menus start the program hashshield, which is not on the PATH; install it first (pipx install)")


def install(menu: str, started: Path) -> Iterator[tuple[Path, str]]:
    """Write the files of a menu that starts the program `started`; yield each with `written` or `unchanged`.

    Raises StorageError, also for an existing file of another program, before anything is written.
    """
    files = MENUS[menu](started)
    for file in files:
        _require_ours(file.path)
    for file in files:
        yield file.path, _write(file)


def _write(file: MenuFile) -> str:
    with storage_errors(f"writing {file.path}"):
        if file.path.is_file() and file.path.read_bytes() == file.data and _mode(file.path) == file.mode:
            return "unchanged"
        with Folder.made(file.path.parent) as folder:
            put(folder, file.path.name, file.data, temporary=temporary_name(), attributes=Attributes(mode=file.mode))
    return "written"


def remove(menu: str) -> Iterator[tuple[Path, str]]:
    """Remove the files of a menu and the folders left empty; yield each file with `removed` or `missing`.

    Raises StorageError, also for a file of another program.
    """
    for file in MENUS[menu](Path("hashshield")):
        if not os.path.lexists(file.path):
            yield file.path, "missing"
            continue
        _require_ours(file.path)
        with storage_errors(f"removing {file.path}"):
            file.path.unlink()
            _remove_own_folders(file.path.parent)
        yield file.path, "removed"


def _remove_own_folders(folder: Path) -> None:
    """Remove empty folders with hashshield in their name or their parent's, from the inside out."""
    while any("hashshield" in part.lower() for part in folder.parts[-2:]) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _require_ours(path: Path) -> None:
    if not os.path.lexists(path):
        return
    with storage_errors(f"reading {path}"):
        data = b"" if path.is_symlink() or not path.is_file() else path.read_bytes()
    if _MARK.encode() not in data and _MARK.encode("utf-16-le") not in data:
        raise StorageError(f"{path}: was not written by hashshield integrate, so it is left alone; move it away first")


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777 if os.name == "posix" else 0o644
