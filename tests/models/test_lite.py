from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hashshield.models.lite import LITE_WIDTHS_DEPTHS, LiteTrunk, SamePad, translate_weights


@given(st.integers(1, 64), st.integers(1, 64), st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2, 3]))
def test_padding_follows_tensorflows_rule(height: int, width: int, kernel: int, stride: int) -> None:
    image = torch.ones(1, 1, height, width)
    padded = SamePad(kernel, stride)(image)
    out = torch.nn.functional.conv2d(padded, torch.ones(1, 1, kernel, kernel), stride=stride)
    assert out.shape[-2:] == (-(-height // stride), -(-width // stride)), "ceil(size / stride)"
    for size, axis in ((height, 2), (width, 3)):
        needed = kernel - stride if size % stride == 0 else kernel - size % stride
        total = max(needed, 0)
        assert padded.shape[axis] == size + total
        ones = (padded.amax(dim=5 - axis).flatten() > 0).nonzero().flatten()
        assert int(ones[0]) == total // 2, "the odd pixel goes to the far side"
        assert len(ones) == size


@pytest.mark.parametrize("name", LITE_WIDTHS_DEPTHS)
@pytest.mark.parametrize("size", [(64, 64), (33, 70)])
def test_forward_gives_1280_features(name: str, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert LiteTrunk(name).eval()(torch.rand(2, 3, *size)).shape == (2, 1280)


def test_lite0_has_the_published_number_of_weights() -> None:
    # EfficientNet-Lite0 is published with 4,652,008 parameters, 1,281,000 of them in the classifier.
    assert sum(p.numel() for p in LiteTrunk("efficientnet_lite0").parameters()) == 4_652_008 - 1_281_000


def test_published_weights_are_matched_by_order() -> None:
    torch.manual_seed(0)
    source, target = LiteTrunk("efficientnet_lite0"), LiteTrunk("efficientnet_lite0")
    published = {
        f"layer{i}": v.double() if v.is_floating_point() else v for i, v in enumerate(source.state_dict().values())
    }
    published |= {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    target.load_state_dict(translate_weights(published, target))
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )
    del published["layer7"]
    with pytest.raises(ValueError, match="tensors, the network"):
        translate_weights(published, target)
    published["layer7"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match="the network has"):
        translate_weights(published, target)
