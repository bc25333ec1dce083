"""Value types and protocols that all layers share: requests, receipts, result rows and progress.

Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CodeRow",
    "Codes",
    "Evaluation",
    "FeatureRow",
    "FileOptions",
    "GoalKind",
    "GoalSpec",
    "NullProgress",
    "Outcome",
    "PerceptualRow",
    "PlaceRow",
    "Progress",
    "Receipt",
    "Repaired",
    "Request",
    "Restoration",
    "Status",
    "StepProgress",
    "SurvivalRow",
    "Verdict",
    "Verification",
    "View",
    "WitnessRow",
]

GoalKind = Literal["away", "opposite", "decoy", "center", "image", "set", "class"]
Status = Literal["protected", "already", "planned", "skipped", "short", "partial", "failed"]
Verdict = Literal["protected", "not_protected", "original", "unknown", "skipped", "failed"]


class Codes(NamedTuple):
    """The output of a hash network for a batch of N photos."""

    code: Tensor
    """(N, K) float, before any sign or tanh."""
    features: Tensor
    """(N, D) float, the backbone's pooled features."""


View = Callable[["Tensor"], "Tensor"]
"""A differentiable map from a batch of images to a batch of images, (N, 3, H, W) in [0, 1]."""


@dataclass(frozen=True, slots=True)
class GoalSpec:
    """The goal as the user asked for it, before a model turns it into bits."""

    kind: GoalKind = "away"
    value: str | None = None
    """The target image's path, the set's folder, or the class name."""

    @property
    def label(self) -> str:
        """The goal in receipts and the ledger: its kind, and its value if it has one."""
        return self.kind if self.value is None else f"{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What a protected file keeps of the original, and which files are accepted."""

    strip_copies: bool = False
    """Remove thumbnails and other copies of the picture that are not protected."""
    strip_gps: bool = False
    """Remove the position."""
    strip_metadata: bool = False
    """Remove all metadata but orientation and colour profile."""
    remove_credentials: bool = False
    """Remove content credentials (C2PA), which no longer match."""
    keep_mtime: bool = False
    """Keep the modification time."""
    lossy_formats: bool = False
    """Accept HEIC and AVIF, which lose a little each time they are written."""
    break_links: bool = False
    """Accept files with several hard links; names outside the run keep the original."""
    allow_root: bool = False
    """Write as root in folders where other users can write too."""


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that `protect` is to do, resolved from flags, environment and configuration."""

    models: tuple[str, ...] = ("lite0-caltech101:48",)
    surrogates: tuple[str, ...] = ()
    """Networks whose features the search also moves, so that the change transfers to others; some methods do not."""
    goal: GoalSpec = GoalSpec()
    method: str = "rnm"
    preset: str = "balanced"
    """What the search prepares for: invisible, balanced or strong; see `attacks.presets`."""
    tau: float = 0.032
    """Largest change of any pixel, in [0, 1] units."""
    max_visible: float | str | None = None
    """Highest visibility of the written photo, a number or a word of `hashshield.visible`; None: the preset's own."""
    steps: int | None = None
    """Gradient steps per photo and try; None: the method's own number, see `attacks.methods`."""
    stop: Literal["budget", "first"] = "budget"
    tolerance: int | None = None
    """Bits by which the written photo may miss a target; None: 0 in lossless formats, else K/16."""
    accept_best: bool = False
    force: bool = False
    backup: bool = True
    dry_run: bool = False
    output: Path | None = None
    """Folder that receives protected copies; None protects in place."""
    place_name: str | None = None
    """Name of the place that the copy is for; each name gets a code of its own. None: the code without a name."""
    rename: bool = False
    """Give copies names that reveal nothing; needs `output`."""
    survival: bool = False
    """Measure the written photo after every transform, not only after JPEG q75."""
    witness: str = "auto"
    """Network kept out of the search, to check the result with: a name, `none`, or `auto` for all that are suitable."""
    exclude: tuple[str, ...] = ()
    """Shell patterns of files and folders to skip; see `storage.excluded`."""
    sample: int | None = None
    """Protect only this many of the photos, spread evenly over all; needs `output`, so that no photo changes."""
    vault: Path | None = None
    device: str = "auto"
    batch_size: int | None = None
    """Photos searched at once; None: as many as fit into the device's memory."""
    jobs: int | None = None
    seed: int | None = None
    file_options: FileOptions = FileOptions()


