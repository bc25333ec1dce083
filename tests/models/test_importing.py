"""Networks that are here: looked at, and the user's own taken in."""

from __future__ import annotations

import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hashshield.checkpoints import cache, catalog
from hashshield.checkpoints.card import entry_of
from hashshield.checkpoints.file import write_checkpoint
from hashshield.errors import CheckpointError, UsageError
from hashshield.models.importing import import_model, look_at
from hashshield.models.load import open_models
from tiny_net import CARD, tiny_weights, write_tiny


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def catalogued(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> catalog.CatalogEntry:
    """The tiny network is in the catalogue."""
    entry = entry_of(tiny)
    known = catalog.entries()
    monkeypatch.setattr(catalog, "entries", lambda: (*known, entry))
    return entry


def test_an_imported_network_is_used_by_its_name(tmp_path: Path, own_cache: Path) -> None:
    path = write_tiny(tmp_path / "download (3).safetensors", name="mine")
    entry = import_model(path)
    assert (entry.name, entry.file, entry.imported) == ("mine", "mine.safetensors", True)
    path.unlink()
    (model,) = open_models(["mine:16"])
    assert (model.name, model.bits) == ("mine:16", 16)
    look_at(entry)
    assert import_model(own_cache / "imported" / "mine.safetensors") == entry, "again is as good as once"


def test_a_file_of_the_catalogue_counts_as_downloaded(
    catalogued: catalog.CatalogEntry, tiny: Path, own_cache: Path
) -> None:
    assert import_model(tiny) == catalogued
    assert (own_cache / "tiny.safetensors").read_bytes() == tiny.read_bytes()
    assert catalog.state(catalogued) == "downloaded"
    look_at(catalogued)


def test_a_name_that_is_taken(catalogued: catalog.CatalogEntry, tmp_path: Path) -> None:
    other = write_tiny(tmp_path / "a.safetensors", seed=1)
    with pytest.raises(CheckpointError, match="tiny is another checkpoint's name already; use this file by its path"):
        import_model(other)
    import_model(write_tiny(tmp_path / "b.safetensors", name="mine"))
    with pytest.raises(CheckpointError, match="`hashshield models remove mine` first"):
        import_model(write_tiny(tmp_path / "c.safetensors", name="mine", seed=1))
    with pytest.raises(CheckpointError, match="lite0-caltech101 comes with the package already"):
        import_model(catalog.resolve("lite0-caltech101").path)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1.0] * 10}))


def enormous(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 10 << 30) + b"{" + b" " * 1000)


def not_a_number(path: Path) -> None:
    weights = {key: value.contiguous() for key, value in tiny_weights()[0].items()}
    weights["heads.16.weight"][0, 0] = float("nan")
    save_file(weights, path, metadata={"card": CARD.to_json()})


def constant(path: Path) -> None:
    weights, anchors = tiny_weights()
    weights["heads.24.weight"].zero_()
    write_checkpoint(path, CARD, weights, anchors)


def elsewhere(path: Path) -> None:
    write_tiny(path, name="../../elsewhere")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (pickled, "this is a pickle, which can run code"),
        (enormous, "the header claims 10737418240 bytes of a file of 1009"),
        (not_a_number, "tensor heads.16.weight holds NaN or infinite values"),
        (constant, "24 of 24 bits do not react"),
        (elsewhere, "'../../elsewhere' cannot be a checkpoint's name"),
        (lambda path: None, "no such checkpoint file"),
    ],
)
def test_what_is_not_taken_in(make: Callable[[Path], Any], says: str, tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "bad.safetensors"
    make(path)
    with pytest.raises(CheckpointError, match=says) as caught:
        import_model(path)
    assert caught.value.exit_code == 4
    assert str(caught.value).startswith(str(path))
    assert not own_cache.exists()


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({}, path)
    with pytest.raises(UsageError, match=r"model\.pt: files that can be imported end with \.safetensors"):
        import_model(path)


@pytest.mark.parametrize(
    ("imported", "remedy"),
    [
        (False, "`hashshield models download tiny` fetches it again"),
        (True, "`hashshield models remove mine` and import"),
    ],
)
def test_a_file_that_was_damaged_here(
    imported: bool, remedy: str, catalogued: catalog.CatalogEntry, tiny: Path, tmp_path: Path
) -> None:
    source = write_tiny(tmp_path / "mine.safetensors", name="mine") if imported else tiny
    entry = import_model(source)
    path = catalog.file_of(entry)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"SHA-256 is .*{remedy}"):
        look_at(entry)
    shutil.copy(source, path)
    look_at(entry)
    assert cache.remove(entry)
