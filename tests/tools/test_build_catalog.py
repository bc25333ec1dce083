"""The committed catalogue is the one the files give."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hashshield.checkpoints.cache import read_entries
from hashshield.checkpoints.card import entry_of
from hashshield.errors import CheckpointError, UsageError
from tiny_net import write_tiny
from tools.build_catalog import catalog_text, main

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "hashshield" / "checkpoints"
COMMITTED = PACKAGE / "catalog.toml"
RELEASED = ROOT / "checkpoints"


def test_the_committed_catalogue_agrees_with_the_files() -> None:
    files = [*(PACKAGE / "bundled").glob("*.safetensors"), *RELEASED.glob("*.safetensors")]
    expected = catalog_text(COMMITTED, files)
    # Source archives come without the larger files; what they do hold must agree.
    if RELEASED.is_dir():
        assert COMMITTED.read_text(encoding="utf-8") == expected, "run `make catalog`"
    else:
        assert expected.rstrip("\n") in COMMITTED.read_text(encoding="utf-8")


def test_what_is_in_the_release_folder_is_small_enough() -> None:
    # 60 MB, and 12 of the copy detector.
    assert sum(path.stat().st_size for path in RELEASED.glob("*.safetensors")) <= 72_000_000


def test_entering_new_files_keeps_what_only_the_catalogue_knows(tmp_path: Path) -> None:
    current = tmp_path / "catalog.toml"
    current.write_text(
        '# What this is.\naddress = "https://example.org/"\n\n[checkpoints.old]\nfile = "old.safetensors"\nsize = 1\n'
        f'sha256 = "{"0" * 64}"\nlicence = "MIT"\nsummary = "Kept words"\nbits = [8]\nembedded = true\nmap = {{}}\n'
        'mirrors = ["https://example.net/"]\n'
    )
    bundled = tmp_path / "bundled"
    files = [
        write_tiny(tmp_path / "net-b.safetensors", name="net-b", map={"16": 0.5}),
        write_tiny(tmp_path / "net-a.safetensors", name="net-a"),
        write_tiny(bundled / "old.safetensors", name="old", seed=1),
    ]
    text = catalog_text(current, files)
    assert text == catalog_text(current, reversed(files))
    current.write_text(text)
    assert catalog_text(current, files) == text
    assert text.startswith('# What this is.\naddress = "https://example.org/"\n\n[checkpoints.old]\n')
    address, (old, first, second) = read_entries(current)
    assert address == "https://example.org/"
    assert old == replace(
        entry_of(files[2], embedded=True), summary="Kept words", mirrors=("https://example.net/",), embedded=True
    )
    assert (first.name, second.name) == ("net-a", "net-b")
    assert second.map == {16: 0.5}
    assert second.summary == "shufflenet_v2_x0_5 on none, codes of 16, 24 bits"
    assert not first.embedded


def test_files_are_named_as_their_cards_and_entered_once(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="its card says tiny"):
        catalog_text(COMMITTED, [path])
    twice = [write_tiny(tmp_path / "a" / "tiny.safetensors"), write_tiny(tmp_path / "b" / "tiny.safetensors")]
    with pytest.raises(UsageError, match="entered once"):
        catalog_text(COMMITTED, twice)


@pytest.mark.parametrize("name", ["../../tiny", "a/b", "Tiny", "tiny:16", ""])
def test_a_card_with_a_name_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.safetensors: .* cannot be a checkpoint's name"):
        entry_of(write_tiny(tmp_path / "a.safetensors", name=name))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "catalog.toml"
    shutil.copy(COMMITTED, target)
    path = write_tiny(tmp_path / "tiny.safetensors")
    assert main([str(path)], target=target) == 0
    assert [entry.name for entry in read_entries(target)[1]] == ["tiny"]
    assert main([str(tmp_path / "gone.safetensors")], target=target) == 4
    assert "cannot be read" in capsys.readouterr().err
