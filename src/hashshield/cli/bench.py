"""`hashshield bench`: one sub-command per bench, built from the fields of its configuration.

A row of `_COMMANDS` names the bench, its module in `hashshield.bench`, its configuration, and the option of each field.
Defaults come from the configuration; columns and rows come from the module, which is imported last because it needs
torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from hashshield.bench.config import (
    AdaptiveConfig,
    BaselineConfig,
    BenchConfig,
    ConvergenceConfig,
    CopiesConfig,
    DeviceConfig,
    GoalsConfig,
    HeatmapConfig,
    MapConfig,
    MethodsConfig,
    ScaleConfig,
    SizeConfig,
    SpeedConfig,
    SurvivalConfig,
    TauConfig,
    TraditionalConfig,
    TransferConfig,
    VisibleConfig,
)
from hashshield.cli import options as o
from hashshield.cli.bench_options import (
    COMPARED,
    DATA,
    FROM_SETTINGS,
    OUTPUT,
    PAPER,
    PAPER_LIMITS,
    PHOTO_STEPS,
    PRESETS,
    PROTECTED,
    SEARCH,
    SEED,
    STEPS,
    BenchOptions,
    argument,
    configured,
    number,
    option,
    options,
    taus,
)
from hashshield.cli.commands import PlainGroup, examples, register
from hashshield.cli.output import Layout, Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available

__all__ = ["app"]

_RESUME = "what was made so far is kept; the same command goes on from there"


@dataclass(frozen=True, slots=True)
class _Command:
    """One sub-command."""

    name: str
    config: type[Any]
    help: str
    options: BenchOptions
    examples: tuple[str, ...]
    module: str = ""
    """Module of `hashshield.bench` with `run_<name>` and the columns; empty if it has the command's name."""
    asks: bool = True
    """True if the command offers to download missing networks, and has --yes."""


