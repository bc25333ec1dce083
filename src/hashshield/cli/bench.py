"""`hashshield bench`: one sub-command per bench, each made from the fields of its configuration.

A row of `_COMMANDS` names the bench, the module of `hashshield.bench` that holds it, its configuration, and the option
of each field. Defaults come from the configuration, columns and rows from the module, which is imported last because it
needs torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from hashshield.bench.config import (
    AdaptiveConfig,
    BaselineConfig,
    BenchConfig,
    ConvergenceConfig,
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
)
from hashshield.cli import options as o
from hashshield.cli.output import Layout, Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

__all__ = ["app"]

_RESUME = "what was made so far is kept; the same command goes on from there"
_SETTINGS = ("model", "device", "tau", "goal")
"""Options whose value, where it is not given, comes from the settings."""
_WORDS = {"goals": "goal", "presets": "preset", "preset": "preset"}
"""Fields that hold words of a setting, each of which is checked."""

_Options = Mapping[str, Any]
"""Option of each field, in the order of --help; `model` stands for `models` too."""


def _option(kind: Any, name: str, metavar: str, text: str, **limits: float) -> Any:
    return Annotated[kind, typer.Option(name, metavar=metavar, help=text, **limits)]  # type: ignore[arg-type]


def _list(kind: Any, name: str, metavar: str, text: str, **limits: float) -> Any:
    return _option(list[kind] | None, name, metavar, text, **limits)


def _argument(metavar: str, text: str) -> Any:
    return Annotated[Path, typer.Argument(metavar=metavar, help=text)]


def _number(name: str, text: str, least: int = 1) -> Any:
    return _option(int, name, "N", text, min=least)


_DATA = _option(Path, "--data", "DIR", "The dataset in its official layout.")
_OUTPUT = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for results/, plots/, and runs/ of cached trials.")
]
_PAPER: _Options = {
    "data": _DATA,
    "output": _OUTPUT,
    "model": o.Models,
    "queries": _number("--queries", "Queries to attack, drawn at random.", 2),
}
_PAPER_LIMITS: _Options = {
    "limit": _number("--limit", "Most steps of any method; the paper takes 2000."),
    "anchor": _number("--anchor", "Photos of a kind whose vote is its anchor code."),
}
_BASELINES: _Options = {
    "baseline_queries": _number("--rival-queries", "Queries for the methods that take --limit steps."),
    **_PAPER_LIMITS,
}
_STEPS: _Options = {
    "steps": _option(int | None, "--steps", "N", "Gradient steps of rnm; by default its own number.", min=1)
}
_PHOTO_STEPS = _option(int | None, "--steps", "N", "Gradient steps per photo.", min=1)
_SEED: _Options = {"seed": o.Seed, "device": o.Device}
_SEARCH: _Options = {"tau": o.Tau, **_STEPS, **_SEED}
_PRESETS = _list(str, "--preset", "WORD", "A preset to try; repeatable. Default: all.")


def _taus(default: str) -> Any:
    return _list(float, "--tau", "NUMBER", f"A bound to try; repeatable. Default: {default}.", min=1 / 255, max=1)


@dataclass(frozen=True, slots=True)
class _Command:
    """One sub-command."""

    name: str
    config: type[Any]
    help: str
    options: _Options
    examples: tuple[str, ...]
    module: str = ""
    """Module of `hashshield.bench` with `run_<name>` and the columns; empty: named as the command."""
    asks: bool = True
    """True if the command offers to download networks that are not here, and has --yes."""


_COMMANDS = (
    _Command(
        "map",
        MapConfig,
        "Mean average precision of a network, by the protocol of its card.",
        {
            "data": _option(Path, "--data", "PATH", "The dataset it was trained on."),
            "model": o.Models,
            "device": o.Device,
        },
        ("hashshield bench map --model lite0-caltech101:48 --data caltech101/",),
        module="retrieval",
    ),
    _Command(
        "goals",
        GoalsConfig,
        "Judge goals by retrieval: what a service still finds with a protected photo, queried in five ways.",
        {
            "data": _DATA,
            "goals": _list(str, "--goal", "WORD", "A goal to judge; repeatable. Default: away."),
            "preset": _option(str, "--preset", "WORD", "The preset to protect them with."),
            "model": o.Models,
            "photos": _number("--photos", "Queries to protect.", 2),
            "steps": _PHOTO_STEPS,
            **_SEED,
        },
        ("hashshield bench goals --data caltech101/ --goal away --goal opposite --json",),
    ),
    _Command(
        "methods",
        MethodsConfig,
        "Every method on the same photos and targets: success, steps until distance 0, PSNR, SSIM.",
        {
            "data": _DATA,
            "model": o.Models,
            "photos": _number("--photos", "Queries for rnm."),
            "baseline_photos": _number("--rival-photos", "Queries for the other methods."),
            "limit": _number("--limit", "Steps of the other methods."),
            "only": _list(str, "--only", "METHOD", "Run this method only: rnm or a published one; repeatable."),
            **_SEED,
        },
        ("hashshield bench methods --data caltech101/ --photos 100 --json",),
    ),
    _Command(
        "speed",
        SpeedConfig,
        "Cost of a search step relative to the bare gradient step, and of a whole run relative to the least it needs.",
        {
            "photos": _argument("DIR", "Photos to time; they are copied first."),
            "model": o.Models,
            "batch_size": _number("--batch-size", "Photos searched at once."),
            "device": o.Device,
        },
        ("hashshield bench speed photos/ --json",),
    ),
    _Command(
        "size",
        SizeConfig,
        "Extra time and memory that a large photo takes compared with a small one.",
        {
            "photo": _argument("PHOTO", "A photo; scaled copies of it are timed."),
            "megapixels": _list(
                float, "--megapixels", "NUMBER", "A size to time; repeatable. Default: 0.2, 24.", min=0.01
            ),
            "model": o.Models,
            "device": o.Device,
        },
        ("hashshield bench size photo.jpg --json",),
        asks=False,
        module="scaling",
    ),
    _Command(
        "scale",
        ScaleConfig,
        "Photos per second of one Ray worker and of several, and the efficiency of each number.",
        {
            "photos": _argument("DIR", "Photos to time; copies go to a temporary folder."),
            "count": _number("--photos", "Most photos to time, taken evenly from all.", 24),
            "workers": _list(int, "--workers", "N", "Workers to time at once; repeatable. Default: 1, 2.", min=1),
            "steps": _PHOTO_STEPS,
            "model": o.Models,
            "device": o.Device,
        },
        ("hashshield bench scale photos/ --photos 96 --json",),
        module="scaling",
    ),
    _Command(
        "targeted",
        BaselineConfig,
        "Table 1 of the paper: t-MAP of targeted methods, at every length of a network.",
        {**_PAPER, **_BASELINES, **_SEARCH},
        ("hashshield bench targeted --data caltech101/",),
    ),
    _Command(
        "tau",
        TauConfig,
        "Table 2 of the paper: t-MAP against the largest change of a pixel.",
        {**_PAPER, **_BASELINES, "taus": _taus("0.01 to 0.05"), **_STEPS, **_SEED},
        ("hashshield bench tau --data caltech101/ --model lite0-caltech101:24",),
        module="targeted",
    ),
    _Command(
        "untargeted",
        BaselineConfig,
        "Table 3 of the paper: MAP after untargeted methods, and after what a service may do against them.",
        {**_PAPER, **_BASELINES, **_SEARCH},
        ("hashshield bench untargeted --data caltech101/",),
    ),
    _Command(
        "convergence",
        ConvergenceConfig,
        "Figure 2 of the paper: mean Hamming distance to the anchor code against the step.",
        {**_PAPER, **_PAPER_LIMITS, **_SEARCH},
        ("hashshield bench convergence --data caltech101/",),
        module="targeted",
    ),
    _Command(
        "adaptive",
        AdaptiveConfig,
        "Goals against a service that knows of them: other queries, filters, networks, and learning from pairs.",
        {
            **_PAPER,
            "goals": _list(str, "--goal", "WORD", "A goal to try; repeatable. Default: all that need no target."),
            "services": _list(str, "--service", "NAME", "Another network of the service; repeat for several."),
            "psnr": _option(
                float | None, "--psnr", "DB", "Amplify smaller changes to this PSNR first.", min=20, max=60
            ),
            **_SEARCH,
        },
        ("hashshield bench adaptive --data caltech101/ --service lite2-caltech101",),
    ),
    _Command(
        "survival",
        SurvivalConfig,
        "How much of a protection survives what services do to photos, and what it costs, preset by preset.",
        {
            "photos": _argument("DIR", "Photos; they are only read."),
            "model": o.Models,
            "presets": _PRESETS,
            "goal": o.OptionalGoal,
            "target_class": o.TargetClass,
            "png": Annotated[bool, o.switch("--png", text="Protect PNG copies, whatever the format.", panel=o.AIM)],
            "count": _option(int | None, "--photos", "N", "Most photos to protect, taken evenly from all.", min=1),
            **_SEARCH,
        },
        (
            "hashshield bench survival photos/ --preset invisible --preset balanced",
            "hashshield bench survival photos/ --target-class sunflower --png --json",
        ),
    ),
    _Command(
        "transfer",
        TransferConfig,
        "What networks that the search never used still find: each --model is held out in turn, the others searched.",
        {
            **_PAPER,
            "presets": _PRESETS,
            "goals": _list(str, "--goal", "WORD", "A goal to try; repeatable. Default: away and opposite."),
            **_SEARCH,
        },
        (
            "hashshield bench transfer --data caltech101/ --model lite0-caltech101 --model lite2-caltech101 "
            "--model regnet-caltech101",
        ),
    ),
    _Command(
        "heatmap",
        HeatmapConfig,
        "Figure 4 of the paper: Grad-CAM of originals, of traditional distortions, and of protected photos.",
        {**_PAPER, **_SEARCH},
        ("hashshield bench heatmap --data caltech101/ --model lite0-caltech101:48",),
    ),
    _Command(
        "traditional",
        TraditionalConfig,
        "Figure 3 of the paper: mosaic, brightness, transparency and noise beside adversarial changes.",
        {**_PAPER, "taus": _taus("0.01 to 0.04"), **_STEPS, **_SEED},
        ("hashshield bench traditional --data caltech101/ --model lite0-caltech101:48",),
        module="untargeted",
    ),
    _Command(
        "retrieval",
        BenchConfig,
        "Figure 1 of the paper: what a photo, the protected photo and a carrier of its code find.",
        {**_PAPER, **_SEARCH},
        ("hashshield bench retrieval --data caltech101/",),
    ),
)

app = typer.Typer(
    help="Measure again what the documentation claims.",
    epilog=o.examples(
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
    """Return what --help shows as default: that of the configuration; None where "not given" means something else."""
    if name in ("as_json", "quiet", "yes"):
        return False
    default = {field.name: field.default for field in fields(config)}.get(name)
    if name in _SETTINGS or isinstance(default, tuple):
        return None
    return inspect.Parameter.empty if default is MISSING else default


def _run(command: _Command, given: dict[str, Any]) -> None:
    """Run a bench and report its rows."""
    as_json, quiet, yes = given.pop("as_json"), given.pop("quiet"), given.pop("yes", False)
    writes = issubclass(command.config, BenchConfig)
    layout = Layout((), resume=_RESUME) if writes else Layout(())
    with Report(f"bench {command.name}", layout, as_json=as_json, quiet=quiet) as report:
        config = _configured(command, given)
        if command.asks:
            ensure_available(config.networks, report, yes=yes)
        module = import_module(f"hashshield.bench.{command.module or command.name}")
        report.layout = layout._replace(columns=keyed(*module.COLUMNS[command.name]).columns)
        with PhotoProgress(report, unit="unit") if writes else PhotoProgress(report) as progress:
            report.finish(getattr(module, f"run_{command.name}")(config, progress))
        if writes:
            report.note(f"Written to {config.output}.")


def _configured(command: _Command, given: dict[str, Any]) -> Any:
    """Return the configuration of a run: what was given, the settings, and its defaults. Raise UsageError."""
    settings = {key: value.value for key, value in resolve({key: given.get(key) for key in _SETTINGS}).items()}
    on_dataset = issubclass(command.config, BenchConfig)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, key in _WORDS.items():
        if isinstance(words := values.get(name), tuple):
            values[name] = tuple(resolve({key: word})[key].value for word in words)
        elif words is not None:
            values[name] = resolve({key: words})[key].value
    values["device"] = settings["device"]
    if on_dataset or "tau" in given:
        values["tau"] = settings["tau"]
    if "goal" in given:
        goal = settings["goal"] if given["goal"] is not None else None
        values["goal"] = o.goal_of(None, None, given["target_class"], goal)
        del values["target_class"]
    del values["model"]
    if on_dataset and not given["model"]:
        from hashshield.checkpoints.catalog import reference

        # All lengths of the network of the settings.
        values["models"] = (reference(settings["model"][0]).name,)
    elif any(field.name == "models" for field in fields(command.config)):
        values["models"] = tuple(settings["model"])
    else:
        values["model"] = settings["model"][0]
    return command.config(**{name: value for name, value in values.items() if value not in (None, ())})


for _command in _COMMANDS:
    o.register(app, _function(_command), _command.name, o.examples(*_command.examples))
