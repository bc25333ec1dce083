"""Generate completion scripts for bash, zsh, fish and PowerShell, as static text: TAB does not start the program.

The exception are the names of networks and classes, for which `hashshield models` runs once per shell session.
"""

from __future__ import annotations

from tools.describe import Argument, Command, Option, walk
from tools.powershell import powershell_script

__all__ = ["bash_script", "fish_script", "scripts", "zsh_script"]

_HEADER = "# Generated from the application by `make pages`."
_MODELS = "hashshield models list --names"
_CLASSES = "hashshield models info --classes"


def scripts(root: Command) -> dict[str, str]:
    """Return the text of each script, by file name, for the application that `root` describes."""
    return {
        "hashshield.bash": bash_script(root),
        "_hashshield": zsh_script(root),
        "hashshield.fish": fish_script(root),
        "hashshield.ps1": powershell_script(root),
    }


def bash_script(root: Command) -> str:
    """Return the text of `completions/hashshield.bash`, for bash 3.2 and newer."""
    cases = "\n".join(line for command in walk(root) for line in _bash_case(command))
    return _filled(_BASH, cases=cases)


def _bash_case(command: Command) -> list[str]:
    lines = [f"    {_quoted(' '.join(command.path))})"]
    if command.commands:
        lines.append(f"        commands={_quoted(' '.join(child.path[-1] for child in command.commands))}")
    names = [name for option in command.options for name in option.names]
    lines.append(f"        options={_quoted(' '.join(names))}")
    if command.arguments:
        lines.append(f"        argument={command.arguments[-1].takes}")
    valued = [option for option in command.options if option.takes != "nothing"]
    if valued:
        lines.append("        case $previous in")
        for option in valued:
            words = f" words={_quoted(' '.join(option.words))}" if option.words else ""
            lines.append(f"            {'|'.join(option.names)}) takes={option.takes}{words} ;;")
        lines.append("        esac")
    return [*lines, "        ;;"]


_BASH = r"""@HEADER@
# Works with bash 3.2 and newer, with or without the bash-completion package.

__hashshield_path() {
    # Known words before the cursor, so that "hashshield --version models l" is still "hashshield models".
    path=hashshield
    local i word
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ $word == -* ]] && continue
        __hashshield_case
        case " $commands " in
            *" $word "*) path="$path $word" ;;
            *) return ;;
        esac
    done
}

__hashshield_case() {
    commands='' options='' argument='' takes='' words=''
    case $path in
@CASES@
    esac
}

__hashshield_offer() {
    # One candidate per line on standard input; quoted, and cut where bash split the word.
    local candidate
    while IFS= read -r candidate; do
        [[ -n $candidate && $candidate == "$current"* ]] || continue
        COMPREPLY+=("$(printf '%q' "${candidate#"$cut"}")")
    done
}

_hashshield() {
    local path commands options argument takes words current previous cut='' last
    COMPREPLY=()
    current=${COMP_WORDS[COMP_CWORD]}
    previous=${COMP_WORDS[COMP_CWORD - 1]}
    last=$COMP_CWORD
    # COMP_WORDBREAKS splits at = and at the colon of NAME:BITS: put the word together again.
    if [[ $current == : ]]; then
        cut=$previous: current=$previous: last=$((COMP_CWORD - 1))
    elif [[ $previous == : ]]; then
        cut=${COMP_WORDS[COMP_CWORD - 2]}: current=$cut$current last=$((COMP_CWORD - 2))
    fi
    previous=${COMP_WORDS[last - 1]}
    if [[ $current == = ]]; then
        current='' previous=${COMP_WORDS[last - 1]}
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[last - 2]}
    fi

    __hashshield_path
    __hashshield_case
    if [[ -z $takes && $current == -* ]]; then
        __hashshield_offer <<<"${options// /$'\n'}"
        return
    fi
    case ${takes:-${argument:-${commands:+commands}}} in
        commands) __hashshield_offer <<<"${commands// /$'\n'}" ;;
        word) __hashshield_offer <<<"${words// /$'\n'}" ;;
        model)
            [[ -n ${__hashshield_models-} ]] || __hashshield_models=$(@MODELS@ 2>/dev/null)
            __hashshield_offer <<<"$__hashshield_models"
            ;;
        class)
            [[ -n ${__hashshield_classes-} ]] || __hashshield_classes=$(@CLASSES@ 2>/dev/null)
            __hashshield_offer <<<"$__hashshield_classes"
            ;;
        file) return ;;
        folder)
            compopt +o default +o bashdefault -o dirnames 2>/dev/null
            return
            ;;
    esac
    # Nothing else fits here: without this, bash would offer file names.
    compopt +o default +o bashdefault 2>/dev/null
}

complete -o bashdefault -o default -F _hashshield hashshield
"""


