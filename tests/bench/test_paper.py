"""The benches of the paper's tables and figures, small: what they report, write, keep and take up again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench_stage import Silent, asked, write_classes
from hashshield.bench import adaptive, convergence, heatmap, retrieval, targeted, tau, traditional, transfer, untargeted
from hashshield.bench.pool import Pool
from hashshield.bench.results import read_result
from hashshield.bench.stage import Asked, set_stage
from hashshield.bench.targets import draw_targets
from hashshield.errors import UsageError
from official_trees import flickr
from tiny_net import write_tiny

Rows = list[dict[str, Any]]
SMALL = {"limit": 6, "anchor": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paper")


class Stops(Silent):
    """A user who interrupts after so many units."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def done(self, outcome: object) -> None:
        super().done(outcome)
        if self.count == self.after:
            raise KeyboardInterrupt


def trials(asked: Asked) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (asked.output / "runs").glob("*.png")}


def test_targeted_has_a_row_per_length_and_method_beside_its_bounds(folder: Path) -> None:
    progress, wanted = Silent(), asked(folder, "")
    rows = targeted.run(wanted, rival_queries=2, **SMALL, progress=progress)
    assert progress.count == progress.total
    assert [row["method"] for row in rows if row["bits"] == 16] == [
        *("original", "noise", "tanh, P2P", "tanh, P2S", "rnm-paper, P2P", "rnm-paper, P2S"),
        *("rnm-paper-free, P2P", "rnm-paper-free, P2S", "rnm, P2P", "rnm, P2S"),
    ]
    assert {row["bits"] for row in rows} == {16, 24}
    for row in rows:
        assert row["map_lowest"] <= row["map"] <= 1
        assert 0 < row["map_ceiling"] <= 1
        assert row["photos"] == (2 if row["method"].startswith(("tanh", "rnm-paper")) else 3)
        assert row.get("largest_levels", 0) <= 8
    document = read_result(wanted.output / "results" / "targeted-tiny.json")
    assert document["rows"] == rows
    told = document["environment"]
    assert told["seed"] == 0
    assert told["limit"] == 6
    assert told["relevance"] == "the same class"
    assert "ties" in told
    assert "unfinished" not in "".join(path.name for path in (wanted.output / "results").iterdir())


def test_what_one_bench_made_the_others_use(folder: Path) -> None:
    wanted = asked(folder, "")
    targeted.run(wanted, rival_queries=2, **SMALL, progress=Silent())
    before = trials(wanted)
    rows = convergence.run(asked(folder, "", queries=2), **SMALL, progress=Silent())
    after = trials(wanted)
    assert before.items() <= after.items()
    # Only rnm-first, on two photos at two lengths, is new.
    assert len(after) - len(before) == 4
    assert len(rows) == 2 * len(convergence.METHODS)


def test_convergence_tells_the_distance_after_every_step(folder: Path) -> None:
    wanted, progress = asked(folder, queries=2), Silent()
    rows = convergence.run(wanted, **SMALL, progress=progress)
    assert progress.count == progress.total
    document = json.loads((wanted.output / "results" / "convergence-tiny.json").read_text())
    for row, curve in zip(rows, document["curves"], strict=True):
        assert curve["step"] == list(range(7))
        assert curve["mean"][0] == row["distance_at_0"]
        assert curve["mean"][-1] == row["distance_at_end"]
        assert row["steps_to_0.1"] == "> 6" or curve["mean"][row["steps_to_0.1"]] < 0.1
    starts = {row["distance_at_0"] for row in rows}
    assert len(starts) == 1, "all begin with the same photos and targets"
    stage = set_stage(wanted, Silent())
    anchors = draw_targets(stage, anchor=3).anchor(stage.database, 24)
    own = stage.queries.bits(24)[stage.picked]
    assert starts == {float((own != anchors).sum(axis=1).mean())}
    with Image.open(wanted.output / "plots" / "convergence-tiny.png") as picture:
        assert picture.width > 300
        assert len(set(picture.convert("RGB").resize((60, 60)).tobytes())) > 3


def test_a_curve_holds_its_last_distance() -> None:
    from hashshield.bench.pool import Trial

    pixels = np.zeros((1, 1, 3), np.uint8)
    two = [Trial(pixels, {"distances": d}) for d in ([[0, 8], [2, 4], [3, 0]], [[0, 4], [1, 2]])]
    assert convergence.mean_curve(two, 5).tolist() == [6, 5, 3, 1, 1, 1]


