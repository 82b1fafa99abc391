"""Flatbuffers and TFLite files made by hand: laid out right, all else is what the test says.

A table is a :class:`Table` of its fields by their numbers, a field a number (``int32(5)``), text,
a :class:`Vector` of numbers, another table or a list of tables.  What is the same object lies in
the file once, however often it is named.
"""

from __future__ import annotations

import struct

FORMATS = {"b": "int8", "B": "uint8", "H": "uint16", "i": "int32", "I": "uint32", "q": "int64"}


class Number:
    """A number that is a field of its own."""

    def __init__(self, kind, value):
        self.data = struct.pack(f"<{kind}", value)


class Vector:
    """Numbers, or raw bytes; ``count`` is what the file says of how many there are."""

    def __init__(self, kind, values, count=None):
        values = list(values) if kind != "raw" else values
        self.data = values if kind == "raw" else struct.pack(f"<{len(values)}{kind}", *values)
        self.count = len(values) if count is None else count


class Table:
    """Fields by number; None is left out."""

    def __init__(self, fields):
        self.fields = {slot: field(value) for slot, value in fields.items() if value is not None}


class Tables:
    """A vector of tables."""

    def __init__(self, tables, count=None):
        self.tables = tables
        self.count = len(tables) if count is None else count


def field(value):
    if isinstance(value, str):
        return Vector("raw", value.encode() + b"\0", len(value.encode()))
    if isinstance(value, bytes):
        return Vector("raw", value)
    return Tables(value) if isinstance(value, list) else value


def int8(value):
    return Number("b", value)


def uint8(value):
    return Number("B", value)


def int32(value):
    return Number("i", value)


def uint32(value):
    return Number("I", value)


def uint64(value):
    return Number("Q", value)


def int32s(*values):
    return Vector("i", values)


# ---- layout --------------------------------------------------------------------------------------


def _children(part):
    if isinstance(part, Table):
        return [one for one in part.fields.values() if not isinstance(one, Number)]
    return part.tables if isinstance(part, Tables) else []


def _in_order(root):
    """Every part before those that it names: distances only lead forwards."""
    found, done, stack = [], set(), [(root, False)]
    while stack:
        part, is_left = stack.pop()
        if is_left:
            found.append(part)
        elif id(part) not in done:
            done.add(id(part))
            stack.append((part, True))
            stack.extend((child, False) for child in _children(part))
    return found[::-1]


def _size(part):
    """Bytes, and where the part itself begins in them: a table has its vtable before it."""
    if isinstance(part, Table):
        vtable = 4 + 2 * (max(part.fields, default=-1) + 1)
        vtable += -vtable % 8 + 4
        inner = sum(_field_size(one) for one in part.fields.values())
        return vtable + 4 + inner, vtable
    if isinstance(part, Tables):
        return 4 + 4 * len(part.tables), 0
    return 4 + len(part.data), 0


def _field_size(value):
    return len(value.data) if isinstance(value, Number) else 4


def flatbuffer(root, identifier=b"TFL3", *, changes=()):
    """The file; ``changes`` are (part, slot, value): distances that lie, after the layout."""
    order, places, end = _in_order(root), {}, 8
    for part in order:
        size, start = _size(part)
        end += -end % 8
        places[id(part)] = end + start
        end += size
    data = bytearray(end + -end % 8)
    struct.pack_into("<I4s", data, 0, places[id(root)], identifier)
    lies = {(id(part), slot): value for part, slot, value in changes}
    for part in order:
        _write(data, part, places, lies)
    return bytes(data)


def _write(data, part, places, lies):
    at = places[id(part)]
    if isinstance(part, Table):
        _write_table(data, part, at, places, lies)
        return
    struct.pack_into("<I", data, at, part.count)
    if isinstance(part, Vector):
        data[at + 4 : at + 4 + len(part.data)] = part.data
        return
    for number, table in enumerate(part.tables):
        here = at + 4 + 4 * number
        struct.pack_into("<I", data, here, places[id(table)] - here)


def _write_table(data, part, at, places, lies):
    slots = max(part.fields, default=-1) + 1
    vtable, place = at - _size(part)[1], 4
    struct.pack_into("<i", data, at, at - vtable)
    inner = 4 + sum(_field_size(one) for one in part.fields.values())
    struct.pack_into("<HH", data, vtable, 4 + 2 * slots, inner)
    for slot, value in part.fields.items():
        struct.pack_into("<H", data, vtable + 4 + 2 * slot, place)
        here = at + place
        if isinstance(value, Number):
            data[here : here + len(value.data)] = value.data
        else:
            distance = lies.get((id(part), slot), places[id(value)] - here)
            struct.pack_into("<I", data, here, distance % 2**32)
        place += _field_size(value)


# ---- TFLite --------------------------------------------------------------------------------------

FLOAT32, FLOAT16, INT32, UINT8, INT64, STRING, BOOL = range(7)
INT8, INT4, RESOURCE = 9, 17, 13
ADD, NEG, DEQUANTIZE = 0, 59, 6


def tensor(name, shape=(2,), kind=FLOAT32, buffer=0, **more):
    """``more``: ``quantization``, ``sparsity``, ``signature`` (the shape with sizes left open)."""
    fields = {0: int32s(*shape), 1: int8(kind), 2: uint32(buffer), 3: name}
    fields |= {4: more.get("quantization"), 6: more.get("sparsity"), 7: more.get("signature")}
    return Table(fields)


def buffer(data=None):
    return Table({} if data is None else {0: data})


def quantization(scales=(0.5,), zeros=(0,), axis=0):
    return Table({2: Vector("f", scales), 3: Vector("q", zeros), 6: int32(axis)})


def operator(code, inputs, outputs, options=None):
    return Table({0: uint32(code), 1: int32s(*inputs), 2: int32s(*outputs), 4: options})


def subgraph(tensors, inputs, outputs, operators, name="main"):
    parts = {0: tensors, 1: int32s(*inputs), 2: int32s(*outputs), 3: operators, 4: name}
    return Table(parts)


def signature(inputs, outputs, key="serving_default", number=0):
    """Inputs and outputs: tensors' numbers by name."""
    ends = [
        [Table({0: name, 1: uint32(index)}) for name, index in part.items()]
        for part in (inputs, outputs)
    ]
    return Table({0: ends[0], 1: ends[1], 2: key, 4: uint32(number)})


def model(subgraphs, buffers=(), codes=(NEG, ADD), signatures=None):
    codes = [Table({0: int8(min(code, 127)), 3: int32(code)}) for code in codes]
    buffers = [buffer(), *buffers]
    return Table({0: uint32(3), 1: codes, 2: subgraphs, 4: buffers, 7: signatures})
