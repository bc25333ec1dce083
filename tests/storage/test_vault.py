from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashshield.errors import StorageError
from hashshield.storage import Store
from hashshield.storage.folder import temporary_name
from hashshield.storage.vault import Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


def blob(vault: Vault, name: str) -> Path:
    return vault.path / name[:2] / name


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=5000), max_size=4))
def test_what_is_put_in_comes_out(vault: Vault, contents: list[bytes]) -> None:
    names = [vault.put(data) for data in contents]
    assert names == [hashlib.sha256(data).hexdigest() for data in contents]
    assert [vault.get(name) for name in names] == contents
    assert dict(vault.sizes()).items() >= {name: len(data) for name, data in zip(names, contents, strict=True)}.items()


def test_files_and_folders_are_private(vault: Vault) -> None:
    name = vault.put(b"original")
    assert stat.S_IMODE(blob(vault, name).stat().st_mode) == 0o600
    assert stat.S_IMODE(blob(vault, name).parent.stat().st_mode) == 0o700


def test_an_intact_copy_is_reused_and_a_damaged_one_replaced(vault: Vault) -> None:
    name = vault.put(b"original")
    inode = blob(vault, name).stat().st_ino
    vault.put(b"original")
    assert blob(vault, name).stat().st_ino == inode
    blob(vault, name).write_bytes(b"damaged!")
    with pytest.raises(StorageError, match="damaged"):
        vault.get(name)
    vault.put(b"original")
    assert vault.get(name) == b"original"


def test_a_link_in_the_place_of_an_original_is_not_followed(vault: Vault, tmp_path: Path) -> None:
    name = vault.put(b"original")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"original")
    blob(vault, name).unlink()
    blob(vault, name).symlink_to(elsewhere)
    with pytest.raises(StorageError, match="link"):
        vault.get(name)
    with pytest.raises(StorageError, match="link"):
        vault.put(b"original")
    assert elsewhere.read_bytes() == b"original"


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 65])
def test_only_digests_are_ids(name: str, vault: Vault) -> None:
    with pytest.raises(StorageError, match="no vault id"):
        vault.get(name)
    with pytest.raises(StorageError, match="no vault id"):
        vault.remove(name)


def test_removing_and_what_is_missing(vault: Vault) -> None:
    name = vault.put(b"original")
    vault.remove(name)
    vault.remove(name)
    vault.remove("0" * 64)
    with pytest.raises(StorageError, match="not in the vault"):
        vault.get(name)
    assert list(vault.sizes()) == []


def test_stale_temporaries_are_cleaned_and_nothing_else(vault: Vault) -> None:
    name = vault.put(b"original")
    stale = blob(vault, name).with_name(temporary_name())
    stale.write_bytes(b"half")
    other = blob(vault, name).with_name("readme")
    other.write_bytes(b"mine")
    vault.clean()
    assert not stale.exists()
    assert other.exists()
    assert vault.get(name) == b"original"
    assert [found for found, _ in vault.sizes()] == [name]


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_vault_is_not_made_where_its_disk_is_not_mounted(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new vault would take protected photos for originals."""
    root = tmp_path / "usb" / "vault"
    monkeypatch.setenv("HASHSHIELD_VAULT", str(root))
    with pytest.raises(StorageError, match=r"there is no folder .*usb for the vault; mount its disk"):
        Store.open(root if how == "argument" else None, reading=True)
    assert list(tmp_path.iterdir()) == []

    root.parent.mkdir()
    with Store.open(root if how == "argument" else None) as store:
        assert any("made a new vault in the place you named" in text for text in store.notices)
    with Store.open(root) as store:
        assert not any("new vault" in text for text in store.notices)


def test_the_vault_of_a_new_user_is_made_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HASHSHIELD_VAULT", raising=False)
    monkeypatch.setattr("platformdirs.user_data_path", lambda *names, **more: tmp_path / "data" / "hashshield")
    with Store.open() as store:
        assert store.root == tmp_path / "data" / "hashshield"
        assert not any("new vault" in text for text in store.notices)


def test_a_vault_that_is_not_there_is_read_as_an_empty_one_and_not_made(tmp_path: Path) -> None:
    root = tmp_path / "vault"
    with Store.open(root, reading=True) as store:
        assert store.root == root
        assert store.ledger.every() == []
        assert list(store.vault.sizes()) == []
        assert store.integrity_errors() == []
        assert [text[:21] for text in store.notices] == ["there is no vault yet"]
        with pytest.raises(StorageError):
            store.remember_short(tmp_path / "a.png", "0" * 64, "1" * 64, {})
    assert list(tmp_path.iterdir()) == []
