"""An experiment small enough for tests: the tiny network on two classes of pictures, each in its own colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hashshield.bench.config import BenchConfig
from tiny_net import encoded, picture, write_tiny

QUERIES = 8
SMALL = {"limit": 6, "anchor": 3}
"""Steps and anchor of the searches in tests."""


class Silent:
    """A progress that counts."""

    def __init__(self) -> None:
        self.total = self.count = 0

    def start(self, total: int) -> None:
        self.total += total

    def photo(self, path: str) -> None: ...

    def done(self, outcome: object) -> None:
        self.count += 1

    def notice(self, text: str) -> None: ...


def write_classes(root: Path, *, each: int = 12) -> Path:
    """Two classes of pictures."""
    for index, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = picture(seed=100 * index + number)
            pixels[..., index] = 200
            (root / name / f"{number:02d}.png").write_bytes(encoded(pixels))
    return root


def config_for(
    folder: Path, *models: str, kind: type[BenchConfig] = BenchConfig, queries: int = 3, **more: object
) -> Any:
    """A configuration with data, network and output in `folder`, which are made where they are not there yet."""
    data, file = folder / "classes", folder / "tiny.safetensors"
    if not data.exists():
        write_classes(data)
    if not file.exists():
        write_tiny(file, dataset="folder", split={"queries": QUERIES, "seed": 0})
    names = tuple(f"{file}{name}" for name in models or (":24",))
    return kind(models=names, data=data, output=folder / "out", queries=queries, device="cpu", **more)  # type: ignore[arg-type]


def trials(config: BenchConfig) -> dict[str, int]:
    """The trials that a bench has cached, with the time at which each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (config.output / "runs").glob("*.png")}
