"""Networks in training: initial weights, losses, adversarial images, and the state of an interrupted training.

Initial weights are pretrained, another checkpoint's, or those of the saved state, which is a safetensors file and never
a pickle. The losses of semantic codes are those of DPSH (Li et al. 2016) with the classification of DSDH (Li et al.
2017). A copy detector learns by the contrast and entropy losses of SSCD (Pizzi et al. 2022).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softplus

from hashshield.errors import CheckpointError, StorageError, UsageError
from hashshield.models.backbones import CopyTrunk, pretrained_state
from hashshield.models.hashing import HashNet
from hashshield.models.load import open_checkpoint
from hashshield.paths import exists
from hashshield.training.recipe import ContrastSpec, LossWeights, Recipe

__all__ = [
    "CopyLearner",
    "Learner",
    "TrainingState",
    "adversarial_images",
    "check_writable",
    "contrast_loss",
    "entropy_loss",
    "iterative_quantisation",
    "load_initial_weights",
    "load_state",
    "pairwise_likelihood",
    "quantisation",
    "save_state",
]

_SMALLEST_STD = 1e-2
"""Least standard deviation to divide features by, so that constant ones are not amplified."""


class Learner(nn.Module):
    """A `HashNet` that learns all code lengths together, with what only training needs.

    These are dropout, standardisation of the features, and a classifier on each code.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, network: HashNet, classes: int, loss: LossWeights, *, multilabel: bool) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.half_trunk = False
        """True if the trunk computes in bfloat16."""
        self.multilabel = multilabel
        """True if photos of the dataset have several labels, even if those of a batch have one each."""
        self.dropout = nn.Dropout(0.0)
        self.classifiers = nn.ModuleDict({k: nn.Linear(int(k), classes) for k in network.heads})
        width = self._first_layers()[0].in_features
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_std", torch.ones(width))

    def features(self, images: Tensor) -> Tensor:
        """Return the (N, D) raw features, float32, of (N, 3, H, W) images in [0, 1]."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.half_trunk):
            features = self.network.features(images)
        return features.float()

    def codes(self, features: Tensor) -> dict[int, Tensor]:
        """Return one (N, K) relaxed code per code length, for (N, D) raw features."""
        wide = self.dropout(self.network.neck((features - self.feature_mean) / self.feature_std))
        return {int(k): head(wide) for k, head in self.network.heads.items()}

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss, a mean over code lengths, for (N, D) features and (N, L) label sets in {0, 1}."""
        similar = (labels @ labels.T) > 0
        total = features.new_zeros(())
        for bits, code in self.codes(features).items():
            total = total + pairwise_likelihood(code, code, similar, positive_share=self.loss.positive_share)
            total = total + self.loss.quantisation * quantisation(code)
            if self.loss.classification:
                scores = self.classifiers[str(bits)](torch.tanh(code))
                total = total + self.loss.classification * _classification(scores, labels, multilabel=self.multilabel)
        return total / len(self.network.heads)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of neck, code layers and classifiers."""
        yield from self.network.neck.parameters()
        yield from self.network.heads.parameters()
        yield from self.classifiers.parameters()

    @torch.no_grad()
    def standardise(self, features: Tensor, *, trained: bool) -> None:
        """Standardise features from now on, with mean and standard deviation of (N, D) `features`.

        With `trained`, the layers that read them were trained on raw features and are adjusted, so that codes stay the
        same. Untrained layers are not.
        """
        self.feature_mean.copy_(features.mean(0))
        self.feature_std.copy_(features.std(0).clamp_min(_SMALLEST_STD))
        if trained:
            for layer in self._first_layers():
                layer.bias.add_(layer.weight @ self.feature_mean)
                layer.weight *= self.feature_std

    @torch.no_grad()
    def fold_standardisation(self) -> None:
        """Fold the standardisation into the first linear layers, so that the network reads raw features again."""
        for layer in self._first_layers():
            layer.weight /= self.feature_std
            layer.bias.sub_(layer.weight @ self.feature_mean)
        self.feature_mean.zero_()
        self.feature_std.fill_(1.0)

    def _first_layers(self) -> list[nn.Linear]:
        """Return the linear layers that read the features: the neck's, or without a neck those of each code length."""
        layers = [m for m in self.network.neck.modules() if isinstance(m, nn.Linear)]
        return layers[:1] or [m for m in self.network.heads.values() if isinstance(m, nn.Linear)]


