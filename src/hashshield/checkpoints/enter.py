"""Write the catalogue from the files: `python -m hashshield.checkpoints.enter FILE...`, or `make catalog`.

Sizes, digests, code lengths, licences and MAPs are those of the files and their cards. The default address, the order,
and each checkpoint's summary and mirrors are the catalogue's own and stay; a new summary is made from the card.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hashshield.checkpoints.cache import digest_of
from hashshield.checkpoints.card import Card
from hashshield.checkpoints.entry import Entry, checked, checked_name, read_entries, write_entry
from hashshield.checkpoints.header import read_card
from hashshield.errors import HashshieldError, UsageError

__all__ = ["catalogue", "entry_of", "main"]

_HERE = Path(__file__).parent


def entry_of(path: Path, *, embedded: bool = False, imported: bool = False) -> Entry:
    """The entry of a checkpoint file, as its card tells it. Raises CheckpointError."""
    card = read_card(path)
    name = checked_name(card.name, source=str(path))
    entry = Entry(
        name=name,
        file=f"{name}.safetensors",
        size=path.stat().st_size,
        sha256=digest_of(path),
        licence=card.licence or "unknown",
        summary=_summary(card),
        bits=card.bits,
        map={int(bits): value for bits, value in card.map.items()},
        embedded=embedded,
        imported=imported,
    )
    return checked(entry, source=str(path))


def catalogue(current: Path, files: Iterable[Path]) -> str:
    """The text of the catalogue `current` once it holds exactly `files`; those in a folder bundled/ are embedded.

    Raises CheckpointError; UsageError for a file that is not named as its card says.
    """
    address, before = read_entries(current)
    old = {entry.name: entry for entry in before}
    new: dict[str, Entry] = {}
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
    return "\n".join([f'{head}address = "{address}"\n' if address else head, *tables])


def main(arguments: list[str]) -> int:
    """Enter these files into the package's catalogue; the exit code."""
    target = _HERE / "catalog.toml"
    try:
        text = catalogue(target, map(Path, arguments))
    except HashshieldError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    target.write_text(text, encoding="utf-8", newline="\n")
    return 0


def _summary(card: Card) -> str:
    return f"{card.arch} on {card.dataset}, codes of {', '.join(map(str, card.bits))} bits"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
