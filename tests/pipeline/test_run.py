"""`protect` end to end on real files; what receipts claim is measured anew from the file on disk."""

from __future__ import annotations

import hashlib
import io
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from hashshield.attacks.goals import in_band
from hashshield.checkpoints.file import write_checkpoint
from hashshield.errors import CheckpointError, GoalError, UnknownNameError, UsageError
from hashshield.imaging.png_chunks import chunk
from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import open_models
from hashshield.pipeline import execute
from hashshield.pipeline.protect import protect, protect_bytes
from hashshield.pipeline.restore import restore
from hashshield.storage import Store
from hashshield.types import FileOptions, GoalSpec, Outcome, Request
from tiny_net import CARD, SIZE, encoded, picture, tiny_weights, write_tiny

Protect = Callable[..., list[Outcome]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def put(
    folder: Path, name: str, *, seed: int = 0, size: tuple[int, int] = (96, 128), channels: int = 3, **options: Any
) -> Path:
    """Write a picture; JPEG or PNG by its name."""
    path = folder / name
    kind = "JPEG" if path.suffix == ".jpg" else "PNG"
    path.write_bytes(encoded(picture(*size, seed=seed, channels=channels), kind, **options))
    return path


def shown(source: Path | bytes) -> NDArray[np.uint8]:
    """What a viewer sees, by plain Pillow: upright, on white, RGB."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(source) if isinstance(source, bytes) else source))
    if image.mode in ("RGBA", "LA"):
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def own_bits(checkpoint: Path, pixels: NDArray[np.uint8], bits: int = 16) -> NDArray[np.int8]:
    """Bits as a service would compute them: Pillow's resize, centre crop, the network."""
    (model,) = open_models([f"{checkpoint}:{bits}"])
    height, width = pixels.shape[:2]
    short = min(height, width)
    size = (int(36 * width / short), int(36 * height / short))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 32) / 2), round((size[1] - 32) / 2)
    crop = np.array(small.crop((left, top, left + 32, top + 32)))
    with torch.inference_mode():
        return bits_of(model.model(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255).code[0].numpy())


def apart(checkpoint: Path, one: Path | bytes, other: Path | bytes) -> int:
    """Bits between two files."""
    return int(np.count_nonzero(own_bits(checkpoint, shown(one)) != own_bits(checkpoint, shown(other))))


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = np.mean((one.astype(float) - other) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("a.jpg", {}),
    ("a.png", {}),
    ("grey.jpg", {"channels": 1}),
    ("grey.png", {"channels": 1}),
    ("alpha.png", {"channels": 4}),
    *((f"turned{o}.jpg", {"exif": exif(o)}) for o in range(1, 9)),
]


def test_receipts_tell_the_truth_about_the_file_on_disk(tiny: Path, photos: Path, protect_now: Protect) -> None:
    before: dict[str, bytes] = {}
    for seed, (name, options) in enumerate(KINDS):
        before[name] = put(photos, name, seed=seed, **options).read_bytes()
    rows = protect_now(photos, accept_best=True, tau=0.05)
    assert [Path(row.path).name for row in rows] == sorted(before)
    for row in rows:
        path = Path(row.path)
        assert row.status in ("protected", "partial"), row.reason
        original, written = before[path.name], path.read_bytes()
        assert row.sha256_before == hashlib.sha256(original).hexdigest()
        assert row.sha256_after == hashlib.sha256(written).hexdigest() != row.sha256_before
        assert Image.open(io.BytesIO(written)).mode == Image.open(io.BytesIO(original)).mode
        seen = [shown(data) for data in (original, written)]
        codes = [own_bits(tiny, pixels) for pixels in seen]
        distance = int(np.count_nonzero(codes[0] != codes[1]))
        assert row.distance_from_original == distance, path
        assert (row.status == "protected") == in_band(distance, 16)
        assert row.codes[0].distance_from_original == distance
        assert row.codes[0].bits == row.bits == 16
        stored = [np.asarray(Image.open(io.BytesIO(data))) for data in (original, written)]
        if stored[0].ndim == 3 and stored[0].shape[2] == 4:
            assert np.array_equal(stored[0][..., 3], stored[1][..., 3]), "alpha is untouched"
            stored = [pixels[..., :3] for pixels in stored]
        assert row.psnr_db == pytest.approx(psnr(*stored), abs=0.01)
        assert row.linf_levels_written == int(np.abs(stored[0].astype(int) - stored[1]).max())
        assert row.linf_levels is not None
        assert 0 < row.linf_levels <= 12
        if path.suffix == ".png":
            assert row.linf_levels == row.linf_levels_written
        recoded = io.BytesIO()
        Image.fromarray(seen[1]).save(recoded, "JPEG", quality=75)
        after_jpeg = own_bits(tiny, shown(recoded.getvalue()))
        assert row.survival[0].transform == "jpeg q75"
        assert row.survival[0].distance_from_original == int(np.count_nonzero(codes[0] != after_jpeg))
    assert sum(row.status == "protected" for row in rows) > len(rows) / 2
    again = protect_now(photos)
    assert {row.status for row in again} == {"already"}
    vault = photos.parent / "vault"
    assert {row.status for row in restore([photos], vault=vault)} == {"restored"}
    assert {p.name: p.read_bytes() for p in photos.iterdir()} == before, "byte for byte"


