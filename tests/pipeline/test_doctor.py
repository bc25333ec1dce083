"""`doctor` on vaults that are sound, damaged, or not there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hashshield.pipeline import doctor as module
from hashshield.pipeline.doctor import Finding, doctor, system_finding
from hashshield.storage.volumes import Encryption
from hashshield.types import Outcome
from tiny_net import encoded, picture

Protect = Callable[..., list[Outcome]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings and cache of this test's own; the self-test is tried once, below."""
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("HASHSHIELD_CACHE", raising=False)
    monkeypatch.setattr(module, "_self_test", lambda: iter(()))
    monkeypatch.setattr(module, "volume_encryption", lambda folder: Encryption(True, "imitated"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.fixture
def vault(photos: Path, tmp_path: Path, protect_now: Protect) -> Path:
    """One that holds the originals of two photos."""
    for seed in (1, 2):
        (photos / f"{seed}.png").write_bytes(encoded(picture(48, 48, seed=seed)))
    rows = protect_now(photos, accept_best=True)
    assert [row.status for row in rows] == [r.status for r in rows if r.status in ("protected", "partial")]
    return tmp_path / "vault"


def prefilter(told: Any, vault: Path, **how: bool) -> dict[str, Finding]:
    return {found.check: found for found in doctor(vault, progress=told, **how)}


def bad(found: dict[str, Finding]) -> dict[str, Finding]:
    return {name: finding for name, finding in found.items() if finding.status != "ok"}


def originals(vault: Path) -> list[Path]:
    return sorted(path for path in (vault / "originals").rglob("*") if path.is_file() and path.suffix != ".json")


def test_a_sound_installation(told: Any, vault: Path) -> None:
    found = prefilter(told, vault, thorough=True)
    assert bad(found) == {}
    assert f"torch {torch.__version__.split('+')[0]}" in found["versions"].found
    assert "4 code lengths" in found["network lite0-caltech101"].found
    assert "2 originals" in found["vault"].found
    assert found["originals"].found == "read 2 back, digests compared"
    assert "2 records, sound" in found["ledger"].found
    assert told.total == told.rows.count(None) == 10


def test_no_vault_is_no_fault_and_none_is_made(told: Any, tmp_path: Path) -> None:
    found = prefilter(told, tmp_path / "none")
    assert bad(found) == {}
    assert "not there yet" in found["vault"].found
    assert not (tmp_path / "none").exists()


def test_a_damaged_original_is_found(told: Any, vault: Path) -> None:
    path = originals(vault)[0]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    (finding,) = bad(prefilter(told, vault, thorough=True)).values()
    assert finding.status == "failed"
    assert path.name in finding.found
    assert "backup" in finding.found


def test_an_original_that_is_gone_is_found(told: Any, vault: Path) -> None:
    gone = originals(vault)[0]
    gone.unlink()
    finding = bad(prefilter(told, vault))["original"]
    assert gone.name[:12] in finding.found
    assert "backup" in str(finding.advice)


def test_what_is_not_read_in_time_is_said(told: Any, vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_OF_DIGESTS", -1.0)
    assert prefilter(told, vault)["originals"].found == (
        "read 0 back, digests compared, the newest of 2; --thorough reads all"
    )
    assert prefilter(told, vault, thorough=True)["originals"].found == "read 2 back, digests compared"


def test_a_ledger_that_is_no_database_is_found_and_the_rest_goes_on(told: Any, vault: Path) -> None:
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (vault / name).unlink(missing_ok=True)
    (vault / "ledger.sqlite").write_bytes(b"no database" * 1000)
    found = prefilter(told, vault)
    assert set(bad(found)) == {"vault", "originals"}
    assert "ledger" in found["vault"].found
    assert found["network lite0-caltech101"].status == "ok"


def test_a_ledger_with_a_damaged_page_is_found(told: Any, vault: Path) -> None:
    path = vault / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_size,) = database.execute("PRAGMA page_size").fetchone()
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'records' ORDER BY name LIMIT 1"
        ).fetchone()
    database.close()
    data = bytearray(path.read_bytes())
    first = (root - 1) * page_size
    data[first : first + page_size] = bytes(page_size)
    path.write_bytes(data)
    found = bad(prefilter(told, vault))
    assert found, "an index without a page"
    assert any("ledger" in finding.check or "ledger" in finding.found for finding in found.values())


def test_a_bad_configuration_is_found(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_TAU", "9")
    found = bad(prefilter(told, tmp_path / "none"))
    assert "HASHSHIELD_TAU is 9" in found["configuration"].found


def test_more_threads_than_cores(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_usable_cores", lambda: 0)
    assert "OMP_NUM_THREADS" in str(prefilter(told, tmp_path / "none")["threads"].advice)


def test_a_disk_that_is_nearly_full(told: Any, vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LITTLE_BYTES", 10**18)
    found = prefilter(told, vault)["vault"]
    assert found.status == "warning"
    assert "--vault" in str(found.advice)


def test_a_damaged_network_is_found(
    told: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vault: Path
) -> None:
    from hashshield.checkpoints import catalog
    from hashshield.models.importing import import_model

    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    entry = import_model(tiny)
    assert prefilter(told, vault)[f"network {entry.name}"].status == "ok"
    where = catalog.file_of(entry)
    where.chmod(0o600)
    where.write_bytes(where.read_bytes()[:-8] + bytes(8))
    finding = prefilter(told, vault)[f"network {entry.name}"]
    assert finding.status == "failed"
    assert finding.advice == f"hashshield models remove {entry.name}"


@pytest.mark.long
def test_the_self_test_changes_and_restores_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (finding,) = module._self_test()
    assert finding.status == "ok"
    assert "restored to the same bytes" in finding.found


def test_a_self_test_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(
        module, "protect", lambda paths, request, progress: [Outcome(str(paths[0]), "failed", reason="x")]
    )
    (finding,) = module._self_test()
    assert (finding.status, finding.found) == ("failed", "a picture was not changed: x")


def test_a_misspelt_variable_is_a_warning(told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_VUALT", "elsewhere")
    (finding,) = [found for found in doctor(tmp_path / "none", progress=told) if found.check == "configuration"][1:]
    assert finding.status == "warning"
    assert finding.found == "HASHSHIELD_VUALT: there is no setting 'vualt'"
    assert finding.advice == "correct or unset it: did you mean 'vault'?"


@pytest.mark.parametrize(
    ("system", "machine", "status", "says"),
    [
        ("Linux", "x86_64", "ok", "what the tests run on"),
        ("Linux", "aarch64", "ok", "supported"),
        ("Darwin", "arm64", "warning", "Apple silicon: written for, and tested by imitation on Linux only"),
        ("Darwin", "x86_64", "warning", "not made for it"),
        ("Windows", "AMD64", "warning", "Windows on AMD64: written for, and tested by imitation"),
        ("FreeBSD", "amd64", "warning", "FreeBSD on amd64"),
    ],
)
def test_it_says_where_it_was_tested(system: str, machine: str, status: str, says: str) -> None:
    found = system_finding(system, machine)
    assert found.status == status
    assert says in found.found


def test_a_backup_that_fell_behind_is_found(vault: Path, told: Any) -> None:
    assert "backup" not in prefilter(told, vault)
    newest = vault / "ledger.backup.sqlite"
    newest.write_bytes(newest.read_bytes()[:4096])
    found = prefilter(told, vault)["backup"]
    assert (found.status, "lacks" in found.found) == ("warning", True)
    newest.unlink()
    assert prefilter(told, vault)["backup"].status == "warning"
