"""`hashshield restore` and `hashshield originals`: restore originals and manage the vault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.commands import PlainGroup, examples, register
from hashshield.cli.layouts import RESTORE
from hashshield.cli.output import Report
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import confirm
from hashshield.cli.terminal import Column, Layout, count
from hashshield.config import resolve
from hashshield.errors import UsageError

if TYPE_CHECKING:
    from hashshield.pipeline.originals import Forgotten, Original
    from hashshield.types import Repaired

__all__ = ["RESTORE_EXAMPLES", "app", "restore"]

RESTORE_EXAMPLES = examples(
    "hashshield restore photos/                 # byte for byte as they were",
    "hashshield restore --last-run --dry-run    # what the last protect changed",
    "hashshield restore --last-run",
)

app = typer.Typer(
    cls=PlainGroup,
    help="Look after the originals in the vault.",
    epilog=examples("hashshield originals list", "hashshield originals export backup/"),
    no_args_is_help=True,
)


_CENTURY_DAYS = 36_525


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _total(rows: Sequence[Original]) -> str:
    return f"{count(len(rows), 'original')}, {_size(sum(row.size for row in rows))}"


def _summary(rows: Sequence[Original]) -> dict[str, Any]:
    states = [row.state for row in rows]
    return {"counts": {state: states.count(state) for state in sorted(set(states))}, "bytes": sum(r.size for r in rows)}


def _counts(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _forget_closing(rows: Sequence[Forgotten]) -> list[str]:
    pairs = [(row, other) for row in rows for other in row.kept_for]
    return [f"{other}: holds the same photo as {row.path}; what is kept for it stays." for row, other in pairs]


def _repair_closing(rows: Sequence[Repaired]) -> list[str]:
    counts = _counts(row.status for row in rows)
    return [", ".join(f"{number} {status}" for status, number in counts.items()) + "." if rows else "Nothing is kept."]


_ORIGINALS = (
    Column("Kept for", lambda row: row.paths[0] if row.paths else "(no record)", is_name=True),
    Column("State", lambda row: row.state),
    Column("In use", lambda row: "yes" if row.in_use else "no"),
    Column("Since", lambda row: (row.created or "")[:10]),
    Column("Size", lambda row: _size(row.size), right=True),
    Column("SHA-256", lambda row: row.id[:12]),
)
_LIST = Layout(columns=_ORIGINALS, footer=lambda rows: [f"{_total(rows)}."], summary=_summary)
_FORGET = Layout(
    columns=(
        Column("File", lambda row: row.path, is_name=True),
        Column("Status", lambda row: row.status),
        Column("Records", lambda row: str(row.rows), right=True),
        Column("Originals", lambda row: str(len(row.originals)), right=True),
        Column("Kept for others", lambda row: str(len(row.shared)), right=True),
    ),
    footer=_forget_closing,
)
_REPAIR = Layout(
    columns=(
        Column("File", lambda row: row.path, is_name=True),
        Column("Status", lambda row: row.status),
        Column("SHA-256", lambda row: (row.id or "")[:12]),
        Column("Reason", lambda row: row.reason or ""),
    ),
    visible=lambda rows: [row for row in rows if row.status != "kept"],
    footer=_repair_closing,
    summary=lambda rows: {"counts": _counts(row.status for row in rows)},
    resume="the damaged ledger and all it is rebuilt from are still there; run the same command again, it goes on",
)


def restore(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", readable=False, help="Protected photos, or folders of them."),
    ] = None,
    last_run: Annotated[
        bool,
        o.switch("--last-run", text="Restore all that the last protect changed, below PATH if given.", panel=o.FILES),
    ] = False,
    force: Annotated[
        bool,
        o.switch("--force", text="Restore files edited since, too; the edited file goes to the vault.", panel=o.FILES),
    ] = False,
    dry_run: o.DryRun = False,
    vault: o.Vault = None,
    break_links: o.BreakLinks = False,
    allow_root: o.AllowRoot = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.EveryFile = False,
) -> None:
    """Bring originals back from the vault, byte for byte.

    Photos are recognised by their content, so moved, renamed and copied files are restored too. A file that was edited
    after protection is refused without --force.
    """
    with Report("restore", RESTORE, as_json=as_json, quiet=quiet, verbose=verbose) as report:
        if not paths and not last_run:
            raise UsageError("name the photos or folders to restore, or give --last-run")
        settings = resolve({"vault": vault})

        from hashshield.pipeline import restore as pipeline

        with PhotoProgress(report) as progress:
            report.finish(
                pipeline.restore(
                    o.expanded(paths or []),
                    vault=settings["vault"].value,
                    force=force,
                    dry_run=dry_run,
                    last_run=last_run,
                    break_links=break_links,
                    allow_root=allow_root,
                    progress=progress,
                )
            )


def list_(vault: o.Vault = None, as_json: o.Json = False) -> None:
    """List the originals in the vault, the files they belong to, and whether a protected file still needs them."""
    with Report("originals list", _LIST, as_json=as_json) as report:
        from hashshield.pipeline import originals

        report.finish(originals.list_originals(resolve({"vault": vault})["vault"].value))


def prune(
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=0,
            max=_CENTURY_DAYS,
            help="Only those stored longer ago than this.",
            rich_help_panel=o.FILES,
        ),
    ] = None,
    restored_only: Annotated[
        bool, o.switch("--restored-only", text="Only those whose files have all been restored.", panel=o.FILES)
    ] = False,
    unrecorded: Annotated[
        bool, o.switch("--unrecorded", text="Only those that no record refers to.", panel=o.FILES)
    ] = False,
    dry_run: o.DryRun = False,
    vault: o.Vault = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Delete originals for good, to free space. The files they belong to can no longer be restored."""
    verb = "Would delete" if dry_run else "Deleted"
    layout = Layout(columns=_ORIGINALS, footer=lambda rows: [f"{verb} {_total(rows)}."], summary=_summary)
    with Report("originals prune", layout, as_json=as_json, quiet=quiet) as report:
        from hashshield.pipeline import originals

        where = resolve({"vault": vault})["vault"].value

        choose = partial(
            originals.prune,
            vault=where,
            older_than_days=older_than,
            restored_only=restored_only,
            unrecorded=unrecorded,
        )
        chosen = choose(dry_run=True).originals
        if dry_run or not chosen:
            report.finish(chosen)
            return
        needed = sum(original.in_use for original in chosen)
        question = f"Delete {_total(chosen)}, for good?"
        if needed:
            question += f" {needed} of them {'is' if needed == 1 else 'are'} the only way back for a protected file."
        confirm(question, yes=yes)
        report.finish(choose(dry_run=False, confirmed=chosen).originals)


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write them to.")],
    dry_run: o.DryRun = False,
    vault: o.Vault = None,
    allow_root: o.AllowRoot = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.EveryFile = False,
) -> None:
    """Write copies of all originals to a folder, under their names; existing files are never overwritten."""
    with Report("originals export", RESTORE, as_json=as_json, quiet=quiet, verbose=verbose) as report:
        from hashshield.pipeline import originals

        where = resolve({"vault": vault})["vault"].value
        report.finish(originals.export(folder, vault=where, dry_run=dry_run, allow_root=allow_root))


