"""A CSV table of photos with any number of labels each: header `path,labels`, labels separated by `;`."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from hashshield.datasets.base import LabelledFiles
from hashshield.errors import UsageError

__all__ = ["read_table"]

_HEADER = ["path", "labels"]


def read_table(path: Path) -> LabelledFiles:
    """Read the table; paths are relative to its folder, and a photo may have no label.

    Raises UsageError naming the first line that is wrong or whose photo is missing.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such table; name a CSV file with the columns {' and '.join(_HEADER)}")
    rows: dict[str, tuple[int, frozenset[str]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            lines = csv.reader(handle, strict=True)
            header = [cell.strip() for cell in next(lines, [])]
            if header != _HEADER:
                raise UsageError(f"{path}, line 1: begins with {','.join(header)!r}; a table begins with path,labels")
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    name, labels = _row(cells, path, lines.line_num)
                    if name in rows:
                        raise UsageError(f"{path}, line {lines.line_num}: {name} is in line {rows[name][0]} already")
                    rows[name] = (lines.line_num, labels)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV in UTF-8 ({error}); save it as such") from error
    missing = [(line, name) for name, (line, _) in rows.items() if not (path.parent / name).is_file()]
    if missing:
        line, name = missing[0]
        raise UsageError(
            f"{path}, line {line}: no photo {path.parent / name}; paths are relative to the table "
            f"({len(missing)} of {len(rows)} are missing)"
        )
    classes = sorted(frozenset().union(*(labels for _, labels in rows.values())))
    if len(classes) < 2:
        raise UsageError(f"{path}: {len(classes)} labels in {len(rows)} photos; at least two are needed")
    matrix = np.array([[name in found for name in classes] for _, found in rows.values()], dtype=bool)
    return LabelledFiles("table", path.parent, tuple(rows), matrix, tuple(classes))


def _row(cells: list[str], path: Path, line: int) -> tuple[str, frozenset[str]]:
    """Return a photo's path, with forward slashes, and its labels. Raises UsageError."""
    if len(cells) != len(_HEADER):
        raise UsageError(f"{path}, line {line}: {len(cells)} cells; two are expected, and labels are separated by ';'")
    name = cells[0].strip().replace("\\", "/")
    inside = PurePosixPath(name)
    if not inside.parts or inside.is_absolute() or ".." in inside.parts or PureWindowsPath(name).drive:
        raise UsageError(f"{path}, line {line}: {name!r} is not a path inside the table's folder")
    return str(inside), frozenset(label.strip() for label in cells[1].split(";") if label.strip())
