"""Restore originals: of files and folders, of a whole run, or of files that were deleted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from hashshield.boundary import boundary, defer_interrupts
from hashshield.errors import HashshieldError, PhotoError
from hashshield.imaging.photo import is_image, read_photo_file
from hashshield.storage import Store, named
from hashshield.storage.calls import explain
from hashshield.storage.recover import COPY
from hashshield.storage.schema import REPAIR
from hashshield.types import Progress, Restoration

if TYPE_CHECKING:
    from hashshield.pipeline.twins import Results

__all__ = ["restore"]


def restore(
    paths: Sequence[Path],
    *,
    vault: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    last_run: bool = False,
    break_links: bool = False,
    allow_root: bool = False,
    progress: Progress | None = None,
) -> list[Restoration]:
    """Restore originals byte for byte, with their mode and modification time; return one row per file.

    Folders are walked without following links. A file is recognised by its content wherever it is now, and by its
    pixels if only its metadata was edited. A named file that was deleted is brought back. `last_run` selects the files
    of the newest run that protected any, only those below `paths` if there are any. `force` also restores edited files
    and keeps the edited version in the vault. Failed files have rows too. Rows are in the order of `paths`, those of a
    run sorted by path. Raises StorageError only if the vault cannot be used.
    """
    with Store.open(vault, reading=True) as store:
        rows: list[Restoration] = []
        if progress is not None:
            for notice in store.notices:
                progress.notice(notice)
        results = cache(partial(_results_of, store))
        errors = store.integrity_errors()
        if errors and progress is not None:
            # Restore what the ledger still knows. A lost row looks like a photo that was never protected.
            progress.notice(f"the ledger is damaged, and some photos may not be known: {errors[0]}; {REPAIR}")
        found = list(_of_last_run(store, paths, rows) if last_run else _named(store, paths, rows))
        if progress is not None:
            progress.start(len(found))
        for path, within in found:
            if progress is not None:
                progress.photo(str(path))
            with defer_interrupts():
                try:
                    with boundary("store", str(path)):
                        row = store.restore(
                            path,
                            follow=within is None,
                            within=within,
                            force=force,
                            dry_run=dry_run,
                            break_links=break_links,
                            allow_root=allow_root,
                            pixel_digest=partial(_pixel_digest, results),
                            accept=is_image,
                        )
                    row = _with_source(row, store)
                except HashshieldError as error:
                    row = Restoration(str(path), "failed", reason=str(error))
                rows.append(row)
                if progress is not None:
                    progress.done(row)
        return sorted(rows, key=lambda row: row.path) if last_run else rows


def _with_source(row: Restoration, store: Store) -> Restoration:
    """Return the row, for a renamed copy with the path of its source added to the reason."""
    if row.reason != COPY:
        return row
    record = store.known(read_photo_file(Path(row.path), follow=True).sha256)
    source = None if record is None else record.details.get("copy_of")
    return row if source is None else replace(row, reason=f"{row.reason} and is {source}")


def _named(store: Store, paths: Sequence[Path], rows: list[Restoration]) -> Iterator[tuple[Path, Path | None]]:
    """Yield files as `storage.named` does; folders that cannot be listed get a row in `rows`."""

    def failed(folder: Path, error: OSError) -> None:
        rows.append(Restoration(str(folder), "failed", reason=f"cannot be listed: {explain(error)}"))

    # Other programs' folders are included, because earlier versions changed photos there.
    return named(paths, skip=store.root, failed=failed, foreign=lambda location: True)


def _of_last_run(store: Store, paths: Sequence[Path], rows: list[Restoration]) -> Iterator[tuple[Path, Path | None]]:
    wanted = [Path(os.path.realpath(path)) for path in paths]
    for path in dict.fromkeys(record.path for record in store.ledger.last_run()):
        if wanted and not any(path.is_relative_to(location) for location in wanted):
            continue
        if os.path.lexists(path):
            # Recorded paths contain no links, so one that does now is not followed.
            yield path, Path(path.anchor)
        else:
            reason = "is not where it was protected; name it where it is now, or name this path to bring it back here"
            rows.append(Restoration(str(path), "failed", reason=reason))


def _results_of(store: Store) -> Results:
    from hashshield.pipeline.twins import results_of

    return results_of(store)


def _pixel_digest(results: Callable[[], Results], data: bytes, path: Path) -> str | None:
    """Return the digest of the decoded pixels, or None for bytes that are not a photo; imports decoders on demand.

    For a result that was rotated since, return the result's own digest.
    """
    from hashshield.imaging import pixel_digest, read
    from hashshield.pipeline.twins import earlier_result

    try:
        photo = read(data, name=str(path))
    except PhotoError:
        return None
    earlier = earlier_result(photo, results())
    return pixel_digest(photo) if earlier is None else earlier.digest
