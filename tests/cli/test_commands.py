"""The thin commands but `protect`: what they ask of the library, and what they say of its answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hashshield.types import CodeRow, Evaluation, GoalSpec, Restoration, Verification

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
    nothing = {"models": (), "original": None, "goal": None, "tolerance": None, "vault": None, "device": "auto"}
    assert verify == [(([Path("a.jpg")],), nothing)]
    assert ended.err == "1 protected.\n"


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
        "models": ("lite0-caltech101:48",),
        "original": Path("o.jpg"),
        "goal": GoalSpec("class", "sunflower"),
        "tolerance": 3,
        "vault": Path("v"),
        "device": "cpu",
    }
    assert run("verify", "a.jpg", "--model", "m:16").code == 3
    assert verify[1][1]["models"] == ("m:16",)


def test_an_unknown_photo_shows_its_code_and_ends_with_3(run: Run, stand_in: StandIn) -> None:
    row = Verification("a.jpg", "unknown", reason="not in the ledger; give --original", hex_codes={"m:16": "00ff"})
    stand_in("hashshield.pipeline.verify", verify=Asked([row]))
    ended = run("verify", "a.jpg")
    assert ended.code == 3
    assert "unknown: a.jpg: not in the ledger; give --original" in ended.err
    assert "a.jpg: m:16 00ff" in ended.err
    document = json.loads(run("verify", "a.jpg", "--json").out)
    assert document["results"][0]["hex_codes"] == {"m:16": "00ff"}
    assert document["summary"]["counts"]["unknown"] == 1


def test_evaluate(run: Run, stand_in: StandIn) -> None:
    code = CodeRow("m:16", 16, "crop", 8, 0, 0.2)
    evaluate = Asked([Evaluation("a", "b", "compared", psnr_db=45.0, ssim=0.99, linf_levels=6, codes=(code,))])
    stand_in("hashshield.pipeline.evaluate", evaluate=evaluate)
    ended = run("evaluate", "a", "b", "--model", "m:16")
    assert evaluate == [((Path("a"), Path("b")), {"models": ("m:16",), "device": "auto"})]
    assert ended.out == "a\tb\tcompared\t8/16\t45.0\t0.9900\t6\t\n"
    assert ended.err == "b: m:16 crop: 8 of 16 bits differ\n"
    stand_in("hashshield.pipeline.evaluate", evaluate=Asked([Evaluation("a", "b", "failed", "sizes differ")]))
    ended = run("evaluate", "a", "b")
    assert ended.code == 1
    assert "failed: b: sizes differ" in ended.err


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


def test_export_and_forget(run: Run, stand_in: StandIn) -> None:
    @dataclass
    class Row:
        path: str
        status: str = "exported"
        reason: str | None = None
        rows: int = 2
        originals: tuple[str, ...] = ("x",)
        shared: tuple[str, ...] = ()

    export, forget = Asked([Row("out/a.jpg"), Row("out/b.jpg", "failed", "disk full")]), Asked(Row("a.jpg"))
    stand_in("hashshield.pipeline.originals", export=export, forget=forget)
    ended = run("originals", "export", "out")
    assert ended.code == 1
    assert ended.err == "failed: out/b.jpg: disk full\n1 exported, 1 failed.\n"
    assert export == [((Path("out"),), {"vault": None, "dry_run": False})]
    assert run("originals", "forget", "a.jpg").code == 2
    assert forget == []
    ended = run("originals", "forget", "a.jpg", "--yes")
    assert (ended.code, ended.out) == (0, "a.jpg\t2\t1\t0\n")
    assert forget == [((Path("a.jpg"),), {"vault": None, "dry_run": False})]


def test_train(run: Run, stand_in: StandIn) -> None:
    train = Asked({"name": "mine", "bits": (16, 48), "map": {"16": 0.9}})
    stand_in("hashshield.training", train=train)
    words = ("--data", "d", "--output", "o.safetensors", "--bits", "16", "--bits", "48", "--epochs", "3", "--resume")
    ended = run("train", "recipe.toml", *words, "--seed", "5", "--device", "cpu")
    assert ended.code == 0
    assert train == [
        (
            ("recipe.toml",),
            {
                "data": Path("d"),
                "output": Path("o.safetensors"),
                "overrides": {"bits": (16, 48), "epochs": 3},
                "resume": True,
                "device": "cpu",
                "seed": 5,
            },
        )
    ]
    assert "bits\t16, 48\n" in ended.out


def test_bench_map(run: Run, stand_in: StandIn) -> None:
    bench = Asked([{"model": "m", "bits": 48, "map": 0.95678}])
    stand_in("hashshield.bench.map", run=bench)
    ended = run("bench", "map", "--model", "m:48", "--data", "d")
    assert bench == [((), {"models": ("m:48",), "data": Path("d"), "device": "auto"})]
    assert ended.out == "m\t48\t\t\t\t0.9568\n"


@dataclass(frozen=True)
class Entry:
    name: str = "lite0-caltech101"
    file: str = "lite0.safetensors"
    size: int = 8_000_000
    sha256: str = "cd" * 32
    licence: str = "Apache-2.0"
    summary: str = "EfficientNet-Lite0"
    bits: tuple[int, ...] = (16, 48)
    map: Any = None
    embedded: bool = False


def test_models_list_and_names(run: Run, stand_in: StandIn) -> None:
    stand_in("hashshield.checkpoints.catalog", entries=lambda: (Entry(map={16: 0.9, 48: 0.956}),))
    assert run("models", "list").out == (
        "lite0-caltech101\t16, 48\t0.900, 0.956\t8.0\tApache-2.0\tto download\tEfficientNet-Lite0\n"
    )
    document = json.loads(run("models", "list", "--json").out)
    assert document["results"][0]["map"] == {"16": 0.9, "48": 0.956}
    names = run("models", "list", "--names").out.split()
    assert names == ["lite0-caltech101", "lite0-caltech101:16", "lite0-caltech101:48"]


def test_models_info_names_the_nearest(run: Run, stand_in: StandIn) -> None:
    stand_in("hashshield.checkpoints.catalog", entries=lambda: (Entry(map={}),))
    assert "licence\tApache-2.0\n" in run("models", "info").out
    assert "licence\tApache-2.0\n" in run("models", "info", "lite0-caltech101:16").out
    ended = run("models", "info", "lite0-caltec")
    assert ended.code == 2
    assert "did you mean 'lite0-caltech101'?" in ended.err
    assert "see `hashshield models list`" in run("models", "info", "qqq").err


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


def test_a_module_of_stand_ins_is_not_the_package(stand_in: StandIn) -> None:
    stand_in("hashshield.pipeline.verify", verify=Asked([]))
    assert isinstance(sys.modules["hashshield.pipeline"], ModuleType)
    assert not hasattr(sys.modules["hashshield.pipeline"], "__path__")
