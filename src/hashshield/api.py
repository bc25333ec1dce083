"""The Python interface: the commands as functions that accept a path, encoded bytes, a Pillow image or a tensor.

Arguments have the names and ranges of the command-line options. Those not given come from the environment, the user's
configuration file or the default, as on the command line. No file is written without `output` or `in_place`.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hashshield import imaging
from hashshield.boundary import boundary
from hashshield.config import resolve
from hashshield.errors import InternalError, PhotoError, UsageError
from hashshield.imaging.photo import read_photo_file
from hashshield.metrics.retrieval import bits_of
from hashshield.models.device import choose_device
from hashshield.models.hashing import FrozenHash, displayed_rgb
from hashshield.models.load import open_models
from hashshield.paths import is_file, is_folder
from hashshield.pipeline import evaluate as _evaluate
from hashshield.pipeline import protect as _protect
from hashshield.pipeline import restore as _restore
from hashshield.pipeline import verify as _verify
from hashshield.pipeline.places import checked_place
from hashshield.pipeline.request import goal_of, request_of
from hashshield.transforms import pillow_view
from hashshield.types import Evaluation, Outcome, Progress, Restoration, Verification

__all__ = ["Network", "Photo", "Protected", "evaluate", "load_model", "protect", "protect_files", "restore", "verify"]

Photo = str | os.PathLike[str] | bytes | Image.Image | Tensor
"""A path, an encoded file, a Pillow image, or (C, H, W): uint8, or float in [0, 1]; C is 1, 3 or 4."""

PathLike = str | os.PathLike[str]

_log = logging.getLogger("hashshield")


@dataclass(frozen=True, slots=True)
class Protected:
    """The result of `protect` for one photo."""

    outcome: Outcome
    """The receipt: the row that `hashshield protect --json` prints."""
    data: bytes | None
    """The protected photo in its own file format (images and tensors: PNG); None if the goal was not reached."""

    @property
    def image(self) -> Image.Image:
        """The protected pixels, decoded. Raises PhotoError if there are none."""
        data = self._bytes()
        with _photo_errors(self.outcome.path):
            image = Image.open(io.BytesIO(data))
            image.load()
            return image

    @property
    def tensor(self) -> Tensor:
        """(C, H, W) float in [0, 1], as stored: EXIF orientation is not applied. Raises PhotoError if there is none."""
        pixels = np.array(self.image)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255

    def _bytes(self) -> bytes:
        if self.data is None:
            raise PhotoError(f"{self.outcome.path}: {self.outcome.status}, so there is no photo; {self.outcome.reason}")
        return self.data


@dataclass(frozen=True, slots=True)
class Network:
    """A hash network, together with the resizing and cropping of its input."""

    name: str
    """`checkpoint:bits`"""
    module: FrozenHash
    """(N, 3, s, s) in [0, 1] -> Codes; differentiable."""
    _view: Any

    @property
    def bits(self) -> int:
        """Code length."""
        return self.module.bits

    def view(self, photo: Photo) -> Tensor:
        """Return the network's input for a photo, resized with Pillow: (3, s, s) in [0, 1]. Raises PhotoError."""
        with _photo_errors(photo):
            name, data = _encoded(photo)
            return self._view(displayed_rgb(imaging.read(data, name=name)))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def code(self, photo: Photo) -> NDArray[np.int8]:
        """Return the photo's bits, (K,) in {-1, +1}. Raises PhotoError."""
        image = self.view(photo)[None].to(self.module.mean.device)
        with _photo_errors(photo):
            relaxed = self.module(image).code[0].float().cpu().numpy()
            return bits_of(relaxed)


