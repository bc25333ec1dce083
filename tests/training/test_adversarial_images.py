from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hashshield.models.hashing import HashNet
from hashshield.training.learner import Learner, adversarial_images
from hashshield.training.recipe import LossWeights
from tiny_net import ARCH, CARD, CLASSES, SIZE, picture, tiny_weights

TAU = 8 / 255
LABELS = torch.eye(len(CLASSES))[[0, 0, 1, 1, 2, 3]]


@pytest.fixture
def learner() -> Learner:
    """With codes that are spread like a trained network's, dropout, and all of it learning."""
    network = HashNet(ARCH, CARD.bits, mean=SIZE.mean, std=SIZE.std)
    network.load_state_dict(tiny_weights()[0], strict=False)
    torch.manual_seed(0)
    made = Learner(network, len(CLASSES), LossWeights(classification=1.0), multilabel=False)
    made.dropout.p = 0.5
    return made.train()


@pytest.fixture(scope="module")
def images() -> Tensor:
    found = torch.stack([torch.from_numpy(picture(32, 32, seed=i)).permute(2, 0, 1).float() / 255 for i in range(6)])
    # Skies burn out and shadows drown.
    found[0, :, :16], found[1, :, :16] = 1.0, 0.0
    return found


def attacked(learner: Learner, images: Tensor, *, tau: float = TAU, steps: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return adversarial_images(learner, images, LABELS, tau=tau, steps=steps, generator=generator)


def loss_of(learner: Learner, images: Tensor) -> float:
    with torch.no_grad():
        learner.eval()
        found = float(learner(learner.network.features(images), LABELS))
        learner.train()
    return found


def test_the_loss_grows_with_the_steps_and_beyond_a_random_change(learner: Learner, images: Tensor) -> None:
    noise = (2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) - 1) * TAU
    clean, random = loss_of(learner, images), loss_of(learner, (images + noise).clamp(0, 1))
    one, five = (loss_of(learner, attacked(learner, images, steps=n)) for n in (1, 5))
    assert five > one > max(clean, random)
    assert five > 1.5 * clean


@pytest.mark.parametrize("tau", [1 / 255, TAU, 0.3])
def test_the_bound_and_the_range_hold(learner: Learner, images: Tensor, tau: float) -> None:
    found = attacked(learner, images, tau=tau)
    assert float((found - images).abs().max()) <= tau + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert float((found - images).abs().mean()) > 0.4 * tau


def test_white_and_black_pixels_are_changed_like_others(learner: Learner, images: Tensor) -> None:
    # About half of them would have to leave the range to do harm, and stay.
    found = (attacked(learner, images) - images).abs()
    for flat in (found[0, :, :16], found[1, :, :16]):
        assert float((flat > TAU / 2).float().mean()) > 0.25


def test_the_learner_is_left_as_it_was(learner: Learner, images: Tensor) -> None:
    frozen = next(iter(learner.network.heads.parameters()))
    frozen.requires_grad_(False)
    learner.network.trunk.get_submodule("stage2").eval()
    state = {key: value.clone() for key, value in learner.state_dict().items()}
    wanting = {name: parameter.requires_grad for name, parameter in learner.named_parameters()}
    modes = {name: module.training for name, module in learner.named_modules()}
    found = attacked(learner, images)
    assert not found.requires_grad
    assert all(torch.equal(state[key], value) for key, value in learner.state_dict().items()), (
        "batch norms learn nothing"
    )
    assert wanting == {name: parameter.requires_grad for name, parameter in learner.named_parameters()}
    assert set(wanting.values()) == {True, False}
    assert modes == {name: module.training for name, module in learner.named_modules()}
    assert set(modes.values()) == {True, False}
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_the_batch_itself_is_not_written_to(learner: Learner, images: Tensor) -> None:
    before = images.clone()
    attacked(learner, images)
    assert torch.equal(before, images)


def test_a_generator_gives_one_result_whatever_the_dropout_draws(learner: Learner, images: Tensor) -> None:
    one = attacked(learner, images)
    torch.rand(7)
    assert torch.equal(one, attacked(learner, images))
    assert not torch.equal(one, attacked(learner, images, seed=1))
