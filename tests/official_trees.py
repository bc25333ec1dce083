"""Miniature datasets in their official layouts; as a module because fixtures cannot be imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tiny_net import encoded

_SHOWN = """
animals baby bird car clouds dog female flower food indoor lake male night people plant_life portrait river sea sky
structures sunset transport tree water
"""
_ABOUT = "baby bird car clouds dog female flower male night people portrait river sea tree"
FLICKR_LABELS = (*_SHOWN.split(), *(f"{name}_r1" for name in _ABOUT.split()))
CONCEPTS = [f"concept{n}" for n in range(81)]


def colour(labels: list[int], seed: int) -> bytes:
    """A small noisy picture whose colour tells its labels apart."""
    draw = np.random.default_rng(seed)
    level = np.array([60 + 40 * (labels[0] % 4), 60 + 40 * (labels[0] // 4 % 4), 128.0] if labels else [20.0, 20, 20])
    return encoded(np.clip(level + draw.normal(0, 12, (40, 44, 3)), 0, 255).astype(np.uint8), "JPEG")


def flickr(root: Path, count: int = 76, *, packed: bool = True, outer: str = "mirflickr") -> list[list[int]]:
    """Photo n has label n % 38 and, every third, also the next; every tenth has none. Returns labels per photo."""
    photos = root / outer
    notes = photos / "mirflickr25k_annotations_v080" if packed else photos
    notes.mkdir(parents=True, exist_ok=True)
    (notes / "README.txt").write_text("no list")
    found = []
    for index in range(count):
        labels = [] if index % 10 == 9 else [index % 38] + ([(index + 1) % 38] if index % 3 == 0 else [])
        found.append(sorted(labels))
        (photos / f"im{index + 1}.jpg").write_bytes(colour(labels, index))
    for column, name in enumerate(FLICKR_LABELS):
        numbers = [str(i + 1) for i, labels in enumerate(found) if column in labels]
        (notes / f"{name}.txt").write_text("".join(f"{n}\r\n" for n in numbers))
    return found


def nuswide(
    root: Path, count: int = 120, *, photos: str = "Flickr", concepts: str = "Concepts81.txt"
) -> list[list[int]]:
    """21 frequent concepts, 59 with one photo each or none, one with none; a few photos have only a rare one."""
    found: list[list[int]] = []
    for index in range(count):
        labels = [80 - index % 21] if index % 8 else [index // 8 % 59]
        found.append(sorted({*labels, *([80 - (index + 5) % 21] if index % 8 and index % 2 else [])}))
    names = [f"theme{index % 3}\\{index:04d}_{index * 7919}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        path = root / photos / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(colour(found[index], index))
    for path, lines in (
        (root / "ImageList" / "Imagelist.txt", names),
        (root / concepts, CONCEPTS),
        *(
            (
                root / "Groundtruth" / "AllLabels" / f"Labels_{name}.txt",
                ["1" if column in labels else "0" for labels in found],
            )
            for column, name in enumerate(CONCEPTS)
        ),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return found
