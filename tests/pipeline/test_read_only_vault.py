"""A vault that cannot be written serves all that only reads, and stays as it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from first_format import FIRST_FORMAT
from hashshield.errors import StorageError
from hashshield.pipeline import doctor
from hashshield.pipeline.originals import export, forget, list_originals, prune
from hashshield.pipeline.protect import protect
from hashshield.pipeline.restore import restore
from hashshield.pipeline.verify import verify
from hashshield.storage import Store, read_snapshot
from hashshield.storage.ledger import Ledger
from hashshield.types import FileOptions, Request
from tiny_net import encoded, picture, write_tiny

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users and modes")

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom modes hold back; root becomes nobody for as long."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


class Quiet:
    """A progress that tells nobody."""

    def start(self, total: int) -> None: ...

    def photo(self, path: str) -> None: ...

    def done(self, outcome: object) -> None: ...

    def notice(self, text: str) -> None: ...


class Place:
    """A folder of the unprivileged user with a network, a vault and two photos, one of them protected twice over."""

    def __init__(self, home: Path) -> None:
        self.home, self.told = home, Quiet()
        self.vault, self.photos = home / "vault", home / "photos"
        self.photos.mkdir()
        self.before = {name: encoded(picture(40, 40, seed=n)) for n, name in enumerate(("a.png", "b.png"))}
        for name, data in self.before.items():
            (self.photos / name).write_bytes(data)
        self.net = home / "tiny.safetensors"
        write_tiny(self.net)
        self.request = Request(
            models=(f"{self.net}:16",), preset="invisible", steps=4, accept_best=True, vault=self.vault, device="cpu",
            seed=1, witness="none", tau=0.05, file_options=FileOptions(allow_root=True),
        )  # fmt: skip
        protect([self.photos], self.request, progress=self.told)
        # What is imported late may not be found by the other user.
        self.verified()
        list(doctor._vault(self.vault))
        self.give_away()

    def give_away(self) -> None:
        """Let the unprivileged user own everything."""
        if os.geteuid() == 0:
            for path in (self.home, *self.home.rglob("*")):
                os.chown(path, NOBODY, NOBODY)

    def verified(self) -> set[str]:
        rows = verify([self.photos], models=(), vault=self.vault, device="cpu", progress=self.told)
        return {row.status for row in rows}

    def close(self) -> None:
        """Take the right to write from the vault."""
        for path in (*self.vault.rglob("*"), self.vault):
            path.chmod(0o500 if path.is_dir() else 0o400)

    def held(self) -> dict[str, tuple[int, bytes]]:
        """All that the vault holds."""
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in (self.vault, *sorted(self.vault.rglob("*")))
        }


@pytest.fixture(scope="module")
def made() -> Iterator[Place]:
    # Not below tmp_path, which only this user may enter.
    home = Path(tempfile.mkdtemp(prefix="hashshield-test-"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(home / "settings"))
        yield Place(home)
    _remove(home)


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Iterator[Place]:
    """The same for every test, since its ledger names its paths."""
    saved = tmp_path / "saved"
    shutil.copytree(made.home, saved)
    yield made
    _remove(made.home)
    shutil.copytree(saved, made.home)
    made.give_away()


def _remove(home: Path) -> None:
    for path in (home, *home.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(home)


@pytest.fixture
def closed(place: Place) -> Iterator[Place]:
    """The place with a vault that cannot be written, which nothing changes."""
    place.close()
    before = place.held()
    yield place
    assert place.held() == before


def test_what_only_reads_is_served(closed: Place) -> None:
    with unprivileged():
        assert {original.state for original in list_originals(closed.vault)} == {"kept"}
        assert closed.verified() <= {"protected", "not_protected"}
        assert len(prune(vault=closed.vault).originals) == 2
        assert forget(closed.photos / "a.png", vault=closed.vault, dry_run=True).rows == 1
        out = closed.home / "out"
        assert {row.status for row in export(out, vault=closed.vault)} == {"exported"}
        assert {path.name: path.read_bytes() for path in out.iterdir()} == closed.before
        found = [*doctor._vault(closed.vault), *doctor._originals(closed.vault, thorough=True)]
        assert {finding.check: finding.status for finding in found} == {
            "vault": "warning",
            "ledger": "ok",
            "originals": "ok",
        }
        rows = protect([closed.photos], Request(vault=closed.vault, dry_run=True), progress=closed.told)
        assert {row.status for row in rows} == {"already"}


def test_restore_brings_photos_back_and_says_that_the_ledger_does_not_know(closed: Place) -> None:
    (closed.photos / "b.png").unlink()
    with unprivileged():
        rows = restore([closed.photos / "a.png", closed.photos / "b.png"], vault=closed.vault)
    assert [row.status for row in rows] == ["restored", "restored"]
    assert all("cannot be written" in str(row.reason) for row in rows)
    assert {path.name: path.read_bytes() for path in closed.photos.iterdir()} == closed.before
    with unprivileged():
        rows = restore([closed.photos], vault=closed.vault)
    assert [row.reason for row in rows] == ["is the original already"] * 2


def test_an_edit_that_cannot_be_kept_is_not_replaced(closed: Place) -> None:
    edit = encoded(picture(40, 40, seed=8))
    (closed.photos / "a.png").write_bytes(edit)
    with unprivileged():
        (row,) = restore([closed.photos / "a.png"], vault=closed.vault, force=True)
    assert row.status == "failed"
    assert (closed.photos / "a.png").read_bytes() == edit


def test_what_writes_says_so_in_one_line(closed: Place) -> None:
    photo = closed.photos / "new.png"
    photo.write_bytes(encoded(picture(40, 40, seed=5)))
    with unprivileged():
        with pytest.raises(StorageError):
            protect([photo], closed.request, progress=closed.told)
        with pytest.raises(StorageError):
            prune(vault=closed.vault, dry_run=False)
        with Store.open(closed.vault, reading=True) as store, pytest.raises(StorageError, match="cannot be written"):
            store.write_new(closed.home / "copy.png", b"copy", like=read_snapshot(photo, follow=True))
        assert not (closed.home / "copy.png").exists()


def test_what_a_log_still_holds_is_read_too(place: Place) -> None:
    # As a crash leaves it: what was written last is in the log and not in the file.
    ledger, log = place.vault / "ledger.sqlite", place.vault / "ledger.sqlite-wal"
    written = Ledger(place.vault, wal=True)
    written.mark_pruned([min(row.original or "" for row in written.every())], "2026-01-01T00:00:00+00:00")
    left = {file: file.read_bytes() for file in (ledger, log)}
    written.close()
    for file, data in left.items():
        file.write_bytes(data)
    place.give_away()
    place.close()
    before = place.held()
    with unprivileged():
        assert sorted(original.state for original in list_originals(place.vault)) == ["kept", "marked"]
    assert place.held() == before


def test_an_older_format_is_read_too(place: Place) -> None:
    database = sqlite3.connect(place.vault / "ledger.sqlite")
    for statement in FIRST_FORMAT:
        database.execute(statement)
    database.close()
    place.close()
    before = place.held()
    with unprivileged():
        assert len(list_originals(place.vault)) == 2
    assert place.held() == before


def test_a_newer_format_is_refused(place: Place) -> None:
    database = sqlite3.connect(place.vault / "ledger.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    place.close()
    with unprivileged(), pytest.raises(StorageError, match="written by a newer HashShield"):
        list_originals(place.vault)


def test_a_vault_of_somebody_else_is_not_trusted(place: Place) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    place.close()
    for path in (place.vault, *place.vault.rglob("*")):
        os.chown(path, 1234, NOBODY)
        path.chmod(0o550 if path.is_dir() else 0o440)
    with unprivileged(), pytest.raises(StorageError, match="belongs to user 1234"):
        list_originals(place.vault)
