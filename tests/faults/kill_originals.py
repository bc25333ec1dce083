"""Cut short every command that changes the vault, by SIGKILL and by SIGINT, and check what the next command finds.

Runs in a process of its own: usage `kill_originals.py FOLDER TRIALS SEED`. Trials fall on every step of each command,
then at random moments. Nothing may be lost: each photo is its original, or its result with an original that can be put
back, unless the command was to delete that. Nothing may be half done: after the next command, what was to be deleted is
gone with every trace, or still complete. Prints counts as JSON; a broken promise is a traceback and exit code 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hashshield.pipeline.originals import export, forget, forget_all, list_originals, prune, repair
from hashshield.pipeline.restore import restore
from hashshield.storage import NewRecord, Store, calls, read_snapshot
from hashshield.storage.folder import is_temporary

NAMES = ("a.jpg", "b.jpg", "sub/c.jpg", "sub/target-to-forget.jpg")
TWIN = "twin-of-a.jpg"
FORGOTTEN = "sub/target-to-forget.jpg"


def original(name: str) -> bytes:
    return (f"original {'a.jpg' if name == TWIN else name} ").encode() * 20


def protected(name: str) -> bytes:
    return b"protected " + hashlib.sha256(name.encode()).digest() + original(name)[::-1]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lay_out(base: Path) -> None:
    """Make a vault and photos, all but one protected, one restored."""
    photos = base / "photos"
    (photos / "sub").mkdir(parents=True)
    for name in (*NAMES, TWIN, "new.jpg"):
        (photos / name).write_bytes(original(name))
    with Store.open(base / "vault") as store:
        store.key()
        for name in (*NAMES, TWIN):
            put(store, photos / name, name)
        store.remember_short(photos / "short.jpg", "ab" * 32, "settings", {"reason": "short"})
        store.restore(photos / "b.jpg", allow_root=True)


def put(store: Store, path: Path, name: str) -> None:
    source = read_snapshot(path, follow=True)
    if store.known(source.sha256) is None:
        details = {"codes": [name], "bits": 48}
        store.replace(source, protected(name), NewRecord(details=details), allow_root=True)


def traces(name: str, path: Path) -> list[bytes]:
    """Every way in which a file of the vault may name a photo, its original and its result."""
    found = [os.fsencode(path), path.name.encode(), original(name), original(name)[:100]]
    for data in (original(name), protected(name)):
        value = hashlib.sha256(data)
        found += [value.digest(), value.hexdigest().encode(), value.hexdigest().upper().encode()]
    found.append(os.fsencode(path).hex().encode())
    return found


def held(vault: Path) -> bytes:
    """Every byte under the vault, names included."""
    return b"".join(
        os.fsencode(file.relative_to(vault)) + b"\0" + file.read_bytes() for file in vault.rglob("*") if file.is_file()
    )


def assert_complete(base: Path, names: tuple[str, ...]) -> None:
    """Each photo is its original, or its result with an original that can be put back."""
    for name in names:
        path = base / "photos" / name
        now = path.read_bytes()
        if now == original(name):
            continue
        assert now == protected(name), f"{name} is half-written"
        with Store.open(base / "vault") as store:
            row = store.restore(path, dry_run=True)
            assert row.status == "planned", f"lost: {row}"
            record = store.known(digest(now))
            assert record is not None
            assert store.original(record) == original(name), f"lost: {name}"


ALL = (*NAMES, TWIN, "new.jpg")
OTHERS = tuple(name for name in ALL if name != FORGOTTEN)


@dataclass(frozen=True)
class Command:
    """What is cut short, what a user may run next, and what must hold then."""

    act: Callable[[Path], object]
    check: Callable[[Path], None]
    finish: Callable[[Path], None]
    before: Callable[[Path], object] = lambda base: None


def do_protect(base: Path) -> None:
    with Store.open(base / "vault") as store:
        for name in ("new.jpg", "b.jpg"):
            put(store, base / "photos" / name, name)


def finish_protect(base: Path) -> None:
    do_protect(base)
    assert (base / "photos" / "new.jpg").read_bytes() == protected("new.jpg")
    finish_restore(base)


def do_restore(base: Path) -> None:
    restore([base / "photos"], vault=base / "vault", allow_root=True)


def finish_restore(base: Path) -> None:
    do_restore(base)
    for name in ALL:
        assert (base / "photos" / name).read_bytes() == original(name), name


def check_all(base: Path) -> None:
    assert_complete(base, ALL)


def do_prune(base: Path) -> None:
    prune(vault=base / "vault", dry_run=False)


def check_pruned(base: Path) -> None:
    rows = list_originals(base / "vault")
    for row in rows:
        there = (base / "vault" / "originals" / row.id[:2] / row.id).exists()
        assert (row.state, there) in {("kept", True), ("pruned", False)}, f"half done: {row}"
        if row.state == "kept":
            names = [name for name in ALL if str(base / "photos" / name) in row.paths]
            assert_complete(base, tuple(names))


def finish_prune(base: Path) -> None:
    do_prune(base)
    assert {row.state for row in list_originals(base / "vault")} == {"pruned"}


def do_forget(base: Path) -> None:
    forget(base / "photos" / FORGOTTEN, vault=base / "vault")


def check_forgotten(base: Path) -> None:
    assert_complete(base, OTHERS)
    data = held(base / "vault")
    found = [trace for trace in traces(FORGOTTEN, base / "photos" / FORGOTTEN) if trace in data]
    if found:
        # Not marked yet: nothing is gone.
        assert_complete(base, (FORGOTTEN,))
        with Store.open(base / "vault") as store:
            assert store.known(digest(protected(FORGOTTEN))) is not None, f"half done: {found}"


def finish_forget(base: Path) -> None:
    with Store.open(base / "vault") as store:
        left = store.known(digest(protected(FORGOTTEN))) is not None
    if left:
        do_forget(base)
    data = held(base / "vault")
    assert [trace for trace in traces(FORGOTTEN, base / "photos" / FORGOTTEN) if trace in data] == []
    assert_complete(base, OTHERS)


def do_forget_all(base: Path) -> None:
    forget_all(vault=base / "vault")


def check_forgotten_all(base: Path) -> None:
    rows = list_originals(base / "vault")
    if rows:
        assert {row.state for row in rows} == {"kept"}, f"half done: {rows}"
        assert_complete(base, ALL)
    else:
        finish_forget_all(base)


def finish_forget_all(base: Path) -> None:
    do_forget_all(base)
    data = held(base / "vault")
    for name in ALL:
        assert [trace for trace in traces(name, base / "photos" / name) if trace in data] == [], name


def do_export(base: Path) -> None:
    export(base / "out", vault=base / "vault")


def check_exported(base: Path) -> None:
    assert_complete(base, ALL)
    if (base / "out").exists():
        wanted = {original(name) for name in ALL}
        for path in (base / "out").iterdir():
            assert is_temporary(path.name) or path.read_bytes() in wanted, f"half done: {path}"


def finish_export(base: Path) -> None:
    do_export(base)
    wanted = {original(name) for name in (*NAMES, TWIN)}
    assert {path.read_bytes() for path in (base / "out").iterdir()} == wanted
    assert_complete(base, ALL)


def harm(base: Path) -> None:
    """Change bytes all over the ledger, its header included."""
    path = base / "vault" / "ledger.sqlite"
    data = bytearray(path.read_bytes())
    generator = random.Random(1)
    for place in [5, *(generator.randrange(100, len(data)) for _ in range(40))]:
        data[place] ^= 1 << generator.randrange(8)
    path.write_bytes(data)


def lose(base: Path) -> None:
    (base / "vault" / "ledger.sqlite").unlink()


def do_repair(base: Path) -> None:
    repair(base / "vault")


def check_repaired(base: Path) -> None:
    """The next command is repair: whatever it finds, all is known afterwards."""
    rows = repair(base / "vault")
    assert {row.status for row in rows} <= {"kept", "recovered"}, rows
    with Store.open(base / "vault") as store:
        assert store.integrity_errors() == []
        assert len(store.ledger.every()) == 6
    left = [path.name for path in (base / "vault").glob("ledger.*") if "backup" not in path.name]
    assert left == ["ledger.sqlite"], left
    assert_complete(base, ALL)


COMMANDS = {
    "protect": Command(do_protect, check_all, finish_protect),
    "restore": Command(do_restore, check_all, finish_restore),
    "prune": Command(do_prune, check_pruned, finish_prune),
    "forget": Command(do_forget, check_forgotten, finish_forget),
    "forget --all": Command(do_forget_all, check_forgotten_all, finish_forget_all),
    "export": Command(do_export, check_exported, finish_export),
    "export, ledger lost": Command(do_export, lambda base: None, lambda base: finish_lost_export(base), lose),
    "repair, damaged": Command(do_repair, check_repaired, finish_restore, harm),
    "repair, lost": Command(do_repair, check_repaired, finish_restore, lose),
}


def finish_lost_export(base: Path) -> None:
    do_export(base)
    wanted = {original(name) for name in (*NAMES, TWIN)}
    assert {path.read_bytes() for path in (base / "out").iterdir()} == wanted
    check_repaired(base)


def cut_short(base: Path, action: Callable[[Path], object], *, step: int | None, seconds: float, number: int) -> bool:
    """Run a command in a child and send it a signal before a step, or after some seconds; whether it came."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            count = 0

            def observer(name: str, arguments: tuple[object, ...]) -> None:
                nonlocal count
                count += 1
                if step is not None and count == step + 1:
                    if number == signal.SIGKILL and name == "write":
                        os.write(arguments[0], bytes(arguments[1])[:40])  # type: ignore[arg-type, call-overload]
                    os.kill(os.getpid(), number)

            calls.observe(observer)
            action(base)
            code = 0
        except KeyboardInterrupt:
            code = 130
        finally:
            if code == 70:
                traceback.print_exc()
            os._exit(code)
    if step is None:
        time.sleep(seconds)
        os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGINT)
        return True
    assert os.WEXITSTATUS(status) in (0, 130), f"the command failed by itself: {os.WEXITSTATUS(status)}"
    return os.WEXITSTATUS(status) == 130


