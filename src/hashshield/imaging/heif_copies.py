"""What a HEIC or AVIF holds besides the picture: other images, and boxes of no known use."""

from __future__ import annotations

from collections.abc import Iterator

from hashshield.imaging.isobmff import Item, Still

__all__ = ["copies", "is_c2pa", "is_image"]

_AUXILIARY = (
    (b"hdrgainmap", "gain map"),
    (b"auxid:2", "depth map"),
    (b"depth", "depth map"),
    (b"disparity", "depth map"),
)
_C2PA = b"uuid" + bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def copies(still: Still, settled: frozenset[int]) -> Iterator[str]:
    """Name the images that stay as they are."""
    parts = {t for r in still.references if r.kind == b"dimg" for t in r.targets if _kind(still, r.source) != b"tmap"}
    mapped = {t for r in still.references if r.kind == b"dimg" for t in r.targets if _kind(still, r.source) == b"tmap"}
    auxiliary = {r.source for r in still.references if r.kind == b"auxl"}
    thumbnails = {r.source for r in still.references if r.kind == b"thmb"}
    for number, item in still.items.items():
        if number in settled or number in parts or not is_image(item) or item.kind == b"tmap":
            continue
        payload = item.find(b"ispe") or bytes(12)
        size = f"{int.from_bytes(payload[4:8], 'big')}x{int.from_bytes(payload[8:12], 'big')}"
        label = "second image"
        if number in mapped:
            label = "gain map"
        elif number in auxiliary:
            urn = item.find(b"auxC") or b""
            label = next((text for mark, text in _AUXILIARY if mark in urn), "auxiliary image")
        elif number in thumbnails:
            label = "thumbnail"
        yield f"{label} ({size})"
    for kind, whole in still.others:
        if not is_c2pa(whole):
            shown = kind.decode("ascii") if kind.isalnum() else "unknown"
            yield f"data in a box of the kind {shown} ({len(whole)} bytes)"
    if still.tail.strip(b"\0"):
        yield f"trailing data ({len(still.tail)} bytes)"


def _kind(still: Still, number: int) -> bytes:
    return still.items[number].kind if number in still.items else b""


def is_image(item: Item) -> bool:
    """Tell images from metadata."""
    return item.find(b"ispe") is not None or item.kind in (b"grid", b"iden", b"iovl", b"tmap")


def is_c2pa(whole: bytes) -> bool:
    """Tell whether a box holds a C2PA manifest."""
    return whole[4:24] == _C2PA
