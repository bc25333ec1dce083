"""Generate the man page of each command, as roff text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from hashshield.config import SETTINGS
from tools.describe import Argument, Command, Option, walk

__all__ = ["pages"]

REVISED = "2026-11-28"
"""Date of the last substantial change; not the build date, so that equal sources give equal pages."""

_EXIT = {
    0: "Success. With protect and verify: all photos are protected, or were already.",
    1: "Some failed; the others were done.",
    2: "The command line, an environment variable or the configuration file is not valid.",
    3: "A goal was not reached, or a photo is not protected or not known.",
    4: "A checkpoint is missing or broken, or could not be downloaded.",
    130: "Interrupted. What was finished stays; the same command continues from there.",
}
_FILES = {
    "~/.config/hashshield/config.toml": "Settings, as TOML; the only configuration file that is read. "
    "On other systems the user's configuration folder; hashshield config show names it.",
    "~/.local/share/hashshield/": "The vault of originals, the ledger of what was done, and the key. "
    "On other systems the user's data folder; --vault and HASHSHIELD_VAULT name another.",
    "~/.cache/hashshield/checkpoints/": "Networks that were downloaded or imported. "
    "On other systems the user's cache folder; HASHSHIELD_CACHE names another.",
}


def pages(root: Command) -> dict[str, str]:
    """Return the text of each page, by file name, for the application that `root` describes."""
    return {f"{_name(command)}.1": _page(command, root) for command in walk(root)}


def _name(command: Command) -> str:
    return "-".join(command.path)


def _text(text: str) -> str:
    """Escape a word or line for roff: backslashes and hyphens stay literal, and no line becomes a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _wrapped(text: str) -> list[str]:
    """Return running text as roff lines of fewer than 80 bytes, which linters of man pages require."""
    return [_text(line) for line in textwrap.wrap(text, 72, break_long_words=False, break_on_hyphens=False)]


def _page(command: Command, root: Command) -> str:
    name = _name(command)
    summary = command.help[0].rstrip(".")
    lines = [
        '.\\" Generated from the application by `make pages`.',
        f'.TH {_text(name.upper())} 1 {REVISED} HashShield "HashShield Manual"',
        ".SH NAME",
        f"{_text(name)} \\-",
        *_wrapped(summary[0].lower() + summary[1:]),
        ".SH SYNOPSIS",
        *_synopsis(command),
        ".SH DESCRIPTION",
        *_prose((*command.help, *command.notes)),
    ]
    if command.commands:
        lines.append(".SH COMMANDS")
        for child in walk(command):
            if child is not command and not child.commands:
                words = " ".join(child.path[len(command.path) :])
                lines += [".TP", f".B {_text(words)}", *_wrapped(child.help[0])]
    if command.arguments:
        lines += [".SH ARGUMENTS", *_arguments(command.arguments)]
    lines += [".SH OPTIONS", *_options(command.options)]
    if command is root:
        lines += [".SH CONFIGURATION", *_settings()]
    lines += [".SH EXIT STATUS"]
    for code, meaning in _EXIT.items():
        lines += [".TP", f".B {code}", *_wrapped(meaning)]
    lines += [".PP", "If several apply, the first of 130, 4, 2, 1, 3, 0."]
    lines += [".SH ENVIRONMENT", *_environment(command)]
    lines += [".SH FILES"]
    for file, meaning in _FILES.items():
        lines += [".TP", f".I {_text(file)}", *_wrapped(meaning)]
    if command.examples:
        lines += [".SH EXAMPLES", ".nf", *(_text(example) for example in command.examples), ".fi"]
    others = [other for other in walk(root) if other is not command]
    lines += [".SH SEE ALSO", *_references(others)]
    return "\n".join(lines) + "\n"


def _synopsis(command: Command) -> list[str]:
    words = f".B {_text(' '.join(command.path))}"
    parts = [f"{_text(option.names[-1])} \\fI{option.metavar}\\fR" for option in command.options if option.required]
    parts.append("[\\fIoptions\\fR]")
    for argument in command.arguments:
        word = f"\\fI{argument.metavar}\\fR" + (" ..." if argument.repeatable else "")
        parts.append(word if argument.required else f"[{word}]")
    if command.commands:
        parts.append("\\fIcommand\\fR ...")
    return [words, " ".join(parts)]


def _prose(paragraphs: Iterable[str]) -> list[str]:
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += [".PP", *_wrapped(paragraph)] if lines else _wrapped(paragraph)
    return lines


def _arguments(arguments: Iterable[Argument]) -> list[str]:
    lines: list[str] = []
    for argument in arguments:
        lines += [".TP", f".I {_text(argument.metavar)}", *_wrapped(argument.help)]
    return lines


def _options(options: Iterable[Option]) -> list[str]:
    lines: list[str] = []
    for option in options:
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
        value = f" \\fI{_text(option.metavar)}\\fR" if option.metavar else ""
        lines += [".TP", names + value, *_wrapped(option.help)]
        facts = [
            "Required." if option.required else "",
            "May be repeated." if option.repeatable and "repeat" not in option.help else "",
            f"Default: {option.default}." if option.default else "",
            f"Environment: {option.env}." if option.env else "",
        ]
        lines += _wrapped(" ".join(fact for fact in facts if fact))
    return lines


def _settings() -> list[str]:
    lines = _prose(
        (
            "Options take precedence over the environment, the environment over the configuration file, and the file "
            "over the default. The file is TOML, one line per setting, for example tau = 0.02. An unknown key is an "
            "error.",
        )
    )
    for setting in SETTINGS.values():
        value = " | ".join(setting.choices) or setting.range_text or setting.kind
        default = f"Default: {setting.default_text}. " if setting.default_text else ""
        option = f" Option: {setting.option}." if setting.option else ""
        lines += [
            ".TP",
            f".B {_text(setting.key)}",
            *_wrapped(f"{setting.help.capitalize()} ({value})."),
            *_wrapped(f"{default}Environment: {setting.env}.{option}"),
        ]
    return lines


def _environment(command: Command) -> list[str]:
    lines: list[str] = []
    for option in command.options:
        if option.env:
            off = "" if option.metavar else "; 1 for on, 0 for off"
            lines += [".TP", f".B {option.env}", *_wrapped(f"Same as {option.names[-1]}{off}.")]
    return [*lines, ".TP", ".B NO_COLOR", "If set, output is not coloured."]


def _references(others: Iterable[Command]) -> list[str]:
    names = [_text(_name(other)) for other in others]
    return [f".BR {name} (1){',' if name != names[-1] else ''}" for name in names]
