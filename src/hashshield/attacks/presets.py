"""Presets: which views a search promises, which transforms it prepares for, and how visible its change may be."""

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
    """The least margin of every bit, per try. A try that models encoding more closely needs a smaller one."""

    first_try: dict[bool, float]
    """First try, if the search does not see the encoded photo; by whether the format is lossless."""
    with_writing_model: tuple[float | None, float, float]
    """First to third try, if the search encodes the photo at every step. None: the method's own margin."""
    with_last_write: tuple[float, float]
    """Second and third try, if the search only corrects for how the last file was encoded."""

    def of(self, tries: int, *, sees_writing: bool, lossless: bool, method_margin: float) -> float:
        """Return the least margin for the next try, after `tries` earlier ones.

        `sees_writing`: the search encodes the photo at every step. `method_margin`: the method's own least margin.
        """
        if sees_writing:
            min_margin = self.with_writing_model[tries]
            return method_margin if min_margin is None else min_margin
        return self.first_try[lossless] if tries == 0 else self.with_last_write[tries - 1]


@dataclass(frozen=True, slots=True)
class Preset:
    """One preset; see `PRESETS`."""

    name: str
    views: tuple[str, ...]
    """Views in which the written photo must meet the goal, on each network; target bits are chosen in the first."""
    margins: Margins
    search: str
    """Name of the method in `attacks.methods` that `rnm` means under this preset."""
    transforms: Transforms | None = None
    """Transforms that the search prepares for; None: none."""
    allowed_misses: int = 0
    """Bits that may miss the least margin in one observation, if the receipt tolerates as many."""
    allowed_misses_in_band: int = 0
    """The same for goals that accept a band of distances."""
    spectra: Spectra | None = None
    """Where a change goes in luma, colour and frequency; see `attacks.masking`. None: no perceptual mask."""
    own_pixels: int = SHORT_SIDE
    """Longest short side, in pixels, of a photo searched at its own size; see `attacks.grid.make_grid`."""
    max_visible: float = math.inf
    """Default ceiling: the highest visibility of a written photo that counts as protected."""
    sees_writing: bool = False
    """Whether the first try of a small lossy photo encodes it at every step; lossless photos always are."""


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
    """Return the preset called `name`. Raises UnknownNameError."""
    if name not in PRESETS:
        raise UnknownNameError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]
