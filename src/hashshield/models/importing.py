"""Import foreign networks: read from ONNX, translated, compared with onnxruntime, stored as checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hashshield.checkpoints import cache, catalog
from hashshield.checkpoints.card import Card, InputSpec, entry_of
from hashshield.checkpoints.entry import SUFFIX, CatalogEntry, checked_name
from hashshield.checkpoints.file import write_checkpoint
from hashshield.errors import CheckpointError, UsageError
from hashshield.models.graph import GRAPH_ARCH, graph_tensors
from hashshield.models.load import open_models
from hashshield.models.onnx_reader import LARGEST_FILE, packages, read_onnx
from hashshield.text import clean, read_toml

__all__ = ["ForeignCard", "import_model", "import_onnx", "look_at", "read_foreign_card"]

_AGREEMENT = 1e-4
_PROBES = 4
_LONGEST_CODE = 4096
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[biuf][1248])', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,60})\), \}\s*"
)


@dataclass(frozen=True, slots=True)
class ForeignCard:
    """What a card.toml says of a network that is to be imported."""

    name: str
    licence: str
    attribution: str
    input: InputSpec
    projection: str = ""
    """File of a (bits, features) matrix beside the card, which multiplies the network's output; empty for none."""


def import_onnx(model: Path, card: Path, output: Path) -> Card:
    """Translate `model` as `card` describes it and write the checkpoint `output`, which every command can use.

    The stored file answers as onnxruntime does, to 1e-4 of the largest value, or it is not written.
    Raises CheckpointError for a network that cannot be taken over, UsageError for a card that cannot be meant so.
    """
    if output.suffix != SUFFIX:
        raise UsageError(f"{output}: a checkpoint's name ends with {SUFFIX}")
    _, runtime = packages()
    foreign = read_foreign_card(card)
    checked_name(foreign.name, source=str(card))
    data, graph, width = read_onnx(model, side=foreign.input.crop)
    matrix = _projection(card, foreign, width)
    graph_card = Card(
        name=foreign.name,
        arch=GRAPH_ARCH,
        bits=(len(matrix),),
        hidden=0,
        input=foreign.input,
        classes=(),
        dataset="none",
        split={},
        recipe={"imported": model.name},
        licence=foreign.licence,
        attribution=foreign.attribution,
    )
    trial = output.with_name(f".{output.stem}.trial{SUFFIX}")
    tensors = {**graph_tensors(graph), f"heads.{len(matrix)}.weight": torch.from_numpy(matrix)}
    try:
        write_checkpoint(trial, graph_card, tensors, {}, exact=True)
        _compare(runtime, data, model, trial, foreign.input, matrix)
        try:
            trial.replace(output)
        except OSError as error:
            raise UsageError(f"{output}: cannot be written ({error.strerror}); name another file") from error
    finally:
        trial.unlink(missing_ok=True)
    return graph_card


