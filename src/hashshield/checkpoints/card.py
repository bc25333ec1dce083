"""The card: what a checkpoint says of itself, stored as JSON beside its weights; read without torch.

With it: what a foreign network may be imported for, which its card says too, and which networks are kin: what a network
learned from its ancestors, others with the same ancestors see as well.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hashshield.checkpoints.cache import CatalogEntry, checked, checked_name, digest_of
from hashshield.errors import CheckpointError

__all__ = [
    "FORMAT_VERSION",
    "REFERENCE",
    "REFUSED_WORDS",
    "RESEARCH",
    "Card",
    "InputSpec",
    "are_twins",
    "entry_of",
    "has_references",
    "lineage_of",
    "read_card",
    "refusal",
    "twin_among",
]


RESEARCH = "research"
"""The purpose with which a foreign network serves every goal and which receipts repeat; without it, only `away`."""

REFUSED_WORDS = (
    "abuse",
    "authenticity",
    "c2pa",
    "child",
    "children",
    "content credentials",
    "csai",
    "csam",
    "csem",
    "deepfake",
    "exploitation",
    "extremism",
    "forensic",
    "forensics",
    "gifct",
    "missing persons",
    "moderation",
    "ncii",
    "ncmec",
    "neuralhash",
    "nsfw",
    "photodna",
    "provenance",
    "safety",
    "stopncii",
    "synthid",
    "terrorism",
    "terrorist",
    "watermark",
    "watermarking",
)
"""Words of a card, in its name, attribution or purpose, with which it says that its network tells where pictures come
from, or is for safety."""
_REFUSED = re.compile(rf"(?<![a-z0-9])({'|'.join(map(re.escape, REFUSED_WORDS))})(?![a-z0-9])")


def refusal(name: str, attribution: str, purpose: str) -> str | None:
    """Say, in words, why a network so described is not taken; None when nothing speaks against it."""
    for what, text in (("name", name), ("attribution", attribution), ("purpose", purpose)):
        if found := _REFUSED.search(" ".join(text.lower().split())):
            return (
                f"its {what} says {found[0]!r}: networks that tell where pictures come from, or are for safety, are "
                "not taken (docs/importing.md)"
            )
    if purpose not in ("", RESEARCH):
        return f"its purpose is {purpose[:80]!r}; leave it out, or say {RESEARCH!r}"
    return None


FORMAT_VERSION = 1
REFERENCE = "reference."
"""Of tensors with packed bits: (N, ceil(K/8)) uint8, the first bit is the highest, +1 is a set bit."""
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
    squash: bool = False
    """Whether both sides are resized to `crop`, whatever the aspect, in place of a crop."""

    def fault(self) -> str | None:
        """What is wrong with it, in words; None when nothing is. Raises TypeError for values that are no numbers."""
        whole = not isinstance(self.crop, float) and not isinstance(self.resize, float)
        if not whole or not 16 <= self.crop <= self.resize <= 2048 or self.interpolation != "bilinear":
            return f"input geometry {self} is not supported (bilinear, 16 to 2048 pixels, crop at most resize)"
        if self.squash not in (True, False):
            return f"squash of the input is neither true nor false, found {self.squash!r}"
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
    purpose: str = ""
    """Of a foreign network, `research` or nothing; see `checkpoints.purpose`."""
    cosine: float | None = None
    """Of a network whose features are compared as they are: the cosine from which on they count as the same photo."""
    lineage: str = ""
    """Trunk family, where the architecture does not tell; see `checkpoints.lineage`."""
    within: int | None = None
    """Of codes that find copies: the distance in bits up to which two photos count as the same; None for others."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """One line of JSON, keys in the order of the fields."""
        raw = asdict(self)
        if self.within is None:
            # Added later: left out where it is empty, so that older cards and their digests stay as they are.
            del raw["within"]
        return json.dumps(raw, ensure_ascii=False)

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
        for text in (self.name, self.arch, self.dataset, self.licence, self.attribution, self.purpose, self.lineage):
            if not isinstance(text, str):
                raise TypeError(f"{text!r} stands where a text should")
        lengths = len(set(self.bits))
        if not 0 < lengths == len(self.bits) <= _MOST_LENGTHS or any(not 1 <= k <= 4096 for k in self.bits):
            raise CheckpointError(f"{source}: the card names no usable code length, found {self.bits[:_MOST_LENGTHS]}")
        if not isinstance(self.hidden, int) or not 0 <= self.hidden <= _WIDEST:
            raise CheckpointError(f"{source}: a hidden layer has 0 to {_WIDEST} values, found {self.hidden!r}")
        if len(set(self.classes)) < len(self.classes):
            raise CheckpointError(f"{source}: the card names a class twice; train it on folders of different names")
        if fault := self.input.fault() or refusal(self.name, self.attribution, self.purpose):
            raise CheckpointError(f"{source}: {fault}")
        if self.cosine is not None and not (isinstance(self.cosine, float) and -1 < self.cosine < 1):
            raise CheckpointError(f"{source}: a threshold for cosines lies between -1 and 1, found {self.cosine!r}")
        if self.within is not None and not (isinstance(self.within, int) and 0 <= self.within < min(self.bits)):
            raise CheckpointError(
                f"{source}: a threshold in bits lies between 0 and the code's length, found {self.within!r}"
            )


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


def has_references(path: Path, bits: int) -> bool:
    """Whether a checkpoint file carries reference codes of that length; only its header is read.

    Raises CheckpointError.
    """
    read_card(path)
    try:
        with safe_open(path, framework="numpy") as handle:
            return f"{REFERENCE}{bits}" in handle.keys()  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error


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


_GRAPH = "graph"
"""The architecture of every network that was imported from ONNX: it says nothing about whose trunk it is."""
_FAMILY = re.compile(r"[a-z_]*[a-z]")


def lineage_of(card: Card) -> str:
    """Return the trunk family: what the card says, else the architecture without its size (`efficientnet_lite`).

    An imported network whose card says nothing is a lineage of its own.
    """
    if card.lineage:
        return card.lineage
    if card.arch == _GRAPH:
        return card.name
    found = _FAMILY.match(card.arch)
    return found[0] if found else card.arch


def are_twins(one: Card, other: Card) -> bool:
    """Whether two networks have one trunk, or one of them was trained from the other.

    Two of one architecture and lineage start from the same weights or see alike. An imported network is its own twin
    only, unless its card names a lineage that both have.
    """
    if one.name == other.name or other.name in _starts(one) or one.name in _starts(other):
        return True
    if _GRAPH in (one.arch, other.arch):
        return bool(one.lineage or other.lineage) and lineage_of(one) == lineage_of(other)
    return one.arch == other.arch and lineage_of(one) == lineage_of(other)


def twin_among(card: Card, cards: Iterable[Card]) -> Card | None:
    """Return the first of `cards` that is a twin, or None."""
    return next((other for other in cards if are_twins(card, other)), None)


def _starts(card: Card) -> tuple[str, ...]:
    """The name of the checkpoint that training began with, as the recipe has it; a file stands for its stem."""
    model = card.recipe.get("model")
    start = str(model.get("start", "")) if isinstance(model, dict) else ""
    stem = start.replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors")
    return (stem,) if stem else ()
