"""`doctor`: check one by one what a run needs, and say what to do about problems. It repairs nothing itself."""

from __future__ import annotations

import io
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from hashshield.checkpoints import cache, catalog
from hashshield.config import Settings, config_path, resolve, unknown_variables
from hashshield.errors import HashshieldError
from hashshield.models.device import CudaCard, card_here
from hashshield.models.importing import look_at
from hashshield.paths import exists, is_file, trouble
from hashshield.pipeline.originals import list_originals
from hashshield.pipeline.protect import protect
from hashshield.pipeline.restore import restore
from hashshield.storage import Store, cannot_be_written, default_root, volume_encryption
from hashshield.storage.schema import REPAIR
from hashshield.types import FileOptions, NullProgress, Progress, Request

__all__ = ["Finding", "device_findings", "doctor", "system_finding"]

_PACKAGES = ("hashshield", "torch", "torchvision", "Pillow", "numpy", "safetensors", "piexif", "typer", "rich")
_SECONDS_OF_DIGESTS = 10.0
_LITTLE_BYTES = 2 * 10**9
_STEPS = 8
_SIDE = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    status: Literal["ok", "warning", "failed"]
    found: str
    advice: str | None = None
    """What to do about it, unless `found` says so itself."""


def doctor(vault: Path | None = None, *, thorough: bool = False, progress: Progress) -> list[Finding]:
    """Check everything a run needs; return the findings, `failed` for whatever would make a run fail.

    `vault` is as in the other commands: None means the setting. Originals are read and their digests compared for ten
    seconds, or with `thorough` until all are done. No vault is created. Opening an existing one finishes what
    interrupted runs left.
    """
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("versions", _versions),
        ("system", _system),
        ("processor", _processor),
        ("configuration", _configuration),
        ("networks", _networks),
        ("cache", _cache),
        ("vault", lambda: _vault(_vault_root(vault))),
        ("encryption", lambda: _encryption(_vault_root(vault))),
        ("originals", lambda: _originals(_vault_root(vault), thorough=thorough)),
        ("self-test", _self_test),
    )
    progress.start(len(checks))
    found = []
    for name, check in checks:
        progress.photo(name)
        try:
            found += list(check())
        except HashshieldError as error:
            # The error says what to do; the remaining checks are still useful.
            found.append(Finding(name, "failed", str(error)))
        progress.done(None)
    return found


def _versions() -> Iterator[Finding]:
    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    found = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)]
    yield Finding("versions", "ok", f"{', '.join(found)}; {platform.system()} {platform.machine()}")


def _system() -> Iterator[Finding]:
    yield system_finding(platform.system(), platform.machine())


def system_finding(system: str, machine: str) -> Finding:
    """Return whether HashShield is supported and tested on a system; both names are those of `platform`."""
    if system == "Linux":
        return Finding("system", "ok", f"Linux on {machine}: supported, and what the tests run on")
    if system == "Darwin" and machine == "x86_64":
        return Finding(
            "system",
            "warning",
            "macOS on Intel: torch 2.10 and later, which are needed, are not made for it",
            "use a Mac with Apple silicon, Linux or Windows",
        )
    names = {"Darwin": "macOS on Apple silicon", "Windows": f"Windows on {machine}"}
    return Finding(
        "system",
        "warning",
        f"{names.get(system, f'{system} on {machine}')}: written for, and tested by imitation on Linux only",
        "try it on copies of some photos first: --sample 5",
    )


def _processor() -> Iterator[Finding]:
    yield from device_findings(card_here(), mps=torch.backends.mps.is_available())
    threads, cores = torch.get_num_threads(), _usable_cores()
    if threads > cores:
        yield Finding(
            "threads",
            "warning",
            f"{threads} threads on {cores} processor cores",
            f"set OMP_NUM_THREADS={cores}: more threads than cores wait for each other",
        )
    else:
        yield Finding("threads", "ok", f"{threads}, of {cores} processor cores")


def device_findings(card: CudaCard | None, *, mps: bool) -> Iterator[Finding]:
    """Yield which device `auto` means, and whether torch's build fits the CUDA card, if there is one."""
    misfit = None if card is None else card.misfit()
    if card is not None and card.name is not None and misfit is None:
        yield Finding("device", "ok", f"{card.describe()}; cuda is chosen for --device auto")
    elif card is not None and misfit is not None:
        yield Finding("device", "warning", f"{card.describe()}: {misfit[0]}", misfit[1])
    else:
        yield Finding("device", "ok", "cpu, chosen for --device auto")
    if mps:
        yield Finding("mps", "ok", "Apple's GPU is available; --device mps is experimental, and auto does not take it")


