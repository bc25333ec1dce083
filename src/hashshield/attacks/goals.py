"""Goals: the bits a photo should get, one class per goal. This module must not import torch.

To add a goal, write its class, list it in `GOALS`, and name it in `types.GoalKind` and `config.SETTINGS`. Measure it
with `hashshield bench goals`: a goal that flips many bits can still give the old code away.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hashshield.arrays import Bits
from hashshield.errors import GoalError

__all__ = [
    "GOALS",
    "Away",
    "Center",
    "Decoy",
    "FixedCode",
    "Goal",
    "HashedPhoto",
    "Opposite",
    "away_band",
    "draw_away",
    "draw_decoy",
    "in_band",
    "nearest_class",
    "photo_generator",
]


_MOST_DRAWS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class HashedPhoto:
    """One original as one network sees it: everything a goal may depend on."""

    network: str
    bits: Bits
    """(K,) in {-1, +1}, in the network's `card` view."""
    anchors: Bits | None
    """(C, K) anchor codes of the network's classes; None if its checkpoint has none."""
    generator: np.random.Generator
    """Secret randomness of this photo and network; see `photo_generator`."""
    other_view_bits: Sequence[Bits] = ()
    """The photo's (K,) bits in the other views."""
    apart_from: Sequence[Bits] = ()
    """Target bits of the photo's copies for other places."""
    sha256: str = ""
    """Digest of the photo's file."""

    @property
    def nearest(self) -> int | None:
        """Row of the nearest anchor; None without anchors."""
        return None if self.anchors is None else nearest_class(self.bits, self.anchors)


class Goal(Protocol):
    """Which bits a photo should get."""

    @property
    def label(self) -> str:
        """The goal's name in messages, receipts and the ledger."""
        ...

    @property
    def needs_anchors(self) -> bool:
        """True if the network's checkpoint must hold class anchors."""
        ...

    @property
    def is_band(self) -> bool:
        """True if the goal is a distance from the original (`away_band`), False if it is one code."""
        ...

    def target_bits(self, photo: HashedPhoto) -> Bits:
        """Return the (K,) bits to aim at. Raises GoalError if this photo cannot have them."""
        ...


@dataclass(frozen=True, slots=True)
class Away:
    """A random code that differs from the photo's own in half of the bits; see `draw_away`."""

    label: str = "away"
    needs_anchors: bool = False
    is_band: bool = True

    def target_bits(self, photo: HashedPhoto) -> Bits:
        """Return a random code, half the bits away from the photo's own in every view and from its nearest anchor."""
        nearest = photo.nearest
        anchor = None if photo.anchors is None or nearest is None else photo.anchors[nearest]
        return draw_away(photo.bits, anchor, photo.generator, photo.other_view_bits, photo.apart_from)


@dataclass(frozen=True, slots=True)
class Opposite:
    """Every bit flipped. A service that queries with the complement of the old code finds the photo again."""

    label: str = "opposite"
    needs_anchors: bool = False
    is_band: bool = False

    def target_bits(self, photo: HashedPhoto) -> Bits:
        """Return the complement of the photo's bits."""
        return -photo.bits


@dataclass(frozen=True, slots=True)
class Decoy:
    """The anchor of a random class that is far enough from the photo; see `draw_decoy`."""

    label: str = "decoy"
    needs_anchors: bool = True
    is_band: bool = False

    def target_bits(self, photo: HashedPhoto) -> Bits:
        """Return a random anchor that is far enough. Raises GoalError if there is none."""
        anchors = _anchors(photo)
        chosen: Bits = anchors[draw_decoy(photo.bits, anchors, photo.generator)]
        return chosen


@dataclass(frozen=True, slots=True)
class Center:
    """The complement of the anchor of the nearest class."""

    label: str = "center"
    needs_anchors: bool = True
    is_band: bool = False

    def target_bits(self, photo: HashedPhoto) -> Bits:
        """Return the complement of the nearest anchor."""
        anchors = _anchors(photo)
        nearest: Bits = anchors[nearest_class(photo.bits, anchors)]
        return -nearest


@dataclass(frozen=True, slots=True, eq=False)
class FixedCode:
    """One code for every photo: that of an image (P2P), of a set of images (P2S), or of a class."""

    label: str
    bits_of_network: Mapping[str, Bits]
    needs_anchors: bool = False
    is_band: bool = False

    def target_bits(self, photo: HashedPhoto) -> Bits:
        """Return the target's bits on the photo's network. Raises GoalError if the photo already has them."""
        bits = self.bits_of_network[photo.network]
        if np.array_equal(bits, photo.bits):
            raise GoalError(f"the target already has this photo's code on {photo.network}; choose another target")
        return bits


