"""The bytes of an ONNX file before they are parsed: a parser makes an object of every two bytes of a crafted one."""

from __future__ import annotations

from typing import Any

__all__ = ["check_wire"]

_MAX_FIELDS = 200_000
"""Fields of a file; 5,000 operators have some 20 each, and tensors keep their data in one."""
_MAX_PACKED = 16 << 20
"""Bytes of whole numbers written one by one, each of which becomes eight; networks keep shapes so."""
_MAX_DEPTH = 64
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


def check_wire(data: bytes, descriptor: Any) -> None:
    """Walk the fields of a message and of those inside it, as its protobuf `descriptor` names them.

    Raises ValueError for what is no such message, and for more fields, numbers or levels than a network has.
    """
    view = memoryview(data)
    fields = packed = 0
    waiting = [(0, len(data), descriptor, 0)]
    while waiting:
        at, end, kind, depth = waiting.pop()
        while at < end:
            fields += 1
            if fields > _MAX_FIELDS:
                raise ValueError(f"it has more than {_MAX_FIELDS:,} fields")
            tag, at = _varint(view, at, end)
            wire = tag & 7
            if wire == _VARINT:
                _, at = _varint(view, at, end)
            elif wire in (_FIXED32, _FIXED64):
                at += 4 if wire == _FIXED32 else 8
            elif wire == _LENGTH:
                size, at = _varint(view, at, end)
                if size > end - at:
                    raise ValueError("a field runs past the end")
                field = kind.fields_by_number.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    if depth == _MAX_DEPTH:
                        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
                    waiting.append((at, at + size, field.message_type, depth + 1))
                elif field is not None and field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
                    packed += size
                    if packed > _MAX_PACKED:
                        raise ValueError(f"it has more than {_MAX_PACKED >> 20} MB of whole numbers written one by one")
                at += size
            else:
                raise ValueError(f"a field is of the unknown kind {wire}")
        if at > end:
            raise ValueError("a field runs past the end")


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it and where it ends."""
    found = shift = 0
    for byte in view[at : min(end, at + _LONGEST_VARINT)]:
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
    raise ValueError("a number is cut short")
