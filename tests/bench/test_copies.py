"""`bench copies` on a tiny copy detector: recall counted one by one, its rows, its cache, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from bench_experiment import Silent
from copy_detector import scene
from hashshield.bench.config import CopiesConfig
from hashshield.bench.copies import COPY_EDITS, RE_ENCODED, CopyEdit, run_copies
from hashshield.bench.copy_judges import foreign_judge, recall_at
from hashshield.checkpoints.card import read_card
from hashshield.errors import UsageError

PHOTO, OTHER = Image.fromarray(scene(1, 120, 160)), Image.fromarray(scene(2, 100, 90))
DISTANCES = st.lists(st.integers(0, 12), min_size=1, max_size=40)


@given(DISTANCES, DISTANCES, st.sampled_from([0.0, 0.1, 0.3]))
def test_recall_takes_all_equal_pairs_or_none(true: list[int], false: list[int], share: float) -> None:
    recall, least = recall_at(-np.array(true, np.float32), -np.array(false, np.float32), share)
    fitting = [d for d in range(-1, 13) if sum(one <= d for one in false) <= int(share * len(false))]
    furthest = max(fitting)
    assert recall == pytest.approx(sum(one <= furthest for one in true) / len(true))
    assert sum(-one >= least for one in false) <= int(share * len(false))


@pytest.mark.parametrize("name", COPY_EDITS)
def test_an_edit_changes_the_photo_and_repeats_itself(name: str) -> None:
    edit: CopyEdit = COPY_EDITS[name]
    before = PHOTO.tobytes()
    made, again = (edit(PHOTO, OTHER, np.random.default_rng(3)) for _ in range(2))
    assert made.mode == "RGB"
    assert (made.size, made.tobytes()) == (again.size, again.tobytes())
    assert (made.size, made.tobytes()) != (PHOTO.size, before)
    assert PHOTO.tobytes() == before


def test_edits_do_what_their_names_say() -> None:
    random = np.random.default_rng(0)
    made = {name: edit(PHOTO, OTHER, random) for name, edit in COPY_EDITS.items()}
    assert made["mirrored"].tobytes() == ImageOps.mirror(PHOTO).tobytes()
    assert made["crop"].size == (112, 84)
    for name in ("rotated", "filter", "blur", "text", "picture", RE_ENCODED):
        assert made[name].size == PHOTO.size
    for name in ("frame", "screenshot"):
        assert made[name].width * made[name].height > 1.3 * PHOTO.width * PHOTO.height
    covered = np.asarray(made["picture"]) != np.asarray(PHOTO)
    assert 0.12 < covered.any(2).mean() <= 0.17
    top = made["screenshot"].crop((0, round(0.23 * 160), 160, round(0.23 * 160) + 120))
    assert top.tobytes() == PHOTO.tobytes(), "a screenshot shows the photo itself"


def config(detector: Path, output: Path, **more: object) -> CopiesConfig:
    plain: dict[str, object] = {"photos": 6, "distractors": 14, "device": "cpu"}
    return CopiesConfig(
        models=(f"{detector}:256",), data=detector.parent / "scenes", output=output, **{**plain, **more}
    )  # type: ignore[arg-type]


def test_every_judge_has_a_row_for_every_edit_and_is_asked_once(copy_detector: Path, tmp_path: Path) -> None:
    pytest.importorskip("pdqhash")
    progress = Silent()
    rows = run_copies(config(copy_detector, tmp_path), progress)
    assert progress.count == progress.total == 33
    edits = [*COPY_EDITS, "all", f"all but {RE_ENCODED}"]
    names = [f"{copy_detector} floats", f"{copy_detector}:256", "PDQ", f"{copy_detector} floats or PDQ"]
    assert [(row["judge"], row["edit"]) for row in rows] == [(name, edit) for name in names for edit in edits]
    by = {(row["judge"], row["edit"]): row for row in rows}
    card = read_card(copy_detector)
    assert by[names[0], "crop"]["threshold_of_card"] == card.cosine
    assert by[names[1], "crop"]["threshold_of_card"] == card.within
    assert by["PDQ", RE_ENCODED]["recall"] == 1
    assert by["PDQ", "mirrored"]["recall"] < 0.5
    assert by[names[3], RE_ENCODED]["recall"] == 1
    assert by[names[3], "blur"]["recall"] == 1, "PDQ finds blurred photos whatever the network says"
    assert all("threshold_of_card" not in by[names[3], edit] for edit in edits)
    assert by[names[0], RE_ENCODED]["median_true"] > by[names[0], RE_ENCODED]["median_false"]
    assert by[names[1], RE_ENCODED]["median_true"] < by[names[1], RE_ENCODED]["median_false"]
    for name in names:
        own = [by[name, edit]["recall"] for edit in COPY_EDITS]
        assert all(0 <= recall <= 1 for recall in own)
    (file,) = (tmp_path / "results").glob("copies-*.json")
    document = json.loads(file.read_text())
    assert document["rows"] == rows
    assert document["environment"]["photos"] == 6
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert len(kept) == 22, "floats and bits come from the same features"
    assert run_copies(config(copy_detector, tmp_path), Silent()) == rows
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()} == kept


def test_more_photos_than_are_held_out_are_refused(copy_detector: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds 20 photos out, and 6 with 15 distractors were asked for"):
        run_copies(config(copy_detector, tmp_path, distractors=15), Silent())


def test_a_foreign_detector_is_an_onnx_file_of_photos(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "no.onnx"
    with pytest.raises(UsageError, match=r"--detector .*no\.onnx: cannot be read"):
        foreign_judge(path)
    path.write_bytes(b"no network")
    with pytest.raises(UsageError, match=r"--detector .*no\.onnx: no ONNX network"):
        foreign_judge(path)


def test_a_foreign_detector_is_asked_for_its_embedding(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=kinds.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["embedding"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", kinds.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("embedding", kinds.FLOAT, ["n", 3])],
    )
    path = tmp_path / "means.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    judge = foreign_judge(path)
    found = judge.describe([PHOTO, OTHER])
    for image, row in zip((PHOTO, OTHER), found, strict=True):
        means = np.asarray(image.resize((288, 288), Image.Resampling.BILINEAR), np.float64).mean((0, 1))
        np.testing.assert_allclose(row, means / np.linalg.norm(means), atol=1e-4)
    assert judge.likeness(found[:1], found[:1])[0, 0] == pytest.approx(1, abs=1e-5)
