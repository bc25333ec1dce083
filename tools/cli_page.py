"""Generate the page `docs/cli.md`: every command with its arguments, options and examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tools.describe import Argument, Command, Option, walk

__all__ = ["cli_page"]

_INTRODUCTION = """# The command line

<!-- written by `python -m tools.build_pages`; edit the application instead -->

Every command, as `hashshield help` and the man pages have it. [Recipes](recipes.md) shows commands at work,
[configuration](configuration.md) where options get their values from, and which exit code means what.
"""


def cli_page(root: Command) -> str:
    """Return the page as Markdown."""
    return "\n".join((_INTRODUCTION, *(line for command in walk(root) for line in _section(command)))).rstrip() + "\n"


def _section(command: Command) -> Iterator[str]:
    if len(command.path) == 1:
        yield from _table(("command", "what it does"), ((_linked(c), c.help[0]) for c in command.commands))
        return
    yield f"{'#' * min(len(command.path), 3)} {' '.join(command.path[1:])}"
    yield ""
    yield f"`{_usage(command)}`"
    yield ""
    for paragraph in command.help:
        yield _escaped(paragraph)
        yield ""
    if command.commands:
        yield from _table(("command", "what it does"), ((_linked(c), c.help[0]) for c in command.commands))
    if command.arguments:
        yield from _table(("argument", "meaning"), ((f"`{a.metavar}`", a.help) for a in command.arguments))
    options = [option for option in command.options if option.names != ("-h", "--help")]
    if options:
        yield from _table(("option", "meaning"), ((_spelled(option), _meaning(option)) for option in options))
    if command.examples:
        yield "<!-- not run: needs files of these names; the recipes' lines run -->"
        yield "```console"
        yield from command.examples
        yield "```"
        yield ""
    for note in command.notes:
        yield _escaped(note)
        yield ""


def _usage(command: Command) -> str:
    words = [" ".join(command.path)]
    if command.commands:
        return f"{words[0]} COMMAND"
    required = [option for option in command.options if option.required]
    words += [f"{option.names[-1]} {option.metavar}".strip() for option in required]
    return " ".join((*words, *map(_argument, command.arguments)))


def _argument(argument: Argument) -> str:
    name = f"{argument.metavar}..." if argument.repeatable else argument.metavar
    return name if argument.required else f"[{name}]"


def _linked(command: Command) -> str:
    words = command.path[1:]
    return f"[`{' '.join(words)}`](#{'-'.join(words)})"


def _spelled(option: Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.names)
    return f"{names} `{option.metavar}`" if option.metavar else names


def _meaning(option: Option) -> str:
    told = [option.help]
    if option.repeatable and "repeat" not in option.help:
        told.append("May be given several times.")
    if option.default:
        told.append(f"Default: `{option.default}`.")
    if option.env:
        told.append(f"Setting: `{option.env}`.")
    return " ".join(told)


def _table(heads: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"| {heads[0]} | {heads[1]} |"
    yield "|---|---|"
    for first, second in rows:
        yield f"| {first} | {_escaped(second)} |"
    yield ""


def _escaped(text: str) -> str:
    """Return the text, escaped for a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
