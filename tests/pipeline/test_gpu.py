"""A whole run on an imitated GPU: its memory ends at any stage, and every photo has its row and its receipt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hashshield.attacks.methods import method
from hashshield.attacks.presets import preset
from hashshield.attacks.search import Execution
from hashshield.boundary import PhotoStage, observe_stages
from hashshield.models.device import AGREEMENT
from hashshield.models.load import NetworkView, open_models
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.receipt import WrittenPhoto, build_receipt
from hashshield.pipeline.targets import CodeTarget, goal_for
from hashshield.pipeline.work import ProtectContext, Result, Source, work
from hashshield.storage import digest
from hashshield.types import GoalSpec, Request
from imitated_gpu import ImitatedGpu
from search_outcomes import smooth_network
from tiny_net import encoded, picture

PHOTOS = 4
Full = Callable[[str, int, int], bool]


def context(device: str, told: list[str], name: str = "balanced", batch: int = 3) -> ProtectContext:
    opened = smooth_network()
    opened.model.float().to(device)
    return ProtectContext(
        models=(opened,),
        preset=preset(name),
        method=replace(method(preset(name).search), steps=4, retries=False),
        tau=0.06,
        execution=Execution(batch, encoders=2),
        goal=goal_for(GoalSpec("away"), [opened]),
        secret=b"key",
        tolerance=None,
        jobs=2,
        notice=told.append,
    )


def sources() -> list[Source]:
    files = [encoded(picture(44 + n, 56, seed=n), "PNG" if n % 2 else "JPEG") for n in range(PHOTOS)]
    return [Source(str(n), data, digest(data)) for n, data in enumerate(files)]


def run(device: str, told: list[str], name: str = "balanced", batch: int = 3) -> dict[str, Result]:
    results = list(work(sources(), context(device, told, name, batch)))
    assert sorted(result.source.name for result in results) == [str(n) for n in range(PHOTOS)], "each has one row"
    return {result.source.name: result for result in results}


def same(one: dict[str, Result], other: dict[str, Result]) -> None:
    for name, result in one.items():
        assert result.reason is other[name].reason is None
        assert result.receipt is not None
        assert other[name].receipt is not None
        assert result.receipt.codes == other[name].receipt.codes
        assert result.receipt.passed == other[name].receipt.passed


@pytest.fixture(scope="module")
def on_cpu() -> dict[str, Result]:
    return run("cpu", [])


@contextmanager
def full_at(stage: PhotoStage, *times: int) -> Iterator[list[str]]:
    """Memory that ends when a stage is reached for the so-manieth time."""
    reached: list[str] = []

    def observe(at: PhotoStage, photo: str) -> None:
        if at == stage:
            reached.append(photo)
            if len(reached) in times:
                raise torch.OutOfMemoryError("CUDA out of memory (imitated)")

    before = observe_stages(observe)
    yield reached
    observe_stages(before)


@pytest.mark.parametrize("name", ["invisible", "balanced", "strong"])
def test_a_gpu_gives_the_receipts_of_the_processor(name: str) -> None:
    told: list[str] = []
    expected = run("cpu", told, name)
    with ImitatedGpu():
        same(run("cuda", told, name), expected)
    assert told == []


@pytest.mark.parametrize(
    ("stage", "times"),
    [(stage, times) for stage in ("hash", "judge", "search") for times in ((1,), (2, 3))] + [("aim", (2,))],
)
def test_memory_that_ends_now_and_then_costs_no_photo(
    stage: PhotoStage, times: tuple[int, ...], on_cpu: dict[str, Result]
) -> None:
    told: list[str] = []
    with ImitatedGpu(), full_at(stage, *times) as reached:
        same(run("cuda", told), on_cpu)
    assert len(reached) >= PHOTOS + len(times)


@pytest.mark.parametrize("operator", ["sin", "cos"], ids=["forward", "backward"])
@pytest.mark.parametrize("times", [2, 11])
def test_memory_that_ends_in_a_pass_costs_no_photo(operator: str, times: int, on_cpu: dict[str, Result]) -> None:
    """Forward passes are those of hashing and judging too."""
    told: list[str] = []
    with ImitatedGpu(lambda name, count, rows: name == operator and count == times) as gpu:
        same(run("cuda", told), on_cpu)
    assert gpu.calls[operator] >= times


@pytest.mark.parametrize("operator", ["sin", "cos"], ids=["forward", "backward"])
def test_a_card_without_room_for_one_photo_gives_way_to_the_processor(operator: str, on_cpu: dict[str, Result]) -> None:
    told: list[str] = []
    with ImitatedGpu(lambda name, count, rows: name == operator) as gpu:
        same(run("cuda", told), on_cpu)
    assert told == ["cuda:0 ran out of memory with a single photo; going on with the CPU"]
    assert gpu.emptied


def test_photos_to_try_again_and_such_as_missed_follow_to_the_processor() -> None:
    """A bound so tight that all go round again, and a card that fills up while they do."""
    told: list[str] = []

    def again(device: str) -> dict[str, Result]:
        plain = context(device, told, batch=2)
        tight = replace(plain, tau=2 / 255, method=replace(plain.method, steps=3, retries=True))
        return {result.source.name: result for result in work(sources(), tight)}

    expected = again("cpu")
    assert all(result.steps > 3 for result in expected.values()), "all were tried again"
    after = sum(result.steps for result in expected.values()) // 4
    with ImitatedGpu(lambda name, count, rows: name == "cos" and count > after):
        same(again("cuda"), expected)
    assert len(told) == 1


def test_a_processor_without_memory_takes_one_photo_at_a_time(on_cpu: dict[str, Result]) -> None:
    """Its allocator raises RuntimeError; what fits alone is protected."""
    refused: list[int] = []

    def full(name: str, count: int, rows: int) -> bool:
        if name == "sin" and rows > 1:
            refused.append(rows)
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
            )
        return False

    with ImitatedGpu(full) as gpu:
        gpu.is_processor = True
        same(run("cpu", [], batch=2), on_cpu)
    assert refused


def test_a_card_that_does_not_hold_the_networks_gives_way(tiny: Path) -> None:
    told: list[str] = []
    request = Request(models=(f"{tiny}:16", f"{tiny}:24"), device="cuda", witness="none", steps=2)
    with ImitatedGpu() as gpu:
        gpu.refuses_copies = True
        opened = make_context(request, b"key", told.append)
    assert [model.device.type for model in opened.models] == ["cpu", "cpu"]
    assert told == ["cuda has no memory left for the networks; going on with the CPU"]


BITS = np.where(np.arange(16) % 2, 1, -1).astype(np.int8)
"""A photo's own; `away` may differ from it by 7 to 9 bits, of which 8 are wanted."""
WANTED = np.concatenate([-BITS[:8], BITS[8:]])


