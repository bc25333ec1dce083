"""How often a search waits for its device: once a step, and once for each transform that the processor computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hashshield.attacks.methods import METHODS, method
from hashshield.attacks.presets import PRESETS, preset
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchResult, SearchTask
from hashshield.transforms.differentiable import SHARING_TRANSFORMS
from imitated_gpu import ImitatedGpu
from search_outcomes import TAU, WholePicture, _photo, smooth_network

PHOTOS, STEPS = 3, 24


def searched(
    name: str, device: str, gpu: ImitatedGpu | None, chosen_preset: str | None = None
) -> tuple[list[SearchResult], list[list[str]]]:
    """The results, and what was read from the device in each step of the batch."""
    opened = smooth_network()
    chosen = replace(METHODS[name], steps=STEPS)
    prepared = None if chosen_preset is None else preset(chosen_preset)
    tasks = [_photo(opened, key, chosen, prepared) for key in range(PHOTOS)]
    opened.model.to(device)
    marks, copies = [0], [0]

    def watch(step: int, codes: Sequence[Tensor]) -> None:
        if gpu is not None:
            marks.append(len(gpu.reads))
            copies.append(len(gpu.copies))

    there = [moved(task, device) for task in tasks]
    results = list(
        search(
            [replace(task, watch=watch) if task.key == 0 else task for task in there],
            [WholePicture(opened)],
            chosen,
            TAU,
            Execution(PHOTOS),
        )
    )
    assert len(set(copies[1:])) <= 1, "after the first step, what is copied to the device is not waited for"
    reads = [] if gpu is None else [gpu.reads[a:b] for a, b in pairwise(marks)]
    return sorted(results, key=lambda result: int(str(result.key))), reads


def moved(task: SearchTask, device: str) -> SearchTask:
    return replace(
        task,
        grid=task.grid.to(device),
        objectives=[objective.to(device) for objective in task.objectives],
        masking=None if task.masking is None else task.masking.to(device),
    )


CASES = [(name, None) for name in METHODS if not METHODS[name].noise] + [
    (prepared.search, name) for name, prepared in PRESETS.items()
]


@pytest.mark.parametrize(("name", "chosen_preset"), CASES, ids=[f"{name}-{given}" for name, given in CASES])
def test_a_step_reads_once_from_its_device(name: str, chosen_preset: str | None) -> None:
    expected, _ = searched(name, "cpu", None, chosen_preset)
    with ImitatedGpu() as gpu:
        found, reads = searched(name, "cuda", gpu, chosen_preset)
        for one, other in zip(found, expected, strict=True):
            assert (one.steps, one.first_reached) == (other.steps, other.first_reached)
            assert torch.allclose(one.delta.cpu(), other.delta, atol=1e-7)
    assert len(reads) == expected[0].steps + 1
    for step in reads:
        # Writing as JPEG is the processor's: each photo's picture is copied to it.
        assert step.count("cpu") <= PHOTOS
        assert [read for read in step if read != "cpu"] == ["tolist"]
    if chosen_preset not in ("balanced", "strong"):  # which prepare for JPEG
        assert all("cpu" not in step for step in reads)
    else:
        kinds = [SHARING_TRANSFORMS.draw(turn, np.random.default_rng(0), 1.0) for turn in range(STEPS)]
        coded = sum("_through" in str(kind) for kind in kinds)
        assert sum("cpu" in step for step in reads) == coded, "one in three"


def test_the_counter_sees_what_waits() -> None:
    with ImitatedGpu() as gpu:
        number = torch.ones((), device="cuda")
        waits: list[Any] = [number.item(), number.tolist(), float(number), int(number), bool(number), number.cpu()]
        assert len(waits) == len(gpu.reads) == 6
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            number.numpy()
        float(torch.ones(()))
        assert len(gpu.reads) == 6, "what lies with the processor is read without waiting"


def test_low_precision_shows_the_way_and_never_says_that_the_goal_is_met() -> None:
    """On a card with bfloat16 photos far from their goal are searched in it; what is reached is so in float32."""
    opened = smooth_network()
    chosen = replace(method("rnm-masked"), steps=STEPS)
    tasks = [_photo(opened, key, chosen, None) for key in range(PHOTOS)]
    opened.model.float()
    single = [
        replace(
            task,
            grid=replace(task.grid, image=task.grid.image.float()),
            objectives=[
                replace(o, wanted=o.wanted.float(), original_features=None, original_bits=None) for o in task.objectives
            ],
        )
        for task in tasks
    ]
    seen: dict[torch.dtype, int] = {torch.float32: 0, torch.bfloat16: 0}
    with ImitatedGpu(capability=(8, 0)) as gpu:
        opened.model.to("cuda")
        network = WholePicture(opened)

        def counted(images: Sequence[Tensor]) -> Any:
            codes = network(images)
            seen[codes.code.dtype] += 1
            return codes._replace(code=codes.code.float(), features=codes.features.float())

        class Counted:
            side = network.side

            def __call__(self, images: Sequence[Tensor], /) -> Any:
                return counted(images)

        results = list(search([moved(task, "cuda") for task in single], [Counted()], chosen, TAU, Execution(PHOTOS)))
        deltas = [result.delta.cpu() for result in results]
        assert gpu.reads.count("tolist") <= 2 * (STEPS + 1), "once a step for each of the two precisions"
    assert seen[torch.bfloat16] > 0
    assert seen[torch.float32] > 0
    assert any(result.reached for result in results)
    opened.model.to("cpu")
    for result, delta in zip(results, deltas, strict=True):
        if result.reached:
            task = single[int(str(result.key))]
            objective = task.objectives[0]
            with torch.inference_mode():
                code = opened.model(task.grid.changed(delta)).code[0]
            assert float((code * objective.wanted).min()) >= objective.min_margin - 1e-5
