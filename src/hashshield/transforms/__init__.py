"""Transforms that a service may apply to a photo before hashing it: differentiable on tensors, and with Pillow.

Start with `geometry`, the views of a network. `differentiable` has the transforms that a search prepares for, `pillow`
the table of services that receipts measure.
"""

from hashshield.transforms.geometry import (
    CARD,
    SQUASH,
    VIEWS,
    card_view,
    centre,
    framed,
    framing,
    pillow_view,
    resized,
    short_side,
    tensor_view,
    tensor_views,
    to_image,
)

__all__ = [
    "CARD",
    "SQUASH",
    "VIEWS",
    "card_view",
    "centre",
    "framed",
    "framing",
    "pillow_view",
    "resized",
    "short_side",
    "tensor_view",
    "tensor_views",
    "to_image",
]