GOALS: dict[str, Goal] = {goal.label: goal for goal in (Away(), Opposite(), Decoy(), Center())}
"""The goals that need no target, by the name that users write."""


def _anchors(photo: HashedPhoto) -> Bits:
    assert photo.anchors is not None, "a network without anchors is refused before any photo is hashed"
    return photo.anchors


def away_band(bits: int) -> tuple[int, int]:
    """Return the least and greatest distance that `away` accepts: 45 and 55% of the code, rounded to whole bits."""
    return round(0.45 * bits), round(0.55 * bits)


def in_band(distance: int, bits: int) -> bool:
    """Return whether a distance lies in `away_band`."""
    low, high = away_band(bits)
    return low <= distance <= high


def photo_generator(key: bytes, sha256: str, purpose: str, place_name: str | None = None) -> np.random.Generator:
    """Return a generator seeded with the HMAC-SHA256 of the photo's digest and a purpose under the installation's key.

    With a public seed anyone could rerun the tool on a candidate photo and confirm a match. `place_name` gives the copy
    for that place randomness of its own.
    """
    text = f"{sha256}:{purpose}" if place_name is None else f"{sha256}:{purpose}\0{place_name}"
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def draw_away(
    original_bits: Bits,
    anchor: Bits | None,
    generator: np.random.Generator,
    other_view_bits: Sequence[Bits] = (),
    apart_from: Sequence[Bits] = (),
) -> Bits:
    """Return the photo's own (K,) bits with a random half flipped, within `away_band` of `anchor`, its nearest class's.

    The code also differs in K / 2 bits, give or take one, from each of `other_view_bits` (the photo's bits in other
    views) and of `apart_from` (the codes of its copies for other places). If no random draw meets all of these, the
    best one is returned; with `apart_from`, after exchanging pairs of its bits.

    Bits are never chosen by how easily they flip, because an adaptive service guesses those first. Exactly half leaves
    room on both sides of the band for bits that encoding changes.
    """
    length = len(original_bits)
    low, high = away_band(length)
    halves = (*other_view_bits, *apart_from)

    def gap_of(candidate: Bits) -> int:
        gap = 0 if anchor is None else _outside(int(np.count_nonzero(candidate != anchor)), low, high)
        return gap + sum(
            _outside(int(np.count_nonzero(candidate != bits)), length // 2 - 1, length // 2 + 1) for bits in halves
        )

    best, best_gap = original_bits, length * (1 + len(halves)) + 1
    for _ in range(_MOST_DRAWS):
        candidate = original_bits.copy()
        candidate[generator.permutation(length)[: length // 2]] *= -1
        gap = gap_of(candidate)
        if gap < best_gap:
            best, best_gap = candidate, gap
        if gap == 0:
            break
    return best if best_gap == 0 or not apart_from else _exchanged(best, original_bits, gap_of, generator)


def _exchanged(code: Bits, original_bits: Bits, gap_of: Callable[[Bits], int], generator: np.random.Generator) -> Bits:
    """Swap random pairs of a flipped and a kept bit whenever the gap does not grow; stop when the gap is 0."""
    best, gap = code, gap_of(code)
    for _ in range(_MOST_DRAWS):
        turned = best != original_bits
        if gap == 0 or turned.all() or not turned.any():
            break
        pair = [int(generator.choice(np.flatnonzero(turned))), int(generator.choice(np.flatnonzero(~turned)))]
        candidate = best.copy()
        candidate[pair] *= -1
        found = gap_of(candidate)
        if found <= gap:
            best, gap = candidate, found
    return best


def _outside(distance: int, low: int, high: int) -> int:
    return max(low - distance, distance - high, 0)


def draw_decoy(original_bits: Bits, anchors: Bits, generator: np.random.Generator) -> int:
    """Return the row of (C, K) `anchors` of a random class at least 35% of the bits away from the photo's own.

    Raises GoalError if no class is that far.
    """
    distances = np.count_nonzero(anchors != original_bits, axis=1)
    far = np.flatnonzero(distances >= 0.35 * len(original_bits))
    if not len(far):
        raise GoalError(
            f"no class anchor is at least 35% of {len(original_bits)} bits from this photo's code (the farthest is "
            f"{int(distances.max())} bits away); use --goal away"
        )
    return int(generator.choice(far))


def nearest_class(original_bits: Bits, anchors: Bits) -> int:
    """Return the row of (C, K) `anchors` nearest to the (K,) bits; of equally near ones, the first."""
    return int(np.count_nonzero(anchors != original_bits, axis=1).argmin())
