"""What a service does to a photo before hashing it: differentiable on tensors, and as Pillow does it to a file."""

from hashshield.views.geometry import card_view, centre, cropped, pillow_view, resized, short_side, to_image

__all__ = ["card_view", "centre", "cropped", "pillow_view", "resized", "short_side", "to_image"]
