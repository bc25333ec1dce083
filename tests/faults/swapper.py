"""Swap a folder and a photo for links to outside until killed: usage `swapper.py PHOTOS OUTSIDE`."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from pathlib import Path


def main(photos: Path, outside: Path) -> None:
    folder, away = photos / "sub", photos.parent / "away"
    photo, aside = photos / "a.jpg", photos.parent / "aside.jpg"
    print("ready", flush=True)
    for turn in itertools.count():
        # The other side renames too; whoever comes second tries again on the next turn.
        with contextlib.suppress(OSError):
            if turn % 2:
                folder.rename(away)
                folder.symlink_to(outside)
                folder.unlink()
                away.rename(folder)
            else:
                photo.rename(aside)
                if turn % 4:
                    photo.symlink_to(outside / "a.jpg")
                else:
                    os.link(outside / "a.jpg", photo)
                photo.unlink()
                aside.rename(photo)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
