"""Any sequence of what users and HashShield do to files, against a model of what must never be lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hashshield.storage import NewRecord, Store, read_snapshot

NAMES = st.sampled_from(["a.jpg", "b.jpg", "c.jpg"])
MEMORY = Path("/dev/shm")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Photos(RuleBasedStateMachine):
    """`origin` maps each result to the photo it was made from; `made` is all that the user ever made."""

    @initialize()
    def start(self) -> None:
        self.base = Path(tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
        self.photos = self.base / "photos"
        self.photos.mkdir()
        self.store = Store.open(self.base / "vault")
        self.origin: dict[bytes, bytes] = {}
        self.made: set[bytes] = set()
        self.deleted: set[bytes] = set()
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.base)

    def fresh(self, kind: str) -> bytes:
        self.count += 1
        return f"{kind} {self.count}".encode()

    def held(self, name: str) -> bytes | None:
        path = self.photos / name
        return path.read_bytes() if path.exists() else None

    @rule(name=NAMES, mtime_ns=st.integers(1, 10**18))
    def user_writes(self, name: str, mtime_ns: int) -> None:
        replaced = self.held(name)
        data = self.fresh("photo")
        (self.photos / name).write_bytes(data)
        os.utime(self.photos / name, ns=(mtime_ns, mtime_ns))
        self.made.add(data)
        if replaced in self.made:
            self.deleted.add(replaced)

    @rule(name=NAMES, other=NAMES, move=st.booleans())
    def user_copies_or_moves(self, name: str, other: str, move: bool) -> None:
        data, replaced = self.held(name), self.held(other)
        if data is None or name == other:
            return
        if replaced in self.made:
            self.deleted.add(replaced)
        if move:
            (self.photos / name).replace(self.photos / other)
        else:
            (self.photos / other).write_bytes(data)

    @rule(name=NAMES)
    def user_deletes(self, name: str) -> None:
        data = self.held(name)
        if data is not None:
            (self.photos / name).unlink()
            if data in self.made:
                self.deleted.add(data)

    @rule(name=NAMES)
    def protect(self, name: str) -> None:
        data = self.held(name)
        if data is None:
            return
        source = read_snapshot(self.photos / name, follow=False, within=self.photos)
        known = self.store.known(source.sha256)
        assert (known is not None) == (data in self.origin), "protected already, exactly if it is a result"
        if known is None:
            result = self.fresh("result")
            self.store.replace(source, result, NewRecord(), allow_root=True)
            self.origin[result] = data

    @rule(name=NAMES)
    def protect_anew(self, name: str) -> None:
        data = self.held(name)
        if data not in self.origin:
            return
        source = read_snapshot(self.photos / name, follow=False, within=self.photos)
        known = self.store.known(source.sha256)
        assert known is not None
        assert self.store.original(known) == self.origin[data]
        result = self.fresh("result")
        self.store.replace(source, result, NewRecord(again=known), allow_root=True)
        self.origin[result] = self.origin[data]

    @rule(name=NAMES, force=st.booleans())
    def restore(self, name: str, force: bool) -> None:
        data = self.held(name)
        row = self.store.restore(self.photos / name, force=force, allow_root=True)
        now = self.held(name)
        if data in self.origin:
            assert row.status == "restored"
            assert now == self.origin[data]
        elif row.status == "restored":
            assert force or data is None, "an edit is never replaced unasked"
            assert now in set(self.origin.values())
        else:
            assert now == data

    @precondition(lambda self: hasattr(self, "store"))
    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.base / "vault")
        assert self.store.ledger.open_intents() == []

    @invariant()
    def nothing_the_user_made_is_lost(self) -> None:
        if not hasattr(self, "store"):
            return
        there = {path.read_bytes() for path in self.photos.iterdir()}
        kept = {name for name, _ in self.store.vault.sizes()}
        lost = {data for data in self.made - self.deleted - there if digest(data) not in kept}
        assert not lost
        assert there <= self.made | set(self.origin), "a file holds what nobody wrote"


Photos.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestPhotos = Photos.TestCase
