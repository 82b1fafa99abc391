"""The datasets of an HDF5 file, and what their numbers are stored like.

``hdf5_objects`` says what there is.  A dataset is read where the file holds all of it: in one
piece, within its description, or in chunks, which gzip may have packed.  Links that lead out of the
file (external links and storage, virtual datasets) are not followed; the values that HDF5 makes up
where nothing was written are not taken for trained ones.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.base import TORCH_DTYPES, CheckpointError, TensorInfo
from tfcompat_dw.checkpoint.hdf5_objects import (
    DATASPACE,
    DATATYPE,
    EXTERNAL_FILES,
    FILTERS,
    LAYOUT,
    LINK,
    LINK_INFO,
    MOST_DIMENSIONS,
    SYMBOL_TABLE,
    UNDEFINED,
    Cursor,
    Message,
    Structures,
    Type,
    datatype,
)
from tfcompat_dw.checkpoint.mapped import MappedFile

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
RATIO = 128
"""How many times the file's size all packed datasets together may have, beside a MiB.

Weights shrink by less than 10; zeros by up to 1032, but a file is never zeros alone."""
COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL = 0, 1, 2, 3


class Chunk(NamedTuple):
    """A part of a dataset, and where it is stored."""

    start: tuple[int, ...]
    mask: int
    """A bit for each filter that was left out."""
    offset: int
    size: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """What its header says."""

    type: Type
    shape: tuple[int, ...]
    layout_class: int
    address: int
    """Of the numbers, or of the chunks' tree."""
    stored: int
    """Bytes at the address; -1 where the header does not say so."""
    chunk: tuple[int, ...]
    filters: tuple[int, ...]
    refusal: str
    """Why it is not read, if it is not."""

    @property
    def elements(self) -> int:
        """How many it has."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Of all elements, in bytes."""
        return self.elements * self.type.size


