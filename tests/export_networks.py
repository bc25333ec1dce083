"""Write the small networks of tests/data/exports, as exporters in use write theirs.

    python tests/export_networks.py

needs onnxscript, transformers, timm and open_clip_torch, which the tests do not: they read the files. Weights are
random. What the files say of the machine they were made on is taken out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "data" / "exports"
SIDE = 32
LEFT_OUT = ("swin.script", "convnext.script", "timm-registers.dynamo", "dinov2-registers.script")
"""Files that are too large, show nothing that others do not, or that the exporter cannot write."""


class Answer(nn.Module):
    """A network whose answer is one of those it gives."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, pixel_values: Tensor) -> Tensor:
        found: Tensor = getattr(self.network(pixel_values), self.name)
        return found


def hugging_face(network: str, name: str, **sizes: Any) -> nn.Module:
    """A network of transformers of few layers, by default of plain attention."""
    import transformers

    plain = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}
    plain |= {"mlp_ratio": 2} if "Dino" in network else {"intermediate_size": 32}
    config = getattr(transformers, f"{network}Config")(
        image_size=SIDE, **(sizes if "depths" in sizes else plain | sizes)
    )
    kind = {"CLIPVision": "CLIPVisionModelWithProjection"}.get(network, f"{network}Model")
    return Answer(getattr(transformers, kind)(config), name)


def timm_network(name: str, **sizes: Any) -> nn.Module:
    """A network of timm, of few layers."""
    import timm

    built: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
    return built


def open_clip_network() -> nn.Module:
    """The image encoder of OpenAI's CLIP as open_clip builds it."""
    from open_clip.transformer import VisionTransformer

    sizes = {"image_size": SIDE, "patch_size": 8, "width": 16, "layers": 2, "heads": 2, "mlp_ratio": 2.0}
    built: nn.Module = VisionTransformer(output_dim=24, **sizes)
    return built


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: hugging_face("ViT", "pooler_output"),
    "clip": lambda: hugging_face("CLIPVision", "image_embeds", projection_dim=24),
    "dinov2-registers": lambda: hugging_face("Dinov2WithRegisters", "pooler_output"),
    "siglip": lambda: hugging_face("SiglipVision", "pooler_output"),
    "swin": lambda: hugging_face(
        "Swin", "pooler_output", patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4
    ),
    "convnext": lambda: hugging_face(
        "ConvNext", "pooler_output", patch_size=4, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 2, 1]
    ),
    "timm-registers": lambda: timm_network(
        "vit_small_patch14_reg4_dinov2", img_size=28, embed_dim=24, depth=2, num_heads=2
    ),
    "open-clip": open_clip_network,
}


def export(network: nn.Module, path: Path, *, dynamo: bool, side: int = SIDE) -> None:
    """Write a network for any number of images with one of torch's two exporters."""
    images = torch.rand(2, 3, side, side)
    names: Any = {"input_names": ["pixel_values"], "output_names": ["features"]}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
            torch.onnx.export(
                network,
                (images,),
                path,
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
                input_names=["pixel_values"],
            )
        else:
            axes = {"pixel_values": {0: "batch"}, "features": {0: "batch"}}
            torch.onnx.export(network, (images,), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    model = onnx.load(path)
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("value_info")
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """Write every network with both exporters; one that an exporter refuses is named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.backends.mha.set_fastpath_enabled(False)
    for name, build in NETWORKS.items():
        for dynamo in (False, True):
            if f"{name}.{'dynamo' if dynamo else 'script'}" in LEFT_OUT:
                continue
            torch.manual_seed(0)
            network = build().eval()
            with torch.no_grad():
                # Fresh networks answer much alike; larger weights tell pictures apart.
                for weight in network.parameters():
                    weight.add_(0.2 * torch.randn_like(weight))
            path = FOLDER / f"{name}.{'dynamo' if dynamo else 'script'}.onnx"
            try:
                export(network, path, dynamo=dynamo, side=28 if name.startswith("timm") else SIDE)
            except (RuntimeError, ValueError, TypeError) as error:
                print(f"{path.name}: {str(error).splitlines()[0]}")
            else:
                print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