def main(folder: Path, trials: int, seed: int) -> None:
    generator = random.Random(seed)
    base, kept = folder / "base", folder / "kept"
    base.mkdir()
    lay_out(base)
    shutil.copytree(base, kept)
    plans: list[tuple[str, int | None, float, int]] = []
    durations = {}
    for name, command in COMMANDS.items():
        again(base, kept)
        command.before(base)
        steps: list[str] = []
        calls.observe(lambda step, arguments, steps=steps: steps.append(step))  # type: ignore[misc]
        started = time.monotonic()
        command.act(base)
        durations[name] = time.monotonic() - started
        calls.observe(None)
        command.finish(base)
        plans += [(name, step, 0.0, number) for step in range(len(steps)) for number in (signal.SIGKILL, signal.SIGINT)]
    at_steps = len(plans)
    if at_steps > trials:
        plans = generator.sample(plans, trials)
    while len(plans) < trials:
        name = generator.choice(list(COMMANDS))
        number = generator.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT))
        plans.append((name, None, generator.uniform(0, durations[name]), number))
    counts = {"trials": 0, "steps": at_steps // 2, "came": 0, "killed": 0}
    for name, step, seconds, number in plans:
        command = COMMANDS[name]
        again(base, kept)
        command.before(base)
        try:
            came = cut_short(base, command.act, step=step, seconds=seconds, number=number)
            counts["came"] += came
            counts["killed"] += came and number == signal.SIGKILL
            command.check(base)
            command.finish(base)
            left = [path for path in base.rglob("*") if is_temporary(path.name)]
            assert left == [], f"half done: temporary files are left: {left}"
        except BaseException:
            print(f"{name}, step {step}, {seconds:.4f} s, signal {number}", file=sys.stderr)
            raise
        counts["trials"] += 1
    print(json.dumps(counts))


def again(base: Path, kept: Path) -> None:
    shutil.rmtree(base)
    shutil.copytree(kept, base)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
