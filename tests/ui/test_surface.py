"""What the server answers to whom, asked without a browser."""

from __future__ import annotations

import io
import json
import re
import socket
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from hashshield.config import SETTINGS
from hashshield.ui.page import ASSETS, PRESETS
from hashshield.ui.server import POLICY
from page_command import Command
from tiny_net import encoded, picture

Start = Callable[..., Command]


@pytest.fixture(scope="module")
def opened(start: Start) -> Command:
    return start().open()


def test_the_link_works_once_and_leaves_the_address(start: Start) -> None:
    command = start()
    path = command.link.removeprefix(command.origin)
    wrong = command.send("GET", path[:-1] + ("A" if path[-1] != "A" else "B"))
    assert wrong.status == 403
    answer = command.send("GET", path)
    assert answer.status == 303
    token = path.partition("=")[2]
    assert token not in answer.headers["Location"] + answer.headers["Set-Cookie"]
    attributes = answer.headers["Set-Cookie"].split("; ")[1:]
    assert attributes == [f"Path={answer.headers['Location']}", "HttpOnly", "SameSite=Strict"]
    again = command.send("GET", path)
    assert (again.status, again.headers["Set-Cookie"]) == (403, None)
    command.base, command.cookie = answer.headers["Location"], answer.headers["Set-Cookie"].partition(";")[0]
    assert command.ask("").status == 200