def protect(
    photo: Photo,
    *,
    model: str | Iterable[str] | None = None,
    goal: str | None = None,
    target: PathLike | None = None,
    target_set: PathLike | None = None,
    target_class: str | None = None,
    output: PathLike | None = None,
    rename: bool = False,
    place_name: str | None = None,
    in_place: bool = False,
    backup: bool = True,
    force: bool = False,
    seed: int | None = None,
    **settings: Any,
) -> Protected:
    """Change a photo so that its image-hash code no longer matches; `settings` are those of `hashshield config show`.

    A file is written only with `output` (the folder for the copy, which `rename` gives a name that reveals nothing) or
    `in_place`, which moves the original to the vault unless `backup` is off. Each `place_name` gets a code of its own,
    so that copies for two places do not find each other. Raises UsageError, also if `output` or `in_place` is given for
    a photo in memory, PhotoError for a photo that cannot be processed, CheckpointError, StorageError.
    """
    writes = in_place or output is not None
    if in_place and output is not None:
        raise UsageError("in_place and output exclude each other; a photo is written to one place")
    if writes and not isinstance(photo, str | os.PathLike):
        raise UsageError(f"output and in_place write files; {type(photo).__name__} is not a path; take .data instead")
    request = request_of(
        _settings(model=model, goal=goal, **settings),
        goal_of(_path(target), _path(target_set), target_class, goal),
        output=_path(output),
        rename=rename,
        place_name=checked_place(place_name),
        backup=backup,
        dry_run=False,
        force=force,
        seed=seed,
    )
    if writes:
        path = _named(photo)  # type: ignore[arg-type]
        if not is_file(path):
            raise UsageError(f"{path}: no such photo; a call protects one, hashshield protect a folder")
        with _photo_errors(photo):
            (row,) = _protect.protect([path], request, progress=_Log())
            _raise_failed(row)
            written = path if row.output is None else Path(row.output)
            there = row.status in ("protected", "partial", "already")
            return Protected(row, read_photo_file(written, follow=True).data if there else None)
    with _photo_errors(photo):
        name, data = _encoded(photo)
        protected, row = _protect.protect_bytes(data, request, name=name, notice=_log.info)
        _raise_failed(row)
        return Protected(row, protected)


def protect_files(
    *paths: PathLike,
    output: PathLike | None = None,
    rename: bool = False,
    place_name: str | None = None,
    in_place: bool = False,
    progress: Progress | None = None,
    model: str | Iterable[str] | None = None,
    goal: str | None = None,
    backup: bool = True,
    force: bool = False,
    **settings: Any,
) -> list[Outcome]:
    """Protect photos and folders in one run, which is faster than one by one; return one row per file, by path.

    Copies go to the folder `output`, with `rename` under names that reveal nothing; `in_place` replaces the files.
    `place_name` is as in `protect`. `progress` receives each row once its photo is written; an exception it raises ends
    the run, and files already written stay. A photo that fails becomes a row with status "failed". Raises UsageError,
    CheckpointError or StorageError for failures that affect the whole run.
    """
    if in_place == (output is not None):
        raise UsageError("give either output, the folder for copies, or in_place, which replaces the files")
    request = request_of(
        _settings(model=model, goal=goal, **settings),
        goal_of(None, None, None, goal),
        output=_path(output),
        rename=rename,
        place_name=checked_place(place_name),
        backup=backup,
        force=force,
    )
    return _protect.protect(
        [_named(path) for path in paths], request, progress=_Log() if progress is None else progress
    )


def verify(
    photo: Photo,
    *,
    original: Photo | None = None,
    model: str | Iterable[str] | None = None,
    target: PathLike | None = None,
    target_set: PathLike | None = None,
    target_class: str | None = None,
    **settings: Any,
) -> Verification:
    """Hash a photo again and compare it with `original`, or without one with the ledger's record of it.

    If `original` is itself a protected photo, the original that it was made from is used.

    Raises UsageError, PhotoError, CheckpointError.
    """
    goal = goal_of(_path(target), _path(target_set), target_class, None)
    if goal is not None and original is None:
        raise UsageError("a target needs original too; without it the ledger says what each photo was aimed at")
    found = _settings(model=model, **settings)
    with _photo_errors(photo), _as_file(photo) as path, _as_file(original) as before:
        (row,) = _verify.verify(
            [path],
            models=() if model is None else found["model"].value,
            otherwise=found["model"].value,
            original=before if original is not None else None,
            goal=goal,
            tolerance=found["tolerance"].value,
            preset=found["preset"].value,
            vault=found["vault"].value,
            device=found["device"].value,
            progress=_Log(),
        )
    _raise_failed(row)
    return row


def evaluate(
    original: Photo,
    protected: Photo,
    *,
    model: str | Iterable[str] | None = None,
    target: PathLike | None = None,
    target_set: PathLike | None = None,
    target_class: str | None = None,
    preset: str | None = None,
    survival: bool | None = None,
    vault: PathLike | None = None,
    device: str | None = None,
) -> Evaluation:
    """Compare a photo with its protected copy: PSNR in dB, SSIM, largest change, Hamming distances.

    A copy known to the ledger in `vault` is measured as by `protect`, in the same views and against the same goal; any
    other in the views of `preset`. With `survival` it is measured again after every transform, else after JPEG q75.

    Raises UsageError, PhotoError (also for photos of different size), CheckpointError.
    """
    found = _settings(model=model, device=device, survival=survival, preset=preset, vault=_path(vault))
    with _photo_errors(protected), _as_file(original) as before, _as_file(protected) as after:
        if is_folder(before) or is_folder(after):
            raise UsageError(f"{before if is_folder(before) else after}: is a folder; a call compares two photos")
        (row,) = _evaluate.evaluate(
            before,
            after,
            models=found["model"].value,
            goal=goal_of(_path(target), _path(target_set), target_class, None),
            preset=found["preset"].value,
            survival=found["survival"].value,
            vault=found["vault"].value,
            device=found["device"].value,
            progress=_Log(),
        )
    _raise_failed(row)
    return row


