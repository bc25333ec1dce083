"""Hash networks: backbone, neck, and one linear layer per code length (DPSH, Li et al. 2016), frozen for use.

The last activations are ReLU forwards and leaky ReLU backwards. A plain ReLU unit at zero passes no gradient. For some
photos most of the last units are at zero, so the search would never see the units that the target bits need (measured:
ADR 008). Codes are unchanged. The idea is that of LinBP (Guo, Li and Chen 2020), which skips ReLU altogether in the
backward pass of the last layers.

`hash_files` hashes many files: decoded in threads, hashed in batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hashshield import imaging
from hashshield.boundary import boundary, reach
from hashshield.checkpoints.card import InputSpec
from hashshield.errors import HashshieldError, InternalError
from hashshield.imaging.photo import read_photo_file
from hashshield.models.backbones import backbone
from hashshield.models.device import exact_float32
from hashshield.transforms import pillow_view
from hashshield.types import Codes

__all__ = [
    "FrozenHash",
    "HashNet",
    "LeakyGradient",
    "displayed_rgb",
    "feature_files",
    "fold_batch_norms",
    "freeze",
    "hash_files",
    "pass_through_dead",
    "shared_codes",
    "true_gradients",
    "view_batches",
]


_SLOPE = 0.2
"""Share of the gradient that a dead unit passes on (measured: 0.4 is no better, 0.2 in all layers is worse)."""
_LAST = 2
"""Number of last activations that leak (measured: one is too few, four are no better)."""
_TOLERANCE = 1e-3
"""Largest difference of a folded network's output, as a share of its largest value."""
_PICTURE_AXES = 4


class _Clamp(torch.autograd.Function):
    """Clamp to [0, most] forwards; pass a share of the gradient backwards where the value was clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, most: float, slope: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < most))
        ctx.slope = slope
        return x.clamp(0, most)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (alive,) = ctx.saved_tensors
        (gradient,) = gradients
        return torch.where(alive, gradient, ctx.slope * gradient), None, None


class LeakyGradient(nn.Module):
    """ReLU, or ReLU6 if `most` is 6, whose clamped units pass on `slope` of the gradient."""

    def __init__(self, most: float = torch.inf, slope: float = _SLOPE) -> None:
        super().__init__()
        self.most, self.slope = most, slope

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, of any shape, clamped to [0, most]."""
        out: Tensor = _Clamp.apply(x, self.most, self.slope)
        return out


