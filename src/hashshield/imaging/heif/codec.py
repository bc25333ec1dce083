"""Read and write HEIC and AVIF files: coded pictures are replaced item by item, everything else stays byte for byte.

A file consists of items with properties (HEIF, ISO/IEC 23008-12; MIAF, 23000-22). The picture is one coded item, or a
grid of them. Both formats lose a little each time they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from hashshield.arrays import Pixels
from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging.coders import Coder, choose_coder, from_array, to_array
from hashshield.imaging.heif.boxes import build_still, parse_still
from hashshield.imaging.heif.items import (
    HeifItem,
    ItemProperty,
    StillImage,
    TileGrid,
    cut_tiles,
    describe_copies,
    is_c2pa,
    is_image,
    item_size,
    read_grid,
)
from hashshield.imaging.metadata import MetadataBudget
from hashshield.imaging.metadata.findings import (
    C2PA,
    MetadataFindings,
    inspect_exif_payload,
    inspect_xmp,
    rewrite_exif,
    rewrite_xmp,
)
from hashshield.imaging.photo import (
    Photo,
    StripOptions,
    check_size,
    to_display_orientation,
    to_stored_orientation,
)

__all__ = ["HeifEncoding", "read"]

_ROTATIONS = frozenset({b"irot", b"imir"})
_TRANSFORMS = _ROTATIONS | {b"clap"}
_DECODED = frozenset({b"ispe", b"pixi", b"colr", b"auxC", b"hvcC", b"av1C", b"clap"})
"""Kinds of properties that are passed to the decoder."""

_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1\0", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
_XMP = b"application/rdf+xml"
_SRGB = (1, 13)
"""Primaries and transfer (ITU-T H.273) assumed for a file that states none."""


@dataclass(frozen=True, slots=True)
class HeifEncoding:
    """Everything needed to write the file again."""

    still: StillImage
    coder: Coder
    sampling: str
    grid: TileGrid | None
    thumbnails: tuple[int, ...]
    """Thumbnail items that are coded again."""
    picture_items: frozenset[int]
    """The primary item, those it is derived from, and its alpha."""
    exif_findings: dict[int, MetadataFindings]
    """Copies and links in each EXIF item, by item number."""

    def encode(self, photo: Photo, pixels: Pixels, strip: StripOptions) -> bytes:
        """Return the file with other pixels."""
        items = dict(self.still.items)
        leaves = self.still.targets(b"dimg", self.still.primary) if self.grid else (self.still.primary,)
        for number, tile in zip(leaves, cut_tiles(pixels, self.grid), strict=True):
            items[number] = self._recoded(items[number], tile, self.sampling)
        if self.grid:
            primary = items[self.still.primary]
            # Some readers take the colour coding from the grid, others from its tiles.
            coding = _coding(items[leaves[0]])
            items[primary.number] = replace(primary, properties=(*_without_coding(primary), *coding))
        displayed = from_array(
            to_display_orientation(pixels, photo.orientation), "L" if pixels.shape[2] == 1 else "RGB"
        )
        for number in self.thumbnails:
            item = items[number]
            _, sampling = self.coder.traits(item.find(self.coder.config) or b"")
            small = to_array(displayed.resize(_displayed_size(item)).convert("L" if sampling == "4:0:0" else "RGB"))
            small = np.ascontiguousarray(to_stored_orientation(small, _orientation(item)))
            items[number] = self._recoded(item, small, sampling)
        for number, item in self.still.items.items():
            items[number] = self._described(items[number], item, pixels, strip)
        return build_still(self._stripped(replace(self.still, items=items), strip))

    def previewer(self, photo: Photo) -> Callable[[Pixels], Pixels]:
        """Return a function that writes the whole file and reads it again; there is no faster way."""

        def preview(pixels: Pixels) -> Pixels:
            written = self.encode(photo, pixels, StripOptions())
            return read(written, name="preview", container=photo.container).pixels

        return preview

    def _recoded(self, item: HeifItem, pixels: Pixels, sampling: str) -> HeifItem:
        """Return the item with another picture, and with the properties that its decoder needs."""
        data = self.coder.encode(pixels, sampling=sampling, colours=_colours(self.still))
        fresh = parse_still(data, name="new picture")
        picture = fresh.items[fresh.primary]
        changed = [p for p in picture.properties if p.kind in (self.coder.config, b"ispe")] + [*_coding(picture)]
        # Encoders pad to whole samples of chroma and crop; a crop precedes rotation (23000-22, 7.3.6.7).
        crop = [p for p in picture.properties if p.kind == b"clap"]
        rest = [p for p in _without_coding(item) if p.kind not in (self.coder.config, b"ispe", b"clap")]
        first = [p for p in rest if p.kind not in _ROTATIONS]
        rotations = [p for p in rest if p.kind in _ROTATIONS]
        return replace(item, data=picture.data, inline=False, properties=(*first, *changed, *crop, *rotations))

    def _described(self, item: HeifItem, before: HeifItem, pixels: Pixels, strip: StripOptions) -> HeifItem:
        if item.kind == b"Exif" and item.number in self.exif_findings:
            head, block = _exif(before)
            image = from_array(pixels, "L" if pixels.shape[2] == 1 else "RGB")
            return replace(item, data=head + rewrite_exif(block, self.exif_findings[item.number], image, strip))
        if item.kind == b"mime" and item.content_type == _XMP:
            return replace(item, data=rewrite_xmp(item.data, strip))
        return item

    def _stripped(self, still: StillImage, strip: StripOptions) -> StillImage:
        if strip.credentials:
            still = replace(still, other_boxes=tuple(o for o in still.other_boxes if not is_c2pa(o[1])))
        if not (strip.copies or strip.metadata):
            return still
        keep = self.picture_items | set(self.thumbnails)
        if not strip.metadata:
            described = {r.source for r in still.references if r.kind == b"cdsc" and keep.isdisjoint(r.targets)}
            metadata_items = {number for number, item in still.items.items() if not is_image(item)}
            keep |= metadata_items - described
        # Groups would refer to items that are gone.
        header_boxes = (
            still.header_boxes
            if keep == still.items.keys()
            else tuple(n for n in still.header_boxes if n[4:8] != b"grpl")
        )
        other_boxes = () if strip.metadata else tuple(o for o in still.other_boxes if is_c2pa(o[1]))
        return replace(still.only(keep), header_boxes=header_boxes, other_boxes=other_boxes, tail=b"")


def read(data: bytes, *, name: str, container: str) -> Photo:
    """Decode a HEIC or AVIF; raises UnsupportedError or BrokenPhotoError."""
    still = parse_still(data, name=name)
    primary = still.items[still.primary]
    grid = read_grid(still, name=name) if primary.kind == b"grid" else None
    tree = still.tree(still.primary)
    leaves = [still.items[number] for number in tree[1:]] if grid else [primary]
    coder = choose_coder(leaves[0].kind, name=name)
    sampling = _check(still, tree, leaves, coder, name=name)
    size = (grid.width, grid.height) if grid else item_size(primary, name=name)
    check_size(*size, name=name)
    alpha = {
        r.source
        for r in still.references
        if r.kind == b"auxl"
        and r.source in still.items
        and not set(r.targets).isdisjoint(tree)
        and _is_alpha(still.items[r.source])
    }
    picture_items = frozenset(still.tree(still.primary, *alpha))
    decoded = coder.decode(build_still(_picture_only(still.only(picture_items))), name=name)
    if decoded.shape[1::-1] != size and primary.find(b"clap") is None:
        raise BrokenPhotoError(f"{name}: its picture does not have the size that the file states; get the file again")
    pixels, alpha_plane = _planes(decoded, sampling, has_alpha=bool(alpha))
    image = from_array(pixels, "L" if pixels.shape[2] == 1 else "RGB")
    budget = MetadataBudget(name)
    thumbnails = tuple(
        n for n in _thumbnails(still) if n not in picture_items and _can_recode(still.items[n], coder, budget)
    )
    exif_findings: dict[int, MetadataFindings] = {}
    findings = MetadataFindings(copies=list(describe_copies(still, picture_items | set(thumbnails))))
    for number, item in still.items.items():
        if item.kind == b"Exif":
            exif_findings[number] = inspect_exif_payload(_exif(item)[1], image, budget)
            findings.add(exif_findings[number])
        elif item.kind == b"mime" and item.content_type == _XMP:
            findings.add(inspect_xmp(item.data))
    findings.links += [C2PA for _, whole in still.other_boxes if is_c2pa(whole)]
    return Photo(
        pixels=pixels,
        alpha=alpha_plane,
        container=container,
        orientation=_orientation(primary),
        lossless=False,
        source=data,
        encoding=HeifEncoding(still, coder, sampling, grid, thumbnails, picture_items, exif_findings),
        unprotected_copies=tuple(dict.fromkeys(findings.copies)),
        links_to_owner=tuple(dict.fromkeys(findings.links)),
    )


def _check(still: StillImage, tree: tuple[int, ...], leaves: list[HeifItem], coder: Coder, *, name: str) -> str:
    """Return the chroma sampling; raise for a picture that could not be written as it was."""
    kinds = {p.kind for number in tree for p in still.items[number].properties if p.essential}
    unknown = kinds - _TRANSFORMS - _DECODED - {b"pasp"}
    if unknown:
        names = ", ".join(sorted(kind.decode("ascii", "replace") for kind in unknown))
        raise UnsupportedError(f"{name}: its picture needs {names}, which is not supported; convert it to JPEG or PNG")
    if any(item.kind != leaves[0].kind for item in leaves):
        raise UnsupportedError(f"{name}: a picture composed in any way but as a plain grid is not supported")
    traits = {coder.traits(item.find(coder.config) or b"") for item in leaves}
    depth, sampling = next(iter(traits))
    if len(traits) > 1 or not sampling:
        raise BrokenPhotoError(f"{name}: its parts state different kinds of samples; get the file again")
    if depth != 8:
        raise UnsupportedError(
            f"{name}: {depth} bits per sample are not supported, only 8; convert it to JPEG, PNG or WebP first"
        )
    transforms = [[p.kind for p in still.items[number].properties if p.kind in _TRANSFORMS] for number in tree]
    # libheif crops a single picture itself; tiles would have to be moved, and Pillow decodes AVIF uncropped.
    croppable = coder.config == b"hvcC" and len(tree) == 1
    if any(transforms[1:]) or b"clap" in transforms[0][croppable:]:
        raise UnsupportedError(f"{name}: a picture cropped by its container is not supported; convert it to JPEG")
    if any(r.kind == b"prem" and r.source in tree for r in still.references):
        raise UnsupportedError(f"{name}: premultiplied transparency is not supported; save it as PNG first")
    return sampling


def _picture_only(still: StillImage) -> StillImage:
    """Return a file for the decoder that holds only the picture, in stored orientation."""
    items = {
        number: replace(item, properties=tuple(p for p in item.properties if p.kind in _DECODED and not _is_profile(p)))
        for number, item in still.items.items()
    }
    return replace(
        still,
        items=items,
        header_boxes=tuple(n for n in still.header_boxes if n[4:8] == b"hdlr"),
        other_boxes=(),
        tail=b"",
    )


def _planes(decoded: Pixels, sampling: str, *, has_alpha: bool) -> tuple[Pixels, Pixels | None]:
    """Return colour or grey, and alpha; the decoder of AV1 returns grey as colour."""
    channels = decoded.shape[2]
    alpha = np.ascontiguousarray(decoded[..., -1]) if has_alpha and channels in (2, 4) else None
    colours = 1 if sampling == "4:0:0" else min(channels, 3)
    return np.ascontiguousarray(decoded[..., :colours]), alpha


def _orientation(item: HeifItem) -> int:
    """Return an item's rotation and mirroring as an EXIF orientation; EXIF's own is ignored (23008-12, A.2.1)."""
    start = np.arange(6, dtype=np.uint8).reshape(2, 3)
    displayed = start
    for kind, payload, _ in item.properties:
        if kind == b"irot" and payload:
            displayed = np.rot90(displayed, payload[0] & 3)
        elif kind == b"imir" and payload:
            displayed = displayed[:, ::-1] if payload[0] & 1 else displayed[::-1]
    return next(number for number in range(1, 9) if np.array_equal(to_display_orientation(start, number), displayed))


def _displayed_size(item: HeifItem) -> tuple[int, int]:
    width, height = item_size(item, name="thumbnail")
    return (height, width) if _orientation(item) >= 5 else (width, height)


def _colours(still: StillImage) -> tuple[int, int]:
    """Return the picture's primaries and transfer, which are kept, because pixels are not converted."""
    for number in still.tree(still.primary):
        for kind, payload, _ in still.items[number].properties:
            if kind == b"colr" and payload[:4] == b"nclx" and len(payload) >= 11:
                return int.from_bytes(payload[4:6], "big"), int.from_bytes(payload[6:8], "big")
    return _SRGB


