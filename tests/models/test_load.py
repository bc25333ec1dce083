from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hashshield.checkpoints import catalog
from hashshield.checkpoints.card import InputSpec
from hashshield.checkpoints.file import write_checkpoint
from hashshield.errors import BrokenPhotoError, CheckpointError, UnknownNameError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.hashing import HashNet, hash_files
from hashshield.models.load import NetworkView, open_models
from hashshield.transforms import pillow_view
from imitated_gpu import ImitatedGpu
from tiny_net import CARD, SIZE, encoded, picture, tiny_weights, write_tiny


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("resnet50", InputSpec(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))),
        ("densenet161", InputSpec(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))),
        pytest.param("vgg11", InputSpec(40, 32, "bilinear", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)), marks=pytest.mark.slow),
    ],
)
def test_any_classifier_becomes_a_hash_network(arch: str, size: InputSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = HashNet(arch, (16, 32), hidden_width=0, mean=size.mean, std=size.std)
    weights = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    path = tmp_path / "net.safetensors"
    write_checkpoint(path, replace(CARD, arch=arch, bits=(16, 32), input=size), weights, {})
    short, long = open_models([f"{path}:16", str(path)])
    assert (short.bits, long.bits) == (16, 32), "without a length it is the longest"
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = network.eval().codes(network.features(images))[32]
        # The file holds float16.
        assert torch.allclose(long.model(images).code, expected, atol=0.02 * float(expected.abs().max()) + 1e-3)


def test_lengths_of_one_file_share_a_trunk_and_names_are_opened_once(tiny: Path) -> None:
    names = [f"{tiny}:16", str(tiny), f"{tiny}:16", f"{tiny}:24"]
    opened = open_models(names)
    assert [m.name for m in opened] == [f"{tiny.resolve()}:16", f"{tiny.resolve()}:24"]
    assert opened[0].model.trunk is opened[1].model.trunk
    assert opened[0].anchors is not None
    assert opened[0].anchors.shape == (4, 16)


def test_lengths_of_one_file_are_looked_at_before_any_moves(tiny: Path) -> None:
    """They share a trunk, which moves with the first of them; a witness of the same file comes later."""
    expected = [opened.hash(picture(seed=3)).code for opened in open_models([f"{tiny}:16", f"{tiny}:24"])]
    with ImitatedGpu():
        opened = open_models([f"{tiny}:16", f"{tiny}:24", f"{tiny}:16"], device="cuda")
        opened += open_models([f"{tiny}:24"], device="cuda")
        assert [model.device.type for model in opened] == ["cuda"] * 3
        found = [model.hash(picture(seed=3)).code for model in opened]
    for code, plain in zip(found, [*expected, expected[1]], strict=True):
        assert np.array_equal(code, plain)


def test_on_a_gpu_images_of_one_size_are_resized_together(tiny: Path) -> None:
    """In the order in which they come, and with the codes and gradients that each would have alone."""
    sizes = [(60, 80), (50, 70), (60, 80), (60, 80), (50, 70)]
    images = [
        torch.from_numpy(picture(*size, seed=seed)).permute(2, 0, 1)[None].float() / 255
        for seed, size in enumerate(sizes)
    ]
    (opened,) = open_models([f"{tiny}:16"])
    resizes = "_upsample_bilinear2d_aa"

    def found(some: list[torch.Tensor], device: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
        opened.model.to(device)
        leaves = [image.to(device).requires_grad_() for image in some]
        code = NetworkView(opened)(leaves).code
        return code.detach().cpu(), [g.cpu() for g in torch.autograd.grad(code.square().sum(), leaves)]

    expected, gradients = found(images, "cpu")
    with ImitatedGpu() as gpu:
        code, there = found(images, "cuda")
        assert gpu.calls[resizes] == 4, "two axes of two sizes"
        found(images[::2][:1], "cuda")
        assert gpu.calls[resizes] == 6
        found([images[0], *images[2:4]], "cuda")
        assert gpu.calls[resizes] == 8, "three of one size take as many as one"
    assert torch.allclose(code, expected, atol=1e-5)
    for one, other in zip(there, gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_classes_by_name(tiny: Path, tmp_path: Path) -> None:
    (model,) = open_models([f"{tiny}:16"])
    assert model.class_index("sunflower") == 2
    with pytest.raises(UnknownNameError, match="has no class 'sunflwer'; did you mean sunflower"):
        model.class_index("sunflwer")
    with pytest.raises(UnknownNameError, match="`hashshield models info` lists them"):
        model.class_index("zzz")
    bare = tmp_path / "bare.safetensors"
    write_checkpoint(bare, CARD, tiny_weights()[0], {})
    (model,) = open_models([f"{bare}:16"])
    assert model.anchors is None
    with pytest.raises(UnknownNameError, match="has no class 'cat'"):
        model.class_index("cat")


def test_an_unknown_length_names_the_known(tiny: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"tiny.*has no code of 17 bits; its lengths are 16, 24"):
        open_models([f"{tiny}:17"])


def constant_head(weights: dict[str, torch.Tensor]) -> None:
    weights["heads.16.weight"].zero_()


def one_dead_bit(weights: dict[str, torch.Tensor]) -> None:
    weights["heads.16.weight"][3] = 0


def blind_trunk(weights: dict[str, torch.Tensor]) -> None:
    weights["trunk.conv1.0.weight"].zero_()


def overflowing(weights: dict[str, torch.Tensor]) -> None:
    for key, value in weights.items():
        if key.startswith("trunk.") and key.endswith(".weight"):
            value.fill_(60_000.0)


def missing(weights: dict[str, torch.Tensor]) -> None:
    del weights["heads.16.weight"]


def surplus(weights: dict[str, torch.Tensor]) -> None:
    weights["heads.99.weight"] = torch.zeros(1)


def misshapen(weights: dict[str, torch.Tensor]) -> None:
    weights["heads.16.weight"] = torch.zeros(16, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (constant_head, "16 of 16 bits do not react"),
        (one_dead_bit, "1 of 16 bits do not react"),
        (blind_trunk, "16 of 16 bits do not react"),
        (overflowing, "NaN or infinite codes"),
        (missing, "its tensors do not fit"),
        (surplus, "its tensors do not fit"),
        (misshapen, "its tensors do not fit"),
    ],
)
def test_a_network_is_looked_at_before_use(change: object, says: str, tmp_path: Path) -> None:
    weights, anchors = tiny_weights()
    assert callable(change)
    change(weights)
    path = tmp_path / "bad.safetensors"
    write_checkpoint(path, CARD, weights, anchors)
    with pytest.raises(CheckpointError, match=says) as caught:
        open_models([f"{path}:16"])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"arch": "resnet51"}, "did you mean resnet50"),
        ({"arch": "resnet18"}, "do not fit resnet18"),
        ({"hidden": 12}, "do not fit"),
    ],
)
def test_a_card_its_tensors_do_not_fit(entries: dict[str, object], says: str, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "bad.safetensors", **entries)
    with pytest.raises(CheckpointError, match=says) as caught:
        open_models([f"{path}:16"])
    assert str(path) in str(caught.value)


