"""Code targets: turn the requested goal into target bits per photo, network and view, and compare codes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield import imaging
from hashshield.arrays import Bits
from hashshield.attacks.goals import GOALS, FixedCode, Goal, HashedPhoto, away_band, photo_generator
from hashshield.attacks.objectives import Objective
from hashshield.checkpoints.card import RESEARCH, Card
from hashshield.errors import GoalError, HashshieldError, NotAPhotoError, PhotoError
from hashshield.imaging.photo import read_photo_file
from hashshield.metrics.retrieval import bits_of, from_hex, to_hex
from hashshield.models.graph import GRAPH_ARCH
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import OpenModel
from hashshield.paths import is_folder
from hashshield.pipeline.places import PlaceCodes, place_tolerance
from hashshield.storage import walk
from hashshield.transforms import CARD
from hashshield.types import CodeRow, GoalSpec

__all__ = [
    "CodeTarget",
    "feature_cosine",
    "goal_for",
    "make_target",
    "measure",
    "read_target",
    "refuse_foreign",
    "shared_bits",
    "target_for_view",
    "tolerance_for",
]


@dataclass(frozen=True, slots=True, eq=False)
class CodeTarget:
    """What the written photo must meet on one network view: the original's bits, the target bits, and the criterion."""

    model: str
    original_bits: Bits
    """(K,) in {-1, +1}."""
    wanted: Bits
    """(K,) target bits."""
    nearest: int | None
    """Class whose anchor is nearest to the original; None without anchors."""
    band: bool
    """True if the goal is a distance from the original (`away`), False if it is a distance to the target bits."""
    view: str = CARD
    """The network's view of the photo; see `transforms.framing`."""
    original_features: Tensor | None = None
    """(D,) features of the original, for a network that compares features by cosine; not stored in the ledger."""
    for_place: bool = False
    """Whether it is a place's code, which must also be met to `place_tolerance`; not stored in the ledger."""
    within: int | None = None
    """For copy detectors: the distance up to which two photos count as the same, which `away` must exceed."""

    @property
    def allowed(self) -> tuple[int, int]:
        """Least and greatest distance from the original, in bits, that `away` accepts."""
        low, high = away_band(len(self.original_bits))
        return (low if self.within is None else min(low, self.within + 1)), high

    def passed(self, row: CodeRow, tolerance: int) -> bool:
        """Return whether a measured row meets the goal; `tolerance`, in bits, is for goals without a band."""
        return not self.is_copy(row) and self.meets(row.distance_from_original, row.distance_to_goal, tolerance)

    def is_copy(self, row: CodeRow) -> bool:
        """Return whether, for `away`, the features' cosine still makes the photo a copy of its original."""
        return self.band and row.cosine is not None and row.cosine >= (row.cosine_threshold or 0.0)

    def meets(self, from_original: int, to_goal: int, tolerance: int) -> bool:
        """Return whether two distances in bits, from the original and to the target, meet the goal."""
        length = len(self.original_bits)
        if not self.band:
            return to_goal <= tolerance
        low, high = self.allowed
        return low <= from_original <= high and (not self.for_place or to_goal <= place_tolerance(length))

    def passed_within(self, code: NDArray[np.float32], tolerance: int, doubt: float) -> bool:
        """Return whether a (K,) code meets the goal whatever the signs of its entries below `doubt` in magnitude."""
        bits, open_bits = bits_of(code), np.abs(code) < doubt
        unsure = int(np.count_nonzero(open_bits))
        from_original = int(np.count_nonzero((bits != self.original_bits) & ~open_bits))
        to_goal = int(np.count_nonzero((bits != self.wanted) & ~open_bits)) + unsure
        return all(self.meets(distance, to_goal, tolerance) for distance in (from_original, from_original + unsure))

    def forgives(self, tolerance: int) -> int:
        """Return how many bits may miss their target while the goal is still met; `tolerance` is as in `passed`."""
        if not self.band:
            return tolerance
        low, high = self.allowed
        wanted = int(np.count_nonzero(self.wanted != self.original_bits))
        # On a copy detector only bits that fail to flip count; further flipped bits do no harm.
        above = high - wanted if self.within is None else wanted
        forgiven = max(0, min(wanted - low, above))
        return min(forgiven, place_tolerance(len(self.wanted))) if self.for_place else forgiven

    def as_details(self) -> dict[str, Any]:
        """Return what the ledger stores, so that `verify` works without the original."""
        return {
            "model": self.model,
            "view": self.view,
            "bits": len(self.original_bits),
            "own": to_hex(self.original_bits),
            "wanted": to_hex(self.wanted),
            "nearest": self.nearest,
            "band": self.band,
            **({} if self.within is None else {"within": self.within}),
        }


