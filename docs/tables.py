"""Fill the tables of a page from result files: `python docs/tables.py`, with hashshield installed.

A place in `docs/reproduction.md` begins with `<!-- table BENCH CHECKPOINT -->` and ends with `<!-- end -->`. What is
between is made from `benchmarks/results/BENCH-CHECKPOINT.json` and, for the paper's figures, `docs/paper.json`; nothing
there is typed by hand. Where a bench has not run, its command is named. A result that is unfinished or damaged ends the
script, and the page stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hashshield.bench.results import read_result
from hashshield.errors import UsageError

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reproduction.md"
RESULTS = ROOT / "benchmarks" / "results"
PAPER = ROOT / "docs" / "paper.json"
PLACE = re.compile(r"(<!-- table (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
SEEDS = "seeds-"
"""Before a bench: its MAPs on code layers of several seeds, `BENCH-<first part of CHECKPOINT>-seed<N>.json`."""
DATA = {"vgg11-cifar10": "cifar10/", "lite0-caltech101": "caltech101/"}
CODED = {
    "map": "MAP",
    "map_random": "random",
    "map_lowest": "lowest",
    "map_ceiling": "ceiling",
    "map_unseen": "unseen gallery",
    "map_index": "in the index",
    "map_index_random": "random, index",
    "map_balanced": "balanced",
    "map_complement": "complement",
    "map_predicted_flip": "predicted flip",
    "map_real_valued": "real-valued",
    "map_jpeg_q75": "JPEG q75",
    "map_blur": "blur",
    "map_median": "median filter",
    "mean_distance_from_original": "bits from the original",
    "share_reached_where_searched": "reached where searched",
    "median_psnr_db": "PSNR",
    "median_psnr_db_on_rival_photos": "PSNR, same photos",
    "median_ssim": "SSIM",
    "share_at_target": "at the target",
    "precision_radius_2": "precision, D <= 2",
    "recall_radius_2": "recall, D <= 2",
    "rank_by_original": "rank",
    "correlation_with_original": "correlation with the original's heat",
}

Row = dict[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(value: Any, key: str = "map") -> str:
    """A figure as the tables show it: shares in percent, dB and steps as they are."""
    if value is None:
        return ""
    if isinstance(value, float) and ("map" in key or key.startswith(("share", "precision", "recall"))):
        return f"{100 * value:.2f}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def interval(row: Row) -> str:
    """MAP with its 95% interval, in percent."""
    return f"{shown(row['map'])} ({100 * row['map_low']:.1f} to {100 * row['map_high']:.1f})"


def paper_columns(bench: str) -> tuple[list[str], Callable[[str], list[str]]]:
    """Headings and, by row name, cells with the paper's figures; none where the paper has no such table."""
    paper = json.loads(PAPER.read_text(encoding="utf-8")).get(bench, {"rows": {}})
    sets = sorted({name for row in paper["rows"].values() for name in row})

    def cells(name: str) -> list[str]:
        found = paper["rows"].get(name, {})
        return [" / ".join("-" if v is None else f"{v:g}" for v in found.get(key, [])) for key in sets]

    return [f"paper, {name}" for name in sets], cells


def pivot(document: Row, across: str, name: str) -> str:
    """One row per method, one column per value of `across`; bounds as rows of their own."""
    rows = document["rows"]
    values = list(dict.fromkeys(row[across] for row in rows if across in row))
    names = list(dict.fromkeys(row[name] for row in rows))
    at = {(row[name], row.get(across)): row for row in rows}
    headings, cells = paper_columns(document["bench"])
    unit = "bits" if across == "bits" else ""
    lines = [
        [
            method,
            str(next(row["photos"] for row in rows if row[name] == method)),
            *cells(method),
            *(interval(at[method, v]) if (method, v) in at else "" for v in values),
        ]
        for method in names
    ]
    for key in ("map_random", "map_lowest", "map_ceiling"):
        for method in (names[0], names[-1]):
            found = [shown(at[method, v][key]) if (method, v) in at else "" for v in values]
            lines.append([f"*{CODED[key]}, {method}*", "", *("" for _ in headings), *found])
    return table([name, "photos", *headings, *(f"{unit or across} {v:g}" for v in values)], lines)


def details(document: Row, name: str, keys: Sequence[str], *, across: str = "bits") -> str:
    """The other figures, for the last value of `across`."""
    last = document["rows"][-1].get(across)
    rows = [row for row in document["rows"] if row.get(across, last) == last]
    return table(
        [f"{name} ({across} {last})", *(CODED.get(key, key) for key in keys)],
        [[row[name], *(shown(row.get(key), key) for key in keys)] for row in rows],
    )


def convergence(document: Row) -> str:
    """Distances along the way, by length and method."""
    keys = [key for key in document["rows"][0] if key.startswith(("steps_to", "distance_at"))]
    return table(
        ["bits", "method", "photos", *(key.replace("_", " ") for key in keys)],
        [
            [str(row["bits"]), row["method"], str(row["photos"]), *(shown(row[key], key) for key in keys)]
            for row in document["rows"]
        ],
    )