def _usable_cores() -> int:
    """Return the number of cores this process may use; in a container the machine may have more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _configuration() -> Iterator[Finding]:
    path, settings = config_path(), resolve()
    set_there = [key for key, value in settings.items() if value.source != "default"]
    said = f"sets {', '.join(set_there)} (with the environment)" if set_there else "all settings have their defaults"
    yield Finding("configuration", "ok", f"{path}{'' if exists(path) else ' (not there)'}: {said}")
    for text in unknown_variables():
        found, _, advice = text.partition("; ")
        yield Finding("configuration", "warning", found, f"correct or unset it: {advice}")


def _networks() -> Iterator[Finding]:
    installed = [entry for entry in catalog.known() if catalog.state(entry) != "available"]
    for entry in installed:
        try:
            look_at(entry)
        except HashshieldError as error:
            advice = "install HashShield again" if entry.embedded else f"hashshield models remove {entry.name}"
            yield Finding(f"network {entry.name}", "failed", str(error), advice)
        else:
            yield Finding(f"network {entry.name}", "ok", f"digest and {len(entry.bits)} code lengths, {entry.licence}")


def _cache() -> Iterator[Finding]:
    folder = cache.folder()
    if not exists(folder):
        yield Finding("cache", "ok", f"{folder}: not there yet; it is made by the first download")
        return
    size = sum(file.stat().st_size for file in folder.rglob("*") if is_file(file))
    yield _room("cache", folder, f"{size / 1e6:.1f} MB", "HASHSHIELD_CACHE")


def _room(name: str, folder: Path, holds: str, option: str) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{folder}: {holds}, {free / 1e9:.1f} GB free"
    if not os.access(folder, os.W_OK):
        return Finding(name, "failed", f"{text}; cannot be written", f"fix its permissions, or name another: {option}")
    if free < _LITTLE_BYTES:
        return Finding(name, "warning", text, f"free some space, or name a folder on another disk: {option}")
    return Finding(name, "ok", text)


def _vault_root(named: Path | None) -> Path:
    settings: Settings = resolve({"vault": named})
    root = settings["vault"].value
    return default_root() if root is None else Path(root)


def _vault(root: Path) -> Iterator[Finding]:
    if not exists(root) and trouble(root) is None:
        yield Finding("vault", "ok", f"{root}: not there yet; the first photo makes it")
        return
    originals = list_originals(root)
    size = sum(original.size for original in originals if original.state == "kept")
    holds = f"{len(originals)} originals, {size / 1e6:.1f} MB"
    if cannot_be_written(root):
        yield Finding(
            "vault",
            "warning",
            f"{root}: {holds}; it can be read but not written, so nothing can be protected with it",
            "mount it for writing or fix its permissions, or name another: --vault",
        )
    else:
        yield _room("vault", root, holds, "--vault")
    with Store.open(root, reading=True) as store:
        for notice in store.notices:
            yield Finding("vault", "warning", notice)
        errors = store.integrity_errors()
        rows = 0 if errors else len(store.ledger.every())
        backed_up = bool(errors) or store.backup_is_current()
    if errors:
        yield Finding("ledger", "failed", "; ".join(errors[:3]), REPAIR)
    else:
        yield Finding("ledger", "ok", f"{rows} records, sound")
    if not backed_up:
        yield Finding(
            "backup",
            "warning",
            f"{root}: the newest backup of the ledger lacks what later runs recorded",
            "the next run that changes something makes a new one; make sure that the disk has space and the folder "
            "can be written",
        )


def _encryption(root: Path) -> Iterator[Finding]:
    if not exists(root):
        return
    found = volume_encryption(root)
    if found.encrypted is None:
        yield Finding("encryption", "ok", f"{root}: whether its volume is encrypted cannot be told: {found.how}")
    elif found.encrypted:
        yield Finding("encryption", "ok", f"{root}: its volume is encrypted ({found.how})")
    else:
        yield Finding(
            "encryption",
            "warning",
            f"{root}: its volume is not encrypted by this system ({found.how})",
            "anyone with access to the disk can read the originals: turn disk encryption on, or name a folder on such "
            "a disk: --vault",
        )


def _originals(root: Path, *, thorough: bool) -> Iterator[Finding]:
    if not exists(root):
        return
    originals = list_originals(root)
    for original in originals:
        if original.state == "missing":
            yield Finding(
                "original",
                "failed",
                f"{original.paths[0]}: its original {original.id[:12]} is gone from the vault",
                "bring the folder originals back from a backup of the vault",
            )
    present = [original for original in originals if original.state in ("kept", "unrecorded")]
    end = time.monotonic() + _SECONDS_OF_DIGESTS
    read = 0
    with Store.open(root, reading=True) as store:
        for original in reversed(present):
            if not thorough and time.monotonic() > end:
                break
            try:
                store.vault.get(original.id)
            except HashshieldError as error:
                yield Finding("original", "failed", str(error))
            read += 1
    rest = "" if read == len(present) else f", the newest of {len(present)}; --thorough reads all"
    yield Finding("originals", "ok", f"read {read} back, digests compared{rest}")


def _self_test() -> Iterator[Finding]:
    """Protect a generated image in a temporary vault and restore it, end to end."""
    before = _picture()
    with tempfile.TemporaryDirectory(prefix="hashshield-doctor-") as folder:
        photo, vault = Path(folder) / "photo.png", Path(folder) / "vault"
        photo.write_bytes(before)
        request = Request(
            models=(next(entry.name for entry in catalog.entries() if entry.embedded),),
            steps=_STEPS,
            accept_best=True,
            vault=vault,
            seed=0,
            witness="none",
            file_options=FileOptions(allow_root=True),
        )
        began = time.monotonic()
        (row,) = protect([photo], request, progress=NullProgress())
        seconds = time.monotonic() - began
        if row.status not in ("protected", "partial") or photo.read_bytes() == before:
            yield Finding("self-test", "failed", f"a picture was not changed: {row.reason}", "report this as a bug")
            return
        (back,) = restore([photo], vault=vault)
        if back.status != "restored" or photo.read_bytes() != before:
            yield Finding("self-test", "failed", f"a picture was not restored: {back.reason}", "report this as a bug")
            return
    yield Finding(
        "self-test",
        "ok",
        f"a picture was changed by {row.linf_levels} levels at most ({row.psnr_db:.1f} dB), measured and restored to "
        f"the same bytes; {seconds:.1f} s with {row.steps} steps",
    )


def _picture() -> bytes:
    """Return a PNG of smooth blobs, always the same."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(noise).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
