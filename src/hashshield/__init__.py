"""HashShield keeps photos out of image-hash search."""