def test_an_input_the_network_cannot_take(tmp_path: Path) -> None:
    weights = {
        k: v for k, v in HashNet("densenet121", (8,)).state_dict().items() if not k.endswith("num_batches_tracked")
    }
    path = tmp_path / "small.safetensors"
    size = replace(SIZE, resize=16, crop=16)
    write_checkpoint(path, replace(CARD, arch="densenet121", bits=(8,), input=size), weights, {})
    with pytest.raises(CheckpointError, match="densenet121 cannot read 16 pixels"):
        open_models([str(path)])


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "a.safetensors")
    (before,) = open_models([f"{path}:16"])
    write_tiny(path, seed=1)
    os.utime(path, ns=(1, 1))
    (after,) = open_models([f"{path}:16"])
    assert not torch.equal(before.model.head.weight, after.model.head.weight)


def test_a_damaged_embedded_file_is_found_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundled").mkdir()
    reference = catalog.resolve("lite0-caltech101:16")
    copy = tmp_path / "bundled" / reference.path.name
    shutil.copy(reference.path, copy)
    monkeypatch.setattr(catalog, "_HERE", tmp_path)
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"SHA-256 is [0-9a-f]{64}, the catalogue says [0-9a-f]{64}"):
        open_models(["lite0-caltech101:16"])
    copy.unlink()
    with pytest.raises(CheckpointError, match="reinstall hashshield"):
        open_models(["lite0-caltech101:16"])


@pytest.mark.parametrize("name", ["sunflower", "kangaroo", "lotus"])
def test_the_embedded_network_knows_what_it_sees(name: str, data: Path) -> None:
    (model,) = open_models(["lite0-caltech101:48"])
    pixels = np.asarray(Image.open(data / f"{name}.jpg").convert("RGB"))
    with torch.inference_mode():
        code = model.model(pillow_view(pixels, model.card.input)[None]).code[0].numpy()
    assert model.anchors is not None
    distances = np.count_nonzero(model.anchors.numpy() != bits_of(code), axis=1)
    assert model.card.classes[int(distances.argmin())] == name
    assert distances.min() <= 8


def test_many_files_are_hashed_in_order(tiny: Path, tmp_path: Path) -> None:
    opened = open_models([f"{tiny}:16", f"{tiny}:24"])
    models = [m.model for m in opened]
    paths = []
    for i in range(7):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(encoded(picture(40 + i, 50, seed=i)))
    done: list[int] = []
    found = hash_files(models, SIZE, paths, batch_size=3, tick=done.append)
    assert [f.shape for f in found] == [(7, 16), (7, 24)]
    assert done == [3, 3, 1]
    for i in range(7):
        with torch.inference_mode():
            alone = models[0](pillow_view(picture(40 + i, 50, seed=i), SIZE)[None]).code[0].numpy()
        assert np.allclose(found[0][i], alone, atol=1e-4)
    assert [f.shape for f in hash_files(models, SIZE, [])] == [(0, 16), (0, 24)]
    paths[4].write_bytes(encoded(picture())[:300])
    with pytest.raises(BrokenPhotoError, match=r"4\.png"):
        hash_files(models, SIZE, paths, batch_size=3)