def pairwise_likelihood(code: Tensor, other: Tensor, similar: Tensor, *, positive_share: float | None = 0.5) -> Tensor:
    """Return the negative log-likelihood of pairwise labels (DPSH, Li et al. 2016, equation 2), a scalar.

    It is -(s * theta - log(1 + e^theta)) with theta = <u, v> / 2, as a mean over pairs, for relaxed codes (N, K) and
    (M, K) and `similar`, (N, M) bool. About 1% of all pairs are similar: `positive_share` weights them to make up that
    share of the loss; None leaves pairs unweighted.
    """
    theta = code @ other.T / 2
    loss = softplus(theta) - similar * theta
    if positive_share is None or not bool(similar.any()) or bool(similar.all()):
        return loss.mean()
    return positive_share * loss[similar].mean() + (1 - positive_share) * loss[~similar].mean()


def quantisation(code: Tensor) -> Tensor:
    """Return the mean squared distance of a relaxed code to its bits (DPSH, equation 4), a scalar."""
    return (code - torch.where(code > 0, 1.0, -1.0)).square().mean()


def _classification(scores: Tensor, labels: Tensor, *, multilabel: bool) -> Tensor:
    """Return the cross-entropy of (N, L) scores, or the binary one for several labels per photo (DSDH)."""
    if multilabel:
        return binary_cross_entropy_with_logits(scores, labels)
    return cross_entropy(scores, labels.argmax(1))


