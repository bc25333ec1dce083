"""Networks with attention as exporters in use write them, held against torch's own modules and their gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from hashshield.models.importing import import_onnx
from hashshield.models.load import open_models
from onnx_nets import CARD

EXPORTS = sorted((Path(__file__).parents[1] / "data" / "exports").glob("*.onnx"))


class Registers(nn.Module):
    """DINOv2's way with register tokens, positions that are interpolated, scaled branches and a gated MLP."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.first = nn.Parameter(torch.randn(1, 5, width))
        self.positions = nn.Parameter(torch.randn(1, width, 5, 5))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 6 * width), nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.rand(2, width))

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images)
        x = x + nn.functional.interpolate(self.positions, x.shape[-2:], mode="bicubic", align_corners=False)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], 1)
        n, tokens, width = x.shape
        qkv = self.qkv(self.norms[0](x)).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.scale[0] * self.out(seen)
        gate, value = self.up(self.norms[1](x)).chunk(2, -1)
        x = x + self.scale[1] * self.down(nn.functional.silu(gate) * value)
        found: Tensor = self.norms[2](x)[:, 0]
        return found


class Plain(nn.Module):
    """Attention in the operators that there have always been."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        seen = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2) / 4, dim=-1) @ self.v(x)
        return (x + seen).mean(1)


def vit() -> nn.Module:
    built = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4)
    built.heads = nn.Identity()
    return built


def swin(block: Any = None, merging: Any = None) -> nn.Module:
    more = {} if block is None else {"block": block, "downsample_layer": merging}
    built = SwinTransformer([2, 2], 8, [2, 2], [2, 2], [4, 4], stochastic_depth_prob=0.0, **more)
    built.head = nn.Identity()
    return built


def convnext() -> nn.Module:
    built = ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 1)], layer_scale=1.0)
    built.classifier[2] = nn.Identity()
    return built


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": vit,
    "swin": swin,
    "swin-v2": partial(swin, SwinTransformerBlockV2, PatchMergingV2),
    "convnext": convnext,
    "registers": Registers,
    "plain": Plain,
}
SIDE = 32


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().requires_grad_(False)
    for weight in network.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return network


def exported(network: nn.Module, path: Path, *, batch: int | None, opset: int = 17) -> None:
    """Write a network by torch's TorchScript exporter: the other one needs a package that tests do without."""
    torch.backends.mha.set_fastpath_enabled(False)
    axes = {"images": {0: "batch"}, "code": {0: "batch"}} if batch is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.rand(batch or 2, 3, SIDE, SIDE),),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["images"],
            output_names=["code"],
            dynamic_axes=axes,
        )


def imported(path: Path, folder: Path, more: str = "", side: int = SIDE) -> Any:
    card = folder / "card.toml"
    card.write_text(more + CARD.format(projection="", side=side))
    import_onnx(path, card, folder / "a.safetensors")
    (opened,) = open_models([str(folder / "a.safetensors")])
    return opened


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_says_what_its_module_says(name: str, batch: int | None, tmp_path: Path) -> None:
    network = built(name)
    exported(network, tmp_path / "model.onnx", batch=batch)
    opened = imported(tmp_path / "model.onnx", tmp_path)
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).requires_grad_()
    found = opened.model(images).code
    expected = network(images * 2 - 1)
    assert found.shape == expected.shape
    assert float((found - expected).detach().abs().max()) <= 1e-4 * float(expected.detach().abs().max())
    (one,) = torch.autograd.grad(found.square().sum(), images)
    (other,) = torch.autograd.grad(expected.square().sum(), images)
    assert float(other.abs().max()) > 0
    assert float((one - other).abs().max()) <= 1e-3 * float(other.abs().max())
    if batch == 1:
        left = {node.op for node in opened.model.trunk.nodes}
        assert not {"Shape", "ConstantOfShape", "Range"} & left, "sizes are worked out when it is imported"


@pytest.mark.parametrize("path", EXPORTS, ids=[path.stem for path in EXPORTS])
def test_what_exporters_in_use_write(path: Path, tmp_path: Path) -> None:
    """Files of transformers, timm and open_clip by both exporters of torch; see tests/export_networks.py."""
    side = 28 if path.stem.startswith("timm") else SIDE
    opened = imported(path, tmp_path, side=side)
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(5))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"pixel_values": (images * 2 - 1).numpy()})[0]
    with torch.inference_mode():
        found = opened.model(images).code.numpy()
    assert found.shape == expected.shape == (3, found.shape[1])
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    nodes = onnx.load(path).graph.node
    assert len(opened.model.trunk.nodes) <= len(nodes)
    check_gradient(opened.model, images[:1])


