"""However the command ends, what was dropped is gone, then or at the next start."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hashshield.cli.app import app
from hashshield.errors import StorageError
from hashshield.ui.photos import Workspace
from page_command import Command
from tiny_net import encoded, picture

Start = Callable[..., Command]
MANY = {"HASHSHIELD_STEPS": "1000000", "HASHSHIELD_STOP": "budget", "HASHSHIELD_METHOD": "rnm-paper"}
"""A search that lasts until it is stopped."""


def working(start: Start) -> Command:
    """A command in the middle of a search."""
    command = start(**MANY).open()
    for seed in range(2):
        command.drop(f"{seed}.png", encoded(picture(seed=seed)))
    assert command.order("protect", b"{}").status == 202
    deadline = time.monotonic() + 120
    while not (state := command.ask("state").json)["current"]:
        assert state["busy"], state
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    return command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_ends_it_and_removes_everything(start: Start, number: int) -> None:
    command = start().open()
    command.drop("a.png", encoded(picture()))
    assert len(command.folders) == 1
    code, said = command.end(number)
    assert (code, command.folders) == (0, [])
    assert "what was on the page is deleted" in said
    assert "Traceback" not in said


def test_ctrl_c_in_the_middle_of_a_search(start: Start) -> None:
    command = working(start)
    code, said = command.end()
    assert (code, command.folders) == (0, [])
    assert "Traceback" not in said


@pytest.mark.long
def test_stopping_keeps_the_photos_for_another_run_and_the_page_can_end_it(start: Start) -> None:
    command = working(start)
    assert command.order("photos/1", method="DELETE").status == 409
    assert command.order("stop").status == 202
    state = command.finished(within=60)
    assert [photo["state"] for photo in state["photos"]] == ["waiting", "waiting"]
    assert (state["error"], state["stopping"]) == (None, False)
    assert all("new vault" in text for text in state["notices"])
    assert command.order("photos/1", method="DELETE").status == 200
    assert command.order("end").status == 202
    code, said = command.ended()
    assert (code, command.folders) == (0, [])
    assert "Closed" in said


@pytest.mark.long
def test_what_a_killed_one_left_goes_at_the_next_start_and_only_that(start: Start) -> None:
    killed = start().open()
    killed.drop("a.png", encoded(picture()))
    running = start(home=killed.home).open()
    assert len(running.folders) == 2
    killed.process.kill()
    killed.process.wait()
    third = start(home=killed.home).open()
    assert len(third.folders) == 2
    assert not list(killed.home.rglob("a.png"))
    assert running.drop("b.png", encoded(picture())).status == 201
    assert [command.end()[0] for command in (running, third)] == [0, 0]
    assert third.folders == []


def test_a_port_that_is_taken_is_a_usage_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = CliRunner().invoke(app, ["ui", "--no-browser", "--port", str(port)])
    assert ended.exit_code == 2
    assert f"hashshield ui: --port {port}: cannot be had on 127.0.0.1" in ended.stderr


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ui").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a link"), Workspace(tmp_path / "ui"):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_links_among_what_is_left_are_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.jpg").write_bytes(b"photo")
    base = tmp_path / "ui"
    left = base / "session-left"
    left.mkdir(parents=True)
    (left / "in").symlink_to(mine)
    (base / "session-link").symlink_to(mine)
    with Workspace(base) as workspace:
        assert not left.exists()
        inside = workspace.path
        (inside / "b.jpg").write_bytes(b"photo")
    assert not inside.exists()
    assert (mine / "a.jpg").read_bytes() == b"photo"
