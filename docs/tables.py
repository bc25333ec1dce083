"""Make the tables of the documentation from result files: `python docs/tables.py`, with hashshield installed.

A place in one of `PAGES` begins with `<!-- table BENCH CHECKPOINT -->` and ends with `<!-- end -->`. What is
between is made from `benchmarks/results/BENCH-CHECKPOINT.json` and, for the paper's figures, `docs/paper.json`; nothing
there is typed by hand. `benchmarks/tables/BENCH-CHECKPOINT.md` gets every figure of every such result.

A row that was measured on fewer than 20 photos is not shown: it says "not run". Where a bench has not run at all, its
command is named. A result whose search has changed since says so. One that is unfinished or damaged ends the script,
and all pages stay as they are.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hashshield.bench.results import read_result, stale_searches
from hashshield.errors import UsageError

ROOT = Path(__file__).parents[1]
PAGES = tuple(ROOT / "docs" / name for name in ("reproduction.md", "faq.md"))
RESULTS = ROOT / "benchmarks" / "results"
RAW = ROOT / "benchmarks" / "tables"
PAPER = ROOT / "docs" / "paper.json"
PLACE = re.compile(r"(<!-- table (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
LEAST_PHOTOS = 20
"""Rows of fewer photos are not shown."""
SHORT = "short-"
"""Before a bench: t-MAP or MAP at the largest length, and PSNR, only."""
DATA = {"vgg11-cifar10": "cifar10/", "lite0-caltech101": "caltech101/"}
CODED = {
    "map": "MAP",
    "map_random": "random",
    "map_lowest": "lowest",
    "map_reference": "reference code",
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
    "first": "original first",
    "above_threshold": "within the threshold",
    "first_jpeg_q75": "first after q75",
    "median_visibility": "visibility",
    "mean_distance_from_original": "bits from the original",
    "share_reached_where_searched": "reached where searched",
    "median_psnr_db": "PSNR",
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
    if isinstance(value, float) and in_percent(key):
        return f"{100 * value:.2f}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def in_percent(key: str) -> bool:
    """Whether a figure of that name is a share."""
    return "map" in key or key.startswith(("share", "precision", "recall", "first", "above_threshold"))


def interval(row: Row, key: str = "map") -> str:
    """A figure with its 95% interval, where it was measured with one."""
    if row.get(f"{key}_low") is None:
        return shown(row.get(key), key)
    scale = 100 if in_percent(key) else 1
    digits = 1 if scale == 100 else 2
    low, high = (f"{scale * row[f'{key}_{end}']:.{digits}f}" for end in ("low", "high"))
    return f"{shown(row[key], key)} ({low} to {high})"


def enough(row: Row) -> bool:
    """Whether a row was measured on as many photos as a table asks for."""
    return int(row["photos"]) >= LEAST_PHOTOS


def not_run(row: Row, width: int) -> list[str]:
    """The cells of a row that has too few photos."""
    return [f"not run ({row['photos']} photos)", *("" for _ in range(width - 1))]


def paper_columns(bench: str) -> tuple[list[str], Callable[[str], list[str]]]:
    """Headings and, by row name, cells with the paper's figures; none where the paper has no such table."""
    paper = json.loads(PAPER.read_text(encoding="utf-8")).get(bench, {"rows": {}})
    sets = sorted({name for row in paper["rows"].values() for name in row})

    def cells(name: str) -> list[str]:
        found = paper["rows"].get(name, {})
        return [" / ".join("-" if v is None else f"{v:g}" for v in found.get(key, [])) for key in sets]

    return [f"paper, {name}" for name in sets], cells


def pivot(document: Row, across: str, name: str) -> str:
    """One row per method, one column per value of `across`, and the PSNR of the last; bounds as rows of their own."""
    rows = document["rows"]
    values = list(dict.fromkeys(row[across] for row in rows if across in row))
    names = list(dict.fromkeys(row[name] for row in rows))
    at = {(row[name], row.get(across)): row for row in rows}
    headings, cells = paper_columns(document["bench"])
    unit = "bits" if across == "bits" else across

    def cell(method: str, value: Any) -> str:
        row = at.get((method, value))
        return "" if row is None else interval(row) if enough(row) else not_run(row, 1)[0]

    lines = []
    for method in names:
        ours = [row for row in rows if row[name] == method]
        quality = shown(ours[-1].get("median_psnr_db"), "psnr") if enough(ours[-1]) else ""
        lines.append([method, str(ours[0]["photos"]), *cells(method), *(cell(method, v) for v in values), quality])
    for key in ("map_random", "map_lowest", "map_reference"):
        for method in dict.fromkeys((names[0], names[-1])):
            found = [shown(at[method, v].get(key)) if (method, v) in at else "" for v in values]
            lines.append([f"*{CODED[key]}, {method}*", "", *("" for _ in headings), *found, ""])
    columns = [f"{unit} {v:g}" for v in values]
    return table([name, "photos", *headings, *columns, f"PSNR, {columns[-1]}"], lines)


