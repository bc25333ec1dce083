"""Completion for zsh, by its own `_arguments`."""

from __future__ import annotations

from hashshield.cli.describe import Argument, Command, Option, walk
from hashshield.cli.shells.fill import filled, quoted

__all__ = ["script"]


def script(root: Command) -> str:
    """The text of `completions/_hashshield`."""
    functions = "\n\n".join(_zsh_function(command) for command in walk(root))
    return filled(_ZSH, functions=functions)


def _zsh_function(command: Command) -> str:
    specs = [_zsh_option(option) for option in command.options] + [_zsh_argument(arg) for arg in command.arguments]
    name = "__".join(("_hashshield", *command.path[1:]))
    if not command.commands:
        body = " \\\n        ".join(specs)
        return f"{name}() {{\n    _arguments -s -S \\\n        {body}\n}}"
    body = " \\\n        ".join([*specs, "'1: :->command'", "'*:: :->rest'"])
    listed = "\n".join(f"                {quoted(f'{child.path[-1]}:{child.help[0]}')}" for child in command.commands)
    cases = "\n".join(
        f"                {child.path[-1]}) {'__'.join(('_hashshield', *child.path[1:]))} ;;"
        for child in command.commands
    )
    return f"""{name}() {{
    local curcontext=$curcontext state line
    _arguments -C \\
        {body} && return
    case $state in
        command)
            local -a commands=(
{listed}
            )
            _describe command commands
            ;;
        rest)
            case $words[1] in
{cases}
            esac
            ;;
    esac
}}"""


def _zsh_option(option: Option) -> str:
    said = option.help.replace("[", "\\[").replace("]", "\\]")
    value = f":{option.metavar}:{_zsh_takes(option)}" if option.takes != "nothing" else ""
    many = "*" if option.repeatable else ""
    if len(option.names) == 1:
        return quoted(f"{many}{option.names[0]}{'=' if value else ''}[{said}]{value}")
    names = ",".join(f"{name}{'=' if value and name.startswith('--') else ''}" for name in option.names)
    excluded = many or f"({' '.join(option.names)})"
    return f"{quoted(excluded)}{{{names}}}{quoted(f'[{said}]{value}')}"


def _zsh_argument(argument: Argument) -> str:
    position = "*" if argument.repeatable else ""
    return quoted(f"{position}:{argument.metavar}:{_zsh_takes(argument)}")


def _zsh_takes(item: Option | Argument) -> str:
    if isinstance(item, Option) and item.words:
        return f"({' '.join(item.words)})"
    return {
        "file": "_files",
        "folder": "_files -/",
        "model": "__hashshield_models",
        "class": "__hashshield_classes",
    }.get(item.takes, " ")


_ZSH = r"""#compdef hashshield
@HEAD@

__hashshield_models() {
    (( $+__hashshield_model_names )) || typeset -ga __hashshield_model_names=(${(f)"$(@MODELS@ 2>/dev/null)"})
    compadd -a __hashshield_model_names
}

__hashshield_classes() {
    (( $+__hashshield_class_names )) || typeset -ga __hashshield_class_names=(${(f)"$(@CLASSES@ 2>/dev/null)"})
    compadd -a __hashshield_class_names
}

@FUNCTIONS@

# Autoloaded as a completion function, or sourced.
if [[ $funcstack[1] == _hashshield ]]; then
    _hashshield "$@"
else
    compdef _hashshield hashshield
fi
"""