@pytest.mark.parametrize(
    ("method", "what", "headers", "status"),
    [
        ("GET", "", {"Host": "localhost:{port}"}, 421),
        ("GET", "", {"Host": "127.0.0.1"}, 421),
        ("GET", "", {"Host": "127.0.0.1:{port}."}, 421),
        ("GET", "state", {"Host": "evil.example:{port}"}, 421),
        ("GET", "state", {"Host": None}, 421),
        ("GET", "state", {"Origin": "http://evil.example"}, 403),
        ("GET", "state", {"Origin": "null"}, 403),
        ("GET", "state", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("GET", "state", {"Sec_Fetch_Site": "same-site"}, 403),
        ("GET", "state", {"Cookie": None}, 403),
        ("GET", "state", {"Cookie": "session=guess"}, 403),
        ("GET", "state", {"Cookie": "session=\u00e9"}, 403),
        ("GET", "ui.js", {"Cookie": None}, 403),
        ("POST", "end", {"Origin": None}, 403),
        ("POST", "end", {"Origin": "http://127.0.0.1:1"}, 403),
        ("POST", "end", {"Origin": "http://localhost:{port}"}, 403),
        ("POST", "end", {"Origin": "https://127.0.0.1:{port}"}, 403),
        ("POST", "end", {"Cookie": None}, 403),
        ("POST", "photos", {"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ("DELETE", "photos/1", {"Origin": None}, 403),
    ],
)
def test_nobody_else_is_answered(
    opened: Command, method: str, what: str, headers: dict[str, str | None], status: int
) -> None:
    port = opened.host.partition(":")[2]
    sent = {name: value and value.replace("{port}", port) for name, value in headers.items()}
    answer = opened.send(method, opened.base + what, b"" if method != "GET" else None, **sent)
    assert answer.status == status
    assert opened.ask("state").status == 200


def test_what_is_sent_along_and_not_read_is_no_second_request(opened: Command) -> None:
    second = f"GET {opened.base}state HTTP/1.1\r\nHost: {opened.host}\r\nCookie: {opened.cookie}\r\n\r\n"
    for method, what in (("GET", "state"), ("POST", "stop")):
        with socket.create_connection(("127.0.0.1", int(opened.host.partition(":")[2])), timeout=10) as raw:
            head = f"{method} {opened.base}{what} HTTP/1.1\r\nHost: {opened.host}\r\nOrigin: {opened.origin}\r\n"
            raw.sendall(f"{head}Cookie: {opened.cookie}\r\nContent-Length: {len(second)}\r\n\r\n{second}".encode())
            said = b""
            # Hanging up on what was not read may look like a broken connection.
            with suppress(ConnectionResetError):
                while part := raw.recv(65536):
                    said += part
        assert said.count(b"HTTP/1.1 ") == 1


def test_two_hosts_are_none(opened: Command) -> None:
    with socket.create_connection(("127.0.0.1", int(opened.host.partition(":")[2])), timeout=10) as raw:
        cookie = f"Cookie: {opened.cookie}\r\n"
        raw.sendall(f"GET {opened.base}state HTTP/1.1\r\nHost: {opened.host}\r\nHost: evil\r\n{cookie}\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize(
    "what",
    [
        "../state",
        "%2e%2e/",
        "..%2f..%2fetc%2fpasswd",
        "session.py",
        "photos/1",
        "saved/1",
        "cards/-1",
        "cards/1e3",
        "saved/%00",
        "saved/999",
        "cards/99999999999999999999",
        "cards/%C2%B2",
        "",
    ],
)
def test_there_is_nothing_else_to_find(opened: Command, what: str) -> None:
    path = f"{opened.base}{what}" if what else "/"
    assert opened.send("GET", path).status == 404


def test_every_answer_carries_the_policy_and_names_no_software(opened: Command) -> None:
    answers = [opened.ask(what) for what in ("", "state", "ui.js", "saved.zip", "nothing")]
    answers.append(opened.send("GET", opened.base, Cookie=None))
    for answer in answers:
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"].strip() == "HashShield"
        assert answer.headers["Access-Control-Allow-Origin"] is None
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'; ")


def test_the_page_asks_only_for_its_own_parts_and_runs_nothing_inline(opened: Command) -> None:
    text = opened.ask("").body.decode()
    names = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert set(names) - {"data:,", "saved.zip"} == set(ASSETS)
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script>|javascript:", text)
    for name in ASSETS:
        assert opened.ask(name).body == ASSETS[name][0]


def test_every_preset_has_a_card_and_the_users_own_is_chosen(opened: Command, start: Start) -> None:
    assert tuple(PRESETS) == SETTINGS["preset"].choices
    for command, chosen in ((opened, "balanced"), (start(HASHSHIELD_PRESET="invisible").open(), "invisible")):
        text = command.ask("").body.decode()
        inputs = re.findall(r'name="preset" value="(\w+)"[^>]*?( checked)?>', text)
        assert [name for name, _ in inputs] == list(PRESETS)
        assert [name for name, checked in inputs if checked] == [chosen]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Length": None}, 411),
        ({"Content_Length": "-1"}, 400),
        ({"Content_Length": "1x"}, 400),
        ({"Content_Length": str((256 << 20) + 1)}, 413),
        ({"Content_Length": None, "Transfer_Encoding": "chunked"}, 411),
        ({"Content_Length": "9" * 40}, 400),
    ],
)
def test_sizes_are_checked_before_a_byte_is_read(opened: Command, headers: dict[str, str | None], status: int) -> None:
    answer = opened.send("POST", f"{opened.base}photos", None, **headers)
    assert answer.status == status
    assert answer.headers["Connection"] == "close"
    assert answer.json["error"]
    assert opened.ask("state").json["photos"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"preset": 1}',
        b'{"output": "/tmp"}',
        b'{"strip_gps": "yes"}',
        b'{"preset": "x"' + b" " * 5000 + b"}",
    ],
)
def test_orders_hold_what_the_page_offers_and_nothing_else(opened: Command, body: bytes) -> None:
    assert opened.order("protect", body).status in (400, 413)
    assert not opened.ask("state").json["busy"]


def test_an_order_without_photos_and_one_that_is_not_valid(start: Start) -> None:
    command = start().open()
    empty = command.order("protect", b"{}")
    assert (empty.status, "drop some" in empty.json["error"]) == (409, True)
    command.drop("a.png", encoded(picture()))
    assert command.order("protect", b'{"preset": "invisble"}').status == 202
    state = command.finished()
    assert "invisble" in state["error"]
    assert [photo["state"] for photo in state["photos"]] == ["waiting"]


