"""HDF5's structures: what objects a file has, how they are linked, and their attributes.

The format: "HDF5 File Format Specification Version 3.0", The HDF Group; numbers of sections stand
beside the functions.  Read is what HDF5 up to 1.14 writes by default, and the groups and attributes
of its newer forms, except what leads out of the file.

Files are not trusted.  Whatever is read is paid for out of one budget, a few times the file's size:
structures that share their parts, or lead in circles, end there.  Ready-made readers have no such
limit: HDF5's own library crashes on damaged files, and pyfive 1.3 copies an object's header anew
for each of its continuations, half a minute for a file of a megabyte.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.mapped import MappedFile

MAGIC = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1
"""The address of what is not there."""
BUDGET = 12
"""Times the file's size: the dearest sound files, of hard links alone, take half of it."""
OBJECT = 64
"""What each thing that is kept costs, beside the bytes that are read: Python's own, roughly."""
MOST_DIMENSIONS = 32
"""HDF5's own limit."""

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT = 1, 2, 3, 6, 7, 8
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 11, 12, 16, 17, 21
KINDS = {
    DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL_FILES, LAYOUT,
    FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO,
}  # fmt: skip
"""Messages of an object's header that are looked at."""


class Message(NamedTuple):
    """A part of an object's header: what kind of it, and where its content is."""

    kind: int
    shared: bool
    offset: int
    size: int


class Type(NamedTuple):
    """An element's type."""

    name: str
    """TensorFlow's, where it has one; ``string`` for those of one length, ``text`` for others."""
    size: int
    """Bytes that an element takes where it is stored."""
    big_endian: bool = False


class Cursor:
    """Goes through some bytes of the file; what is missing at their end is an error."""

    def __init__(self, structures: Structures, offset: int, size: int, place: str) -> None:
        self._structures, self._place = structures, place
        self._data, self.position = structures.read(offset, size, place), 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        part = self._data[self.position : self.position + size]
        if size < 0 or len(part) != size:
            raise self._structures.error(self._place, "a structure that ends too early")
        self.position += size
        return part

    def number(self, size: int) -> int:
        """The next bytes as an unsigned number."""
        return int.from_bytes(self.take(size), "little")

    def expect(self, signature: bytes) -> None:
        """The next bytes must be these."""
        if self.take(len(signature)) != signature:
            raise self._structures.error(
                self._place, f"damaged: no {signature!r} where it should be"
            )

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self.position


