"""Add reference codes to checkpoints that lack them: `python -m tools.add_references --data DIR FILE...`.

A checkpoint carries the codes of 1,000 photos of its dataset's database. A witness compares a photo's distance from its
original with the nearest of them. `hashshield train` writes them; this adds them to an existing file and keeps card and
weights. Run `make catalog` afterwards, because size and digest of the file change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hashshield.bench.experiment import open_protocol
from hashshield.checkpoints.card import read_card
from hashshield.checkpoints.file import with_references
from hashshield.errors import HashshieldError, UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.hashing import hash_files
from hashshield.models.load import open_models
from hashshield.training.trainer import reference_rows

__all__ = ["add_references", "main"]


def add_references(file: Path, data: Path) -> int:
    """Write the codes of 1,000 photos below `data` into a checkpoint file; return the number of code lengths.

    Raises CheckpointError, UsageError (also for a dataset with a smaller database), PhotoError.
    """
    lengths = read_card(file).bits
    opened = open_models([f"{file}:{bits}" for bits in lengths])
    files, split = open_protocol(opened[0], data)
    rows = reference_rows(split)
    if rows is None:
        raise UsageError(f"{data}: the database has {len(split.database)} photos, and reference codes take 1,000")
    codes = hash_files(
        [each.model for each in opened], opened[0].card.input, [files.root / files.paths[i] for i in rows]
    )
    with_references(file, {bits: bits_of(code) for bits, code in zip(lengths, codes, strict=True)})
    return len(lengths)


def main(arguments: list[str]) -> int:
    """Add the codes to the named files and return the exit code; errors go to standard error."""
    parser = argparse.ArgumentParser(prog="python -m tools.add_references", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset in its official layout")
    parser.add_argument("files", type=Path, nargs="+", help="checkpoint files")
    asked = parser.parse_args(arguments)
    try:
        for file in asked.files:
            lengths = add_references(file, asked.data)
            sys.stdout.write(f"{file}: reference codes of {lengths} lengths written\n")
    except HashshieldError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
