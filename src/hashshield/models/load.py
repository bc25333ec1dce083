"""Open hash networks by name, test them before use, and see photos through the views that a preset promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from hashshield.checkpoints.cache import CatalogEntry, digest_of
from hashshield.checkpoints.card import Card, InputSpec
from hashshield.checkpoints.catalog import Reference, resolve
from hashshield.checkpoints.file import Checkpoint, read_checkpoint
from hashshield.errors import CheckpointError, UnknownNameError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.backbones import parameters_of
from hashshield.models.device import exact_float32
from hashshield.models.graph import GRAPH_ARCH, GraphTrunk, output_width, read_graph
from hashshield.models.hashing import FrozenHash, HashNet, freeze
from hashshield.text import did_you_mean
from hashshield.transforms import CARD, framed, framing, pillow_view, resized, tensor_views, to_image
from hashshield.types import Codes

__all__ = [
    "Hashed",
    "NetworkView",
    "OpenModel",
    "build",
    "distinct_models",
    "network_views",
    "open_checkpoint",
    "open_models",
    "viewed",
    "views_of",
]


class Hashed(NamedTuple):
    """Code and features of one photo on one network."""

    code: NDArray[np.float32]
    """(K,) code, before any sign."""
    features: Tensor
    """(D,) on the network's device."""

    @property
    def bits(self) -> NDArray[np.int8]:
        """(K,) in {-1, +1}; the sign of 0 is -1."""
        return bits_of(self.code)


_SPARE_PARAMETERS = 16_000_000
_MOST_TIMES = 16
"""Most parameters of a network to build: 16 million plus 16 times the values in its file."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenModel:
    """A network ready for use, with its card, anchors and reference codes."""

    name: str
    """`checkpoint:bits`"""
    model: FrozenHash
    card: Card
    anchors: Tensor | None
    """(C, K) int8 in {-1, +1}, one row per class; None if the checkpoint has none."""
    references: NDArray[np.int8] | None = None
    """(N, K) in {-1, +1}, reference codes: those of unrelated photos; None if the checkpoint has none."""

    @property
    def bits(self) -> int:
        """Code length K."""
        return self.model.bits

    @property
    def device(self) -> torch.device:
        """Device that holds the weights."""
        return self.model.mean.device

    def hash(self, pixels: NDArray[np.uint8], view: str = CARD) -> Hashed:
        """Return code and features of displayed (H, W, 3) RGB pixels, resized with Pillow, in `view`."""
        return self.hash_view(pillow_view(pixels, self.card.input, view))

    @torch.inference_mode()
    def hash_view(self, image: Tensor) -> Hashed:
        """Return code and features of one (3, s, s) image in [0, 1], already cropped to the network's input size s."""
        with exact_float32(self.device):
            codes = self.model(image[None].to(self.device))
        return Hashed(codes.code[0].float().cpu().numpy(), codes.features[0])

    @torch.inference_mode()
    def hash_views(self, images: Sequence[Tensor]) -> list[Hashed]:
        """Return what `hash_view` returns for each of N (3, s, s) images, computed in one batch."""
        with exact_float32(self.device):
            codes = self.model(torch.stack(list(images)).to(self.device))
        found = codes.code.float().cpu().numpy()
        return [Hashed(code, features) for code, features in zip(found, codes.features, strict=True)]

    def class_rank(self, bits: NDArray[np.int8], row: int) -> int:
        """Return the number of anchors that are nearer to the (K,) bits than the anchor of class `row`."""
        assert self.anchors is not None
        distances = np.count_nonzero(self.anchors.cpu().numpy() != bits, axis=1)
        return int(np.count_nonzero(distances < distances[row]))

    def class_index(self, name: str) -> int:
        """Return the row of class `name` in `anchors`. Raises UnknownNameError with a suggestion."""
        if name in self.card.classes and self.anchors is not None:
            return self.card.classes.index(name)
        suggestion = did_you_mean(name, self.card.classes, cutoff=0.4) or "`hashshield models info` lists them"
        raise UnknownNameError(f"{self.name} has no class {name!r}; {suggestion}")