def pass_through_dead(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of `network` whose last ReLU and ReLU6 modules, in execution order, leak backwards.

    The order is observed on `example`. A network without such modules, or that calls ReLU as a function, is copied
    unchanged.
    """
    copied = copy.deepcopy(network)
    names: dict[nn.Module, str] = {
        module: name for name, module in copied.named_modules() if isinstance(module, nn.ReLU | nn.ReLU6)
    }
    met: dict[nn.Module, None] = {}

    def meet(module: nn.Module, _inputs: object, _output: object) -> None:
        met.pop(module, None)
        met[module] = None

    hooks = [module.register_forward_hook(meet) for module in names]
    with torch.inference_mode():
        copied(example)
    for hook in hooks:
        hook.remove()
    for module in list(met)[-_LAST:]:
        parent, _, attribute = names[module].rpartition(".")
        leaky = LeakyGradient(6.0 if isinstance(module, nn.ReLU6) else torch.inf)
        setattr(copied.get_submodule(parent), attribute, leaky)
    return copied


@contextmanager
def true_gradients(network: nn.Module) -> Iterator[None]:
    """Turn the leaking gradients of `network` off inside the context: to explain a code instead of changing it."""
    leaking = [module for module in network.modules() if isinstance(module, LeakyGradient)]
    slopes = [module.slope for module in leaking]
    for module in leaking:
        module.slope = 0.0
    try:
        yield
    finally:
        for module, slope in zip(leaking, slopes, strict=True):
            module.slope = slope


@torch.no_grad()
def fold_batch_norms(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a copy of `network`, in eval mode, with each batch norm folded into the convolution before it.

    "Before" means the order in which a module lists its children, which need not be the order of execution. So the
    outputs on `example` are compared, and `network` itself is returned if they differ.
    """
    folded = copy.deepcopy(network).eval()
    for parent in folded.modules():
        children = list(parent.named_children())
        for (name, layer), (after, norm) in pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                if layer.out_channels != norm.num_features:
                    continue
                setattr(parent, name, fuse_conv_bn_eval(layer, norm))
                setattr(parent, after, nn.Identity())
    before, now = network.eval()(example), folded(example)
    scale = before.abs().max().clamp_min(1e-6)
    return folded if bool((before - now).abs().max() <= _TOLERANCE * scale) else network


class HashNet(nn.Module):
    """One trunk with several code lengths, as it is trained and stored.

    `mean` and `std` are per channel in [0, 1] units. With `hidden_width` 0 the code layers read the features directly.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str,
        bits: Sequence[int],
        *,
        hidden_width: int = 0,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.trunk, width = backbone(arch)
        self.neck = nn.Sequential(nn.Linear(width, hidden_width), nn.ReLU()) if hidden_width else nn.Sequential()
        self.heads = nn.ModuleDict({str(k): nn.Linear(hidden_width or width, k) for k in bits})
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Return the (N, D) features of (N, 3, H, W) images in [0, 1]."""
        out: Tensor = self.trunk((images - self.mean) / self.std)
        return out

    def codes(self, features: Tensor) -> dict[int, Tensor]:
        """Return the (N, K) codes of (N, D) features, by code length K."""
        wide = self.neck(features)
        return {int(k): head(wide) for k, head in self.heads.items()}


class FrozenHash(nn.Module):
    """One code length of a trained network, prepared for gradients with respect to the image.

    Weights are frozen, batch norms folded, memory is laid out channels last. Gradients leak through the last dead
    units, as the module's docstring explains; `true_gradients` turns that off.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, neck: nn.Module, head: nn.Linear, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.trunk, self.neck, self.head = trunk, neck, head
        self.bits = head.out_features
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.requires_grad_(False)
        for tensor in (*self.parameters(), *self.buffers()):
            # Channels last needs four axes; tables of imported networks may have another number.
            if tensor.dim() == _PICTURE_AXES:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        self.eval()

    def forward(self, images: Tensor) -> Codes:
        """Return codes (N, K) and features (N, D) of (N, 3, H, W) images in [0, 1]."""
        return self.codes(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Return the (N, D) features of (N, 3, H, W) images in [0, 1]."""
        out: Tensor = self.trunk(((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        return out

    def codes(self, features: Tensor) -> Codes:
        """Return the codes (N, K) of (N, D) features, together with the features."""
        return Codes(self.head(self.neck(features)), features)


def freeze(network: HashNet, *, size: int) -> dict[int, FrozenHash]:
    """Return a `FrozenHash` per code length of `network`, sharing one trunk; `size` is the input's side in pixels."""
    generator = torch.Generator().manual_seed(0)
    example = torch.randn((2, 3, size, size), generator=generator)
    folded = nn.Sequential(fold_batch_norms(network.trunk, example), network.neck)
    trunk, neck = pass_through_dead(folded, example[:1]).children()
    heads = {int(k): head for k, head in network.heads.items() if isinstance(head, nn.Linear)}
    return {k: FrozenHash(trunk, neck, head, network.mean, network.std) for k, head in heads.items()}


def displayed_rgb(photo: imaging.Photo) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels as a viewer shows the photo: in displayed orientation, grey as RGB, alpha over white."""
    pixels = imaging.to_display_orientation(photo.pixels, photo.orientation)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if photo.alpha is not None:
        alpha = imaging.to_display_orientation(photo.alpha, photo.orientation)[..., None].astype(np.uint16)
        pixels = ((pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels


def view_batches(
    paths: Sequence[Path],
    prepare: Callable[[NDArray[np.uint8]], Tensor],
    *,
    batch_size: int = 32,
    jobs: int = 2,
    failed: Callable[[Path, HashshieldError], None] | None = None,
) -> Iterator[Tensor]:
    """Yield (N, 3, h, w) batches of `prepare(displayed pixels)`, in the order of `paths`.

    A file that fails is reported to `failed` and skipped. Without `failed`, raises PhotoError.
    """
    for _, images in _batches_of_files(paths, prepare, batch_size=batch_size, jobs=jobs, failed=failed):
        yield images


def _batches_of_files(
    paths: Sequence[Path],
    prepare: Callable[[NDArray[np.uint8]], Tensor],
    *,
    batch_size: int,
    jobs: int,
    failed: Callable[[Path, HashshieldError], None] | None,
) -> Iterator[tuple[list[Path], Tensor]]:
    """Yield the batches of `view_batches`, each with its paths."""

    def load(path: Path) -> Tensor | HashshieldError:
        try:
            with boundary("decode", str(path)):
                return prepare(displayed_rgb(imaging.read(read_photo_file(path, follow=True).data, name=str(path))))
        except HashshieldError as error:
            if failed is None:
                raise
            return error

    with ThreadPoolExecutor(jobs) as pool:
        # Submitting two batches ahead bounds the decoded photos in memory.
        pending = iter(paths)
        window = [(path, pool.submit(load, path)) for path in islice(pending, 2 * batch_size)]
        while window:
            batch = window[:batch_size]
            window = window[batch_size:] + [(path, pool.submit(load, path)) for path in islice(pending, len(batch))]
            files, images = [], []
            for path, item in batch:
                loaded = item.result()
                if isinstance(loaded, Tensor):
                    files.append(path)
                    images.append(loaded)
                elif failed is not None:
                    failed(path, loaded)
            if images:
                yield files, torch.stack(images)


@torch.inference_mode()
def feature_files(
    model: FrozenHash,
    size: InputSpec,
    paths: Sequence[Path],
    *,
    batch_size: int = 32,
    jobs: int = 2,
    tick: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """Return the (N, D) features of the files in the card's view; `tick` gets the size of each finished batch.

    Raises PhotoError for a file that cannot be read.
    """
    rows = []
    for images in view_batches(paths, lambda pixels: pillow_view(pixels, size), batch_size=batch_size, jobs=jobs):
        with exact_float32(model.mean.device):
            rows.append(model.features(images.to(model.mean.device)).float().cpu().numpy())
        tick(len(images))
    return np.concatenate(rows)


@torch.inference_mode()
def hash_files(
    models: Sequence[FrozenHash],
    size: InputSpec,
    paths: Sequence[Path],
    *,
    batch_size: int = 32,
    jobs: int = 2,
    tick: Callable[[int], None] = lambda done: None,
    failed: Callable[[Path, HashshieldError], None] | None = None,
) -> list[NDArray[np.float32]]:
    """Return the codes (N, K) of the files for each of `models`, all with the input `size`.

    `tick` gets the size of each finished batch. A file that fails is reported to `failed` and has no row. Without
    `failed`, raises PhotoError for a bad file and InternalError for an error in hashing.
    """
    found: list[list[NDArray[np.float32]]] = [[] for _ in models]
    batches = _batches_of_files(
        paths, lambda pixels: pillow_view(pixels, size), batch_size=batch_size, jobs=jobs, failed=failed
    )
    for files, images in batches:
        for codes in _hash_batch(models, files, images, failed):
            for rows, code in zip(found, codes, strict=True):
                rows.append(code)
        tick(len(images))
    empty = [np.zeros((0, model.bits), np.float32) for model in models]
    return [np.concatenate(rows) if rows else none for rows, none in zip(found, empty, strict=True)]


def _hash_batch(
    models: Sequence[FrozenHash],
    files: Sequence[Path],
    images: Tensor,
    failed: Callable[[Path, HashshieldError], None] | None,
) -> list[list[NDArray[np.float32]]]:
    """Return the codes of a batch, per model. If hashing raises, hash each photo alone and skip those that fail."""
    try:
        with boundary("hash", str(files[0])):
            for path in files[1:]:
                reach("hash", str(path))
            with exact_float32(models[0].mean.device):
                codes = shared_codes(models, images.to(models[0].mean.device))
            return [[code.code.float().cpu().numpy() for code in codes]]
    except InternalError as error:
        if failed is None:
            raise
        if len(files) == 1:
            failed(files[0], error)
            return []
    alone = [_hash_batch(models, [path], image[None], failed) for path, image in zip(files, images, strict=True)]
    return [codes for found in alone for codes in found]


def shared_codes(models: Sequence[FrozenHash], images: Tensor) -> list[Codes]:
    """Return the codes (N, K) of each of `models`; a trunk that several code lengths share runs once."""
    features: dict[int, Tensor] = {}
    found = []
    for model in models:
        if id(model.trunk) not in features:
            features[id(model.trunk)] = model.features(images)
        found.append(model.codes(features[id(model.trunk)]))
    return found