class Hdf5File:
    """The datasets and attributes of a file, by their paths."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self._structures = Structures(file)
        self._groups: dict[str, list[Message]] = {}
        self._attributes: dict[str, dict[str, Any]] = {}
        self._chunks: dict[Dataset, list[Chunk]] = {}
        self._texts: dict[Dataset, list[bytes]] = {}
        self._unpacked: set[Dataset] = set()
        self._room = RATIO * file.size + 2**20
        self._datasets = dict(self._walk())

    @property
    def datasets(self) -> Mapping[str, TensorInfo]:
        """By path, in the file's order."""
        return {path: self.info(path) for path in self._datasets}

    @property
    def groups(self) -> list[str]:
        """Paths of all groups; the root is the empty one."""
        return list(self._groups)

    def info(self, path: str) -> TensorInfo:
        """Data type and shape of a dataset; ``KeyError`` if there is none."""
        dataset = self._datasets[path]
        name = dataset.type.name
        return TensorInfo("string" if name == "text" else name, dataset.shape)

    def attributes(self, path: str) -> dict[str, Any]:
        """Of a group; ``KeyError`` if there is none.  Bytes, numbers, or flat lists of them."""
        if path not in self._attributes:
            messages = self._groups[path]
            self._attributes[path] = self._structures.attributes(messages, path)
        return self._attributes[path]

    def place(self, path: str) -> tuple[int, Type]:
        """Where the numbers of a dataset start that lie in one piece, and their type."""
        dataset = self._datasets[path]
        if dataset.refusal or dataset.layout_class != CONTIGUOUS:
            raise self._error(path, dataset.refusal or "its numbers do not lie in one piece")
        self._check_one_piece(path, dataset)
        return dataset.address, dataset.type

    def __contains__(self, path: object) -> bool:
        return path in self._datasets

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)

    def strings(self, path: str) -> list[bytes]:
        """The elements of a string dataset."""
        dataset = self._datasets[path]
        if dataset.type.name not in ("string", "text"):
            raise TypeError(f"{path} is {dataset.type.name}, not string")
        if dataset.elements == 0:
            return []
        if dataset.elements > self.file.size:  # packed ones, each of which becomes an object
            raise self._error(path, f"more strings than the file's {self.file.size} bytes")
        if dataset not in self._texts:
            data, size = bytes(self._raw(path, dataset).numpy()), dataset.type.size
            parts = [data[at : at + size] for at in range(0, len(data), size)]
            if dataset.type.name == "string":
                return [part.rstrip(b"\0") for part in parts]
            self._texts[dataset] = [self._structures.text(part, path) for part in parts]
        return list(self._texts[dataset])

    def tensor(self, path: str) -> Tensor:
        """The numbers of a dataset; a view of the file where they lie in one piece."""
        dataset = self._datasets[path]
        if dataset.type.name in ("string", "text"):
            text = MappedFile.of_bytes(self.file.path, b"".join(self.strings(path)))
            return text.tensor(0, "uint8", (text.size,), path)
        dtype = TORCH_DTYPES.get(dataset.type.name)
        if dtype is None:
            raise self._error(path, f"data of type {dataset.type.name}, which no tensor holds")
        if dataset.elements == 0:
            return self._empty(path, dataset.shape, dtype)
        if dataset.layout_class != CHUNKED and not dataset.type.big_endian:
            self._check_one_piece(path, dataset)
            numbers = self.file.tensor(dataset.address, dataset.type.name, dataset.shape, path)
        else:
            raw = self._raw(path, dataset)
            raw = raw.flip(-1) if dataset.type.big_endian else raw
            numbers = raw.contiguous().view(dtype).squeeze(-1)
        if dtype == torch.bool and (numbers.view(torch.uint8) > 1).any():
            raise self._error(path, "bytes that are neither true nor false")
        return numbers

    def _empty(self, path: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if prod(size for size in shape if size) >= 2**63:
            raise self._error(path, f"shape {shape}")
        return torch.empty(shape, dtype=dtype)

    # ---- storage -----------------------------------------------------------------------------

    def _raw(self, path: str, dataset: Dataset) -> Tensor:
        """The stored bytes ``[*shape, bytes of an element]``."""
        if dataset.refusal:
            raise self._error(path, dataset.refusal)
        if dataset.layout_class == CHUNKED:
            return self._chunked(path, dataset)
        self._check_one_piece(path, dataset)
        shape = (*dataset.shape, dataset.type.size)
        return self.file.tensor(dataset.address, "uint8", shape, path)

    def _check_one_piece(self, path: str, dataset: Dataset) -> None:
        if dataset.refusal:
            raise self._error(path, dataset.refusal)
        if dataset.address == UNDEFINED:
            raise self._error(path, "no data was ever written")
        if 0 <= dataset.stored < dataset.size:
            raise self._error(path, f"{dataset.stored} of its {dataset.size} bytes are in the file")

    def _chunked(self, path: str, dataset: Dataset) -> Tensor:
        """Decoded chunk by chunk; each may hold no more than a chunk's numbers."""
        chunks = self._chunks_of(path, dataset)
        of_chunk = prod(dataset.chunk) * dataset.type.size
        self._check_room(path, dataset, of_chunk * len(chunks), sum(chunk.size for chunk in chunks))
        result = torch.empty((*dataset.shape, dataset.type.size), dtype=torch.uint8)
        for chunk in chunks:
            data = self.file.view(chunk.offset, chunk.size, path)
            filters = [kind for at, kind in enumerate(dataset.filters) if not chunk.mask >> at & 1]
            piece = self._decoded(path, data, filters, of_chunk, dataset.type.size)
            piece = piece.view(*dataset.chunk, dataset.type.size)
            spans = [
                (first, min(first + step, size))
                for first, step, size in zip(chunk.start, dataset.chunk, dataset.shape, strict=True)
            ]
            target = tuple(slice(first, last) for first, last in spans)
            result[target] = piece[tuple(slice(0, last - first) for first, last in spans)]
        return result

    def _check_room(self, path: str, dataset: Dataset, wanted: int, held: int) -> None:
        """Before anything is unpacked; edges of the last chunks are there, too."""
        if held > self.file.size:
            raise self._error(path, f"chunks of {held} bytes in a file of {self.file.size}")
        if DEFLATE not in dataset.filters:
            if wanted > held:
                raise self._error(path, f"{wanted} bytes cannot come of the {held} stored ones")
        elif dataset not in self._unpacked:
            if wanted > self._room:
                raise self._error(
                    path, f"unpacks to more than {RATIO} times the file's {self.file.size} bytes"
                )
            self._room -= wanted
            self._unpacked.add(dataset)

    def _chunks_of(self, path: str, dataset: Dataset) -> list[Chunk]:
        """All of them; none may be missing."""
        expected = prod(
            -(-size // step) for size, step in zip(dataset.shape, dataset.chunk, strict=True)
        )
        if dataset not in self._chunks:
            self._chunks[dataset] = list(self._read_chunks(path, dataset))
        found = self._chunks[dataset]
        if len(found) != expected:
            raise self._error(path, f"{len(found)} of its {expected} chunks are in the file")
        starts = {chunk.start for chunk in found}
        if len(starts) != expected or any(
            first % step or first >= size
            for start in starts
            for first, step, size in zip(start, dataset.chunk, dataset.shape, strict=True)
        ):
            raise self._error(path, f"damaged: chunks outside of {dataset.shape}")
        return found

    def _read_chunks(self, path: str, dataset: Dataset) -> Iterator[Chunk]:
        if dataset.address == UNDEFINED:
            return
        rank = len(dataset.shape)
        form = struct.Struct(f"<2I{rank + 1}Q")
        for key, offset in self._structures.tree(dataset.address, 1, form.size, path):
            size, mask, *start = form.unpack(key)
            yield Chunk(tuple(start[:rank]), mask, offset, size)

    def _decoded(
        self, path: str, data: memoryview | bytes, filters: list[int], size: int, itemsize: int
    ) -> Tensor:
        """The bytes of a chunk, which has ``size`` of them."""
        for kind in reversed(filters):
            if kind == DEFLATE:
                data = self._inflated(path, data, size + 4 * filters.count(FLETCHER32))
            elif kind == SHUFFLE and itemsize > 1:
                data = _unshuffled(data, itemsize)
            elif kind == FLETCHER32:
                if len(data) < 6:
                    raise self._error(path, "a chunk without its checksum")
                data = self._checked(path, data)
        if len(data) != size:
            raise self._error(path, f"a chunk of {len(data)} bytes instead of {size}")
        return torch.frombuffer(bytearray(data), dtype=torch.uint8)

    def _inflated(self, path: str, data: memoryview | bytes, limit: int) -> bytes:
        stream = zlib.decompressobj()
        try:
            result = stream.decompress(data, limit + 1)
        except zlib.error as error:
            raise self._error(path, f"a chunk that is no zlib stream ({error})") from error
        if len(result) > limit:
            raise self._error(path, f"a chunk that unpacks to more than its {limit} bytes")
        return result

    def _checked(self, path: str, data: memoryview | bytes) -> memoryview | bytes:
        """Without the checksum at the end, which must be right."""
        data, stored = data[:-4], bytes(data[-4:])
        if fletcher32(data) != tuple(word % 65535 for word in struct.unpack("<HH", stored)):
            raise self._error(path, "a chunk whose checksum is wrong")
        return data

    # ---- objects -----------------------------------------------------------------------------

    def _walk(self) -> Iterator[tuple[str, Dataset]]:
        """Every dataset with its path; groups are noted on the way."""
        root = self._structures.root()
        waiting: list[tuple[str, int]] = [("", root)]
        groups, known, paths = set(), dict[int, Dataset](), set()
        while waiting:
            path, address = waiting.pop()
            self._structures.spend(len(path), path)
            if path in paths:
                raise self._error(path, "damaged: two objects of one name")
            paths.add(path)
            if address in known:
                yield path, known[address]
                continue
            if address in groups:
                raise self._error(path, "a group within itself, or a second name of one")
            messages = self._structures.messages(address, path)
            kinds = {message.kind for message in messages}
            if LAYOUT in kinds or DATASPACE in kinds:
                known[address] = self._dataset(path, messages)
                yield path, known[address]
            elif kinds & {LINK, LINK_INFO, SYMBOL_TABLE}:
                groups.add(address)
                self._groups[path] = messages
                members = self._structures.links(messages, path)
                prefix = f"{path}/" if path else ""
                waiting += [(prefix + name, child) for name, child in reversed(members)]
            elif DATATYPE not in kinds:  # a named type is neither
                raise self._error(path, "damaged: neither a group nor a dataset")
        if not self._groups:
            raise self._error("", "damaged: no root group")

    def _dataset(self, path: str, messages: list[Message]) -> Dataset:
        by_kind = {message.kind: message for message in messages}
        missing = {DATASPACE, DATATYPE, LAYOUT} - set(by_kind)
        if missing:
            raise self._error(path, "damaged: a dataset without a shape, a type or a place")
        shape = self._structures.dataspace(self._content(by_kind[DATASPACE], path), path)
        type = datatype(self._content(by_kind[DATATYPE], path))
        if type.name == "opaque of 2 bytes" and self._is_bfloat16(path, messages):
            type = Type("bfloat16", 2)
        filters, refusal = self._filters(path, by_kind.get(FILTERS))
        if EXTERNAL_FILES in by_kind:
            refusal = "external storage: its numbers are in another file"
        elif shape is None:
            refusal = "a dataset without any elements"
        elif type.size == 0:
            refusal = "elements of no bytes"
        layout = self._structures.content(by_kind[LAYOUT], path)
        kind, address, stored, chunk, reason = self._layout(path, layout, by_kind[LAYOUT])
        refusal = refusal or reason
        shape = shape or ()
        if kind == CHUNKED and not refusal and (len(chunk) != len(shape) or min(chunk) < 1):
            raise self._error(path, f"chunks of {chunk} for a shape of {shape}")
        return Dataset(type, shape, kind, address, stored, chunk, filters, refusal)

    def _is_bfloat16(self, path: str, messages: list[Message]) -> bool:
        """Keras writes it as bytes of no type, with a note."""
        return self._structures.attributes(messages, path).get("dtype") == b"bfloat16"

    def _content(self, message: Message, path: str) -> bytes:
        return self._structures.content(message, path).take(message.size)

    def _layout(
        self, path: str, cursor: Cursor, message: Message
    ) -> tuple[int, int, int, tuple[int, ...], str]:
        """(class, address, bytes there, chunk, why it is not read); IV.A.2.i."""
        version = cursor.number(1)
        if version in (1, 2):
            return self._old_layout(path, cursor)
        if version not in (3, 4):
            raise self._error(path, f"damaged: a layout of version {version}")
        kind = cursor.number(1)
        if kind == COMPACT:
            size = cursor.number(2)
            return kind, message.offset + cursor.position, min(size, cursor.left), (), ""
        if kind == CONTIGUOUS:
            return kind, cursor.number(8), cursor.number(8), (), ""
        if kind == CHUNKED and version == 3:
            rank = cursor.number(1)
            address = cursor.number(8)
            return kind, address, -1, self._chunk(path, cursor, rank), ""
        if kind == CHUNKED:
            return kind, 0, -1, (), "chunks as HDF5 1.10 lists them; h5repack writes it anew"
        if kind == VIRTUAL:
            return kind, 0, -1, (), "a virtual dataset, whose numbers are in other files"
        raise self._error(path, f"damaged: storage of class {kind}")

    def _old_layout(self, path: str, cursor: Cursor) -> tuple[int, int, int, tuple[int, ...], str]:
        rank, kind = cursor.number(1), cursor.number(1)
        cursor.take(5)
        if kind == COMPACT:
            return kind, 0, -1, (), "storage as HDF5 1.4 wrote it; h5repack writes it anew"
        address = cursor.number(8)
        if kind == CONTIGUOUS:
            return kind, address, -1, (), ""
        if kind == CHUNKED:
            return kind, address, -1, self._chunk(path, cursor, rank), ""
        raise self._error(path, f"damaged: storage of class {kind}")

    def _chunk(self, path: str, cursor: Cursor, rank: int) -> tuple[int, ...]:
        """The last of its sizes is that of an element."""
        if not 1 < rank <= MOST_DIMENSIONS + 1:
            raise self._error(path, f"damaged: chunks of {rank - 1} dimensions")
        return tuple(cursor.number(4) for _ in range(rank))[:-1]

    def _filters(self, path: str, message: Message | None) -> tuple[tuple[int, ...], str]:
        """(kinds in the order of writing, why they cannot be undone); IV.A.2.l."""
        if message is None:
            return (), ""
        cursor = self._structures.content(message, path)
        version, count = cursor.number(1), cursor.number(1)
        if version not in (1, 2) or count > 32:
            raise self._error(path, f"damaged: {count} filters of version {version}")
        cursor.take(6 if version == 1 else 0)
        kinds = []
        for _ in range(count):
            kind = cursor.number(2)
            name = cursor.number(2) if version == 1 or kind >= 256 else 0
            cursor.take(2)
            values = cursor.number(2)
            cursor.take(-(-name // 8) * 8 if version == 1 else name)
            cursor.take(4 * (values + values % 2 if version == 1 else values))
            kinds.append(kind)
        for kind in kinds:
            if kind not in (DEFLATE, SHUFFLE, FLETCHER32):
                return (), f"compressed by filter {kind}; only gzip is read"
        return tuple(kinds), ""

    def _error(self, place: str, reason: str) -> CheckpointError:
        return self._structures.error(place, reason)


def _unshuffled(data: memoryview | bytes, itemsize: int) -> bytes:
    """Elements, of all their first bytes, then all second ones, and so on."""
    whole = len(data) // itemsize * itemsize
    if not whole:
        return bytes(data)
    planes = torch.frombuffer(bytearray(data[:whole]), dtype=torch.uint8).view(itemsize, -1)
    return planes.t().contiguous().numpy().tobytes() + bytes(data[whole:])


def fletcher32(data: memoryview | bytes) -> tuple[int, int]:
    """HDF5's checksum: sums of 16-bit words, high byte first, and of these sums, modulo 65535."""
    padded = bytearray(data) + bytes(len(data) % 2)
    octets = torch.frombuffer(padded, dtype=torch.uint8).view(-1, 2)
    low = high = 0
    for words in octets.split(2**16):  # few at a time: they take eight bytes each
        numbers = words.long() @ torch.tensor([256, 1])
        count = len(numbers)
        high += count * low + int((numbers * torch.arange(count, 0, -1)).sum())
        low += int(numbers.sum())
    return low % 65535, high % 65535
