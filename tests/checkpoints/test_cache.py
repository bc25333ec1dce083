"""Entries of a catalogue read with distrust, and the cache of the files they stand for."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from file_server import entry_for
from hashshield.checkpoints.cache import (
    checked,
    checked_name,
    folder,
    imported,
    imported_as,
    install,
    is_name,
    read_entries,
    remote,
    remove,
    write_entry,
)
from hashshield.errors import CheckpointError

GOOD = f"""[checkpoints.small]
file = "small.safetensors"
size = 4
sha256 = "{"0" * 64}"
licence = "Apache-2.0"
summary = "for tests"
bits = [16, 24]
embedded = false
map = {{ 16 = 0.5, 24 = 0.75 }}
mirrors = ["https://example.org/files/"]
classes = ["cat", "dög"]
"""


def catalogue(folder: Path, text: str) -> Path:
    path = folder / "catalog.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    entry = entry_for(b"body", "https://example.org/a/", "http://127.0.0.1:8000", name="net-2.1", map={16: 0.5})
    address = 'address = "https://example.org/all/"\n'
    assert read_entries(catalogue(tmp_path, address + write_entry(entry))) == ("https://example.org/all/", (entry,))
    own = replace(entry, imported=True)
    assert read_entries(catalogue(tmp_path, write_entry(own)), imported=True) == ("", (own,))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    entry = entry_for(b"body", summary=text, licence=text, classes=(text,))
    path = catalogue(tmp_path_factory.getbasetemp(), write_entry(entry))
    assert read_entries(path)[1] == (entry,)


def test_one_line_arrays_and_an_inline_map_are_read_too(tmp_path: Path) -> None:
    _, (entry,) = read_entries(catalogue(tmp_path, GOOD))
    assert (entry.bits, entry.map, entry.classes) == ((16, 24), {16: 0.5, 24: 0.75}, ("cat", "dög"))
    assert read_entries(catalogue(tmp_path, write_entry(entry)))[1] == (entry,)


def without(key: str) -> str:
    return re.sub(rf"^{key} = .*\n", "", GOOD, flags=re.M)


def with_line(key: str, value: str) -> str:
    return f"{without(key)}{key} = {value}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not toml", "no valid catalogue"),
        ("", "no valid catalogue"),
        ("checkpoints = 3", "no valid catalogue"),
        ("surprise = 1\n" + GOOD, "no valid catalogue"),
        ("address = 3\n" + GOOD, "no valid catalogue"),
        ('address = "ftp://example.org/"\n' + GOOD, "no valid catalogue"),
        ("[checkpoints]\nsmall = 3", "small: it is no table"),
        (without("sha256"), "small: sha256 is missing"),
        (without("map"), "small: map is missing"),
        (with_line("surprise", "1"), "unknown key 'surprise'"),
        (with_line("size", "0"), "size is '0'; it must be a number of bytes"),
        (with_line("size", "true"), "size is 'True'"),
        (with_line("size", "10_000_000_000_000"), "size is"),
        (with_line("size", '"4"'), "size is"),
        (with_line("sha256", '"abcd"'), "sha256 is 'abcd'; it must be 64 hex digits"),
        (with_line("sha256", f'"{"G" * 64}"'), "sha256 is"),
        (with_line("bits", "[]"), "bits is"),
        (with_line("bits", "[0]"), "bits is"),
        (with_line("map", "{ 16 = 2.0 }"), "map is"),
        (with_line("map", "{ many = 0.5 }"), "map is"),
        (with_line("licence", '""'), "licence is"),
        (with_line("embedded", "1"), "embedded is"),
        (with_line("classes", "[1]"), "classes is"),
        (with_line("mirrors", '"https://example.org/"'), "mirrors is"),
        (with_line("mirrors", '["/etc"]'), "mirrors is"),
        (with_line("mirrors", '["https://[::"]'), "mirrors is"),
        (with_line("file", '"small.pt"'), "file is 'small.pt'; it must be a plain file name"),
        (with_line("file", '"../small.safetensors"'), "file is"),
        (with_line("file", '"/etc/small.safetensors"'), "file is"),
        (with_line("file", '"a/small.safetensors"'), "file is"),
        (with_line("file", '"..safetensors"'), "file is"),
        (with_line("file", '"a\\\\b.safetensors"'), "file is"),
        (GOOD.replace("checkpoints.small", 'checkpoints."../small"'), "cannot be a checkpoint's name"),
        (GOOD.replace("checkpoints.small", 'checkpoints.""'), "cannot be a checkpoint's name"),
        (GOOD + GOOD.replace("checkpoints.small", "checkpoints.other"), "is another checkpoint's too"),
    ],
)
def test_malformed_catalogues_are_refused(text: str, says: str, tmp_path: Path) -> None:
    path = catalogue(tmp_path, text)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_entries(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.exit_code == 4
    if "cannot be a checkpoint's name" not in says:
        assert str(caught.value).endswith("; reinstall hashshield")
        with pytest.raises(CheckpointError, match=r"; remove it and import the checkpoint again$"):
            read_entries(path, imported=True)


def test_a_catalogue_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.toml: cannot be read"):
        read_entries(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    with pytest.raises(CheckpointError, match="no valid catalogue"):
        read_entries(tmp_path / "latin.toml")


@pytest.mark.parametrize("name", ["a", "vgg11-cifar10", "net_2.1", "0", "x" * 64])
def test_names_that_can_be_files(name: str) -> None:
    assert is_name(name)
    assert checked_name(name, source="x") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "a\\b", "A", "a b", "a:16", "-a", ".a", "a.", "a..b", "a\n", "é", "x" * 65]
)
def test_names_that_cannot(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(CheckpointError, match=r"^x: .* cannot be a checkpoint's name"):
        checked_name(name, source="x")


def test_a_name_like_a_files_is_none() -> None:
    assert not is_name("a.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [({"map": {16: float("nan")}}, "map is"), ({"size": 1 << 40}, "size is"), ({"licence": ""}, "licence is")],
)
def test_what_would_not_be_read_again_is_not_entered(change: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"a file: cannot be entered into a catalogue: {says}"):
        checked(entry_for(b"body", **change), source="a file")
    dotted = entry_for(b"body", name="net-2.1")
    assert checked(dotted, source="a file") == dotted


@pytest.mark.parametrize("address", ["http://a", "https://a.example:8443/b/"])
def test_addresses(address: str) -> None:
    assert remote(address)


@pytest.mark.parametrize(
    "address", ["", "a", "/a", "ftp://a/", "file:///a", "https:///a", "http://me@a/", "http://[", "c:\\a"]
)
def test_no_addresses(address: str) -> None:
    assert not remote(address)


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