@dataclass(frozen=True, slots=True)
class CodeRow:
    """What one network measured in one view; distances in bits."""

    model: str
    bits: int
    view: str
    distance_from_original: int
    distance_to_goal: int
    min_margin: float
    class_rank: int | None = None
    """How many class anchors are nearer than the one the original was nearest to; None without anchors."""
    cosine: float | None = None
    """Cosine similarity to the original's features; None for a network whose features are not compared."""
    cosine_threshold: float | None = None
    """The cosine at and above which the network counts two photos as the same; None without one."""
    purpose: str | None = None
    """The purpose on an imported network's card (see `checkpoints.card`); None without one."""


@dataclass(frozen=True, slots=True)
class SurvivalRow:
    """The distances of the written photo after one transform."""

    transform: str
    model: str
    view: str
    distance_from_original: int | None = None
    distance_to_goal: int | None = None
    passed: bool | None = None
    reason: str | None = None
    """Why the transform does not apply to this photo; the three above are then None."""


@dataclass(frozen=True, slots=True)
class PerceptualRow:
    """Original and written photo compared by a classical perceptual hash, which no search targets."""

    hash: str
    bits: int
    threshold: int
    """Largest distance that customarily counts as a match."""
    distance: int | None = None
    matches: bool | None = None
    """Whether the hash still matches the two."""
    reason: str | None = None
    """Why it was not measured; the two above are then None."""


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """How far the search moved the features of one surrogate."""

    model: str
    cosine: float
    """Cosine similarity of the written photo's pooled features to the original's, in the card's view; 1 is unmoved."""


@dataclass(frozen=True, slots=True)
class WitnessRow:
    """The written photo measured by a witness, a network that the search did not use; distances in bits."""

    model: str
    bits: int
    view: str
    distance_from_original: int
    unlinked: bool
    """Whether that distance is at least 45% of the bits, as between unrelated photos."""
    class_rank: int | None = None
    nearest_reference: int | None = None
    """Bits from the original to the nearest of the network's reference codes; None if its checkpoint has none."""
    finds: bool | None = None
    """Whether a search still finds the photo: it is at most `nearest_reference` from its original. None: no verdict."""


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """The distance in bits from the written photo to the nearest code given to a copy for another place."""

    model: str
    bits: int
    view: str
    distance: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Measurements of the written photo, read back from its bytes."""

    passed: bool
    """Whether the goal is met, at or below the ceiling."""
    codes: tuple[CodeRow, ...]
    survival: tuple[SurvivalRow, ...]
    psnr_db: float
    """Infinite for identical pixels."""
    ssim: float
    linf_levels: int
    """Largest change that the search applied, in 8-bit levels; never above tau."""
    linf_levels_written: int
    """Largest difference of the decoded file, which lossy encoding may raise above tau."""
    surrogates: tuple[FeatureRow, ...] = ()
    """One row per network whose features were moved; empty for methods that move none."""
    witness: tuple[WitnessRow, ...] = ()
    """For information; does not affect `passed`."""
    no_witness: str | None = None
    """Why there was no witness; None if there was one or none was requested."""
    perceptual: tuple[PerceptualRow, ...] = ()
    """For information; does not affect `passed`. Empty unless survival was requested."""
    places: tuple[PlaceRow, ...] = ()
    """For information; does not affect `passed`. Empty unless copies for other places exist."""
    reached: bool = True
    """Whether the goal is met, however visible the change is."""
    visibility: float = 0.0
    """How visible the change is; see `hashshield.visible`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of `protect`; scalars are the worst over `codes`. JSON keys are these names."""

    path: str
    status: Status
    output: str | None = None
    reason: str | None = None
    model: str | None = None
    bits: int | None = None
    method: str | None = None
    preset: str | None = None
    goal: str | None = None
    place_name: str | None = None
    tau: float | None = None
    max_visible: float | None = None
    """Highest visibility allowed; infinite for no ceiling."""
    linf_levels: int | None = None
    linf_levels_written: int | None = None
    distance_from_original: int | None = None
    distance_to_goal: int | None = None
    visibility: float | None = None
    visibility_word: str | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    steps: int | None = None
    evaluations: int | None = None
    """Pictures that the search gave to a network; each view of each photo counts as one."""
    seconds: float | None = None
    sha256_before: str | None = None
    sha256_after: str | None = None
    codes: tuple[CodeRow, ...] = ()
    survival: tuple[SurvivalRow, ...] = ()
    surrogates: tuple[FeatureRow, ...] = ()
    witness: tuple[WitnessRow, ...] = ()
    no_witness: str | None = None
    perceptual: tuple[PerceptualRow, ...] = ()
    places: tuple[PlaceRow, ...] = ()
    unprotected_copies: tuple[str, ...] = ()
    links_to_owner: tuple[str, ...] = ()
    """What can link the photo to its owner: kept metadata (GPS, serial numbers, identifiers, capture time with
    camera) and a date in the file's name."""
    broken_credentials: bool = False
    """Whether the result holds content credentials (C2PA), whose signature matches the original only."""


