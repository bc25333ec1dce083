from __future__ import annotations

from pathlib import Path

import pytest

from hashshield.paths import exists, is_file, is_folder, trouble


def test_what_is_there_is_told_as_by_pathlib(tmp_path: Path) -> None:
    file, link, nothing = tmp_path / "file", tmp_path / "link", tmp_path / "nothing"
    file.touch()
    link.symlink_to(tmp_path)
    for path in (tmp_path, file, link, nothing, file / "below"):
        assert (exists(path), is_file(path), is_folder(path)) == (path.exists(), path.is_file(), path.is_dir())
        assert trouble(path) is None


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}/below"])
def test_a_path_that_cannot_be_looked_at_raises_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert not exists(path)
    assert not is_file(path)
    assert not is_folder(path)
    error = trouble(path)
    assert error is not None
    assert error.strerror == "File name too long"