def read_foreign_card(path: Path) -> ForeignCard:
    """Read a card.toml. Raises UsageError naming the wrong entry."""
    try:
        raw = read_toml(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a card ({error})") from error
    try:
        size = raw.pop("input")
        known = {field.name for field in fields(ForeignCard)}
        if unknown := sorted(raw.keys() - known):
            raise UsageError(f"{path}: no entry {unknown[0]!r} is known; known are {', '.join(sorted(known))}")
        three = {key: tuple(map(float, size[key])) for key in ("mean", "std")}
        card = ForeignCard(**raw, input=InputSpec(**{**size, **three}))
        fault = card.input.fault()
        words = [f.name for f in fields(card) if f.name != "input" and not isinstance(getattr(card, f.name), str)]
    except KeyError as error:
        raise UsageError(f"{path}: the card lacks {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path}: the card cannot be meant so ({error})") from error
    if fault or words or not card.name:
        raise UsageError(f"{path}: {fault or (words or ['name'])[0] + ' must be a text'}")
    return card


def _projection(card: Path, foreign: ForeignCard, width: int) -> NDArray[np.float32]:
    """(bits, width): the matrix of the card, or ones on the diagonal where the output is the code already."""
    if not foreign.projection:
        if width > _LONGEST_CODE:
            raise CheckpointError(
                f"{card}: the network gives {width} values, more than a code's {_LONGEST_CODE} bits; name a projection"
            )
        return np.eye(width, dtype=np.float32)
    path = card.parent / foreign.projection
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise CheckpointError(f"{path}: too large for a projection; up to {LARGEST_FILE} bytes are read")
        if path.suffix == ".npy":
            matrix = _npy(path.read_bytes())
        else:
            matrix = np.fromfile(path, dtype="<f4")
            matrix = matrix.reshape(-1, width) if len(matrix) % width == 0 else matrix
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as a matrix ({error})") from error
    fits = matrix.ndim == 2 and matrix.shape[1] == width and 1 <= len(matrix) <= _LONGEST_CODE
    if not fits or matrix.dtype.kind != "f":
        raise CheckpointError(
            f"{path}: holds {matrix.dtype} of shape {matrix.shape}; expected floats of shape (bits, {width}), as "
            f"the network gives {width} values: in .npy, or else raw little-endian float32, one row of {width} per bit"
        )
    if not np.isfinite(matrix).all():
        raise CheckpointError(f"{path}: holds NaN or infinite values")
    return np.array(matrix, dtype=np.float32, order="C")


def _npy(data: bytes) -> NDArray[Any]:
    """Read the array of an .npy file, whose header numpy would run through Python's parser. Raises ValueError."""
    size = 2 if data[6:7] == b"\1" else 4
    start = 8 + size + int.from_bytes(data[8 : 8 + size], "little")
    header = _NPY_HEADER.fullmatch(data[8 + size : start]) if data[:6] == b"\x93NUMPY" else None
    if header is None:
        raise ValueError("not an .npy file of numbers")
    shape = tuple(int(side) for side in header[3].split(b",") if side.strip())
    kind = np.dtype(header[1].decode("ascii"))
    values = np.frombuffer(data, kind, offset=start)
    return values.reshape(shape, order="F" if header[2] == b"True" else "C")


def _compare(
    runtime: ModuleType, data: bytes, model: Path, checkpoint: Path, size: InputSpec, matrix: NDArray[np.float32]
) -> None:
    """Hold the stored file's codes of random pictures against onnxruntime's. Raises CheckpointError."""
    (opened,) = open_models([str(checkpoint)])
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((_PROBES, 3, 12, 12), generator=generator)
    pictures = torch.nn.functional.interpolate(coarse, (size.crop, size.crop), mode="bicubic", align_corners=False)
    pictures = (pictures + 0.1 * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (size.mean, size.std))
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    # Its arena asks for twice as much as it needs.
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = torch.get_num_threads()
    state = runtime.capi.onnxruntime_pybind11_state
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        rows = [session.run(None, {entry.name: ((p[None] - mean) / std).numpy()})[0].reshape(1, -1) for p in pictures]
        expected = np.concatenate(rows) @ matrix.T
    except (
        state.EPFail,
        state.Fail,
        state.InvalidGraph,
        state.InvalidArgument,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
        ValueError,
    ) as error:
        raise CheckpointError(
            f"{model}: onnxruntime does not run it ({clean(str(error))[:200]}); export it again"
        ) from error
    with torch.inference_mode():
        # One by one, as a network may hold its limit of memory for each.
        found = torch.cat([opened.model(picture[None]).code for picture in pictures]).numpy()
    apart = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    if not apart <= _AGREEMENT:
        raise CheckpointError(
            f"{model}: its codes differ from onnxruntime's by {apart:.2g} of the largest, more than {_AGREEMENT}; "
            "an operator in it means something else here, and what is built on it would be wrong. Nothing was written"
        )


_ONNX = ".onnx"


def look_at(entry: CatalogEntry) -> None:
    """Check the digest of an installed checkpoint and open it at every code length. Raises CheckpointError."""
    open_models([f"{entry.name}:{bits}" for bits in entry.bits])


def import_model(path: Path, *, card: Path | None = None) -> CatalogEntry:
    """Take a file in under its card's name, after a look at every code length; the entry it has from now on.

    A network in ONNX has its `card` beside it, a checkpoint inside. Raises UsageError for a kind of file that cannot be
    taken in, CheckpointError for one that does not hold what it should or whose name is taken.
    """
    suffix = path.suffix.lower()
    if suffix not in (SUFFIX, _ONNX):
        raise UsageError(f"{path}: files that can be imported end with {SUFFIX} or {_ONNX}")
    if (card is None) == (suffix == _ONNX):
        raise UsageError(f"{path}: --card is given for {_ONNX}, and for nothing else")
    if card is None:
        return _taken_in(path, path, "use this file by its path")
    with TemporaryDirectory(prefix="hashshield-") as folder:
        made = Path(folder) / f"network{SUFFIX}"
        import_onnx(path, card, made)
        return _taken_in(made, path, f"give it another name in {card}")


def _taken_in(path: Path, source: Path, otherwise: str) -> CatalogEntry:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    entry = entry_of(path, imported=True)
    open_models([f"{path}:{bits}" for bits in entry.bits])
    entry = _placed(entry, source, otherwise)
    cache.install(path, entry)
    return entry


def _placed(entry: CatalogEntry, path: Path, otherwise: str) -> CatalogEntry:
    """The entry to install: one of the catalogue's when it is that very file, whoever brought it."""
    for listed in catalog.known():
        if listed.name != entry.name or (listed.imported and listed.sha256 == entry.sha256):
            continue
        if listed.sha256 != entry.sha256 or listed.embedded:
            known = "comes with the package" if listed.embedded else "is another checkpoint's name"
            remedy = f"`hashshield models remove {entry.name}` first, or " if listed.imported else ""
            raise CheckpointError(f"{path}: {entry.name} {known} already; {remedy}{otherwise}")
        return listed
    return entry
