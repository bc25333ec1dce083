"""The application, in which every command is registered. To add one, write its module and register it here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from hashshield.cli import (
    audit,
    bench,
    commands,
    models,
    originals,
    protect,
    setup,
    train,
    verify,
    watch,
)
from hashshield.cli.command_line import document_of_nothing, empty_word, expand_words, pipes_photo
from hashshield.cli.output import Report

__all__ = ["app"]

PHOTOS, NETWORKS, SETUP = "Photos", "Networks", "Setup"


_WORDS = "hashshield.words"


# Typer has its own copy of Click and exports only this subclass of its usage errors.
_ParsingError: type[Exception] = typer.BadParameter.__bases__[0]


class _Group(commands.PlainGroup):
    """The group of all commands, which refuses empty words and reports what ends a command before it begins."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raise BadParameter for an empty word, before a command takes it for the current folder."""
        Report.begun = False
        args = expand_words(args)
        ctx.meta[_WORDS] = list(args)
        with _documented(ctx.meta[_WORDS]):
            reason = empty_word(args)
            if reason is not None:
                raise typer.BadParameter(reason, ctx=ctx)
            try:
                return super().parse_args(ctx, args)
            except KeyboardInterrupt:
                # Parsing first loads modules, which takes a while; Typer would end without a message.
                raise _interrupted(ctx.meta[_WORDS]) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command; end with 130 if it is interrupted before its report begins."""
        try:
            with _documented(ctx.meta[_WORDS]):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            if Report.begun:
                # A second Ctrl-C, after the report of the first.
                raise typer.Exit(130) from None
            raise _interrupted(ctx.meta[_WORDS]) from None


@contextmanager
def _documented(words: list[str]) -> Iterator[None]:
    """With --json, print the document of a command line that cannot be parsed, before Typer prints the error."""
    try:
        yield
    except _ParsingError as error:
        if not Report.begun:
            problem: Any = error
            message, code = problem.format_message(), problem.exit_code
            _print_document(words, document_of_nothing(words, error="UsageError", message=message, exit_code=code))
        raise


def _print_document(words: list[str], document: str | None) -> None:
    if document is not None:
        typer.echo(document, err=pipes_photo(words))


def _interrupted(words: list[str]) -> typer.Exit:
    """Report that nothing was done, and return the exception that ends the program with exit code 130."""
    _print_document(words, document_of_nothing(words))
    typer.echo("Interrupted before anything was done.", err=True)
    return typer.Exit(130)


app = typer.Typer(
    cls=_Group,
    name="hashshield",
    no_args_is_help=True,
    # Completion scripts are generated and installed as files, so that TAB does not start the program.
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        typer.echo(f"hashshield {version('hashshield')}")
    except PackageNotFoundError:
        typer.echo("hashshield, run from its sources and not installed")
    raise typer.Exit


@app.callback(
    help="Keep photos out of image-hash search (experimental).\n\n"
    "Photos are changed a little, in place, so that searches by deep image-hash codes no longer link them with their "
    "originals. The result is measured on the written file, for the named networks; others may still match. This does "
    "not hide faces, nor a photo from a search that starts with the published file itself.",
    epilog=commands.examples(
        "hashshield protect photos/",
        "hashshield verify photos/",
        "hashshield restore photos/",
    ),
)
def hashshield(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Accept the options that work without a command."""


commands.register(app, protect.protect, "protect", protect.EXAMPLES, panel=PHOTOS)
commands.register(app, watch.ui, "ui", watch.UI_EXAMPLES, panel=PHOTOS)
commands.register(app, watch.watch, "watch", watch.EXAMPLES, panel=PHOTOS)
commands.register(app, verify.verify, "verify", verify.EXAMPLES, panel=PHOTOS)
commands.register(app, verify.evaluate, "evaluate", verify.EVALUATE_EXAMPLES, panel=PHOTOS)
commands.register(app, audit.audit, "audit", audit.EXAMPLES, panel=PHOTOS)
commands.register(app, originals.restore, "restore", originals.RESTORE_EXAMPLES, panel=PHOTOS)
app.add_typer(originals.app, name="originals", rich_help_panel=PHOTOS)
commands.register(app, train.train, "train", train.EXAMPLES, panel=NETWORKS)
app.add_typer(models.app, name="models", rich_help_panel=NETWORKS)
app.add_typer(bench.app, name="bench", rich_help_panel=NETWORKS)
app.add_typer(setup.config_app, name="config", rich_help_panel=SETUP)
app.add_typer(setup.integrate_app, name="integrate", rich_help_panel=SETUP)
commands.register(app, setup.doctor, "doctor", setup.DOCTOR_EXAMPLES, panel=SETUP)
