"""What a bench has made so far, kept so that an interrupted one goes on and benches share what they have in common.

A trial is one photo changed by one method: a PNG file whose text says how it came about. Its name is a digest of
everything that decides the result, the version of the search included, so nothing old is ever taken for something new.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hashshield.attacks.version import SEARCH_VERSION
from hashshield.errors import UsageError
from hashshield.storage import digest

__all__ = ["Pool", "Trial", "complete"]

Pixels = NDArray[np.uint8]

_TEXT = "hashshield-trial"


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A changed photo as it was written."""

    pixels: Pixels
    """Upright (H, W, 3), read again from the file."""
    record: dict[str, Any]
    """What was noted while it was made: steps, seconds, distances on the way."""


class Pool:
    """A folder of trials and code tables; only complete ones are ever seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def trial(self, settings: dict[str, Any]) -> Trial | None:
        """The trial made under these settings; None when there is none yet. Raises UsageError for a damaged one."""
        path = self._path(settings, "png")
        if not path.exists():
            return None
        try:
            with Image.open(path, formats=["PNG"]) as image:
                image.load()
                return Trial(np.asarray(image), json.loads(image.info[_TEXT]))
        except (OSError, KeyError, ValueError, SyntaxError) as error:
            raise UsageError(f"{path}: no readable trial ({error}); remove it, and it is made again") from error

    def keep(self, settings: dict[str, Any], pixels: Pixels, record: dict[str, Any]) -> Trial:
        """Write a trial, and return it as it is read again."""
        text = PngImagePlugin.PngInfo()
        text.add_text(_TEXT, json.dumps(record), zip=True)
        with complete(self._path(settings, "png")) as partial:
            Image.fromarray(pixels).save(partial, "PNG", pnginfo=text, compress_level=1)
        found = self.trial(settings)
        assert found is not None
        return found

    def table(self, settings: dict[str, Any]) -> dict[str, NDArray[Any]] | None:
        """Arrays kept under these settings, by name; None when there are none. Raises UsageError for damaged ones."""
        path = self._path(settings, "safetensors")
        if not path.exists():
            return None
        try:
            found: dict[str, NDArray[Any]] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UsageError(f"{path}: no readable table of codes ({error}); remove it") from error
        return found

    def keep_table(self, settings: dict[str, Any], **arrays: NDArray[Any]) -> None:
        """Write arrays under their names."""
        with complete(self._path(settings, "safetensors")) as partial:
            save_file(arrays, partial)

    def _path(self, settings: dict[str, Any], ending: str) -> Path:
        text = json.dumps({**settings, "search": SEARCH_VERSION}, sort_keys=True)
        return self.folder / f"{digest(text.encode())[:32]}.{ending}"


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when all is written, and vanishes when something goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
