"""Tables of a flatbuffer, read where they lie, never past the file's end.

The format: https://flatbuffers.dev/internals.  A table begins with the distance to its vtable,
which has the place of each field, or 0; fields that are strings, vectors or tables hold a distance.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.mapped import MappedFile

FORMATS = {
    "bool": "<?", "int8": "<b", "uint8": "<B", "int16": "<h", "uint16": "<H", "int32": "<i",
    "uint32": "<I", "int64": "<q", "uint64": "<Q", "float32": "<f", "float64": "<d",
}  # fmt: skip
WORK_PER_BYTE = 16
LEAST_WORK = 1 << 20


class FlatBuffer:
    """A file, and how much of it may still be read.

    Vectors of a hostile file may all lie in one place; what they have together is bounded by the
    file's size, so that the work is.
    """

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self._room = WORK_PER_BYTE * file.size + LEAST_WORK

    def root(self) -> Table:
        """The table that the file begins with."""
        return Table(self, self.number(0, "uint32"))

    def number(self, position: int, kind: str) -> Any:
        """One number."""
        format = FORMATS[kind]
        data = self.file.view(position, struct.calcsize(format), "flatbuffer")
        return struct.unpack(format, data)[0]

    def spend(self, amount: int) -> None:
        """Counts what is read."""
        self._room -= amount
        if self._room < 0:
            reason = "its vectors hold more than there is room for in the file"
            raise CheckpointError(self.file.path, "flatbuffer", reason)


class Table:
    """One table; fields by their numbers in the schema."""

    __slots__ = ("_buffer", "_end", "_position", "_vtable")

    def __init__(self, buffer: FlatBuffer, position: int) -> None:
        self._buffer, self._position = buffer, position
        buffer.spend(8)
        self._vtable = position - buffer.number(position, "int32")
        self._end = buffer.number(self._vtable, "uint16")

    def _field(self, slot: int) -> int:
        """Where a field is; 0 where it is not."""
        entry = 4 + 2 * slot
        if entry + 2 > self._end:
            return 0
        offset: int = self._buffer.number(self._vtable + entry, "uint16")
        return self._position + offset if offset else 0

    def number(self, slot: int, kind: str, default: Any = 0) -> Any:
        """A number or flag."""
        field = self._field(slot)
        return self._buffer.number(field, kind) if field else default

    def table(self, slot: int) -> Table | None:
        """A table; None where there is none."""
        field = self._field(slot)
        return Table(self._buffer, self._target(field)) if field else None

    def text(self, slot: int) -> str:
        """A string; empty where there is none."""
        data = self.vector(slot, "uint8").tobytes()
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            reason = f"a name that is no UTF-8: {data[:80]!r}"
            raise CheckpointError(self._buffer.file.path, "flatbuffer", reason) from error

    def vector(self, slot: int, kind: str) -> NDArray[Any]:
        """Numbers, not copied; empty where there are none."""
        found = self.span(slot, np.dtype(FORMATS[kind]).itemsize)
        data = b"" if found is None else self._buffer.file.view(*found, "flatbuffer")
        self._buffer.spend(len(data))
        return np.frombuffer(data, FORMATS[kind])

    def span(self, slot: int, size: int) -> tuple[int, int] | None:
        """Where a vector's elements of ``size`` bytes begin, and how many bytes they have."""
        field = self._field(slot)
        if not field:
            return None
        place = self._target(field)
        count = self._buffer.number(place, "uint32")
        self._buffer.file.view(place + 4, count * size, "flatbuffer")
        return place + 4, count * size

    def tables(self, slot: int) -> list[Table]:
        """A vector of tables."""
        found = self.span(slot, 4)
        if found is None:
            return []
        start, size = found
        self._buffer.spend(size)
        places = range(start, start + size, 4)
        return [Table(self._buffer, self._target(place)) for place in places]

    def _target(self, field: int) -> int:
        distance: int = self._buffer.number(field, "uint32")
        return field + distance
