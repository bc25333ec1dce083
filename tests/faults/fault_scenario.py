"""A session that uses every write path, and the promise that must hold whenever it is cut short.

The promise: every photo is byte for byte its original, or a complete protected file whose original is intact in the
vault; every copy is complete or absent; the next start settles the rest and leaves no temporary file behind.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from hashshield.storage import NewRecord, Store, calls, read_snapshot
from hashshield.storage.folder import is_temporary

ORIGINALS = {
    "a.jpg": b"original a " * 25,
    "sub/anew.jpg": b"original anew " * 20,
    "sub/restored.jpg": b"original restored " * 15,
}
MTIME_NS = 1_500_000_000_000_000_001


def protected(data: bytes) -> bytes:
    return b"protected " + hashlib.sha256(data).digest() + data[::-1]


def protected_anew(data: bytes) -> bytes:
    return b"protected anew " + hashlib.sha256(data).digest() + data[::-1]


def unsettled(store: Store) -> list[str]:
    """What recovery had to say; where the folder lies, and that it is new, is no matter here."""
    return [notice for notice in store.notices if "lies in memory" not in notice and "new vault" not in notice]


def lay_out(base: Path) -> None:
    """Make the photos as they are before anything happened; nothing else is left of earlier sessions."""
    for name in ("photos", "vault", "out"):
        shutil.rmtree(base / name, ignore_errors=True)
    for name, data in ORIGINALS.items():
        path = base / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))


def act(base: Path) -> None:
    """Protect all, write a copy, protect one anew, restore one; may be repeated after it was cut short."""
    # Several writes to a photo, so that some are cut short between them.
    calls.CHUNK_BYTES = 150
    photos = base / "photos"
    with Store.open(base / "vault") as store:
        store.key()
        for name in ORIGINALS:
            source = read_snapshot(photos / name, follow=False, within=photos)
            if store.known(source.sha256) is None:
                store.replace(source, protected(source.data), NewRecord(details={"name": name}), allow_root=True)
        store.write_new(base / "out" / "a.jpg", protected(ORIGINALS["a.jpg"]), like=source)
        source = read_snapshot(photos / "sub/anew.jpg", follow=False, within=photos)
        first = store.known(source.sha256)
        assert first is not None
        again = protected_anew(store.original(first))
        if source.data != again:
            store.replace(source, again, NewRecord(again=first), allow_root=True)
        store.restore(photos / "sub/restored.jpg", allow_root=True)


def check(base: Path) -> None:
    """Assert the promise on the bare files, then after a restart."""
    changed = []
    for name, original in ORIGINALS.items():
        path = base / "photos" / name
        held = path.read_bytes()
        if held == original:
            continue
        assert held in {protected(original), protected_anew(original)}, f"{name} is half-written"
        digest = hashlib.sha256(original).hexdigest()
        blob = base / "vault" / "originals" / digest[:2] / digest
        assert blob.read_bytes() == original, f"the original of {name} is not in the vault"
        changed.append(path)
    copy = base / "out" / "a.jpg"
    if copy.exists():
        assert copy.read_bytes() == protected(ORIGINALS["a.jpg"])
    with Store.open(base / "vault") as store:
        assert unsettled(store) == []
        assert store.ledger.open_intents() == []
        assert store.ledger.temporaries() == []
        for path in changed:
            assert store.restore(path, dry_run=True).status == "planned", f"{path} cannot be restored"
        if copy.exists():
            assert store.known(hashlib.sha256(copy.read_bytes()).hexdigest()) is not None
    left = [path for path in base.rglob("*") if is_temporary(path.name)]
    assert left == [], "temporary files survive a restart"


def finish(base: Path) -> None:
    """Run the session to its end, then restore everything, and assert that all is as it was."""
    act(base)
    photos = base / "photos"
    assert (photos / "a.jpg").read_bytes() == protected(ORIGINALS["a.jpg"])
    assert (photos / "sub/anew.jpg").read_bytes() == protected_anew(ORIGINALS["sub/anew.jpg"])
    with Store.open(base / "vault") as store:
        for name, original in ORIGINALS.items():
            row = store.restore(photos / name, allow_root=True)
            assert row.status in {"restored", "skipped"}, row
            assert (photos / name).read_bytes() == original
            assert (photos / name).stat().st_mtime_ns == MTIME_NS