def test_untargeted_asks_in_every_way(folder: Path) -> None:
    wanted, progress = asked(folder, queries=2), Silent()
    rows = untargeted.run(wanted, rival_queries=1, **SMALL, progress=progress)
    assert progress.count == progress.total
    names = [row["method"] for row in rows]
    assert names[:2] == ["original", "noise"]
    assert names[-4:] == ["saat's goal, rnm", "away", "opposite", "decoy"]
    for row in rows:
        for way in ("complement", "predicted_flip", "real_valued", "jpeg_q75", "blur"):
            assert row["map_lowest"] - 1e-4 <= row[f"map_{way}"] <= 1
    by_name = {row["method"]: row for row in rows}
    assert by_name["original"]["mean_distance_from_original"] == 0
    assert by_name["opposite"]["mean_distance_from_original"] > by_name["noise"]["mean_distance_from_original"]
    # On the rivals' photos alone there is a figure to hold theirs against.
    assert "median_psnr_db_on_rival_photos" in by_name["away"]
    assert "median_psnr_db_on_rival_photos" not in by_name["hag"]


def test_rnm_takes_the_steps_it_is_told_and_none_takes_more_than_the_limit(folder: Path) -> None:
    wanted = asked(folder, queries=2, steps=4)
    rows = tau.run(wanted, rival_queries=1, taus=(0.02,), limit=7, anchor=3, progress=Silent())
    assert [row["steps"] for row in rows] == [0, 7, 7, 7, 4]
    rows = tau.run(asked(folder, queries=2), rival_queries=1, taus=(0.02,), limit=3, anchor=3, progress=Silent())
    assert [row["steps"] for row in rows] == [0, 3, 3, 3, 3]


def test_tau_bounds_the_change(folder: Path) -> None:
    wanted = asked(folder, queries=2)
    rows = tau.run(wanted, rival_queries=1, taus=(0.01, 0.05), **SMALL, progress=Silent())
    assert len(rows) == 2 * (1 + 4)
    levels = {row["tau"]: max(r["largest_levels"] for r in rows if r["tau"] == row["tau"]) for row in rows}
    assert levels[0.01] <= 2
    assert 2 < levels[0.05] <= 12


def test_traditional_matches_the_papers_psnrs(folder: Path) -> None:
    wanted, progress = asked(folder, queries=2, steps=5), Silent()
    rows = traditional.run(wanted, taus=(0.01, 0.03), progress=progress)
    assert progress.count == progress.total
    names = ["original", "mosaic", "brightness", "transparency", "noise", "away, tau 0.01", "away, tau 0.03"]
    assert [row["change"] for row in rows] == names
    by_name = {row["change"]: row for row in rows}
    for name, wanted_db in (("brightness", 13.02), ("transparency", 18.28), ("noise", 24.53)):
        assert by_name[name]["median_psnr_db"] == pytest.approx(wanted_db, abs=0.15)
    assert by_name["away, tau 0.01"]["largest_levels"] <= 2
    assert by_name["away, tau 0.03"]["largest_levels"] <= 7
    with Image.open(wanted.output / "plots" / "traditional-tiny.png") as picture:
        assert picture.width > 3 * 200


def test_retrieval_has_three_queries_and_their_lists(folder: Path) -> None:
    wanted, progress = asked(folder, queries=4, steps=5), Silent()
    rows = retrieval.run(wanted, progress=progress)
    assert progress.count == progress.total
    original, protected, carrier = rows
    assert [row["query"] for row in rows] == ["original", "protected, away", "carrier"]
    assert "median_psnr_db" not in original
    assert protected["largest_levels"] <= 8
    assert carrier["photos"] == 4
    document = read_result(wanted.output / "results" / "retrieval-tiny.json")
    for entry in document["by_threshold"]:
        assert entry["table"][-1]["recall"] == 1
        assert len(entry["table"]) == 25
    for name in ("retrieval-tiny.png", "retrieval-lists-tiny.png"):
        with Image.open(wanted.output / "plots" / name) as picture:
            assert picture.width > 300


def test_heatmap_holds_the_heat_against_the_originals(folder: Path) -> None:
    wanted, progress = asked(folder, queries=2, steps=5), Silent()
    rows = heatmap.run(wanted, progress=progress)
    assert progress.count <= progress.total
    assert [row["change"] for row in rows] == ["original", "mosaic", "brightness", "transparency", "noise", "away"]
    for row in rows:
        assert 0 <= row["spread"] <= 1
        assert -1 <= row.get("correlation_with_original", 1) <= 1
    with Image.open(wanted.output / "plots" / "heatmap-tiny.png") as picture:
        assert picture.width > 6 * 200


