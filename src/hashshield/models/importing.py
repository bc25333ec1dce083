"""Import foreign networks: translate an ONNX file, compare its codes with onnxruntime's, store it as a checkpoint.

`import_model` is what the command calls; `import_onnx` does the work for ONNX.
"""

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
from torch import Tensor

from hashshield.checkpoints import cache, catalog
from hashshield.checkpoints.cache import SUFFIX, CatalogEntry, checked_name
from hashshield.checkpoints.card import Card, InputSpec, entry_of, refusal
from hashshield.checkpoints.file import write_checkpoint
from hashshield.errors import CheckpointError, UsageError
from hashshield.models.graph import GRAPH_ARCH, graph_tensors
from hashshield.models.load import open_models
from hashshield.models.onnx_file import LARGEST_FILE, OnnxFile, packages
from hashshield.models.onnx_reader import POOLINGS, read_onnx
from hashshield.paths import is_file
from hashshield.text import clean, read_toml

__all__ = ["ForeignCard", "import_model", "import_onnx", "look_at", "read_foreign_card"]

_AGREEMENT, _AGREEMENT_IN_HALF = 1e-4, 1e-2
"""Largest difference from onnxruntime, as a share of the largest value. The second is for networks in 16 bits, which
onnxruntime computes in 16 bits and HashShield in 32."""
_PROBES = 4
_LONGEST_CODE = 4096
_HYPERPLANES = 128
"""Most bits of a code for features that are compared by their cosine, and at most half the number of features. With so
few hyperplanes any code can be reached by some features; with twice as many as features, only half can (Cover 1965)."""
_LEAST_MAGNITUDE = 1e-6
"""Lower bound of the mean code value that hyperplanes are divided by, because random images may give zero features."""
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[biuf][1248])', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,60})\), \}\s*"
)


@dataclass(frozen=True, slots=True)
class ForeignCard:
    """The card.toml of a network to import."""

    name: str
    licence: str
    attribution: str
    input: InputSpec
    projection: str = ""
    """Name of a file beside the card: a (bits, features) matrix that multiplies the network's output; empty: none."""
    projection_mean: str = ""
    """Name of a file beside the card: a (features,) mean subtracted from the output first; empty: none."""
    output: str = ""
    """Name of the output to use, if the network has several."""
    pooling: str = ""
    """How an output of tokens becomes one vector: the "first" token or their "mean"; empty: it is one vector."""
    cosine: float | None = None
    """For features compared by cosine: the least cosine at which a service calls two photos the same."""
    purpose: str = ""
    """`research` or empty; see `checkpoints.card`."""


def import_onnx(model: Path, card: Path, output: Path) -> Card:
    """Translate the ONNX network `model`, described by `card`, into the checkpoint `output`; return its card.

    The file is written only if its codes match onnxruntime's to 1e-4 of the largest value, or 1e-2 for a network with
    16-bit weights. Raises CheckpointError for a network that cannot be imported, UsageError for an invalid card.
    """
    if output.suffix != SUFFIX:
        raise UsageError(f"{output}: a checkpoint's name ends with {SUFFIX}")
    _, runtime = packages()
    foreign = read_foreign_card(card)
    checked_name(foreign.name, source=str(card))
    file, graph, width = read_onnx(model, side=foreign.input.crop, output=foreign.output, pooling=foreign.pooling)
    pictures = _pictures(foreign)
    answers = _features(runtime, file, pictures, foreign)
    if not np.isfinite(answers).all():
        raise CheckpointError(
            f"{file.path}: what it says of plain pictures is NaN or infinite, so no code can be made of it; export a "
            "network that answers with numbers. Nothing was written"
        )
    matrix, bias = _code_layer(card, foreign, width, answers)
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
        purpose=foreign.purpose,
        cosine=foreign.cosine,
        within=_bits_apart(foreign.cosine, len(matrix))
        if foreign.cosine is not None and not foreign.projection
        else None,
    )
    trial = output.with_name(f".{output.stem}.trial{SUFFIX}")
    tensors = {**graph_tensors(graph), f"heads.{len(matrix)}.weight": torch.from_numpy(matrix)}
    if bias is not None:
        tensors[f"heads.{len(matrix)}.bias"] = torch.from_numpy(bias)
    if file.half:
        tensors = {name: _in_half(tensor) for name, tensor in tensors.items()}
    try:
        write_checkpoint(trial, graph_card, tensors, {}, exact=True)
        del tensors, graph
        _compare(file, trial, pictures, answers @ matrix.T + (0 if bias is None else bias))
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
        texts = [f.name for f in fields(card) if f.name not in ("input", "cosine")]
        words = [name for name in texts if not isinstance(getattr(card, name), str)]
    except KeyError as error:
        raise UsageError(f"{path}: the card lacks {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path}: the card is invalid ({error})") from error
    if fault or words or not card.name:
        raise UsageError(f"{path}: {fault or (words or ['name'])[0] + ' must be a string'}")
    if fault := refusal(card.name, card.attribution, card.purpose) or _fault(card):
        raise UsageError(f"{path}: {fault}")
    return card


