"""The commands about this installation: `hashshield config show`, `hashshield integrate` and `hashshield doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.commands import PlainGroup, examples, register
from hashshield.cli.output import Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.terminal import Column, Layout, count, say, shown_warnings
from hashshield.config import config_path, resolve, unknown_variables
from hashshield.errors import HashshieldError

if TYPE_CHECKING:
    from hashshield.pipeline.doctor import Finding

__all__ = [
    "DOCTOR_EXAMPLES",
    "config_app",
    "doctor",
    "integrate_app",
]


config_app = typer.Typer(
    cls=PlainGroup,
    help="Settings, and where each value comes from.",
    epilog=examples("hashshield config show"),
    no_args_is_help=True,
)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


_SHOW = Layout(
    columns=(
        Column("Setting", lambda row: row["key"]),
        Column("Value", lambda row: _text(row["value"])),
        Column("From", lambda row: row["where"]),
    ),
    footer=lambda rows: [f"Configuration file: {config_path()}", *unknown_variables()],
)


@config_app.callback()
def config() -> None:
    """Settings, and where each value comes from."""


def show(as_json: o.Json = False) -> None:
    """Print every setting, its value and its source: environment, configuration file or default.

    Options of a command take precedence over all three.
    """
    with Report("config show", _SHOW, as_json=as_json) as report:
        for key, found in resolve().items():
            report.add({"key": key, "value": found.value, "source": found.source, "where": found.where})


register(
    config_app,
    show,
    "show",
    examples("hashshield config show", "HASHSHIELD_TAU=0.02 hashshield config show --json"),
)


integrate_app = typer.Typer(
    no_args_is_help=True,
    help="Put HashShield into the menu of a file manager.",
    epilog=examples("hashshield integrate nautilus", "hashshield integrate nautilus --remove"),
)

_TEXTS = {
    "nautilus": "Add scripts to GNOME's Files (Nautilus): right click, Scripts, HashShield.",
    "dolphin": "Add a service menu to KDE's Dolphin: right click, HashShield.",
    "finder": "Add Quick Actions to the Finder of macOS: right click, Quick Actions.",
    "sendto": "Add links to the Send To menu of Windows.",
}
_MENU = keyed("path", "status")

Remove = Annotated[bool, o.switch("--remove", text="Remove the entries.", panel=o.FILES)]


def _write(menu: str, *, remove: bool, as_json: bool) -> None:
    with Report(f"integrate {menu}", _MENU, as_json=as_json) as report:
        from hashshield.desktop import menus

        changes = menus.remove(menu) if remove else menus.install(menu, menus.program())
        for path, status in changes:
            report.add({"path": str(path), "status": status})


def nautilus(remove: Remove = False, as_json: o.Json = False) -> None:
    """Write or remove Nautilus scripts."""
    _write("nautilus", remove=remove, as_json=as_json)


def dolphin(remove: Remove = False, as_json: o.Json = False) -> None:
    """Write or remove the service menu of Dolphin."""
    _write("dolphin", remove=remove, as_json=as_json)


def finder(remove: Remove = False, as_json: o.Json = False) -> None:
    """Write or remove Quick Actions."""
    _write("finder", remove=remove, as_json=as_json)


def sendto(remove: Remove = False, as_json: o.Json = False) -> None:
    """Write or remove the links of Send To."""
    _write("sendto", remove=remove, as_json=as_json)


def run(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="copies, in-place or restore.")],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", readable=False, help="The selected photos and folders.")
    ],
) -> None:
    """Do what a menu entry does, and show a notification: this is what file managers start.

    copies protects copies into a folder `protected` beside the photos; in-place and restore are like the commands.
    """
    from hashshield.desktop.actions import notify

    code = 0
    try:
        with shown_warnings():
            from hashshield.desktop.actions import carry_out

            said = carry_out(action, paths)
    except HashshieldError as error:
        said, code = str(error), error.exit_code
    say(said)
    notify(said)
    if code:
        raise typer.Exit(code)


for _function in (nautilus, dolphin, finder, sendto):
    _name = _function.__name__
    integrate_app.command(
        _name,
        help=_TEXTS[_name],
        epilog=examples(f"hashshield integrate {_name}", f"hashshield integrate {_name} --remove"),
    )(_function)
register(integrate_app, run, "run", examples("hashshield integrate run copies a.jpg b.jpg"))


DOCTOR_EXAMPLES = examples("hashshield doctor", "hashshield doctor --thorough --json   # reads every original back")


def _footer(rows: Sequence[Finding]) -> list[str]:
    failed, warned = (sum(row.status == status for row in rows) for status in ("failed", "warning"))
    if not rows:
        return []
    if failed or warned:
        return [f"{count(failed, 'problem')}, {count(warned, 'warning')}."]
    return ["All is well."]


_DOCTOR = Layout(
    columns=(
        Column("Check", lambda row: row.check),
        Column("Status", lambda row: row.status),
        Column("Found", lambda row: row.found),
        Column("What to do", lambda row: row.advice or ""),
    ),
    footer=_footer,
    summary=lambda rows: {"counts": {s: sum(r.status == s for r in rows) for s in ("ok", "warning", "failed")}},
)


def doctor(
    thorough: Annotated[
        bool, o.switch("--thorough", text="Read every original back, however long it takes.", panel=o.FILES)
    ] = False,
    vault: o.Vault = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Check what a run needs: versions, processor, settings, networks, cache, vault; and protect a small test picture.

    Nothing is changed. The exit code is 1 if something would make a run fail; each finding says what to do.
    """
    with Report("doctor", _DOCTOR, as_json=as_json) as report:
        from hashshield.pipeline import doctor as checks

        with PhotoProgress(report) as progress:
            found = checks.doctor(vault, thorough=thorough, progress=progress)
        # Problems are the result of this command, so --quiet leaves out only the checks that passed.
        report.finish([row for row in found if row.status != "ok"] if quiet else found)
