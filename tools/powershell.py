"""Generate PowerShell's completion script, as static tables; only names of networks and classes run the program."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tools.describe import Command, Takes, walk

__all__ = ["powershell_script"]

_ASKED: dict[Takes, str] = {"model": "models list --names", "class": "models info --classes"}


def powershell_script(root: Command) -> str:
    """Return the text of `completions/hashshield.ps1`, for PowerShell 5.1 and newer."""
    commands, options, values = [], [], []
    for command in walk(root):
        path = " ".join(command.path)
        if command.commands:
            commands.append(f"        {_quoted(path)} = {_listed(child.path[-1] for child in command.commands)}")
        texts = [f"{_quoted(name)} = {_quoted(option.help)}" for option in command.options for name in option.names]
        options.append(f"        {_quoted(path)} = [ordered]@{{ {'; '.join(texts)} }}")
        for option in command.options:
            if option.takes != "nothing":
                known = _listed(option.words) if option.words else _quoted(_ASKED.get(option.takes, ""))
                values += [f"        {_quoted(f'{path} {name}')} = {known}" for name in option.names]
    parts = {"COMMANDS": commands, "OPTIONS": options, "VALUES": values}
    return re.sub("@([A-Z]+)@", lambda found: "\n".join(parts[found[1]]), _SCRIPT)


# `$wordToComplete` is the word at the cursor; the words before it end before the cursor.
_SCRIPT = r"""# Generated from the application by `make pages`.
# Add a line to the profile of PowerShell ($PROFILE) that reads this file: . C:\path\to\hashshield.ps1

Register-ArgumentCompleter -Native -CommandName 'hashshield' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commands = @{
@COMMANDS@
    }
    $options = @{
@OPTIONS@
    }
    # A list of words; what to ask the program for; or nothing, which leaves files to PowerShell.
    $values = @{
@VALUES@
    }

    $before = @($commandAst.CommandElements |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text })
    $path = 'hashshield'
    foreach ($word in @($before | Select-Object -Skip 1)) {
        if ($word.StartsWith('-')) { continue }
        if ($commands[$path] -notcontains $word) { break }
        $path = "$path $word"
    }
    $previous = "$path $($before | Select-Object -Last 1)"

    if ($values.ContainsKey($previous)) {
        $found = $values[$previous]
        if ($found -is [string]) {
            if (-not $found) { return }
            $asked = $found.Split(' ')
            $found = @(& hashshield @asked 2>$null)
        }
        $texts = @{}
    } elseif ($wordToComplete.StartsWith('-')) {
        $texts = $options[$path]
        $found = @($texts.Keys)
    } else {
        $found = @($commands[$path])
        $texts = @{}
    }
    $found | Where-Object { $_ -and $_.StartsWith($wordToComplete) } | ForEach-Object {
        $typed = if ($_ -match '\s') { "'" + $_.Replace("'", "''") + "'" } else { $_ }
        $text = if ($texts[$_]) { $texts[$_] } else { $_ }
        [System.Management.Automation.CompletionResult]::new($typed, $_, 'ParameterValue', $text)
    }
}
"""


def _listed(words: Iterable[str]) -> str:
    return f"@({', '.join(map(_quoted, words))})"


def _quoted(text: str) -> str:
    """Return `text` in single quotes, in which PowerShell expands nothing; quotes in it, curly too, are doubled."""
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"
