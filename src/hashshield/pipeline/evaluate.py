"""`evaluate`: two files, or two folders of the same names, compared by eye and by hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hashshield import imaging
from hashshield.arrays import Bits
from hashshield.attacks.goals import nearest_class
from hashshield.boundary import boundary
from hashshield.errors import HashshieldError, UsageError
from hashshield.imaging.formats import read_photo_file
from hashshield.metrics.image import linf_levels, perceptual_rows, psnr_db, ssim
from hashshield.metrics.retrieval import bits_of
from hashshield.models.device import choose_device
from hashshield.models.hash_files import displayed_rgb
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.receipt import CARD_VIEW, card_views, codes_of, serve, survival_rows
from hashshield.pipeline.targets import CodeTarget, measure, shared_bits
from hashshield.storage import walk
from hashshield.types import Evaluation, GoalSpec, Progress

__all__ = ["evaluate"]


def evaluate(
    original: Path,
    protected: Path,
    *,
    models: Sequence[str],
    goal: GoalSpec | None = None,
    survival: bool = False,
    device: str = "auto",
    progress: Progress,
) -> list[Evaluation]:
    """PSNR, SSIM, L-infinity and Hamming distance of a pair of files, or of each pair of two folders.

    Files of folders are paired by relative path. `goal` is a target that the second files were aimed at. With
    `survival` they are measured after what services do, too. Raises UsageError when one is a file and the other a
    folder or no pair is found, GoalError for a target that cannot be aimed at, CheckpointError.
    """
    pairs = _pairs(original, protected)
    opened = open_models(models, device=choose_device(device))
    shared_target = shared_bits(goal or GoalSpec(), opened)
    progress.start(len(pairs))
    rows = []
    for one, other in pairs:
        progress.photo(str(other))
        try:
            with boundary("compare", str(other)):
                row = _compare(one, other, opened, shared_target, survival=survival)
        except HashshieldError as error:
            row = Evaluation(str(one), str(other), "failed", reason=str(error))
        rows.append(row)
        progress.done(row)
    return rows


def _pairs(original: Path, protected: Path) -> list[tuple[Path, Path]]:
    for path in (original, protected):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    if original.is_dir() != protected.is_dir():
        raise UsageError(f"{original} and {protected}: give two files, or two folders")
    if not original.is_dir():
        return [(original, protected)]
    ours = [path.relative_to(original) for path in walk(original, failed=_unlistable)]
    pairs = [(original / name, protected / name) for name in ours if (protected / name).is_file()]
    photos = [(one, other) for one, other in pairs if _is_photo(one)]
    if not photos:
        raise UsageError(f"{original} and {protected}: hold no photos of the same names")
    return photos


def _is_photo(path: Path) -> bool:
    """Tell photos from other files by their first bytes; what cannot be read is tried, and fails with a reason."""
    try:
        with path.open("rb") as handle:
            return imaging.sniff(handle.read(64)) is not None
    except OSError:
        return True


def _unlistable(folder: Path, error: OSError) -> None:
    raise UsageError(f"{folder}: cannot be listed ({error.strerror}); make it readable") from error


@torch.inference_mode()
def _compare(
    original: Path,
    protected: Path,
    models: Sequence[OpenModel],
    shared_target: Sequence[Bits] | None,
    *,
    survival: bool,
) -> Evaluation:
    photos = [imaging.read(read_photo_file(path, follow=True).data, name=str(path)) for path in (original, protected)]
    displayed = [displayed_rgb(photo) for photo in photos]
    images = [Image.fromarray(pixels) for pixels in displayed]
    codes = [codes_of(card_views(image, models), models) for image in images]
    targets = [
        _target(
            model,
            bits_of(original_bits),
            bits_of(now) if shared_target is None else shared_target[i],
            band=shared_target is None,
        )
        for i, (model, original_bits, now) in enumerate(zip(models, *codes, strict=True))
    ]
    rows = [
        measure(target, now, m.anchors, CARD_VIEW) for target, now, m in zip(targets, codes[1], models, strict=True)
    ]
    hashed = Evaluation(str(original), str(protected), "compared", codes=tuple(rows))
    if survival:
        transformed = serve(images[1], models, every=True)
        hashed = replace(
            hashed,
            survival=survival_rows(transformed, targets, models, tolerance=None),
            perceptual=perceptual_rows(*images),
        )
    before, after = photos
    pixels = (before.pixels, after.pixels)
    if before.pixels.shape != after.pixels.shape or before.orientation != after.orientation:
        pixels = (displayed[0], displayed[1])
    if pixels[0].shape != pixels[1].shape:
        sizes = " and ".join(f"{p.shape[1]}x{p.shape[0]}" for p in pixels)
        reason = f"sizes differ ({sizes}): only the hash distance can be measured"
        return replace(hashed, reason=reason)
    return replace(
        hashed,
        psnr_db=psnr_db(*pixels),
        ssim=ssim(*pixels),
        linf_levels=linf_levels(*pixels),
        changed_pixels=float(np.mean((pixels[0] != pixels[1]).any(axis=2))),
    )


def _target(model: OpenModel, original_bits: Bits, wanted: Bits, *, band: bool) -> CodeTarget:
    anchors = None if model.anchors is None else model.anchors.cpu().numpy()
    return CodeTarget(
        model.name, original_bits, wanted, None if anchors is None else nearest_class(original_bits, anchors), band
    )
