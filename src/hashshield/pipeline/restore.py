"""Bring back originals: files and folders by what they hold, a whole run, or files that were deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hashshield.errors import HashshieldError, PhotoError
from hashshield.storage import Store, walk
from hashshield.storage.faults import explain
from hashshield.types import Progress, Restoration

__all__ = ["restore"]

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")


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
    """Put originals back, byte for byte, with the mode and modification time they had.

    Folders are walked without following links; a file is recognised by its content wherever it is now, and by its
    pixels when only its metadata was edited. A named file that was deleted is brought back. `last_run` takes the
    files of the newest run that protected any (those below `paths` only, if any are given). `force` restores edited
    files too, with the edit kept in the vault. One row per file, failures included; raises StorageError only when
    the vault itself cannot be opened.
    """
    with Store.open(vault) as store:
        if progress is not None:
            for notice in store.notices:
                progress.notice(notice)
        rows = []
        for path, within, named in _files(store, paths, last_run=last_run):
            if isinstance(named, Restoration):
                rows.append(named)
                continue
            if progress is not None:
                progress.photo(str(path))
            rows.append(
                _one(
                    store,
                    path,
                    within=within,
                    named=named,
                    force=force,
                    dry_run=dry_run,
                    break_links=break_links,
                    allow_root=allow_root,
                )
            )
        return rows


def _files(
    store: Store, paths: Sequence[Path], *, last_run: bool
) -> Iterator[tuple[Path, Path | None, bool | Restoration]]:
    """Yield (file, folder it was met in, whether it was named); a row instead of the last where there is no file."""
    if last_run:
        yield from _last_run(store, paths)
        return
    for path in paths:
        if not path.is_dir():
            yield path, None, True
            continue
        try:
            for file in walk(path, skip=store.root):
                yield file, path, False
        except OSError as error:
            yield path, None, Restoration(str(path), "failed", reason=f"cannot be listed: {explain(error)}")


def _last_run(store: Store, paths: Sequence[Path]) -> Iterator[tuple[Path, Path | None, bool | Restoration]]:
    wanted = [Path(os.path.realpath(path)) for path in paths]
    seen = set()
    for record in store.ledger.last_run():
        path = record.path
        if path in seen or (wanted and not any(path.is_relative_to(place) for place in wanted)):
            continue
        seen.add(path)
        if os.path.lexists(path):
            # Recorded without links: whatever is one by now is not followed.
            yield path, Path(path.anchor), False
        else:
            reason = "is not where it was protected; name it where it is now, or by this path to bring it back here"
            yield path, None, Restoration(str(path), "failed", reason=reason)


def _one(
    store: Store,
    path: Path,
    *,
    within: Path | None,
    named: bool,
    force: bool,
    dry_run: bool,
    break_links: bool,
    allow_root: bool,
) -> Restoration:
    try:
        row = store.restore(
            path,
            follow=named,
            within=within,
            force=force,
            dry_run=dry_run,
            break_links=break_links,
            allow_root=allow_root,
            pixel_digest=_pixel_digest,
        )
    except HashshieldError as error:
        return Restoration(str(path), "failed", reason=str(error))
    return row


def _pixel_digest(data: bytes, path: Path) -> str | None:
    """Digest of the decoded pixels, or None for bytes that are no photo; imaging is loaded only when asked."""
    if not data.startswith(_SIGNATURES):
        return None
    from hashshield.imaging import pixel_digest, read

    try:
        return pixel_digest(read(data, name=str(path)))
    except PhotoError:
        return None
