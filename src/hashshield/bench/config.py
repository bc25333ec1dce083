"""The options of every bench, with their defaults: one dataclass each.

The command line makes its options from these fields and takes their defaults from here. No torch is needed.
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
]

TAU = 0.032
"""L-infinity bound on a change in [0, 1] units, about 8 of 255 levels."""
PAPER_STEPS = 2000
"""Gradient steps that the paper gives every method."""
ANCHOR_PHOTOS = 9
"""Photos of one label set whose component vote is an anchor code (paper section 5.2); odd, so that no vote is a tie."""


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Options of the benches that attack queries of a labelled dataset and write a result file."""

    models: tuple[str, ...]
    """One checkpoint, for all its code lengths, or some lengths of it as `checkpoint:bits`. Only `transfer` takes
    several checkpoints."""
    data: Path
    """Folder of the dataset in its official layout."""
    output: Path = Path("benchmarks")
    """Folder that gets `results/`, `plots/`, and `runs/` with the trials, which are never made twice."""
    queries: int = 24
    """Number of queries to attack."""
    tau: float = TAU
    """L-infinity bound in [0, 1] units."""
    steps: int | None = None
    """Gradient steps of `rnm` per photo and try; None: the method's own number."""
    seed: int = 0
    """Seed of everything that is drawn."""
    device: str = "auto"

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks that must be on this machine."""
        return self.models


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(BenchConfig):
    """Options of the benches that compare with published methods."""

    baseline_queries: int = 8
    """Number of queries for the published methods, which take many more steps."""
    limit: int = PAPER_STEPS
    """Most gradient steps of any method."""
    anchor: int = ANCHOR_PHOTOS
    """Photos of a label set whose component vote is its anchor code."""


@dataclass(frozen=True, kw_only=True)
class TauConfig(BaselineConfig):
    """Options of `bench tau`, which takes several bounds in place of one."""

    taus: tuple[float, ...] = (0.01, 0.02, 0.03, 0.04, 0.05)
    """L-infinity bounds in [0, 1] units; the paper's by default."""


@dataclass(frozen=True, kw_only=True)
class ConvergenceConfig(BenchConfig):
    """Options of `bench convergence`."""

    queries: int = 8
    limit: int = PAPER_STEPS
    """Most gradient steps of any method."""
    anchor: int = ANCHOR_PHOTOS
    """Photos of a label set whose component vote is its anchor code."""


@dataclass(frozen=True, kw_only=True)
class TraditionalConfig(BenchConfig):
    """Options of `bench traditional`, which takes several bounds in place of one."""

    taus: tuple[float, ...] = (0.01, 0.02, 0.03, 0.04)
    """L-infinity bounds in [0, 1] units; the paper's by default."""


@dataclass(frozen=True, kw_only=True)
class HeatmapConfig(BenchConfig):
    """Options of `bench heatmap`."""

    queries: int = 12


@dataclass(frozen=True, kw_only=True)
class AdaptiveConfig(BenchConfig):
    """Options of `bench adaptive`."""

    goals: tuple[GoalKind, ...] = ("away", "opposite", "decoy", "center")
    services: tuple[str, ...] = ()
    """Other networks of the service, of the same dataset and split."""
    psnr: float | None = None
    """PSNR in dB to which smaller changes are amplified, so that goals are compared at one price; None: as they are."""

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
class SpeedConfig(_OneNetwork):
    """Options of `bench speed`."""

    photos: Path
    """Folder of photos, which are copied first."""
    batch_size: int = 8
    rounds: int = 5
    """Number of alternating measurements of the loop and of the bare gradient step."""


@dataclass(frozen=True, kw_only=True)
class SizeConfig(_OneNetwork):
    """Options of `bench size`."""

    photo: Path
    """A photo, of which scaled copies are timed."""
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
