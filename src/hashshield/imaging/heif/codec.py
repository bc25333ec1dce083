"""HEIC and AVIF in and out: the coded picture is replaced, item by item; all else stays byte for byte.

A file is items with properties (HEIF, ISO/IEC 23008-12; MIAF, 23000-22). The picture is one coded item, or a grid of
them. Both formats lose a little with each writing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging.decode import from_array, to_array
from hashshield.imaging.heif import coders
from hashshield.imaging.heif.boxes import build, parse
from hashshield.imaging.heif.coders import Coder
from hashshield.imaging.heif.items import (
    Grid,
    Item,
    Property,
    Still,
    copies,
    grid_of,
    is_c2pa,
    is_image,
    pieces,
    size_of,
)
from hashshield.imaging.metadata.budget import MetadataBudget
from hashshield.imaging.metadata.findings import C2PA, Findings, inspect_exif_payload, inspect_xmp
from hashshield.imaging.metadata.rewrite import rewrite_exif, rewrite_xmp
from hashshield.imaging.photo import Photo, Pixels, Strip, check_size, to_display_orientation, to_stored_orientation

__all__ = ["HeifEncoding", "read"]

_TURNING = frozenset({b"irot", b"imir"})
_TRANSFORMS = _TURNING | {b"clap"}
_DECODED = frozenset({b"ispe", b"pixi", b"colr", b"auxC", b"hvcC", b"av1C", b"clap"})
"""Properties the decoder is shown."""

_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1\0", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
_XMP = b"application/rdf+xml"
_SRGB = (1, 13)
"""Primaries and transfer (ITU-T H.273) where the file names none."""


@dataclass(frozen=True, slots=True)
class HeifEncoding:
    """How the file was coded."""

    still: Still
    coder: Coder
    sampling: str
    grid: Grid | None
    thumbnails: tuple[int, ...]
    """Items that are re-made."""
    kept: frozenset[int]
    """Items of the picture: what it is derived from, and its alpha."""
    found: dict[int, Findings]
    """EXIF item -> what it holds."""

    def encode(self, photo: Photo, pixels: Pixels, strip: Strip) -> bytes:
        """Return the file with other pixels."""
        items = dict(self.still.items)
        leaves = self.still.targets(b"dimg", self.still.primary) if self.grid else (self.still.primary,)
        for number, piece in zip(leaves, pieces(pixels, self.grid), strict=True):
            items[number] = self._coded(items[number], piece, self.sampling)
        if self.grid:
            primary = items[self.still.primary]
            # Some readers take the grid's word for the coding of its tiles, some the tiles' own.
            coding = _coding(items[leaves[0]])
            items[primary.number] = replace(primary, properties=(*_without_coding(primary), *coding))
        shown = from_array(to_display_orientation(pixels, photo.orientation), "L" if pixels.shape[2] == 1 else "RGB")
        for number in self.thumbnails:
            item = items[number]
            _, sampling = self.coder.traits(item.find(self.coder.config) or b"")
            small = to_array(shown.resize(_shown_size(item)).convert("L" if sampling == "4:0:0" else "RGB"))
            small = np.ascontiguousarray(to_stored_orientation(small, _orientation(item)))
            items[number] = self._coded(item, small, sampling)
        for number, item in self.still.items.items():
            items[number] = self._described(items[number], item, pixels, strip)
        return build(self._stripped(replace(self.still, items=items), strip))

    def _coded(self, item: Item, pixels: Pixels, sampling: str) -> Item:
        """Return the item with another picture, and with what the new picture's decoder has to know."""
        data = self.coder.encode(pixels, sampling=sampling, colours=_colours(self.still))
        fresh = parse(data, name="new picture")
        picture = fresh.items[fresh.primary]
        changed = [p for p in picture.properties if p.kind in (self.coder.config, b"ispe")] + [*_coding(picture)]
        # Encoders pad to whole samples of chroma; a crop comes before turns (23000-22, 7.3.6.7).
        crop = [p for p in picture.properties if p.kind == b"clap"]
        rest = [p for p in _without_coding(item) if p.kind not in (self.coder.config, b"ispe", b"clap")]
        first = [p for p in rest if p.kind not in _TURNING]
        turns = [p for p in rest if p.kind in _TURNING]
        return replace(item, data=picture.data, inline=False, properties=(*first, *changed, *crop, *turns))

    def _described(self, item: Item, before: Item, pixels: Pixels, strip: Strip) -> Item:
        if item.kind == b"Exif" and item.number in self.found:
            head, block = _exif(before)
            image = from_array(pixels, "L" if pixels.shape[2] == 1 else "RGB")
            return replace(item, data=head + rewrite_exif(block, self.found[item.number], image, strip))
        if item.kind == b"mime" and item.content_type == _XMP:
            return replace(item, data=rewrite_xmp(item.data, strip))
        return item

    def _stripped(self, still: Still, strip: Strip) -> Still:
        if strip.credentials:
            still = replace(still, others=tuple(o for o in still.others if not is_c2pa(o[1])))
        if not (strip.copies or strip.metadata):
            return still
        keep = self.kept | set(self.thumbnails)
        if not strip.metadata:
            described = {r.source for r in still.references if r.kind == b"cdsc" and keep.isdisjoint(r.targets)}
            notes = {number for number, item in still.items.items() if not is_image(item)}
            keep |= notes - described
        # Groups name items that are gone.
        notes_kept = still.notes if keep == still.items.keys() else tuple(n for n in still.notes if n[4:8] != b"grpl")
        others = () if strip.metadata else tuple(o for o in still.others if is_c2pa(o[1]))
        return replace(still.only(keep), notes=notes_kept, others=others, tail=b"")