def test_photos_are_protected_shown_and_saved(start: Start) -> None:
    command = start().open()
    hostile = "<script>alert(1)</script>\u202e.png"
    sent = {
        "a.png": encoded(picture(seed=1)),
        hostile: encoded(picture(seed=2)),
        "broken.png": b"\x89PNG\r\n\x1a\n" + bytes(9),
    }
    for name, data in sent.items():
        assert command.drop(name, data).status == 201
    command.drop("a.png", encoded(picture(seed=3)))
    names = [photo["name"] for photo in command.ask("state").json["photos"]]
    assert names == ["a.png", "script_.png", "broken.png", "a.png"]

    assert command.order("protect", b'{"preset": "invisible"}').status == 202
    assert command.order("protect", b"{}").status == 409
    state = command.finished()
    photos = {photo["number"]: photo for photo in state["photos"]}
    assert state["error"] is None
    assert [photos[number]["saved"] for number in (1, 2, 3, 4)] == [True, True, False, True]
    assert photos[3]["verdict"] == "failed"
    assert photos[3]["rank"] == 0

    (folder,) = command.folders
    card = command.ask("cards/2").body.decode()
    assert card.count('class="compare"') == 1
    assert "<script" not in card
    assert str(folder) not in card + command.ask("cards/3").body.decode() + json.dumps(state)

    saved = command.ask("saved/1")
    assert Image.open(io.BytesIO(saved.body)).size == (64, 48)
    assert saved.body != sent["a.png"]
    assert saved.headers["Content-Disposition"] == "attachment; filename=\"a.png\"; filename*=UTF-8''a.png"
    assert command.ask("saved/3").status == 404
    with zipfile.ZipFile(io.BytesIO(command.ask("saved.zip").body)) as archive:
        assert archive.namelist() == ["a.png", "script_.png", "a (2).png"]
        assert archive.read("a.png") == saved.body
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}

    again = b'{"preset": "invisible", "rename": true}'
    assert command.order("again/4").status == 200
    assert command.order("protect", again).status == 202
    command.finished()
    renamed = command.ask("saved/4").headers["Content-Disposition"]
    assert re.fullmatch(r"attachment; filename=\"[0-9a-f]{16}\.png\"; filename\*=.*", renamed)

    assert command.order("photos/2", method="DELETE").status == 200
    assert command.order("again/1").status == 200
    left = {photo["number"]: photo["state"] for photo in command.ask("state").json["photos"]}
    assert left == {1: "waiting", 3: "done", 4: "done"}
    assert command.ask("saved/1").status == 404
    assert command.order("protect", b'{"preset": "invisible"}').status == 202
    command.finished()
    assert command.ask("saved/1").body == saved.body


def test_what_lies_on_the_disk_is_private(start: Start) -> None:
    command = start().open()
    command.drop("../../../a.png", encoded(picture()))
    (folder,) = command.folders
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    (photo,) = folder.rglob("*.png")
    assert photo.parent.parent == folder / "waiting"
    assert stat.S_IMODE(photo.stat().st_mode) == 0o600
    assert list(command.home.rglob("*.png")) == [photo]


def test_a_connection_that_ends_early_leaves_nothing(start: Start) -> None:
    command = start().open()
    port = int(command.host.partition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        head = f"POST {command.base}photos HTTP/1.1\r\nHost: {command.host}\r\nOrigin: {command.origin}\r\n"
        raw.sendall(f"{head}Cookie: {command.cookie}\r\nX-Name: a.png\r\nContent-Length: 100\r\n\r\nabc".encode())
        raw.shutdown(socket.SHUT_WR)
        raw.settimeout(10)
        assert raw.recv(100) == b""
    assert command.ask("state").json["photos"] == []
    (folder,) = command.folders
    assert not list(folder.rglob("*.png"))


def test_only_the_loopback_is_listened_on(start: Start) -> None:
    command = start()
    port = int(command.host.partition(":")[2])
    addresses = Path(f"/proc/{command.process.pid}/net/tcp")
    if addresses.exists():
        listening = [line.split()[1] for line in addresses.read_text().splitlines()[1:] if line.split()[3] == "0A"]
        assert [place for place in listening if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
