"""The thin commands but `protect`: what they ask of the library, and what they say of its answer."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from hashshield.bench.config import (
    GoalsConfig,
    MapConfig,
    MethodsConfig,
    ScaleConfig,
    SizeConfig,
    SpeedConfig,
    SurvivalConfig,
    VisibleConfig,
)
from hashshield.checkpoints import catalog
from hashshield.checkpoints.card import Card, InputSpec
from hashshield.pipeline.rows import Audit, Neighbour
from hashshield.storage import NewRecord, Store, read_snapshot
from hashshield.types import (
    CodeRow,
    Evaluation,
    GoalSpec,
    PerceptualRow,
    Restoration,
    SurvivalRow,
    Verification,
)
from onnx_nets import hash_net, written

Run = Callable[..., Any]
StandIn = Callable[..., None]


class Asked(list[tuple[tuple[Any, ...], dict[str, Any]]]):
    """Remembers calls and answers them all alike."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def __call__(self, *words: Any, **named: Any) -> Any:
        named.pop("progress", None)
        self.append((words, named))
        return self.answer


def test_verify_leaves_the_networks_to_the_ledger(run: Run, stand_in: StandIn) -> None:
    verify = Asked([Verification("a.jpg", "protected", source="ledger")])
    stand_in("hashshield.pipeline.verify", verify=verify)
    ended = run("verify", "a.jpg")
    assert ended.code == 0
    nothing = {
        "models": (),
        "otherwise": ("lite0-caltech101:48",),
        "original": None,
        "goal": None,
        "tolerance": None,
        "preset": "balanced",
        "vault": None,
        "device": "auto",
    }
    nothing["exclude"] = ()
    assert verify == [(([Path("a.jpg")],), nothing)]
    assert ended.err == "1 protected.\n"


