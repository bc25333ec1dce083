from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from file_server import entry_for
from hashshield.checkpoints.cache import folder, imported, imported_as, install, remove
from hashshield.checkpoints.entry import write_entry
from hashshield.errors import CheckpointError

OWN = entry_for(b"body", imported=True, map={16: 0.5})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.safetensors"
    path.write_bytes(b"body")
    return path


def test_where_the_cache_is(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert folder() == own_cache
    assert folder(imported=True) == own_cache / "imported"
    monkeypatch.delenv("HASHSHIELD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    assert tmp_path / "home" in folder().parents


def test_installing_and_removing(source: Path, own_cache: Path) -> None:
    assert imported() == ()
    path = install(source, OWN)
    assert path.read_bytes() == b"body"
    assert imported() == (OWN,)
    assert imported_as("small") == OWN
    left = own_cache / "imported" / ".small.safetensors.new"
    left.write_bytes(b"what a killed import left")
    assert install(source, OWN) == path
    assert not left.exists()
    assert remove(OWN) is True
    assert imported() == ()
    assert imported_as("small") is None
    assert remove(OWN) is False
    assert sorted(path.name for path in path.parent.iterdir()) == [".small.safetensors.lock"]


def test_removing_a_download_takes_its_parts_along(source: Path, own_cache: Path) -> None:
    entry = entry_for(b"body")
    assert remove(entry) is False
    install(source, entry)
    other = own_cache / "other.safetensors"
    for path in (other, own_cache / ".small.safetensors.0123.part", own_cache / "small.toml"):
        path.write_bytes(b"x")
    assert remove(entry) is True
    assert sorted(path.name for path in own_cache.iterdir()) == [
        ".small.safetensors.lock",
        "other.safetensors",
        "small.toml",
    ]


def test_only_what_was_looked_at_is_installed(source: Path, own_cache: Path) -> None:
    source.write_bytes(b"swapped")
    with pytest.raises(CheckpointError, match="changed while it was looked at"):
        install(source, OWN)
    source.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        install(source, OWN)
    assert not own_cache.exists()


@pytest.mark.parametrize("name", ["../small", "a/../small", "", "/small", "imported/small", "small\0"])
def test_names_do_not_lead_out_of_the_folder(name: str, source: Path, own_cache: Path) -> None:
    install(source, OWN)
    (own_cache / "small.toml").write_text(write_entry(OWN))
    assert imported_as(name) is None


def test_damaged_entries_are_named(source: Path, own_cache: Path) -> None:
    install(source, OWN)
    path = own_cache / "imported" / "small.toml"
    path.write_text(write_entry(replace(OWN, name="other")))
    with pytest.raises(CheckpointError, match=r"small\.toml: is not the entry of small; remove it"):
        imported()
    path.write_text("x")
    with pytest.raises(CheckpointError, match=r"small\.toml: no valid catalogue .* import the checkpoint again"):
        imported_as("small")


def test_an_entry_without_its_file_is_not_there(source: Path) -> None:
    install(source, OWN).unlink()
    assert imported() == ()


def test_a_lock_that_is_a_link_is_not_followed(source: Path, own_cache: Path, tmp_path: Path) -> None:
    own_cache.mkdir()
    (own_cache / ".small.safetensors.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(CheckpointError, match="HASHSHIELD_CACHE"):
        install(source, entry_for(b"body"))
    assert not (tmp_path / "victim").exists()