def restore(*paths: PathLike, vault: PathLike | None = None) -> list[Restoration]:
    """Restore originals from the vault, byte for byte; return one row per file, including those that failed.

    Raises UsageError, StorageError.
    """
    return _restore.restore([_named(path) for path in paths], vault=_settings(vault=_path(vault))["vault"].value)


def load_model(name: str, *, device: str | None = None) -> Network:
    """Open a network by name (`checkpoint` or `checkpoint:bits`) or by the path of its file.

    Raises UnknownNameError, CheckpointError, UsageError for an unavailable device.
    """
    (opened,) = open_models([name], device=choose_device(_settings(device=device)["device"].value))
    return Network(opened.name, opened.model, lambda pixels: pillow_view(pixels, opened.card.input))


class _Log:
    """A `Progress` that sends notices to the logger `hashshield` and ignores everything else."""

    def start(self, total: int) -> None:
        pass

    def photo(self, path: str) -> None:
        pass

    def done(self, outcome: object) -> None:
        pass

    def notice(self, text: str) -> None:
        _log.info(text)


@contextmanager
def _photo_errors(photo: Photo) -> Iterator[None]:
    """Turn an unexpected exception into a PhotoError, so that a caller's loop over photos can catch it and go on.

    The message asks for a bug report; the cause is the original exception.
    """
    kinds = ((bytes, "the photo"), (Image.Image, "the image"), (Tensor, "the tensor"))
    name = next((words for kind, words in kinds if isinstance(photo, kind)), str(photo))
    try:
        with boundary("row", name):
            yield
    except InternalError as error:
        raise PhotoError(str(error)) from error.__cause__


def _settings(**arguments: Any) -> Any:
    return resolve(arguments=arguments)


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else _named(path)


def _named(path: PathLike) -> Path:
    """Return the path; raise UsageError for an empty one, which would mean the current folder."""
    if not os.fspath(path):
        raise UsageError("a path is empty; name a file or folder, and write . for the current one")
    return Path(path)


def _raise_failed(row: Outcome | Verification | Evaluation) -> None:
    if row.status == "failed":
        raise PhotoError(str(row.reason))


def _encoded(photo: Photo) -> tuple[str, bytes]:
    """Return the photo's name for messages, and its encoded bytes. Raises PhotoError, UsageError."""
    if isinstance(photo, bytes):
        return "the photo", photo
    if isinstance(photo, Image.Image):
        return "the image", _png(photo)
    if isinstance(photo, Tensor):
        return "the tensor", _png(_pictured(photo))
    path = _named(photo)
    return str(path), read_photo_file(path, follow=True).data


def _png(image: Image.Image) -> bytes:
    """Return the image as PNG, with its EXIF data and colour profile. Raises PhotoError."""
    out = io.BytesIO()
    try:
        image.save(out, "PNG", exif=image.getexif(), icc_profile=image.info.get("icc_profile"))
    except OSError as error:
        raise PhotoError(f"the image: {error}; convert it to RGB, RGBA or L first") from error
    return out.getvalue()


def _pictured(tensor: Tensor) -> Image.Image:
    """Return a (C, H, W) tensor as an 8-bit image. Raises UsageError for a wrong shape, type or range."""
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4):
        raise UsageError(f"a tensor is (C, H, W) with 1, 3 or 4 channels; this one is {tuple(tensor.shape)}")
    pixels = tensor.detach().cpu()
    if pixels.dtype != torch.uint8:
        if not pixels.is_floating_point():
            raise UsageError(f"a tensor is uint8, or float in [0, 1]; this one is {pixels.dtype}")
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise UsageError("a float tensor has its values in [0, 1]; this one leaves that range; divide by 255?")
        pixels = (pixels * 255).round().to(torch.uint8)
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


@contextmanager
def _as_file(photo: Photo | None) -> Iterator[Path]:
    """Yield a path to the photo; a photo in memory is written to a temporary file, removed afterwards."""
    if isinstance(photo, str | os.PathLike):
        yield _named(photo)
        return
    with tempfile.TemporaryDirectory(prefix="hashshield-") as folder:
        path = Path(folder) / "photo"
        if photo is not None:
            path.write_bytes(_encoded(photo)[1])
        yield path