@pytest.fixture
def protected(photos: Path, protect_now: Protect) -> tuple[Path, bytes, Outcome]:
    """A PNG protected in place, its original bytes, and its row."""
    path = put(photos, "a.png", seed=3)
    original = path.read_bytes()
    (row,) = protect_now(path, tau=0.05, accept_best=True)
    assert row.status in ("protected", "partial")
    return path, original, row


def test_copies_renames_and_metadata_edits_are_already_protected(
    protected: tuple[Path, bytes, Outcome], protect_now: Protect
) -> None:
    path, _, row = protected
    shutil.copy(path, path.with_name("copy.png"))
    path.rename(path.with_name("moved.png"))
    edited = path.with_name("edited.png")
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("Comment", "a caption")
    Image.open(path.with_name("copy.png")).save(edited, pnginfo=notes)
    captioned = edited.read_bytes()
    rows = {Path(r.path).name: r for r in protect_now(path.parent, tau=0.05)}
    assert {name: r.status for name, r in rows.items()} == dict.fromkeys(
        ("copy.png", "moved.png", "edited.png"), "already"
    )
    assert edited.read_bytes() == captioned
    assert all(r.sha256_after == row.sha256_after for r in rows.values())
    assert all(r.reason is None for r in rows.values()), "nothing differs: no hint"


def test_other_settings_are_hinted_at(protected: tuple[Path, bytes, Outcome], protect_now: Protect, tiny: Path) -> None:
    path, _, _ = protected
    written = path.read_bytes()
    for changes, says in (
        ({"tau": 0.032}, "tau 0.05"),
        ({"tau": 0.05, "goal": GoalSpec("opposite")}, "goal away"),
        ({"tau": 0.05, "models": (f"{tiny}:24",)}, "model "),
        ({"tau": 0.05, "method": "tanh"}, "method rnm"),
    ):
        (row,) = protect_now(path, **changes)
        assert row.status == "already"
        assert row.reason is not None
        assert says in row.reason
        assert "--force starts again from the original" in row.reason
    assert path.read_bytes() == written