def _fault(card: ForeignCard) -> str | None:
    """Return what is wrong with pooling, projection or cosine; None if nothing is."""
    if card.pooling not in POOLINGS:
        return f"pooling is {card.pooling!r}; leave it out, or say first or mean"
    if card.projection_mean and not card.projection:
        return "a projection_mean goes with a projection; name both, or none"
    if card.cosine is not None and not (isinstance(card.cosine, float) and -1 < card.cosine < 1):
        return f"cosine is {card.cosine!r}; it is a threshold between -1 and 1, such as 0.75"
    return None


def _in_half(tensor: Tensor) -> Tensor:
    """Return a tensor in 16 bits if that is lossless, else unchanged."""
    small = tensor.half() if tensor.is_floating_point() else tensor
    return small if torch.equal(small.to(tensor.dtype), tensor) else tensor


def _bits_apart(cosine: float, bits: int) -> int:
    """Return the expected Hamming distance, rounded down, of random-hyperplane codes at a cosine (Charikar 2002)."""
    return int(bits * np.arccos(cosine) / np.pi)


def _code_layer(
    card: Path, foreign: ForeignCard, width: int, answers: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the code layer, sign(P (f - mean)): the (bits, width) matrix P, and the bias (bits,) -P mean or None.

    Without a projection the output already is the code. Features compared by their cosine get random hyperplanes,
    whose bits differ in proportion to the angle between features (Charikar 2002). These are scaled so that the codes of
    the (N, width) `answers` have a mean magnitude of 1, to suit the margins of a search. Raises CheckpointError.
    """
    if foreign.projection:
        matrix = _numbers(card.parent / foreign.projection, (-1, width), "bits")
        if not foreign.projection_mean:
            return matrix, None
        mean = _numbers(card.parent / foreign.projection_mean, (width,), "")
        return matrix, (-(matrix.astype(np.float64) @ mean)).astype(np.float32)
    if foreign.cosine is not None:
        draw = np.random.default_rng(0)
        planes = draw.normal(size=(min(_HYPERPLANES, max(width // 2, 1)), width))
        planes /= max(float(np.abs(answers @ planes.T).mean()), _LEAST_MAGNITUDE)
        return planes.astype(np.float32), None
    if width > _LONGEST_CODE:
        raise CheckpointError(
            f"{card}: the network gives {width} values, more than a code's {_LONGEST_CODE} bits; name a projection"
        )
    return np.eye(width, dtype=np.float32), None


def _numbers(path: Path, shape: tuple[int, ...], rows: str) -> NDArray[np.float32]:
    """Read finite float32 values of `shape`, whose first side may be -1 for any number. Raises CheckpointError.

    `rows` names the first side in messages.
    """
    width = shape[-1]
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise CheckpointError(f"{path}: too large for a projection; up to {LARGEST_FILE} bytes are read")
        if path.suffix == ".npy":
            matrix = _npy(path.read_bytes())
        else:
            matrix = np.fromfile(path, dtype="<f4")
            matrix = matrix.reshape(shape) if len(matrix) % width == 0 and len(shape) == 2 else matrix
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as a matrix ({error})") from error
    fits = matrix.ndim == len(shape) and matrix.shape[-1] == width and 1 <= len(matrix) <= max(_LONGEST_CODE, width)
    if not fits or (len(shape) == 2 and len(matrix) > _LONGEST_CODE) or matrix.dtype.kind != "f":
        wanted = f"({rows}, {width})" if rows else f"({width},)"
        raise CheckpointError(
            f"{path}: holds {matrix.dtype} of shape {matrix.shape}; expected floats of shape {wanted}, as "
            f"the network gives {width} values: in .npy, or else raw little-endian float32, one row of {width} per bit"
        )
    if not np.isfinite(matrix).all():
        raise CheckpointError(f"{path}: holds NaN or infinite values")
    return np.array(matrix, dtype=np.float32, order="C")


def _npy(data: bytes) -> NDArray[Any]:
    """Read the array of an .npy file; numpy would give its header to Python's parser. Raises ValueError."""
    size = 2 if data[6:7] == b"\1" else 4
    start = 8 + size + int.from_bytes(data[8 : 8 + size], "little")
    header = _NPY_HEADER.fullmatch(data[8 + size : start]) if data[:6] == b"\x93NUMPY" else None
    if header is None:
        raise ValueError("not an .npy file of numbers")
    shape = tuple(int(side) for side in header[3].split(b",") if side.strip())
    kind = np.dtype(header[1].decode("ascii"))
    values = np.frombuffer(data, kind, offset=start)
    return values.reshape(shape, order="F" if header[2] == b"True" else "C")


def _pictures(foreign: ForeignCard) -> Tensor:
    """Return N = 4 random images, (N, 3, side, side) in [0, 1]: coarse blobs with some noise."""
    side = foreign.input.crop
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((_PROBES, 3, 12, 12), generator=generator)
    pictures = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False)
    return (pictures + 0.1 * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)