def adaptive(document: Row) -> str:
    """MAP (or AUC) by countermeasure and goal, for the last length."""
    rows = [row for row in document["rows"] if row["bits"] == document["rows"][-1]["bits"]]
    goals = list(dict.fromkeys(row["goal"] for row in rows))
    at = {(row["against"], row["goal"]): row for row in rows}
    lines = [["PSNR", *(shown(next(r for r in rows if r["goal"] == g).get("median_psnr_db"), "psnr") for g in goals)]]
    for against in dict.fromkeys(row["against"] for row in rows):
        found = [at[against, goal] for goal in goals]
        lines.append([against, *(shown(r["map"]) if "map" in r else f"AUC {r['auc']:.2f}" for r in found)])
    for key in ("map_random", "map_lowest", "map_ceiling"):
        lines.append([f"*{CODED[key]}*", *(shown(rows[0][key]) for _ in goals)])
    return table([f"against ({rows[0]['bits']} bits)", *goals], lines)


def transfer(document: Row) -> str:
    """MAP of the network held out, by preset and goal, in every way of asking and after every filter."""
    keys = (
        "map",
        "map_random",
        *COUNTERED,
        "map_median",
        "mean_distance_from_original",
        "share_reached_where_searched",
    )
    keys = (*keys, "median_psnr_db", "median_ssim")
    searched = ", ".join(f"`{name}`" for name in document["environment"]["searched"])
    rows = [
        [f"{row['preset']}, {row['goal']}", str(row["photos"]), *(shown(row.get(key), key) for key in keys)]
        for row in document["rows"]
    ]
    return f"Searched on {searched}.\n\n" + table(["preset, goal", "photos", *(CODED[key] for key in keys)], rows)


def seeds(bench: str, checkpoint: str, results: Path) -> str:
    """MAP of each method on code layers trained from different seeds, over the same trunk and split."""
    others = sorted(results.glob(f"{bench}-{checkpoint.split('-')[0]}-seed*.json"))
    documents = [read_result(path) for path in (results / f"{bench}-{checkpoint}.json", *others)]
    last = [[row for row in d["rows"] if row["bits"] == d["rows"][-1]["bits"]] for d in documents]
    lines = []
    for rows in zip(*last, strict=True):
        found = [100 * row["map"] for row in rows]
        cells = [f"{value:.2f}" for value in (*found, sum(found) / len(found), max(found) - min(found))]
        decibels = [row["median_psnr_db"] for row in rows if row.get("median_psnr_db") is not None]
        quality = f"{min(decibels):.1f} to {max(decibels):.1f}" if decibels else ""
        lines.append([rows[0]["method"], str(rows[0]["photos"]), *cells, quality])
    names = [f"`{d['environment']['checkpoint']}`" for d in documents]
    head = [f"MAP, {last[0][0]['bits']} bits", "photos", *names, "mean", "spread", "PSNR"]
    return table(head, lines)


QUALITY = ("share_at_target", "median_psnr_db", "median_psnr_db_on_rival_photos", "median_ssim")
BOTH = ("map_unseen", "map_index", "map_index_random", "map_balanced", "rank_by_original")
COUNTERED = ("map_complement", "map_predicted_flip", "map_real_valued", "map_jpeg_q75", "map_blur")
TABLES: dict[str, Callable[[Row], str]] = {
    "targeted": lambda d: pivot(d, "bits", "method") + "\n" + details(d, "method", (*BOTH, *QUALITY)),
    "tau": lambda d: pivot(d, "tau", "method") + "\n" + details(d, "method", QUALITY, across="tau"),
    "untargeted": lambda d: pivot(d, "bits", "method") + "\n" + details(d, "method", (*COUNTERED, *BOTH, *QUALITY[1:])),
    "convergence": convergence,
    "adaptive": adaptive,
    "heatmap": lambda d: details(d, "change", ("correlation_with_original", "spread", "median_psnr_db")),
    "transfer": transfer,
    "traditional": lambda d: pivot(d, "bits", "change") + "\n" + details(d, "change", (*QUALITY[1:], *BOTH)),
    "retrieval": lambda d: (
        pivot(d, "bits", "query")
        + "\n"
        + details(d, "query", ("map_unseen", "map_index", "precision_radius_2", "recall_radius_2", "median_psnr_db"))
    ),
}


def measured(document: Row) -> str:
    """What the figures were measured with, in one line."""
    told = document["environment"]
    return (
        f"Commit `{told['commit']}`, torch {told['torch']}, {told['cores']} cores, seed {told['seed']}; "
        f"{told['attacked']} of {told['queries']} queries, database {told['database']}; relevant: {told['relevance']}. "
        "MAP in percent, with the 95% interval of a bootstrap over the queries.\n"
    )


def filled(page: str, results: Path = RESULTS) -> str:
    """The page with its tables made anew. Raises UsageError for a result that is unfinished or damaged."""

    def fill(match: re.Match[str]) -> str:
        bench, checkpoint = match[2], match[3]
        if bench.startswith(SEEDS):
            return f"{match[1]}{seeds(bench.removeprefix(SEEDS), checkpoint, results)}{match[4]}"
        path = results / f"{bench}-{checkpoint}.json"
        if not path.exists() and not path.with_name(path.name + ".unfinished").exists():
            command = f"hashshield bench {bench} --model {checkpoint} --data {DATA.get(checkpoint, 'DIR')}"
            return f"{match[1]}Not measured yet: `{command}`\n{match[4]}"
        document = read_result(path)
        return f"{match[1]}{measured(document)}\n{TABLES[bench](document)}{match[4]}"

    return PLACE.sub(fill, page)


def main() -> None:
    """Rewrite the page."""
    try:
        page = filled(PAGE.read_text(encoding="utf-8"))
    except UsageError as error:
        sys.exit(str(error))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