@pytest.mark.parametrize(
    ("band", "unsure", "on_gpu"),
    [(True, 0, True), (True, 1, True), (True, 2, False), (False, 0, True), (False, 1, False)],
)
def test_a_receipt_of_a_gpu_holds_on_every_device(band: bool, unsure: int, on_gpu: bool) -> None:
    """Bits that another device may see otherwise count against it: of the band there is one to spare on each side."""
    target = CodeTarget("net", BITS, WANTED, None, band)
    code = WANTED.astype(np.float32) * 0.5
    code[:unsure] *= 0.9 * AGREEMENT / 0.5
    assert target.passed_within(code, 0, 0.0), "the processor's bits are as they are"
    assert target.passed_within(code, 0, AGREEMENT) is on_gpu
    if on_gpu:
        elsewhere = code.copy()
        elsewhere[:unsure] *= -1
        assert target.passed_within(elsewhere, 0, 0.0)


def test_receipts_of_a_gpu_whose_sums_are_a_little_off_agree_with_the_processor(tiny: Path) -> None:
    """The same network with weights off by a little in place of another order of sums."""
    (exact,) = open_models([f"{tiny}:16"])
    (off,) = open_models([f"{tiny}:16"])
    off.model.head.weight.data *= 1 + 2e-5
    pictures = [picture(60, 80, seed=seed) for seed in range(12)]
    there = [off.hash(pixels).code for pixels in pictures]
    here = [exact.hash(pixels).code for pixels in pictures]
    assert 0 < max(float(np.abs(a - b).max()) for a, b in zip(there, here, strict=True)) < AGREEMENT
    for a, b in zip(there, here, strict=True):
        sure = np.abs(a) >= AGREEMENT
        assert np.array_equal((a > 0)[sure], (b > 0)[sure])


def test_the_doubt_is_that_of_the_device(tiny: Path) -> None:
    """One bit at zero, on the processor and on a card."""
    passed = {}
    for device in ("cpu", "cuda"):
        with ImitatedGpu():
            (opened,) = open_models([f"{tiny}:16"], device=device)
            view = torch.full((3, 32, 32), 0.5)
            code = opened.hash_view(view).code
            opened.model.head.bias.data[0] -= float(code[0]) - 1e-5
            bits = np.where(opened.hash_view(view).code > 0, 1, -1).astype(np.int8)
            target = CodeTarget(opened.name, -bits, bits, None, False)
            written = WrittenPhoto((view,), (), (), (), (), np.zeros((1, 1, 3), np.uint8), 50, 1, 0.0, 0, "", 1, (), ())
            receipt = build_receipt(
                written, [target], [NetworkView(opened)], linf_applied=0, tolerance=0, lossless=True
            )
            assert receipt.codes[0].distance_to_goal == 0
            passed[device] = receipt.passed
    assert passed == {"cpu": True, "cuda": False}


def test_originals_and_receipts_are_hashed_together(on_cpu: dict[str, Result]) -> None:
    """A card takes as long for one small image as for several: passes without gradients are counted."""
    rows: list[int] = []

    def seen(name: str, count: int, images: int) -> bool:
        if name == "sin":
            rows.append(images)
        return False

    with ImitatedGpu(seen):
        found = run("cuda", [], batch=PHOTOS)
        same(found, on_cpu)
    assert rows[0] == 2 * PHOTOS, "every original in both views"
    looks = max(result.steps for result in found.values()) + 1
    receipts = 2 * PHOTOS
    assert len(rows) == 1 + 2 * looks + receipts, "a receipt takes one pass for both views, and one for JPEG q75"
