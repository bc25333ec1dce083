"""Completion scripts for bash, zsh and fish: static text, so that no program starts at a TAB.

Only the names of networks and of their classes are asked of `hashshield models`, once per shell session.
"""

from __future__ import annotations

from hashshield.cli.describe import Command
from hashshield.cli.shells import bash, fish, zsh

__all__ = ["scripts"]


def scripts(root: Command) -> dict[str, str]:
    """File name and text of every script, for the described application."""
    return {"hashshield.bash": bash.script(root), "_hashshield": zsh.script(root), "hashshield.fish": fish.script(root)}
