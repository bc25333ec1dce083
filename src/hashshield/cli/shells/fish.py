"""Completion for fish."""

from __future__ import annotations

from hashshield.cli.describe import Command, Option, walk
from hashshield.cli.shells.fill import filled

__all__ = ["script"]


_ARGUMENT = {
    "file": "-F",
    "folder": "-f -a '(__fish_complete_directories)'",
    "model": "-f -a '(__hashshield_models)'",
}


def script(root: Command) -> str:
    """The text of `completions/hashshield.fish`."""
    lines = [line for command in walk(root) for line in _fish_command(command)]
    groups = " ".join(command.path[1] for command in root.commands if command.commands)
    return filled(_FISH, groups=groups, lines="\n".join(lines))


def _fish_command(command: Command) -> list[str]:
    words = " ".join(command.path[1:])
    start = f"complete -c hashshield -n {_fish_quoted(f'__hashshield_at {words}'.strip())}"
    lines = [f"{start} -f -a {child.path[-1]} -d {_fish_quoted(child.help[0])}" for child in command.commands]
    for argument in command.arguments:
        lines.append(f"{start} {_ARGUMENT.get(argument.takes, '-f')}")
    if not command.commands and not command.arguments:
        lines.append(f"{start} -f")
    return lines + [f"{start} {_fish_option(option)}" for option in command.options]


def _fish_option(option: Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    takes = {
        "nothing": "",
        "file": " -r -F",
        "folder": " -x -a '(__fish_complete_directories)'",
        "model": " -x -a '(__hashshield_models)'",
        "class": " -x -a '(__hashshield_classes)'",
        "word": f" -x -a {_fish_quoted(' '.join(option.words))}",
        "other": " -x",
    }[option.takes]
    return f"{names}{takes} -d {_fish_quoted(option.help)}"


_FISH = r"""@HEAD@

function __hashshield_at --description 'Whether the words before the cursor are this command'
    set -l given
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; or set -a given $word
    end
    switch "$given[1]"
        case @GROUPS@
            test (count $given) -gt 2; and set given $given[1..2]
        case '*'
            test (count $given) -gt 1; and set given $given[1]
    end
    test "$given" = "$argv"
end

function __hashshield_models
    set -q __hashshield_model_names; or set -g __hashshield_model_names (@MODELS@ 2>/dev/null)
    printf '%s\n' $__hashshield_model_names
end

function __hashshield_classes
    set -q __hashshield_class_names; or set -g __hashshield_class_names (@CLASSES@ 2>/dev/null)
    printf '%s\n' $__hashshield_class_names
end

@LINES@
"""


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
