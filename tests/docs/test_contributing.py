"""Where CONTRIBUTING.md sends a reader who adds one more of something, the room is there and holds what it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hashshield"
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
_FILE = re.compile(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)`")
_CONSTANT = re.compile(r"`(?:([a-z_.]+)\.)?(_?[A-Z][A-Z_]+)`")


def paragraphs() -> dict[str, str]:
    """Return the paragraphs of "Adding one more" by their first words."""
    section = TEXT.split("## Adding one more\n")[1].split("\n## ")[0]
    found = re.findall(r"^\*\*(.+?)\.\*\* (.+?)(?=^\*\*|\Z)", section, re.M | re.S)
    return dict(found)


def defined(path: Path) -> set[str]:
    """Return the names that a module defines or imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def file_of(name: str) -> Path | None:
    """Return the file that a path or a dotted name below the package or the repository stands for."""
    places = [base / name for base in (SOURCE, ROOT, ROOT / "tests")]
    return next((path for path in places if path.is_file()), None)


def test_every_kind_of_addition_has_a_paragraph() -> None:
    kinds = {"attack", "goal", "preset", "transform", "format", "architecture", "dataset", "command", "bench"}
    assert kinds <= {word for name in paragraphs() for word in re.findall(r"[a-z]+", name.lower())}


@pytest.mark.parametrize("name", paragraphs())
def test_each_paragraph_names_rooms_that_are_there(name: str) -> None:
    text = paragraphs()[name]
    files = {path: file_of(path) for path in _FILE.findall(text)}
    # A file named after a folder ("In `transforms/`: ... `pillow.py`") is looked for there.
    folders = [SOURCE / folder for folder in re.findall(r"`([a-z_/]+)/`", text) if (SOURCE / folder).is_dir()]
    for path in [path for path, file in files.items() if file is None]:
        files[path] = next((folder / path for folder in folders if (folder / path).is_file()), None)
    assert None not in files.values(), [path for path, file in files.items() if file is None]
    modules = [path for path in files.values() if path is not None]
    for module, constant in _CONSTANT.findall(text):
        if module:
            room = SOURCE / module.replace(".", "/")
            path = room / "__init__.py" if room.is_dir() else room.with_suffix(".py")
            assert constant in defined(path), f"{module}.{constant}"
        elif not (ROOT / constant).is_file():
            assert any(constant in defined(path) for path in [*modules, *folders_of(folders)]), constant


def folders_of(folders: list[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.glob("*.py")]


def test_the_map_names_every_room_and_where_to_start() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \| .+ \| `(\w+)` \|$", TEXT, re.M)
    for room, start in rows:
        folder, module = SOURCE / room, SOURCE / f"{room}.py"
        assert (folder / f"{start}.py").is_file() or (module.is_file() and start in {room, *defined(module)}), room
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert rooms <= {room for room, _start in rows}