def read_target(details: Mapping[str, Any]) -> CodeTarget:
    """Return the target that `CodeTarget.as_details` wrote."""
    length = int(details["bits"])
    return CodeTarget(
        details["model"],
        from_hex(details["own"], length),
        from_hex(details["wanted"], length),
        details["nearest"],
        bool(details["band"]),
        details.get("view", CARD),  # the first releases recorded no view
        within=details.get("within"),
    )


def tolerance_for(asked: int | None, bits: int, *, lossless: bool) -> int:
    """Return the tolerance in bits: `asked` if given, else 0 for lossless formats and bits // 16 for lossy ones."""
    return asked if asked is not None else 0 if lossless else bits // 16


def measure(
    target: CodeTarget,
    code: NDArray[np.float32],
    anchors: Tensor | None,
    view: str,
    *,
    card: Card | None = None,
    features: Tensor | None = None,
) -> CodeRow:
    """Return how a (K,) code in `view` compares with a target; margins are towards its target bits, also for `away`.

    `features`, (D,), are those of the code; their cosine to the original's is included if the target has these. The
    network's `anchors` give the rank of the original's class, its `card` the cosine threshold and purpose.
    """
    bits = bits_of(code)
    rank = None
    if target.nearest is not None and anchors is not None:
        distances = np.count_nonzero(anchors.cpu().numpy() != bits, axis=1)
        rank = int(np.count_nonzero(distances < distances[target.nearest]))
    return CodeRow(
        model=target.model,
        bits=len(bits),
        view=view,
        distance_from_original=int(np.count_nonzero(bits != target.original_bits)),
        distance_to_goal=int(np.count_nonzero(bits != target.wanted)),
        min_margin=round(float((code * target.wanted).min()), 4),
        class_rank=rank,
        cosine=_cosine(target.original_features, features),
        cosine_threshold=None if card is None else card.cosine,
        purpose=None if card is None else card.purpose or None,
    )


def _cosine(one: Tensor | None, other: Tensor | None) -> float | None:
    return None if one is None or other is None else feature_cosine(one, other)


def feature_cosine(one: Tensor, other: Tensor) -> float:
    """Return the cosine of two (D,) feature vectors on any devices."""
    found = torch.nn.functional.cosine_similarity(one.float().cpu(), other.float().cpu(), dim=0)
    return round(float(found), 4)


def shared_bits(goal: GoalSpec, models: Sequence[OpenModel]) -> list[Bits] | None:
    """Return the target bits, one (K,) per model, of a goal that is the same for all photos; None for other goals.

    An image gives its own code (P2P), a folder the bitwise majority over its photos (P2S; a tied bit is -1), a class
    its anchor. Raises GoalError, PhotoError, UnknownNameError.
    """
    refuse_foreign(models, goal.kind)
    if goal.kind == "class":
        rows = [(m, m.class_index(str(goal.value))) for m in models]
        return [_anchors(m, goal)[row] for m, row in rows]
    if goal.kind == "image":
        return [bits_of(code[0]) for code in _codes_of([Path(str(goal.value))], models)]
    if goal.kind == "set":
        folder = Path(str(goal.value))
        if not is_folder(folder):
            raise GoalError(f"{folder}: no such folder to aim at; name one that holds photos")
        files = [p for p in walk(folder, failed=_unlistable) if imaging.sniff(_head(p)) in imaging.SUPPORTED]
        if not files:
            raise GoalError(f"{folder}: holds no photo to aim at; name a folder of JPEG, PNG or WebP files")
        return [bits_of(bits_of(code).astype(np.float32).sum(0)) for code in _codes_of(files, models)]
    if GOALS[goal.kind].needs_anchors:
        for model in models:
            _anchors(model, goal)
    return None


def refuse_foreign(models: Sequence[OpenModel], asked: str) -> None:
    """Raise GoalError for an imported network whose purpose is not research, unless the goal is `away`.

    `asked` is the goal's kind, or any text that completes "serves --goal away only, not ...".
    """
    for model in () if asked == GoalSpec().kind else models:
        if model.card.arch == GRAPH_ARCH and model.card.purpose != RESEARCH:
            raise GoalError(
                f"{model.name} is a network from elsewhere, which serves --goal away only, not {asked}; for "
                f'research say purpose = "{RESEARCH}" in its card, and import it again'
            )


