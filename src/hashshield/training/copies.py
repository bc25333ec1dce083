"""Training of a copy detector: seeded, resumable, first on features computed once, then on images.

Labels are not used. Each photo is decoded once, and the network learns from pairs of edited copies of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.checkpoints.card import Card, read_card
from hashshield.checkpoints.file import write_checkpoint
from hashshield.datasets import LabelledFiles, Split
from hashshield.metrics.retrieval import bits_of, hamming
from hashshield.models.backbones import CopyTrunk
from hashshield.models.hashing import HashNet, displayed_rgb, feature_files, view_batches
from hashshield.models.load import open_models
from hashshield.training.images import edited
from hashshield.training.learner import CopyLearner, iterative_quantisation, load_state, save_state
from hashshield.training.recipe import ContrastSpec, Epoch, Recipe, Reporter, TrainingStage, learning_rate_factor
from hashshield.transforms import SQUASH, pillow_view, resized, short_side, to_image

__all__ = ["FALSE_PAIRS", "Copies", "train_copies"]

FALSE_PAIRS = 1e-3
"""Share of pairs of different photos that count as copies at the thresholds on the card."""

_SHRINKAGE = 0.1
"""Added to each standard deviation in whitening, as a share of their mean (measured on frozen features)."""
_CACHE_BYTES = 2**30
_ROTATION_PHOTOS = 2500
"""Most training photos that the rotation to bits is learnt from."""
_STRENGTHS = (0.4, 1.0)
"""Edit strengths of the two copies: a heavily edited copy should find a photo that is nearly the original."""


class Copies:
    """Edited copies of photos; each photo is decoded once, as long as the cache has room."""

    def __init__(self, paths: Sequence[Path], side: int, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._paths, self._side = paths, side
        self._cache: dict[int, Pixels] = {}
        self._free = cache_bytes

    def copy(self, index: int, other: int, random: np.random.Generator, *, strength: float) -> Tensor:
        """Return one (3, side, side) image in [0, 1]: the edited photo, squashed. Raises PhotoError."""
        made = edited(self._photo(index), self._photo(other), random, strength=strength)
        return to_image(resized(made, self._side, self._side))

    def batches(
        self, chunks: Sequence[Tensor], second_photos: Sequence[Tensor], seed: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield two (N, 3, side, side) batches per chunk of indices, one chunk prepared ahead. Raises PhotoError.

        `second_photos` has, per chunk, the indices of the photos that edits paste or blend in; `seed` is the epoch's.
        """

        def load(number: int) -> tuple[Tensor, Tensor]:
            looks: list[list[Tensor]] = [[], []]
            for index, other in zip(chunks[number].tolist(), second_photos[number].tolist(), strict=True):
                random = np.random.default_rng([*seed, index])
                for images, strength in zip(looks, _STRENGTHS, strict=True):
                    images.append(self.copy(index, other, random, strength=strength))
            return torch.stack(looks[0]), torch.stack(looks[1])

        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(load, 0)
            for number in range(len(chunks)):
                batch = pending.result()
                if number + 1 < len(chunks):
                    pending = pool.submit(load, number + 1)
                yield batch

    def _photo(self, index: int) -> Pixels:
        """Return the photo with its short side a quarter longer than `side`, from the cache if it is there."""
        small = self._cache.get(index)
        if small is None:
            path = self._paths[index]
            pixels = displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
            goal = short_side(pixels.shape[0], pixels.shape[1], self._side * 5 // 4)
            small = resized(pixels, *goal) if min(pixels.shape[:2]) > min(goal) else pixels
            if small.nbytes <= self._free:
                self._cache[index] = small
                self._free -= small.nbytes
        return small


def train_copies(
    network: HashNet,
    recipe: Recipe,
    contrast: ContrastSpec,
    *,
    files: LabelledFiles,
    split: Split,
    output: Path,
    seed: int,
    device: str,
    resume: bool,
    reporter: Reporter,
) -> Card:
    """Train `network` on the training photos of `split` and write the checkpoint to `output`.

    The thresholds on the card are measured with the stored file on the queries, which are not trained on. Raises
    PhotoError, CheckpointError, UsageError.
    """
    learner = CopyLearner(network, contrast).to(device)
    network.to(memory_format=torch.channels_last)
    network.requires_grad_(False)
    state_file = output.with_name(output.name + ".state")
    resumed = load_state(state_file, learner, recipe, seed) if resume else None
    copies = Copies([files.root / p for p in files.paths], contrast.side)
    total, before = sum(stage.epochs for stage in recipe.stages), 0
    for index, stage in enumerate(recipe.stages):
        start = max(0, resumed.epoch - before) if resumed else 0
        if start < stage.epochs:
            reporter.note(f"stage {index + 1} of {len(recipe.stages)}: {stage.train}, {stage.epochs} epochs")
            run = _Stage(contrast, stage, index, torch.from_numpy(split.training), learner, copies, seed, device)
            run.prepare(whiten=index == 0 and start == 0 and not recipe.model.start)
            if resumed is not None and start > 0:
                resumed.restore(run.optimiser)
            for epoch in range(start, stage.epochs):
                began = time.monotonic()
                loss = run.epoch(epoch)
                done = before + epoch + 1
                save_state(state_file, learner, run.optimiser, recipe, seed, done)
                reporter.epoch(Epoch(index, done, total, loss, None, time.monotonic() - began))
            resumed = None
        before += stage.epochs
    reporter.note("rotation to bits, and thresholds of the stored file")
    card = _finish(network.cpu(), recipe, files, split, output, seed)
    state_file.unlink(missing_ok=True)
    return card


class _Stage:
    """One stage of a training: its layers, its optimiser, and an epoch at a time."""

    def __init__(
        self,
        contrast: ContrastSpec,
        stage: TrainingStage,
        index: int,
        photos: Tensor,
        learner: CopyLearner,
        copies: Copies,
        seed: int,
        device: str,
    ) -> None:
        self.contrast, self.stage, self.index, self.photos = contrast, stage, index, photos
        self.learner, self.copies, self.seed, self.device = learner, copies, seed, device
        self.trunk = _trunk(learner.network)
        self.described: Tensor | None = None
        """(copies, N, `CopyTrunk.described`) of the training photos; None if the stage trains on images."""
        self.blocks = contrast.first_block if stage.train == "tail" else CopyTrunk.middle
        lite = self.trunk.lite
        late: list[nn.Module] = [lite.blocks[self.blocks :], lite.head] if stage.train == "tail" else []
        tail = [parameter for part in late for parameter in part.parameters()]
        groups: list[dict[str, Any]] = [{"params": list(self.trunk.embedding.parameters()), "lr": stage.learning_rate}]
        if tail:
            groups.append({"params": tail, "lr": stage.trunk_learning_rate or stage.learning_rate})
        for group in groups:
            group["initial_lr"] = group["lr"]
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        self.optimiser: torch.optim.Optimizer
        if stage.optimiser == "sgd":
            self.optimiser = torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=stage.weight_decay)
        else:
            self.optimiser = torch.optim.AdamW(groups, weight_decay=stage.weight_decay)
        # Batch norms keep their pretrained statistics, because edited photos are not a sample of photos.
        learner.eval()

    def prepare(self, *, whiten: bool) -> None:
        """Compute the features of a "heads" stage; with `whiten` the embedding is initialised to whiten them."""
        if self.stage.train == "heads":
            self.described = torch.stack(
                [self._described_copies(number) for number in range(self.contrast.edited_copies)]
            )
        if whiten:
            sample = self._described_copies(0) if self.described is None else self.described.flatten(0, 1)
            _whiten(self.trunk, sample.to(self.device))

    def epoch(self, epoch: int) -> float:
        """Run one epoch and return its mean loss."""
        generator = torch.Generator().manual_seed((self.seed * 1000 + self.index) * 100_000 + epoch)
        count = len(self.photos)
        order = torch.randperm(count, generator=generator)
        chunks = [chunk for chunk in torch.split(order, self.stage.batch) if len(chunk) > 1]
        second_photos = [torch.randint(count, chunk.shape, generator=generator) for chunk in chunks]
        losses = []
        for number, (first, second) in enumerate(self._embeddings(chunks, second_photos, generator, epoch)):
            factor = learning_rate_factor(epoch, epoch + (number + 1) / len(chunks), self.stage)
            for group in self.optimiser.param_groups:
                group["lr"] = group["initial_lr"] * factor
            loss: Tensor = self.learner(first, second, self.photos[chunks[number]].to(self.device))
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimiser.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _embeddings(
        self, chunks: Sequence[Tensor], second_photos: Sequence[Tensor], generator: torch.Generator, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the (N, D) embeddings of two copies of each photo, chunk by chunk."""
        if self.described is not None:
            looks = len(self.described)
            for chunk in chunks:
                first = torch.randint(looks, chunk.shape, generator=generator)
                second = (first + torch.randint(1, looks, chunk.shape, generator=generator)) % looks
                pair = [self.described[look, chunk].to(self.device) for look in (first, second)]
                yield self.trunk.embedded(pair[0]), self.trunk.embedded(pair[1])
            return
        photos = [self.photos[chunk] for chunk in chunks]
        seconds = [self.photos[other] for other in second_photos]
        for one, two in self.copies.batches(photos, seconds, (self.seed, self.index, epoch)):
            embedded = self.trunk.embedded(self._described(torch.cat([one, two])))
            yield embedded[: len(one)], embedded[len(one) :]

    def _described(self, images: Tensor) -> Tensor:
        """Return the (N, `described`) pooled maps of (N, 3, side, side) images; the early blocks are frozen."""
        network = self.learner.network
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        half = self.stage.precision == "bfloat16"
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            early = self.trunk.early((images - network.mean) / network.std, self.blocks)
        return self.trunk.late(early.float(), self.blocks)

    @torch.no_grad()
    def _described_copies(self, number: int) -> Tensor:
        """Return the (N, `described`) pooled maps of one edited copy of each training photo; number 0 is unedited.

        The whole trunk computes in the stage's precision, because none of it is trained here.
        """
        random = np.random.default_rng([self.seed, self.index, number])
        second_photos = random.permutation(len(self.photos))
        found = []
        for chunk in torch.split(torch.arange(len(self.photos)), 32):
            images = torch.stack(
                [
                    self.copies.copy(
                        int(self.photos[i]), int(self.photos[second_photos[i]]), random, strength=1.0 if number else 0.0
                    )
                    for i in chunk.tolist()
                ]
            )
            with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.stage.precision == "bfloat16"):
                found.append(self._described(images).cpu())
        return torch.cat(found)


def _trunk(network: HashNet) -> CopyTrunk:
    """Return the network's trunk; `recipe` ensures that a network with a contrast has a `CopyTrunk`."""
    assert isinstance(network.trunk, CopyTrunk)
    return network.trunk


@torch.no_grad()
def _whiten(trunk: CopyTrunk, described: Tensor) -> None:
    """Make the embedding the whitened projection on the first principal axes of (N, `described`) features."""
    mean = described.mean(0)
    values, axes = torch.linalg.eigh(torch.cov(described.T.double()))
    kept = values.flip(0)[: trunk.features].clamp_min(0).sqrt()
    weight = axes.flip(1)[:, : trunk.features] / (kept + _SHRINKAGE * kept.mean())
    trunk.embedding.weight.copy_(weight.T)
    trunk.embedding.bias.copy_(-weight.T.float() @ mean)


def _finish(network: HashNet, recipe: Recipe, files: LabelledFiles, split: Split, output: Path, seed: int) -> Card:
    """Fit the rotation to bits, write the checkpoint, measure thresholds on the stored file, and return its card."""
    every = -(-len(split.training) // _ROTATION_PHOTOS)
    learnt = [files.root / files.paths[i] for i in split.training[::every]]
    batches = view_batches(learnt, lambda pixels: pillow_view(pixels, recipe.input, SQUASH))
    torch.manual_seed(seed)
    with torch.no_grad():
        embeddings = torch.cat([network.features(images) for images in batches])
        for head in network.heads.values():
            assert isinstance(head, nn.Linear)
            weight, bias = iterative_quantisation(embeddings)
            head.weight.copy_(weight)
            head.bias.copy_(bias)
    card = Card(
        name=recipe.name,
        arch=recipe.model.arch,
        bits=recipe.model.bits,
        hidden=0,
        input=recipe.input,
        classes=(),
        dataset=recipe.data.dataset,
        split={
            "queries": len(split.queries),
            "seed": recipe.data.split_seed,
            "training": len(split.training),
            "protocol": "queries are held out; the rest is learnt from, without labels. Thresholds: "
            f"{FALSE_PAIRS:.1%} of all pairs of different queries count as copies",
        },
        recipe={**recipe.as_dict(), "seed": seed},
        licence=recipe.licence,
        attribution=recipe.attribution,
    )
    weights = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    write_checkpoint(output, card, weights, {})
    cosine, within = _thresholds(output, card, [files.root / files.paths[i] for i in split.queries])
    write_checkpoint(output, replace(card, cosine=cosine, within=within), weights, {})
    return read_card(output)


@torch.inference_mode()
def _thresholds(output: Path, card: Card, held_out: Sequence[Path]) -> tuple[float, int]:
    """Return the least cosine and the greatest distance in bits at which `FALSE_PAIRS` of all pairs count as copies."""
    model = open_models([str(output)])[0].model
    features = torch.from_numpy(feature_files(model, card.input, held_out))
    embeddings = torch.nn.functional.normalize(features).numpy()
    bits = bits_of(model.codes(features).code.numpy())
    pairs = np.triu_indices(len(held_out), 1)
    cosine = float(np.quantile((embeddings @ embeddings.T)[pairs], 1 - FALSE_PAIRS, method="higher"))
    distances = hamming(bits, bits)[pairs]
    # The greatest distance with at most that many pairs.
    counts = np.cumsum(np.bincount(distances, minlength=model.bits + 1))
    within = int(np.searchsorted(counts, FALSE_PAIRS * len(distances), side="right")) - 1
    return round(min(cosine, 0.9999), 4), max(within, 0)