def test_adaptive_tries_everything_against_every_goal(folder: Path) -> None:
    write_tiny(folder / "other.safetensors", seed=4, name="other", dataset="folder", split={"queries": 8, "seed": 0})
    wanted, progress = asked(folder, queries=4, steps=10), Silent()
    other = f"{folder / 'other.safetensors'}:24"
    rows = adaptive.run(wanted, goals=["opposite"], services=[other], psnr=32, progress=progress)
    assert progress.count == progress.total
    none, opposite = ({row["against"]: row for row in rows if row["goal"] == goal} for goal in ("none", "opposite"))
    assert none.keys() == opposite.keys()
    assert {"features", "jpeg q30", "five crops", "network other", "with other", "detection"} < none.keys()
    assert none["detection"]["auc"] == 0.5
    assert opposite["symmetric"]["median_psnr_db"] == pytest.approx(32, abs=0.5)
    assert none["fine-tuned on 0%"]["pairs"] == 0
    assert [opposite[f"fine-tuned on {share}"]["pairs"] for share in ("1%", "10%", "50%")] == [1, 1, 2]
    for row in rows:
        if "map" in row:
            assert row["map_lowest"] - 1e-4 <= row["map"] <= 1 or row["against"].startswith("fine-tuned")


def test_a_service_of_another_split_would_have_learnt_from_the_queries(folder: Path, tmp_path: Path) -> None:
    other = write_tiny(tmp_path / "other.safetensors", name="other", dataset="folder", split={"queries": 8, "seed": 1})
    with pytest.raises(UsageError, match="name a network of the same split"):
        adaptive.run(asked(folder, queries=2), goals=["away"], services=[f"{other}:24"], progress=Silent())


def test_transfer_holds_each_network_out_once(folder: Path) -> None:
    write_tiny(folder / "other.safetensors", seed=4, name="other", dataset="folder", split={"queries": 8, "seed": 0})
    wanted, progress = asked(folder, queries=3, steps=24), Silent()
    wanted = replace(wanted, models=(*wanted.models, f"{folder / 'other.safetensors'}:24"))
    rows = transfer.run(wanted, presets=["invisible", "strong"], goals=["opposite"], progress=progress)
    assert progress.count == progress.total
    names = ["none", "invisible", "noise as invisible", "strong", "noise as strong"]
    for held, other in (("tiny", "other"), ("other", "tiny")):
        found = {row["preset"]: row for row in rows if f"/{held}." in row["held_out"]}
        assert list(found) == names
        document = read_result(wanted.output / "results" / f"transfer-{held}.json")
        assert document["rows"] == list(found.values())
        assert [Path(name).name for name in document["environment"]["searched"]] == [f"{other}.safetensors:24"]
        assert found["none"]["mean_distance_from_original"] == 0
        for preset in ("invisible", "strong"):
            pair = found[preset], found[f"noise as {preset}"]
            assert pair[0]["largest_levels"] <= 8
            assert pair[1]["median_psnr_db"] == pytest.approx(pair[0]["median_psnr_db"], abs=0.3)
            assert pair[0]["mean_distance_from_original"] > 0
            assert all(0 <= pair[0][f"map_{way}"] <= 1 for way in ("complement", "jpeg_q75", "median", "real_valued"))
        assert found["strong"]["median_psnr_db"] < found["invisible"]["median_psnr_db"]


def test_transfer_needs_another_network_of_the_same_data(folder: Path, tmp_path: Path) -> None:
    wanted = asked(folder)
    for models in (wanted.models, (*wanted.models, wanted.models[0].replace(":24", ":16"))):
        with pytest.raises(UsageError, match="name at least two checkpoints"):
            transfer.run(replace(wanted, models=models), progress=Silent())
    other = write_tiny(tmp_path / "other.safetensors", seed=4, name="other", dataset="cifar10")
    with pytest.raises(UsageError, match=r"different datasets \(cifar10, folder\)"):
        transfer.run(replace(wanted, models=(*wanted.models, f"{other}:24")), progress=Silent())


def test_a_carrier_is_of_another_kind_or_there_is_none(folder: Path) -> None:
    wanted = asked(folder, queries=8)
    stage = set_stage(wanted, Silent())
    carried = retrieval._private(stage)
    assert not (stage.queries.labels[carried] & stage.queries.labels[stage.picked]).any()
    alone = [int(row) for row in stage.picked if stage.queries.labels[row, 0]][:2]
    with pytest.raises(UsageError, match="take more --queries"):
        retrieval._private(replace(stage, picked=np.array(alone)))


