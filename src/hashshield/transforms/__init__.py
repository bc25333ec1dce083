"""What a service does to a photo before hashing it: differentiable on tensors, and as Pillow does it to a file.

Start with `geometry`, the views of a network. `differentiable` has what a search looks through, `pillow` the table of
services that `--survival` measures.
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
