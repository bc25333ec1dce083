"""The card: what a checkpoint says of itself, stored as JSON beside its weights."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from hashshield.errors import CheckpointError

__all__ = ["FORMAT_VERSION", "Card", "Input"]

FORMAT_VERSION = 1
_WIDEST = 65_536


@dataclass(frozen=True, slots=True)
class Input:
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


@dataclass(frozen=True, slots=True)
class Card:
    """Everything about a checkpoint but its tensors."""

    name: str
    arch: str
    bits: tuple[int, ...]
    hidden: int
    """Width of the layer between features and codes; 0 for none."""
    input: Input
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
            raw["input"] = Input(**{**size, "mean": _three(size["mean"]), "std": _three(size["std"])})
            raw["bits"] = tuple(int(k) for k in raw["bits"])
            raw["classes"] = tuple(str(c) for c in raw["classes"])
            card = cls(**raw)
            card._check(source)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{source}: its card cannot be read ({error}); fetch the checkpoint again") from error
        return card

    def _check(self, source: str) -> None:
        size = self.input
        if not self.bits or any(not 1 <= k <= 4096 for k in self.bits):
            raise CheckpointError(f"{source}: the card names no usable code length, found {self.bits}")
        if not 16 <= size.crop <= size.resize <= 2048 or size.interpolation != "bilinear":
            raise CheckpointError(f"{source}: input geometry {size} is not supported (bilinear, 16 to 2048 pixels)")
        if not all(map(math.isfinite, (*size.mean, *size.std))):
            raise CheckpointError(f"{source}: mean or standard deviation of the input are not finite, found {size}")
        if not isinstance(self.hidden, int) or not 0 <= self.hidden <= _WIDEST:
            raise CheckpointError(f"{source}: a hidden layer has 0 to {_WIDEST} values, found {self.hidden!r}")
        if len(set(self.classes)) < len(self.classes):
            raise CheckpointError(f"{source}: the card names a class twice; train it on folders of different names")
        if min(size.std) <= 0:
            raise CheckpointError(f"{source}: a standard deviation of the input is not positive, found {size.std}")


def _three(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