@pytest.mark.parametrize("command", ["verify", "restore"])
def test_an_unreadable_path_is_left_to_the_pipeline(
    run: Run, stand_in: StandIn, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typer's own check would refuse the whole command line, good photos included."""
    (tmp_path / "a.jpg").write_bytes(b"closed")
    # Tests may run as root, who can read everything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    asked = Asked([])
    stand_in(f"hashshield.pipeline.{command}", **{command: asked})
    assert run(command, tmp_path / "a.jpg").code == 0
    assert asked[0][0] == ([tmp_path / "a.jpg"],)


def test_verify_takes_a_target_only_beside_an_original(run: Run) -> None:
    ended = run("verify", "a.jpg", "--target-class", "sunflower")
    assert ended.code == 2
    assert "a target needs --original too" in ended.err


def test_verify_with_an_original_hashes_with_the_configured_networks(run: Run, stand_in: StandIn) -> None:
    verify = Asked([Verification("a.jpg", "not_protected", source="original")])
    stand_in("hashshield.pipeline.verify", verify=verify)
    words = (
        "--original",
        "o.jpg",
        "--target-class",
        "sunflower",
        "--tolerance",
        "3",
        "--vault",
        "v",
        "--device",
        "cpu",
    )
    assert run("verify", "a.jpg", *words).code == 3
    assert verify[0][1] == {
        "models": (),
        "otherwise": ("lite0-caltech101:48",),
        "original": Path("o.jpg"),
        "goal": GoalSpec("class", "sunflower"),
        "tolerance": 3,
        "preset": "balanced",
        "vault": Path("v"),
        "device": "cpu",
        "exclude": (),
    }
    assert run("verify", "a.jpg", "--model", "m:16").code == 3
    assert (verify[1][1]["models"], verify[1][1]["otherwise"]) == (("m:16",), ())


def test_a_photo_from_standard_input_is_called_by_its_dash(
    run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def verify(paths: Sequence[Path], **named: Any) -> list[Verification]:
        seen.append(paths[0].read_bytes())
        return [
            Verification(str(paths[0]), "failed", reason=f"{paths[0]}: truncated"),
            Verification("b.jpg", "protected"),
        ]

    stand_in("hashshield.pipeline.verify", verify=verify)
    stdin = io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xffphoto"))
    monkeypatch.setattr(sys, "stdin", stdin)
    ended = run("verify", "-", "b.jpg")
    assert seen == [b"\xff\xd8\xffphoto"]
    assert ended.out == "-\tfailed\t\t\t\t\nb.jpg\tprotected\t\t\t\t\n"
    assert ended.err == "failed: -: truncated\n1 protected, 1 failed.\n"
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    ended = run("verify", "-")
    assert (ended.code, ended.err) == (2, "hashshield verify: - reads a photo from standard input; redirect it\n")


def test_standard_input_that_is_no_photo_gets_a_row_beside_the_others(
    run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("hashshield.pipeline.verify", verify=lambda paths, **named: [Verification(str(*paths), "protected")])
    with Path("/dev/zero").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        ended = run("verify", "-", "b.jpg")
    assert ended.code == 1
    assert ended.out == "-\tfailed\t\t\t\t\nb.jpg\tprotected\t\t\t\t\n"
    assert "failed: -: not an image" in ended.err


def test_an_unknown_photo_shows_its_code_and_ends_with_3(run: Run, stand_in: StandIn) -> None:
    row = Verification("a.jpg", "unknown", reason="not in the ledger; give --original", hex_codes={"m:16": "00ff"})
    stand_in("hashshield.pipeline.verify", verify=Asked([row]))
    ended = run("verify", "a.jpg")
    assert ended.code == 3
    assert "unknown: not in the ledger; give --original (a.jpg)" in ended.err
    assert "00ff" not in ended.err, "a code tells a person nothing"
    assert "a.jpg: m:16 00ff" in run("verify", "a.jpg", "--verbose").err
    document = json.loads(run("verify", "a.jpg", "--json").out)
    assert document["results"][0]["hex_codes"] == {"m:16": "00ff"}
    assert document["summary"]["counts"]["unknown"] == 1


def test_evaluate(run: Run, stand_in: StandIn) -> None:
    code = CodeRow("m:16", 16, "crop", 8, 0, 0.2)
    seen: dict[str, Any] = {"visibility": 0.5, "visibility_word": "faint", "psnr_db": 45.0, "ssim": 0.99}
    evaluate = Asked([Evaluation("a", "b", "compared", **seen, linf_levels=6, codes=(code,))])
    stand_in("hashshield.pipeline.evaluate", evaluate=evaluate)
    ended = run("evaluate", "a", "b", "--model", "m:16")
    assert evaluate == [
        (
            (Path("a"), Path("b")),
            {
                "models": ("m:16",),
                "goal": None,
                "preset": "balanced",
                "survival": False,
                "vault": None,
                "device": "auto",
            },
        )
    ]
    assert ended.out == "a\tb\tcompared\t8 of 16\t\t0.50 faint\t45.0\t0.9900\t6\t\n"
    assert ended.err == "Compared 1 photo on m:16.\n"
    stand_in("hashshield.pipeline.evaluate", evaluate=Asked([Evaluation("a", "b", "failed", "sizes differ")]))
    ended = run("evaluate", "a", "b")
    assert ended.code == 1
    assert "failed: b: sizes differ" in ended.err


def test_evaluate_survival(run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CodeRow("m:16", 16, "card", 8, 0, 0.2)
    kept = (
        SurvivalRow("jpeg q75", "m:16", "card", 7, 1, True),
        SurvivalRow("half size", "m:16", "card", 2, 8, False),
        SurvivalRow("long side 1024", "m:16", "card", reason="not applicable: the long side is 300 pixels"),
    )
    classical = (PerceptualRow("pHash", 64, 10, 2, True), PerceptualRow("PDQ", 256, 31, reason="is not installed"))
    row = Evaluation("a", "b", "compared", None, 0.5, "faint", 45.0, 0.99, 6, 0.5, (code,), kept, classical)
    evaluate = Asked([row])
    stand_in("hashshield.pipeline.evaluate", evaluate=evaluate)
    ended = run("evaluate", "a", "b", "--survival", "--target-class", "lotus")
    assert evaluate[0][1] == {
        "models": ("lite0-caltech101:48",),
        "goal": GoalSpec("class", "lotus"),
        "preset": "balanced",
        "survival": True,
        "vault": None,
        "device": "auto",
    }
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "jpeg q75\tm:16\t7 of 16\t1\tyes",
        "half size\tm:16\t2 of 16\t8\tno",
        "long side 1024\tm:16\t\t\tnot applicable",
    ]
    assert ended.err.splitlines() == [
        "Compared 1 photo on m:16; 1 of 1 kept after JPEG q75.",
        "b: visibility 0.50 faint, PSNR 45.0 dB, SSIM 0.9900, largest change 6 levels",
        "pHash still matches: distance 2 of 64 bits, where 10 or fewer count as a match.",
        "PDQ: not measured: is not installed.",
        "HashShield does not hide photos from classical perceptual hashes.",
    ]
    document = json.loads(run("evaluate", "a", "b", "--survival", "--json").out)
    assert document["version"] == 1
    assert document["results"][0]["survival"][2]["passed"] is None
    assert document["results"][0]["perceptual"][0]["threshold"] == 10
    assert document["summary"]["survival"][0] == {
        "transform": "jpeg q75",
        "model": "m:16",
        "kept": 1,
        "of": 1,
        "median_distance_from_original": 7,
        "median_distance_to_goal": 1,
    }
    monkeypatch.setenv("HASHSHIELD_SURVIVAL", "1")
    run("evaluate", "a", "b")
    assert evaluate[-1][1]["survival"] is True


def test_evaluate_writes_a_page(run: Run, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in("hashshield.pipeline.evaluate", evaluate=Asked([Evaluation("a", "b", "failed", "sizes differ")]))
    page = tmp_path / "page.html"
    assert "it holds originals" in run("evaluate", "a", "b", "--report", page).err
    assert "sizes differ" in page.read_text("utf-8")
    assert run("evaluate", "a", "b", "--redact").code == 2


def test_audit(run: Run, stand_in: StandIn) -> None:
    near = Neighbour("g/n.jpg", 1, 1, 9, 4)
    row = Audit("a.jpg", "audited", None, "the vault", "m:16", 16, 1200, 2, 8, 700, 1150, 3, 0, 1, (near,), (near,))
    asked = Asked([row, Audit("g/cut.jpg", "failed", reason="g/cut.jpg: is cut")])
    stand_in("hashshield.pipeline.audit", audit=asked)
    ended = run("audit", "a.jpg", "--gallery", "g")
    plain = {"original": None, "top": 10, "threshold": None, "sheet": None, "vault": None, "device": "auto"}
    plain |= {"models": ("lite0-caltech101:48",), "exclude": (), "found": ANY}
    assert asked == [((Path("a.jpg"), Path("g")), plain)]
    assert ended.code == 1
    assert ended.out == "m:16\tg/n.jpg\t1\t1\t9\t4\n"
    assert ended.err.splitlines() == [
        "failed: g/cut.jpg: is cut",
        "m:16, 1200 photos to search among; original and protected photo differ in 8 of 16 bits.",
        "A search with the protected photo finds the original at rank 700 of 1,201; a search with the original finds "
        "the protected photo at rank 1,150 of 1,201.",
        "Of the 1 nearest to the original, 1 are among the 1 nearest to the protected photo.",
        "Within 2 bits: 3 photos of the original, 0 of the protected photo, and the two do not match each other.",
    ]
    words = ["--original", "o.jpg", "--top", "3", "--threshold", "8", "--sheet", "s.jpg", "--vault", "v"]
    words += ["--model", "m:16", "--exclude", "x", "--json"]
    document = json.loads(run("audit", "a.jpg", "--gallery", "g", *words).out)
    assert asked[1][1] == {
        "models": ("m:16",),
        "original": Path("o.jpg"),
        "top": 3,
        "threshold": 8,
        "sheet": Path("s.jpg"),
        "vault": Path("v"),
        "device": "auto",
        "exclude": ("x",),
        "found": ANY,
    }
    assert document["results"][0]["nearest_before"] == [
        {"path": "g/n.jpg", "distance_before": 1, "rank_before": 1, "distance_after": 9, "rank_after": 4}
    ]
    assert document["summary"]["counts"] == {"audited": 1, "unknown": 0, "skipped": 0, "failed": 1}
    matching = Audit("a.jpg", "audited", None, "o", "m:16", 16, 3, 8, 8, 1, 1, 0, 0, 0)
    stand_in("hashshield.pipeline.audit", audit=Asked([matching]))
    assert "and the two match each other" in run("audit", "a.jpg", "--gallery", "g").err
    unknown = Audit("a.jpg", "unknown", reason="not in the ledger; give its original with --original")
    stand_in("hashshield.pipeline.audit", audit=Asked([unknown]))
    assert run("audit", "a.jpg", "--gallery", "g").code == 3
    assert run("audit", "a.jpg").code == 2


def test_restore(run: Run, stand_in: StandIn) -> None:
    restore = Asked([Restoration("a.jpg", "restored", sha256="00")])
    stand_in("hashshield.pipeline.restore", restore=restore)
    assert run("restore", "a.jpg").code == 0
    options = ("--force", "--dry-run", "--last-run", "--vault", "v", "--break-links", "--allow-root")
    assert run("restore", *options).code == 0
    quiet = dict.fromkeys(("force", "dry_run", "last_run", "break_links", "allow_root"), False)
    assert restore == [
        (([Path("a.jpg")],), {"vault": None, **quiet}),
        (([],), {"vault": Path("v"), **dict.fromkeys(quiet, True)}),
    ]


def test_a_terminal_shows_the_first_files_of_many_and_verbose_all(
    run: Run, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Restoration(f"{i:02}.jpg", "restored") for i in range(30)]
    stand_in("hashshield.pipeline.restore", restore=Asked(rows))
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: stream is sys.stdout, raising=False)
    some, every = run("restore", "photos/"), run("restore", "photos/", "--verbose")
    assert all("File" in ended.out.splitlines()[0] and "\t" not in ended.out for ended in (some, every)), "tables"
    assert ("19.jpg" in some.out, "20.jpg" in some.out) == (True, False)
    assert "... and 10 more; --verbose lists all." in some.err
    assert ("29.jpg" in every.out, "more" in every.err) == (True, False)


def test_restore_of_nothing_named_is_a_usage_error(run: Run, stand_in: StandIn) -> None:
    restore = Asked([])
    stand_in("hashshield.pipeline.restore", restore=restore)
    ended = run("restore")
    assert ended.code == 2
    assert "--last-run" in ended.err
    assert restore == []


@dataclass
class Original:
    id: str = "ab" * 32
    size: int = 2_000_000
    state: str = "kept"
    paths: tuple[str, ...] = ("p/a.jpg",)
    created: str | None = "2026-11-23T07:00:00+00:00"
    in_use: bool = True


@dataclass
class Pruned:
    originals: Sequence[Original]
    dry_run: bool


def test_originals_list(run: Run, stand_in: StandIn) -> None:
    listed = Asked([Original(), Original(paths=(), created=None, in_use=False, state="unrecorded")])
    stand_in("hashshield.pipeline.originals", list_originals=listed)
    ended = run("originals", "list")
    assert ended.out.splitlines()[0] == "p/a.jpg\tkept\tyes\t2026-11-23\t2.0 MB\tabababababab"
    assert ended.err == "2 originals, 4.0 MB.\n"
    document = json.loads(run("originals", "list", "--json").out)
    assert document["summary"]["counts"] == {"kept": 1, "unrecorded": 1}
    assert document["summary"]["bytes"] == 4_000_000


def test_prune_shows_first_and_deletes_only_when_told(run: Run, stand_in: StandIn) -> None:
    prune = Asked(Pruned([Original()], True))
    stand_in("hashshield.pipeline.originals", prune=prune)
    ended = run("originals", "prune", "--dry-run", "--older-than", "30", "--restored-only", "--unrecorded")
    assert ended.code == 0
    assert ended.err == "Would delete 1 original, 2.0 MB.\n"
    ended = run("originals", "prune")
    assert ended.code == 2
    assert "1 of them is the only way back for a protected file" in ended.err
    assert {named["dry_run"] for _, named in prune} == {True}
    assert prune[0][1] == {
        "vault": None,
        "older_than_days": 30.0,
        "restored_only": True,
        "unrecorded": True,
        "dry_run": True,
    }
    assert run("originals", "prune", "--yes").err == "Deleted 1 original, 2.0 MB.\n"
    assert [named["dry_run"] for _, named in prune][-2:] == [True, False]
    assert prune[-1][1]["confirmed"] == [Original()], "what was in the question, and nothing else"


def test_export_and_forget(run: Run, stand_in: StandIn) -> None:
    @dataclass
    class Row:
        path: str
        status: str = "exported"
        reason: str | None = None
        rows: int = 2
        originals: tuple[str, ...] = ("x",)
        shared: tuple[str, ...] = ()
        kept_for: tuple[str, ...] = ()

    export = Asked([Row("out/a.jpg"), Row("out/b.jpg", "failed", "disk full")])
    forget = Asked([Row("a.jpg", "forgotten")])
    stand_in("hashshield.pipeline.originals", export=export, forget_each=forget)
    ended = run("originals", "export", "out")
    assert ended.code == 1
    assert ended.err == "failed: out/b.jpg: disk full\n1 exported, 1 failed.\n"
    assert export == [((Path("out"),), {"vault": None, "dry_run": False, "allow_root": False})]
    assert run("originals", "forget", "a.jpg").code == 2
    assert forget == []
    ended = run("originals", "forget", "a.jpg", "--yes")
    assert (ended.code, ended.out) == (0, "a.jpg\tforgotten\t2\t1\t0\n")
    assert forget == [(([Path("a.jpg")],), {"vault": None, "dry_run": False})]


def test_train(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from hashshield.training import trainer
    from hashshield.training.recipe import read_recipe

    size = InputSpec(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    card = Card("mine", "vgg11", (16, 48), 0, size, ("a", "b"), "folder", {}, {}, "MIT", "me", map={"16": 0.9})
    calls: list[tuple[Any, dict[str, Any]]] = []

    def train(recipe: Any, **named: Any) -> Card:
        reporter: trainer.Reporter = named.pop("reporter")
        reporter.note("stage 1 of 1")
        reporter.epoch(trainer.Epoch(0, 1, 3, 0.5, None, 1.0))
        calls.append((recipe, named))
        return card

    monkeypatch.setattr(trainer, "train", train)
    words = ("--data", "d", "--output", "o.safetensors", "--bits", "16", "--bits", "48", "--epochs", "3", "--resume")
    ended = run("train", "lite0-caltech101", *words, "--seed", "5", "--device", "cpu")
    assert ended.code == 0
    assert ended.err == "stage 1 of 1\n"
    assert "bits\t16, 48\n" in ended.out
    assert "map\t16: 0.9000\n" in ended.out
    ((recipe, named),) = calls
    assert named == {"data": Path("d"), "output": Path("o.safetensors"), "seed": 5, "device": "cpu", "resume": True}
    assert recipe.model.bits == (16, 48)
    assert {stage.epochs for stage in recipe.stages} == {3}
    assert recipe.data == read_recipe("lite0-caltech101").data
    run("train", "own", "--data", "d.csv", "--output", "o", "--queries", "7", "--name", "mine")
    recipe, _ = calls.pop()
    assert (recipe.data.dataset, recipe.data.queries, recipe.name) == ("own", 7, "mine")
    document = json.loads(run("train", "lite0-caltech101", "--data", "d", "--output", "o", "--json").out)
    assert document["results"][0]["map"] == {"16": 0.9}
    assert calls[1][0] == read_recipe("lite0-caltech101")


def test_models_import_of_onnx(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHSHIELD_CACHE", str(tmp_path / "cache"))
    path, card = written(tmp_path, hash_net(side=48, channels=4), side=48)
    document = json.loads(run("models", "import", path, "--card", card, "--json").out)
    assert document["command"] == "models import"
    assert (document["results"][0]["name"], document["results"][0]["status"]) == ("foreign", "imported")
    ended = run("models", "info", "foreign")
    assert ended.code == 0
    assert "Use it as\t--model foreign:96; code lengths 96\n" in ended.out
    assert run("models", "verify", "foreign").code == 0
    card.write_text(card.read_text().replace("foreign", "lite0-caltech101"))
    ended = run("models", "import", path, "--card", card)
    assert ended.code == 4
    assert f"{path}: lite0-caltech101 comes with the package already; give it another name in {card}" in ended.err
    card.write_text(card.read_text().replace("lite0-caltech101", "../escape"))
    assert run("models", "import", path, "--card", card).code == 4
    assert run("models", "import", path).code == 2
    assert run("models", "import", tmp_path / "a.safetensors", "--card", card).code == 2
    path.write_bytes(b"no network")
    assert run("models", "import", path, "--card", tmp_path / "none.toml").code == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "card.toml", "home", "model.onnx", "projection.npy"]


def test_an_unknown_recipe_is_a_usage_error(run: Run) -> None:
    ended = run("train", "lite9", "--data", "d", "--output", "o")
    assert ended.code == 2
    assert "lite0-caltech101" in ended.err


def test_bench_map(run: Run, stand_in_bench: StandIn) -> None:
    bench = Asked([{"model": "m", "bits": 48, "map": 0.95678}])
    stand_in_bench("retrieval", "map", bench)
    ended = run("bench", "map", "--model", "m:48", "--data", "d")
    ((words, _),) = bench
    assert words[0] == MapConfig(models=("m:48",), data=Path("d"), device="auto")
    assert ended.out == "m\t48\t\t\t\t0.9568\n"


@pytest.mark.parametrize(
    ("module", "name", "words", "config"),
    [
        (
            "targeted",
            "targeted",
            (
                *("--queries", "5", "--limit", "9", "--anchor", "3", "--preset", "strong"),
                *("--tau", "0.02", "--steps", "6"),
            ),
            {"queries": 5, "tau": 0.02, "steps": 6, "limit": 9, "anchor": 3, "presets": ("strong",)},
        ),
        (
            "targeted",
            "tau",
            ("--model", "lite0-caltech101:24", "--tau", "0.01", "--tau", "0.03", "--seed", "4"),
            {
                "models": ("lite0-caltech101:24",),
                "seed": 4,
                **{"limit": 2000, "anchor": 9, "taus": (0.01, 0.03)},
            },
        ),
        (
            "targeted",
            "tau",
            (),
            {"limit": 2000, "anchor": 9, "taus": (0.01, 0.02, 0.03, 0.04, 0.05)},
        ),
        (
            "untargeted",
            "untargeted",
            ("-o", "elsewhere", "--steps", "7"),
            {
                **{"output": Path("elsewhere"), "steps": 7, "limit": 2000, "anchor": 9},
                "presets": ("invisible", "balanced"),
            },
        ),
        ("targeted", "convergence", (), {"limit": 2000, "anchor": 9}),
        ("untargeted", "traditional", ("--tau", "0.02"), {"taus": (0.02,), "limit": 2000, "anchor": 9}),
        ("retrieval", "retrieval", (), {}),
        ("untargeted", "heatmap", (), {}),
        (
            "goals",
            "adaptive",
            (),
            {"goals": ("away", "opposite", "decoy", "center"), "services": (), "psnr": None},
        ),
        (
            "goals",
            "adaptive",
            ("--goal", "decoy", "--goal", "center", "--service", "lite0-caltech101:16", "--psnr", "42"),
            {"goals": ("decoy", "center"), "services": ("lite0-caltech101:16",), "psnr": 42.0},
        ),
        (
            "transfer",
            "transfer",
            ("--preset", "strong"),
            {
                "presets": ("strong",),
                "goals": ("away", "opposite"),
                "hold_out": "lineage",
                "surrogates": (),
                "judges": (),
            },
        ),
        (
            "transfer",
            "transfer",
            ("--hold-out", "network", "--surrogate", "a", "--judge", "residual=a.onnx", "--judge", "sscd"),
            {
                **{"presets": (), "goals": ("away", "opposite"), "hold_out": "network", "surrogates": ("a",)},
                "judges": ("residual=a.onnx", "sscd"),
            },
        ),
    ],
)
def test_benches_of_the_paper(
    module: str, name: str, words: tuple[str, ...], config: dict[str, Any], run: Run, stand_in_bench: StandIn
) -> None:
    bench = Asked([{"bits": 16, "held_out": 16, "method": "rnm, P2S", "map": 0.5}])
    stand_in_bench(module, name, bench)
    ended = run("bench", name, "--data", "d", *words)
    assert ended.code == 0
    assert ended.out.startswith("16\t")
    (((given, _progress), named),) = bench
    assert named == {}
    # Without --model, all lengths of the network of the settings.
    expected = {"models": ("lite0-caltech101",), "data": Path("d"), "output": Path("benchmarks"), "queries": 24}
    expected |= {"tau": 0.032, "steps": None, "seed": 0, "device": "auto", **config}
    assert {key: getattr(given, key) for key in expected} == expected
    assert {field.name for field in fields(given)} == expected.keys(), "nothing else is configured"


@pytest.mark.parametrize(
    ("module", "name", "words", "config"),
    [
        ("goals", "goals", ("--data", "d"), GoalsConfig(model="m:48", data=Path("d"))),
        (
            "goals",
            "goals",
            (*("--data", "d", "--goal", "opposite", "--goal", "away", "--preset", "strong"), "--photos", "7"),
            GoalsConfig(model="m:48", data=Path("d"), goals=("opposite", "away"), preset="strong", photos=7),
        ),
        (
            "methods",
            "methods",
            ("--data", "d", "--rival-photos", "3", "--only", "hag", "--only", "tanh", "--seed", "2"),
            MethodsConfig(model="m:48", data=Path("d"), baseline_photos=3, only=("hag", "tanh"), seed=2),
        ),
        (
            "speed",
            "speed",
            ("p", "--batch-size", "3", "--device", "cpu"),
            SpeedConfig(model="m:48", photos=Path("p"), batch_size=3, device="cpu"),
        ),
        ("speed", "size", ("a.jpg",), SizeConfig(model="m:48", photo=Path("a.jpg"))),
        (
            "speed",
            "scale",
            ("p", "--photos", "30", "--workers", "1", "--workers", "3", "--steps", "5"),
            ScaleConfig(model="m:48", photos=Path("p"), count=30, workers=(1, 3), steps=5),
        ),
        ("survival", "survival", ("p",), SurvivalConfig(model="m:48", photos=Path("p"))),
        (
            "survival",
            "survival",
            ("p", "--target-class", "cat", "--png", "--photos", "2", "--preset", "strong", "--tau", "0.05"),
            SurvivalConfig(
                model="m:48",
                photos=Path("p"),
                goal=GoalSpec("class", "cat"),
                png=True,
                count=2,
                presets=("strong",),
                tau=0.05,
            ),
        ),
        (
            "survival",
            "survival",
            ("p", "--goal", "opposite", "--steps", "9"),
            SurvivalConfig(model="m:48", photos=Path("p"), goal=GoalSpec("opposite"), steps=9),
        ),
        ("visible", "visible", ("p",), VisibleConfig(model="m:48", photos=Path("p"))),
        (
            "visible",
            "visible",
            ("p", "--names", "n.txt", "--png", "--photos", "2", "--preset", "balanced", "--output", "o", "--seed", "3"),
            VisibleConfig(
                model="m:48",
                photos=Path("p"),
                names=Path("n.txt"),
                png=True,
                count=2,
                presets=("balanced",),
                output=Path("o"),
                seed=3,
            ),
        ),
    ],
)
def test_benches_of_one_network(
    module: str, name: str, words: tuple[str, ...], config: Any, run: Run, stand_in_bench: StandIn
) -> None:
    bench = Asked([])
    stand_in_bench(module, name, bench)
    assert run("bench", name, "--model", "m:48", "--model", "other", *words).code == 0
    assert [words[0] for words, _ in bench] == [config]


def test_an_interrupted_bench_says_that_it_goes_on_and_prints_no_half_table(run: Run, stand_in_bench: StandIn) -> None:
    def interrupted(_config: Any, progress: Any) -> None:
        progress.start(4)
        progress.done(None)
        raise KeyboardInterrupt

    stand_in_bench("targeted", "targeted", interrupted)
    ended = run("bench", "targeted", "--data", "d")
    assert ended.code == 130
    assert ended.out == ""
    assert "what was made so far is kept; the same command goes on from there" in ended.err


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> catalog.CatalogEntry:
    """The catalogue holds this one network."""
    one = catalog.CatalogEntry(
        name="lite0-caltech101",
        file="lite0.safetensors",
        size=8_000_000,
        sha256="cd" * 32,
        licence="Apache-2.0",
        summary="EfficientNet-Lite0",
        bits=(16, 48),
        classes=("airplanes", "sunflower"),
        map={16: 0.9, 48: 0.956},
        embedded=True,
    )
    monkeypatch.setattr(catalog, "entries", lambda: (one,))
    return one


def test_models_list_and_names(run: Run, entry: catalog.CatalogEntry) -> None:
    assert run("models", "list").out == "lite0-caltech101\t16, 48\t0.900-0.956\t8.0\tApache-2.0\tembedded\n"
    document = json.loads(run("models", "list", "--json").out)
    assert document["results"][0]["map"] == {"16": 0.9, "48": 0.956}
    assert document["results"][0]["state"] == "embedded"
    names = run("models", "list", "--names").out.split()
    assert names == ["lite0-caltech101", "lite0-caltech101:16", "lite0-caltech101:48"]


@pytest.mark.parametrize("name", [[], ["lite0-caltech101"], ["lite0-caltech101:16"]])
def test_class_names_come_from_the_catalogue(run: Run, entry: catalog.CatalogEntry, name: list[str]) -> None:
    assert run("models", "info", *name, "--classes").out == "airplanes\nsunflower\n"


def test_models_info_names_the_nearest(run: Run, entry: catalog.CatalogEntry) -> None:
    ended = run("models", "info", "lite0-caltec")
    assert ended.code == 2
    assert "did you mean lite0-caltech101?" in ended.err
    assert run("models", "info", "lite0-caltech101:7").code == 2


def test_models_info_of_a_file(run: Run, tmp_path: Path) -> None:
    import torch

    from hashshield.checkpoints.file import write_checkpoint

    size = InputSpec(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    card = Card("mine", "vgg11", (16,), 0, size, ("a", "b c"), "folder", {}, {}, "MIT", "me", map={"16": 0.9})
    file = tmp_path / "mine.safetensors"
    write_checkpoint(file, card, {"weight": torch.zeros(2)}, {})
    page = run("models", "info", file).out
    assert "Licence\tMIT\n" in page
    assert "MAP\t16 bits 0.900\n" in page
    assert "Classes\t2: a, b c\n" in page
    assert run("models", "info", file, "--classes").out == "a\nb c\n"
    document = json.loads(run("models", "info", file, "--json").out)
    assert document["results"][0]["input"]["mean"] == [0.5, 0.5, 0.5]
    file.write_bytes(b"PK" + bytes(100))
    ended = run("models", "info", file)
    assert ended.code == 4
    assert "pickle" in ended.err


def test_restore_and_originals_for_real(run: Run, tmp_path: Path) -> None:
    """The commands on a vault that storage filled."""
    vault, photo = tmp_path / "vault", tmp_path / "a.jpg"
    photo.write_bytes(b"original")
    with Store.open(vault) as store:
        store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord(), allow_root=True)
    where = ("--vault", vault, "--json")
    (listed,) = json.loads(run("originals", "list", *where).out)["results"]
    assert (listed["state"], listed["in_use"], listed["paths"]) == ("kept", True, [str(photo)])
    assert json.loads(run("originals", "export", tmp_path / "out", *where).out)["results"][0]["status"] == "exported"
    assert (tmp_path / "out" / "a.jpg").read_bytes() == b"original"
    planned = json.loads(run("restore", photo, "--dry-run", "--allow-root", *where).out)
    assert planned["summary"]["counts"]["planned"] == 1
    assert run("restore", photo, "--allow-root", *where).code == 0
    assert photo.read_bytes() == b"original"
    assert run("originals", "prune", "--restored-only", "--yes", *where).code == 0
    assert json.loads(run("originals", "list", *where).out)["summary"]["counts"] == {"pruned": 1}
    assert run("originals", "forget", photo, "--yes", *where).code == 0
    assert json.loads(run("originals", "list", *where).out)["results"] == []
    assert run("originals", "forget", photo, "--yes", *where).code == 1


def test_forget_goes_on_after_an_unknown_path(run: Run, tmp_path: Path) -> None:
    vault, photos = tmp_path / "vault", [tmp_path / name for name in ("a.jpg", "none.jpg", "c.jpg")]
    with Store.open(vault) as store:
        for path in (photos[0], photos[2]):
            path.write_bytes(path.name.encode())
            store.replace(read_snapshot(path, follow=True), b"protected " + path.name.encode(), NewRecord())
    ended = run("originals", "forget", *photos, "--yes", "--json", "--vault", vault)
    assert ended.code == 1
    document = json.loads(ended.out)
    assert [row["status"] for row in document["results"]] == ["forgotten", "failed", "forgotten"]
    assert "error" not in document
    assert json.loads(run("originals", "list", "--vault", vault, "--json").out)["results"] == []
    again = run("originals", "forget", tmp_path / "*.jpg", "--yes", "--vault", vault)
    assert again.code == 1
    assert [line.split("\t")[:2] for line in again.out.splitlines()] == [
        [str(photos[0]), "failed"],
        [str(photos[2]), "failed"],
    ]
    assert f"failed: {photos[0]}: nothing is recorded" in again.err


def test_config_show(run: Run, own_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_settings.write_text("tau = 0.02\nvault = '~/v'\n")
    monkeypatch.setenv("HASHSHIELD_STEPS", "12")
    ended = run("config", "show")
    assert ended.code == 0
    assert f"tau\t0.02\t{own_settings}\n" in ended.out
    assert "steps\t12\tHASHSHIELD_STEPS\n" in ended.out
    assert "device\tauto\tdefault\n" in ended.out
    assert str(own_settings) in ended.err
    rows = {row["key"]: row for row in json.loads(run("config", "show", "--json").out)["results"]}
    assert rows["tau"] == {"key": "tau", "value": 0.02, "source": "file", "where": str(own_settings)}
    assert rows["vault"]["value"] == str(Path.home() / "v")


def test_a_broken_configuration_file_is_one_line(run: Run, own_settings: Path) -> None:
    own_settings.write_text("tua = 0.02\n")
    ended = run("config", "show")
    assert ended.code == 2
    assert ended.err == f"hashshield config show: {own_settings}: unknown key 'tua'; did you mean 'tau'?\n"


def test_a_stand_in_takes_the_place_of_one_module_only(stand_in: StandIn) -> None:
    verify = Asked([])
    stand_in("hashshield.pipeline.verify", verify=verify)
    from hashshield.pipeline import request
    from hashshield.pipeline import verify as module

    assert module.verify is verify
    assert Path(request.__file__).name == "request.py"
