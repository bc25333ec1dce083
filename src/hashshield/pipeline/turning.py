"""Photos that are results of an earlier run, and those that were turned since.

A hash network sees a photo as it is shown. A result whose orientation was taken away, or whose pixels were turned,
shows another picture than the one that was protected; searching it again would put a change on top of a change. When
pixels and orientation were turned together, the same picture is shown, and it is the result still. Turned pixels are
known again where turning is exact: in lossless files. A turned JPEG decodes to slightly other pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hashshield import imaging
from hashshield.storage import Record, Store

__all__ = ["TURNED", "Earlier", "Results", "earlier_record", "earlier_result", "results_of"]

TURNED = "turned after protection; restore first"

Results = Mapping[str, frozenset[int]]
"""Pixel digest of a result -> the orientations (1 to 8) it was written with; 0 where that was not recorded."""


class Earlier(NamedTuple):
    """The earlier result that a photo's pixels are."""

    digest: str
    reoriented: bool
    """Whether the photo shows it turned."""


def results_of(store: Store) -> dict[str, frozenset[int]]:
    """Return every result of the ledger. Raises StorageError."""
    found: dict[str, frozenset[int]] = {}
    for record in store.ledger.every():
        if record.pixels_after is not None and record.kind != "restore" and record.state != "intent":
            orientation = int(record.details.get("orientation", 0))
            found[record.pixels_after] = found.get(record.pixels_after, frozenset()) | {orientation}
    return found


def earlier_result(photo: imaging.Photo, results: Results) -> Earlier | None:
    """Return which of `results` the photo is, in whichever of the eight turns; None for another photo."""
    reoriented = None
    if not results:
        return None
    for turn in range(1, 9):
        digest = imaging.pixel_digest(photo, turn)
        if digest in results:
            if any(_shows_the_same(turn, written, photo.orientation) for written in results[digest]):
                return Earlier(digest, reoriented=False)
            reoriented = Earlier(digest, reoriented=True)
    return reoriented


def earlier_record(
    photo: imaging.Photo, sha256: str, store: Store, results: Results | None = None
) -> tuple[Record, bool] | None:
    """Return the row of which the photo is the result, in any turn, and whether it is shown turned.

    Raises StorageError. `sha256` is that of its file; `results` are the ledger's, for those who ask about many photos.
    """
    record = store.known(sha256)
    if record is not None:
        return record, False
    earlier = earlier_result(photo, results_of(store) if results is None else results)
    record = None if earlier is None else store.known(sha256, earlier.digest)
    return None if record is None or earlier is None else (record, earlier.reoriented)


def _shows_the_same(turn: int, written: int, now: int) -> bool:
    """Whether pixels that become the written ones by `turn` show the same with orientation `now` as those did."""
    if written == 0:
        return turn == 1
    corners = np.arange(6).reshape(2, 3)
    shown_then = imaging.to_display_orientation(imaging.to_display_orientation(corners, turn), written)
    return np.array_equal(shown_then, imaging.to_display_orientation(corners, now))
