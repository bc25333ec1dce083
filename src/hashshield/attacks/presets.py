"""Presets: what a search promises and prepares for, whatever the goal and method."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hashshield.attacks.grid import SHORT_SIDE
from hashshield.attacks.masking import COARSE_GRAIN, FINE_GRAIN, MIDDLE_GRAIN, Spectra
from hashshield.attacks.objectives import MIN_MARGIN
from hashshield.errors import UnknownNameError
from hashshield.transforms import CARD, SQUASH
from hashshield.transforms.differentiable import SHARING_TRANSFORMS, Transforms

__all__ = ["PRESETS", "Margins", "Preset", "preset"]


@dataclass(frozen=True, slots=True)
class Margins:
    """The least margin of every bit, try by try; it depends on what a try knows of the encoder."""

    first_try: dict[bool, float]
    """First try without knowledge of the encoder; by whether the format is lossless."""
    with_writing_model: tuple[float | None, float, float]
    """Tries that encode at every step, so that what they reach is in the file. None: the method's own margin."""
    with_last_write: tuple[float, float]
    """Later tries that know only what the last file became."""

    def of(self, tries: int, *, sees_writing: bool, lossless: bool, method_margin: float) -> float:
        """Return the least margin for the next try, after `tries` of them; `method_margin` is the method's own."""
        if sees_writing:
            min_margin = self.with_writing_model[tries]
            return method_margin if min_margin is None else min_margin
        return self.first_try[lossless] if tries == 0 else self.with_last_write[tries - 1]


@dataclass(frozen=True, slots=True)
class Preset:
    """One way of being prepared."""

    name: str
    views: tuple[str, ...]
    """In which the written photo must meet the goal, on each network; the first decides what is wanted."""
    margins: Margins
    search: str
    """The row of `attacks.methods` that stands for `rnm`."""
    transforms: Transforms | None = None
    """What is done to the photo before a step; None: nothing, ever."""
    allowed_misses: int = 0
    """Bits that may miss the margin in a look, where the receipt forgives as many."""
    allowed_misses_in_band: int = 0
    """The same where the goal is a distance, not a code."""
    spectra: Spectra | None = None
    """How a change is hidden; see `attacks.masking`. None: it is not."""
    own_pixels: int = SHORT_SIDE
    """Pixels of the short side up to which a photo is searched at its own size; see `attacks.grid.make_grid`."""
    max_visible: float = math.inf
    """Highest visibility of a written photo that counts as protected, unless a ceiling was asked for."""
    sees_writing: bool = False
    """Whether the first try of a small lossy photo writes it at every step; lossless ones always do."""


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        Preset(
            "invisible",
            (CARD,),
            Margins({True: MIN_MARGIN, False: 0.15}, (None, MIN_MARGIN, 0.2), (0.2, 0.5)),
            search="rnm-masked",
            spectra=FINE_GRAIN,
            own_pixels=512,
            max_visible=0.9,
            sees_writing=True,
        ),
        Preset(
            "balanced",
            (CARD, SQUASH),
            Margins({True: 0.02, False: MIN_MARGIN}, (0.02, MIN_MARGIN, 0.1), (0.1, 0.2)),
            search="rnm-features",
            transforms=SHARING_TRANSFORMS,
            allowed_misses=1,
            allowed_misses_in_band=2,
            spectra=MIDDLE_GRAIN,
            own_pixels=512,
            max_visible=1.6,
            sees_writing=True,
        ),
        Preset(
            "strong",
            (CARD, SQUASH),
            Margins({True: MIN_MARGIN, False: 0.1}, (MIN_MARGIN, 0.1, 0.2), (0.2, 0.5)),
            search="rnm-transfer",
            transforms=SHARING_TRANSFORMS,
            allowed_misses=1,
            allowed_misses_in_band=2,
            spectra=COARSE_GRAIN,
            own_pixels=512,
            max_visible=2.0,
            sees_writing=True,
        ),
    )
}


def preset(name: str) -> Preset:
    """The preset of that name. Raises UnknownNameError."""
    if name not in PRESETS:
        raise UnknownNameError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]
