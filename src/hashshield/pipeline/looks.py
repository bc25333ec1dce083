"""Looks: each network in each view that is promised, and what it sees of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image
from torch import Tensor

from hashshield.models.load import OpenModel
from hashshield.views import CARD, framed, framing, resized, to_image

__all__ = ["Look", "network_views", "networks", "views_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A network and the view in which it sees a photo; see `views.framing`."""

    model: OpenModel
    view: str = CARD


def network_views(models: Sequence[OpenModel], views: Sequence[str] = (CARD,)) -> tuple[Look, ...]:
    """Every network in every view, the views of one network together."""
    return tuple(Look(model, view) for model in models for view in views)


def networks(promised_views: Sequence[Look]) -> tuple[OpenModel, ...]:
    """The networks among them, each once."""
    return tuple({id(look.model): look.model for look in promised_views}.values())


def views_of(displayed: Image.Image, promised_views: Sequence[Look]) -> tuple[Tensor, ...]:
    """(3, h, w) in [0, 1] for each look at an upright RGB image; what several have in common is made once."""
    small = cache(lambda height, width: resized(displayed, height, width))
    framings = [framing(look.view, look.model.card.input, displayed.height, displayed.width) for look in promised_views]
    return tuple(to_image(framed(displayed, goal, crop, small)) for goal, crop in framings)
