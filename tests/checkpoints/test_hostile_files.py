"""Checkpoint and settings files that lie about what they hold: one line each, before anything of that size is made."""

from __future__ import annotations

import json
import random
import resource
import struct
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hashshield.checkpoints.cache import read_entries
from hashshield.checkpoints.card import Card, read_card
from hashshield.checkpoints.file import read_checkpoint, write_checkpoint
from hashshield.config import read_file
from hashshield.errors import CheckpointError, HashshieldError, UsageError
from hashshield.models.importing import read_foreign_card
from hashshield.models.load import open_models
from hashshield.text import read_toml
from hashshield.training.recipe import read_recipe
from tiny_net import CARD, tiny_weights, write_tiny


def with_card(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A checkpoint whose card says what no card of ours would; a text in place of a table is the card itself."""
    raw = json.loads(CARD.to_json())
    text = change(raw)
    save_file({"a": torch.zeros(1)}, path, metadata={"card": text if isinstance(text, str) else json.dumps(raw)})
    return path


CARDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nested": lambda raw: "[" * 100_000,
    "a list": lambda raw: "[]",
    "a number": lambda raw: "1",
    "a long number": lambda raw: "1" * 10_000,
    "infinite bits": lambda raw: raw.update(bits=[float("inf")]),
    "no number of bits": lambda raw: raw.update(bits=[float("nan")]),
    "bits by the thousand": lambda raw: raw.update(bits=list(range(1, 4000))),
    "equal bits": lambda raw: raw.update(bits=[16] * 10),
    "a huge map": lambda raw: raw.update(map={"16": 10**400}),
    "half a pixel": lambda raw: raw["input"].update(crop=32.5, resize=36),
    "pixels as a float": lambda raw: raw["input"].update(crop=32.0, resize=36.0),
    "an infinite size": lambda raw: raw["input"].update(crop=float("inf"), resize=float("inf")),
    "an infinite mean": lambda raw: raw["input"].update(mean=[float("inf"), 0, 0]),
    "a huge mean": lambda raw: raw["input"].update(mean=[10**400, 0, 0]),
    "a wide layer": lambda raw: raw.update(hidden=10**12),
    "classes of tables": lambda raw: raw.update(classes=3),
    "another input": lambda raw: raw.update(input=[1, 2]),
    "another key": lambda raw: raw.update(more=1),
}


@pytest.mark.parametrize("change", CARDS.values(), ids=CARDS)
def test_a_card_that_is_none(change: Callable[[dict[str, Any]], Any], tmp_path: Path) -> None:
    path = with_card(tmp_path / "a.safetensors", change)
    with pytest.raises(CheckpointError, match=r"a\.safetensors") as caught:
        read_card(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 5),
        ("arch", None),
        ("bits", ["16"]),
        ("bits", [16.5]),
        ("hidden", True),
        ("input", [1, 2]),
        ("classes", "abc"),
        ("classes", [["a"]]),
        ("dataset", {}),
        ("split", 5),
        ("recipe", 5),
        ("recipe", ["model"]),
        ("licence", 1.5),
        ("map", {"16": "0.5"}),
        ("map", {"x": 0.5}),
        ("map_unseen", {"16": "high"}),
        ("map_unseen", {"16": float("nan")}),
        ("map_unseen", [0.5]),
        ("map_unseen", {"16": 3.0}),
        ("cosine", "0.5"),
        ("lineage", ["a"]),
        ("within", 2.0),
        ("within", True),
    ],
)
def test_a_field_of_a_card_that_holds_something_else_is_named(field: str, value: object, tmp_path: Path) -> None:
    path = with_card(tmp_path / "a.safetensors", lambda raw: raw.update({field: value}))
    with pytest.raises(CheckpointError, match=rf"a\.safetensors: `{field}` of its card should be .*, found ") as caught:
        read_card(path)
    assert repr(value) in str(caught.value)


def test_every_field_of_a_card_is_checked(tmp_path: Path) -> None:
    for field in fields(Card):
        path = with_card(tmp_path / "a.safetensors", lambda raw, name=field.name: raw.update({name: [None]}))
        with pytest.raises(CheckpointError):
            read_card(path)


def raw_file(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


META = {"__metadata__": {"card": CARD.to_json()}}


@pytest.mark.parametrize(
    "file",
    [
        lambda p: raw_file(p, META, length=2**63),
        lambda p: raw_file(p, META, length=10**9),
        lambda p: raw_file(p, b"{" * 100_000),
        lambda p: raw_file(
            p, META | {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)
        ),
        lambda p: raw_file(p, META | {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}, bytes(4)),
        lambda p: raw_file(p, META | {"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        lambda p: raw_file(p, META | {"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        lambda p: raw_file(p, META | {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        lambda p: raw_file(p, META | {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        lambda p: raw_file(p, META | {"anchor.x": {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]}}, bytes(1)),
        lambda p: raw_file(p, META | {"anchor.16": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, bytes(1)),
        lambda p: raw_file(p, META | {"anchor.16": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, bytes(8)),
        lambda p: raw_file(p, META | {"a": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}, b"\xff"),
    ],
)
def test_a_file_that_lies_about_its_tensors(file: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        read_checkpoint(file(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("arch", ["regnet_y_128gf", "vit_h_14", "vgg16.features"])
def test_a_large_network_of_a_few_bytes_is_not_built(arch: str, tmp_path: Path) -> None:
    """Two gigabytes and more were made before the tensors were looked at."""
    card, weights = replace(CARD, arch=arch, bits=(16,)), {"heads.16.weight": torch.zeros(16, 2)}
    write_checkpoint(tmp_path / "a.safetensors", card, weights, {})
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(CheckpointError, match=rf"a\.safetensors: its tensors do not fit {arch} \(.*parameters"):
        open_models([str(tmp_path / "a.safetensors")])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert time.process_time() - began < 2


def test_a_wide_layer_is_not_built(tmp_path: Path) -> None:
    weights, _ = tiny_weights()
    write_checkpoint(tmp_path / "a.safetensors", replace(CARD, hidden=65_536), weights, {})
    with pytest.raises(CheckpointError, match=r"neck\.0\.weight is missing"):
        open_models([str(tmp_path / "a.safetensors")])


def test_damaged_checkpoints_raise_nothing_else(tmp_path: Path) -> None:
    whole = write_tiny(tmp_path / "tiny.safetensors").read_bytes()
    head = 8 + struct.unpack("<Q", whole[:8])[0]
    draw, path, refused = random.Random(3), tmp_path / "a.safetensors", 0
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 2, 5))):
            data[draw.randrange(head)] = draw.choice((0, 34, 48, 57, 91, 93, 123, 125, 255, draw.randrange(256)))
        path.write_bytes(data)
        try:
            read_checkpoint(path)
        except HashshieldError:
            refused += 1
    assert refused > 60


SETTINGS: dict[str, bytes] = {
    "nested lists": b"a = " + b"[" * 30_000,
    "nested tables": b"a = " + b"{a=" * 15_000,
    "dotted keys": b".".join([b"a"] * 20_000) + b" = 1",
    "a dotted table": b"[" + b".".join([b"a"] * 20_000) + b"]",
    "not utf-8": b"a = '\xff'",
    "zeros": bytes(1000),
    "a long number": b"a = " + b"1" * 10_000,
    "five megabytes": b"#" * (5 << 20),
}


@pytest.mark.parametrize("data", SETTINGS.values(), ids=SETTINGS)
def test_toml_of_absurd_depth_or_size(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    readers: list[tuple[Callable[[Path], Any], type[HashshieldError]]] = [
        (read_file, UsageError),
        (read_recipe, UsageError),
        (read_foreign_card, UsageError),
        (read_entries, CheckpointError),
    ]
    path.write_bytes(data)
    for reader, kind in readers:
        with pytest.raises(kind, match=r"a\.toml") as caught:
            reader(path)
        assert len(str(caught.value)) < 1000


def test_toml_of_plain_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[a.b.c]\nd = [{e = [1, 2]}]\n")
    assert read_toml(path) == {"a": {"b": {"c": {"d": [{"e": [1, 2]}]}}}}
    path.write_text(".".join(["a"] * 40) + " = 1")
    with pytest.raises(ValueError, match="nested too deeply"):
        read_toml(path)
