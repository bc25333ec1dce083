"""Devices: choose one, set its precision and memory use, recognise when its memory is full, and describe CUDA cards."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from hashshield.errors import UsageError

__all__ = [
    "AGREEMENT",
    "CudaCard",
    "card_here",
    "choose_device",
    "describe_device",
    "driver_version",
    "exact_float32",
    "free_bytes",
    "keep_freed_memory",
    "limit_memory",
    "memory_errors",
    "release_cache",
    "return_freed_memory",
    "search_dtype",
    "search_precision",
]


AGREEMENT = 1e-3
"""Largest difference between two devices in a code, computed in float32: a hundred times the effect of summation order,
and a tenth of the least margin that a search keeps."""

_BFLOAT16_CAPABILITY = (8, 0)
"""Least compute capability of NVIDIA cards with bfloat16 (Ampere); older ones emulate it slowly."""
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA's driver, MPS
    "ALLOC_FAILED",  # cuBLAS and cuDNN, which allocate for themselves
    "can't allocate memory",  # torch's allocator for the processor
    "not enough memory",  # the same on Windows
)

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def choose_device(asked: str) -> str:
    """Return the device for auto, cpu, cuda or mps. Raises UsageError if it is not available.

    `auto` means CUDA if available, else the CPU. Apple's MPS is untested, so it is used only when named.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there.get(asked, False):
        found = ", ".join(name for name, present in there.items() if present)
        raise UsageError(f"device {asked} is not available; this machine has: {found}")
    return asked


def free_bytes(device: torch.device, share: float = 1.0) -> int | None:
    """Return the free bytes of a CUDA device, at most `share` (0 < share <= 1) of its total; None for other devices.

    `share` is for a device that several processes use.
    """
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return min(free, int(total * share))


def limit_memory(device: torch.device, share: float) -> None:
    """Limit this process to `share` of a CUDA device's memory, 0 < share <= 1; beyond it torch.OutOfMemoryError."""
    if device.type == "cuda" and share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


def release_cache() -> None:
    """Return the memory that torch caches on CUDA and MPS devices.

    Call it after an out-of-memory exception was handled: until then its traceback holds the tensors that did not fit.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise torch.OutOfMemoryError in place of any RuntimeError that means out of memory.

    Only CUDA's allocator raises that type; the allocators of CPU and MPS and CUDA's libraries raise RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not any(words in str(error) for words in _OUT_OF_MEMORY):
            raise
        raise torch.OutOfMemoryError(str(error)) from error


def search_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of a search far from its goal: bfloat16 if the device supports it natively, else float32.

    float16 is not used: without loss scaling, most gradients of the activations fall below its normal range.
    """
    if device.type != "cuda" or torch.version.hip is not None:
        return torch.float32
    capable = torch.cuda.get_device_capability(device) >= _BFLOAT16_CAPABILITY
    return torch.bfloat16 if capable else torch.float32


