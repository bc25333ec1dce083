"""Judges of `bench copies`: our networks by bits and by cosine, PDQ, and a foreign copy detector.

The foreign detector is SSCD or one with its interface, as an ONNX file that the user names. It is not part of
HashShield: no search uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hashshield.errors import UsageError
from hashshield.metrics.image import pdq
from hashshield.metrics.retrieval import bits_of, hamming
from hashshield.models.device import exact_float32
from hashshield.models.load import OpenModel
from hashshield.storage import digest
from hashshield.transforms import pillow_view

__all__ = ["CopyJudge", "foreign_judge", "network_judges", "pdq_judge", "recall_at"]

_SIDE = 288
"""Pixels to which SSCD's authors squash a photo."""
_BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class CopyJudge:
    """One way of telling whether two photos are copies of each other."""

    name: str
    key: str
    """Cache key of its descriptions; judges with the same key share them."""
    bits: bool
    """True for codes, which differ in bits; False for embeddings, which have a cosine."""
    describe: Callable[[Sequence[Image.Image]], NDArray[Any]]
    """N RGB images -> (N, D) descriptions, which are cached."""
    derive: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray
    """(N, D) cached descriptions -> (N, K) to compare: int8 bits in {-1, +1}, or float32 of unit length."""
    threshold: float | None = None
    """Threshold of its card or publisher for a copy; None if there is none."""

    def likeness(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float32]:
        """Return the (N, M) cosines, or negative distances in bits: a larger value is always more alike."""
        return -hamming(one, other).astype(np.float32) if self.bits else one @ other.T

    def readable(self, likeness: float) -> float:
        """Return a likeness for display: as a distance in bits, or a cosine."""
        return -int(likeness) if self.bits else round(likeness, 4)


def recall_at(true: NDArray[np.float32], false: NDArray[np.float32], share: float) -> tuple[float, float]:
    """Return the recall of (N,) true pairs if at most `share`, below 1, of the false pairs count as copies.

    The second value is the least likeness of a pair that counts. Pairs of equal likeness all count, or none does.
    """
    values, counts = np.unique(false.astype(np.float32), return_counts=True)
    taken = np.cumsum(counts[::-1])[::-1]
    # The most alike of the false pairs that are too many: a copy must be more alike than they are.
    excluded = values[np.flatnonzero(taken > int(share * false.size))[-1]]
    least = np.nextafter(excluded, np.float32(np.inf))
    return float(np.mean(true >= least)), float(least)


def network_judges(opened: OpenModel) -> list[CopyJudge]:
    """Return the judges of a network: its embedding, if its card has a cosine, then its code."""
    size = opened.card.input

    @torch.inference_mode()
    def describe(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(images), _BATCH):
            views = [pillow_view(np.asarray(image), size) for image in images[start : start + _BATCH]]
            with exact_float32(opened.device):
                rows.append(opened.model.features(torch.stack(views).to(opened.device)).float().cpu().numpy())
        return np.concatenate(rows)

    @torch.inference_mode()
    def code_of(features: NDArray[Any]) -> NDArray[np.int8]:
        codes = opened.model.codes(torch.from_numpy(features).to(opened.device))
        return bits_of(codes.code.float().cpu().numpy())

    key = f"features {_trunk_digest(opened)} {opened.device.type}"
    code = CopyJudge(opened.name, key, True, describe, code_of, opened.card.within)
    if opened.card.cosine is None:
        return [code]
    name = f"{opened.name.partition(':')[0]} floats"
    return [CopyJudge(name, key, False, describe, _unit, opened.card.cosine), code]


def _unit(features: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    return found


def pdq_judge() -> CopyJudge | None:
    """Return PDQ as a judge; None if the package pdqhash is not installed."""

    def describe(images: Sequence[Image.Image]) -> NDArray[np.int8]:
        return np.stack([np.where(pdq(image), 1, -1).astype(np.int8) for image in images])

    try:
        import_module("pdqhash")
    except ImportError:
        return None
    return CopyJudge("PDQ", "PDQ", True, describe, threshold=31)


def foreign_judge(path: Path) -> CopyJudge:
    """Return the detector in an ONNX file with input (N, H, W, 3) uint8 and output (N, D). Raises UsageError."""
    try:
        runtime = import_module("onnxruntime")
    except ImportError as error:
        raise UsageError(f"--detector {path}: needs onnxruntime; install hashshield[onnx]") from error
    state = runtime.capi.onnxruntime_pybind11_state
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        data = path.read_bytes()
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise UsageError(f"--detector {path}: cannot be read ({error.strerror}); name an ONNX file") from error
    except (
        state.InvalidProtobuf,
        state.InvalidGraph,
        state.Fail,
        state.NotImplemented,
        state.InvalidArgument,
    ) as error:
        raise UsageError(f"--detector {path}: no ONNX network ({str(error)[:120]}); name another file") from error
    inputs = session.get_inputs()
    found = f"{inputs[0].type} {inputs[0].shape}"
    if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or len(inputs[0].shape) != 4:
        raise UsageError(f"--detector {path}: reads {found}; one is expected that reads uint8 photos, (N, H, W, 3)")

    def describe(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        rows = []
        for image in images:
            pixels = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
            (embedding,) = session.run(None, {inputs[0].name: pixels[None]})[:1]
            rows.append(embedding[0] / np.linalg.norm(embedding[0]))
        return np.stack(rows).astype(np.float32)

    return CopyJudge(path.stem, f"detector {digest(data)}", False, describe)


def _trunk_digest(opened: OpenModel) -> str:
    """Return a digest of everything that determines a network's features."""
    parts = [value.detach().cpu().contiguous().numpy().tobytes() for value in opened.model.trunk.state_dict().values()]
    return digest(b"".join(parts) + repr(opened.card.input).encode())
