"""The card: a checkpoint's description of itself, stored as JSON beside its weights and read without torch.

This module also decides which foreign networks may be imported (`refusal`) and which networks are twins: networks with
the same trunk or ancestor see much the same.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterable
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
"""The purpose that lets a foreign network serve every goal, and that receipts repeat; without it only `away`."""

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
"""Words in a card's name, attribution or purpose that mark a network for provenance or safety; it is not imported."""
_REFUSED = re.compile(rf"(?<![a-z0-9])({'|'.join(map(re.escape, REFUSED_WORDS))})(?![a-z0-9])")


def refusal(name: str, attribution: str, purpose: str) -> str | None:
    """Return why a foreign network with this description is not imported; None if it may be."""
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
"""Name prefix of tensors of packed reference codes: (N, ceil(K/8)) uint8, the first bit highest, +1 as a set bit."""
_WIDEST = 65_536
_MOST_LENGTHS = 64


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A network's input: geometry and normalisation."""

    resize: int
    """Short side in pixels before the crop."""
    crop: int
    """Side of the centre crop in pixels."""
    interpolation: str
    """Always "bilinear": Pillow's antialiased bilinear."""
    mean: tuple[float, float, float]
    """Per channel, in [0, 1] units."""
    std: tuple[float, float, float]
    """Per channel, in [0, 1] units."""
    squash: bool = False
    """Whether both sides are resized to `crop`, ignoring the aspect, instead of cropping."""

    def fault(self) -> str | None:
        """Return what is wrong with the input; None if nothing is. Raises TypeError for values that are not numbers."""
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
    """Everything about a checkpoint except its tensors."""

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
    """Code length -> MAP over the full database, measured on the stored file."""
    map_unseen: dict[str, float] = field(default_factory=dict)
    """Code length -> MAP over photos that were not trained on."""
    purpose: str = ""
    """`RESEARCH` or empty, for a foreign network; see `refusal`."""
    cosine: float | None = None
    """For a network whose features are compared by cosine: the least cosine at which two photos count as the same."""
    lineage: str = ""
    """Trunk family, if it does not follow from the architecture; see `lineage_of`."""
    within: int | None = None
    """For a copy detector: the distance in bits up to which two photos count as the same; None for other networks."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return one line of JSON, keys in the order of the fields."""
        raw = asdict(self)
        if self.within is None:
            # Added later; omitted if None, so that older cards and the digests of their files stay the same.
            del raw["within"]
        return json.dumps(raw, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Card:
        """Parse a card. Raises CheckpointError naming `source` and the first fault."""
        try:
            raw = json.loads(text)
            version = raw.get("format_version")
            if version != FORMAT_VERSION:
                raise CheckpointError(
                    f"{source}: card format {version!r}, this release reads {FORMAT_VERSION}; update hashshield"
                )
            _check_types(raw, source)
            size = raw["input"]
            raw["input"] = InputSpec(**{**size, "mean": _three(size["mean"]), "std": _three(size["std"])})
            raw["bits"], raw["classes"] = tuple(raw["bits"]), tuple(raw["classes"])
            card = cls(**raw)
            card._check(source)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise CheckpointError(f"{source}: its card cannot be read ({error}); fetch the checkpoint again") from error
        return card

    def _check(self, source: str) -> None:
        lengths = len(set(self.bits))
        if not 0 < lengths == len(self.bits) <= _MOST_LENGTHS or any(not 1 <= k <= 4096 for k in self.bits):
            raise CheckpointError(f"{source}: the card names no usable code length, found {self.bits[:_MOST_LENGTHS]}")
        if not 0 <= self.hidden <= _WIDEST:
            raise CheckpointError(f"{source}: a hidden layer has 0 to {_WIDEST} values, found {self.hidden!r}")
        if len(set(self.classes)) < len(self.classes):
            raise CheckpointError(f"{source}: the card names a class twice; train it on folders of different names")
        if fault := self.input.fault() or refusal(self.name, self.attribution, self.purpose):
            raise CheckpointError(f"{source}: {fault}")
        if self.cosine is not None and not -1 < self.cosine < 1:
            raise CheckpointError(f"{source}: a threshold for cosines lies between -1 and 1, found {self.cosine!r}")
        if self.within is not None and not 0 <= self.within < min(self.bits):
            raise CheckpointError(
                f"{source}: a threshold in bits lies between 0 and the code's length, found {self.within!r}"
            )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _are_maps(value: Any) -> bool:
    return isinstance(value, dict) and all(
        bits.isdecimal() and len(bits) <= 4 and isinstance(score, int | float) and 0 <= score <= 1
        for bits, score in value.items()
    )


_TEXT, _TABLE = ("text", _is_text), ("a table", _is_table)
_MAPS = ("a table of MAPs, 0 to 1, by code length", _are_maps)
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": _TEXT,
    "arch": _TEXT,
    "bits": ("a list of whole numbers", _are_lengths),
    "hidden": ("a whole number", _is_whole),
    "input": _TABLE,
    "classes": ("a list of texts", _are_texts),
    "dataset": _TEXT,
    "split": _TABLE,
    "recipe": _TABLE,
    "licence": _TEXT,
    "attribution": _TEXT,
    "map": _MAPS,
    "map_unseen": _MAPS,
    "purpose": _TEXT,
    "cosine": ("a number with a decimal point, or null", lambda value: value is None or isinstance(value, float)),
    "lineage": _TEXT,
    "within": ("a whole number, or null", lambda value: value is None or _is_whole(value)),
}
"""Field of a card in JSON -> what it should be; `format_version` is compared before."""


