"""`evaluate`: two files, or two folders of the same names, compared by eye and by hash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hashshield import imaging
from hashshield.errors import HashshieldError, UsageError
from hashshield.metrics.hamming import bits_of
from hashshield.metrics.image import linf_levels, psnr_db, ssim
from hashshield.models.device import choose_device
from hashshield.models.hash_files import upright_rgb
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.aims import Mark, measure
from hashshield.pipeline.receipt import CARD_VIEW
from hashshield.storage import read_snapshot, walk
from hashshield.types import CodeRow, Evaluation, Progress
from hashshield.views import pillow_view

__all__ = ["evaluate"]


def evaluate(
    original: Path, protected: Path, *, models: Sequence[str], device: str = "auto", progress: Progress
) -> list[Evaluation]:
    """PSNR, SSIM, L-infinity and Hamming distance of a pair of files, or of each pair of two folders.

    Files of folders are paired by relative path. Raises UsageError when one is a file and the other a folder or no
    pair is found, CheckpointError.
    """
    pairs = _pairs(original, protected)
    opened = open_models(models, device=choose_device(device))
    progress.start(len(pairs))
    rows = []
    for one, other in pairs:
        progress.photo(str(other))
        try:
            row = _compare(one, other, opened)
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
def _compare(original: Path, protected: Path, models: Sequence[OpenModel]) -> Evaluation:
    photos = [imaging.read(read_snapshot(path, follow=True).data, name=str(path)) for path in (original, protected)]
    shown = [upright_rgb(photo) for photo in photos]
    rows = tuple(_row(model, shown[0], shown[1]) for model in models)
    before, after = photos
    pixels = (before.pixels, after.pixels)
    if before.pixels.shape != after.pixels.shape or before.orientation != after.orientation:
        pixels = (shown[0], shown[1])
    if pixels[0].shape != pixels[1].shape:
        sizes = " and ".join(f"{p.shape[1]}x{p.shape[0]}" for p in pixels)
        reason = f"sizes differ ({sizes}): only the hash distance can be measured"
        return Evaluation(str(original), str(protected), "compared", reason=reason, codes=rows)
    return Evaluation(
        str(original),
        str(protected),
        "compared",
        psnr_db=psnr_db(*pixels),
        ssim=ssim(*pixels),
        linf_levels=linf_levels(*pixels),
        changed_pixels=float(np.mean((pixels[0] != pixels[1]).any(axis=2))),
        codes=rows,
    )


def _row(model: OpenModel, before: imaging.Pixels, after: imaging.Pixels) -> CodeRow:
    """Distances between the two codes; the second photo's goal is taken to be its own code."""
    codes = []
    for shown in (before, after):
        image = pillow_view(shown, model.card.input)[None].to(model.model.mean.device)
        codes.append(model.model(image).code[0].float().cpu().numpy())
    own = bits_of(codes[0])
    anchors = None if model.anchors is None else model.anchors.cpu().numpy()
    nearest = None if anchors is None else int(np.count_nonzero(anchors != own, axis=1).argmin())
    mark = Mark(model.name, own, bits_of(codes[1]), nearest, band=True)
    return measure(mark, codes[1], model.anchors, CARD_VIEW)