def check_gradient(model: Any, images: Tensor) -> None:
    """Hold the gradient against differences of what the network answers, along itself and two random directions."""
    images = images.clone().requires_grad_()
    wanted = model(images).code.detach().sign()
    (gradient,) = torch.autograd.grad((model(images).code * wanted).sum(), images)
    draw = torch.Generator().manual_seed(0)
    steps = [gradient, *(torch.randn(images.shape, generator=draw) for _ in range(2))]
    norm = float(gradient.norm())
    for step in (one / one.norm() for one in steps):
        with torch.inference_mode():
            up, down = (float((model(images + sign * 5e-3 * step).code * wanted).double().sum()) for sign in (1, -1))
        assert abs((up - down) / 1e-2 - float((gradient * step).sum())) <= 0.02 * norm


@pytest.mark.parametrize(("opset", "batch"), [(11, None), (12, 1), (18, None)])
def test_other_operator_sets(opset: int, batch: int | None, tmp_path: Path) -> None:
    network = built("registers" if opset >= 14 else "plain")
    exported(network, tmp_path / "model.onnx", batch=batch, opset=opset)
    assert imported(tmp_path / "model.onnx", tmp_path).bits == 16


def test_a_network_whose_data_is_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's newer exporter writes every network, and all exporters the largest."""
    from hashshield.errors import CheckpointError
    from hashshield.models import onnx_file

    network = built("vit")
    exported(network, tmp_path / "plain.onnx", batch=None)
    model = onnx.load(tmp_path / "plain.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=64)
    size = (tmp_path / "model.data").stat().st_size
    assert size > 10_000
    opened = imported(tmp_path / "model.onnx", tmp_path)
    images = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.allclose(opened.model(images).code, network(images * 2 - 1), atol=1e-4)
    together = size + (tmp_path / "model.onnx").stat().st_size
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", together - 1)
    with pytest.raises(CheckpointError, match=r"model\.onnx: its data file model\.data: .*all data counted"):
        imported(tmp_path / "model.onnx", tmp_path)


@pytest.mark.parametrize("whole", [False, True], ids=["weights", "everything"])
def test_weights_of_16_bits(whole: bool, tmp_path: Path) -> None:
    """Weights that are cast before use, and networks that compute in 16 bits: here all is computed in 32."""
    network = built("convnext")
    exported(network, tmp_path / "model.onnx", batch=None)
    model = onnx.load(tmp_path / "model.onnx")
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            name = tensor.name if whole else f"{tensor.name}.half"
            if not whole:
                cast = onnx.helper.make_node("Cast", [name], [tensor.name], to=onnx.TensorProto.FLOAT)
                graph.node.insert(0, cast)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, name))
    if whole:
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].t.data_type == onnx.TensorProto.FLOAT:
                values = onnx.numpy_helper.to_array(node.attribute[0].t).astype(np.float16)
                node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(values))
    onnx.save(model, tmp_path / "model.onnx")
    opened = imported(tmp_path / "model.onnx", tmp_path)
    images = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        found, expected = opened.model(images).code, network(images * 2 - 1)
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) <= 0.02 * float(expected.abs().max())
    weights = sum(weight.numel() for weight in network.parameters())
    assert (tmp_path / "a.safetensors").stat().st_size < 2.5 * weights + 50_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "convnext_tiny"])
def test_networks_of_full_size(name: str, tmp_path: Path) -> None:
    import torchvision

    network = getattr(torchvision.models, name)(weights=None).eval()
    network.requires_grad_(False)
    for last in [module for module in network.modules() if isinstance(module, nn.Linear)][-1:]:
        nn.init.normal_(last.weight, std=0.02)
    path = tmp_path / "model.onnx"
    torch.backends.mha.set_fastpath_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.rand(1, 3, 224, 224),), path, dynamo=False, opset_version=17)
    opened = imported(path, tmp_path, side=224)
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        found, expected = opened.model(images).code, network(images * 2 - 1)
    assert float((found - expected).abs().max()) <= 1e-3 * float(expected.abs().max())
    check_gradient(opened.model, images)
