"""What the commands for the paper's tables and figures share: their options, and one way to run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Layout, Report
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

if TYPE_CHECKING:
    from hashshield.bench.stage import Asked
    from hashshield.types import Progress

__all__ = ["RESUME", "Anchor", "Data", "Limit", "Output", "Queries", "RivalQueries", "Steps", "Tau", "run", "words_of"]

RESUME = "what was made so far is kept; the same command goes on from there"

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset in its official layout.")]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="DIR", help="Gets results/, plots/, and runs/ with what is made on the way."
    ),
]
Queries = Annotated[int, typer.Option("--queries", metavar="N", min=2, help="Queries to attack, drawn at random.")]
RivalQueries = Annotated[
    int, typer.Option("--rival-queries", metavar="N", min=1, help="Queries for the methods that take --limit steps.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Most steps of a method; the paper's 2000.")]
Anchor = Annotated[int, typer.Option("--anchor", metavar="N", min=1, help="Photos of a kind whose vote is its anchor.")]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", min=1, help="Steps of rnm; its own number by default."),
]
Tau = Annotated[
    float | None, o.setting("tau", "Largest change of any pixel, 1/255 to 1.", panel=o.SEARCH, metavar="NUMBER")
]


def words_of(key: str, given: Sequence[str] | None) -> list[Any]:
    """Words of a setting of which a bench takes several, each checked. Raises UsageError."""
    return [resolve({key: word})[key].value for word in given or ()]


def run(
    command: str,
    layout: Layout,
    bench: Callable[[Asked, Progress], list[dict[str, Any]]],
    *,
    model: list[str] | None,
    others: Sequence[str] = (),
    data: Path,
    output: Path,
    queries: int,
    seed: int | None,
    device: str | None,
    tau: float | None = None,
    steps: int | None = None,
    as_json: bool,
    quiet: bool,
    yes: bool,
) -> None:
    """Run a bench of the paper and report its rows; without --model on all lengths of the network of the settings.

    `others` are networks it needs besides.
    """
    with Report(command, layout._replace(resume=RESUME), as_json=as_json, quiet=quiet) as sink:
        from hashshield.checkpoints.catalog import reference

        settings = resolve({"model": model, "device": device, "tau": tau})
        names = settings["model"].value if model else (reference(settings["model"].value[0]).name,)
        ensure_available([*names, *others], sink, yes=yes)

        from hashshield.bench.stage import Asked

        asked = Asked(
            models=tuple(names),
            data=data,
            output=output,
            queries=queries,
            tau=settings["tau"].value,
            steps=steps,
            seed=seed or 0,
            device=settings["device"].value,
        )
        with PhotoProgress(sink, unit="unit") as progress:
            sink.finish(bench(asked, progress))
        sink.note(f"Written to {output}.")
