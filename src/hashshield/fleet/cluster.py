"""Connect to a Ray cluster: a private one on this machine, or an existing one that requires a token."""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from hashshield.errors import FleetError, UsageError
from hashshield.import_path import trusted
from hashshield.paths import exists

__all__ = ["cluster", "require_ray"]

_OLDEST = (2, 52)
"""The first version of Ray with authentication."""
_STORE_BYTES = 128 << 20
"""Size of Ray's object store, which holds only names of photos and rows, never photos."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Turns off Ray's usage statistics and log messages."""
_LONGEST_TEMPORARY = 20
"""Longest path, in characters, of a temporary folder below which Ray's socket names fit into their 104."""


def require_ray() -> None:
    """Raise FleetError if the extra `ray` is missing or too old."""
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise FleetError("--engine ray: Ray Data is not installed; add the extra: pip install 'hashshield[ray]'")
    version = metadata.version("ray")
    if tuple(int(number) for number in version.split(".")[:2]) < _OLDEST:
        raise FleetError(f"--engine ray: Ray {version} cannot authenticate who talks to it; install 2.52 or newer")


@contextmanager
def cluster(address: str | None, cores: int | None) -> Iterator[None]:
    """Connect to the Ray cluster at `address` for the duration of the block, or to a new local one if it is None.

    A local cluster uses `cores` cores (None: all), listens only on the loopback address, has no dashboard, requires a
    secret token, and keeps its files in a folder of mode 0700. An existing cluster is used only if it requires a token
    too. Raises FleetError, UsageError.
    """
    require_ray()
    with ExitStack() as stack:
        # Ray prints messages about ended workers to standard output, which is for the report.
        stack.enter_context(redirect_stdout(sys.stderr))
        folder = stack.enter_context(_private_folder())
        if address is None:
            stack.enter_context(_environment(_settings(folder)))
            settings = {"address": "local", "_temp_dir": str(folder / "ray"), "object_store_memory": _STORE_BYTES}
            settings |= {"include_dashboard": False, "num_cpus": cores or os.cpu_count()}
        else:
            _check(address)
            stack.enter_context(_environment(_QUIET))
            settings = {"address": address}
        # Ray's workers import from the folder in which Ray is started, which may hold anybody's files.
        with _standing_in(folder / "empty"):
            _connect(settings, address)
        try:
            _prove(address)
            yield
        finally:
            import ray

            ray.shutdown()


def _connect(settings: dict[str, object], address: str | None) -> None:
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = "a local Ray cluster could not be started" if address is None else f"--ray-address {address}: no entry"
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FleetError(
            f"{where} ({first})" + ("" if address is None else "; is it running, and is the token that of the cluster?")
        ) from error


def _prove(address: str | None) -> None:
    """Raise FleetError for a cluster that is open to others, before photos or the key are sent to it."""
    import ray

    if address is None:
        listens = ray.util.get_node_ip_address()
        if not ipaddress.ip_address(listens).is_loopback:
            raise FleetError(
                f"the local Ray cluster listens on {listens}, not on the loopback address only; Ray was loaded before "
                "HashShield could tell it, so run in a process of its own"
            )
        return

    found: str = ray.get(ray.remote(num_cpus=0)(_mode).remote())
    if found.lower() != "token":
        raise FleetError(
            f"--ray-address {address}: lets in everybody without a token, and would be given your photos and your key; "
            "start each of its nodes with RAY_AUTH_MODE=token"
        )


def _mode() -> str:
    """Return the authentication mode of the node that runs this."""
    return os.environ.get("RAY_AUTH_MODE", "")


def _check(address: str) -> None:
    """Raise UsageError for an address with a protocol, or if no token is set."""
    if "://" in address:
        raise UsageError(f"--ray-address {address}: give HOST:PORT of the head node, or auto, and run on a node of it")
    token = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or not (token or exists(_default_token())):
        raise UsageError(
            f"--ray-address {address}: set RAY_AUTH_MODE=token, and the cluster's token in a private file that "
            "RAY_AUTH_TOKEN_PATH names; without one everybody on the network could use the cluster"
        )


def _default_token() -> Path:
    return Path.home() / ".ray" / "auth_token"


def _settings(folder: Path) -> Mapping[str, str | None]:
    """Return the environment variables of a private cluster, and write its token."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(_token(), encoding="ascii")
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_AUTH_TOKEN": None,
        # Despite its name: if it is off, Ray uses the loopback address as the node's own and listens nowhere else.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Workers get the priority of the command, not a lower one.
        "RAY_worker_niceness": "0",
        # An empty or relative entry would mean a folder below a worker's current one.
        "PYTHONPATH": os.pathsep.join(trusted(os.environ.get("PYTHONPATH", "").split(os.pathsep))) or None,
        "PYTHONSAFEPATH": "1",
        **_QUIET,
    }


@cache
def _token() -> str:
    """Return the token, one per process, because Ray reads it once."""
    return secrets.token_hex(32)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Yield a folder of mode 0700 for Ray's sockets, logs and spilled objects, removed at the end."""
    short = len(tempfile.gettempdir()) <= _LONGEST_TEMPORARY
    folder = Path(tempfile.mkdtemp(prefix="hashshield-", dir=None if short else "/tmp"))
    try:
        yield folder
    finally:
        # Ray's processes may still be writing their last lines.
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    """Change to a new, empty folder, and back at the end."""
    folder.mkdir(mode=0o700)
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables (None: unset), and restore them at the end."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
