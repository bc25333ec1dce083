"""Describe the command-line application as plain values, for man pages and completion scripts.

The description is read from Typer's registrations (`registered_commands`, `OptionInfo`, ...), not from the parser that
Typer builds from them: the parser's classes moved between Typer releases, and generators based on them wrote pages
without options.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, DefaultPlaceholder, OptionInfo

from hashshield.cli.options import default_note
from hashshield.config import SETTINGS

__all__ = ["Argument", "Command", "Option", "describe", "walk"]

Takes = Literal["nothing", "file", "folder", "model", "class", "word", "other"]
"""The kind of value that an option or argument takes, for completion."""

_TAKES: dict[str, Takes] = {
    "": "nothing",
    "PATH": "file",
    "ORIGINAL": "file",
    "PROTECTED": "file",
    "RECIPE": "file",
    "IMAGE": "file",
    "FILE": "file",
    "DIR": "folder",
    "NAME": "model",
    "CLASS": "class",
    "WORD": "word",
}


@dataclass(frozen=True, slots=True)
class Option:
    """An option, with everything that a manual says about it."""

    names: tuple[str, ...]
    metavar: str
    help: str
    required: bool
    repeatable: bool
    takes: Takes
    words: tuple[str, ...] = ()
    default: str = ""
    env: str = ""
    """The environment variable of the option's setting; empty if it has none."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument."""

    metavar: str
    help: str
    required: bool
    repeatable: bool
    takes: Takes


@dataclass(frozen=True, slots=True)
class Command:
    """A command or a group of commands."""

    path: tuple[str, ...]
    """The words of the command, with the program's name first."""
    help: tuple[str, ...]
    """Paragraphs; the first is a summary."""
    examples: tuple[str, ...]
    notes: tuple[str, ...]
    """Paragraphs that follow the examples."""
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...] = ()


HELP = Option(("-h", "--help"), "", "Show a summary and exit.", required=False, repeatable=False, takes="nothing")


def describe(app: typer.Typer, name: str) -> Command:
    """Return the registered application `app` as the program `name`, without hidden commands and options."""
    return _group(app, (name,), "")


def walk(command: Command) -> Iterator[Command]:
    """Yield the command and every command below it, in order of registration."""
    yield command
    for child in command.commands:
        yield from walk(child)


def _group(app: typer.Typer, path: tuple[str, ...], text: str) -> Command:
    callback = app.registered_callback
    options, _ = _parameters(callback.callback) if callback and callback.callback else ((), ())
    text = text or _given(app.info.help) or (_given(callback.help) if callback else "")
    commands = [
        _command(info.callback, (*path, info.name or ""), _given(info.help), _given(info.epilog))
        for info in app.registered_commands
        if info.callback and not info.hidden
    ]
    groups = [
        _group(info.typer_instance, (*path, _given(info.name)), _given(info.help))
        for info in app.registered_groups
        if info.typer_instance
    ]
    examples, notes = _epilog(_given(app.info.epilog) or (_given(callback.epilog) if callback else ""))
    return Command(path, _paragraphs(text), examples, notes, (*options, HELP), (), (*commands, *groups))


def _command(function: Callable[..., Any], path: tuple[str, ...], text: str, epilog: str) -> Command:
    options, arguments = _parameters(function)
    return Command(path, _paragraphs(text), *_epilog(epilog), (*options, HELP), arguments)


def _parameters(function: Callable[..., Any]) -> tuple[tuple[Option, ...], tuple[Argument, ...]]:
    hints = get_type_hints(function, include_extras=True)
    options: list[Option] = []
    arguments: list[Argument] = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *extras = get_args(hints[name])
        info = next(extra for extra in extras if isinstance(extra, (OptionInfo, ArgumentInfo)))
        required = parameter.default is inspect.Parameter.empty
        repeatable = any(get_origin(part) is list for part in (kind, *get_args(kind)))
        metavar = info.metavar or ""
        takes = _TAKES.get(metavar, "other")
        if isinstance(info, ArgumentInfo):
            arguments.append(Argument(metavar, _plain(info.help or ""), required, repeatable, takes))
        elif not info.hidden:
            options.append(_option(name, info, required=required, repeatable=repeatable, takes=takes))
    return tuple(options), tuple(arguments)


def _option(name: str, info: OptionInfo, *, required: bool, repeatable: bool, takes: Takes) -> Option:
    text = info.help or ""
    # Inside Annotated, Typer keeps the first name in `default` until it builds its parser.
    declared = (info.default, *(info.param_decls or ()))
    names = tuple(sorted((word for word in declared if isinstance(word, str) and word.startswith("-")), key=len))
    setting = SETTINGS.get(name)
    # `verify --model` shares a setting's name but not its default; only the note in the help text differs.
    if setting is None or not text.endswith(default_note(name)):
        return Option(names, info.metavar or "", _plain(text), required, repeatable, takes)
    text = text.removesuffix(default_note(name))
    return Option(
        names,
        info.metavar or "",
        _plain(text),
        required,
        repeatable,
        takes,
        words=setting.choices,
        default=setting.default_text,
        env=setting.env,
    )


def _epilog(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    blocks = [block for block in text.split("\n\n") if block and block != "Examples:"]
    examples = tuple(block.removeprefix("$ ") for block in blocks if block.startswith("$ "))
    return examples, tuple(_plain(block) for block in blocks if not block.startswith("$ "))


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(_plain(paragraph) for paragraph in inspect.cleandoc(text).split("\n\n") if paragraph)


def _plain(text: str) -> str:
    """Return help text as one line, without rich's escapes and a docstring's backquotes."""
    return re.sub(r"`([^`]+)`", r"\1", text).replace("\\[", "[").replace("\n", " ")


def _given(value: Any) -> str:
    return "" if value is None or isinstance(value, DefaultPlaceholder) else str(value)