class Structures:
    """Everything in a file but the numbers."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self._left = BUDGET * file.size + 2**16
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}

    def error(self, place: str, reason: str) -> CheckpointError:
        """To be raised."""
        return CheckpointError(self.file.path, place, reason)

    def spend(self, work: int, place: str) -> None:
        """Out of the budget."""
        self._left -= work
        if self._left < 0:
            raise self.error(
                place, "its structures lead in circles, or share their parts; no writer does that"
            )

    def read(self, offset: int, size: int, place: str) -> bytes:
        """Some bytes of the file."""
        view = self.file.view(offset, size, place)
        self.spend(size + 8, place)
        return bytes(view)

    def root(self) -> int:
        """The address of the root group; II.A, the superblock."""
        place = "superblock"
        if self.file.size < 48 or self.read(0, 8, place) != MAGIC:
            raise self.error("", "no HDF5 file, or cut short")
        version = self.read(8, 1, place)[0]
        sizes = 13 if version < 2 else 9
        if version > 3 or self.read(sizes, 2, place) != b"\x08\x08":
            raise self.error(place, f"version {version}, or addresses of other than 8 bytes")
        first = {0: 24, 1: 28}.get(version, 12)
        cursor = Cursor(self, first, 32, place)
        base, _, end = cursor.number(8), cursor.number(8), cursor.number(8)
        if base:
            raise self.error(place, f"a user block, or damaged: addresses count from {base}")
        if end > self.file.size:
            raise self.error("", f"cut short: {self.file.size} of {end} bytes are there")
        if version >= 2:
            return cursor.number(8)
        return Cursor(self, first + 32 + 8, 8, place).number(8)  # of the root's symbol table entry

    # ---- IV.A, object headers ------------------------------------------------------------------

    def messages(self, address: int, place: str) -> list[Message]:
        """An object's header."""
        if self.read(address, 1, place) == b"O":
            return list(self._messages_v2(address, place))
        return list(self._messages_v1(address, place))

    def _messages_v1(self, address: int, place: str) -> Iterator[Message]:
        head = Cursor(self, address, 16, place)
        head.expect(b"\1")
        head.take(1)
        count, _, size = head.number(2), head.take(4), head.number(4)
        parts, seen = deque([(address + 16, size)]), {address + 16}
        while parts and count:
            start, size = parts.popleft()
            cursor = Cursor(self, start, size, place)
            while count and cursor.left >= 8:
                kind, length, flags = cursor.number(2), cursor.number(2), cursor.number(1)
                cursor.take(3)
                message = Message(kind, bool(flags & 2), start + cursor.position, length)
                content = cursor.take(length)
                count -= 1
                if kind == CONTINUATION:
                    parts.append(self._next_part(content, seen, place))
                elif kind in KINDS:
                    self.spend(OBJECT, place)
                    yield message

    def _messages_v2(self, address: int, place: str) -> Iterator[Message]:
        head = Cursor(self, address, min(64, self.file.size - address), place)
        head.expect(b"OHDR\2")
        flags = head.number(1)
        head.take((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))  # times, limits
        size = head.number(1 << (flags & 3))
        parts, seen = deque([(address + head.position, size)]), {address + head.position}
        while parts:
            start, size = parts.popleft()
            if start != address + head.position:
                Cursor(self, start, 4, place).expect(b"OCHK")
                start, size = start + 4, size - 8  # a checksum ends it
            cursor = Cursor(self, start, size, place)
            while cursor.left >= (6 if flags & 4 else 4):
                kind, length, shared = cursor.number(1), cursor.number(2), cursor.number(1) & 2
                cursor.take(2 if flags & 4 else 0)
                message = Message(kind, bool(shared), start + cursor.position, length)
                content = cursor.take(length)
                if kind == CONTINUATION:
                    parts.append(self._next_part(content, seen, place))
                elif kind in KINDS:
                    self.spend(OBJECT, place)
                    yield message

    def _next_part(self, content: bytes, seen: set[int], place: str) -> tuple[int, int]:
        """Where a header goes on."""
        start, size = int.from_bytes(content[:8], "little"), int.from_bytes(content[8:16], "little")
        if start in seen or len(content) < 16:
            raise self.error(place, "damaged: a header that goes on within itself")
        seen.add(start)
        return start, size

    def content(self, message: Message, place: str) -> Cursor:
        """A message's."""
        if message.shared:
            raise self.error(place, "a description that several objects share; none is read")
        return Cursor(self, message.offset, message.size, place)

    # ---- IV.A.2.g, IV.A.2.s: links -------------------------------------------------------------

    def links(self, messages: list[Message], place: str) -> list[tuple[str, int]]:
        """(name, address) of a group's members, in its order: as created, or by name."""
        found: list[tuple[int, str, int]] = []
        for message in messages:
            if message.kind == SYMBOL_TABLE:
                cursor = self.content(message, place)
                found += self._old_links(cursor.number(8), cursor.number(8), place)
            elif message.kind == LINK:
                found.append(self._link(self.content(message, place), place))
            elif message.kind == LINK_INFO:
                heap, tree = self._dense(message, 8, place)
                if heap != UNDEFINED:
                    found += self._dense_links(heap, tree, place)
        return [(name, address) for _, name, address in sorted(found)]

    def _old_links(self, tree: int, heap: int, place: str) -> Iterator[tuple[int, str, int]]:
        """III.B to III.D: a tree of tables, whose names are in a heap."""
        head = Cursor(self, heap, 32, place)
        head.expect(b"HEAP\0")
        head.take(3)
        size, _, start = head.number(8), head.take(8), head.number(8)
        names = self.read(start, size, place)
        for _, table in self.tree(tree, 0, 8, place):
            count = Cursor(self, table, 8, place)
            count.expect(b"SNOD\1\0")
            entries = Cursor(self, table + 8, 40 * count.number(2), place)
            while entries.left:
                at, address, kind = entries.number(8), entries.number(8), entries.number(4)
                entries.take(20)
                name = self._name(names[at : max(at, names.find(b"\0", at))], place)
                if kind == 2:
                    raise self.error(_path(place, name), "a soft link; links are not followed")
                yield 0, name, address

    def _link(self, cursor: Cursor, place: str) -> tuple[int, str, int]:
        """(order, name, address) of a link message."""
        cursor.expect(b"\1")
        flags = cursor.number(1)
        kind = cursor.number(1) if flags & 8 else 0
        order = cursor.number(8) if flags & 4 else 0
        cursor.take(1 if flags & 16 else 0)
        name = self._name(cursor.take(cursor.number(1 << (flags & 3))), place)
        if kind:
            words = {1: "a soft link", 64: "an external link"}.get(kind, f"a link of kind {kind}")
            raise self.error(_path(place, name), f"{words}; links are not followed")
        return order, name, cursor.number(8)

    def _dense_links(self, heap: int, tree: int, place: str) -> Iterator[tuple[int, str, int]]:
        fractal = FractalHeap(self, heap, place)
        for record in self.new_tree(tree, 5, 11, place):
            yield self._link(fractal.get(record[4:]), place)

    def _dense(self, message: Message, counter: int, place: str) -> tuple[int, int]:
        """(heap, tree) of an info message, after its largest number of ``counter`` bytes."""
        cursor = self.content(message, place)
        cursor.expect(b"\0")
        cursor.take(counter if cursor.number(1) & 1 else 0)
        return cursor.number(8), cursor.number(8)

    def _name(self, raw: bytes, place: str) -> str:
        self.spend(len(raw) + OBJECT, place)
        try:
            name = raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(place, f"a name that is no UTF-8 text: {raw[:80]!r}") from error
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise self.error(place, f"damaged: an object named {name!r:.80}")
        return name

    # ---- III.A, trees --------------------------------------------------------------------------

    def tree(
        self, address: int, kind: int, key_size: int, place: str
    ) -> Iterator[tuple[bytes, int]]:
        """(key, address) of all leaves' entries; III.A.1, version 1."""
        waiting: list[tuple[int, int | None]] = [(address, None)]
        while waiting:
            address, expected = waiting.pop()
            head = Cursor(self, address, 24, place)
            head.expect(b"TREE" + bytes([kind]))
            level, count = head.number(1), head.number(2)
            if expected is not None and level != expected:
                raise self.error(place, f"damaged: a tree's level {level} where {expected} is due")
            entries = Cursor(self, address + 24, count * (key_size + 8), place)
            self.spend(count * OBJECT, place)
            found = [(entries.take(key_size), entries.number(8)) for _ in range(count)]
            if level:
                waiting += [(child, level - 1) for _, child in reversed(found)]
            else:
                yield from found

    def new_tree(self, address: int, kind: int, record_size: int, place: str) -> Iterator[bytes]:
        """All records; III.A.2, version 2."""
        head = Cursor(self, address, 34, place)
        head.expect(b"BTHD\0" + bytes([kind]))
        node_size, size, depth = head.number(4), head.number(2), head.number(2)
        head.take(2)
        waiting = [(head.number(8), head.number(2), depth)]
        if size < record_size or depth > 16:
            raise self.error(place, f"damaged: a tree of depth {depth}, records of {size} bytes")
        counts = _bytes_of_counts(node_size, size, depth)
        while waiting:
            address, count, level = waiting.pop()
            if not count and not level:
                continue
            pointers = 8 + sum(counts[level]) if level else 0
            node = Cursor(self, address, 6 + count * size + (count + 1) * pointers, place)
            node.expect((b"BTIN\0" if level else b"BTLF\0") + bytes([kind]))
            yield from [node.take(size) for _ in range(count)]
            while level and node.left:
                child, own = node.number(8), node.number(counts[level][0])
                node.take(counts[level][1])
                waiting.append((child, own, level - 1))

    # ---- IV.A.2.m, attributes ------------------------------------------------------------------

    def attributes(self, messages: list[Message], place: str) -> dict[str, Any]:
        """Their values: bytes, numbers or lists of them.  Other types are left out."""
        found = {}
        for message in messages:
            if message.kind == ATTRIBUTE and not message.shared:
                name, value = self._attribute(self.content(message, place), place)
                found[name] = value
            elif message.kind == ATTRIBUTE_INFO:
                heap, tree = self._dense(message, 2, place)
                for name, value in self._dense_attributes(heap, tree, place):
                    found[name] = value
        return {name: value for name, value in found.items() if value is not None}

    def _dense_attributes(self, heap: int, tree: int, place: str) -> Iterator[tuple[str, Any]]:
        if heap == UNDEFINED:
            return
        fractal = FractalHeap(self, heap, place)
        for record in self.new_tree(tree, 8, 17, place):
            if not record[8] & 2:  # it is shared
                yield self._attribute(fractal.get(record[:8]), place)

    def _attribute(self, cursor: Cursor, place: str) -> tuple[str, Any]:
        version, flags = cursor.number(1), cursor.number(1)
        if version not in (1, 2, 3):
            raise self.error(place, f"damaged: an attribute of version {version}")
        sizes = [cursor.number(2) for _ in range(3)]
        cursor.take(1 if version == 3 else 0)
        name, type, space = (
            cursor.take(-(-size // 8) * 8 if version == 1 else size)[:size] for size in sizes
        )
        text = self._name(name.rstrip(b"\0").replace(b"/", b"_"), place)
        place = f"{place or 'the root'}, attribute {text}"
        kind, shape = datatype(type), self.dataspace(space, place)
        if flags & 3 or shape is None:
            return text, None
        return text, self._values(cursor, kind, shape, place)

    def _values(self, cursor: Cursor, kind: Type, shape: tuple[int, ...], place: str) -> Any:
        count = prod(shape)
        if not kind.size:
            return None
        if count * kind.size > cursor.left:
            raise self.error(place, f"{shape} elements are more than there are")
        raw = cursor.take(count * kind.size)
        parts = [raw[at : at + kind.size] for at in range(0, len(raw), kind.size)]
        values: list[Any]
        if kind.name == "text":
            values = [self.text(part, place) for part in parts]
        elif kind.name == "string":
            values = [part.rstrip(b"\0") for part in parts]
        elif kind.name.startswith(("int", "uint")):
            order, signed = "big" if kind.big_endian else "little", kind.name[0] == "i"
            values = [int.from_bytes(part, order, signed=signed) for part in parts]  # type: ignore[arg-type]
        elif kind.name in FLOAT_CODES:
            order = ">" if kind.big_endian else "<"
            values = list(struct.unpack(f"{order}{count}{FLOAT_CODES[kind.name]}", raw))
        else:
            return None
        return values if shape else values[0]

    def text(self, reference: bytes, place: str) -> bytes:
        """A string of any length, from the 16 bytes that say where it is; III.E, global heap."""
        length = int.from_bytes(reference[:4], "little")
        heap = int.from_bytes(reference[4:12], "little")
        index = int.from_bytes(reference[12:16], "little")
        if not index or heap in (0, UNDEFINED):
            return b""
        if heap not in self._heaps:
            self._heaps[heap] = self._global_heap(heap, place)
        offset, size = self._heaps[heap].get(index, (0, -1))
        if length > size:
            raise self.error(place, "damaged: a string is not where it should be")
        return self.read(offset, length, place)

    def _global_heap(self, address: int, place: str) -> dict[int, tuple[int, int]]:
        """(offset, size) of its objects."""
        head = Cursor(self, address, 16, place)
        head.expect(b"GCOL\1")
        head.take(3)
        end = address + head.number(8)
        if end > self.file.size:
            raise self.error(place, "damaged: a heap of strings that ends behind the file")
        found, at = {}, address + 16
        while at + 16 <= end:
            entry = Cursor(self, at, 16, place)
            index, _, size = entry.number(2), entry.take(6), entry.number(8)
            if index == 0 or at + 16 + size > end:
                break
            self.spend(OBJECT, place)
            found[index] = at + 16, size
            at += 16 + -(-size // 8) * 8
        return found

    def dataspace(self, data: bytes, place: str) -> tuple[int, ...] | None:
        """A shape, None where there are no elements at all; IV.A.2.b."""
        if len(data) < 4 or data[0] not in (1, 2) or data[1] > MOST_DIMENSIONS:
            raise self.error(place, "damaged: no shape")
        if data[0] == 2 and data[3] == 2:
            return None
        start = 8 if data[0] == 1 else 4
        if len(data) < start + 8 * data[1]:
            raise self.error(place, "damaged: a shape that ends too early")
        sizes = (data[start + 8 * axis : start + 8 * axis + 8] for axis in range(data[1]))
        return tuple(int.from_bytes(size, "little") for size in sizes)


class FractalHeap:
    """Where new groups keep their links, and objects their attributes; III.G.

    Its objects lie in blocks, which are found through a table: rows of ``width`` blocks each, of
    twice the size from the third row on.  Large blocks are tables of smaller ones again.
    """

    def __init__(self, structures: Structures, address: int, place: str) -> None:
        self._structures, self._place = structures, place
        head = Cursor(structures, address, 142, place)
        head.expect(b"FRHP\0")
        head.take(2)
        filters, _, most = head.number(2), head.take(1), head.number(4)
        head.take(8)
        self._huge = head.number(8)
        head.take(80)
        self._width, self._first, self._largest = head.number(2), head.number(8), head.number(8)
        bits, _ = head.number(2), head.take(2)
        self._root, self._rows = head.number(8), head.number(2)
        powers = (self._width, self._first, self._largest)
        if filters or bits > 64 or any(size < 1 or size & size - 1 for size in powers):
            raise structures.error(place, "damaged: a heap of impossible sizes")
        self._offset_size = -(-bits // 8)
        self._length_size = min(-(-_log2(self._largest) // 8), _bytes_for(most))

    def get(self, id: bytes) -> Cursor:
        """The object of this identifier."""
        kind = id[0] >> 4
        if kind == 0:
            offset = int.from_bytes(id[1 : 1 + self._offset_size], "little")
            rest = id[1 + self._offset_size :]
            size = int.from_bytes(rest[: self._length_size], "little")
            address = self._find(offset, size)
        elif kind == 1:
            address, size = self._find_huge(int.from_bytes(id[1:], "little"))
        else:
            raise self._structures.error(self._place, "damaged: no such object in a heap")
        return Cursor(self._structures, address, size, self._place)

    def _find(self, offset: int, size: int) -> int:
        """The address in the file."""
        block, extent, rows = self._root, self._first, self._rows
        direct_rows = _log2(self._largest) - _log2(self._first) + 2
        while rows:
            row = (offset // (self._width * self._first)).bit_length()
            extent = self._first << max(0, row - 1)
            before = self._width * self._first << row - 1 if row else 0
            column, offset = divmod(offset - before, extent)
            if row >= rows:
                raise self._structures.error(self._place, "damaged: an object outside of its heap")
            entry = block + 13 + self._offset_size + 8 * (row * self._width + column)
            self._expect(block, b"FHIB\0")
            block = Cursor(self._structures, entry, 8, self._place).number(8)
            within = _log2(extent) - _log2(self._width * self._first) + 1
            if row < direct_rows:
                break
            if within >= rows or within < 1:
                raise self._structures.error(self._place, "damaged: a heap within itself")
            rows = within
        self._expect(block, b"FHDB\0")
        if offset + size > extent:
            raise self._structures.error(self._place, "damaged: an object outside of its heap")
        return block + offset

    def _find_huge(self, key: int) -> tuple[int, int]:
        """(address, size) of an object that has no room in a block."""
        for record in self._structures.new_tree(self._huge, 1, 24, self._place):
            address, size, own = (
                int.from_bytes(record[at : at + 8], "little") for at in (0, 8, 16)
            )
            if own == key:
                return address, size
        raise self._structures.error(self._place, "damaged: an object that is not in its heap")

    def _expect(self, address: int, signature: bytes) -> None:
        Cursor(self._structures, address, len(signature), self._place).expect(signature)


# ---- IV.A.2.d, types -----------------------------------------------------------------------------

FLOATS = {
    (0, 16, 10, 5, 0, 10, 15): "float16",
    (0, 16, 7, 8, 0, 7, 127): "bfloat16",
    (0, 32, 23, 8, 0, 23, 127): "float32",
    (0, 64, 52, 11, 0, 52, 1023): "float64",
}
"""Names by bit offset, precision; exponent's and mantissa's place and size; bias."""
FLOAT_CODES = {"float16": "e", "float32": "f", "float64": "d"}
"""For ``struct``."""
CLASSES = ["int", "float", "time", "string", "bits", "opaque", "compound", "reference"]
CLASSES += ["enum", "sequence", "array"]


def datatype(data: bytes) -> Type:
    """A type; those that no tensor holds are named after their class."""
    if len(data) < 8:
        return Type("unknown", 0)
    kind, version, flags = data[0] & 15, data[0] >> 4, data[1]
    size, properties = int.from_bytes(data[4:8], "little"), data[8:]
    name = CLASSES[kind] if kind < len(CLASSES) else "unknown"
    if (
        name == "int"
        and properties[:4] == bytes([0, 0, size * 8 & 255, 0])
        and size in (1, 2, 4, 8)
    ):
        return Type(f"{'int' if flags & 8 else 'uint'}{size * 8}", size, bool(flags & 1))
    if name == "float" and len(properties) >= 12 and flags & 0x70 == 0x20:
        return _float(properties, size, data[2], bool(flags & 1))
    if name == "string":
        return Type(name, size)
    if name == "sequence" and flags & 15 == 1 and size == 16:
        return Type("text", size)
    if name == "enum" and size == 1 and properties[8:].startswith(_FLAGS.get(version, b"-")):
        return Type("bool", size)
    for complex, real in (("complex64", "float32"), ("complex128", "float64")):
        if name == "compound" and data.startswith(_complex(version, size, real)):
            return Type(complex, size)
    return Type(f"{name} of {size} bytes", size)


def _float(properties: bytes, size: int, sign: int, big_endian: bool) -> Type:
    key = struct.unpack_from("<HH4BI", properties)
    name = FLOATS.get(key, "")
    if not name or size * 8 != key[1] or sign != key[1] - 1:
        return Type(f"float of {size} bytes", size)
    return Type(name, size, big_endian)


_BYTE = bytes([0, 0, 8, 0])
_FLAGS = {1: _BYTE + b"FALSE\0\0\0TRUE\0\0\0\0\0\1", 2: _BYTE + b"FALSE\0\0\0TRUE\0\0\0\0\0\1"}
_FLAGS |= dict.fromkeys((3, 4, 5), _BYTE + b"FALSE\0TRUE\0\0\1")
"""How h5py writes booleans, by the type's version: an enumeration of a byte."""


def _complex(version: int, size: int, real: str) -> bytes:
    """How h5py writes complex numbers: little-endian, with members ``r`` and ``i``."""
    offset, bits, *places, bias = next(key for key, name in FLOATS.items() if name == real)
    half = bits // 8
    if size != 2 * half or version == 2:
        return b"-"
    number = bytes([0x11, 0x20, bits - 1, 0]) + half.to_bytes(4, "little")
    number += bytes([offset, 0, bits, 0, *places]) + bias.to_bytes(4, "little")
    result = bytes([version << 4 | 6, 2, 0, 0]) + size.to_bytes(4, "little")
    for name, at in ((b"r", 0), (b"i", half)):
        if version == 1:
            result += name + bytes(7) + at.to_bytes(4, "little") + bytes(28) + number
        else:
            result += name + bytes([0, at]) + number
    return result


def _path(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name


def _log2(power: int) -> int:
    return power.bit_length() - 1


def _bytes_for(number: int) -> int:
    return max(1, -(-number.bit_length() // 8))


def _bytes_of_counts(node_size: int, record_size: int, depth: int) -> list[tuple[int, int]]:
    """By level, how many bytes a node has for the count of a child's records, and of all below."""
    sizes, most, total = [(0, 0)], max(0, node_size - 10) // record_size, 0
    total = most
    for level in range(1, depth + 1):
        counts = _bytes_for(most), _bytes_for(total) if level > 1 else 0
        sizes.append(counts)
        pointer = 8 + sum(counts)
        most = max(0, node_size - 10 - pointer) // (record_size + pointer)
        total = (most + 1) * total + most
    return sizes
