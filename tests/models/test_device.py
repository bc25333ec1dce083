"""Which processor is chosen, and whether torch's build fits a card and its driver."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from hashshield.errors import UsageError
from hashshield.models import device
from hashshield.models.device import (
    CudaCard,
    card_here,
    choose_device,
    describe_device,
    driver_version,
    exact_float32,
    free_bytes,
    keep_freed_memory,
    limit_memory,
    memory_errors,
    search_dtype,
    search_precision,
)
from hashshield.pipeline.doctor import device_findings


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "cpu"), (False, False, "cpu")]
)
def test_auto_takes_cuda_or_the_processor(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == expected
    assert choose_device("cpu") == "cpu"
    if mps:
        assert choose_device("mps") == "mps"


@pytest.mark.parametrize("asked", ["cuda", "mps", "tpu"])
def test_a_device_that_is_not_there(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"device {asked} is not available; this machine has: cpu"):
        choose_device(asked)


def test_memory_is_kept_where_the_system_can() -> None:
    kept = keep_freed_memory()
    assert kept in (True, False)
    assert kept is keep_freed_memory()
    if not sys.platform.startswith("linux"):
        assert not kept


CARD = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float32), ((6, 1), torch.float32)],
)
def test_low_precision_is_bfloat16_and_only_where_the_card_has_it(
    capability: tuple[int, int], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert search_dtype(CARD) == expected
    for name in ("cpu", "mps"):
        assert search_dtype(torch.device(name)) == torch.float32
        with search_precision(torch.device(name), coarse=True):
            assert not torch.is_autocast_enabled("cpu")


def precisions() -> list[str]:
    return [torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision]


@pytest.mark.parametrize("allowed", [True, False])
def test_what_is_measured_is_measured_without_tf32(allowed: bool) -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        held = precisions()
        with exact_float32(CARD):
            assert precisions() == ["ieee", "ieee"]
        assert precisions() == held
        with pytest.raises(ValueError, match="in the middle"), exact_float32(CARD):
            raise ValueError("in the middle")
        assert precisions() == held
        assert torch.backends.cudnn.allow_tf32 is allowed, "who asks in the old way gets the old answer"
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        with exact_float32(torch.device("cpu")):
            assert precisions() == held, "nothing is set where nothing depends on it"
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_the_memory_of_a_shared_device(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[float, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (6_000, 16_000))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: held.append((share, device))
    )
    assert free_bytes(CARD) == free_bytes(CARD, 0.5) == 6_000
    assert free_bytes(CARD, 0.25) == 4_000
    assert free_bytes(torch.device("cpu"), 0.25) is None
    for chosen, share in ((CARD, 1.0), (torch.device("cpu"), 0.25), (CARD, 0.25)):
        limit_memory(chosen, share)
    assert held == [(0.25, CARD)]


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), torch.OutOfMemoryError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), torch.OutOfMemoryError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), torch.OutOfMemoryError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("shapes disagree"), RuntimeError),
        (MemoryError(), MemoryError),
    ],
)
def test_full_memory_has_one_name(error: Exception, becomes: type[Exception]) -> None:
    with pytest.raises(becomes) as caught, memory_errors():
        raise error
    assert type(caught.value) is becomes


def test_the_processors_own_allocator_is_understood() -> None:
    with pytest.raises(torch.OutOfMemoryError), memory_errors():
        torch.empty(2**55, dtype=torch.uint8)


BUILD = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
GOOD = CudaCard((13, 0), (13, 0), "NVIDIA H100", (9, 0), BUILD)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (GOOD, None),
        (CudaCard((12, 8), (12, 4), "A card", (8, 9), BUILD), None),
        (CudaCard((13, 1), (13, 0), "A later card", (12, 1), BUILD), None),
        (CudaCard((14, 0), (13, 0), "A card of tomorrow", (13, 0), BUILD), None),
        (CudaCard((12, 4), (13, 0)), "built for CUDA 13.0, and the driver knows CUDA 12.4 at most"),
        (CudaCard((13, 0), None), "this torch is built without CUDA"),
        (CudaCard((13, 0), (13, 0)), "torch finds no card"),
        (CudaCard((13, 0), (13, 0), "An old card", (6, 1), BUILD), "no code for compute capability 6.1"),
        (CudaCard((13, 0), (13, 0), "Between", (11, 0), BUILD[:-1]), "no code for compute capability 11.0"),
        (CudaCard((13, 0), (13, 0), "Special", (9, 0), ("sm_90a",)), None),
        (CudaCard(None, (13, 0)), None),
    ],
)
def test_a_build_that_does_not_fit_is_told_with_what_to_do(card: CudaCard, says: str | None) -> None:
    found = card.misfit()
    finding = next(device_findings(card, mps=False))
    if says is None:
        assert found is None
        assert finding.status == "ok"
    else:
        assert found is not None
        assert says in found[0]
        assert (finding.status, finding.advice) == ("warning", found[1])
        assert says in finding.found


def test_doctor_names_card_capability_driver_and_build() -> None:
    (finding,) = device_findings(GOOD, mps=False)
    assert finding.found == (
        "NVIDIA H100, compute capability 9.0, driver for CUDA 13.0, torch for CUDA 13.0; cuda is chosen for "
        "--device auto"
    )
    cpu, mps = device_findings(None, mps=True)
    assert cpu.found == "cpu, chosen for --device auto"
    assert "experimental" in mps.found


class Library:
    """A driver's library that answers with a version."""

    def __init__(self, version: int, status: int = 0) -> None:
        self.version, self.status = version, status

    def cuDriverGetVersion(self, place: Any) -> int:  # noqa: N802
        place._obj.value = self.version
        return self.status


@pytest.mark.parametrize(
    ("library", "expected"),
    [(Library(12040), (12, 4)), (Library(13000), (13, 0)), (Library(0), None), (Library(13000, 3), None), (None, None)],
)
def test_the_driver_is_asked(library: Library | None, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Library:
        if library is None:
            raise OSError(f"{name}: cannot open shared object file")
        return library

    monkeypatch.setattr(device.ctypes, "CDLL", load)
    assert driver_version() == expected


def test_what_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "driver_version", lambda: (12, 4))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert card_here() == CudaCard((12, 4), (13, 0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(BUILD))
    monkeypatch.setattr(device, "driver_version", lambda: (13, 0))
    assert card_here() == GOOD
    assert describe_device(torch.device("cuda", 0)).startswith("NVIDIA H100, compute capability 9.0")
    assert describe_device(torch.device("cpu")) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "driver_version", lambda: None)
    assert card_here() is None
