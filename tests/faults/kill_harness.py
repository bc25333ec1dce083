"""Kill the session of fault_scenario with SIGKILL, again and again, and check the promise after each kill.

Runs in a process of its own, so that no library of the test run is near: usage `kill_harness.py FOLDER KILLS SEED`.
Kills fall on every step of the write path in turn (just before the call, and in the middle of each write), then at
random moments. Prints a JSON object with counts; any broken promise is a traceback and exit code 1.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fault_scenario as scenario

from hashshield.storage import calls


def in_child(action: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return pid


def killed_at(base: Path, number: int, *, torn: bool) -> bool:
    """Run the session and die at a step; False if it ended before that step."""

    def act() -> None:
        count = 0

        def observer(name: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if count == number:
                if torn and name == "write":
                    descriptor, chunk = arguments
                    os.write(descriptor, bytes(chunk)[: len(chunk) // 2])  # type: ignore[arg-type]
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        calls.observe(observer)
        scenario.act(base)

    return died(in_child(act))


def killed_after(base: Path, seconds: float) -> bool:
    pid = in_child(lambda: scenario.act(base))
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return died(pid)


def died(pid: int) -> bool:
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the session failed by itself"
    return False


def steps_of_a_session(base: Path) -> list[str]:
    names: list[str] = []
    calls.observe(lambda name, arguments: names.append(name))
    scenario.act(base)
    calls.observe(None)
    return names


def main(base: Path, kills: int, seed: int) -> None:
    assert "torch" not in sys.modules
    generator = random.Random(seed)
    scenario.lay_out(base)
    started = time.monotonic()
    names = steps_of_a_session(base)
    duration = time.monotonic() - started
    moments = [
        (number, torn) for number, name in enumerate(names) for torn in (False, True) if name == "write" or not torn
    ]
    if len(moments) > kills:
        moments = generator.sample(moments, kills)
    done = {"steps": len(names), "at_steps": 0, "at_random": 0, "finished": 0}
    while done["at_steps"] + done["at_random"] < kills:
        scenario.lay_out(base)
        if done["at_steps"] < len(moments):
            number, torn = moments[done["at_steps"]]
            assert killed_at(base, number, torn=torn), f"step {number} was not reached"
            done["at_steps"] += 1
        else:
            done["at_random"] += killed_after(base, generator.uniform(0, duration))
        scenario.check(base)
        if generator.random() < 0.05:
            scenario.finish(base)
            done["finished"] += 1
    print(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