@pytest.mark.parametrize(
    ("bench", "rows"),
    [
        (lambda a, p: targeted.run(a, rival_queries=2, limit=4, anchor=3, progress=p), 10),
        (lambda a, p: untargeted.run(a, rival_queries=1, limit=4, anchor=3, progress=p), 10),
    ],
)
def test_an_interrupted_bench_is_unfinished_and_goes_on(
    bench: Callable[[Asked, Silent], Rows], rows: int, folder: Path, tmp_path: Path
) -> None:
    # Data and network of the others, so that only the trials are new.
    wanted = asked(folder)
    wanted = Asked(wanted.models, wanted.data, tmp_path / "out", queries=2, steps=3, seed=5, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        bench(wanted, Stops(8))
    name = next((tmp_path / "out" / "results").iterdir()).name.removesuffix(".unfinished")
    with pytest.raises(UsageError, match="has begun and not finished; run its command again"):
        read_result(tmp_path / "out" / "results" / name)
    before = trials(wanted)
    assert before
    assert len(bench(wanted, Silent())) == rows
    assert before.items() <= trials(wanted).items(), "what was made stays as it is"
    assert read_result(tmp_path / "out" / "results" / name)["rows"]
    made = trials(wanted)
    bench(wanted, Silent())
    assert trials(wanted) == made


@pytest.mark.parametrize("content", ["", "{", '{"bench": "tau"}', "[]"])
def test_a_damaged_result_is_no_half_table(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tau-tiny.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"tau-tiny\.json"):
        read_result(path)
    with pytest.raises(UsageError, match="no such result"):
        read_result(tmp_path / "none.json")


def test_another_version_of_the_search_uses_no_old_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, pixels = Pool(tmp_path), np.zeros((4, 4, 3), np.uint8)
    pool.keep({"photo": "a"}, pixels, {})
    assert pool.trial({"photo": "a"}) is not None
    monkeypatch.setattr("hashshield.bench.pool.SEARCH_VERSION", 0)
    assert pool.trial({"photo": "a"}) is None


def test_a_damaged_trial_is_named(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    kept = pool.keep({"a": 1}, pixels, {"steps": 3})
    assert (kept.pixels == pixels).all()
    assert kept.record == {"steps": 3}
    assert pool.trial({"a": 2}) is None
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UsageError, match=f"{path}: no readable trial"):
        pool.trial({"a": 1})
    pool.keep_table({"t": 1}, code=np.ones((2, 3), np.float32))
    assert pool.table({"t": 1})["code"].tolist() == [[1, 1, 1], [1, 1, 1]]  # type: ignore[index]
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(b"no table")
    with pytest.raises(UsageError, match="no readable table"):
        pool.table({"t": 1})


def test_photos_with_several_labels_run_by_the_same_command(tmp_path: Path) -> None:
    flickr(tmp_path / "mirflickr25k")
    file = write_tiny(
        tmp_path / "tiny.safetensors", dataset="flickr25k", split={"queries": 6, "seed": 0, "name": "paper"}
    )
    wanted = Asked((f"{file}:16",), tmp_path / "mirflickr25k", tmp_path / "out", queries=3, device="cpu")
    rows = targeted.run(wanted, rival_queries=1, limit=2, anchor=1, progress=Silent())
    told = read_result(tmp_path / "out" / "results" / "targeted-tiny.json")["environment"]
    assert told["relevance"] == "at least one shared label"
    by_name = {row["method"]: row for row in rows}
    # An anchor of one photo is that photo.
    assert by_name["rnm, P2P"]["map_ceiling"] == by_name["rnm, P2S"]["map_ceiling"]
    with pytest.raises(UsageError, match="no label set without a label of this photo has the 9 photos"):
        targeted.run(wanted, rival_queries=1, limit=2, progress=Silent())


def test_a_folder_that_is_missing_or_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    wanted = asked(folder)
    for data, message in ((tmp_path / "none", "no such folder"), (tmp_path, "expected one folder per class")):
        with pytest.raises(UsageError, match=message):
            set_stage(Asked(wanted.models, data, tmp_path / "out", device="cpu"), Silent())


def test_a_photo_that_is_listed_and_missing_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hashshield.bench import stage as module

    wanted = asked(folder)
    whole = module.open_protocol

    def listed(*words: Any) -> Any:
        files, split = whole(*words)
        return replace(files, root=tmp_path), split

    monkeypatch.setattr(module, "open_protocol", listed)
    with pytest.raises(UsageError, match=r"the dataset lists this photo, which cannot be read"):
        set_stage(Asked(wanted.models, wanted.data, tmp_path / "out", device="cpu"), Silent())


def test_lengths_of_two_checkpoints_are_two_benches(folder: Path, tmp_path: Path) -> None:
    one, other = asked(folder), asked(tmp_path)
    both = Asked((*one.models, *other.models), one.data, tmp_path / "out", device="cpu")
    with pytest.raises(UsageError, match="lengths of one checkpoint, found 2"):
        set_stage(both, Silent())


def test_codes_are_kept_and_made_anew_for_other_photos(tmp_path: Path) -> None:
    wanted = asked(tmp_path)
    first, second = Silent(), Silent()
    before = set_stage(wanted, first)
    again = set_stage(wanted, second)
    assert first.count > 0
    assert second.count == 0
    assert (before.database.codes[24] == again.database.codes[24]).all()
    write_classes(tmp_path / "more", each=13)
    third = Silent()
    set_stage(Asked(wanted.models, tmp_path / "more", wanted.output, device="cpu"), third)
    assert third.count > 0