@dataclass(frozen=True, slots=True)
class Verification:
    """One row of `verify`: the file hashed now, against the ledger or a given original and goal."""

    path: str
    status: Verdict
    reason: str | None = None
    source: Literal["ledger", "original"] | None = None
    goal: str | None = None
    distance_from_original: int | None = None
    distance_to_goal: int | None = None
    codes: tuple[CodeRow, ...] = ()
    hex_codes: dict[str, str] = field(default_factory=dict)
    """The file's own bits per model, hexadecimal, most significant bit first."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One row of `evaluate`: an original compared with its protected copy."""

    original: str
    protected: str
    status: Literal["compared", "failed"]
    reason: str | None = None
    visibility: float | None = None
    visibility_word: str | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    linf_levels: int | None = None
    changed_pixels: float | None = None
    """Share of pixels in which any channel changed, 0 to 1."""
    codes: tuple[CodeRow, ...] = ()
    survival: tuple[SurvivalRow, ...] = ()
    perceptual: tuple[PerceptualRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Restoration:
    """One row of `restore`."""

    path: str
    status: Literal["restored", "planned", "skipped", "failed"]
    reason: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Repaired:
    """One row of `originals repair`."""

    path: str
    """The photo's path; if that is unknown, a row's number or a vault id."""
    status: Literal["kept", "recovered", "damaged", "missing", "unrecoverable", "unrecorded"]
    """In this order: row sound, row rebuilt, original damaged, original missing, row lost, original without a row."""
    id: str | None
    """Vault id of the original."""
    reason: str | None = None


class Progress(Protocol):
    """Receives the pipeline's reports; the command line shows them, other callers may ignore them."""

    def start(self, total: int) -> None:
        """Announce the number of photos."""

    def photo(self, path: str) -> None:
        """Name the photo that is being processed."""

    def done(self, outcome: object) -> None:
        """Report one finished file with its row; None reports finished work without a row."""

    def notice(self, text: str) -> None:
        """Tell the user something, such as a fallback to the CPU."""


@runtime_checkable
class StepProgress(Progress, Protocol):
    """A `Progress` that also counts gradient steps, to estimate how long a run will take."""

    def expect(self, steps: float, beside: Mapping[str, float]) -> None:
        """Announce a photo's usual number of steps and, by path, the cost of its other work converted to steps."""

    def stepped(self, path: str) -> None:
        """Count one step of a photo; may be called from any thread."""


class NullProgress:
    """A `Progress` that reports nothing, for callers who only read the returned rows."""

    def _ignore(self, *_args: object, **_named: object) -> None:
        """Ignore what there is to report."""

    start = photo = done = notice = _ignore