def test_one_network_named_in_two_ways_is_no_other(
    protected: tuple[Path, bytes, Outcome], protect_now: Protect, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _, _ = protected
    monkeypatch.chdir(tiny.parent)
    (row,) = protect_now(path, tau=0.05, models=(f"{tiny.name}:16",))
    assert (row.status, row.reason) == ("already", None)


@pytest.mark.parametrize("edit", [False, True])
def test_force_starts_from_the_original(
    edit: bool, protected: tuple[Path, bytes, Outcome], protect_now: Protect, tiny: Path
) -> None:
    path, original, first = protected
    if edit:
        # Only the metadata: the pixels are still the protected ones.
        Image.open(path).save(path, optimize=True, dpi=(99, 99))
    (row,) = protect_now(path, tau=0.04, force=True, accept_best=True, goal=GoalSpec("opposite"))
    assert row.status in ("protected", "partial"), row.reason
    assert row.sha256_before == first.sha256_before == hashlib.sha256(original).hexdigest()
    assert row.psnr_db == pytest.approx(psnr(shown(original), shown(path)), abs=0.01), "never delta on delta"
    assert row.distance_from_original == int(
        np.count_nonzero(own_bits(tiny, shown(original)) != own_bits(tiny, shown(path)))
    )
    (back,) = restore([path], vault=path.parent.parent / "vault")
    assert back.status == "restored"
    assert path.read_bytes() == original


def test_force_without_an_original_says_so(photos: Path, protect_now: Protect) -> None:
    path = put(photos, "a.png")
    protect_now(path, backup=False, accept_best=True)
    written = path.read_bytes()
    (row,) = protect_now(path, force=True)
    assert row.status == "failed"
    assert row.reason is not None
    assert "no original was kept" in row.reason
    assert path.read_bytes() == written


def test_a_restored_photo_may_be_protected_again(protected: tuple[Path, bytes, Outcome], protect_now: Protect) -> None:
    path, original, first = protected
    restore([path], vault=path.parent.parent / "vault")
    (row,) = protect_now(path, tau=0.05, accept_best=True)
    assert row.status == first.status
    assert row.sha256_after == first.sha256_after, "the same photo, key and settings: the same result"
    assert path.read_bytes() != original


def test_output_leaves_the_originals_alone(photos: Path, tmp_path: Path, protect_now: Protect, told: Any) -> None:
    (photos / "sub").mkdir()
    inside, named = put(photos / "sub", "a.png"), put(tmp_path, "b.jpg", seed=1)
    before = {p: p.read_bytes() for p in (inside, named)}
    rows = protect_now(photos, named, output=tmp_path / "out", accept_best=True)
    assert {p: p.read_bytes() for p in before} == before
    written = {Path(str(r.output)) for r in rows}
    assert written == {tmp_path / "out" / "sub" / "a.png", tmp_path / "out" / "b.jpg"}
    for row in rows:
        assert hashlib.sha256(Path(str(row.output)).read_bytes()).hexdigest() == row.sha256_after
    other = tmp_path / "out" / "sub" / "a.png"
    other.write_bytes(before[named])
    again = protect_now(photos, output=tmp_path / "out", accept_best=True, tau=0.02)
    assert [r.status for r in again] == ["failed"], "other content is not overwritten without --force"
    assert other.read_bytes() == before[named]
    assert [text for text in told.notices if "new vault" not in text] == []


def test_a_dry_run_writes_nothing(photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    path = put(photos, "a.png")
    (photos / "notes.txt").write_text("no photo")
    before = path.read_bytes()
    rows = protect_now(photos, dry_run=True, models=("lite0-caltech101:48",), output=tmp_path / "out")
    assert [r.status for r in rows] == ["planned", "skipped"]
    assert rows[0].seconds is not None
    assert rows[0].seconds > 0
    assert rows[0].output == str(tmp_path / "out" / "a.png")
    assert path.read_bytes() == before
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "vault").exists()


def test_a_dry_run_tells_time_and_room(photos: Path, told: Any, protect_now: Protect) -> None:
    for index in range(3):
        put(photos, f"{index}.png", seed=index)
    rows = [protect_now(photos, dry_run=True, steps=steps) for steps in (10, 1000)]
    few, many = (sum(row.seconds or 0 for row in each) for each in rows)
    assert 20 < many / few < 100
    assert any(text.startswith("3 photos: about ") and "processor core" in text for text in told.notices)
    assert any("needs at most" in text and "MB free" in text for text in told.notices)


def test_a_sample_is_spread_and_leaves_the_photos_alone(
    photos: Path, told: Any, tmp_path: Path, protect_now: Protect
) -> None:
    paths = [put(photos, f"{index}.png", seed=index) for index in range(6)]
    before = [path.read_bytes() for path in paths]
    out = tmp_path / "out"
    rows = protect_now(photos, sample=2, output=out, accept_best=True)
    assert [Path(row.path).name for row in rows] == ["1.png", "4.png"]
    assert {row.status for row in rows} <= {"protected", "partial"}
    assert [path.name for path in sorted(out.iterdir())] == ["1.png", "4.png"]
    assert [path.read_bytes() for path in paths] == before
    assert any("tried 2 of 6 photos" in text for text in told.notices)
    with pytest.raises(UsageError, match="folder for copies"):
        protect_now(photos, sample=2)


def test_a_sample_leaves_no_failure_out(photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    paths = [put(photos, f"{index}.png", seed=index) for index in range(4)]
    (photos / "notes.txt").write_text("no photo")
    rows = protect_now(photos, photos / "gone.png", sample=2, output=tmp_path / "out", dry_run=True)
    assert [(row.path, row.status) for row in rows] == [
        (str(paths[1]), "planned"),
        (str(paths[3]), "planned"),
        (str(photos / "gone.png"), "failed"),
    ]


def test_excluded_photos_have_no_row(photos: Path, protect_now: Protect) -> None:
    put(photos, "a.png")
    put(photos, "b.png", seed=2)
    rows = protect_now(photos, dry_run=True, exclude=("b.*",))
    assert [Path(row.path).name for row in rows] == ["a.png"]


def test_short_leaves_the_file_and_says_why(photos: Path, protect_now: Protect) -> None:
    path = put(photos, "a.png")
    before, stat = path.read_bytes(), path.stat()
    (row,) = protect_now(path, tau=1 / 255, steps=1, goal=GoalSpec("opposite"))
    assert row.status == "short"
    assert row.reason is not None
    assert (
        f"is {row.distance_to_goal} of 16 bits from the goal and {row.distance_from_original} from its own code"
        in row.reason
    )
    assert "--steps 2 or a larger --tau (now 1 levels)" in row.reason
    assert row.sha256_after is None
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == stat.st_mtime_ns
    (row,) = protect_now(path, tau=1 / 255, steps=1, goal=GoalSpec("opposite"), accept_best=True)
    assert row.status == "partial"
    assert path.read_bytes() != before
    (row,) = protect_now(path, tau=1 / 255)
    assert row.status == "already"


def test_bad_files_are_rows_and_the_rest_goes_on(photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    good = put(photos, "good.png")
    whole = good.read_bytes()
    files = {
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": encoded(picture(), "JPEG")[:600],
        "empty.png": b"",
        "text.jpg": b"this is text",
        "small.png": encoded(picture(31, 64)),
        "gif.gif": encoded(picture(), "GIF"),
    }
    for name, content in files.items():
        (photos / name).write_bytes(content)
    rows = {Path(r.path).name: r for r in protect_now(photos, accept_best=True)}
    assert {n: r.status for n, r in rows.items()} == {
        "good.png": rows["good.png"].status,
        "cut.png": "failed",
        "cut.jpg": "failed",
        "empty.png": "skipped",
        "text.jpg": "skipped",
        "small.png": "failed",
        "gif.gif": "failed",
    }
    assert rows["good.png"].status in ("protected", "partial")
    assert rows["small.png"].reason is not None
    assert "too small" in rows["small.png"].reason
    named = protect_now(photos / "empty.png", photos / "text.jpg", tmp_path / "nowhere.png", tmp_path / "none")
    assert [r.status for r in named] == ["failed"] * 4
    assert all(r.reason and Path(r.path).name in r.reason for r in named)
    assert {n: (photos / n).read_bytes() for n in files} == files


def test_a_file_named_twice_is_protected_once(photos: Path, protect_now: Protect) -> None:
    path = put(photos, "a.png")
    (photos / "link.png").symlink_to(path)
    rows = protect_now(path, path, photos, photos / ".." / photos.name / "a.png", photos / "link.png", accept_best=True)
    done = [r for r in rows if r.status in ("protected", "partial")]
    assert [r.path for r in done] == [str(path)]
    assert {r.status for r in rows if r not in done} == {"skipped"}
    assert all(r.reason == f"the same file as {path}" for r in rows if r not in done)


def test_each_name_of_a_file_with_hard_links_is_protected(photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    one = put(photos, "a.png")
    (photos / "b.png").hardlink_to(one)
    original = one.read_bytes()
    assert {r.status for r in protect_now(photos, accept_best=True)} == {"failed"}, "neither name may be replaced"

    out = tmp_path / "out"
    rows = protect_now(photos, accept_best=True, output=out)
    assert {r.status for r in rows} <= {"protected", "partial"}
    assert {path.name for path in out.iterdir()} == {"a.png", "b.png"}

    rows = protect_now(photos, accept_best=True, file_options=FileOptions(break_links=True))
    assert {r.status for r in rows} <= {"protected", "partial"}, [r.reason for r in rows]
    assert original not in {path.read_bytes() for path in photos.iterdir()}


def test_two_photos_of_one_content_are_both_protected(photos: Path, protect_now: Protect) -> None:
    one = put(photos, "a.png")
    shutil.copy(one, photos / "b.png")
    rows = protect_now(photos, accept_best=True)
    assert {r.status for r in rows} <= {"protected", "partial"}
    assert (photos / "a.png").read_bytes() == (photos / "b.png").read_bytes()
    assert rows[0].sha256_after == rows[1].sha256_after


@pytest.mark.parametrize("tau", [0.0, 0.9 / 255, 1.01, -1.0, math.nan])
def test_a_tau_no_photo_can_use(tau: float, photos: Path, protect_now: Protect) -> None:
    put(photos, "a.png")
    with pytest.raises(UsageError, match=r"it must lie in \[1/255, 1\]"):
        protect_now(photos, tau=tau)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"models": ("lite0-caltech102",)}, UnknownNameError, "did you mean lite0-caltech101"),
        ({"models": ("nowhere.safetensors",)}, CheckpointError, "no such checkpoint file"),
        ({"method": "rmn"}, UnknownNameError, "unknown method 'rmn'"),
        ({"goal": GoalSpec("class", "sunflwer")}, UnknownNameError, "did you mean sunflower"),
        ({"goal": GoalSpec("image", "nowhere.png")}, GoalError, "nowhere.png: no such file or folder to aim at"),
        ({"goal": GoalSpec("set", "nowhere")}, GoalError, "nowhere: no such file or folder to aim at"),
        ({"steps": 0}, UsageError, "steps is 0"),
        ({"device": "tpu"}, UsageError, "device tpu is not available"),
    ],
)
def test_what_cannot_be_meant_stops_before_anything_is_written(
    changes: dict[str, Any], error: type[Exception], says: str, photos: Path, protect_now: Protect
) -> None:
    before = put(photos, "a.png").read_bytes()
    with pytest.raises(error, match=says):
        protect_now(photos, **changes)
    assert (photos / "a.png").read_bytes() == before