_COMMANDS = (
    _Command(
        "map",
        MapConfig,
        "Mean average precision of a network, by the protocol of its card.",
        {
            "data": option(Path, "--data", "PATH", "The dataset it was trained on."),
            "model": o.Models,
            "device": o.Device,
        },
        ("hashshield bench map --model lite0-caltech101:48 --data caltech101/",),
        module="retrieval",
    ),
    _Command(
        "copies",
        CopiesConfig,
        "Which edited copies of held-out photos a copy detector finds, edit by edit, beside PDQ and other networks.",
        {
            "data": DATA,
            "output": OUTPUT,
            "model": o.Models,
            "detector": option(Path | None, "--detector", "FILE", "A foreign detector to measure too, as ONNX."),
            "photos": number("--photos", "Held-out photos to edit."),
            "distractors": number("--distractors", "Held-out photos to tell them apart from."),
            **SEED,
        },
        ("hashshield bench copies --data caltech101/ --model copies --model lite0-caltech101:48",),
    ),
    _Command(
        "goals",
        GoalsConfig,
        "Judge goals by retrieval: what a service still finds with a protected photo, queried in five ways.",
        {
            "data": DATA,
            "goals": options(str, "--goal", "WORD", "A goal to judge; repeatable. Default: away."),
            "preset": option(str, "--preset", "WORD", "The preset to protect them with."),
            "model": o.Models,
            "photos": number("--photos", "Queries to protect.", 2),
            "steps": PHOTO_STEPS,
            **SEED,
        },
        ("hashshield bench goals --data caltech101/ --goal away --goal opposite --json",),
    ),
    _Command(
        "methods",
        MethodsConfig,
        "Every method on the same photos and targets: success, steps until distance 0, PSNR, SSIM.",
        {
            "data": DATA,
            "model": o.Models,
            "photos": number("--photos", "Queries for rnm."),
            "baseline_photos": number("--rival-photos", "Queries for the other methods."),
            "limit": number("--limit", "Steps of the other methods."),
            "only": options(str, "--only", "METHOD", "Run this method only: rnm or a published one; repeatable."),
            **SEED,
        },
        ("hashshield bench methods --data caltech101/ --photos 100 --json",),
    ),
    _Command(
        "speed",
        SpeedConfig,
        "Cost of a search step relative to the bare gradient step, and of a whole run relative to the least it needs.",
        {
            "photos": argument("DIR", "Photos to time; they are copied first."),
            "model": o.Models,
            "batch_size": number("--batch-size", "Photos searched at once."),
            "device": o.Device,
        },
        ("hashshield bench speed photos/ --json",),
    ),
    _Command(
        "device",
        DeviceConfig,
        "Check a device: steps a second by batch size, agreement of codes with the CPU, memory, launches and waits.",
        {
            "photos": argument("DIR", "Photos to search on; they are only read."),
            "preset": option(str, "--preset", "WORD", "The preset whose search is timed."),
            "batch_sizes": options(
                int, "--batch-size", "N", "Photos searched at once; repeatable. Default: 1 to 128.", min=1
            ),
            "count": number("--photos", "Most photos to hash, and to protect from end to end."),
            "steps": PHOTO_STEPS,
            "model": o.Models,
            "device": o.Device,
        },
        ("hashshield bench device photos/ --json", "hashshield bench device photos/ --device cpu --batch-size 8"),
    ),
    _Command(
        "size",
        SizeConfig,
        "Extra time and memory that a large photo takes compared with a small one.",
        {
            "photo": argument("PHOTO", "A photo; scaled copies of it are timed."),
            "megapixels": options(
                float, "--megapixels", "NUMBER", "A size to time; repeatable. Default: 0.2, 24.", min=0.01
            ),
            "model": o.Models,
            "device": o.Device,
        },
        ("hashshield bench size photo.jpg --json",),
        asks=False,
        module="speed",
    ),
    _Command(
        "scale",
        ScaleConfig,
        "Photos per second of one Ray worker and of several, and the efficiency of each number.",
        {
            "photos": argument("DIR", "Photos to time; copies go to a temporary folder."),
            "count": number("--photos", "Most photos to time, taken evenly from all.", 24),
            "workers": options(int, "--workers", "N", "Workers to time at once; repeatable. Default: 1, 2.", min=1),
            "steps": PHOTO_STEPS,
            "model": o.Models,
            "device": o.Device,
        },
        ("hashshield bench scale photos/ --photos 96 --json",),
        module="speed",
    ),
    _Command(
        "targeted",
        BaselineConfig,
        "Table 1 of the paper: t-MAP of targeted methods, at every length of a network.",
        {**PAPER, **COMPARED, **SEARCH},
        ("hashshield bench targeted --data caltech101/",),
    ),
    _Command(
        "tau",
        TauConfig,
        "Table 2 of the paper: t-MAP against the largest change of a pixel.",
        {**PAPER, **PAPER_LIMITS, "taus": taus("0.01 to 0.05"), **STEPS, **SEED},
        ("hashshield bench tau --data caltech101/ --model lite0-caltech101:24",),
        module="targeted",
    ),
    _Command(
        "untargeted",
        BaselineConfig,
        "Table 3 of the paper: MAP after untargeted methods, and after what a service may do against them.",
        {**PAPER, **COMPARED, **SEARCH},
        ("hashshield bench untargeted --data caltech101/",),
    ),
    _Command(
        "convergence",
        ConvergenceConfig,
        "Figure 2 of the paper: mean Hamming distance to the anchor code against the step.",
        {**PAPER, **PAPER_LIMITS, **SEARCH},
        ("hashshield bench convergence --data caltech101/",),
        module="targeted",
    ),
    _Command(
        "adaptive",
        AdaptiveConfig,
        "Goals against a service that knows of them: other queries, filters, networks, and learning from pairs.",
        {
            **PAPER,
            "goals": options(str, "--goal", "WORD", "A goal to try; repeatable. Default: all that need no target."),
            "services": options(str, "--service", "NAME", "Another network of the service; repeat for several."),
            "psnr": option(float | None, "--psnr", "DB", "Amplify smaller changes to this PSNR first.", min=20, max=60),
            **SEARCH,
        },
        ("hashshield bench adaptive --data caltech101/ --service lite2-caltech101",),
        module="goals",
    ),
    _Command(
        "survival",
        SurvivalConfig,
        "How much of a protection survives what services do to photos, and what it costs, preset by preset.",
        PROTECTED,
        (
            "hashshield bench survival photos/ --preset invisible --preset balanced",
            "hashshield bench survival photos/ --target-class sunflower --png --json",
        ),
    ),
    _Command(
        "visible",
        VisibleConfig,
        "How visible presets are and what survives for it, beside JPEG and noise: a table and a chart.",
        {
            **PROTECTED,
            "names": option(Path | None, "--names", "FILE", "Take only the photos that this file names, one a line."),
            "output": option(Path, "--output", "DIR", "Folder for results/ and plots/."),
        },
        (
            "hashshield bench visible photos/ --names benchmarks/small.txt",
            "hashshield bench visible photos/ --preset balanced --png --photos 24 --json",
        ),
    ),
    _Command(
        "transfer",
        TransferConfig,
        "What networks that the search never used still find: each lineage among --model is left out in turn.",
        {
            **PAPER,
            "presets": PRESETS,
            "goals": options(str, "--goal", "WORD", "A goal to try; repeatable. Default: away and opposite."),
            "hold_out": option(
                str, "--hold-out", "WORD", "What searches leave out: each lineage, each network, or one --model."
            ),
            "surrogates": options(
                str, "--surrogate", "NAME", "An EfficientNet-Lite of which strong moves the features only."
            ),
            "judges": options(
                str, "--judge", "WORD=FILE", "A network that only judges: residual or sscd, with its ONNX file."
            ),
            **SEARCH,
        },
        (
            "hashshield bench transfer --data caltech101/ --model lite0-caltech101 --surrogate lite2-caltech101 "
            "--preset strong --judge residual=open-nsfw.onnx --queries 100",
            "hashshield bench transfer --data caltech101/ --model lite0-caltech101 --model lite2-caltech101 "
            "--model regnet-caltech101",
        ),
    ),
    _Command(
        "heatmap",
        HeatmapConfig,
        "Figure 4 of the paper: Grad-CAM of originals, of traditional distortions, and of protected photos.",
        {**PAPER, **SEARCH},
        ("hashshield bench heatmap --data caltech101/ --model lite0-caltech101:48",),
        module="untargeted",
    ),
    _Command(
        "traditional",
        TraditionalConfig,
        "Figure 3 of the paper: mosaic, brightness, transparency and noise beside adversarial changes.",
        {**PAPER, **PAPER_LIMITS, "taus": taus("0.01 to 0.04"), **STEPS, **SEED},
        ("hashshield bench traditional --data caltech101/ --model lite0-caltech101:48",),
        module="untargeted",
    ),
    _Command(
        "retrieval",
        BenchConfig,
        "Figure 1 of the paper: what a photo, the protected photo and a carrier of its code find.",
        {**PAPER, **SEARCH},
        ("hashshield bench retrieval --data caltech101/",),
    ),
)

