from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from page_command import Command


@pytest.fixture(scope="module")
def start(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Command]]:
    """Start the command with the tiny network in a home of its own, or in one that is given."""
    started: list[Command] = []

    def begin(home: Path | None = None, **settings: str) -> Command:
        home = tmp_path_factory.mktemp("home") if home is None else home
        started.append(Command(home, f"{tiny}:16", **{"HASHSHIELD_STEPS": "60", **settings}))
        return started[-1]

    yield begin
    for command in started:
        with suppress(ProcessLookupError):
            command.process.kill()
        command.process.communicate()
