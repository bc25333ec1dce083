"""`evaluate`: compare two files, or the files of the same name in two folders, by image quality and hash distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hashshield import imaging
from hashshield.arrays import Bits, Pixels
from hashshield.attacks.goals import nearest_class
from hashshield.attacks.presets import preset as find_preset
from hashshield.boundary import boundary
from hashshield.errors import HashshieldError, StorageError, UsageError
from hashshield.imaging.photo import read_photo_file
from hashshield.metrics.image import linf_levels, perceptual_rows, psnr_db, ssim
from hashshield.metrics.retrieval import bits_of
from hashshield.metrics.visibility import visibility
from hashshield.models.device import choose_device
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import OpenModel, network_views, open_models, views_of
from hashshield.paths import exists, is_file, is_folder, trouble
from hashshield.pipeline.receipt import serve, survival_rows, visibility_of
from hashshield.pipeline.targets import CodeTarget, measure, read_target, shared_bits
from hashshield.storage import Record, Store, walk
from hashshield.storage.calls import explain
from hashshield.transforms.pillow import JPEG_Q75, SERVICES
from hashshield.types import Evaluation, GoalSpec, Progress
from hashshield.visible import word

__all__ = ["evaluate"]


def evaluate(
    original: Path,
    protected: Path,
    *,
    models: Sequence[str],
    goal: GoalSpec | None = None,
    preset: str = "balanced",
    survival: bool = False,
    vault: Path | None = None,
    device: str = "auto",
    progress: Progress,
) -> list[Evaluation]:
    """Return visibility, PSNR, SSIM, L-infinity and Hamming distances of two files, or of each pair of two folders.

    Files of folders are paired by relative path. `goal` is the target of the second files. A protected photo in the
    ledger, compared with its own original, is measured as `protect` measured it: in the same views and against the
    same goal, unless another is given. Others are measured in the views of `preset`. With `survival` the second files
    are also hashed after all services, else after JPEG q75 only. Raises UsageError if one path is a file and the other
    a folder or no pair is found, GoalError for an unusable target, CheckpointError.
    """
    pairs = _pairs(original, protected)
    with _ledger(vault, progress) as store:
        opened = open_models(models, device=choose_device(device))
        shared = None if goal is None else shared_bits(goal, opened)
        comparison = _Comparison(opened, find_preset(preset).views, goal, shared, store, survival)
        progress.start(len(pairs))
        rows = []
        for one, other in pairs:
            progress.photo(str(other))
            try:
                with boundary("compare", str(other)):
                    row = comparison.row(one, other)
            except HashshieldError as error:
                row = Evaluation(str(one), str(other), "failed", reason=str(error))
            rows.append(row)
            progress.done(row)
    return rows


@contextmanager
def _ledger(vault: Path | None, progress: Progress) -> Iterator[Store | None]:
    """Yield the store; None, after a notice, if it cannot be read."""
    try:
        store = Store.open(vault, reading=True)
    except StorageError as error:
        progress.notice(f"{error}; photos are compared without what was recorded of them")
        yield None
        return
    with store:
        for notice in store.notices:
            progress.notice(notice)
        yield store


def _pairs(original: Path, protected: Path) -> list[tuple[Path, Path]]:
    for path in (original, protected):
        error = trouble(path)
        if error is not None:
            raise UsageError(f"{path}: {explain(error)}")
        if not exists(path):
            raise UsageError(f"{path}: no such file or folder")
    if is_folder(original) != is_folder(protected):
        raise UsageError(f"{original} and {protected}: give two files, or two folders")
    if not is_folder(original):
        return [(original, protected)]
    ours = [path.relative_to(original) for path in walk(original, failed=_unlistable)]
    pairs = [(original / name, protected / name) for name in ours if is_file(protected / name)]
    photos = [(one, other) for one, other in pairs if _is_photo(one)]
    if not photos:
        raise UsageError(f"{original} and {protected}: hold no photos with the same names")
    return photos


def _is_photo(path: Path) -> bool:
    """Return whether the first bytes are a photo's; True for an unreadable file, which then fails with a reason."""
    try:
        with path.open("rb") as handle:
            return imaging.sniff(handle.read(64)) is not None
    except OSError:
        return True


