"""The wheel and the source archive: what is in them, and that the wheel works where only its dependencies are."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling is not installed (it comes with the extra dev)")
requirements = pytest.importorskip("packaging.requirements")

ROOT = Path(__file__).parents[2]
LARGEST_MB = 15


def build(target: str, source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder]
    ended = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (built,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(path: Path) -> dict[str, list[str]]:
    (text,) = (data.decode() for name, data in contents(path).items() if name.endswith(".dist-info/METADATA"))
    message = Parser().parsestr(text)
    return {key: message.get_all(key, []) for key in set(message.keys())}


def test_the_wheel_is_small_and_has_licence_notice_pages_and_completions(wheel: Path) -> None:
    assert wheel.stat().st_size <= LARGEST_MB * 1e6
    files = contents(wheel)
    for name in ("LICENSE", "NOTICE"):
        (found,) = (data for path, data in files.items() if path.endswith(f".dist-info/licenses/{name}"))
        assert found == (ROOT / name).read_bytes()
    assert metadata(wheel)["License-Expression"] == ["Apache-2.0"]
    shared = {path.partition(".data/data/")[2]: data for path, data in files.items() if ".data/data/" in path}
    expected = {f"share/man/man1/{path.name}": path.read_bytes() for path in (ROOT / "man").iterdir()}
    for place, name in {
        "bash-completion/completions/hashshield": "hashshield.bash",
        "zsh/site-functions/_hashshield": "_hashshield",
        "fish/vendor_completions.d/hashshield.fish": "hashshield.fish",
        "hashshield/hashshield.ps1": "hashshield.ps1",
    }.items():
        expected[f"share/{place}"] = (ROOT / "completions" / name).read_bytes()
    assert shared == expected


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    inside = {name for name in contents(wheel) if name.startswith("hashshield/")}
    source = ROOT / "src"
    there = {path.relative_to(source).as_posix() for path in (source / "hashshield").rglob("*") if path.is_file()}
    assert inside == {name for name in there if "__pycache__" not in name}
    assert "hashshield/py.typed" in inside
    assert all(name.startswith(("hashshield/", "hashshield-")) for name in contents(wheel))


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("hashshield-*")
    assert (unpacked / "tools" / "build_pages.py").is_file(), "`make pages` works there too"
    assert contents(build("wheel", unpacked, tmp_path / "again")) == contents(wheel)
    for name in ("README.md", "NOTICE", "LICENSE", "CHANGELOG.md", "SECURITY.md", "Makefile", "mkdocs.yml", ".ci/run"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()
    assert (unpacked / "tests" / "data" / "lotus.jpg").is_file()


def closure(required: list[str]) -> set[str]:
    """The installed distributions that these requirements lead to, extras left out unless asked for."""
    found: set[str] = set()
    names = list(required)
    while names:
        text = names.pop()
        wanted = requirements.Requirement(text)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
            continue
        try:
            needed = distribution(wanted.name)
        except PackageNotFoundError:
            # Our own must be there; what others ask for and did not get here is between them.
            assert text not in required, f"{wanted} is required and not installed"
            continue
        if needed.metadata["Name"] not in found:
            found.add(needed.metadata["Name"])
            names += needed.requires or []
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the environment is put together from links")
def test_the_wheel_works_beside_its_dependencies_alone(wheel: Path, data: Path, tmp_path: Path) -> None:
    """An environment with what the wheel's metadata asks for and nothing more, linked so that nothing is fetched."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HASHSHIELD_VAULT": str(tmp_path / "vault")}

    def run(*words: str | Path) -> str:
        ended = subprocess.run([str(word) for word in words], env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{words}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    place = Path(run(binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for name in closure(metadata(wheel)["Requires-Dist"]):
        found = distribution(name)
        for top in {path.parts[0] for path in found.files or () if path.parts[0] != ".."} - {"__pycache__"}:
            if not (place / top).exists():
                (place / top).symlink_to(Path(str(found.locate_file(top))))
    run(binaries / "python", "-m", "pip", "install", "--no-index", "--no-deps", wheel)
    check = subprocess.run([binaries / "python", "-m", "pip", "check"], env=environment, capture_output=True, text=True)
    assert not [line for line in check.stdout.splitlines() if line.startswith("hashshield ")]
    where = run(binaries / "python", "-c", "import hashshield; print(hashshield.__file__)").strip()
    assert Path(where).is_relative_to(tmp_path)
    assert run(binaries / "hashshield", "--version").startswith("hashshield 0.")

    photo = tmp_path / "lotus.jpg"
    photo.write_bytes((data / "lotus.jpg").read_bytes())
    before = hashlib.sha256(photo.read_bytes()).hexdigest()
    assert "protected" in run(binaries / "hashshield", "protect", photo, "--accept-best")
    assert hashlib.sha256(photo.read_bytes()).hexdigest() != before
    run(binaries / "hashshield", "restore", photo)
    assert hashlib.sha256(photo.read_bytes()).hexdigest() == before
    assert (tmp_path / "venv" / "share" / "man" / "man1" / "hashshield-protect.1").is_file()
