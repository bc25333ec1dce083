"""A Ray cluster to work on: one of this machine's own, closed to everybody else, or one that asks for a token."""

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

__all__ = ["cluster", "require_ray"]

_OLDEST = (2, 52)
"""Ray knows no authentication before."""
_STORE_BYTES = 128 << 20
"""Of the shared memory for objects: names of photos and rows travel, never photos."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Nothing is sent to Ray's makers, and nothing said that is not about photos."""
_LONGEST_TEMPORARY = 20
"""Characters of the system's temporary folder up to which Ray's socket names below it fit into their 104."""


def require_ray() -> None:
    """Raise FleetError where the extra `ray` is missing or too old."""
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise FleetError("--engine ray: Ray Data is not installed; add the extra: pip install 'hashshield[ray]'")
    version = metadata.version("ray")
    if tuple(int(number) for number in version.split(".")[:2]) < _OLDEST:
        raise FleetError(f"--engine ray: Ray {version} cannot authenticate who talks to it; install 2.52 or newer")


@contextmanager
def cluster(address: str | None, cores: int | None) -> Iterator[None]:
    """Be connected to a Ray cluster: the one at `address`, or one of our own that ends with the block.

    `cores` are what our own may use; None: all there are.
    Our own listens on the loopback address only, has no dashboard, wants a token that nobody else has, and keeps its
    files in a folder of mode 0700. Another cluster is used only when it wants a token too. Raises FleetError,
    UsageError.
    """
    require_ray()
    with ExitStack() as stack:
        # Ray tells of workers that ended on standard output, where the report belongs.
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
        # Ray has its workers import from the folder in which it is started, which may hold anybody's files.
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
    """Refuse a cluster that is not closed, before anything secret goes there. Raises FleetError."""
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
    """How the node that runs this lets people in."""
    return os.environ.get("RAY_AUTH_MODE", "")


def _check(address: str) -> None:
    """Refuse an address of another protocol, and to go without a token. Raises UsageError."""
    if "://" in address:
        raise UsageError(f"--ray-address {address}: give HOST:PORT of the head node, or auto, and run on a node of it")
    token = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or not (token or _default_token().exists()):
        raise UsageError(
            f"--ray-address {address}: set RAY_AUTH_MODE=token, and the cluster's token in a private file that "
            "RAY_AUTH_TOKEN_PATH names; without one everybody on the network could use the cluster"
        )


def _default_token() -> Path:
    return Path.home() / ".ray" / "auth_token"


def _settings(folder: Path) -> Mapping[str, str | None]:
    """The environment of a closed cluster."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(_token(), encoding="ascii")
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_AUTH_TOKEN": None,
        # Its name is history: off, Ray takes the loopback address for the node's own, and listens nowhere else.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Workers have the priority the command was given, not a lower one.
        "RAY_worker_niceness": "0",
        # An empty or relative entry is a folder below wherever a worker stands.
        "PYTHONPATH": os.pathsep.join(trusted(os.environ.get("PYTHONPATH", "").split(os.pathsep))) or None,
        "PYTHONSAFEPATH": "1",
        **_QUIET,
    }


@cache
def _token() -> str:
    """One token per process, because Ray reads it once."""
    return secrets.token_hex(32)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder of mode 0700 for Ray's sockets, logs and spilled objects, removed at the end."""
    short = len(tempfile.gettempdir()) <= _LONGEST_TEMPORARY
    folder = Path(tempfile.mkdtemp(prefix="hashshield-", dir=None if short else "/tmp"))
    try:
        yield folder
    finally:
        # Ray's processes may still be writing their last lines.
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    """Have a new, empty folder for the current one."""
    folder.mkdir(mode=0o700)
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Have these variables set (None: unset), and afterwards as they were."""
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
