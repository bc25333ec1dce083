"""Write the catalogue from the checkpoint files: `python -m tools.build_catalog FILE...`, or `make catalog`.

Sizes, digests, code lengths, licences and MAPs are taken from the files and their cards. The default address, the
order, and each checkpoint's summary, mirrors and classes are kept from the current catalogue; the summary of a new
checkpoint is made from its card.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import tomli_w

from hashshield.checkpoints.cache import CatalogEntry, read_entries, write_entry
from hashshield.checkpoints.card import entry_of
from hashshield.errors import HashshieldError, UsageError

__all__ = ["CATALOG", "catalog_text", "main"]

CATALOG = Path(__file__).parents[1] / "src" / "hashshield" / "checkpoints" / "catalog.toml"
"""The committed catalogue, which is part of the package."""


def catalog_text(current: Path, files: Iterable[Path]) -> str:
    """Return the text of the catalogue `current`, updated to list exactly the checkpoints `files`.

    Files in a folder named `bundled` are marked as embedded. Raises CheckpointError for a file that is not a
    checkpoint, UsageError for one whose name is not that of its card.
    """
    address, before = read_entries(current)
    old = {entry.name: entry for entry in before}
    new: dict[str, CatalogEntry] = {}
    for path in sorted(files, key=lambda path: path.name):
        entry = entry_of(path, embedded=path.parent.name == "bundled")
        if path.name != entry.file or entry.name in new:
            raise UsageError(f"{path}: its card says {entry.name}; a checkpoint is named as its card, and entered once")
        if entry.name in old:
            entry = replace(entry, **{key: getattr(old[entry.name], key) for key in ("summary", "mirrors", "classes")})
        new[entry.name] = entry
    order = [name for name in old if name in new] + sorted(new.keys() - old.keys())
    head = "".join(line for line in current.read_text(encoding="utf-8").splitlines(keepends=True) if line[:1] == "#")
    tables = [write_entry(new[name]) for name in order]
    if address:
        head += tomli_w.dumps({"address": address})
    return "\n".join([head, *tables])


def main(arguments: list[str], *, target: Path = CATALOG) -> int:
    """Write the catalogue `target` from the named files and return the exit code; errors go to standard error."""
    try:
        text = catalog_text(target, map(Path, arguments))
    except HashshieldError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    target.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
