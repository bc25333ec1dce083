"""Make every measured result in the documentation again: `make results`, and `make results-check`.

    python -m tools.results run [--quick] [--only NAME ...] [--data NAME=DIR ...]
    python -m tools.results check

`run` makes each stale result of `RESULTS`, and then the tables. A result is fresh if it was made by the command listed
here, according to `benchmarks/results/commands.json`, and none of its searches has changed since. An interrupted run
continues where it stopped, even within a bench. `--quick` runs every command with the smallest settings on generated
pictures, into a temporary folder, to test that the commands work. `check` lists stale results; its exit status is 1 if
there are any. Photos and datasets are expected in `photos/`, `large/`, `caltech101/` and `cifar10/`; `--data` names
other folders.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hashshield.bench.results import replacing, stale_searches

__all__ = ["KEPT", "RESULTS", "Result", "check", "run", "stale"]

ROOT = Path(__file__).parents[1]
COMMANDS = "commands.json"
DATA = ("photos", "large", "caltech101", "cifar10")
"""Words in braces that are replaced by folders."""


@dataclass(frozen=True, slots=True)
class Result:
    """A file in `benchmarks/results`, and how it is made."""

    name: str
    """File name without `.json`."""
    command: str
    """Arguments of `hashshield`; words in braces are replaced by folders."""
    minutes: float
    """Estimated duration on two free cores."""
    quick: str = ""
    """Additional arguments for the smallest settings."""
    prints: bool = False
    """True if the command prints the result to standard output."""


_PAPER = "--queries 5 --limit 3 --anchor 3 --steps 2"
_SEARCH = "--queries 5 --steps 2"
_CIFAR = "--data {cifar10} --model vgg11-cifar10"
_CALTECH = "--data {caltech101} --model lite0-caltech101:48"
_PUBLISHED = "--queries 50 --limit 100"
_RIVALS = "--queries 24 --limit 500"
_TRANSFER = (
    "--data {caltech101} --model lite0-caltech101:48 --goal away --preset balanced --preset strong --queries 100"
)
_HELD = "--model {0}:48 --hold-out {0}"


def _bench(name: str, bench: str, words: str, minutes: float, quick: str, **more: Any) -> Result:
    """Return a result of `hashshield bench`, which writes its own file or, with `prints`, JSON to standard output."""
    end = "--json" if more.get("prints") else "--output {output}"
    return Result(name, f"bench {bench} {words} {end}", minutes, quick, **more)


RESULTS: tuple[Result, ...] = (
    # The paper, on CIFAR-10. The slow benches come first; later ones reuse their cached trials. All published steps are
    # taken at one length, in convergence: at four they would take ten hours more.
    _bench("targeted-vgg11-cifar10", "targeted", f"{_CIFAR} {_PUBLISHED}", 60, _PAPER),
    _bench("untargeted-vgg11-cifar10", "untargeted", f"{_CIFAR} {_PUBLISHED}", 60, _PAPER),
    _bench("tau-vgg11-cifar10", "tau", f"{_CIFAR}:24 {_PUBLISHED}", 20, f"{_PAPER} --tau 0.02"),
    _bench("traditional-vgg11-cifar10", "traditional", f"{_CIFAR}:48 {_PUBLISHED}", 25, f"{_PAPER} --tau 0.02"),
    _bench("retrieval-vgg11-cifar10", "retrieval", f"{_CIFAR} --queries 50", 10, _SEARCH),
    _bench("adaptive-vgg11-cifar10", "adaptive", f"{_CIFAR} --queries 50 --service vgg11-cifar10-robust", 20, _SEARCH),
    _bench("convergence-vgg11-cifar10", "convergence", f"{_CIFAR}:48 --queries 50", 110, _PAPER),
    # The same on photos of ordinary size.
    _bench("targeted-lite0-caltech101", "targeted", f"{_CALTECH} {_RIVALS}", 120, _PAPER),
    _bench("untargeted-lite0-caltech101", "untargeted", f"{_CALTECH} {_RIVALS}", 30, _PAPER),
    _bench("convergence-lite0-caltech101", "convergence", f"{_CALTECH} {_RIVALS}", 10, _PAPER),
    # The paper's example and the bound of the other tables, whose trials it shares.
    _bench(
        "traditional-lite0-caltech101",
        "traditional",
        f"{_CALTECH} {_RIVALS} --tau 0.02 --tau 0.032",
        *(30, _PAPER),
    ),
    _bench("retrieval-lite0-caltech101", "retrieval", f"{_CALTECH} --queries 50", 15, _SEARCH),
    _bench("heatmap-lite0-caltech101", "heatmap", f"{_CALTECH} --queries 24", 5, _SEARCH),
    # A RegNet is the residual network that comes with HashShield; --model FILE measures another.
    _bench("heatmap-regnet-caltech101", "heatmap", f"{_CALTECH.replace('lite0', 'regnet')} --queries 24", 5, _SEARCH),
    _bench(
        "adaptive-lite0-caltech101",
        "adaptive",
        f"{_CALTECH} --queries 50 --service lite2-caltech101 --psnr 42",
        *(30, _SEARCH),
    ),
    # Kin that took no part in the search; then two strangers, with both Lites as surrogates. The judge is a file of
    # another package (docs/measuring.md).
    _bench("transfer-lite2-caltech101", "transfer", f"{_TRANSFER} {_HELD.format('lite2-caltech101')}", 120, _SEARCH),
    _bench(
        "transfer-regnet-caltech101",
        "transfer",
        f"{_TRANSFER} {_HELD.format('regnet-caltech101')} --surrogate lite2-caltech101 --judge residual",
        *(120, "--queries 2 --steps 2"),
    ),
    # Not in the paper.
    _bench(
        "methods-lite0-caltech101",
        "methods",
        f"{_CALTECH} --photos 24 --rival-photos 24 --limit 200",
        60,
        "--photos 2 --rival-photos 2 --limit 3",
        prints=True,
    ),
    _bench(
        "goals-balanced-lite0-caltech101",
        "goals",
        f"{_CALTECH} --photos 24 --preset balanced",
        10,
        "--photos 2 --steps 2",
        prints=True,
    ),
    _bench(
        "goals-invisible-lite0-caltech101",
        "goals",
        f"{_CALTECH} --photos 24 --preset invisible",
        10,
        "--photos 2 --steps 2",
        prints=True,
    ),
    _bench("visible-small", "visible", "{photos} --names benchmarks/small.txt", 15, "--photos 2 --steps 2"),
    _bench(
        "visible-small-png",
        "visible",
        "{photos} --names benchmarks/small.txt --png --preset invisible",
        10,
        "--photos 2 --steps 2",
    ),
    _bench(
        "visible-caltech-png",
        "visible",
        "{caltech101} --names benchmarks/caltech.txt --png --preset invisible --preset balanced",
        10,
        "--photos 2 --steps 2",
    ),
    _bench(
        "survival-small-away",
        "survival",
        "{photos} --photos 50 --preset invisible --preset balanced",
        20,
        "--photos 2 --steps 2",
        prints=True,
    ),
    _bench(
        "survival-large-away",
        "survival",
        "{large} --preset invisible --preset balanced",
        30,
        "--photos 2 --steps 2",
        prints=True,
    ),
    _bench("speed-lite0-caltech101", "speed", "{photos}", 3, "", prints=True),
)
"""The results, in the order in which they are made."""

KEPT: Mapping[str, str] = {
    "arrivals": "speeds of one machine, otherwise idle: benchmarks/arrivals.py",
    "blind-balanced": "verdicts of an observer",
    "cleaner-balanced": "trains a network on pairs of photos: benchmarks/cleaner.py",
    "copies-copies": "makes no search; `hashshield bench copies`",
    "copies-protected": "needs protected copies and receipts: benchmarks/copies_protected.py",
    "copies-transfer": "needs SSCD, protected copies and receipts: benchmarks/copies_transfer.py",
    "device-cpu": "speeds of one machine; `hashshield bench device`",
    "jpeg-fidelity": "needs protected copies: benchmarks/jpeg_fidelity.py",
    "memory": "needs thousands of photos: benchmarks/memory.py",
    "size-lite0-caltech101": "speeds of one machine; `hashshield bench size`",
    "visibility": "judges a formula, no search: benchmarks/visibility.py",
    "visible-invisible": "before and after a change of the search",
    "visible-large-balanced": "before and after a change of the search",
}
"""Results that no command here makes, with the reason; each names the version it was made with."""


def stale(result: Result, folder: Path) -> str | None:
    """Return why a result in `folder` is stale, or None if it is fresh."""
    path = folder / f"{result.name}.json"
    if path.with_name(f"{path.name}.unfinished").exists():
        return "begun and not finished"
    if not path.exists():
        return "not made yet"
    if _commands(folder).get(result.name) != result.command:
        return "made by another command"
    changed = stale_searches(json.loads(path.read_text(encoding="utf-8")))
    return f"the search changed since ({', '.join(changed)})" if changed else None


def check(folder: Path) -> list[str]:
    """Return a line for each stale result, and for each file that is neither in RESULTS nor in KEPT."""
    lines = [f"{r.name}: {reason}" for r in RESULTS if (reason := stale(r, folder)) is not None]
    known = {*KEPT, *(result.name for result in RESULTS), Path(COMMANDS).stem}
    return lines + [f"{path.stem}: not in tools/results.py" for path in _files(folder) if path.stem not in known]


def run(results: Iterable[Result], output: Path, words: Mapping[str, str], *, quick: bool = False) -> Iterator[str]:
    """Make each stale result below `output`, and yield a line before and after each. Raises SystemExit if one fails.

    `words` maps words in braces, and options with networks, to their replacements in the commands.
    """
    folder = output / "results"
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        reason = stale(result, folder)
        if reason is None:
            yield f"{result.name}: fresh"
            continue
        yield f"{result.name}: {reason}" + ("" if quick else f"; about {result.minutes:g} minutes on two free cores")
        began = time.monotonic()
        _make(result, folder, _arguments(result, words, quick=quick))
        _remember(folder, result)
        yield f"{result.name}: made in {(time.monotonic() - began) / 60:.1f} minutes"


def _arguments(result: Result, words: Mapping[str, str], *, quick: bool) -> list[str]:
    """Return the words of a result's command line, with folders and networks filled in."""
    text = f"{result.command} {result.quick}" if quick else result.command
    for name in sorted(words, key=len, reverse=True):
        text = text.replace(f"{{{name}}}" if not name.startswith("--") else name, words[name])
    return shlex.split(text)


