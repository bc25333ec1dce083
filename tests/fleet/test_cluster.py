"""Who gets into a cluster: only those who have its token."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleet_runs import below, listening, needs_ray

pytestmark = [pytest.mark.ray, pytest.mark.slow, needs_ray]

HELD = """
import sys
from hashshield.fleet.cluster import cluster
with cluster({address!r}, 1):
    print("ready", file=sys.__stdout__, flush=True)
    input()
"""
JOB = """
import ray
try:
    ray.init(address={address!r}, log_to_driver=False)
except (ConnectionError, ray.exceptions.AuthenticationError) as error:
    print("refused", error)
else:
    print("let in")
"""


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    """A process of its own, with nothing of this one's about Ray."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # On a cluster that listens on the loopback address a job takes this for its own too.
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**plain, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_cluster_of_this_machine_is_closed_to_others() -> None:
    held = python(HELD.format(address=None))
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == "ready\n", held.communicate()
        processes = below(held.pid)
        addresses = listening({pid for pid, _ in processes})
        assert len(addresses) >= 4
        assert {address.rpartition(":")[0] for address in addresses} == {"127.0.0.1"}
        assert not {"127.0.0.1:8265", "127.0.0.1:10001"} & addresses, "the dashboard or the client server is there"

        words = " ".join(name for _, name in processes)
        (folder,) = {Path(found) for found in re.findall(r"=(/\S+?)/ray/session_", words)}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
        token = (folder / "token").read_text()
        assert token not in words

        (address,) = set(re.findall(r"--gcs-address=(127\.0\.0\.1:\d+)", words))
        job = JOB.format(address=address)
        jobs = {
            "without": python(job, RAY_AUTH_MODE="disabled"),
            "another": python(job, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="f" * 64),
            "the": python(job, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token),
        }
        said = {name: process.communicate(timeout=300)[0].partition(" ")[0].strip() for name, process in jobs.items()}
        assert said == {"without": "refused", "another": "refused", "the": "let"}
    finally:
        held.communicate("\n", timeout=120)
    assert held.returncode == 0
    assert not folder.exists()


@contextmanager
def started(tmp_path: Path, **environment: str) -> Iterator[str]:
    """The address of a cluster that somebody else started."""
    code = (
        "import ray, sys\n"
        f"ray.init(address='local', include_dashboard=False, num_cpus=1, _temp_dir={str(tmp_path / 'r')!r})\n"
        "print(ray.get_runtime_context().gcs_address, flush=True)\ninput()"
    )
    process = python(code, **environment)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, process.communicate()
        yield address
    finally:
        process.communicate("\n", timeout=120)


def test_a_cluster_that_lets_everybody_in_is_not_used() -> None:
    # Ray's socket names do not fit below the folders of tests.
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), RAY_AUTH_MODE="disabled") as address:
        asked = python(HELD.format(address=address), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
        out, err = asked.communicate("\n", timeout=300)
    assert "ready" not in out
    assert "FleetError" in err
    assert "lets in everybody without a token" in err


def test_a_cluster_that_wants_a_token_is_used() -> None:
    token = "ab" * 32
    closed = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), **closed) as address:
        wrong = python(HELD.format(address=address), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
        right = python(HELD.format(address=address), **closed)
        assert right.communicate("\n", timeout=300)[0] == "ready\n"
        out, err = wrong.communicate("\n", timeout=300)
    assert "ready" not in out
    assert "no entry" in err