def _unlistable(folder: Path, error: OSError) -> None:
    raise UsageError(f"{folder}: cannot be listed ({error.strerror}); make it readable") from error


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The settings that all pairs share."""

    models: Sequence[OpenModel]
    views: Sequence[str]
    goal: GoalSpec | None
    shared: Sequence[Bits] | None
    """(K,) target bits per model, of a goal that is the same for all photos."""
    store: Store | None
    """The ledger of protected photos, if there is one."""
    survival: bool

    @torch.inference_mode()
    def row(self, original: Path, protected: Path) -> Evaluation:
        """Compare two files. Raises PhotoError, StorageError."""
        snapshots = [read_photo_file(path, follow=True) for path in (original, protected)]
        names = (str(original), str(protected))
        before, after = (imaging.read(file.data, name=name) for file, name in zip(snapshots, names, strict=True))
        displayed = [displayed_rgb(photo) for photo in (before, after)]
        images = [Image.fromarray(pixels) for pixels in displayed]
        record = None if self.store is None else self.store.known(snapshots[1].sha256, imaging.pixel_digest(after))
        if record is not None and record.sha256_before != snapshots[0].sha256:
            record = None
        targets, codes = self._targets(record, images)
        by_name = {model.name: model for model in self.models}
        transformed = serve(images[1], self.models, SERVICES if self.survival else (JPEG_Q75,))
        tolerance = None if record is None else record.details.get("tolerance")
        hashed = Evaluation(
            *names,
            "compared",
            codes=tuple(
                measure(target, code, by_name[target.model].anchors, target.view, card=by_name[target.model].card)
                for target, code in zip(targets, codes, strict=True)
            ),
            survival=survival_rows(transformed, targets, self.models, tolerance=tolerance),
            perceptual=perceptual_rows(*images) if self.survival else (),
        )
        return _with_quality(hashed, (before, after), displayed)

    def _targets(
        self, record: Record | None, images: Sequence[Image.Image]
    ) -> tuple[list[CodeTarget], list[NDArray[np.float32]]]:
        """Return the targets of the protected photo, one per network and view, and its codes (K,) in each."""
        recorded = [] if record is None or self.goal is not None else [read_target(m) for m in record.details["marks"]]
        looks = network_views(self.models, tuple(dict.fromkeys(t.view for t in recorded)) or self.views)
        before, after = (
            [look.model.hash_view(view).code for look, view in zip(looks, views_of(image, looks), strict=True)]
            for image in images
        )
        known = {(target.model, target.view): target for target in recorded}
        wanted = dict(zip((model.name for model in self.models), self.shared or (), strict=False))
        targets = []
        for look, own, now in zip(looks, before, after, strict=True):
            model = look.model
            anchors = None if model.anchors is None else model.anchors.cpu().numpy()
            targets.append(
                known.get((model.name, look.view))
                or CodeTarget(
                    model.name,
                    bits_of(own),
                    wanted.get(model.name, bits_of(now)),
                    None if anchors is None else nearest_class(bits_of(own), anchors),
                    model.name not in wanted,
                    look.view,
                )
            )
        return targets, after


def _with_quality(row: Evaluation, photos: Sequence[imaging.Photo], displayed: Sequence[Pixels]) -> Evaluation:
    """Add the pixel differences: of stored pixels if both have the same shape and orientation, else as displayed."""
    before, after = photos
    pixels = (before.pixels, after.pixels)
    if before.pixels.shape != after.pixels.shape or before.orientation != after.orientation:
        pixels = (displayed[0], displayed[1])
    if pixels[0].shape != pixels[1].shape:
        sizes = " and ".join(f"{p.shape[1]}x{p.shape[0]}" for p in pixels)
        return replace(row, reason=f"sizes differ ({sizes}): only the hash distance can be measured")
    seen = visibility_of(before, after) if pixels[0] is before.pixels else visibility(*pixels)
    return replace(
        row,
        visibility=seen,
        visibility_word=word(seen),
        psnr_db=psnr_db(*pixels),
        ssim=ssim(*pixels),
        linf_levels=linf_levels(*pixels),
        changed_pixels=float(np.mean((pixels[0] != pixels[1]).any(axis=2))),
    )
