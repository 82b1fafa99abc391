"""FlexBuffers, values with their types beside them: the options of TFLite's custom operators.

The format: ``flatbuffers/flexbuffers.h`` and https://flatbuffers.dev/internals (FlexBuffers).  The
root is at the end; whatever is not a number by itself is a distance back to where it begins, and
has its own size before that.
"""

from __future__ import annotations

import struct
from typing import Any

MOST_VALUES = 2**12
TEXT_PER_BYTE, LEAST_TEXT = 4, 2**12
"""Bytes of all texts together: keys may lie in one place for many maps."""
DEEPEST = 8
_NULL, _INT, _UINT, _FLOAT, _KEY, _STRING, _INDIRECT_INT = range(7)
_MAP, _VECTOR, _VECTOR_INT, _BLOB, _BOOL, _VECTOR_BOOL = 9, 10, 11, 25, 26, 36
_FIXED, _FIXED_END = 16, 25
"""Vectors of 2, 3 and 4 numbers of each of the three types, whose size is not stored."""
_FORMATS = {
    _INT: {1: "<b", 2: "<h", 4: "<i", 8: "<q"},
    _UINT: {1: "<B", 2: "<H", 4: "<I", 8: "<Q"},
    _FLOAT: {2: "<e", 4: "<f", 8: "<d"},
}


def read(data: bytes) -> Any:
    """The value: a number, text, bytes, None, or a list or dict of such.

    Raises:
        ValueError: these bytes are none, or more than options are.
    """
    if len(data) < 3:
        raise ValueError("too few bytes")
    width, packed = data[-1], data[-2]
    return _Reader(data).value(len(data) - 2 - width, width, packed, 0)


def _text(data: bytes) -> str | bytes:
    """Bytes where it is no UTF-8: some writers put messages into strings."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


class _Reader:
    """Reads within the bytes, and only so many values."""

    def __init__(self, data: bytes) -> None:
        self._data, self._room = data, MOST_VALUES
        self._text_room = TEXT_PER_BYTE * len(data) + LEAST_TEXT

    def number(self, place: int, width: int, kind: int = _UINT) -> Any:
        """A number that is there itself."""
        format = _FORMATS[kind].get(width)
        if format is None or not 0 <= place <= len(self._data) - width:
            raise ValueError(f"a number of {width} bytes at {place} of {len(self._data)}")
        return struct.unpack_from(format, self._data, place)[0]

    def value(self, place: int, width: int, packed: int, depth: int) -> Any:
        """The value of a type, which begins at a place or is a distance there."""
        self._room -= 1
        if self._room < 0 or depth > DEEPEST:
            raise ValueError("more values, or deeper ones, than options have")
        kind, inner = packed >> 2, 1 << (packed & 3)
        if kind == _NULL:
            return None
        if kind in _FORMATS:
            return self.number(place, width, kind)
        if kind == _BOOL:
            return bool(self.number(place, width))
        start = place - self.number(place, width)
        if kind == _KEY:
            return self._key(start)
        if _INDIRECT_INT <= kind < _MAP:
            return self.number(start, inner, kind - _INDIRECT_INT + _INT)
        return self._of_size(kind, start, inner, depth)

    def _of_size(self, kind: int, start: int, inner: int, depth: int) -> Any:
        if _FIXED <= kind < _FIXED_END:
            count, number = divmod(kind - _FIXED, 3)
            return self._numbers(start, inner, count + 2, number + _INT)
        size = self.number(start - inner, inner)
        if kind in (_STRING, _BLOB):
            found = self._bytes(start, start + size)
            return _text(found) if kind == _STRING else found
        if kind in (_VECTOR, _MAP):
            values = self._values(start, inner, size, depth)
            return values if kind == _VECTOR else dict(
                zip(self._keys(start, inner, size), values, strict=True)
            )  # fmt: skip
        if kind == _VECTOR_BOOL:
            return [bool(one) for one in self._numbers(start, inner, size, _UINT)]
        if _VECTOR_INT <= kind < _VECTOR_INT + 3:
            return self._numbers(start, inner, size, kind - _VECTOR_INT + _INT)
        raise ValueError(f"a value of type {kind}")

    def _values(self, start: int, inner: int, size: int, depth: int) -> list[Any]:
        """Of several types, which are listed behind them."""
        types = start + size * inner
        return [
            self.value(start + i * inner, inner, self.number(types + i, 1), depth + 1)
            for i in range(self._checked(size))
        ]

    def _keys(self, start: int, inner: int, size: int) -> list[str]:
        """Of a map: a vector of their own."""
        place = start - 3 * inner
        keys, width = place - self.number(place, inner), self.number(place + inner, inner)
        places = range(keys, keys + size * width, width) if width else ()
        return [self._key(one - self.number(one, width)) for one in places]

    def _key(self, start: int) -> str:
        end = self._data.find(b"\0", max(0, start))
        if start < 0 or end < 0:
            raise ValueError("a key without an end")
        return self._bytes(start, end).decode()

    def _bytes(self, start: int, end: int) -> bytes:
        found = self._data[start:end]
        self._text_room -= len(found)
        if self._text_room < 0:
            raise ValueError("more text than options have")
        return found

    def _numbers(self, start: int, inner: int, size: int, kind: int) -> list[Any]:
        return [self.number(start + i * inner, inner, kind) for i in range(self._checked(size))]

    def _checked(self, size: int) -> int:
        self._room -= size
        if self._room < 0:
            raise ValueError("more values than options have")
        return int(size)
