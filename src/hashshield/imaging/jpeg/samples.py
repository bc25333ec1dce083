"""A JPEG's own samples, out of a file and into one; Pillow's coder does both, and is shown sizes of its liking."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import chain

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from hashshield.arrays import Pixels
from hashshield.imaging.decode import decode, from_array, to_array
from hashshield.imaging.jpeg import markers, sampling
from hashshield.imaging.jpeg.markers import JpegHeader, Segment
from hashshield.imaging.jpeg.sampling import BLOCK, LARGEST_SIDE, Ratio, SamplingLayout

__all__ = ["decode_samples", "encode_samples", "is_decoded"]

_BASELINE_STEP = 255
"""The largest quantisation step of a baseline file."""


def is_decoded(item: Segment) -> bool:
    """Tell which segments a decoder gets to see: all it needs, and the two that decide the colours."""
    return item.marker in (0xE0, 0xEE) or not markers.is_metadata(item.marker)


def decode_samples(header: JpegHeader, layout: SamplingLayout, *, name: str) -> list[Pixels]:
    """Return the samples of each component as coded, shaped as the layout wants them.

    Blocks at the right and bottom edge hold samples that are never shown but take part in the transform. A frame header
    that claims a larger picture shows them. Raises BrokenPhotoError.
    """
    components = range(len(layout.factors))
    whole = _enlarged(layout, layout.most)
    if len(_readable(header, layout, whole)) == len(header.segments):
        wanted = {whole: list(components)}
    else:
        # A scan of one component ends with its last block, not with a whole MCU, so no one size shows all there is.
        wanted = {}
        for index in components:
            wanted.setdefault(_enlarged(layout, layout.ratios[index]), []).append(index)
    planes: dict[int, Pixels] = {}
    for size, indices in wanted.items():
        shown = [
            _resized(s, *size) if s.marker in markers.SOF else s
            for s in _readable(header, layout, size)
            if is_decoded(s)
        ]
        image = decode(JpegImageFile, markers.join(shown), name=name, ycc=header.colour == "ycc")
        # One at a time, because each is as large as the photo.
        for index in indices:
            full = to_array(image.getchannel(index))[..., 0]
            planes[index] = sampling.fit_plane(
                sampling.recover_samples(full, layout.ratios[index]), layout.shapes[index]
            )
    return [planes[index] for index in components]


def _enlarged(layout: SamplingLayout, unit: Ratio) -> tuple[int, int]:
    """Return width and height in whole blocks of a component with this many pixels per sample."""
    across, down = (
        min(-(-side // (BLOCK * step)) * BLOCK * step, LARGEST_SIDE)
        for side, step in zip((layout.width, layout.height), unit, strict=True)
    )
    return across, down


def _readable(header: JpegHeader, layout: SamplingLayout, size: tuple[int, int]) -> list[Segment]:
    """Leave out scans with fewer blocks than a picture of this size would have of their only component."""

    def blocks(width: int, height: int, ratio: Ratio) -> tuple[int, int]:
        return -(-width // (BLOCK * ratio[0])), -(-height // (BLOCK * ratio[1]))

    kept = []
    for item in header.segments:
        if item.marker == markers.SOS and item.payload[0] == 1:
            ratio = layout.ratios[header.ids.index(item.payload[1])]
            if blocks(*size, ratio) != blocks(layout.width, layout.height, ratio):
                continue
        kept.append(item)
    return kept


def _resized(frame: Segment, width: int, height: int) -> Segment:
    body = bytearray(frame.payload)
    body[1:5] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return markers.segment(frame.marker, bytes(body))


def encode_samples(
    planes: list[Pixels], header: JpegHeader, layout: SamplingLayout, *, plain: bool = False
) -> list[Segment]:
    """Code samples with the source's tables, scan kind and restart interval; return all segments but metadata.

    `plain` codes the same coefficients in less time and more bytes.
    """
    coarse = max(map(max, header.tables)) > _BASELINE_STEP
    # A sequential file with such steps cannot be baseline, of which libjpeg complains on the process's standard error
    # each time. A progressive one may have them, and is read more widely than a sequential one of that kind.
    progressive = header.progressive or coarse
    code = _code_together if layout.disguise else _code_apart
    if plain and not coarse:
        return code(planes, header, layout)
    # Standard tables take no less than optimised ones, and coding with them takes little time.
    if code is _code_together and (coarse or _size(code(planes, header, layout)) > 0.9 * _room(layout)):
        apart = _code_apart(planes, header, layout, optimize=True, progressive=progressive)
        # In one go, two components share the tables that fit each of them here.
        if _size(apart) > 0.95 * _room(layout):
            return apart if progressive else code(planes, header, layout)
    return code(planes, header, layout, optimize=True, progressive=progressive)


def _size(coded: list[Segment]) -> int:
    return sum(len(s.data) for s in coded)


def _room(layout: SamplingLayout) -> int:
    """Return the bytes that Pillow allows an optimising encoder, which fails loudly when it needs more.

    That is two per pixel, for three components or for one. Noise at the finest tables takes three for three components,
    and never as many as two for one. Standard tables have no limit.
    """
    height, width = layout.shapes[0]
    return max(2 * width * height, 1 << 16)


def _code_together(
    planes: list[Pixels],
    header: JpegHeader,
    layout: SamplingLayout,
    *,
    progressive: bool = False,
    optimize: bool = False,
) -> list[Segment]:
    planes = [sampling.fit_plane(plane, shape) for plane, shape in zip(planes, layout.shapes, strict=True)]
    bands = [from_array(plane, "L") for plane in sampling.arrange_planes(planes, layout)]
    # To the encoder any three components are YCbCr, of which it converts nothing.
    image = Image.merge("YCbCr", bands) if len(bands) == 3 else bands[0]
    del bands
    # Components that share a table must share it here too, or the encoder would write it several times.
    tables = list(header.tables)
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables.pop()
    start, frame, scans = _save(
        image, tables, header, subsampling=layout.pillow, progressive=progressive, optimize=optimize
    )
    del image
    scans = [_named(scan, header.ids) for scan in scans]
    if progressive and (layout.disguise != layout.factors[0] or layout.shapes[0] != layout.blocks[0]):
        # Scans of one component hold its own blocks and not those of whole MCUs. Chroma has the same either way.
        luma = sampling.fit_plane(planes[0], layout.blocks[0])
        _, _, alone = _save(from_array(luma, "L"), tables[:1], header, progressive=True, optimize=True)
        own = iter([_named(scan, header.ids) for scan in alone if scan[-1].payload[3]])
        scans = [next(own) if scan[-1].payload[:2] == bytes([1, header.ids[0]]) else scan for scan in scans]
    return [*start, _announced(frame.marker, header, layout, frame.payload[8::3]), *chain(*scans)]


def _code_apart(
    planes: list[Pixels],
    header: JpegHeader,
    layout: SamplingLayout,
    *,
    progressive: bool = False,
    optimize: bool = False,
) -> list[Segment]:
    """Code each component as a grey picture, and put their scans under one frame header.

    A scan of one component holds its blocks row by row, whatever its sampling factors (T.81, A.2.2): those of a grey
    picture of the component's size.
    """
    slots = bytes(header.tables.index(table) for table in header.tables)
    starts, markers_seen, parts = dict[int, Segment](), set[int](), list[list[list[Segment]]]()
    for plane, shape, identity, slot in zip(planes, layout.blocks, header.ids, slots, strict=True):
        image = from_array(sampling.fit_plane(plane, shape), "L")
        start, frame, scans = _save(image, [header.tables[slot]], header, progressive=progressive, optimize=optimize)
        table = start[0].payload
        starts[slot] = markers.segment(markers.DQT, bytes([table[0] & 0xF0 | slot]) + table[1:])
        markers_seen.add(frame.marker)
        parts.append([_named(scan, (identity,)) for scan in scans])
    (marker,) = markers_seen
    # Scan by scan, so that a progressive picture has its colours from the first moment.
    return [
        *starts.values(),
        _announced(marker, header, layout, slots),
        *chain(*chain(*zip(*parts, strict=True))),
    ]


def _save(
    image: Image.Image, tables: Sequence[Sequence[int]], header: JpegHeader, **options: object
) -> tuple[list[Segment], Segment, list[list[Segment]]]:
    """Return what precedes the frame header, the frame header, and each scan after the tables it brings along."""
    out = BytesIO()
    image.save(out, "JPEG", qtables=[list(t) for t in tables], restart_marker_blocks=header.restart, **options)
    coded, _ = markers.walk(out.getvalue(), name="the coded picture")
    coded = [s for s in coded if not markers.is_metadata(s.marker)]
    first = next(i for i, s in enumerate(coded) if s.marker in markers.SOF)
    scans: list[list[Segment]] = [[]]
    for item in coded[first + 1 :]:
        scans[-1].append(item)
        if item.marker == markers.SOS:
            scans.append([])
    return coded[:first], coded[first], scans[:-1]


def _announced(marker: int, header: JpegHeader, layout: SamplingLayout, slots: bytes) -> Segment:
    """Build the frame header."""
    body = bytes([8]) + layout.height.to_bytes(2, "big") + layout.width.to_bytes(2, "big") + bytes([len(slots)])
    for identity, (across, down), slot in zip(header.ids, layout.factors, slots, strict=True):
        body += bytes([identity, across << 4 | down, slot])
    return markers.segment(marker, body)


def _named(scan: list[Segment], ids: Sequence[int]) -> list[Segment]:
    """Give the components of a scan, which the encoder calls 1, 2, 3, the source's names."""
    start = scan[-1]
    payload = bytearray(start.payload)
    for at in range(1, 1 + 2 * payload[0], 2):
        payload[at] = ids[payload[at] - 1]
    named = markers.segment(start.marker, bytes(payload))
    return [*scan[:-1], Segment(start.marker, named.data + start.scan, named.body)]
