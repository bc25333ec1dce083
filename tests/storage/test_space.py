from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from hashshield.storage import Store, preflight


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def _one_gigabyte_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10**9))


def test_one_volume_holds_vault_and_photos(store: Store, photos: Path) -> None:
    report = preflight(100_000_000, store, folders=[photos, photos], largest_bytes=10_000_000)
    assert [(volume.folder, volume.needed) for volume in report.volumes] == [(store.root, 165_000_000)]
    assert report.enough
    assert not report.more_than_half
    assert report.reason is None


def test_without_backup_the_vault_needs_nothing(store: Store) -> None:
    assert preflight(10**12, store, backup=False).enough


def test_too_little_space_is_said_with_numbers(store: Store) -> None:
    report = preflight(2_000_000_000, store)
    assert not report.enough
    assert report.more_than_half
    assert report.reason is not None
    assert "needs 2,017 MB and has 1,000 MB free" in report.reason


def test_half_of_the_space_is_worth_a_question(store: Store) -> None:
    report = preflight(600_000_000, store)
    assert report.enough
    assert report.more_than_half


def test_two_volumes_are_counted_apart(store: Store, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    class Elsewhere:
        st_dev = -1

    monkeypatch.setattr(Path, "stat", lambda path, **given: Elsewhere() if path == photos else stat(path, **given))
    report = preflight(100, store, folders=[photos])
    assert [(volume.folder, volume.needed) for volume in report.volumes] == [(store.root, 100), (photos, 200)]