@pytest.mark.parametrize("sick", ["nan", "dead"])
def test_a_sick_checkpoint_is_refused(sick: str, photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    from safetensors.torch import save_file

    before = put(photos, "a.png").read_bytes()
    weights, anchors = tiny_weights()
    path = tmp_path / "sick.safetensors"
    if sick == "nan":
        weights["heads.16.bias"][0] = math.nan
        save_file({k: v.contiguous() for k, v in weights.items()}, path, metadata={"card": CARD.to_json()})
    else:
        weights["heads.16.weight"].zero_()
        write_checkpoint(path, CARD, weights, anchors)
    with pytest.raises(CheckpointError, match=r"sick\.safetensors"):
        protect_now(photos, models=(f"{path}:16",))
    assert (photos / "a.png").read_bytes() == before


def wanted_of(vault: Path, sha256: str) -> str:
    with Store.open(vault) as store:
        record = store.known(sha256)
        assert record is not None
        wanted: str = record.details["marks"][0]["wanted"]
        return wanted


def test_two_installations_give_different_codes(photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    put(photos, "a.png", size=(64, 64))
    wanted, after = [], []
    for number in range(3):
        (row,) = protect_now(
            photos, vault=tmp_path / f"v{number}", output=tmp_path / f"o{number}", seed=None, accept_best=True
        )
        wanted.append(wanted_of(tmp_path / f"v{number}", str(row.sha256_after)))
        after.append(row.sha256_after)
    assert len(set(wanted)) > 1
    assert len(set(after)) > 1


def test_a_seed_gives_the_same_everywhere(photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    put(photos, "a.png", size=(64, 64))
    rows = []
    for number, seed in enumerate((5, 5, 6)):
        where = {"vault": tmp_path / f"v{number}", "output": tmp_path / f"o{number}"}
        rows += protect_now(photos, seed=seed, accept_best=True, **where)
    assert rows[0].sha256_after == rows[1].sha256_after != rows[2].sha256_after


def targets(tiny: Path, photos: Path, tmp_path: Path) -> list[tuple[GoalSpec, NDArray[np.int8]]]:
    target = put(tmp_path, "target.png", seed=50)
    folder = tmp_path / "set"
    folder.mkdir()
    members = [put(folder, f"{i}.png", seed=60 + i) for i in range(3)]
    (folder / "notes.txt").write_text("no photo")
    votes = np.sum([own_bits(tiny, shown(p)).astype(int) for p in members], axis=0)
    (model,) = open_models([f"{tiny}:16"])
    assert model.anchors is not None
    return [
        (GoalSpec("image", str(target)), own_bits(tiny, shown(target))),
        (GoalSpec("set", str(folder)), np.where(votes > 0, 1, -1).astype(np.int8)),
        (GoalSpec("class", "sunflower"), model.anchors[2].numpy()),
        (GoalSpec("opposite"), -own_bits(tiny, picture(96, 128, seed=1))),
    ]


def test_targeted_goals_end_at_the_target(tiny: Path, photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    path = put(photos, "a.png", seed=1)
    before = own_bits(tiny, shown(path))
    for number, (goal, wanted) in enumerate(targets(tiny, photos, tmp_path)):
        out = tmp_path / f"out{number}"
        (row,) = protect_now(path, goal=goal, output=out, tau=0.1, accept_best=True, vault=tmp_path / f"v{number}")
        distance = int(np.count_nonzero(own_bits(tiny, shown(out / "a.png")) != wanted))
        assert row.distance_to_goal == distance
        assert (row.status == "protected") == (distance == 0)
        assert distance < np.count_nonzero(before != wanted), "an untrained network is stubborn, but gives way"
        assert row.goal == (goal.kind if goal.value is None else f"{goal.kind}:{goal.value}")


def test_the_embedded_network_sees_a_sunflower(data: Path, photos: Path, protect_now: Protect) -> None:
    """The real thing once: a kangaroo, as PNG, with the code of sunflowers, and unlike itself by default."""
    from hashshield.transforms import pillow_view

    (model,) = open_models(["lite0-caltech101:48"])
    assert model.anchors is not None
    Image.open(data / "kangaroo.jpg").save(photos / "kangaroo.png")
    before = shown(photos / "kangaroo.png")
    common = {"models": ("lite0-caltech101:48",), "steps": 30, "batch_size": 1}
    codes = []
    for number, goal in enumerate((GoalSpec("class", "sunflower"), GoalSpec())):
        out = photos.parent / f"out{number}"
        (row,) = protect_now(photos, goal=goal, output=out, vault=photos.parent / f"v{number}", **common)
        assert row.status == "protected", row.reason
        assert row.psnr_db is not None
        assert row.psnr_db > 43
        after = shown(out / "kangaroo.png")
        assert np.abs(after.astype(int) - before).max() == row.linf_levels <= 8
        with torch.inference_mode():
            images = torch.stack([pillow_view(p, model.card.input) for p in (before, after)])
            codes.append(bits_of(model.model(images).code.numpy()))
    assert (codes[0][1] == model.anchors[model.class_index("sunflower")].numpy()).all()
    assert 22 <= np.count_nonzero(codes[1][0] != codes[1][1]) <= 26


def test_a_target_of_the_photos_own_code_is_refused(photos: Path, protect_now: Protect) -> None:
    path = put(photos, "a.png")
    before = path.read_bytes()
    (row,) = protect_now(path, goal=GoalSpec("image", str(path)))
    assert row.status == "failed"
    assert row.reason is not None
    assert "already has this photo's code" in row.reason
    assert path.read_bytes() == before


def test_the_tolerance_of_jpeg_is_a_sixteenth(tiny: Path, photos: Path, protect_now: Protect) -> None:
    path = put(photos, "a.jpg", seed=1)
    (row,) = protect_now(path, goal=GoalSpec("class", "cat"), tau=0.1, steps=30, accept_best=True)
    assert (row.status == "protected") == (row.distance_to_goal <= 1)
    path = put(photos, "b.jpg", seed=2)
    (row,) = protect_now(path, goal=GoalSpec("class", "cat"), tau=1 / 255, steps=1, tolerance=16)
    assert row.status == "protected", "16 of 16 bits may be off"


@pytest.mark.long
def test_several_networks_at_once(tiny: Path, photos: Path, tmp_path: Path, protect_now: Protect) -> None:
    other = write_tiny(tmp_path / "other.safetensors", seed=9, input=replace(SIZE, resize=48, crop=40))
    path = put(photos, "a.png", seed=2)
    (row,) = protect_now(path, models=(f"{tiny}:16", f"{tiny}:24", f"{other}:16"), tau=0.1, accept_best=True)
    assert [(c.model, c.bits) for c in row.codes] == [
        (f"{tiny.resolve()}:16", 16),
        (f"{tiny.resolve()}:24", 24),
        (f"{other.resolve()}:16", 16),
    ]
    assert row.distance_to_goal == max(c.distance_to_goal for c in row.codes)
    assert row.distance_from_original == min(c.distance_from_original for c in row.codes)
    assert (row.status == "protected") == all(in_band(c.distance_from_original, c.bits) for c in row.codes)


def test_a_photo_that_changes_meanwhile_is_left(
    photos: Path, protect_now: Protect, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(photos, "a.png")
    edited = encoded(picture(96, 128, seed=9))
    real = execute.work

    def edited_while_working(*given: Any, **named: Any) -> Any:
        for result in real(*given, **named):
            path.write_bytes(edited)
            yield result

    monkeypatch.setattr(execute, "work", edited_while_working)
    (row,) = protect_now(path, accept_best=True)
    assert row.status == "failed"
    assert row.reason is not None
    assert "changed while it was worked on" in row.reason
    assert path.read_bytes() == edited


def test_progress_is_told_of_every_photo_once(photos: Path, protect_now: Protect, told: Any) -> None:
    for i in range(5):
        put(photos, f"{i}.png", seed=i, size=(40, 48))
    (photos / "cut.png").write_bytes((photos / "0.png").read_bytes()[:200])
    (photos / "notes.txt").write_text("")
    rows = protect_now(photos, batch_size=2, steps=3, accept_best=True)
    assert told.total == 6
    assert len(told.photos) == len(set(told.photos)) == 6
    assert len(told.rows) == 6
    assert len(rows) == 7


def test_bytes_in_bytes_out(tiny: Path, request_for: Callable[..., Request], tmp_path: Path) -> None:
    data = encoded(picture(96, 128, seed=3), "JPEG")
    protected, row = protect_bytes(data, request_for(tau=0.05, accept_best=True), name="-")
    assert protected is not None
    assert row.sha256_after == hashlib.sha256(protected).hexdigest()
    assert row.distance_from_original == int(
        np.count_nonzero(own_bits(tiny, shown(data)) != own_bits(tiny, shown(protected)))
    )
    nothing, row = protect_bytes(data, request_for(tau=1 / 255, steps=1, goal=GoalSpec("opposite")), name="-")
    assert (nothing, row.status) == (None, "short")
    nothing, row = protect_bytes(b"no photo", request_for(), name="-")
    assert (nothing, row.status) == (None, "failed")
    assert row.reason is not None


def test_credentials_are_told_of_once_and_before_anything_is_written(
    tmp_path: Path, request_for: Callable[..., Request]
) -> None:
    photos = [tmp_path / name for name in ("a.png", "b.png")]
    for seed, path in enumerate(photos):
        plain = encoded(picture(40, 40, seed=seed))
        path.write_bytes(plain[:33] + chunk(b"caBX", b"jumb c2pa").data + plain[33:])
    before = [path.read_bytes() for path in photos]

    class Told:
        notices: tuple[str, ...] = ()

        def start(self, total: int) -> None: ...

        def photo(self, path: str) -> None: ...

        def done(self, outcome: object) -> None: ...

        def notice(self, text: str) -> None:
            if "C2PA" in text:
                assert [path.read_bytes() for path in photos] == before
                self.notices += (text,)

    told = Told()
    protect(photos, request_for(steps=4, accept_best=True), progress=told)
    assert len(told.notices) == 1
    assert "--remove-credentials" in told.notices[0]
    assert all(b"c2pa" in path.read_bytes() for path in photos)

    options = FileOptions(remove_credentials=True)
    told = Told()
    protect(photos, request_for(steps=4, accept_best=True, force=True, file_options=options), progress=told)
    assert told.notices == ()
    assert not any(b"c2pa" in path.read_bytes() for path in photos)
