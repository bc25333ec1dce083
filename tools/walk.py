"""Follow `tau` from `hashshield protect` to the projection, and print each function that passes it on.

    python -m tools.walk [--tree DIR]

Protects one photo under a profiler, with a tau that is recognised by its identity. A function counts if it receives
tau, alone or in an object, and passes it on, but not if it only reads it (a check, a message, the plan). Each line is a
stop: a function or constructor that is entered or, marked ^, one that returns tau to its caller, called a climb. A
comprehension is part of its function. The walk ends where a change is first projected in the search. `--tree` is
another checkout to examine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

import typer

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "tests" / "data" / "lotus.jpg"
_END = ".project"
_DEPTH = 6
"""Levels of nested objects that are searched for tau."""
_ELSEWHERE = ("hashshield.storage", "hashshield.models", "hashshield.cli")
"""Packages whose objects hold no settings, and are too large to search."""


class _Tau(float):
    """A number whose identity distinguishes it from equal ones."""


@dataclass(eq=False)
class _Call:
    """One call of a function of the package."""

    name: str
    parent: _Call | None
    start: int
    receives: bool
    end: int | None = None
    hands_back: bool = False


class _Recorder:
    """A profiler that records each call in the package, and whether it receives tau and returns it."""

    def __init__(self, source: Path, tau: _Tau) -> None:
        self.source = f"{source}{os.sep}"
        self.carriers: list[object] = [tau]
        self.calls: list[_Call] = []
        self.open: list[_Call] = []
        self.time = 0
        self.done = False

    def __call__(self, frame: FrameType, event: str, result: object) -> None:
        name = None if self.done or event not in ("call", "return") else self._name(frame)
        if name is None:
            return
        sys.setprofile(None)
        self.time += 1
        if event == "call":
            self._enter(name, frame)
        elif self.open:
            self._leave(result)
        if not self.done:
            sys.setprofile(self)

    def _name(self, frame: FrameType) -> str | None:
        code, made = frame.f_code, frame.f_locals.get("self")
        if code.co_filename.startswith(self.source):
            if code.co_name in ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"):
                return None
            owner = f"{type(made).__name__}." if made is not None else ""
            return f"{code.co_filename.removeprefix(self.source)}: {owner}{code.co_name}"
        if code.co_filename == "<string>" and code.co_name == "__init__" and type(made).__module__.startswith("hashsh"):
            return f"{type(made).__module__}: {type(made).__name__}()"
        return None

    def _enter(self, name: str, frame: FrameType) -> None:
        code = frame.f_code
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        held = [frame.f_locals.get(variable) for variable in (*code.co_varnames[:count], *code.co_freevars)]
        call = _Call(name, self.open[-1] if self.open else None, self.time, any(map(self._carries, held)))
        self.open.append(call)
        self.calls.append(call)
        self.done = name.endswith(_END)

    def _leave(self, result: object) -> None:
        call = self.open.pop()
        call.end = self.time
        if call.name.endswith("Grid.bounds"):
            self.carriers.append(result)  # from here on, tau is these bounds
        built = call.receives and call.name.endswith(("()", "__init__", "__post_init__"))
        call.hands_back = built or self._carries(result)

    def _carries(self, value: Any, depth: int = _DEPTH) -> bool:
        """Return whether the value is tau or holds it."""
        if any(value is carrier for carrier in self.carriers):
            return True
        if depth == 0:
            return False
        inside: list[Any] = []
        if isinstance(value, dict):
            inside = list(value.values())
        elif isinstance(value, list | tuple):
            inside = list(value)
        else:
            kind = type(value)
            if kind.__module__.startswith("hashshield") and not kind.__module__.startswith(_ELSEWHERE):
                slots = getattr(kind, "__slots__", ())
                inside = [*getattr(value, "__dict__", {}).values(), *(getattr(value, slot, None) for slot in slots)]
        return any(self._carries(item, depth - 1) for item in inside)


def walk(calls: list[_Call]) -> list[tuple[int, _Call, bool]]:
    """Return the stops in order: (time, call, whether it returns tau)."""
    on_the_way = {call for call in calls if call.hands_back or (call.receives and call.end is None)}

    def aside(call: _Call) -> bool:
        parent = call.parent
        while parent is not None:
            if parent.receives and parent not in on_the_way:
                return True
            parent = parent.parent
        return False

    kept = [call for call in calls if call in on_the_way and not aside(call)]
    stops = [(call.start, call, False) for call in kept]
    stops += [(call.end, call, True) for call in kept if call.hands_back and call.end is not None]
    return sorted(stops, key=lambda stop: stop[0])


def main(arguments: list[str] | None = None) -> int:
    """Print the walk and its counts; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=ROOT)
    tree = parser.parse_args(arguments).tree.resolve()
    sys.path.insert(0, str(tree / "src"))

    import hashshield.pipeline.execute  # noqa: F401 - imported here, so that the profiler sees no imports
    from hashshield.cli import protect

    tau = _Tau(0.032)
    recorder = _Recorder(tree / "src" / "hashshield", tau)
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(shutil.copy(PHOTO, folder))
        options: dict[str, Any] = {"device": "cpu", "preset": "invisible", "witness": "none", "steps": 1, "yes": True}
        # One step is too few, so the command ends with the exit code of a photo that fell short.
        with redirect_stdout(StringIO()), suppress(typer.Exit):
            sys.setprofile(recorder)
            try:
                protect.protect([photo], tau=tau, vault=Path(folder) / "vault", as_json=True, **options)
            finally:
                sys.setprofile(None)
    stops = walk(recorder.calls)
    depth = 0
    for _time, call, climbs in stops:
        depth -= climbs
        print(f"{'  ' * depth}{'^ ' if climbs else ''}{call.name}")
        depth += not climbs
    count = sum(climbs for *_rest, climbs in stops)
    rooms = {call.name for _time, call, _climbs in stops}
    print(f"\n{len(stops)} stops in {len(rooms)} functions and constructors; {count} climbs")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