def read(data: bytes, *, name: str, container: str) -> Photo:
    """Decode a HEIC or AVIF; raises UnsupportedError or BrokenPhotoError."""
    still = parse(data, name=name)
    primary = still.items[still.primary]
    grid = grid_of(still, name=name) if primary.kind == b"grid" else None
    tree = still.tree(still.primary)
    leaves = [still.items[number] for number in tree[1:]] if grid else [primary]
    coder = coders.choose(leaves[0].kind, name=name)
    sampling = _check(still, tree, leaves, coder, name=name)
    size = (grid.width, grid.height) if grid else size_of(primary, name=name)
    check_size(*size, name=name)
    alpha = {
        r.source
        for r in still.references
        if r.kind == b"auxl"
        and r.source in still.items
        and not set(r.targets).isdisjoint(tree)
        and _is_alpha(still.items[r.source])
    }
    kept = frozenset(still.tree(still.primary, *alpha))
    decoded = coder.decode(build(_bare(still.only(kept))), name=name)
    if decoded.shape[1::-1] != size and primary.find(b"clap") is None:
        raise BrokenPhotoError(f"{name}: its picture has not the size the file says; get the file again")
    opaque, alpha_plane = _planes(decoded, sampling, has_alpha=bool(alpha))
    image = from_array(opaque, "L" if opaque.shape[2] == 1 else "RGB")
    budget = MetadataBudget(name)
    thumbnails = tuple(n for n in _thumbnails(still) if n not in kept and _remade(still.items[n], coder, budget))
    found: dict[int, Findings] = {}
    told = Findings(copies=list(copies(still, kept | set(thumbnails))))
    for number, item in still.items.items():
        if item.kind == b"Exif":
            found[number] = inspect_exif_payload(_exif(item)[1], image, budget)
            told.add(found[number])
        elif item.kind == b"mime" and item.content_type == _XMP:
            told.add(inspect_xmp(item.data))
    told.links += [C2PA for _, whole in still.others if is_c2pa(whole)]
    return Photo(
        pixels=opaque,
        alpha=alpha_plane,
        container=container,
        orientation=_orientation(primary),
        lossless=False,
        source=data,
        encoding=HeifEncoding(still, coder, sampling, grid, thumbnails, kept, found),
        unprotected_copies=tuple(dict.fromkeys(told.copies)),
        links_to_owner=tuple(dict.fromkeys(told.links)),
    )


