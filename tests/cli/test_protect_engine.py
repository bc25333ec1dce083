"""`protect --engine ray`: what it refuses before anything is done, whether Ray is installed or not."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--engine dask", "--engine is 'dask', which is unknown; choose one of local, ray"),
        ("--workers 2", "are for --engine ray"),
        ("--ray-address 127.0.0.1:6379", "are for --engine ray"),
        ("--engine ray", "needs --output DIR, because many machines never work in place"),
        ("--engine ray --output OUT --no-backup", "leave out --no-backup, meant for"),
        ("--engine ray --output OUT --force --break-links", "leave out --force and --break-links, meant for"),
        ("--engine ray --output OUT --allow-root", "leave out --allow-root, meant for"),
        ("--engine ray --output OUT -", "- stands for one photo through a pipe"),
    ],
)
def test_what_cannot_be_meant_is_refused(run: Run, tmp_path: Path, words: str, said: str) -> None:
    (tmp_path / "photos").mkdir()
    asked = words.replace("OUT", str(tmp_path / "out")).split()
    ended = run("protect", tmp_path / "photos", "--vault", tmp_path / "vault", *asked)
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    asked = ("--output", tmp_path / "out", "--engine", "ray", "--vault", tmp_path / "vault")
    ended = run("protect", tmp_path / "photos", *asked)
    assert ended.code == 1
    assert "pip install 'hashshield[ray]'" in ended.err


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray Data is not installed (extra ray)")
@pytest.mark.parametrize(
    ("address", "mode", "said"),
    [
        ("ray://127.0.0.1:10001", "token", "give HOST:PORT of the head node"),
        ("127.0.0.1:6379", "", "set RAY_AUTH_MODE=token"),
        ("127.0.0.1:6379", "token", "set RAY_AUTH_MODE=token"),
    ],
)
def test_another_cluster_is_not_entered_without_a_token(
    run: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, address: str, mode: str, said: str
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    asked = ("--output", tmp_path / "out", "--engine", "ray", "--vault", tmp_path / "vault", "--ray-address", address)
    ended = run("protect", data / "lotus.jpg", *asked)
    assert ended.code == 2
    assert said in ended.err