def _check_types(raw: dict[str, Any], source: str) -> None:
    """Raise CheckpointError for a field that is not what `_FIELDS` says; missing ones are left to `Card`."""
    for key, (wanted, fits) in _FIELDS.items():
        if key in raw and not fits(raw[key]):
            raise CheckpointError(
                f"{source}: `{key}` of its card should be {wanted}, found {raw[key]!r:.80}; fetch the checkpoint again"
            )


def _three(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


_LARGEST_HEADER = 16 * 1024 * 1024


def read_card(path: Path) -> Card:
    """Return the card of a checkpoint file; tensors are not read. Raises CheckpointError."""
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
    """Return whether a checkpoint file has reference codes of that length; only its header is read.

    Raises CheckpointError.
    """
    read_card(path)
    try:
        with safe_open(path, framework="numpy") as handle:
            return f"{REFERENCE}{bits}" in handle.keys()  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error


def entry_of(path: Path, *, embedded: bool = False, imported: bool = False) -> CatalogEntry:
    """Return the catalogue entry of a checkpoint file, made from its card. Raises CheckpointError."""
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
    """Check the first bytes before safetensors does. Raises CheckpointError for a pickle or an absurd header length."""
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            head = handle.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    # A safetensors file may begin with these bytes too: its header length. A brace always follows the length.
    if head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise CheckpointError(f"{path}: this is a pickle, which can run code; only safetensors files are loaded")
    if len(head) < 16:
        raise CheckpointError(f"{path}: {size} bytes are no safetensors file; fetch it again")
    (length,) = struct.unpack("<Q", head[:8])
    if length > min(size - 8, _LARGEST_HEADER):
        raise CheckpointError(f"{path}: the header claims {length} bytes of a file of {size}; fetch it again")


_GRAPH = "graph"
"""The architecture of every network imported from ONNX; it says nothing about its trunk family."""
_FAMILY = re.compile(r"[a-z_]*[a-z]")


def lineage_of(card: Card) -> str:
    """Return the trunk family: the card's lineage, else the architecture without its size (`efficientnet_lite`).

    An imported network whose card has no lineage is a lineage of its own.
    """
    if card.lineage:
        return card.lineage
    if card.arch == _GRAPH:
        return card.name
    found = _FAMILY.match(card.arch)
    return found[0] if found else card.arch


def are_twins(one: Card, other: Card) -> bool:
    """Return whether two networks have the same trunk, or one was trained from the other.

    Networks of the same architecture and lineage count as twins, because they start from the same weights or see much
    the same. An imported network has no twin, unless its card names a lineage that the other has too.
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
    """Return the name of the checkpoint that training started from, in the recipe (a file's stem), if there is one."""
    model = card.recipe.get("model")
    start = str(model.get("start", "")) if isinstance(model, dict) else ""
    stem = start.replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors")
    return (stem,) if stem else ()
