"""Network views: each network in each view that a preset promises, and what it sees of a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from PIL import Image
from torch import Tensor

from hashshield.models.load import OpenModel
from hashshield.transforms import CARD, framed, framing, resized, tensor_view, to_image
from hashshield.types import Codes

__all__ = ["NetworkView", "distinct_models", "network_views", "views_of"]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkView:
    """A network and the view through which it sees a photo; see `views.framing`."""

    model: OpenModel
    view: str = CARD

    @property
    def side(self) -> int:
        """Pixels to which the view brings a photo's short side."""
        return self.model.card.input.resize

    def __call__(self, images: Sequence[Tensor], /) -> Codes:
        """Hash (1, 3, h, w) images in [0, 1], which may differ in size, with gradients."""
        view = tensor_view(self.model.card.input, self.view)
        codes: Codes = self.model.model(torch.cat([view(image) for image in images]))
        return codes


def network_views(models: Sequence[OpenModel], views: Sequence[str] = (CARD,)) -> tuple[NetworkView, ...]:
    """Return every network in every view, the views of one network together."""
    return tuple(NetworkView(model, view) for model in models for view in views)


def distinct_models(promised_views: Sequence[NetworkView]) -> tuple[OpenModel, ...]:
    """Return the networks among them, each once."""
    return tuple({id(each.model): each.model for each in promised_views}.values())


def views_of(displayed: Image.Image, promised_views: Sequence[NetworkView]) -> tuple[Tensor, ...]:
    """Return the (3, h, w) image in [0, 1] that each network view sees of an RGB photo in displayed orientation.

    What several have in common is computed once.
    """
    small = cache(lambda height, width: resized(displayed, height, width))
    framings = [framing(each.view, each.model.card.input, displayed.height, displayed.width) for each in promised_views]
    return tuple(to_image(framed(displayed, goal, crop, small)) for goal, crop in framings)
