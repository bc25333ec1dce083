"""What somebody else put into a photo folder: files that look like settings, and names that steer terminals."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny_net import encoded, picture, write_tiny

Run = Callable[..., Any]

NAMES = [
    b"[link=file:x]y[red].png",
    b"\x1b]0;title\x07\x1b[2Jred\x1b[31m.png",
    b"two\nprotected: lines.png",
    b"not-utf8-\xff\xfe.png",
    b"turned-\xe2\x80\xaegnp.png",
    b":boom: --force.png",
]
PLANTED = "tau = 0.9\nsteps = 1\nvault = '/tmp/elsewhere'\nno_backup = true\nstrip_metadata = true\n"


@pytest.fixture
def photos(tmp_path: Path, own_settings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    net = write_tiny(tmp_path / "tiny.safetensors")
    texts = {"model": f"{net}:16", "witness": "none", "vault": tmp_path / "vault", "device": "cpu"}
    own_settings.write_text("\n".join([*(f'{key} = "{value}"' for key, value in texts.items()), "steps = 4"]))
    folder = tmp_path / "photos"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_settings_beside_photos_are_ignored(run: Run, photos: Path, own_settings: Path) -> None:
    before = {row["key"]: row for row in json.loads(run("config", "show", "--json").out)["results"]}
    for place in (photos, photos / ".config" / "hashshield", photos / "hashshield"):
        place.mkdir(parents=True, exist_ok=True)
        for name in ("config.toml", "hashshield.toml", ".hashshield.toml", "pyproject.toml", ".env"):
            (place / name).write_text(PLANTED)
    after = {row["key"]: row for row in json.loads(run("config", "show", "--json").out)["results"]}
    assert after == before
    assert after["tau"]["source"] == "default"
    assert {row["where"] for row in after.values() if row["source"] == "file"} == {str(own_settings)}


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="the file system refuses such names")
@pytest.mark.parametrize("terminal", [False, True])
def test_names_print_harmlessly_by_every_command(
    run: Run, photos: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if terminal:
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: stream is sys.stdout, raising=False)
    for seed, name in enumerate(NAMES):
        data = encoded(picture(48, 48, seed=seed))
        (photos / os.fsdecode(name)).write_bytes(data if b"lines" not in name else data[:99])
    for words in (
        ("protect", ".", "--dry-run"),
        ("protect", ".", "--accept-best", "--verbose"),
        ("verify", ".", "--verbose"),
        ("restore", "."),
        ("originals", "list"),
    ):
        ended = run(*words)
        assert ended.out, words
        assert "internal error" not in ended.out + ended.err, words
        for text in (ended.out, ended.err):
            # rich sets headings in bold; nothing else may be an escape.
            shown = text.replace("\x1b[1m", "").replace("\x1b[0m", "")
            bad = {character for character in shown if not character.isprintable()} - {"\n", "\t"}
            assert not bad, (words, bad)
            assert "\nprotected: lines" not in shown
        assert terminal or "[link=file:x]y[red].png" in ended.out
    document = run("verify", ".", "--json").out
    assert document.isascii()
    found = {os.fsencode(Path(row["path"]).name) for row in json.loads(document)["results"]}
    assert found == set(NAMES)