app = typer.Typer(
    cls=PlainGroup,
    help="Measure again what the documentation claims.",
    epilog=examples(
        "hashshield bench speed photos/",
        "hashshield bench map --data caltech101/",
    ),
    no_args_is_help=True,
)


@app.callback()
def bench() -> None:
    """Measure again what the documentation claims."""


def _function(command: _Command) -> Callable[..., None]:
    """Return the function of a sub-command, with a signature for Typer to read."""

    def run(**given: Any) -> None:
        _run(command, given)

    options = {**command.options, "as_json": o.Json, "quiet": o.Quiet, **({"yes": o.Yes} if command.asks else {})}
    run.__doc__, run.__annotations__ = command.help, options
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=_default(command.config, name), annotation=annotation
            )
            for name, annotation in options.items()
        ]
    )
    return run


def _default(config: type[Any], name: str) -> Any:
    """Return an option's default: the configuration's, or None for settings and repeatable options."""
    if name in ("as_json", "quiet", "yes"):
        return False
    default = {field.name: field.default for field in fields(config)}.get(name)
    if name in FROM_SETTINGS or isinstance(default, tuple):
        return None
    return inspect.Parameter.empty if default is MISSING else default


def _run(command: _Command, given: dict[str, Any]) -> None:
    """Run a bench and report its rows."""
    as_json, quiet, yes = given.pop("as_json"), given.pop("quiet"), given.pop("yes", False)
    writes = issubclass(command.config, BenchConfig)
    layout = Layout((), resume=_RESUME) if writes else Layout(())
    with Report(f"bench {command.name}", layout, as_json=as_json, quiet=quiet) as report:
        config = configured(command.config, given, on_dataset=writes)
        if command.asks:
            ensure_available(config.networks, report, yes=yes)
        module = import_module(f"hashshield.bench.{command.module or command.name}")
        report.layout = layout._replace(columns=keyed(*module.COLUMNS[command.name]).columns)
        with PhotoProgress(report, unit="unit") if writes else PhotoProgress(report) as progress:
            report.finish(getattr(module, f"run_{command.name}")(config, progress))
        if writes:
            report.note(f"Written to {config.output}.")


for _command in _COMMANDS:
    register(app, _function(_command), _command.name, examples(*_command.examples))
