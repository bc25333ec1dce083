"""Value types and protocols shared by all layers, and how long work reports; torch is for the type checker only."""

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
    """What a hash network says of a batch."""

    code: Tensor
    """(N, K) float, relaxed: before any sign or tanh."""
    features: Tensor
    """(N, D) float, the backbone's pooled features."""


View = Callable[["Tensor"], "Tensor"]


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
    """What a protected file keeps of the original, and which files are taken at all."""

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
    """Accept files with several hard links; the other names keep the original."""
    allow_root: bool = False
    """Write as root in folders where other users can write too."""


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that `protect` is to do, resolved from flags, environment and configuration."""

    models: tuple[str, ...] = ("lite0-caltech101:48",)
    surrogates: tuple[str, ...] = ()
    """Networks whose features are moved for the sake of those that nobody named, where the method does that."""
    goal: GoalSpec = GoalSpec()
    method: str = "rnm"
    preset: str = "balanced"
    """What the search promises and prepares for: invisible, balanced or strong."""
    tau: float = 0.032
    """L-infinity bound in [0, 1] units."""
    max_visible: float | str | None = None
    """Highest visibility of the written photo, a number or a word of `hashshield.visible`; None: the preset's own."""
    steps: int | None = None
    """Gradient steps per photo and try; None: the method's own budget, see `attacks.methods`."""
    stop: Literal["budget", "first"] = "budget"
    tolerance: int | None = None
    """Bits a targeted code may be off on the written bytes; None: 0 when lossless, K/16 in JPEG."""
    accept_best: bool = False
    force: bool = False
    backup: bool = True
    dry_run: bool = False
    output: Path | None = None
    """Folder that receives protected copies; None protects in place."""
    place_name: str | None = None
    """Name of the place that the result is for, which draws its code; None: the one code of a photo without a name."""
    rename: bool = False
    """Whether copies get names that tell nothing; with `output`."""
    survival: bool = False
    """Whether receipts hold the whole table of what services do, not only JPEG q75."""
    witness: str = "auto"
    """Network never used in the search that is asked about the result; auto: all that are here and fit; none."""
    exclude: tuple[str, ...] = ()
    """Shell patterns of files and folders to pass over; see `storage.excluded`."""
    sample: int | None = None
    """Only this many of the photos, evenly over all; with `output`, because in place nothing is tried."""
    vault: Path | None = None
    device: str = "auto"
    batch_size: int | None = None
    """Photos searched at once; None: as many as the device's memory is good for."""
    jobs: int | None = None
    seed: int | None = None
    file_options: FileOptions = FileOptions()


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One network and view of a receipt; distances in bits."""

    model: str
    bits: int
    view: str
    distance_from_original: int
    distance_to_goal: int
    min_margin: float
    class_rank: int | None = None
    """How many class anchors are nearer than the one the original was nearest to; None without anchors."""
    cosine: float | None = None
    """Cosine of the features to the original's, for a network whose features are compared so; else None."""
    cosine_threshold: float | None = None
    """The cosine from which on that network takes two photos for one."""
    purpose: str | None = None
    """What the card of a network from elsewhere says it was imported for; None where it says nothing."""


@dataclass(frozen=True, slots=True)
class SurvivalRow:
    """The distances after one more transform of the written photo."""

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
    """What a classical perceptual hash, which nothing here aims at, says of the photo before and after."""

    hash: str
    bits: int
    threshold: int
    """Largest distance that customarily counts as a match."""
    distance: int | None = None
    matches: bool | None = None
    """Whether it still takes the two for one photo."""
    reason: str | None = None
    """Why it was not measured; the two above are then None."""


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """How far the features of a surrogate moved, which the search took for networks that nobody named."""

    model: str
    cosine: float
    """Of the written photo's pooled features to the original's, in the card's view: 1 is unmoved."""


@dataclass(frozen=True, slots=True)
class WitnessRow:
    """What a network that was never used in the search says of the written photo."""

    model: str
    bits: int
    view: str
    distance_from_original: int
    unlinked: bool
    """Whether that is at least 45% of the bits, as between photos that have nothing in common."""
    class_rank: int | None = None
    nearest_reference: int | None = None
    """Bits from the original to the nearest of the network's reference codes; None where its checkpoint has none."""
    finds: bool | None = None
    """Whether the photo is no further from its original than that: a search still finds it. None: no verdict."""


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """How many bits a written photo is from the nearest code that a copy of it for another place was given."""

    model: str
    bits: int
    view: str
    distance: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was measured on the written, re-read bytes."""

    passed: bool
    """Whether the goal is met, at or below the ceiling."""
    codes: tuple[CodeRow, ...]
    survival: tuple[SurvivalRow, ...]
    psnr_db: float
    """Infinite for identical pixels."""
    ssim: float
    linf_levels: int
    """Largest applied delta in 8-bit levels; never above tau."""
    linf_levels_written: int
    """Largest difference of the decoded file, which lossy encoding may raise above tau."""
    surrogates: tuple[FeatureRow, ...] = ()
    """Each network whose features were moved; none for methods that move none."""
    witness: tuple[WitnessRow, ...] = ()
    """Never decides whether the photo passed."""
    no_witness: str | None = None
    """Why no network could be asked; None where one was, and where none was wanted."""
    perceptual: tuple[PerceptualRow, ...] = ()
    """Never decides either; empty unless survival was asked for."""
    places: tuple[PlaceRow, ...] = ()
    """Never decides either; empty unless there are copies for other places."""
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
    """Pictures that the search gave to a network; one view of one photo is one."""
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
    """Metadata kept byte for byte that can link the photo to its owner: GPS, serial numbers, identifiers, capture
    time with camera; and a date in the file's name."""
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
    """One row of `evaluate`: a pair of files compared."""

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
    """Share of pixels with any channel changed, 0 to 1."""
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
    """The photo, or what stands for one that is not known: a row's number or a vault id."""
    status: Literal["kept", "recovered", "damaged", "missing", "unrecoverable", "unrecorded"]
    """Its row was sound; was rebuilt; its original in the vault is damaged, or not there; its row is lost; no row."""
    id: str | None
    """Vault id of the original."""
    reason: str | None = None


class Progress(Protocol):
    """How the pipeline reports; the core knows no terminal."""

    def start(self, total: int) -> None:
        """Announce how many photos will be worked on."""

    def photo(self, path: str) -> None:
        """Name the photo that is being worked on."""

    def done(self, outcome: object) -> None:
        """Report one finished file with its row; None counts work that has no row of its own."""

    def notice(self, text: str) -> None:
        """Tell the user something once (a fallback to the CPU, say)."""


@runtime_checkable
class StepProgress(Progress, Protocol):
    """A `Progress` that also counts gradient steps, to say how long a run will take."""

    def expect(self, steps: float, beside: Mapping[str, float]) -> None:
        """Announce how many steps a photo usually takes, and what else each photo costs, in steps, by its path."""

    def stepped(self, path: str) -> None:
        """Count one step of a photo; called by any thread."""


class NullProgress:
    """A `Progress` that reports nothing, for callers who read only the rows that are returned."""

    def _ignore(self, *_args: object, **_named: object) -> None:
        """Ignore what there is to report."""

    start = photo = done = notice = _ignore
