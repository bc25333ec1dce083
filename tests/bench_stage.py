"""A stage small enough for tests: the tiny network on two classes of pictures, each in its own colour."""

from __future__ import annotations

from pathlib import Path

from hashshield.bench.stage import Asked
from tiny_net import encoded, picture, write_tiny

QUERIES = 8


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


def asked(folder: Path, *models: str, queries: int = 3, **more: object) -> Asked:
    """What a bench is asked, with data, network and output in `folder`; made where they are not there yet."""
    data, file = folder / "classes", folder / "tiny.safetensors"
    if not data.exists():
        write_classes(data)
    if not file.exists():
        write_tiny(file, dataset="folder", split={"queries": QUERIES, "seed": 0})
    names = tuple(f"{file}{name}" for name in models or (":24",))
    return Asked(models=names, data=data, output=folder / "out", queries=queries, device="cpu", **more)  # type: ignore[arg-type]
