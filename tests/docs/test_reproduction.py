"""The page of the paper's tables is what the result files say."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench_experiment import Silent, config_for
from hashshield.bench import config as c
from hashshield.bench.goals import run_adaptive
from hashshield.bench.retrieval import run_retrieval
from hashshield.bench.targeted import run_convergence, run_targeted, run_tau
from hashshield.bench.transfer import run_transfer
from hashshield.bench.untargeted import run_heatmap, run_traditional, run_untargeted
from hashshield.errors import UsageError
from tiny_net import write_tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_made_from_the_results(tables: ModuleType) -> None:
    for path in tables.PAGES:
        page = path.read_text(encoding="utf-8")
        assert tables.PLACE.search(page)
        assert tables.filled(page) == page, "run `python docs/tables.py`"
    raw = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks" / "tables").glob("*.md")}
    assert raw == tables.raw_pages(), "run `python docs/tables.py`"


def test_no_table_shows_a_row_of_few_photos(tables: ModuleType, tmp_path: Path) -> None:
    row = {"bits": 16, "map": 0.5, "map_low": 0.25, "map_high": 0.75, "median_psnr_db": 40.0}
    row |= {"map_random": 0.1, "map_lowest": 0.05, "map_reference": 0.9}
    rows = [{**row, "method": "two", "photos": 2}, {**row, "method": "many", "photos": tables.LEAST_PHOTOS}]
    told = {"commit": "c", "torch": "2", "cores": 2, "seed": 0, "attacked": 4, "queries": 8, "database": 16}
    document = {"bench": "targeted", "environment": {**told, "relevance": "the same class"}, "rows": rows}
    (tmp_path / "targeted-tiny.json").write_text(json.dumps(document))
    (page,) = tables.raw_pages(tmp_path).values()
    few = [line for line in page.splitlines() if line.startswith("| two |")]
    assert len(few) == 2
    assert all("not run (2 photos)" in line and "50.00" not in line and "40.00" not in line for line in few)
    assert sum(line.startswith("| many |") and "50.00 (25.0 to 75.0)" in line for line in page.splitlines()) == 1
    assert "changed since" in page, "it names no version of a search"
    page = tables.filled("<!-- table short-targeted tiny -->\n<!-- end -->\n", tmp_path)
    assert "| many | 50.00 (25.0 to 75.0) | 40.00 |" in page
    assert "two" not in page


@pytest.mark.long
def test_every_bench_of_the_paper_has_a_table(tables: ModuleType, tmp_path: Path) -> None:
    few: dict[str, Any] = {"limit": 3, "anchor": 3}

    def config(kind: type[c.BenchConfig], **more: Any) -> Any:
        return config_for(tmp_path, kind=kind, queries=5, steps=3, **more)

    baselines = config(c.BaselineConfig, **few)
    run_targeted(baselines, Silent())
    run_tau(config(c.TauConfig, taus=(0.02, 0.04), **few), Silent())
    run_untargeted(baselines, Silent())
    run_convergence(config(c.ConvergenceConfig, **few), Silent())
    run_traditional(config(c.TraditionalConfig, taus=(0.01,), **few), Silent())
    run_retrieval(config(c.BenchConfig), Silent())
    run_heatmap(config(c.HeatmapConfig), Silent())
    run_adaptive(config(c.AdaptiveConfig, goals=("away",)), Silent())
    split = {"queries": 8, "seed": 0}
    other = write_tiny(tmp_path / "other.safetensors", seed=4, name="other", dataset="folder", split=split)
    family = config(c.TransferConfig, presets=("invisible",), goals=("away",), hold_out="network")
    run_transfer(replace(family, models=(f"{tmp_path / 'tiny.safetensors'}:24", f"{other}:24")), Silent())
    results = baselines.output / "results"
    for bench in tables.TABLES:
        page = tables.filled(f"before\n<!-- table {bench} tiny -->\nformer\n<!-- end -->\nafter\n", results)
        assert page.startswith(f"before\n<!-- table {bench} tiny -->\nCommit ")
        assert page.endswith("<!-- end -->\nafter\n")
        assert "former" not in page
        lines = [line for line in page.splitlines() if line.startswith("|")]
        rows = json.loads((results / f"{bench}-tiny.json").read_text())["rows"]
        names = {
            row.get("method", row.get("change", row.get("query", row.get("against", row.get("preset")))))
            for row in rows
        }
        assert len(lines) > len(names)
        widths = {line.count("|") for line in lines}
        assert len(widths) <= 2, "every table is as wide as its heading"
        assert tables.filled(page, results) == page, "filling again changes nothing"


def test_the_papers_figures_stand_beside_ours(tables: ModuleType, tmp_path: Path) -> None:
    row = {"method": "tanh, P2S", "bits": 16, "photos": 20, "map": 0.5, "map_low": 0.25, "map_high": 0.75}
    row |= {"map_random": 0.1, "map_lowest": 0.05, "map_reference": 0.9}
    told = {"commit": "c", "torch": "2", "cores": 2, "seed": 0, "attacked": 4, "queries": 8, "database": 16}
    document = {"bench": "targeted", "environment": {**told, "relevance": "the same class"}, "rows": [row]}
    (tmp_path / "targeted-tiny.json").write_text(json.dumps(document))
    page = tables.filled("<!-- table targeted tiny -->\n<!-- end -->\n", tmp_path)
    line = next(line for line in page.splitlines() if line.startswith("| tanh, P2S |"))
    assert line.split(" | ")[1:4] == ["20", "85.79 / 88.44 / 88.76 / 89.18", "78.05 / 79.53 / 80.18 / 81.1"]
    assert line.endswith("| 50.00 (25.0 to 75.0) |  |"), "no PSNR was measured"


def test_what_has_not_run_names_its_command_and_what_has_not_ended_is_refused(
    tables: ModuleType, tmp_path: Path
) -> None:
    place = "<!-- table tau vgg11-cifar10 -->\n<!-- end -->\n"
    command = "Not measured yet: `hashshield bench tau --model vgg11-cifar10 --data cifar10/`\n"
    assert command in tables.filled(place, tmp_path)
    (tmp_path / "tau-vgg11-cifar10.json.unfinished").write_text("{}")
    with pytest.raises(UsageError, match="has begun and not finished"):
        tables.filled(place, tmp_path)


def test_the_papers_figures_are_in_its_own_text() -> None:
    """As many as it has: four lengths on two datasets, five bounds."""
    paper = json.loads((ROOT / "docs" / "paper.json").read_text())
    for bench, count in (("targeted", 4), ("untargeted", 4), ("tau", 5), ("traditional", 2)):
        for row in paper[bench]["rows"].values():
            assert all(len(values) == count for values in row.values())
