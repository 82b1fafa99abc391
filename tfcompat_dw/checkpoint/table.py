"""Sorted tables of keys and values: what both kinds of TF checkpoints keep their entries in.

The format is LevelDB's (``tensorflow/tsl/lib/io/{format,block,table}.cc``): blocks of entries, an
index block that says where they are, and a footer that says where the index is.  Keys ascend; each
entry has only the part of its key that differs from the one before.  A block is followed by a byte
that names its compression and a CRC-32C of both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import google_crc32c
import numpy as np

from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.mapped import MappedFile

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
TRAILER = 5
RESTART_INTERVAL = 16
"""TF's writer shares no key over more entries: all keys together are at most so much longer."""


def crc32c(*parts: bytes | memoryview, start: int = 0) -> int:
    """The CRC-32C of the parts in a row, behind what has the CRC ``start``."""
    for part in parts:
        if len(part):
            start = google_crc32c.extend(start, np.frombuffer(part, np.uint8))
    return start


def mask(crc: int) -> int:
    """What TF stores in place of a CRC (``tsl/lib/hash/crc32c.h``)."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of up to 64 bits and the position after it; ``IndexError`` where the data ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise IndexError("a varint of more than 10 bytes")
    return value & (2**64 - 1), position


class Table:
    """The entries of a file."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self._last_keys, self._handles = self._index()
        self._read: dict[int, dict[bytes, memoryview]] = {}

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        """Every key with its value, in order."""
        for number in range(len(self._handles)):
            yield from self._entries(number)

    def get(self, key: bytes) -> memoryview | None:
        """The value of a key, if it is there; each block is decoded once."""
        number = bisect_left(self._last_keys, key)
        if number == len(self._handles):
            return None
        if number not in self._read:
            self._read[number] = dict(self._entries(number))
        return self._read[number].get(key)

    def _index(self) -> tuple[list[bytes], list[tuple[int, int]]]:
        """For each data block, a key that none of its keys is behind, and where the block is."""
        if self.file.size < FOOTER:
            raise self._error("footer", f"{self.file.size} bytes are less than a footer's {FOOTER}")
        footer = self.file.view(self.file.size - FOOTER, FOOTER, "footer")
        if int.from_bytes(footer[-8:], "little") != MAGIC:
            raise self._error("footer", "no table: its magic number is missing, or the end is")
        try:
            _, position = varint(footer, 0)  # of the meta index, which TF leaves empty
            _, position = varint(footer, position)
            index_offset, position = varint(footer, position)
            index_size, position = varint(footer, position)
        except IndexError as error:
            raise self._error("footer", "damaged") from error
        entries = dict(self._block(index_offset, index_size, "index block"))
        handles = [self._handle(value) for value in entries.values()]
        ends = [0, *(offset + size + TRAILER for offset, size in handles)]
        starts = [*(offset for offset, _ in handles), index_offset]
        if any(start < end for start, end in zip(starts, ends, strict=True)):
            raise self._error("index block", "its blocks overlap, or are not in order")
        return list(entries), handles

    def _handle(self, value: memoryview) -> tuple[int, int]:
        try:
            offset, position = varint(value, 0)
            size, position = varint(value, position)
        except IndexError as error:
            raise self._error("index block", "a block's address is cut short") from error
        return offset, size

    def _entries(self, number: int) -> Iterator[tuple[bytes, memoryview]]:
        """Of one data block."""
        place = f"block {number}"
        for key, value in self._block(*self._handles[number], place):
            if key > self._last_keys[number]:
                raise self._error(place, "it has keys that belong behind it")
            if number and key <= self._last_keys[number - 1]:
                raise self._error(place, "it has keys that belong before it")
            yield key, value

    def _block(self, offset: int, size: int, place: str) -> Iterator[tuple[bytes, memoryview]]:
        """A block's entries, after its checksum."""
        whole = self.file.view(offset, size + TRAILER, place)
        stored = int.from_bytes(whole[-4:], "little")
        if mask(crc32c(whole[:-4])) != stored:
            raise self._error(place, "its checksum does not match: the file is damaged")
        compression = whole[size]
        if compression == 1:
            raise self._error(place, "compressed with Snappy, which is not read: save it anew")
        if compression:
            raise self._error(place, f"compression of unknown kind {compression}")
        return self._decode(whole[:size], place)

    def _decode(self, block: memoryview, place: str) -> Iterator[tuple[bytes, memoryview]]:
        restarts = int.from_bytes(block[-4:], "little") if len(block) >= 4 else 0
        end = len(block) - 4 * (restarts + 1)
        if end < 0 or not restarts:
            raise self._error(place, f"{restarts} restarts in a block of {len(block)} bytes")
        block, position, key, last = block[:end], 0, b"", None
        room = RESTART_INTERVAL * end
        while position < end:
            try:
                shared, position = varint(block, position)
                unshared, position = varint(block, position)
                length, position = varint(block, position)
            except IndexError as error:
                raise self._error(place, "an entry is cut short") from error
            value = position + unshared
            if shared > len(key) or value + length > end:
                raise self._error(place, "an entry is longer than its block")
            room -= shared + unshared
            if room < 0:
                raise self._error(place, "keys longer than a block of its size can have")
            key = key[:shared] + bytes(block[position:value])
            if last is not None and key <= last:
                raise self._error(place, "its keys do not ascend")
            position, last = value + length, key
            yield key, block[value:position]

    def _error(self, place: str, reason: str) -> CheckpointError:
        return CheckpointError(self.file.path, place, reason)
