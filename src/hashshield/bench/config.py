"""The options of every bench, one dataclass each, with their defaults.

The command line derives its options and their defaults from these fields. This module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hashshield.types import GoalKind, GoalSpec

__all__ = [
    "AdaptiveConfig",
    "BaselineConfig",
    "BenchConfig",
    "ConvergenceConfig",
    "CopiesConfig",
    "DeviceConfig",
    "GoalsConfig",
    "HeatmapConfig",
    "MapConfig",
    "MethodsConfig",
    "ScaleConfig",
    "SizeConfig",
    "SpeedConfig",
    "SurvivalConfig",
    "TauConfig",
    "TraditionalConfig",
    "TransferConfig",
    "VisibleConfig",
]

TAU = 0.032
"""L-infinity bound on a change in [0, 1] units, about 8 of 255 levels."""
PAPER_STEPS = 2000
"""Gradient steps that the paper gives every method."""
ANCHOR_PHOTOS = 9
"""Photos of one label set whose bitwise majority is an anchor code (paper section 5.2); odd, to avoid ties."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Options of the benches that attack queries of a labelled dataset and write a result file."""

    models: tuple[str, ...]
    """One checkpoint, for all its code lengths, or some of them as `checkpoint:bits`. Only `transfer` takes several
    checkpoints."""
    data: Path
    """Folder of the dataset in its official layout."""
    output: Path = Path("benchmarks")
    """Folder for `results/`, `plots/`, and `runs/` with the cached trials."""
    queries: int = 24
    """Number of queries to attack."""
    tau: float = TAU
    """L-infinity bound in [0, 1] units."""
    steps: int | None = None
    """Gradient steps of `rnm` per photo and try; None: the method's own number."""
    seed: int = 0
    """Seed of all random draws."""
    device: str = "auto"

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks that must be on this machine."""
        return self.models


@dataclass(frozen=True, kw_only=True)
class LimitConfig(BenchConfig):
    """Options of the benches that run published methods."""

    limit: int = PAPER_STEPS
    """Most gradient steps of any method."""
    anchor: int = ANCHOR_PHOTOS
    """Number of photos of a label set whose bitwise majority is its anchor code."""


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(LimitConfig):
    """Options of the benches that compare `protect` with published methods."""

    presets: tuple[str, ...] = ("invisible", "balanced")
    """Presets of `protect` that get rows."""


@dataclass(frozen=True, kw_only=True)
class TauConfig(LimitConfig):
    """Options of `bench tau`, which takes several bounds instead of one."""

    taus: tuple[float, ...] = (0.01, 0.02, 0.03, 0.04, 0.05)
    """L-infinity bounds in [0, 1] units; the paper's by default."""


@dataclass(frozen=True, kw_only=True)
class ConvergenceConfig(LimitConfig):
    """Options of `bench convergence`."""


@dataclass(frozen=True, kw_only=True)
class TraditionalConfig(LimitConfig):
    """Options of `bench traditional`, which takes several bounds instead of one."""

    taus: tuple[float, ...] = (0.01, 0.02, 0.03, 0.04)
    """L-infinity bounds in [0, 1] units; the paper's by default."""


@dataclass(frozen=True, kw_only=True)
class HeatmapConfig(BenchConfig):
    """Options of `bench heatmap`."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveConfig(BenchConfig):
    """Options of `bench adaptive`."""

    goals: tuple[GoalKind, ...] = ("away", "opposite", "decoy", "center")
    services: tuple[str, ...] = ()
    """Other networks of the service, of the same dataset and split."""
    psnr: float | None = None
    """PSNR in dB to which smaller changes are amplified, so that goals are compared at equal quality; None: no
    amplification."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks that must be on this machine."""
        return (*self.models, *self.services)


@dataclass(frozen=True, kw_only=True)
class TransferConfig(BenchConfig):
    """Options of `bench transfer`."""

    presets: tuple[str, ...] = ()
    """Empty: all presets."""
    goals: tuple[GoalKind, ...] = ("away", "opposite")
    hold_out: str = "lineage"
    """What to hold out: each `lineage` in turn, each `network` in turn, so that its twins are searched on, or only the
    model of that name."""
    surrogates: tuple[str, ...] = ()
    """Further EfficientNet-Lites whose features presets with surrogates move, as `protect` does with installed ones."""
    judges: tuple[str, ...] = ()
    """Networks that only judge, as `WORD` or `WORD=FILE`; see `bench.judges`."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks that must be on this machine."""
        return (*self.models, *self.surrogates)


