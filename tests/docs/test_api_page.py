"""The page about Python says what Python answers."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from pages import ROOT

from hashshield.config import SETTINGS


@pytest.mark.long
def test_the_page_runs_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.env, raising=False)
    (tmp_path / "vault").mkdir(mode=0o700)
    (tmp_path / "vault" / "key").write_bytes(bytes(range(32)))
    (tmp_path / "vault" / "key").chmod(0o600)
    monkeypatch.setenv("HASHSHIELD_VAULT", str(tmp_path / "vault"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(ROOT / "docs" / "api.md"), module_relative=False)
    assert tried > 10
    assert failed == 0