def search_precision(device: torch.device, *, coarse: bool) -> AbstractContextManager[object]:
    """Return a context in which networks compute in `search_dtype` if `coarse`, else in float32."""
    if not coarse or search_dtype(device) == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Compute in full float32 inside the context: without TF32, which cuDNN uses by default and has 10 of 23 bits.

    Codes then agree on every device to `AGREEMENT`. The settings are process-wide and restored afterwards.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn  # its stubs do not know `conv`
    places = (cudnn.conv, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for the next step; do nothing on other C libraries. Return whether it worked.

    A gradient step allocates and frees hundreds of megabytes. By default each large block is mapped anew, and its pages
    are faulted in again. All threads share one arena: with one arena each, every arena would grow to its own peak
    (measured for large photos: 2.3 GB instead of 1.6 GB, and no difference in time).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(
        mallopt(option, value) == 1
        for option, value in (
            (_M_ARENA_MAX, 1),
            (_M_MMAP_THRESHOLD, 15 << 20),
            (_M_TRIM_THRESHOLD, 256 << 20),
            (_M_TOP_PAD, 64 << 20),
        )
    )


def return_freed_memory() -> None:
    """Return free memory that glibc keeps to the system; for use after a large, rare allocation."""
    if sys.platform.startswith("linux") and hasattr(_c_library(), "malloc_trim"):
        _c_library().malloc_trim(0)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CudaCard:
    """A CUDA card or driver, and torch's build beside it."""

    driver: Version | None
    """Newest CUDA version that the driver supports; None if there is no driver."""
    built_for: Version | None
    """CUDA version of torch's build; None for a build without CUDA."""
    name: str | None = None
    """The card's name; None if torch cannot use a card."""
    capability: Version | None = None
    """Compute capability of the card."""
    architectures: Sequence[str] = ()
    """Architectures that torch's build has code for: `sm_90` runs on 9.0 and later of the same major version,
    `compute_90` on all later ones."""

    def describe(self) -> str:
        """Return the card, its compute capability, driver and build in one line."""
        parts = [self.name or "no usable card"]
        if self.capability is not None:
            parts.append(f"compute capability {_dotted(self.capability)}")
        parts.append("no driver found" if self.driver is None else f"driver for CUDA {_dotted(self.driver)}")
        parts.append("torch without CUDA" if self.built_for is None else f"torch for CUDA {_dotted(self.built_for)}")
        return ", ".join(parts)

    def misfit(self) -> tuple[str, str] | None:
        """Return why torch's build cannot use this card, and what to do about it; None if it can."""
        if self.driver is None:
            return None
        newest = _dotted(self.driver)
        if self.built_for is None:
            return (
                f"a CUDA driver ({newest}) is installed, but this torch is built without CUDA",
                "install a torch for CUDA to use the card",
            )
        if self.built_for[0] > self.driver[0]:
            return (
                f"torch is built for CUDA {_dotted(self.built_for)}, and the driver knows CUDA {newest} at most",
                f"update the driver, or install a torch for CUDA {self.driver[0]}",
            )
        if self.name is None:
            return (
                f"a CUDA driver ({newest}) is installed, but torch finds no card",
                "look whether nvidia-smi lists it, and whether CUDA_VISIBLE_DEVICES hides it",
            )
        if self.capability is not None and self.architectures and not self._has_code():
            return (
                f"torch's build has no code for compute capability {_dotted(self.capability)}, only for "
                f"{', '.join(self.architectures)}",
                "use --device cpu, or install a torch that is built for this card",
            )
        return None

    def _has_code(self) -> bool:
        assert self.capability is not None
        for architecture in self.architectures:
            kind, _, digits = architecture.partition("_")
            digits = digits.rstrip("af")
            if not digits.isdigit():
                continue
            there = int(digits[:-1]), int(digits[-1])
            same_major = there[0] == self.capability[0]
            if there <= self.capability and (same_major or kind == "compute"):
                return True
        return False


def card_here() -> CudaCard | None:
    """Return the default CUDA card, or a driver without a usable card; None if there is no driver."""
    driver = driver_version()
    built_for = _version(torch.version.cuda)
    if not torch.cuda.is_available():
        return None if driver is None else CudaCard(driver, built_for)
    return CudaCard(
        driver,
        built_for,
        torch.cuda.get_device_name(),
        torch.cuda.get_device_capability(),
        tuple(torch.cuda.get_arch_list()),
    )


def describe_device(device: torch.device) -> str:
    """Return the device's description for results: its type, or for CUDA the card with driver and build."""
    card = card_here() if device.type == "cuda" else None
    return device.type if card is None else card.describe()


def driver_version() -> Version | None:
    """Return the newest CUDA version that the installed driver supports, or None; does not initialise a card."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ask = ctypes.CDLL(library).cuDriverGetVersion
        except (OSError, AttributeError):
            continue
        version = ctypes.c_int()
        if ask(ctypes.byref(version)) == 0 and version.value:
            return version.value // 1000, version.value % 1000 // 10
    return None


def _version(text: str | None) -> Version | None:
    if text is None:
        return None
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
