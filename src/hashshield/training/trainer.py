"""Training of a hash network: seeded, resumable, in stages on frozen features or on images.

Read `train` first; `_StageRun` is one stage of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hashshield.arrays import Bits, Indices, Labels
from hashshield.checkpoints.card import Card, read_card
from hashshield.checkpoints.file import REFERENCES, with_map, write_checkpoint
from hashshield.datasets import LabelledFiles, Split, open_dataset
from hashshield.errors import CheckpointError, UsageError
from hashshield.metrics.retrieval import bits_of, hamming_map, unseen_map
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hashing import HashNet, hash_files
from hashshield.models.load import open_models
from hashshield.storage.calls import explain
from hashshield.training.copies import train_copies
from hashshield.training.images import Images, view_features
from hashshield.training.learner import (
    Learner,
    adversarial_images,
    check_writable,
    load_initial_weights,
    load_state,
    save_state,
)
from hashshield.training.recipe import Epoch, Recipe, Reporter, TrainingStage, learning_rate_factor

__all__ = ["Epoch", "Reporter", "learning_rate_factor", "reference_rows", "train"]


def train(
    recipe: Recipe,
    *,
    data: Path,
    output: Path,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    reporter: Reporter,
) -> Card:
    """Train by `recipe` on the dataset in `data` and write the checkpoint to `output`.

    With `resume` an interrupted training continues from the file `output` plus `.state`, and gives the same result.
    The MAPs on the card are measured on the stored float16 file. Raises UsageError, UnknownNameError, PhotoError,
    CheckpointError.
    """
    _check_output(output)
    device = choose_device(device)
    keep_freed_memory()
    files = open_dataset(recipe.data.dataset, data, split=recipe.data.split)
    split = files.split(seed=recipe.data.split_seed, queries=recipe.data.queries, training=recipe.data.training)
    torch.manual_seed(seed)
    network = _new_network(recipe)
    if recipe.contrast is not None:
        return train_copies(
            network,
            recipe,
            recipe.contrast,
            files=files,
            split=split,
            output=output,
            seed=seed,
            device=device,
            resume=resume,
            reporter=reporter,
        )
    multilabel = bool((files.labels.sum(1) > 1).any())
    learner = Learner(network, len(files.classes), recipe.loss, multilabel=multilabel).to(device)
    # Set before the first stage, so that a resumed training has the same memory layout.
    network.to(memory_format=torch.channels_last)
    state_file = _state_file(output)
    resumed = load_state(state_file, learner, recipe, seed) if resume else None
    total = sum(stage.epochs for stage in recipe.stages)
    before = 0
    for index, stage in enumerate(recipe.stages):
        start = resumed.epoch - before if resumed else 0
        if start < stage.epochs:
            optimiser = _optimiser(learner, stage)
            if resumed is not None and start > 0:
                resumed.restore(optimiser)
            run = _StageRun(recipe, stage, index, files, split, learner, optimiser, seed, device)
            reporter.note(f"stage {index + 1} of {len(recipe.stages)}: {stage.train}, {stage.epochs} epochs")
            trained = index > 0 or bool(recipe.model.start)
            run.prepare(trained=trained and start == 0)
            for epoch in range(max(start, 0), stage.epochs):
                began = time.monotonic()
                loss, quality = run.epoch(epoch)
                done = before + epoch + 1
                save_state(state_file, learner, optimiser, recipe, seed, done)
                reporter.epoch(Epoch(index, done, total, loss, quality, time.monotonic() - began))
            resumed = None
        if start <= stage.epochs:
            # If this is skipped, the state was saved in a later stage, when it had been done.
            learner.fold_standardisation()
        before += stage.epochs
    reporter.note("anchors and MAP of the stored file")
    card = _finish(learner.network, recipe, files, split, output, seed)
    state_file.unlink(missing_ok=True)
    return card


def _new_network(recipe: Recipe) -> HashNet:
    """Return the network of the recipe with the weights that it starts from."""
    model, size = recipe.model, recipe.input
    network = HashNet(model.arch, model.bits, hidden_width=model.hidden, mean=size.mean, std=size.std)
    load_initial_weights(network, recipe)
    return network


def _optimiser(learner: Learner, stage: TrainingStage) -> torch.optim.Optimizer:
    groups = [{"params": list(learner.head_parameters()), "lr": stage.learning_rate}]
    if stage.train == "all":
        trunk = learner.network.trunk.parameters()
        groups.append({"params": list(trunk), "lr": stage.trunk_learning_rate or stage.learning_rate})
    for group in groups:
        group["initial_lr"] = group["lr"]
    if stage.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=stage.weight_decay)
    return torch.optim.AdamW(groups, weight_decay=stage.weight_decay)


@dataclass
class _StageRun:
    """One stage of a training: its data, and an epoch at a time."""

    recipe: Recipe
    stage: TrainingStage
    index: int
    files: LabelledFiles
    split: Split
    learner: Learner
    optimiser: torch.optim.Optimizer
    seed: int
    device: str
    features: Tensor | None = None
    images: Images | None = None

    def prepare(self, *, trained: bool) -> None:
        """Set up the stage's data; `trained`: the heads were trained on raw features before."""
        self.learner.dropout.p = self.stage.dropout
        self.learner.half_trunk = self.stage.precision == "bfloat16"
        heads_only = self.stage.train == "heads"
        self.learner.network.trunk.requires_grad_(not heads_only)
        paths = [self.files.root / p for p in self.files.paths]
        if not heads_only:
            self.images = Images(paths, self.recipe.input, augment=self.stage.augment, pad=self.stage.pad)
        else:
            self.features = view_features(self.learner.network, paths, self.recipe.input, device=self.device)
            self.learner.standardise(self.features[torch.from_numpy(self.split.training)], trained=trained)

    def epoch(self, epoch: int) -> tuple[float, float | None]:
        """Run one epoch and return its mean loss, and the MAP if it was measured."""
        generator = torch.Generator().manual_seed((self.seed * 1000 + self.index) * 100_000 + epoch)
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))  # dropout draws from the global one
        self.learner.train(True)
        if self.stage.train == "heads":
            self.learner.network.trunk.eval()
        losses = []
        for index, (features, labels) in enumerate(self._batches(generator)):
            self._schedule(epoch, index)
            loss: Tensor = self.learner(features, labels)
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimiser.step()
            losses.append(float(loss.detach()))
        self.learner.train(False)
        return float(np.mean(losses)), self._quality(epoch)

    def _schedule(self, epoch: int, batch: int) -> None:
        batches = len(self.split.training) / self.stage.batch
        factor = learning_rate_factor(epoch, epoch + (batch + 1) / batches, self.stage)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (N, D) features and (N, L) labels of the training photos, in random order."""
        labels = torch.from_numpy(self.files.labels).float()
        order = torch.from_numpy(self.split.training)[torch.randperm(len(self.split.training), generator=generator)]
        chunks = [c for c in torch.split(order, self.stage.batch) if len(c) > 1]
        if self.features is not None:
            for chunk in chunks:
                yield self.features[chunk].to(self.device), labels[chunk].to(self.device)
            return
        assert self.images is not None
        for chunk, batch in zip(chunks, self.images.batches(chunks, generator), strict=True):
            images, targets = batch.to(self.device), labels[chunk].to(self.device)
            if self.stage.adversarial_steps:
                images = adversarial_images(
                    self.learner,
                    images,
                    targets,
                    tau=self.stage.adversarial_tau,
                    steps=self.stage.adversarial_steps,
                    generator=generator,
                )
            yield self.learner.features(images), targets

    @torch.inference_mode()
    def _quality(self, epoch: int) -> float | None:
        """Return the MAP, on every fifth epoch and the last one of a stage with frozen features; else None."""
        last = epoch == self.stage.epochs - 1
        if self.features is None or not (last or epoch % 5 == 4):
            return None
        codes = self.learner.codes(self.features.to(self.device))[max(self.recipe.model.bits)]
        return _map(bits_of(codes.cpu().numpy()), self.files, self.split)


def _map(bits: Bits, files: LabelledFiles, split: Split) -> float:
    queries, database = split.queries, split.database
    return hamming_map(bits[queries], bits[database], files.labels[queries], files.labels[database])


def _anchors(bits: Bits, labels: Labels) -> Tensor:
    """Return the (C, K) anchor codes: the bitwise majority over each class (Bai et al. 2020); a tie is -1."""
    return torch.from_numpy(bits_of(labels.T.astype(np.float32) @ bits.astype(np.float32)))


def reference_rows(split: Split) -> Indices | None:
    """Return the rows of the 1,000 photos whose codes become reference codes, drawn from the database with seed 0.

    None if the database has fewer. Queries are excluded, because benches protect those.
    """
    if len(split.database) < REFERENCES:
        return None
    drawn: Indices = np.random.default_rng(0).permutation(split.database)[:REFERENCES]
    return drawn


def _check_output(output: Path) -> None:
    """Raise UsageError if `output` exists and is not a checkpoint, or cannot be written."""
    try:
        check_writable(_state_file(output))
    except OSError as error:
        raise UsageError(f"--output {output}: {explain(error)}; name another file") from error
    if not os.path.lexists(output):
        return
    try:
        read_card(output)
    except CheckpointError as error:
        raise UsageError(f"--output {output}: exists and is no checkpoint, so it is left as it is: {error}") from error


def _state_file(output: Path) -> Path:
    return output.with_name(output.name + ".state")


def _finish(network: HashNet, recipe: Recipe, files: LabelledFiles, split: Split, output: Path, seed: int) -> Card:
    """Write the checkpoint, measure anchors and MAPs on the stored file, add them, and return its card."""
    card = Card(
        name=recipe.name,
        arch=recipe.model.arch,
        bits=tuple(sorted(recipe.model.bits)),
        hidden=recipe.model.hidden,
        input=recipe.input,
        classes=files.classes,
        dataset=recipe.data.dataset,
        split={
            **({"name": recipe.data.split} if recipe.data.split else {}),
            "queries": len(split.queries),
            "seed": recipe.data.split_seed,
            "database": len(split.database),
            **({"training": len(split.training)} if len(split.training) < len(split.database) else {}),
            "protocol": split.protocol,
        },
        recipe={**recipe.as_dict(), "seed": seed},
        licence=recipe.licence,
        attribution=recipe.attribution,
    )
    weights = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    write_checkpoint(output, card, weights, {})
    models = [opened.model for opened in open_models([f"{output}:{k}" for k in card.bits])]
    codes = hash_files(models, card.input, [files.root / p for p in files.paths])
    bits = {k: bits_of(code) for k, code in zip(card.bits, codes, strict=True)}
    anchors = {k: _anchors(b[split.database], files.labels[split.database]) for k, b in bits.items()}
    rows = reference_rows(split)
    references = {} if rows is None else {k: b[rows] for k, b in bits.items()}
    write_checkpoint(output, card, weights, anchors, references=references)
    with_map(
        output,
        {k: _map(b, files, split) for k, b in bits.items()},
        {k: unseen_map(b[split.queries], files.labels[split.queries]) for k, b in bits.items()},
    )
    return read_card(output)
