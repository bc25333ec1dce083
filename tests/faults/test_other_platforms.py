from __future__ import annotations

import errno
import os
from pathlib import Path

import fault_scenario as scenario
import pytest

from hashshield.errors import PhotoError, StorageError
from hashshield.storage import NewRecord, Store, calls, folder, read_snapshot


def test_the_session_runs_where_folders_cannot_be_held(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "DIR_FD", False)
    scenario.lay_out(quick)
    scenario.act(quick)
    scenario.check(quick)
    scenario.finish(quick)


def test_links_are_refused_where_folders_cannot_be_held(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "DIR_FD", False)
    (quick / "outside").mkdir()
    (quick / "outside" / "a.jpg").write_bytes(b"x")
    (quick / "photos").mkdir()
    (quick / "photos" / "sub").symlink_to(quick / "outside")
    (quick / "photos" / "a.jpg").symlink_to(quick / "outside" / "a.jpg")
    for name in ("sub/a.jpg", "a.jpg"):
        with pytest.raises(PhotoError, match="link"):
            read_snapshot(quick / "photos" / name, follow=False, within=quick / "photos")


def test_the_session_runs_without_extended_attributes(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_XATTRS", False)
    scenario.lay_out(quick)
    scenario.act(quick)
    scenario.finish(quick)


def test_the_session_runs_without_modes(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fchmod")
    scenario.lay_out(quick)
    scenario.act(quick)
    scenario.check(quick)


def test_the_session_runs_as_on_windows_with_python_3_13(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There `os.fchmod` exists, and `os.utime` takes no descriptor: protect worked and restore crashed."""
    utime = os.utime

    def of_paths_only(path: object, *rest: object, **named: object) -> None:
        if isinstance(path, int):
            raise TypeError("utime: path should be string, bytes or os.PathLike, not int")
        utime(path, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "utime", of_paths_only)
    assert hasattr(os, "fchmod")
    assert os.utime not in os.supports_fd
    monkeypatch.setattr(calls, "DIR_FD", False)
    scenario.lay_out(quick)
    scenario.act(quick)


def test_a_photo_that_is_open_elsewhere_is_tried_again(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = quick / "a.jpg"
    photo.write_bytes(b"original")
    tries = 0
    replace = os.replace

    def shared(*given: object, **named: object) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used")
        replace(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(calls, "OPEN_FILES_BLOCK", True)
    with Store.open(quick / "vault") as store:
        monkeypatch.setattr(os, "replace", shared)
        # The original's way into the vault is one of the replacements.
        store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord(), allow_root=True)
        assert photo.read_bytes() == b"protected"

        monkeypatch.setattr(calls, "_PAUSES_SECONDS", (0.01, 0.01))
        tries = -(10**6)
        with pytest.raises(StorageError, match="being used"):
            store.restore(photo, allow_root=True)
        assert photo.read_bytes() == b"protected"
        tries = 0
        monkeypatch.setattr(calls, "_PAUSES_SECONDS", (0.01,) * 6)
        assert store.restore(photo, allow_root=True).status == "restored"
