"""Completion for bash 3.2 and newer."""

from __future__ import annotations

from hashshield.cli.describe import Command, walk
from hashshield.cli.shells.fill import filled, quoted

__all__ = ["script"]


def script(root: Command) -> str:
    """The text of `completions/hashshield.bash`."""
    cases = "\n".join(line for command in walk(root) for line in _bash_case(command))
    return filled(_BASH, cases=cases)


def _bash_case(command: Command) -> list[str]:
    lines = [f"    {quoted(' '.join(command.path))})"]
    if command.commands:
        lines.append(f"        commands={quoted(' '.join(child.path[-1] for child in command.commands))}")
    names = [name for option in command.options for name in option.names]
    lines.append(f"        options={quoted(' '.join(names))}")
    if command.arguments:
        lines.append(f"        argument={command.arguments[-1].takes}")
    valued = [option for option in command.options if option.takes != "nothing"]
    if valued:
        lines.append("        case $previous in")
        for option in valued:
            words = f" words={quoted(' '.join(option.words))}" if option.words else ""
            lines.append(f"            {'|'.join(option.names)}) takes={option.takes}{words} ;;")
        lines.append("        esac")
    return [*lines, "        ;;"]


_BASH = r"""@HEAD@
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