def _compare(file: OnnxFile, checkpoint: Path, pictures: Tensor, expected: NDArray[np.float32]) -> None:
    """Raise CheckpointError if the checkpoint's codes of `pictures` differ from onnxruntime's, `expected` (N, K)."""
    (opened,) = open_models([str(checkpoint)])
    with torch.inference_mode():
        # One by one: each image may need as much memory as a network is allowed.
        found = torch.cat([opened.model(picture[None]).code for picture in pictures]).numpy()
    apart = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    most = _AGREEMENT_IN_HALF if file.half else _AGREEMENT
    if not apart <= most:
        raise CheckpointError(
            f"{file.path}: its codes differ from onnxruntime's by {apart:.2g} of the largest, more than {most}; "
            "an operator in it is computed differently, so searches on it would be wrong. Nothing was written"
        )


def _features(runtime: ModuleType, file: OnnxFile, pictures: Tensor, foreign: ForeignCard) -> NDArray[np.float32]:
    """Return onnxruntime's (N, D) outputs for (N, 3, H, W) images in [0, 1]. Raises CheckpointError."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (foreign.input.mean, foreign.input.std))
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    # The arena allocates twice as much as it needs.
    options.enable_cpu_mem_arena = False
    # No constants computed in advance, so that it needs no more memory than the rehearsal measured.
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = torch.get_num_threads()
    state = runtime.capi.onnxruntime_pybind11_state
    rows = []
    try:
        session = file.session(runtime, options)
        (entry,) = session.get_inputs()
        kind = np.float16 if entry.type == "tensor(float16)" else np.float32
        for picture in pictures:
            seen = ((picture[None] - mean) / std).numpy().astype(kind)
            answer = session.run(None, {entry.name: seen})[0].astype(np.float32)
            if foreign.pooling:
                answer = answer[:, 0] if foreign.pooling == "first" else answer.mean(1)
            rows.append(answer.reshape(1, -1))
        return np.concatenate(rows)
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
            f"{file.path}: onnxruntime does not run it ({clean(str(error))[:200]}); export it again"
        ) from error


_ONNX = ".onnx"


def look_at(entry: CatalogEntry) -> None:
    """Check the digest of an installed checkpoint and open it at every code length. Raises CheckpointError."""
    open_models([f"{entry.name}:{bits}" for bits in entry.bits])


def import_model(path: Path, *, card: Path | None = None) -> CatalogEntry:
    """Install a checkpoint or ONNX file under its card's name, after testing every code length; return its entry.

    `card` is the card.toml of an ONNX network; a checkpoint holds its own. Raises UsageError for another kind of file
    or a wrong `card`, CheckpointError for an invalid network or a name that is taken.
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
    if not is_file(path):
        raise CheckpointError(f"{path}: no such checkpoint file")
    entry = entry_of(path, imported=True)
    open_models([f"{path}:{bits}" for bits in entry.bits])
    entry = _placed(entry, source, otherwise)
    cache.install(path, entry)
    return entry


def _placed(entry: CatalogEntry, path: Path, otherwise: str) -> CatalogEntry:
    """Return the entry to install: the catalogue's own if it lists the same file, else `entry`.

    Raises CheckpointError if another checkpoint has the name.
    """
    for listed in catalog.known():
        if listed.name != entry.name or (listed.imported and listed.sha256 == entry.sha256):
            continue
        if listed.sha256 != entry.sha256 or listed.embedded:
            known = "comes with the package" if listed.embedded else "is another checkpoint's name"
            remedy = f"`hashshield models remove {entry.name}` first, or " if listed.imported else ""
            raise CheckpointError(f"{path}: {entry.name} {known} already; {remedy}{otherwise}")
        return listed
    return entry
