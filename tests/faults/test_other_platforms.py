from __future__ import annotations

import os
from pathlib import Path

import fault_scenario as scenario
import pytest

from hashshield.errors import PhotoError
from hashshield.storage import attributes, calls, read_snapshot


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
    monkeypatch.setattr(attributes, "_XATTRS", False)
    scenario.lay_out(quick)
    scenario.act(quick)
    scenario.finish(quick)


def test_the_session_runs_without_modes(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fchmod")
    scenario.lay_out(quick)
    scenario.act(quick)
    scenario.check(quick)