def forget(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Protected photos; the files stay as they are.")
    ] = None,
    everything: Annotated[bool, o.switch("--all", text="Everything that is kept and recorded.", panel=o.FILES)] = False,
    dry_run: o.DryRun = False,
    vault: o.Vault = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Delete for good the originals and records of photos, which can then no longer be restored or verified.

    Backups of the ledger and logs are deleted too. Other files that hold the same photo keep theirs, and are named. If
    nothing is recorded about a path, the others are forgotten all the same, and the exit code is 1.
    """
    with Report("originals forget", _FORGET, as_json=as_json, quiet=quiet) as report:
        from hashshield.pipeline import originals

        where = resolve({"vault": vault})["vault"].value
        if bool(paths) == everything:
            raise UsageError("name the photos to forget, or give --all and no photos")
        if everything:
            found = originals.forget_all(vault=where, dry_run=True)
            if not dry_run:
                confirm(f"Delete all {count(len(found.originals), 'original')} and all records, for good?", yes=yes)
                found = originals.forget_all(vault=where, confirmed=None if yes else found)
            report.add(found)
            return
        named = list(dict.fromkeys(o.expanded(paths or [])))
        if not dry_run:
            confirm(f"Delete the originals and records of {count(len(named), 'path')}, for good?", yes=yes)
        for row in originals.forget_each(named, vault=where, dry_run=dry_run):
            report.add(row)


def repair(
    dry_run: o.DryRun = False,
    vault: o.Vault = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Rebuild a damaged ledger from the record files beside the originals, its backups and its readable rows.

    Every original is read back and its digest compared. The damaged ledger is kept until the new one is complete. The
    exit code is 1 if something is damaged, missing or lost.
    """
    with Report("originals repair", _REPAIR, as_json=as_json, quiet=quiet) as report:
        from hashshield.pipeline import originals

        report.finish(originals.repair(resolve({"vault": vault})["vault"].value, dry_run=dry_run))


register(app, list_, "list", examples("hashshield originals list", "hashshield originals list --json"))
register(
    app,
    prune,
    "prune",
    examples(
        "hashshield originals prune --dry-run",
        "hashshield originals prune --restored-only",
        "hashshield originals prune --older-than 365",
    ),
)
register(app, export, "export", examples("hashshield originals export backup/"))
register(
    app,
    forget,
    "forget",
    examples("hashshield originals forget photos/a.jpg", "hashshield originals forget --all"),
)
register(app, repair, "repair", examples("hashshield originals repair --dry-run", "hashshield originals repair"))
