"""Folders and files that other programs look after: trash, old versions, thumbnails, photo libraries and previews."""

from __future__ import annotations

from pathlib import PurePath

__all__ = ["FOREIGN", "is_foreign"]

FOREIGN = "belongs to another program (trash, old versions, thumbnails or a photo library); name it to have it changed"
"""Why such a place is left alone."""

_NAMES = frozenset(
    {
        # Old versions and marks of synchronising programs, snapshots of file systems.
        ".stversions",
        ".stfolder",
        ".sync",
        ".dropbox.cache",
        ".snapshot",
        ".snapshots",
        "#snapshot",
        "@recently-snapshot",
        # Thumbnails of network drives, desktops and albums.
        "@eadir",
        "@__thumb",
        ".@__thumb",
        ".thumbnails",
        ".sh_thumbnails",
        ".thumbs",
        ".thumb",
        ".picasaoriginals",
        "ipod photo cache",
        # Trash.
        ".trash",
        ".trashes",
        "$recycle.bin",
        "recycler",
        "#recycle",
        "@recycle",
        ".recycle",
        ".dtrash",
        ".local/share/trash",
        # Histories of version control.
        ".git",
        ".hg",
        ".svn",
        ".bzr",
    }
)
_BEGINNINGS = (".trash-", ".trashed-", ".pending-")
"""Trash of another user or volume (freedesktop.org), and files of Android that are deleted or not complete."""
_ENDINGS = (
    # Apple Photos, iPhoto, Aperture and Photo Booth; Lightroom's previews and data; Capture One.
    ".photoslibrary",
    ".photolibrary",
    ".migratedphotolibrary",
    ".aplibrary",
    ".photoboothlibrary",
    ".lrdata",
    ".lrcat-data",
    ".lrlibrary",
    ".cocatalog",
    ".cosessiondb",
)


def is_foreign(path: PurePath) -> bool:
    """Return whether a folder or file is one of those by its name, of which case does not count."""
    name = path.name.casefold()
    if name in _NAMES or name.startswith(_BEGINNINGS) or name.endswith(_ENDINGS):
        return True
    return "/".join(path.parts[-3:]).casefold() in _NAMES
