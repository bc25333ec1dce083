from __future__ import annotations

import pytest
import torch

from hashshield.models.hashing import HashNet
from hashshield.training.learner import Learner, pairwise_likelihood, quantisation
from hashshield.training.recipe import LossWeights
from tiny_net import ARCH


def learner(hidden: int = 0, multilabel: bool = False, **loss: float) -> Learner:
    torch.manual_seed(0)
    return Learner(HashNet(ARCH, (8, 12), hidden_width=hidden), 3, LossWeights(**loss), multilabel=multilabel).eval()


@pytest.mark.parametrize("hidden", [0, 10])
def test_folding_the_standardisation_keeps_the_codes(hidden: int) -> None:
    made = learner(hidden)
    features = torch.randn(50, 1024) * torch.rand(1024) * 5 + torch.randn(1024) * 3
    features[:, 7] = 2.0
    made.standardise(features, trained=False)
    assert torch.allclose(((features - made.feature_mean) / made.feature_std).mean(0), torch.zeros(1024), atol=1e-4)
    before = made.codes(features)
    made.fold_standardisation()
    direct = made.network.codes(features)
    for bits in (8, 12):
        assert torch.allclose(before[bits], direct[bits], rtol=1e-3, atol=1e-3)
        assert torch.allclose(before[bits], made.codes(features)[bits], rtol=1e-3, atol=1e-3)
    made.fold_standardisation()
    assert torch.equal(direct[8], made.network.codes(features)[8]), "a second time does nothing"


@pytest.mark.parametrize("hidden", [0, 10])
def test_standardising_layers_that_have_learnt_keeps_their_codes(hidden: int) -> None:
    made = learner(hidden)
    features = torch.randn(50, 1024) * torch.rand(1024) * 5 + torch.randn(1024) * 3
    before, untouched = made.codes(features), learner(hidden)
    made.standardise(features, trained=True)
    untouched.standardise(features, trained=False)
    for bits in (8, 12):
        assert torch.allclose(before[bits], made.codes(features)[bits], rtol=1e-3, atol=1e-3)
        assert not torch.allclose(before[bits], untouched.codes(features)[bits], rtol=0.1, atol=0.1)


@torch.no_grad()
def test_the_loss_is_the_mean_over_code_lengths() -> None:
    made = learner(quantisation=0.2, classification=0.0)
    features, labels = torch.randn(6, 1024), torch.eye(3)[[0, 0, 1, 1, 2, 2]]
    similar = labels @ labels.T > 0
    parts = [
        pairwise_likelihood(c, c, similar, positive_share=0.5) + 0.2 * quantisation(c)
        for c in made.codes(features).values()
    ]
    assert float(made(features, labels)) == pytest.approx(float(sum(parts, torch.zeros(()))) / 2)


@pytest.mark.parametrize(("multilabel", "second"), [(False, False), (True, True), (True, False)])
@torch.no_grad()
def test_classification_counts_one_label_or_several(multilabel: bool, second: bool) -> None:
    made, plain = learner(multilabel=multilabel, classification=1.0), learner(classification=0.0)
    features, labels = torch.randn(4, 1024), torch.eye(3)[[0, 1, 2, 0]]
    if second:
        labels[0, 1] = 1
    extra = float(made(features, labels)) - float(plain(features, labels))
    expected = 0.0
    for bits, code in made.codes(features).items():
        scores = made.classifiers[str(bits)](torch.tanh(code))
        if multilabel:
            p = torch.sigmoid(scores)
            expected += float(-(labels * p.log() + (1 - labels) * (1 - p).log()).mean()) / 2
        else:
            expected += float(-scores.log_softmax(1)[torch.arange(4), labels.argmax(1)].mean()) / 2
    assert extra == pytest.approx(expected, rel=1e-4)