def details(document: Row, name: str, keys: Sequence[str], *, across: str = "bits") -> str:
    """The other figures, for the last value of `across`."""
    last = document["rows"][-1].get(across)
    rows = [row for row in document["rows"] if row.get(across, last) == last]
    return table(
        [f"{name} ({across} {last})", *(CODED.get(key, key) for key in keys)],
        [
            [row[name], *([interval(row, key) for key in keys] if enough(row) else not_run(row, len(keys)))]
            for row in rows
        ],
    )


def convergence(document: Row) -> str:
    """Distances along the way, with t-MAP and PSNR at the end, by length and method."""
    keys = [k for k in document["rows"][0] if k.startswith(("steps_to", "distance_at")) and not k.endswith(BOUNDS)]
    keys = ["map", *keys, "median_psnr_db"]
    return table(
        ["bits", "method", "photos", *(CODED.get(key, key.replace("_", " ")) for key in keys)],
        [
            [
                *(str(row["bits"]), row["method"], str(row["photos"])),
                *([interval(row, key) for key in keys] if enough(row) else not_run(row, len(keys))),
            ]
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
        if not all(map(enough, found)):
            lines.append([against, *not_run(found[0], len(goals))])
        else:
            lines.append([against, *(interval(r) if "map" in r else f"AUC {r['auc']:.2f}" for r in found)])
    for key in ("map_random", "map_lowest", "map_reference"):
        lines.append([f"*{CODED[key]}*", *(shown(rows[0][key]) for _ in goals)])
    return table([f"against ({rows[0]['bits']} bits)", *goals], lines)


def transfer(document: Row) -> str:
    """What the network held out and the judges find, by preset and goal, in the file and after JPEG q75."""
    keys = ("map", "first", "above_threshold", "map_jpeg_q75", "first_jpeg_q75")
    keys = (*keys, "mean_distance_from_original", "median_visibility", "median_psnr_db")
    told = document["environment"]
    searched = f"Searched on {_list(told['searched'])}"
    if told.get("surrogates"):
        searched += f"; `strong` also moved the features of {_list(told['surrogates'])}"
    rows = [[f"`{row['held_out']}`", *_cells(row, keys)] for row in document["rows"]]
    head = ["network", "preset, goal", "photos", *(CODED[key] for key in keys)]
    return f"{searched}.\n\n" + table(head, rows)


def ways(document: Row) -> str:
    """MAP of the network held out, in every other way of asking and after every filter."""
    keys = ("map", "map_random", *COUNTERED, "map_median", "share_reached_where_searched", "median_ssim")
    rows = [_cells(row, keys) for row in document["rows"] if "judge_sha256" not in row]
    return table(["preset, goal", "photos", *(CODED[key] for key in keys)], rows)


def _cells(row: Row, keys: Sequence[str]) -> list[str]:
    figures = [interval(row, key) for key in keys] if enough(row) else not_run(row, len(keys))
    return [f"{row['preset']}, {row['goal']}", str(row["photos"]), *figures]


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def short(document: Row) -> str:
    """Each method's MAP and PSNR at the largest length, without the paper's figures and the bounds."""
    rows = [row for row in document["rows"] if row["bits"] == document["rows"][-1]["bits"] and enough(row)]
    heading = ["method", f"MAP ({rows[0]['bits']} bits)", "median PSNR, dB"]
    return table(heading, [[r["method"], interval(r), shown(r.get("median_psnr_db"), "psnr")] for r in rows])


BOUNDS = ("_low", "_high")
QUALITY = ("share_at_target", "median_psnr_db", "median_ssim")
BOTH = ("map_unseen", "map_index", "map_index_random", "map_balanced", "rank_by_original")
QUERIED = ("map", "map_complement", "map_predicted_flip", "map_real_valued")
COUNTERED = (*QUERIED[1:], "map_jpeg_q75", "map_blur")
HEAT = ("correlation_with_original", "spread", "median_psnr_db")
FOUND = ("map_unseen", "map_index", "precision_radius_2", "recall_radius_2", "median_psnr_db")
TABLES: dict[str, Callable[[Row], str]] = {
    "targeted": lambda d: pivot(d, "bits", "method"),
    "tau": lambda d: pivot(d, "tau", "method"),
    "untargeted": lambda d: pivot(d, "bits", "method"),
    "convergence": convergence,
    "adaptive": adaptive,
    "heatmap": lambda d: details(d, "change", HEAT),
    "transfer": transfer,
    "traditional": lambda d: pivot(d, "bits", "change"),
    "retrieval": lambda d: pivot(d, "bits", "query"),
}
"""What the page shows."""
FURTHER: dict[str, Callable[[Row], str]] = {
    "targeted": lambda d: details(d, "method", (*BOTH, *QUALITY)),
    "tau": lambda d: details(d, "method", QUALITY, across="tau"),
    "untargeted": lambda d: details(d, "method", (*COUNTERED, *BOTH, *QUALITY[1:])),
    "traditional": lambda d: details(d, "change", (*QUERIED, *QUALITY[1:], *BOTH)),
    "retrieval": lambda d: details(d, "query", FOUND),
    "transfer": ways,
}
"""What the raw tables show besides."""


def measured(document: Row) -> str:
    """What the figures were measured with, in a few lines."""
    told = document["environment"]
    limit = f", at most {told['limit']} steps" if "limit" in told else ""
    return (
        f"Commit `{told['commit']}`, torch {told['torch']}, {told['cores']} cores, seed {told['seed']}; "
        f"{told['attacked']} of {told['queries']} queries{limit}, database {told['database']}; relevant: "
        f"{told['relevance']}. MAP in percent, with the 95% interval of a bootstrap over the queries.\n"
        + earlier(document)
    )


def earlier(document: Row) -> str:
    """A line about a result whose searches have changed since, or nothing."""
    stale = stale_searches(document)
    if not stale:
        return ""
    which = "The searches" if stale == ["all"] else f"The search of {', '.join(stale)}"
    return f"\n**{which} changed since; `make results` makes this table again.**\n"


def filled(page: str, results: Path = RESULTS) -> str:
    """The page with its tables made anew. Raises UsageError for a result that is unfinished or damaged."""

    def fill(match: re.Match[str]) -> str:
        bench, checkpoint = match[2], match[3]
        make = short if bench.startswith(SHORT) else TABLES[bench]
        bench = bench.removeprefix(SHORT)
        path = results / f"{bench}-{checkpoint}.json"
        if not path.exists() and not path.with_name(path.name + ".unfinished").exists():
            command = f"hashshield bench {bench} --model {checkpoint} --data {DATA.get(checkpoint, 'DIR')}"
            return f"{match[1]}Not measured yet: `{command}`\n{match[4]}"
        document = read_result(path)
        return f"{match[1]}{measured(document)}\n{make(document)}{match[4]}"

    return PLACE.sub(fill, page)


def raw_pages(results: Path = RESULTS) -> dict[str, str]:
    """The pages of `benchmarks/tables`, by file name: every table of every result that has one."""
    pages = {}
    for path in sorted(results.glob("*.json")):
        bench = path.stem.split("-")[0]
        if bench in TABLES:
            document = read_result(path)
            parts = [f"# {path.stem}\n", measured(document), TABLES[bench](document)]
            pages[f"{path.stem}.md"] = "\n".join([*parts, *(FURTHER[b](document) for b in [bench] if b in FURTHER)])
    return pages


def main() -> None:
    """Rewrite the pages and the raw tables."""
    try:
        pages, raw = {path: filled(path.read_text(encoding="utf-8")) for path in PAGES}, raw_pages()
    except UsageError as error:
        sys.exit(str(error))
    for path, page in pages.items():
        path.write_text(page, encoding="utf-8")
    RAW.mkdir(exist_ok=True)
    for path in RAW.glob("*.md"):
        if path.name not in raw:
            path.unlink()
    for name, text in raw.items():
        (RAW / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
