"""Options of the commands with their help texts, and helpers that turn their values into settings and a goal.

An option whose name is a key of `config.SETTINGS` has no default here: None means "not given", and the value comes from
the environment, the configuration file or the default, in that order. To add an option to a command, add a type alias
here and a parameter of that type to the command's function.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.config import SETTINGS

if TYPE_CHECKING:
    from hashshield.types import GoalSpec

__all__ = [
    "AcceptBest",
    "AllowRoot",
    "BatchSize",
    "BreakLinks",
    "Device",
    "DryRun",
    "Engine",
    "EveryFile",
    "Exclude",
    "Force",
    "Jobs",
    "Json",
    "KeepMtime",
    "LossyFormats",
    "MaxVisible",
    "Method",
    "Models",
    "NoBackup",
    "OptionalGoal",
    "Output",
    "Paths",
    "Place",
    "Preset",
    "ProgressKind",
    "Quiet",
    "RayAddress",
    "Redact",
    "RemoveCredentials",
    "Rename",
    "ReportPage",
    "Sample",
    "Seed",
    "Steps",
    "Stop",
    "StripCopies",
    "StripGps",
    "StripMetadata",
    "Survival",
    "TargetClass",
    "TargetImage",
    "TargetSet",
    "Tau",
    "Tolerance",
    "Vault",
    "Verbose",
    "Witness",
    "Workers",
    "Yes",
    "default_note",
    "expanded",
    "goal_of",
    "setting",
    "switch",
    "words",
]


AIM, SEARCH, FILES, FLEET, REPORT = "What to aim at", "Search", "Files", "Many machines", "Report"


def default_note(key: str) -> str:
    """Return ` [default: ...]` for the help text of a setting, escaped for rich; "" for a switch or no default."""
    text = SETTINGS[key].default_text
    return f" \\[default: {text}]" if text and SETTINGS[key].kind != "switch" else ""


def words(key: str) -> str:
    """Return the choices of a setting as `a, b or c`."""
    *most, last = SETTINGS[key].choices
    return f"{', '.join(most)} or {last}"


def setting(key: str, text: str, *, panel: str, metavar: str | None = None) -> Any:
    """Return the Typer option for a key of `config.SETTINGS`."""
    return typer.Option(
        SETTINGS[key].option,
        help=text + default_note(key),
        metavar=metavar,
        show_default=False,
        rich_help_panel=panel,
    )


def switch(*names: str, text: str, panel: str) -> Any:
    """Return an option without a value and without a negative form; the environment can switch a setting off."""
    return typer.Option(*names, help=text, metavar="", rich_help_panel=panel)


# `readable=False`, because Typer would end the whole run for one unreadable file; the pipeline reports it in a row.
Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH", readable=False, help="Photos, or folders; - for one photo through a pipe."),
]

Models = Annotated[
    list[str] | None,
    setting("model", "Network to search against, as NAME or NAME:BITS; repeat for several.", panel=AIM, metavar="NAME"),
]
TargetImage = Annotated[
    Path | None, typer.Option("--target", metavar="IMAGE", help="Aim at this image's code.", rich_help_panel=AIM)
]
TargetSet = Annotated[
    Path | None,
    typer.Option("--target-set", metavar="DIR", help="Aim at the anchor of these images.", rich_help_panel=AIM),
]
TargetClass = Annotated[
    str | None,
    typer.Option("--target-class", metavar="CLASS", help="Aim at the anchor of a class.", rich_help_panel=AIM),
]
OptionalGoal = Annotated[
    str | None,
    setting("goal", f"Goal without a target: {words('goal')}.", panel=AIM, metavar="WORD"),
]
Tolerance = Annotated[
    int | None,
    setting("tolerance", "Bits by which a targeted code may miss; 0 if lossless, else K/16.", panel=AIM, metavar="N"),
]
Preset = Annotated[
    str | None,
    setting(
        "preset",
        "What to prepare for: invisible (the file as it is), balanced (what services do to it) or strong (networks "
        "never searched on; can be seen).",
        panel=AIM,
        metavar="WORD",
    ),
]
Device = Annotated[
    str | None,
    setting(
        "device",
        f"Where the networks run: {words('device')}. auto takes CUDA or the CPU; mps is experimental.",
        panel=SEARCH,
        metavar="WORD",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", min=0, help="Make results repeatable; for benchmarks only.", rich_help_panel=SEARCH
    ),
]
Vault = Annotated[Path | None, setting("vault", "Folder of the originals and the ledger.", panel=FILES, metavar="DIR")]
Exclude = Annotated[
    list[str] | None,
    setting(
        "exclude", "Skip files and folders that match this shell pattern; repeatable.", panel=FILES, metavar="GLOB"
    ),
]
DryRun = Annotated[bool, switch("--dry-run", "-n", text="Show what would be done, and do nothing.", panel=FILES)]
Force = Annotated[bool, switch("--force", text="Start again from the vault's original.", panel=FILES)]
BreakLinks = Annotated[bool, switch("--break-links", text="Accept files with several hard links.", panel=FILES)]
StripCopies = Annotated[
    bool, switch("--strip-copies", text="Remove thumbnails and other unprotected copies.", panel=FILES)
]
StripGps = Annotated[bool, switch("--strip-gps", text="Remove the position.", panel=FILES)]
StripMetadata = Annotated[
    bool, switch("--strip-metadata", text="Remove all metadata but orientation and colour profile.", panel=FILES)
]
RemoveCredentials = Annotated[
    bool,
    switch("--remove-credentials", text="Remove content credentials (C2PA), which no longer match.", panel=FILES),
]
KeepMtime = Annotated[bool, switch("--keep-mtime", text="Keep the modification time.", panel=FILES)]
LossyFormats = Annotated[
    bool,
    switch(
        "--lossy-formats", text="Accept HEIC and AVIF, which lose a little each time they are written.", panel=FILES
    ),
]
Tau = Annotated[
    float | None, setting("tau", "Largest change of any pixel, 1/255 to 1.", panel=SEARCH, metavar="NUMBER")
]
MaxVisible = Annotated[
    str | None,
    setting(
        "max_visible",
        f"How visible the change may be: {words('max_visible')}, or a number; unset: the preset's.",
        panel=SEARCH,
        metavar="LEVEL",
    ),
]
Steps = Annotated[int | None, setting("steps", "Gradient steps per photo.", panel=SEARCH, metavar="N")]
AllowRoot = Annotated[
    bool, switch("--allow-root", text="As root, write to folders that others can write to.", panel=FILES)
]
Survival = Annotated[
    bool, switch("--survival", text="Also measure what survives the processing that services apply.", panel=REPORT)
]
Json = Annotated[bool, switch("--json", text="Print one JSON document.", panel=REPORT)]
Quiet = Annotated[bool, switch("--quiet", "-q", text="Print only what went wrong.", panel=REPORT)]
Verbose = Annotated[
    bool,
    switch(
        "--verbose",
        "-v",
        text="Show every file and all its measurements, and tracebacks of internal errors.",
        panel=REPORT,
    ),
]
ProgressKind = Annotated[
    str,
    typer.Option(
        "--progress",
        metavar="WORD",
        help="How to show progress: auto (a bar, on a terminal) or plain (a line every ten seconds at most).",
        rich_help_panel=REPORT,
    ),
]
ReportPage = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Write an HTML page with pictures and receipts.", rich_help_panel=REPORT
    ),
]
Redact = Annotated[
    bool, switch("--redact", text="Leave originals out of the --report page, for sharing.", panel=REPORT)
]
EveryFile = Annotated[bool, switch("--verbose", "-v", text="Show every file, however many.", panel=REPORT)]
Yes = Annotated[bool, switch("--yes", "-y", text="Answer yes to all questions.", panel=REPORT)]

# Used by `protect` alone; they stand here so that its signature stays readable.
Witness = Annotated[
    str | None,
    setting(
        "witness",
        "Network kept out of the search, to check the result with: auto (all that are suitable), none or NAME.",
        panel=AIM,
        metavar="NAME",
    ),
]
AcceptBest = Annotated[
    bool, switch("--accept-best", text="Write the best result even if it misses the goal.", panel=AIM)
]
Method = Annotated[str | None, setting("method", f"The search: {words('method')}.", panel=SEARCH, metavar="WORD")]
Stop = Annotated[
    str | None,
    setting(
        "stop",
        "When to stop: budget (after all steps) or first (at the first success).",
        panel=SEARCH,
        metavar="WORD",
    ),
]
BatchSize = Annotated[
    str | None,
    setting("batch_size", "Photos searched at once; auto: as many as suit the memory.", panel=SEARCH, metavar="N"),
]
Jobs = Annotated[int | None, setting("jobs", "Threads that read and write photos.", panel=SEARCH, metavar="N")]
Place = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="NAME",
        help="Give the copy for this place a code of its own; copies for two names do not find each other.",
        rich_help_panel=AIM,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Write copies here instead of changing photos in place.",
        rich_help_panel=FILES,
    ),
]
Rename = Annotated[bool, switch("--rename", text="Give the copies of --output names that tell nothing.", panel=FILES)]
NoBackup = Annotated[bool, switch("--no-backup", text="Keep no originals; nothing can be restored.", panel=FILES)]
Sample = Annotated[
    int | None,
    typer.Option(
        "--sample",
        metavar="N",
        min=1,
        help="Try this many of the photos on copies; the photos stay as they are.",
        rich_help_panel=FILES,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine", metavar="WORD", help="Where the work is done: local or ray (with --output).", rich_help_panel=FLEET
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Ray cluster to use, which needs a token; otherwise one is started here.",
        rich_help_panel=FLEET,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Ray worker processes; by default one per GPU, or per four cores.",
        rich_help_panel=FLEET,
    ),
]


def expanded(paths: Iterable[Path]) -> list[Path]:
    """Return the paths with the patterns `*`, `?` and `**` replaced by their matches, for shells that do not do it.

    An existing path is never treated as a pattern. A pattern without a match is kept and later reported as missing.
    Brackets stand for themselves: cameras and browsers write them into names, and the pattern `IMG[1].jpg` would match
    another photo, IMG1.jpg.
    """
    found: list[Path] = []
    for path in paths:
        pattern = str(path).replace("[", "[[]")
        matches = [] if os.path.lexists(path) else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - the pattern may begin anywhere
        found += map(Path, matches) if matches else [path]
    return found


def goal_of(
    target: Path | None, target_set: Path | None, target_class: str | None, goal: str | None
) -> GoalSpec | None:
    """Return the goal that the options name, or None. Raises UsageError if they name more than one."""
    from hashshield.pipeline import request

    return request.goal_of(target, target_set, target_class, goal, spelled=lambda key: f"--{key.replace('_', '-')}")
