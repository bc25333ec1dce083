from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from file_server import entry_for
from hashshield.checkpoints import cache, catalog
from hashshield.checkpoints.cache import remote, write_entry
from hashshield.checkpoints.card import read_card
from hashshield.checkpoints.catalog import DEFAULT_MODEL, entries, find, full_name, resolve
from hashshield.errors import CheckpointError, UnknownNameError

EMBEDDED = [entry for entry in entries() if entry.embedded]


@pytest.mark.parametrize("entry", EMBEDDED, ids=lambda entry: entry.name)
def test_an_embedded_file_is_what_the_catalogue_says(entry: catalog.CatalogEntry) -> None:
    path = resolve(entry.name).path
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == entry.sha256
    assert len(data) == entry.size <= 10_000_000
    card = read_card(path)
    assert card.name == entry.name
    assert card.bits == entry.bits
    assert card.licence == entry.licence
    assert {int(k): v for k, v in card.map.items()} == entry.map
    assert card.attribution


def test_the_default_is_in_the_catalogue() -> None:
    reference = resolve(DEFAULT_MODEL)
    assert reference.entry in EMBEDDED
    assert (reference.name, reference.bits) == ("lite0-caltech101", 48)


def test_ways_to_name_a_model(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("lite0-caltech101").bits is None
    assert resolve("lite0-caltech101:16").bits == 16
    assert full_name("lite0-caltech101") == "lite0-caltech101:48"
    assert full_name("lite0-caltech101:16") == "lite0-caltech101:16"
    for named, bits in ((str(tiny), None), (f"{tiny}:24", 24)):
        reference = resolve(named)
        assert (reference.path, reference.bits, reference.entry) == (tiny, bits, None)
    assert resolve(f"{tiny}:24").name == str(tiny.resolve())
    monkeypatch.chdir(tiny.parent)
    assert full_name("tiny.safetensors:16") == f"{tiny.resolve()}:16", "the ledger needs a name that lasts"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lite0-caltech", "did you mean lite0-caltech101"),
        ("lite0-caltech101:47", "no code of 47 bits; its lengths are 16, 24, 32, 48"),
        ("zzz", "known are lite0-caltech101"),
        ("", "unknown model ''"),
        (":48", "unknown model ':48'"),
        ("lite0-caltech101:", "unknown model"),
        ("lite0-caltech101:x", "unknown model"),
        ("lite0-caltech101:²", "unknown model"),
    ],
)
def test_unknown_names_name_the_nearest(name: str, says: str) -> None:
    with pytest.raises(UnknownNameError, match=says) as caught:
        resolve(name)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such checkpoint file"):
        resolve(f"{tmp_path}/nowhere.safetensors:16")


def test_find_gives_the_entry() -> None:
    assert find("lite0-caltech101").name == "lite0-caltech101"


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> catalog.CatalogEntry:
    """A network of the catalogue that is not downloaded yet."""
    entry = entry_for(b"body", name="net")
    monkeypatch.setattr(catalog, "entries", lambda: (*EMBEDDED, entry))
    return entry


def test_a_network_that_is_not_downloaded(available: catalog.CatalogEntry, own_cache: Path) -> None:
    assert catalog.state(available) == "available"
    assert catalog.absent(["net", "net:16", "lite0-caltech101", "zzz", "a.safetensors"]) == (available,)
    assert full_name("net") == "net:24", "naming it needs no file"
    with pytest.raises(CheckpointError) as caught:
        resolve("net:16")
    for words in ("`hashshield models download net`", "HASHSHIELD_MIRROR", "checkpoints/ of a clone"):
        assert words in str(caught.value)
    assert caught.value.exit_code == 4
    own_cache.mkdir()
    (own_cache / "net.safetensors").write_bytes(b"body")
    assert resolve("net:16").path == own_cache / "net.safetensors"
    assert catalog.state(available) == "downloaded"
    assert catalog.absent(["net"]) == ()


def test_an_imported_network_is_found_by_name(available: catalog.CatalogEntry, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    own = entry_for(b"mine", name="mine", imported=True)
    path = cache.install(tmp_path / "mine", own)
    assert resolve("mine:16") == catalog.Reference("mine", path, 16, own)
    assert full_name("mine") == "mine:24"
    assert catalog.known() == (*EMBEDDED, available, own)
    with pytest.raises(UnknownNameError, match="did you mean mine"):
        find("mime")
    shadowed = entry_for(b"mine", name="net", imported=True)
    cache.install(tmp_path / "mine", shadowed)
    assert find("net") == available, "the catalogue's name comes first"
    assert shadowed not in catalog.known()


def test_the_default_address_is_asked_before_an_entrys_own_mirrors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog.toml").write_text(
        'address = "https://example.org/"\n' + write_entry(entry_for(b"body", "https://example.net/"))
    )
    monkeypatch.setattr(catalog, "_HERE", tmp_path)
    monkeypatch.setattr(catalog, "entries", catalog.entries.__wrapped__)
    assert find("small").mirrors == ("https://example.org/", "https://example.net/")
    (tmp_path / "catalog.toml").write_text("broken")
    with pytest.raises(CheckpointError, match=r"catalog\.toml: no valid catalogue .*; reinstall hashshield"):
        resolve("small")


def test_every_download_of_the_catalogue_has_an_address() -> None:
    assert all(remote(address) for entry in entries() for address in entry.mirrors)
    assert all(entry.mirrors for entry in entries() if not entry.embedded)


def test_listing_and_fetching_need_no_torch() -> None:
    code = (
        "import sys; from hashshield.checkpoints import catalog, fetch; catalog.known(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