def zsh_script(root: Command) -> str:
    """Return the text of `completions/_hashshield`, which uses the `_arguments` of zsh."""
    functions = "\n\n".join(_zsh_function(command) for command in walk(root))
    return _filled(_ZSH, functions=functions)


def _zsh_function(command: Command) -> str:
    specs = [_zsh_option(option) for option in command.options] + [_zsh_argument(arg) for arg in command.arguments]
    name = "__".join(("_hashshield", *command.path[1:]))
    if not command.commands:
        body = " \\\n        ".join(specs)
        return f"{name}() {{\n    _arguments -s -S \\\n        {body}\n}}"
    body = " \\\n        ".join([*specs, "'1: :->command'", "'*:: :->rest'"])
    listed = "\n".join(f"                {_quoted(f'{child.path[-1]}:{child.help[0]}')}" for child in command.commands)
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
    text = option.help.replace("[", "\\[").replace("]", "\\]")
    value = f":{option.metavar}:{_zsh_takes(option)}" if option.takes != "nothing" else ""
    many = "*" if option.repeatable else ""
    if len(option.names) == 1:
        return _quoted(f"{many}{option.names[0]}{'=' if value else ''}[{text}]{value}")
    names = ",".join(f"{name}{'=' if value and name.startswith('--') else ''}" for name in option.names)
    excluded = many or f"({' '.join(option.names)})"
    return f"{_quoted(excluded)}{{{names}}}{_quoted(f'[{text}]{value}')}"


def _zsh_argument(argument: Argument) -> str:
    position = "*" if argument.repeatable else ""
    return _quoted(f"{position}:{argument.metavar}:{_zsh_takes(argument)}")


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
@HEADER@

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


_FISH_ARGUMENT = {
    "file": "-F",
    "folder": "-f -a '(__fish_complete_directories)'",
    "model": "-f -a '(__hashshield_models)'",
}


def fish_script(root: Command) -> str:
    """Return the text of `completions/hashshield.fish`."""
    lines = [line for command in walk(root) for line in _fish_command(command)]
    groups = " ".join(command.path[1] for command in root.commands if command.commands)
    return _filled(_FISH, groups=groups, lines="\n".join(lines))


def _fish_command(command: Command) -> list[str]:
    words = " ".join(command.path[1:])
    start = f"complete -c hashshield -n {_fish_quoted(f'__hashshield_at {words}'.strip())}"
    lines = [f"{start} -f -a {child.path[-1]} -d {_fish_quoted(child.help[0])}" for child in command.commands]
    for argument in command.arguments:
        lines.append(f"{start} {_FISH_ARGUMENT.get(argument.takes, '-f')}")
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


_FISH = r"""@HEADER@

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


def _filled(template: str, **parts: str) -> str:
    """Return the template with its @WORDS@ replaced; Python's own templates would clash with the shells' syntax."""
    parts |= {"header": _HEADER, "models": _MODELS, "classes": _CLASSES}
    for name, text in parts.items():
        template = template.replace(f"@{name.upper()}@", text)
    return template


def _quoted(text: str) -> str:
    """Return `text` in single quotes, as bash and zsh read them."""
    return "'" + text.replace("'", "'\\''") + "'"
