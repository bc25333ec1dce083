"""Survival: what networks say of a written photo after services have done what they do to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hashshield.imaging.services import JPEG_Q75, SERVICES, Transform
from hashshield.models.load import OpenModel
from hashshield.models.network_views import network_views, views_of
from hashshield.pipeline.aims import CodeTarget, measure, tolerance_for
from hashshield.types import SurvivalRow
from hashshield.views import CARD, SQUASH

__all__ = ["CARD_VIEW", "Served", "card_views", "codes_of", "serve", "survival_rows"]

CARD_VIEW = CARD


class Served(NamedTuple):
    """What networks get to see of a photo after one service."""

    service: Transform
    views: tuple[Tensor, ...]
    """Per model, (3, h, w) in [0, 1]; empty where the service does not apply."""
    reason: str | None
    """Why it does not."""


def serve(displayed: Image.Image, models: Sequence[OpenModel], *, every: bool) -> tuple[Served, ...]:
    """What each service makes of an upright RGB image, for each model; all services, or only JPEG q75.

    One after the other, because each is one more copy of the photo.
    """
    found = []
    for service in SERVICES if every else (JPEG_Q75,):
        reason = service.refused(*displayed.size)
        views: tuple[Tensor, ...] = ()
        if reason is None:
            image = service.done(displayed)
            views = views_of(image, network_views(models, [SQUASH if service.squashed else CARD]))
        found.append(Served(service, views, reason))
    return tuple(found)


def survival_rows(
    transformed: Sequence[Served], targets: Sequence[CodeTarget], models: Sequence[OpenModel], *, tolerance: int | None
) -> tuple[SurvivalRow, ...]:
    """Hash what services left and hold it against the marks; a service that does not apply has rows too.

    A view without a mark of its own is held against that of the card's.
    """
    rows = []
    by_look = {(target.model, target.view): target for target in targets}
    for service, views, reason in transformed:
        view = SQUASH if service.squashed else CARD_VIEW
        if reason is not None:
            rows += [SurvivalRow(service.name, model.name, view, reason=reason) for model in models]
            continue
        for model, code in zip(models, codes_of(views, models), strict=True):
            target = by_look.get((model.name, view)) or by_look[model.name, CARD]
            found = measure(target, code, model.anchors, view)
            passed = target.passed(found, tolerance_for(tolerance, found.bits, lossless=False))
            distances = found.distance_from_original, found.distance_to_goal
            rows.append(SurvivalRow(service.name, target.model, view, *distances, passed))
    return tuple(rows)


def card_views(displayed: Image.Image, models: Sequence[OpenModel]) -> tuple[Tensor, ...]:
    """The card's view for each model; what several have in common is made once."""
    return views_of(displayed, network_views(models))


def codes_of(views: Sequence[Tensor], models: Sequence[OpenModel]) -> list[NDArray[np.float32]]:
    """Relaxed codes (K,), one per model and its view."""
    return [model.hash_view(view).code for view, model in zip(views, models, strict=True)]
