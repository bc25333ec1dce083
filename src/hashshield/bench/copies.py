"""`bench copies`: which edited copies of a photo a copy detector finds, at one false pair in a thousand.

Photos that the network was not trained on are edited in ten ways, and each copy is compared with its original and with
thousands of other photos. The table also has PDQ, alone and together with the detector, semantic codes, and a foreign
detector if its file is given.

The edits are those of people who publish a photo again, with fixed strengths. They are implemented separately from
those of training, which a network trained on them would recognise too easily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.bench.config import CopiesConfig
from hashshield.bench.copy_judges import CopyJudge, foreign_judge, network_judges, pdq_judge, recall_at
from hashshield.bench.experiment import open_protocol
from hashshield.bench.results import TrialCache, environment, recording
from hashshield.errors import UsageError
from hashshield.imaging.coders import decode
from hashshield.models.device import choose_device
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import open_models
from hashshield.pipeline.find_copies import PDQ_WITHIN
from hashshield.types import Progress

__all__ = ["COLUMNS", "COPY_EDITS", "FALSE_PAIRS", "RE_ENCODED", "CopyEdit", "run_copies"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "copies": ("judge", "edit", "recall", "threshold", "median_true", "median_false", "recall_at_card"),
}
FALSE_PAIRS = 1e-3
"""Share of the pairs of an edited photo and another photo that count as copies."""
_BATCH = 50
"""Number of images that are described, and cached, together."""
_SECONDS = 200
"""Number of other photos that are pasted into a photo or put around it."""


_SURE = np.float32(2)
"""A value above every cosine."""

_Likeness = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Likeness of true pairs, (N,), and of false ones, (N, M)."""


@dataclass(frozen=True, slots=True)
class _Photos:
    """The photos to compare."""

    names: tuple[str, ...]
    """Paths of the originals, then of the others, relative to the dataset."""
    originals: int
    """Number of originals."""
    images: tuple[Image.Image, ...]


