"""What is written for each file manager, taken apart as that file manager does, and started where a shell can."""

from __future__ import annotations

import configparser
import os
import plistlib
import shutil
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hashshield.desktop.actions import ACTIONS
from hashshield.desktop.menus import MENUS, install, remove, shell_link
from hashshield.errors import StorageError

HOSTILE = (
    "a b.jpg",
    "-rf.jpg",
    "--output=x.jpg",
    'it\'s "quoted".jpg',
    "$(touch run) `touch run`.jpg",
    "a;touch run&touch run|touch run.jpg",
    "%f %F %%.jpg",
    "new\nline.jpg",
    "back\\slash.jpg",
    "*?[a].jpg",
    "\u202egnp.jpg",
)
STAND_IN = '#!/bin/sh\nprintf "%s\\0" "$@" > "$HASHSHIELD_SAID"\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home $HOME 'x'"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("XDG_DATA_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that writes down what it is started with, in a folder whose name is hostile too."""
    path = tmp_path / 'bin $(touch run) "`touch run`" 100% \\' / "hashshield"
    path.parent.mkdir()
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def started(command: list[str], folder: Path, *, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments that the stand-in got from a command."""
    said = folder / "said"
    monkeypatch.setenv("HASHSHIELD_SAID", str(said))
    subprocess.run(command, cwd=folder, check=True)
    assert not list(folder.rglob("run"))
    return said.read_bytes().decode().split("\0")[:-1]


def of_entry(value: str) -> list[str]:
    """The words of an Exec key (Desktop Entry Specification 1.5): the file's escapes, then quotes, then %%.

    Quotes are those of a shell, which is why a real one takes them off; KDE's own does the same.
    """
    plain = value.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")
    said = subprocess.run(["/bin/sh", "-c", f"printf '%s\\0' {plain}"], capture_output=True, check=True).stdout
    return [word.replace("%%", "%") for word in said.decode().split("\0")[:-1]]


def test_nautilus_starts_each_script_with_the_names_as_they_are(
    program: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / ".local" / "share" / "nautilus" / "scripts" / "HashShield"
    assert dict(install("nautilus", program)) == {folder / action.title: "written" for action in ACTIONS.values()}
    for name, action in ACTIONS.items():
        script = folder / action.title
        assert stat.S_IMODE(script.stat().st_mode) == 0o755
        assert started([str(script), *HOSTILE], tmp_path, monkeypatch=monkeypatch) == [
            *("integrate", "run", name, "--"),
            *HOSTILE,
        ]


def test_dolphin_reads_a_desktop_entry_with_one_action_each(
    program: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((path, _),) = install("dolphin", program)
    assert path == home / ".local/share/kio/servicemenus/hashshield.desktop"
    assert os.access(path, os.X_OK)
    entry = configparser.RawConfigParser(strict=True, interpolation=None)
    entry.optionxform = str  # type: ignore[assignment, method-assign]
    entry.read_string(path.read_text())
    main = entry["Desktop Entry"]
    assert main["Type"] == "Service"
    assert {"image/jpeg", "image/png", "image/webp", "inode/directory"} <= set(main["MimeType"].split(";"))
    names = main["Actions"].strip(";").split(";")
    assert names == list(ACTIONS)
    assert entry.sections() == ["Desktop Entry", *(f"Desktop Action {name}" for name in names)]
    for name in names:
        section = entry[f"Desktop Action {name}"]
        assert section["Name"] == ACTIONS[name].title
        *words, files = of_entry(section["Exec"])
        assert words == [str(program), "integrate", "run", name, "--"]
        assert files == "%F"
        assert started([*words, *HOSTILE], tmp_path, monkeypatch=monkeypatch)[4:] == [*HOSTILE]


def test_finder_gets_workflows_that_hand_files_over_as_arguments(
    program: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(install("finder", program))
    folders = sorted((home / "Library" / "Services").iterdir())
    assert [folder.name for folder in folders] == sorted(f"HashShield {a.title}.workflow" for a in ACTIONS.values())
    for name, action in ACTIONS.items():
        contents = home / "Library" / "Services" / f"HashShield {action.title}.workflow" / "Contents"
        (service,) = plistlib.loads((contents / "Info.plist").read_bytes())["NSServices"]
        assert service["NSMenuItem"] == {"default": f"HashShield: {action.title}"}
        assert service["NSSendFileTypes"] == ["public.image", "public.folder"]
        document = plistlib.loads((contents / "document.wflow").read_bytes())
        assert document["workflowMetaData"]["workflowTypeIdentifier"] == "com.apple.Automator.servicesMenu"
        assert document["workflowMetaData"]["serviceInputTypeIdentifier"] == "com.apple.Automator.fileSystemObject"
        (step,) = document["actions"]
        assert step["action"]["BundleIdentifier"] == "com.apple.RunShellScript"
        parameters = step["action"]["ActionParameters"]
        # 1: as arguments, and not on standard input, where names are lines.
        assert parameters["inputMethod"] == 1
        command = [parameters["shell"], "-c", parameters["COMMAND_STRING"], "-", *HOSTILE]
        assert started(command, tmp_path, monkeypatch=monkeypatch) == ["integrate", "run", name, "--", *HOSTILE]


def parsed_link(data: bytes) -> dict[str, Any]:
    """A shell link as [MS-SHLLINK] lays it out."""
    size, identity, flags = struct.unpack_from("<I16sI", data)
    assert (size, identity.hex()) == (0x4C, "0114020000000000c000000000000046")
    assert flags == 0x4 | 0x20 | 0x80 | 0x200
    show = struct.unpack_from("<I", data, 60)[0]
    at, strings = 0x4C, []
    for _ in range(2):
        (count,) = struct.unpack_from("<H", data, at)
        strings.append(data[at + 2 : at + 2 + 2 * count].decode("utf-16-le"))
        at += 2 + 2 * count
    length, signature = struct.unpack_from("<II", data, at)
    assert (length, signature) == (0x314, 0xA0000001)
    target = data[at + 8 + 260 : at + length].decode("utf-16-le").rstrip("\0")
    assert data[at + length :] == bytes(4)
    return {"comment": strings[0], "arguments": strings[1], "target": target, "show": show}


def test_sendto_gets_links_and_nothing_that_a_shell_reads(home: Path) -> None:
    program = Path("C:/Users/Zoë/hashshield.exe")
    found = dict(install("sendto", program))
    folder = home / "AppData" / "Roaming" / "Microsoft" / "Windows" / "SendTo"
    assert set(found) == {folder / f"HashShield - {action.title}.lnk" for action in ACTIONS.values()}
    for name, action in ACTIONS.items():
        path = folder / f"HashShield - {action.title}.lnk"
        link = parsed_link(path.read_bytes())
        assert (link["target"], link["arguments"], link["show"]) == (str(program), f"integrate run {name} --", 7)
        if shutil.which("file"):
            said = subprocess.run(["file", "--brief", path], capture_output=True, text=True, check=True).stdout
            assert "MS Windows shortcut" in said
            assert "command line arguments" in said
    with pytest.raises(ValueError, match="a link holds 259"):
        shell_link("C:/" + "a" * 300, "", "")


@pytest.mark.parametrize("menu", list(MENUS))
def test_a_menu_comes_and_goes_and_leaves_nothing(menu: str, program: Path, home: Path) -> None:
    first = dict(install(menu, program))
    assert set(first.values()) == {"written"}
    assert dict(install(menu, program)) == dict.fromkeys(first, "unchanged")
    moved = program.parent.parent / "hashshield"
    assert set(dict(install(menu, moved)).values()) >= {"written"}
    neighbour = next(iter(first)).parent / "mine"
    neighbour.write_text("mine")
    assert dict(remove(menu)) == dict.fromkeys(first, "removed")
    assert dict(remove(menu)) == dict.fromkeys(first, "missing")
    assert [path for path in home.rglob("*") if path.is_file()] == [neighbour]
    neighbour.unlink()
    list(install(menu, program))
    list(remove(menu))
    assert not [path for path in home.rglob("*") if "hashshield" in path.name.lower()]


@pytest.mark.parametrize("menu", list(MENUS))
def test_what_is_not_ours_is_left_alone(menu: str, program: Path) -> None:
    mine = MENUS[menu](program)[-1].path
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    for change in (lambda: list(install(menu, program)), lambda: list(remove(menu))):
        with pytest.raises(StorageError, match="was not written by hashshield integrate"):
            change()
    assert mine.read_text() == "mine"
    assert [path for path in mine.parent.iterdir() if path.is_file()] == [mine]
