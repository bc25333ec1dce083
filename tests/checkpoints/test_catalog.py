from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from hashshield.checkpoints import catalog
from hashshield.checkpoints.catalog import DEFAULT_MODEL, entries, find, full_name, resolve
from hashshield.checkpoints.file import read_card
from hashshield.errors import CheckpointError, UnknownNameError

EMBEDDED = [entry for entry in entries() if entry.embedded]


@pytest.mark.parametrize("entry", EMBEDDED, ids=lambda entry: entry.name)
def test_an_embedded_file_is_what_the_catalogue_says(entry: catalog.Entry) -> None:
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


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from hashshield.checkpoints.catalog import entries; entries(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
