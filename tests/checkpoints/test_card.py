"""Which networks are kin, by what their cards say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hashshield.checkpoints.card import Card, are_twins, lineage_of, twin_among
from tiny_net import CARD


def card(name: str, arch: str = CARD.arch, **changes: Any) -> Card:
    return replace(CARD, name=name, arch=arch, **changes)


@pytest.mark.parametrize(
    ("arch", "lineage"),
    [
        ("efficientnet_lite0", "efficientnet_lite"),
        ("efficientnet_lite2", "efficientnet_lite"),
        ("regnet_y_400mf", "regnet_y"),
        ("vgg11_bn", "vgg"),
        ("resnet50", "resnet"),
        ("densenet161", "densenet"),
        ("shufflenet_v2_x0_5", "shufflenet_v"),
    ],
)
def test_the_lineage_of_an_architecture_is_its_family(arch: str, lineage: str) -> None:
    assert lineage_of(card("a", arch)) == lineage
    assert lineage_of(card("a", arch, lineage="efficientnet_lite")) == "efficientnet_lite", "a card may know better"


def test_an_imported_network_is_a_lineage_of_its_own() -> None:
    one, other = card("one", "graph"), card("other", "graph")
    assert lineage_of(one) != lineage_of(other)
    assert not are_twins(one, other)
    assert are_twins(replace(one, lineage="x"), replace(other, lineage="x"))
    assert are_twins(replace(one, lineage="efficientnet_lite"), card("lite", "efficientnet_lite0"))


def test_twins_have_one_trunk_or_one_ancestor() -> None:
    lite0, lite2 = card("lite0-a", "efficientnet_lite0"), card("lite2-a", "efficientnet_lite2")
    robust = card("robust", "efficientnet_lite0")
    started = card("started", "resnet50", recipe={"model": {"start": "/elsewhere/lite2-a.safetensors"}})
    assert not are_twins(lite0, lite2)
    assert are_twins(lite0, robust)
    assert not are_twins(lite0, replace(robust, lineage="from scratch")), "the card says that its trunk is another"
    assert are_twins(started, lite2)
    assert are_twins(lite2, started)
    assert not are_twins(started, lite0)
    assert twin_among(lite2, [lite0, started]) is started
    assert twin_among(lite2, [lite0, robust]) is None
    assert lineage_of(lite0) == lineage_of(lite2), "kin all the same"