def _check(still: Still, tree: tuple[int, ...], leaves: list[Item], coder: Coder, *, name: str) -> str:
    """Refuse what would not come back as it was; return the chroma sampling."""
    kinds = {p.kind for number in tree for p in still.items[number].properties if p.essential}
    unknown = kinds - _TRANSFORMS - _DECODED - {b"pasp"}
    if unknown:
        shown = ", ".join(sorted(kind.decode("ascii", "replace") for kind in unknown))
        raise UnsupportedError(f"{name}: its picture needs {shown}, which is not supported; convert it to JPEG or PNG")
    if any(item.kind != leaves[0].kind for item in leaves):
        raise UnsupportedError(f"{name}: a picture put together in another way than a plain grid is not supported")
    traits = {coder.traits(item.find(coder.config) or b"") for item in leaves}
    depth, sampling = next(iter(traits))
    if len(traits) > 1 or not sampling:
        raise BrokenPhotoError(f"{name}: its parts say different things of its samples; get the file again")
    if depth != 8:
        raise UnsupportedError(
            f"{name}: {depth} bits per sample are not supported, only 8; convert it to JPEG, PNG or WebP first"
        )
    turned = [[p.kind for p in still.items[number].properties if p.kind in _TRANSFORMS] for number in tree]
    # libheif crops a single picture by itself; tiles would have to be moved, and Pillow shows AVIF uncropped.
    croppable = coder.config == b"hvcC" and len(tree) == 1
    if any(turned[1:]) or b"clap" in turned[0][croppable:]:
        raise UnsupportedError(f"{name}: a picture cropped by its container is not supported; convert it to JPEG")
    if any(r.kind == b"prem" and r.source in tree for r in still.references):
        raise UnsupportedError(f"{name}: premultiplied transparency is not supported; save it as PNG first")
    return sampling


def _bare(still: Still) -> Still:
    """The decoder's copy: nothing but the picture, not turned."""
    items = {
        number: replace(item, properties=tuple(p for p in item.properties if p.kind in _DECODED and not _is_profile(p)))
        for number, item in still.items.items()
    }
    return replace(still, items=items, notes=tuple(n for n in still.notes if n[4:8] == b"hdlr"), others=(), tail=b"")


def _planes(decoded: Pixels, sampling: str, *, has_alpha: bool) -> tuple[Pixels, Pixels | None]:
    """Colour or grey, and alpha; AV1's decoder makes colours of grey."""
    channels = decoded.shape[2]
    alpha = np.ascontiguousarray(decoded[..., -1]) if has_alpha and channels in (2, 4) else None
    colours = 1 if sampling == "4:0:0" else min(channels, 3)
    return np.ascontiguousarray(decoded[..., :colours]), alpha


def _orientation(item: Item) -> int:
    """The EXIF number of an item's turns and mirrors; EXIF's own is not looked at (23008-12, A.2.1)."""
    start = np.arange(6, dtype=np.uint8).reshape(2, 3)
    shown = start
    for kind, payload, _ in item.properties:
        if kind == b"irot" and payload:
            shown = np.rot90(shown, payload[0] & 3)
        elif kind == b"imir" and payload:
            shown = shown[:, ::-1] if payload[0] & 1 else shown[::-1]
    return next(number for number in range(1, 9) if np.array_equal(to_display_orientation(start, number), shown))


def _shown_size(item: Item) -> tuple[int, int]:
    width, height = size_of(item, name="thumbnail")
    return (height, width) if _orientation(item) >= 5 else (width, height)


def _colours(still: Still) -> tuple[int, int]:
    """Primaries and transfer, which do not change: pixels are not converted."""
    for number in still.tree(still.primary):
        for kind, payload, _ in still.items[number].properties:
            if kind == b"colr" and payload[:4] == b"nclx" and len(payload) >= 11:
                return int.from_bytes(payload[4:6], "big"), int.from_bytes(payload[6:8], "big")
    return _SRGB


def _coding(item: Item) -> Iterator[Property]:
    return (p for p in item.properties if p.kind == b"colr" and p.payload[:4] == b"nclx")


def _without_coding(item: Item) -> tuple[Property, ...]:
    coding = set(_coding(item))
    return tuple(p for p in item.properties if p not in coding)


def _is_profile(item: Property) -> bool:
    return item.kind == b"colr" and item.payload[:4] != b"nclx"


def _is_alpha(item: Item) -> bool:
    payload = item.find(b"auxC")
    return payload is not None and payload[4:].startswith(_ALPHA)


def _exif(item: Item) -> tuple[bytes, bytes]:
    """What comes before the TIFF block, and the block (23008-12, A.2.1)."""
    start = 4 + int.from_bytes(item.data[:4], "big")
    return item.data[:start], item.data[start:]


def _thumbnails(still: Still) -> Iterator[int]:
    found = (
        r.source
        for r in still.references
        if r.kind == b"thmb" and still.primary in r.targets and r.source in still.items
    )
    return iter(dict.fromkeys(found))


def _remade(item: Item, coder: Coder, budget: MetadataBudget) -> bool:
    depth, sampling = coder.traits(item.find(coder.config) or b"")
    known = item.kind in (b"hvc1", b"av01") and item.find(b"ispe") is not None and item.find(b"clap") is None
    return known and depth == 8 and bool(sampling) and budget.preview(*size_of(item, name="thumbnail"))