def goal_for(spec: GoalSpec, models: Sequence[OpenModel]) -> Goal:
    """Return the requested goal, with its target hashed on these networks.

    Raises GoalError for a target that cannot be used or a network without the anchors that the goal needs, PhotoError
    for a damaged photo of a target, UnknownNameError for an unknown class.
    """
    shared = shared_bits(spec, models)
    if shared is None:
        return GOALS[spec.kind]
    return FixedCode(spec.label, {model.name: bits for model, bits in zip(models, shared, strict=True)})


def make_target(
    goal: Goal,
    model: OpenModel,
    code: NDArray[np.float32],
    features: Tensor,
    *,
    key: bytes,
    sha256: str,
    other_view_bits: Sequence[Bits] = (),
    place_codes: PlaceCodes | None = None,
) -> tuple[CodeTarget, Objective]:
    """Return target and objective of a photo on one network, which gives the original (K,) `code`, (D,) `features`.

    `key` and `sha256` seed the photo's randomness. `other_view_bits` are the original's bits in further views; for
    their targets see `target_for_view`. With `place_codes` the target is the code that the place already has, else a
    code drawn by the place's name and away from other places' codes. Raises GoalError.
    """
    anchors = None if model.anchors is None else model.anchors.cpu().numpy()
    photo = HashedPhoto(
        model.name,
        bits_of(code),
        anchors,
        photo_generator(key, sha256, model.name, None if place_codes is None else place_codes.name),
        other_view_bits,
        () if place_codes is None else place_codes.other_codes.get(model.name, ()),
        sha256,
    )
    kept = features.detach().cpu() if model.card.cosine is not None else None
    wanted = None if place_codes is None else place_codes.given.get(model.name)
    if wanted is None:
        wanted = goal.target_bits(photo)
    target = CodeTarget(
        model.name,
        photo.bits,
        wanted,
        photo.nearest,
        goal.is_band,
        original_features=kept,
        for_place=place_codes is not None,
        within=model.card.within if goal.is_band else None,
    )
    return target, _objective(target, features)


def target_for_view(
    target: CodeTarget, view: str, code: NDArray[np.float32], features: Tensor
) -> tuple[CodeTarget, Objective]:
    """Return target and objective with the same target bits in another view, where the original has that code.

    Leaked bits are only counted in the first view.
    """
    kept = None if target.original_features is None else features.detach().cpu()
    there = replace(target, view=view, original_bits=bits_of(code), original_features=kept)
    return there, replace(_objective(there, features), original_bits=None)


def _objective(target: CodeTarget, features: Tensor) -> Objective:
    """Return the objective of a target. Against a copy detector it does not hide which bits were flipped."""
    hides = target.band and target.within is None
    return Objective(
        torch.from_numpy(target.wanted.astype(np.float32)),
        features if target.band else None,
        torch.from_numpy(target.original_bits.astype(np.float32)) if hides else None,
    )


def _anchors(model: OpenModel, goal: GoalSpec) -> Bits:
    if model.anchors is None:
        raise GoalError(f"{model.name} has no class anchors, which the goal {goal.kind} needs; use --goal away")
    anchors: Bits = model.anchors.cpu().numpy()
    return anchors


@torch.inference_mode()
def _codes_of(paths: Sequence[Path], models: Sequence[OpenModel]) -> list[NDArray[np.float32]]:
    rows: list[list[NDArray[np.float32]]] = [[] for _ in models]
    for path in paths:
        try:
            data = read_photo_file(path, follow=True).data
        except NotAPhotoError as error:
            raise GoalError(f"the target is not a usable photo: {error}") from error
        except HashshieldError as error:
            raise GoalError(f"{path}: the target cannot be read; name a photo: {error}") from error
        try:
            pixels = displayed_rgb(imaging.read(data, name=str(path)))
        except PhotoError as error:
            raise GoalError(f"the target is not a usable photo: {error}") from error
        for codes, model in zip(rows, models, strict=True):
            codes.append(model.hash(pixels).code)
    return [np.stack(codes) for codes in rows]


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            return handle.read(64)
    except OSError as error:
        raise GoalError(f"{path}: a photo of the set cannot be read ({error.strerror}); make it readable") from error


def _unlistable(folder: Path, error: OSError) -> None:
    raise GoalError(f"{folder}: a folder of the set cannot be listed ({error.strerror}); make it readable") from error