def _make(result: Result, folder: Path, arguments: Sequence[str]) -> None:
    command = [sys.executable, "-m", "hashshield", *arguments]
    if not result.prints:
        ended = subprocess.run(command, cwd=ROOT)
    else:
        with replacing(folder / f"{result.name}.json") as partial, partial.open("wb") as handle:
            ended = subprocess.run(command, cwd=ROOT, stdout=handle)
            if ended.returncode:
                raise SystemExit(f"{result.name}: {shlex.join(command)} ended with {ended.returncode}")
    if ended.returncode:
        raise SystemExit(f"{result.name}: {shlex.join(command)} ended with {ended.returncode}")
    if not (folder / f"{result.name}.json").exists():
        raise SystemExit(f"{result.name}: {shlex.join(command)} wrote no {folder / result.name}.json")


def _remember(folder: Path, result: Result) -> None:
    commands = {**_commands(folder), result.name: result.command}
    with replacing(folder / COMMANDS) as partial:
        partial.write_text(json.dumps(commands, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _commands(folder: Path) -> dict[str, Any]:
    path = folder / COMMANDS
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _stand_ins(folder: Path) -> dict[str, str]:
    """Make small pictures and networks for `--quick`, with helpers of the tests; return the replacements for `run`."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bench_experiment import write_classes  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from judge_nets import residual_file  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from tiny_net import encoded, picture, write_tiny  # type: ignore[import-not-found, import-untyped, unused-ignore]

    classes, photos = write_classes(folder / "classes"), folder / "photos"
    photos.mkdir()
    names = [f"photo-{number}.jpg" for number in range(3)]
    for seed, name in enumerate(names):
        (photos / name).write_bytes(encoded(picture(96, 128, seed=seed), "JPEG"))
    (folder / "small.txt").write_text("\n".join(names), encoding="utf-8")
    (folder / "caltech.txt").write_text("cat/00.png\ndog/00.png", encoding="utf-8")
    words = {"cifar10": str(classes), "caltech101": str(classes), "photos": str(photos), "large": str(photos)}
    for name in ("small.txt", "caltech.txt"):
        words[f"--names benchmarks/{name}"] = f"--names {folder / name}"
    # The embedded network stands in, as a small EfficientNet-Lite.
    words["--surrogate lite2-caltech101"] = "--surrogate lite0-caltech101"
    words["--judge residual"] = f"--judge residual={residual_file(folder)}"
    split = {"queries": 8, "seed": 0}
    networks = ("vgg11-cifar10-robust", "vgg11-cifar10", "lite0-caltech101", "lite2-caltech101", "regnet-caltech101")
    for seed, name in enumerate(networks):
        path = write_tiny(folder / f"{name}.safetensors", seed=seed, name=name, dataset="folder", split=split)
        words[f"--hold-out {name}"] = f"--hold-out {path}"
        for option in ("--model", "--service"):
            words[f"{option} {name}"] = f"{option} {path}"
            words[f"{option} {name}:48"] = f"{option} {path}:24"
    return words


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.results", description="Make measured results again.")
    parser.add_argument("what", choices=("run", "check"))
    parser.add_argument(
        "--quick", action="store_true", help="run every command at its smallest, into a temporary folder"
    )
    parser.add_argument("--only", action="append", metavar="NAME", choices=[r.name for r in RESULTS], default=[])
    parser.add_argument("--data", action="append", metavar="NAME=DIR", default=[], help=f"one of {', '.join(DATA)}")
    asked = parser.parse_args(given)
    output = ROOT / "benchmarks"
    if asked.what == "check":
        lines = check(output / "results")
        print("\n".join(lines) or "every result is fresh")
        return int(bool(lines))
    chosen = [result for result in RESULTS if not asked.only or result.name in asked.only]
    if asked.quick:
        with tempfile.TemporaryDirectory() as folder:
            words = {**_stand_ins(Path(folder)), "output": folder}
            for line in run(chosen, Path(folder), words, quick=True):
                print(line, flush=True)
        return 0
    named = dict(each.partition("=")[::2] for each in asked.data)
    if unknown := set(named) - set(DATA):
        parser.error(f"--data {min(unknown)}: known are {', '.join(DATA)}")
    hours = sum(r.minutes for r in chosen if stale(r, output / "results") is not None) / 60
    print(f"about {hours:.1f} hours on two free cores; Ctrl-C keeps what is made", flush=True)
    for line in run(chosen, output, {**{name: name for name in DATA}, **named, "output": str(output)}):
        print(line, flush=True)
    return subprocess.run([sys.executable, str(ROOT / "docs" / "tables.py")], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