def run_copies(config: CopiesConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per judge and edit, and one per judge over all of them; write the result file.

    The first network's card names dataset and split; photos are drawn from its queries. Raise UsageError,
    CheckpointError, PhotoError.
    """
    opened = open_models(config.models, device=choose_device(config.device))
    judges = [copy_judge for model in opened for copy_judge in network_judges(model)]
    if (classical := pdq_judge()) is not None:
        judges.append(classical)
    if config.detector is not None:
        judges.append(foreign_judge(config.detector))
    files, split = open_protocol(opened[0], config.data)
    if config.photos + config.distractors > len(split.queries):
        raise UsageError(
            f"{opened[0].name} holds {len(split.queries)} photos out, and {config.photos} with {config.distractors} "
            "distractors were asked for; ask for fewer with --photos and --distractors"
        )
    rows = split.sample(config.photos + config.distractors, seed=config.seed)
    names = tuple(files.paths[i] for i in rows)
    images = tuple(_image(files.root / name) for name in names)
    photos = _Photos(names, config.photos, images)
    progress.start(len(judges) * (1 + len(COPY_EDITS)))
    settings = environment(
        models=[model.name for model in opened],
        detector=None if config.detector is None else config.detector.name,
        dataset=files.name,
        photos=config.photos,
        distractors=config.distractors,
        false_pairs=FALSE_PAIRS,
        seed=config.seed,
    )
    cache = TrialCache(config.output / "runs")
    with recording("copies", opened[0].card.name, config.output, settings) as result:
        for copy_judge in judges:
            progress.photo(copy_judge.name)
            pairs = _pairs(copy_judge, photos, cache, config.seed, progress)
            result.rows += _rows(copy_judge, pairs)
            if copy_judge is judges[0]:
                first = pairs
            if copy_judge is classical and not judges[0].bits:
                either = replace(judges[0], name=f"{judges[0].name} or PDQ", threshold=None)
                result.rows += _rows(either, [_either(*both) for both in zip(first, pairs, strict=True)])
    return result.rows


def _either(by_network: _Likeness, by_pdq: _Likeness) -> _Likeness:
    """Return the cosines of pairs, or `_SURE` for pairs within PDQ's distance, as `audit --copies` decides."""
    true, false = (
        np.where(bits >= -PDQ_WITHIN, _SURE, cosines) for cosines, bits in zip(by_network, by_pdq, strict=True)
    )
    return true, false


def _pairs(copy_judge: CopyJudge, photos: _Photos, cache: TrialCache, seed: int, progress: Progress) -> list[_Likeness]:
    """Return, for each edit, one judge's likeness of photos and their copies, and of the copies and other photos."""
    plain = _described(copy_judge, photos, "none", photos.images, cache, seed)
    progress.done(None)
    own, others = plain[: photos.originals], plain[photos.originals :]
    found: list[_Likeness] = []
    for number, (name, edit) in enumerate(COPY_EDITS.items()):
        made: list[Image.Image] = []
        for place in range(photos.originals):
            random = np.random.default_rng([seed, number, place])
            second = photos.images[photos.originals + int(random.integers(min(len(others), _SECONDS)))]
            made.append(edit(photos.images[place], second, random))
        edited = _described(copy_judge, photos, name, made, cache, seed)
        true = np.array([copy_judge.likeness(a[None], b[None])[0, 0] for a, b in zip(edited, own, strict=True)])
        false = copy_judge.likeness(edited, others)
        found.append((true, false))
        progress.done(None)
    return found


def _rows(copy_judge: CopyJudge, everywhere: Sequence[_Likeness]) -> list[dict[str, Any]]:
    """Return the rows of one judge: one for each edit, and those over all of them."""
    rows: list[dict[str, Any]] = [
        {"judge": copy_judge.name, "edit": name, **_scores(copy_judge, true, false)}
        for name, (true, false) in zip(COPY_EDITS, everywhere, strict=True)
    ]
    changing = [pair for name, pair in zip(COPY_EDITS, everywhere, strict=True) if name != RE_ENCODED]
    for name, pairs in (("all", everywhere), (f"all but {RE_ENCODED}", changing)):
        true, false = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        rows.append({"judge": copy_judge.name, "edit": name, **_scores(copy_judge, true, false)})
    return rows


def _scores(copy_judge: CopyJudge, true: NDArray[np.float32], false: NDArray[np.float32]) -> dict[str, Any]:
    recall, least = recall_at(true, false, FALSE_PAIRS)
    scores: dict[str, Any] = {
        "recall": round(recall, 4),
        "threshold": copy_judge.readable(least),
        "median_true": copy_judge.readable(float(np.median(true))),
        "median_false": copy_judge.readable(float(np.median(false))),
    }
    if copy_judge.threshold is not None:
        at = -copy_judge.threshold if copy_judge.bits else copy_judge.threshold
        scores["threshold_of_card"] = copy_judge.threshold
        scores["recall_at_card"] = round(float(np.mean(true >= at)), 4)
        scores["false_pairs_at_card"] = round(float(np.mean(false >= at)), 6)
    return scores


def _described(
    copy_judge: CopyJudge, photos: _Photos, edit: str, images: Sequence[Image.Image], cache: TrialCache, seed: int
) -> NDArray[Any]:
    """Return the (N, D) descriptions of `images`, which are `photos` after `edit`, from the cache if possible."""
    seconds = photos.names[photos.originals :][:_SECONDS] if edit != "none" else ()
    rows = []
    for start in range(0, len(images), _BATCH):
        names = photos.names[: len(images)][start : start + _BATCH]
        settings = {"copies": copy_judge.key, "edit": edit, "seed": seed, "photos": names, "seconds": seconds}
        table = cache.table(settings)
        if table is None:
            table = {"described": copy_judge.describe(images[start : start + _BATCH])}
            cache.keep_table(settings, **table)
        rows.append(table["described"])
    return copy_judge.derive(np.concatenate(rows))


def _image(path: Path) -> Image.Image:
    return Image.fromarray(displayed_rgb(imaging.read(path.read_bytes(), name=str(path))))


CopyEdit = Callable[[Image.Image, Image.Image, np.random.Generator], Image.Image]
"""(RGB photo, another photo, generator) -> the edited photo, of any size."""

RE_ENCODED = "jpeg"
"""The edit that only encodes again, which classical hashes are made for."""
_QUALITY = 30
_WARM = np.array(((1.10, 0.12, -0.04), (0.02, 0.98, 0.02), (-0.06, 0.10, 0.78)))
"""Colour matrix of a warm filter; rows give red, green and blue."""
_WORDS = ("when you see it", "NOBODY:", "follow for more", "best day ever", "monday mood")


def _crop(photo: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Keep 70% of each side, half of the area, at a random place."""
    width, height = round(0.7 * photo.width), round(0.7 * photo.height)
    left = int(random.integers(photo.width - width + 1))
    top = int(random.integers(photo.height - height + 1))
    return photo.crop((left, top, left + width, top + height))


def _mirrored(photo: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(photo)


def _rotated(photo: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Turn by 8 degrees to either side, the corners black."""
    return photo.rotate(8 if random.random() < 0.5 else -8, Image.Resampling.BICUBIC)


def _filtered(photo: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    """Apply a warm tint, more contrast, lifted shadows and a dark rim, as photo applications do."""
    pixels = np.asarray(photo, np.float32) / 255
    pixels = np.clip(pixels @ _WARM.T.astype(np.float32), 0, 1)
    pixels = 0.08 + 0.92 * pixels**1.2 * (1.5 - 0.5 * pixels)
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in pixels.shape[:2])
    rim = 1 - 0.35 * np.clip(rows[:, None] ** 2 + columns[None] ** 2 - 0.4, 0, 1)
    found: Pixels = np.clip(np.rint(255 * pixels * rim[..., None]), 0, 255).astype(np.uint8)
    return Image.fromarray(found)


def _blurred(photo: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    """Blur with a sigma of a hundredth of the long side."""
    return photo.filter(ImageFilter.GaussianBlur(max(photo.size) / 100))


def _texted(photo: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Write two lines across it, above and below, white with a black edge, a sixth of the height each."""
    photo = photo.copy()
    draw, size = ImageDraw.Draw(photo), max(10, photo.height // 6)
    font = ImageFont.load_default(size)
    for top in (0.02, 0.78):
        words = _WORDS[int(random.integers(len(_WORDS)))]
        at = (photo.width / 2, top * photo.height)
        draw.text(at, words, "white", font, anchor="ma", stroke_width=max(1, size // 14), stroke_fill="black")
    return photo


def _covered(photo: Image.Image, other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Paste another photo on it, two fifths of each side, at a random place."""
    photo = photo.copy()
    size = round(0.4 * photo.width), round(0.4 * photo.height)
    at = (int(random.integers(photo.width - size[0] + 1)), int(random.integers(photo.height - size[1] + 1)))
    photo.paste(other.resize(size, Image.Resampling.BILINEAR), at)
    return photo


def _framed(photo: Image.Image, other: Image.Image, _random: np.random.Generator) -> Image.Image:
    """Hang it in a white frame with a brown edge in the middle of another photo; it is 70% of each side."""
    border = max(2, min(photo.size) // 25)
    picture = ImageOps.expand(ImageOps.expand(photo, border, "white"), max(1, border // 2), "saddlebrown")
    wall = other.resize((round(photo.width / 0.7), round(photo.height / 0.7)), Image.Resampling.BILINEAR)
    wall.paste(picture, ((wall.width - picture.width) // 2, (wall.height - picture.height) // 2))
    return wall


def _screenshot(photo: Image.Image, _other: Image.Image, random: np.random.Generator) -> Image.Image:
    """Show it in a phone's portrait screen: a status line, a name with its picture, buttons and lines of text."""
    width = photo.width
    height = max(round(1.4 * width), photo.height + round(0.5 * width))
    dark = random.random() < 0.5
    paper, ink = ("#101014", "#e8e8ea") if dark else ("#ffffff", "#18181c")
    screen = Image.new("RGB", (width, height), paper)
    draw, unit = ImageDraw.Draw(screen), width / 100
    font = ImageFont.load_default(max(8, round(4 * unit)))
    draw.text((4 * unit, 1.5 * unit), "12:04", ink, font)
    draw.ellipse((4 * unit, 9 * unit, 14 * unit, 19 * unit), fill="#c04080")
    draw.text((18 * unit, 11 * unit), "someone_else", ink, font)
    top = round(23 * unit)
    screen.paste(photo, (0, top))
    below = top + photo.height + 3 * unit
    for place in (4, 16, 28):
        draw.rectangle((place * unit, below, (place + 8) * unit, below + 8 * unit), outline=ink, width=2)
    for line, words in enumerate(("1,204 likes", "look what I found today", "view all 18 comments")):
        draw.text((4 * unit, below + (11 + 6 * line) * unit), words, ink, font)
    return screen


def _encoded(photo: Image.Image, _other: Image.Image, _random: np.random.Generator) -> Image.Image:
    buffer = BytesIO()
    photo.save(buffer, "JPEG", quality=_QUALITY)
    return decode(JpegImageFile, buffer.getvalue(), name="JPEG")


COPY_EDITS: dict[str, CopyEdit] = {
    "crop": _crop,
    "mirrored": _mirrored,
    "rotated": _rotated,
    "filter": _filtered,
    "blur": _blurred,
    "text": _texted,
    "picture": _covered,
    "frame": _framed,
    "screenshot": _screenshot,
    RE_ENCODED: _encoded,
}
"""Name -> edit, in the order of tables."""
