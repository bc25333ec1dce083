"""The card: what a checkpoint says of itself, stored as JSON beside its weights; read without torch."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hashshield.checkpoints.cache import digest_of
from hashshield.checkpoints.entry import CatalogEntry, checked, checked_name
from hashshield.errors import CheckpointError

__all__ = ["FORMAT_VERSION", "Card", "InputSpec", "entry_of", "read_card"]

FORMAT_VERSION = 1
_WIDEST = 65_536
_MOST_LENGTHS = 64


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The geometry and normalisation a network expects."""

    resize: int
    """Short side in pixels before the crop."""
    crop: int
    """Side of the centre crop in pixels."""
    interpolation: str
    """Only "bilinear", with antialiasing, as Pillow does it."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Per channel, in [0, 1] units."""

    def fault(self) -> str | None:
        """What is wrong with it, in words; None when nothing is. Raises TypeError for values that are no numbers."""
        whole = not isinstance(self.crop, float) and not isinstance(self.resize, float)
        if not whole or not 16 <= self.crop <= self.resize <= 2048 or self.interpolation != "bilinear":
            return f"input geometry {self} is not supported (bilinear, 16 to 2048 pixels, crop at most resize)"
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, (*self.mean, *self.std))):
            return f"mean or standard deviation of the input are not three finite numbers, found {self}"
        if min(self.std) <= 0:
            return f"a standard deviation of the input is not positive, found {self.std}"
        return None


@dataclass(frozen=True, slots=True)
class Card:
    """Everything about a checkpoint but its tensors."""

    name: str
    arch: str
    bits: tuple[int, ...]
    hidden: int
    """Width of the layer between features and codes; 0 for none."""
    input: InputSpec
    classes: tuple[str, ...]
    dataset: str
    split: dict[str, Any]
    recipe: dict[str, Any]
    licence: str
    attribution: str
    map: dict[str, float] = field(default_factory=dict)
    """Full-database MAP by code length, measured on the stored file."""
    map_unseen: dict[str, float] = field(default_factory=dict)
    """MAP against a gallery that was not trained on."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """One line of JSON, keys in the order of the fields."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Card:
        """Read a card; raises CheckpointError naming `source` and the first thing that is wrong."""
        try:
            raw = json.loads(text)
            version = raw.get("format_version")
            if version != FORMAT_VERSION:
                raise CheckpointError(
                    f"{source}: card format {version!r}, this release reads {FORMAT_VERSION}; update hashshield"
                )
            size = raw["input"]
            raw["input"] = InputSpec(**{**size, "mean": _three(size["mean"]), "std": _three(size["std"])})
            raw["bits"] = tuple(int(k) for k in raw["bits"])
            raw["classes"] = tuple(str(c) for c in raw["classes"])
            raw["map"] = {str(int(k)): float(v) for k, v in raw.get("map", {}).items()}
            card = cls(**raw)
            card._check(source)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"{source}: its card cannot be read ({error}); fetch the checkpoint again") from error
        return card

    def _check(self, source: str) -> None:
        for text in (self.name, self.arch, self.dataset, self.licence, self.attribution):
            if not isinstance(text, str):
                raise TypeError(f"{text!r} stands where a text should")
        lengths = len(set(self.bits))
        if not 0 < lengths == len(self.bits) <= _MOST_LENGTHS or any(not 1 <= k <= 4096 for k in self.bits):
            raise CheckpointError(f"{source}: the card names no usable code length, found {self.bits[:_MOST_LENGTHS]}")
        if not isinstance(self.hidden, int) or not 0 <= self.hidden <= _WIDEST:
            raise CheckpointError(f"{source}: a hidden layer has 0 to {_WIDEST} values, found {self.hidden!r}")
        if len(set(self.classes)) < len(self.classes):
            raise CheckpointError(f"{source}: the card names a class twice; train it on folders of different names")
        if fault := self.input.fault():
            raise CheckpointError(f"{source}: {fault}")


def _three(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


_LARGEST_HEADER = 16 * 1024 * 1024


def read_card(path: Path) -> Card:
    """Read only the card. Raises CheckpointError."""
    _check_header(path)
    try:
        with safe_open(path, framework="numpy") as handle:
            metadata = handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error
    if "card" not in metadata:
        raise CheckpointError(f"{path}: a safetensors file without a hashshield card; write it with `hashshield train`")
    return Card.from_json(metadata["card"], source=str(path))


def entry_of(path: Path, *, embedded: bool = False, imported: bool = False) -> CatalogEntry:
    """Return the catalogue entry of a checkpoint file, as its card describes it. Raises CheckpointError."""
    card = read_card(path)
    name = checked_name(card.name, source=str(path))
    entry = CatalogEntry(
        name=name,
        file=f"{name}.safetensors",
        size=path.stat().st_size,
        sha256=digest_of(path),
        licence=card.licence or "unknown",
        summary=f"{card.arch} on {card.dataset}, codes of {', '.join(map(str, card.bits))} bits",
        bits=card.bits,
        map={int(bits): value for bits, value in card.map.items()},
        embedded=embedded,
        imported=imported,
    )
    return checked(entry, source=str(path))


def _check_header(path: Path) -> None:
    """Look at the first bytes before any library does: a pickle or an absurd header is named as such."""
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    # A safetensors header may begin with these bytes too: its length comes first, and then always a brace.
    if head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise CheckpointError(f"{path}: this is a pickle, which can run code; only safetensors files are loaded")
    if len(head) < 16:
        raise CheckpointError(f"{path}: {size} bytes are no safetensors file; fetch it again")
    (length,) = struct.unpack("<Q", head[:8])
    if length > min(size - 8, _LARGEST_HEADER):
        raise CheckpointError(f"{path}: the header claims {length} bytes of a file of {size}; fetch it again")