def open_models(names: Sequence[str], *, device: str = "cpu") -> list[OpenModel]:
    """Return each named model once, tested and moved to `device`. A name is `checkpoint` or `checkpoint:bits`.

    Raises UnknownNameError, CheckpointError, and torch.OutOfMemoryError if the device is full.
    """
    opened: dict[str, OpenModel] = {}
    built: dict[Path, dict[int, FrozenHash]] = {}
    for name in names:
        reference, checkpoint = open_checkpoint(name)
        lengths_of = built.get(reference.path)
        bits = reference.bits or max(checkpoint.card.bits)
        if bits not in checkpoint.card.bits:
            lengths = ", ".join(str(k) for k in checkpoint.card.bits)
            raise UnknownNameError(f"{reference.name} has no code of {bits} bits; its lengths are {lengths}")
        if lengths_of is None:
            lengths_of = built[reference.path] = build(checkpoint, source=str(reference.path))
        full = f"{reference.name}:{bits}"
        if full in opened:
            continue
        model = lengths_of[bits]
        _look_at(model, f"{reference.path}:{bits}", checkpoint.card.input.crop)
        opened[full] = OpenModel(
            full, model, checkpoint.card, checkpoint.anchors.get(bits), checkpoint.references.get(bits)
        )
    # Move only after all are tested: code lengths of one file share a trunk, which moves with the first of them.
    for each in opened.values():
        each.model.to(device)
    return list(opened.values())


def open_checkpoint(model: str) -> tuple[Reference, Checkpoint]:
    """Read the file of a model, and verify its SHA-256 if the catalogue lists it.

    Raises UnknownNameError for an unknown name, CheckpointError for a missing, damaged or invalid file.
    """
    reference = resolve(model)
    if reference.entry is not None:
        _check_digest(reference.path, reference.entry)
    return reference, _read(reference.path.resolve(), reference.path.stat().st_mtime_ns)


def build(checkpoint: Checkpoint, *, source: str) -> dict[int, FrozenHash]:
    """Return a network for each code length of a checkpoint; `source` names it in messages.

    Raises CheckpointError if tensors and card disagree.
    """
    card = checkpoint.card
    if card.arch == GRAPH_ARCH:
        return _foreign(checkpoint, source)
    _check_room(checkpoint, source)
    try:
        network = HashNet(card.arch, card.bits, hidden_width=card.hidden, mean=card.input.mean, std=card.input.std)
    except UnknownNameError as error:
        raise CheckpointError(f"{source}: {error}; update hashshield or fetch the checkpoint again") from error
    wanted = network.state_dict()
    counters = {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}
    try:
        network.load_state_dict({**counters, **checkpoint.weights})
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise CheckpointError(
            f"{source}: its tensors do not fit {card.arch} ({first[0].strip()[:200]}); fetch it again"
        ) from error
    try:
        return freeze(network, size=card.input.crop)
    except (RuntimeError, AssertionError, ValueError) as error:
        # Networks with a minimum or fixed input size raise different errors for it.
        raise CheckpointError(
            f"{source}: {card.arch} cannot read {card.input.crop} pixels ({error}); fetch it again"
        ) from error


def _check_room(checkpoint: Checkpoint, source: str) -> None:
    """Raise CheckpointError if the card describes a network far larger than its tensors, before building it."""
    card, weights = checkpoint.card, checkpoint.weights
    wanted = {f"heads.{k}.weight": k for k in card.bits} | ({"neck.0.weight": card.hidden} if card.hidden else {})
    for key, rows in wanted.items():
        if key not in weights or weights[key].shape[:1] != (rows,):
            raise CheckpointError(
                f"{source}: its tensors do not fit {card.arch} ({key} is missing or of another size); fetch it again"
            )
    held = sum(tensor.numel() for tensor in weights.values())
    # Without its classifier a network may be a fraction of the one that is built; VGG's convolutions are.
    if (made := parameters_of(card.arch)) > _SPARE_PARAMETERS + _MOST_TIMES * held:
        raise CheckpointError(
            f"{source}: its tensors do not fit {card.arch} ({made:,} parameters, and the file has {held:,}); fetch it "
            "again"
        )


def _foreign(checkpoint: Checkpoint, source: str) -> dict[int, FrozenHash]:
    """Return the networks of an imported checkpoint: its graph as trunk, its projection as code layer."""
    card, found = checkpoint.card, {}
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (card.input.mean, card.input.std))
    try:
        graph = read_graph(checkpoint.weights)
        width = output_width(graph, side=card.input.crop)
        trunk = GraphTrunk(graph)
        with torch.inference_mode():
            trunk(torch.zeros(2, 3, card.input.crop, card.input.crop))
        for bits in card.bits:
            bias = checkpoint.weights.get(f"heads.{bits}.bias")
            head = nn.Linear(width, bits, bias=bias is not None)
            weight = checkpoint.weights[f"heads.{bits}.weight"]
            head.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
            found[bits] = FrozenHash(trunk, nn.Sequential(), head, mean, std)
    # Operators raise different errors for inputs that they cannot take.
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{source}: its graph cannot be run ({first}); import it again") from error
    return found