@dataclass(frozen=True, kw_only=True)
class CopiesConfig:
    """Options of `bench copies`."""

    models: tuple[str, ...]
    """Networks to compare; the first is the copy detector, whose card names dataset and split."""
    data: Path
    """Folder of the dataset in its official layout."""
    detector: Path | None = None
    """ONNX file of a foreign copy detector to measure; None for none."""
    output: Path = Path("benchmarks")
    """Folder for `results/`, and `runs/` with the judges' cached descriptions of the photos."""
    photos: int = 300
    """Number of held-out photos to edit."""
    distractors: int = 3000
    """Number of other held-out photos to tell them apart from."""
    seed: int = 0
    device: str = "auto"

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks that must be on this machine."""
        return self.models


@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """Options of `bench map`."""

    models: tuple[str, ...]
    data: Path
    device: str = "auto"

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks that must be on this machine."""
        return self.models


@dataclass(frozen=True, kw_only=True)
class _OneNetwork:
    """Options of the benches of a single network."""

    model: str
    device: str = "auto"

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks that must be on this machine."""
        return (self.model,)


@dataclass(frozen=True, kw_only=True)
class GoalsConfig(_OneNetwork):
    """Options of `bench goals`."""

    data: Path
    goals: tuple[GoalKind, ...] = ("away",)
    preset: str = "invisible"
    photos: int = 100
    """Number of queries to protect."""
    steps: int | None = None
    """Gradient steps per photo; None: the method's own number."""
    seed: int = 0
    tau: float = TAU


@dataclass(frozen=True, kw_only=True)
class MethodsConfig(_OneNetwork):
    """Options of `bench methods`."""

    data: Path
    photos: int = 100
    """Number of queries for `rnm`."""
    baseline_photos: int = 20
    """Number of queries for the published methods."""
    limit: int = PAPER_STEPS
    """Most gradient steps of the published methods."""
    only: tuple[str, ...] = ()
    """Names of the methods to run; empty: all."""
    seed: int = 0
    tau: float = TAU


@dataclass(frozen=True, kw_only=True)
class SurvivalConfig(_OneNetwork):
    """Options of `bench survival`."""

    photos: Path
    """Folder of photos, which are only read."""
    presets: tuple[str, ...] = ()
    """Empty: all presets."""
    goal: GoalSpec = field(default_factory=GoalSpec)
    png: bool = False
    """True to protect PNG copies whatever the format."""
    count: int | None = None
    """Most photos to protect, taken evenly from all; None: every photo."""
    steps: int | None = None
    """Gradient steps per photo; None: the method's own number."""
    seed: int = 0
    tau: float = TAU


@dataclass(frozen=True, kw_only=True)
class VisibleConfig(_OneNetwork):
    """Options of `bench visible`."""

    photos: Path
    """Folder of photos, which are only read."""
    names: Path | None = None
    """Text file with the names of the photos to take, one a line; None: all."""
    presets: tuple[str, ...] = ()
    """Empty: all presets."""
    goal: GoalSpec = field(default_factory=GoalSpec)
    png: bool = False
    """True to protect PNG copies whatever the format."""
    count: int | None = None
    """Most photos to protect, taken evenly from all; None: every photo."""
    output: Path = Path("benchmarks")
    """Folder that gets `results/` and `plots/`."""
    steps: int | None = None
    """Gradient steps per photo; None: the method's own number."""
    seed: int = 0
    tau: float = TAU


@dataclass(frozen=True, kw_only=True)
class SpeedConfig(_OneNetwork):
    """Options of `bench speed`."""

    photos: Path
    """Folder of photos, which are copied first."""
    batch_size: int = 8
    rounds: int = 5
    """Number of alternating measurements of the loop and of the bare gradient step."""


@dataclass(frozen=True, kw_only=True)
class DeviceConfig(_OneNetwork):
    """Options of `bench device`."""

    photos: Path
    """Folder of photos, which are only read."""
    preset: str = "balanced"
    """Preset of the search that is timed."""
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Photos searched at once."""
    count: int = 32
    """Most photos to hash, and to protect in the run from end to end."""
    steps: int | None = None
    """Gradient steps per photo and try in that run; None: the method's own number."""


@dataclass(frozen=True, kw_only=True)
class SizeConfig(_OneNetwork):
    """Options of `bench size`."""

    photo: Path
    """The photo whose scaled copies are timed."""
    megapixels: tuple[float, ...] = (0.2, 24.0)


@dataclass(frozen=True, kw_only=True)
class ScaleConfig(_OneNetwork):
    """Options of `bench scale`."""

    photos: Path
    """Folder of photos; copies go to a temporary folder."""
    count: int = 96
    """Most photos to protect, taken evenly from all."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers to time, each in a cluster of its own."""
    steps: int | None = None
    """Gradient steps per photo; None: the method's own number."""