def _coding(item: HeifItem) -> Iterator[ItemProperty]:
    return (p for p in item.properties if p.kind == b"colr" and p.payload[:4] == b"nclx")


def _without_coding(item: HeifItem) -> tuple[ItemProperty, ...]:
    coding = set(_coding(item))
    return tuple(p for p in item.properties if p not in coding)


def _is_profile(item: ItemProperty) -> bool:
    return item.kind == b"colr" and item.payload[:4] != b"nclx"


def _is_alpha(item: HeifItem) -> bool:
    payload = item.find(b"auxC")
    return payload is not None and payload[4:].startswith(_ALPHA)


def _exif(item: HeifItem) -> tuple[bytes, bytes]:
    """Return (the bytes before the TIFF block, the block) of an EXIF item (23008-12, A.2.1)."""
    start = 4 + int.from_bytes(item.data[:4], "big")
    return item.data[:start], item.data[start:]


def _thumbnails(still: StillImage) -> Iterator[int]:
    thumbnails = (
        r.source
        for r in still.references
        if r.kind == b"thmb" and still.primary in r.targets and r.source in still.items
    )
    return iter(dict.fromkeys(thumbnails))


def _can_recode(item: HeifItem, coder: Coder, budget: MetadataBudget) -> bool:
    depth, sampling = coder.traits(item.find(coder.config) or b"")
    known = item.kind in (b"hvc1", b"av01") and item.find(b"ispe") is not None and item.find(b"clap") is None
    return known and depth == 8 and bool(sampling) and budget.preview(*item_size(item, name="thumbnail"))