@lru_cache(maxsize=4)
def _read(path: Path, _mtime_ns: int) -> Checkpoint:
    return read_checkpoint(path)


@lru_cache(maxsize=16)
def _digest(path: Path, _mtime_ns: int) -> str:
    return digest_of(path)


def _check_digest(path: Path, entry: CatalogEntry) -> None:
    if entry.embedded:
        remedy = "reinstall hashshield"
    elif entry.imported:
        remedy = f"`hashshield models remove {entry.name}` and import it again"
    else:
        remedy = f"`hashshield models download {entry.name}` fetches it again"
    try:
        found = _digest(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    if found != entry.sha256:
        raise CheckpointError(
            f"{path}: SHA-256 is {found}, the catalogue says {entry.sha256}; the file is damaged or another release's, "
            f"{remedy}"
        )


@torch.inference_mode()
def _look_at(model: FrozenHash, source: str, size: int) -> None:
    """Raise CheckpointError if codes are not finite, or bits do not depend on the image."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((8, 3, 4, 4), generator=generator)
    images = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    # Two at a time, because a network may need much memory per image.
    code = torch.cat([model(pair).code for pair in torch.split(images, 2)])
    if not bool(torch.isfinite(code).all()):
        raise CheckpointError(f"{source}: the network returns NaN or infinite codes; fetch or train it again")
    deviation = code.std(0)
    if bool((deviation <= 1e-6 * code.abs().amax().clamp_min(1e-6)).any()):
        dead = int((deviation <= 1e-6 * code.abs().amax().clamp_min(1e-6)).sum())
        raise CheckpointError(
            f"{source}: {dead} of {model.bits} bits do not react to the image; fetch or train it again"
        )


@dataclass(frozen=True, slots=True, eq=False)
class NetworkView:
    """A network and the view in which it sees a photo; see `transforms.framing`."""

    model: OpenModel
    view: str = CARD

    @property
    def side(self) -> int:
        """Short side, in pixels, to which the view resizes a photo."""
        return self.model.card.input.resize

    def __call__(self, images: Sequence[Tensor], /) -> Codes:
        """Hash N images, each (1, 3, h, w) in [0, 1] and of any size, with gradients; return codes (N, K)."""
        codes: Codes = self.model.model(viewed(images, self.model.card.input, self.view))
        if codes.code.dtype == torch.bfloat16:
            # Losses sum and subtract close numbers, which bfloat16 cannot tell apart.
            return Codes(codes.code.float(), codes.features.float())
        return codes


def viewed(images: Sequence[Tensor], size: InputSpec, view: str) -> Tensor:
    """Return N (1, 3, h, w) images in [0, 1] in a view, as one (N, 3, s, s) batch.

    On a GPU images of the same size are transformed together, because an operator takes as long for one small image as
    for many. On the CPU they go one by one, because few fit its cache.
    """
    if images[0].device.type == "cpu":
        return tensor_views(images, size, view)
    alike: dict[torch.Size, list[int]] = {}
    for index, image in enumerate(images):
        alike.setdefault(image.shape, []).append(index)
    batches = [
        images[indices[0]] if len(indices) == 1 else torch.cat([images[index] for index in indices])
        for indices in alike.values()
    ]
    together = tensor_views(batches, size, view)
    order = [index for indices in alike.values() for index in indices]
    if order == sorted(order):
        return together
    rows = dict(zip(order, together.chunk(len(order)), strict=True))
    return torch.cat([rows[index] for index in range(len(images))])


def network_views(models: Sequence[OpenModel], views: Sequence[str] = (CARD,)) -> tuple[NetworkView, ...]:
    """Return every network in every view, grouped by network."""
    return tuple(NetworkView(model, view) for model in models for view in views)


def distinct_models(promised_views: Sequence[NetworkView]) -> tuple[OpenModel, ...]:
    """Return the networks of these network views, each once."""
    return tuple({id(each.model): each.model for each in promised_views}.values())


def views_of(displayed: Image.Image, promised_views: Sequence[NetworkView]) -> tuple[Tensor, ...]:
    """Return the (3, h, w) image in [0, 1] that each network view sees of an RGB photo in displayed orientation.

    Resized copies that several views need are computed once.
    """
    small = cache(lambda height, width: resized(displayed, height, width))
    framings = [framing(each.view, each.model.card.input, displayed.height, displayed.width) for each in promised_views]
    return tuple(to_image(framed(displayed, goal, crop, small)) for goal, crop in framings)