def adversarial_images(
    learner: Learner, images: Tensor, labels: Tensor, *, tau: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Return the (N, 3, H, W) images in [0, 1], changed by at most `tau` to make the learner's loss large.

    This is the inner step of adversarial training (Madry et al. 2018): projected gradient ascent with sign steps of
    2.5 tau / steps from a random start. Batch norms use their running statistics and do not learn from these passes.
    Modes and `requires_grad` are left as they were.
    """
    modes = [(module, module.training) for module in learner.modules()]
    learner.eval()
    trainable = [p for p in learner.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    noise = torch.rand(images.shape, generator=generator).to(images.device)
    # Clamped here instead of in front of the network: there a black or white pixel pushed out of range would get no
    # gradient and never change again.
    low, high = (images - tau).clamp(0, 1), (images + tau).clamp(0, 1)
    adversarial = (images + (2 * noise - 1) * tau).clamp(0, 1)
    for _ in range(steps):
        adversarial.requires_grad_(True)
        loss = learner(learner.features(adversarial), labels)
        (uphill,) = torch.autograd.grad(loss, adversarial)
        adversarial = torch.clamp(adversarial.detach() + 2.5 * tau / steps * uphill.sign(), low, high)
    for parameter in trainable:
        parameter.requires_grad_(True)
    for module, training in modes:
        module.training = training
    return adversarial


_NEAREST = 1e-4
"""Least squared distance in the entropy term, so that equal embeddings have a finite gradient."""


def contrast_loss(first: Tensor, second: Tensor, photos: Tensor, memory: Tensor, of: Tensor, *, heat: float) -> Tensor:
    """Return InfoNCE, a scalar, of (N, D) unit embeddings of two copies of N photos (SSCD, equation 2).

    `photos` (N,) are the ids of the photos. `memory` (M, D) are embeddings of the photos `of` (M,), -1 for a free slot;
    they repel, except those of the same photo. `heat` is the temperature.
    """
    embeddings = torch.cat([first, second])
    photo_ids = torch.cat([photos, photos])
    scores = embeddings @ torch.cat([embeddings, memory]).T / heat
    same = photo_ids[:, None] == torch.cat([photo_ids, of])[None]
    pair = torch.arange(len(embeddings), device=embeddings.device).roll(len(first))
    ignored = same | (torch.cat([photo_ids, of]) < 0)[None]
    ignored[torch.arange(len(embeddings)), pair] = False
    return cross_entropy(scores.masked_fill(ignored, -torch.inf), pair)


def entropy_loss(embeddings: Tensor, photo_ids: Tensor, memory: Tensor, of: Tensor) -> Tensor:
    """Return the mean negative logarithm of the distance to the nearest embedding of another photo, a scalar.

    This is Kozachenko and Leonenko's estimate of differential entropy (SSCD, equation 4), which spreads the embeddings
    over the sphere. `embeddings` (N, D) are unit embeddings of the photos `photo_ids` (N,); `memory` and `of` are as in
    `contrast_loss`.
    """
    others, whose = torch.cat([embeddings, memory]), torch.cat([photo_ids, of])
    cosines = embeddings @ others.T
    ignored = (photo_ids[:, None] == whose[None]) | (whose < 0)[None]
    nearest = cosines.masked_fill(ignored, -1.0).amax(dim=1)
    return -0.5 * torch.log((2 - 2 * nearest).clamp_min(_NEAREST)).mean()


class CopyLearner(nn.Module):
    """A `HashNet` on a `CopyTrunk` that learns its embedding, with the memory of earlier batches."""

    memory: Tensor
    memory_of: Tensor
    memory_next: Tensor

    def __init__(self, network: HashNet, contrast: ContrastSpec) -> None:
        super().__init__()
        self.network, self.contrast = network, contrast
        assert isinstance(network.trunk, CopyTrunk)
        width = network.trunk.features
        self.register_buffer("memory", torch.zeros(contrast.memory, width))
        self.register_buffer("memory_of", torch.full((contrast.memory,), -1))
        self.register_buffer("memory_next", torch.zeros((), dtype=torch.long))

    def forward(self, first: Tensor, second: Tensor, photos: Tensor) -> Tensor:
        """Return the scalar loss for (N, D) unit embeddings of two copies of the N `photos`, and add them to memory."""
        contrast = contrast_loss(first, second, photos, self.memory, self.memory_of, heat=self.contrast.temperature)
        embeddings, photo_ids = torch.cat([first, second]), torch.cat([photos, photos])
        loss = contrast + self.contrast.entropy * entropy_loss(embeddings, photo_ids, self.memory, self.memory_of)
        self._remember(embeddings.detach(), photo_ids)
        return loss

    def _remember(self, embeddings: Tensor, photo_ids: Tensor) -> None:
        """Replace the oldest embeddings in memory."""
        size = len(self.memory)
        if size == 0:
            return
        embeddings, photo_ids = embeddings[-size:], photo_ids[-size:]
        places = (self.memory_next + torch.arange(len(embeddings), device=embeddings.device)) % size
        # New tensors, because the gradient of the loss still needs the old ones.
        memory, of = self.memory.clone(), self.memory_of.clone()
        memory[places], of[places] = embeddings, photo_ids
        self.memory, self.memory_of = memory, of
        self.memory_next = (self.memory_next + len(embeddings)) % size


def iterative_quantisation(embeddings: Tensor, *, steps: int = 50) -> tuple[Tensor, Tensor]:
    """Return weight (D, D) and bias (D,) of a linear layer whose signs approximate (N, D) embeddings best.

    This is ITQ (Gong and Lazebnik 2011, section 2.2) with as many bits as dimensions, starting from the principal axes
    and a random rotation drawn by torch's generator. The rotation is scaled so that codes have a mean magnitude of 1,
    like those of semantic networks, to suit the margins of a search.
    """
    mean = embeddings.mean(0)
    centred = (embeddings - mean).double()
    _, axes = torch.linalg.eigh(centred.T @ centred)
    reduced = centred @ axes
    rotation, _ = torch.linalg.qr(torch.randn(len(axes), len(axes), dtype=torch.float64))
    for _ in range(steps):
        turned = reduced @ rotation
        left, _, right = torch.linalg.svd(torch.where(turned > 0, 1.0, -1.0).double().T @ reduced)
        rotation = (left @ right).T
    scale = 1 / (reduced @ rotation).abs().mean()
    weight = (scale * axes @ rotation).T.float()
    return weight, -weight @ mean


def load_initial_weights(network: HashNet, recipe: Recipe) -> None:
    """Load the weights that the recipe names into `network`, if any.

    Raises UnknownNameError, UsageError, and CheckpointError if they are not available or do not fit.
    """
    if recipe.model.pretrained:
        network.trunk.load_state_dict(pretrained_state(recipe.model.arch, network.trunk))
    if recipe.model.start:
        reference, checkpoint = open_checkpoint(recipe.model.start)
        _load(network, checkpoint.weights, reference.path, "architecture, code lengths and hidden width")
    if recipe.model.trunk:
        _load_trunk(network.trunk, recipe)


def _load_trunk(trunk: nn.Module, recipe: Recipe) -> None:
    """Load the trunk of the checkpoint `model.trunk`. Raises UnknownNameError, CheckpointError, UsageError."""
    reference, checkpoint = open_checkpoint(recipe.model.trunk)
    theirs, ours = checkpoint.card.input, recipe.input
    if (theirs.mean, theirs.std) != (ours.mean, ours.std):
        raise UsageError(
            f"{reference.path}: its trunk reads images with mean {theirs.mean} and std {theirs.std}, the recipe says "
            f"{ours.mean} and {ours.std}; take over the former"
        )
    prefix = "trunk."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint.weights.items() if k.startswith(prefix)}
    _load(trunk, weights, reference.path, "architecture")


def _load(part: nn.Module, weights: Mapping[str, Tensor], path: Path, same: str) -> None:
    """Load weights of the file `path`; `same` names what must agree. Raises CheckpointError if they do not fit."""
    counters = {k: v for k, v in part.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        part.load_state_dict({**counters, **weights})
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its tensors do not fit the recipe ({str(error).splitlines()[-1].strip()[:200]}); start from a "
            f"checkpoint of the same {same}"
        ) from error


class TrainingState:
    """The position of an interrupted training, and the tensors of its optimiser."""

    def __init__(self, epoch: int, tensors: dict[str, Tensor]) -> None:
        self.epoch = epoch
        """Epochs finished so far, over all stages."""
        self._tensors = tensors

    def restore(self, optimiser: torch.optim.Optimizer) -> None:
        """Restore the optimiser's moments from the saved state."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self._tensors.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = tensor
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save_state(
    path: Path, learner: nn.Module, optimiser: torch.optim.Optimizer, recipe: Recipe, seed: int, epoch: int
) -> None:
    """Write weights, optimiser and position; the old file is replaced only once the new one is complete.

    Raises StorageError.
    """
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in learner.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v).cpu().contiguous() for k, v in values.items()}
    partial = _partial(path)
    position = {"epoch": str(epoch), "seed": str(seed), "recipe": json.dumps(recipe.as_dict())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial, metadata=position)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{path}: the state of the training cannot be written ({error}); make sure that its disk has space, and "
            "continue with --resume"
        ) from error


def check_writable(path: Path) -> None:
    """Create the folder of a state file, and raise OSError if the file could not be written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    partial.touch()
    partial.unlink()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def load_state(path: Path, learner: nn.Module, recipe: Recipe, seed: int) -> TrainingState | None:
    """Load the state saved at `path` into `learner`; return None if there is none.

    Raises UsageError if it is damaged or belongs to another recipe or seed.
    """
    if not exists(path):
        return None
    try:
        with safe_open(path, framework="pt") as handle:
            position = handle.metadata()
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: cannot be resumed ({error}); remove it to start again") from error
    if position["recipe"] != json.dumps(recipe.as_dict()) or position["seed"] != str(seed):
        raise UsageError(f"{path}: belongs to another recipe or seed; remove it to start again")
    learner.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    moments = {k.removeprefix("optimiser."): v for k, v in tensors.items() if k.startswith("optimiser.")}
    return TrainingState(int(position["epoch"]), moments)
