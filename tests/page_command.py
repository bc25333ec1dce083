"""The command itself, running in a process of its own, and a client that sends exactly what it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hashshield.config import SETTINGS


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Command:
    """`hashshield ui`, started."""

    def __init__(self, home: Path, network: str, **settings: str) -> None:
        self.home = home
        environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
        environment |= {
            **dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"), str(home)),
            "HASHSHIELD_VAULT": str(home / "vault"),
            "HASHSHIELD_MODEL": network,
            "HASHSHIELD_WITNESS": "none",
            "HASHSHIELD_DEVICE": "cpu",
            "HASHSHIELD_OFFLINE": "1",
            **settings,
        }
        words = [sys.executable, "-m", "hashshield", "ui", "--no-browser"]
        self.process = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home
        )
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().strip()
        assert self.link, self.process.stderr.read() if self.process.stderr else ""
        self.host = urlsplit(self.link).netloc
        self.origin = f"http://{self.host}"
        self.base = self.cookie = ""

    @property
    def folders(self) -> list[Path]:
        """The private folders there are, of this and of earlier commands."""
        return sorted((self.home / "hashshield" / "ui").glob("session-*"))

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str | None) -> Answer:
        """Send a request with these headers, the usual ones in front; None leaves one out, `_` stands for `-`."""
        usual = {"Host": self.host, "Cookie": self.cookie or None}
        usual |= {"Origin": self.origin} if method != "GET" else {}
        wanted = {**usual, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body is not None:
            wanted.setdefault("Content-Length", str(len(body)))
        connection = HTTPConnection(self.host, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in wanted.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer: HTTPResponse = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def open(self) -> Command:
        """Open the link as a browser does, and keep its cookie."""
        answer = self.send("GET", self.link.removeprefix(self.origin))
        assert answer.status == 303, answer
        self.base = answer.headers["Location"]
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return self

    def ask(self, what: str) -> Answer:
        return self.send("GET", self.base + what)

    def order(self, what: str, body: bytes = b"", method: str = "POST", **headers: str) -> Answer:
        return self.send(method, self.base + what, body, **headers)

    def drop(self, name: str, data: bytes) -> Answer:
        from urllib.parse import quote

        return self.order("photos", data, X_Name=quote(name, safe="", errors="surrogatepass"))

    def finished(self, *, within: float = 240) -> Any:
        """The state once nothing is being worked on."""
        deadline = time.monotonic() + within
        while (state := self.ask("state").json)["busy"]:
            assert time.monotonic() < deadline, state
            time.sleep(0.1)
        return state

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Send a signal and return exit status and standard error."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


_VARIABLES = {setting.env for setting in SETTINGS.values()}
