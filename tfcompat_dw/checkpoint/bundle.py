"""TF checkpoints of the second format, V2: ``name.index`` and ``name.data-00000-of-00001``.

What ``tf.train.Checkpoint``, TF 1's ``Saver`` and every SavedModel write
(``tensorflow/core/util/tensor_bundle/tensor_bundle.cc``).  The index is a :class:`Table` of where
each tensor lies in the data files, which are the tensors' bytes one after another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import torch
from google.protobuf import text_format
from torch import Tensor

from tfcompat_dw.checkpoint.base import (
    TORCH_DTYPES,
    Checkpoint,
    CheckpointError,
    TensorInfo,
)
from tfcompat_dw.checkpoint.mapped import MappedFile
from tfcompat_dw.checkpoint.schemas import MESSAGES, data_type, parse, stored_type, text
from tfcompat_dw.checkpoint.slices import TensorSlice, assemble, check_partition, tensor_shape
from tfcompat_dw.checkpoint.table import Table, crc32c, mask, varint
from tfcompat_dw.checkpoint.table_checkpoint import SHARDS, TableCheckpoint, check_version

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The key of a string that describes the Python objects which were saved."""
LITTLE_ENDIAN = 0
LARGEST_STATE = 2**20
"""Bytes that the file ``checkpoint`` may have: a list of paths."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a tensor is, or the slices that it is made of."""

    info: TensorInfo
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[TensorSlice, ...]


class Bundle(Checkpoint):
    """A checkpoint of format V2.

    Keys are those of ``tf.train.load_checkpoint(path).get_variable_to_shape_map()``, sorted; a
    partitioned variable is one tensor.  The first time that a tensor is read it is a view of its
    file where its address allows it, later a copy; its checksum is compared each time.

    Args:
        path: the prefix, or the path of the ``.index`` file.

    Raises:
        CheckpointError: the index is missing or damaged.
    """

    format = "TF checkpoint"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        is_index = path.suffix == ".index" and path.is_file()
        self._prefix = path.with_suffix("") if is_index else path
        self._index = self._prefix.with_name(self._prefix.name + ".index")
        entries = self._read_index()
        self._slices = self._take_slices(entries)
        self._entries = {text(key, self._index, "a key"): entries[key] for key in entries}
        self._lent: set[str] = set()
        self._files: dict[tuple[int, bool], MappedFile] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def info(self, name: str) -> TensorInfo:
        """Data type and shape."""
        return self._entries[name].info

    def __getitem__(self, name: str) -> Tensor:
        entry = self._entries[name]
        if entry.info.dtype == "string":
            data = b"".join(self.strings(name))
            return MappedFile.of_bytes(self.path, data).tensor(0, "uint8", (len(data),), name)
        if stored_type(entry.info.dtype) not in TORCH_DTYPES:
            reason = f"data of type {entry.info.dtype}, which no tensor of PyTorch's holds"
            raise self._error(name, reason)
        if entry.slices:
            return self._partitioned(name, entry)
        tensor = self._numbers(name, entry, pristine=name in self._lent)
        if name in self._lent:
            return tensor.clone()
        self._lent.add(name)
        return tensor

    def strings(self, name: str) -> list[bytes]:
        """The elements of a string tensor, in row-major order; ``TypeError`` for another one."""
        entry = self._entries[name]
        if entry.info.dtype != "string":
            return super().strings(name)
        if entry.slices:
            raise self._error(name, "strings in slices, which TensorFlow does not read either")
        data = self._view(name, entry)
        if entry.info.elements > len(data):  # the length of each takes a byte
            reason = f"{len(data)} bytes for {entry.info.elements} strings"
            raise self._error(name, reason)
        return self._split(name, data, entry)

    def variable_names(self) -> dict[str, str]:
        """The full name of each variable, as TF 2's object graph has it."""
        return {
            key: variable
            for node in self._object_graph
            for key, variable in self._attributes(node)
            if variable
        }

    # ---- the index ---------------------------------------------------------------------------

    def _read_index(self) -> dict[bytes, _Entry]:
        """Every entry by its key."""
        rows = iter(Table(MappedFile(self._index)))
        key, value = next(rows, (b"none", memoryview(b"")))
        if key:
            raise CheckpointError(self._index, "", "no checkpoint: its first key is no header")
        header = parse(MESSAGES["BundleHeaderProto"], value, self._index, "header")
        check_version(header.version, self._index, "header")
        if header.endianness != LITTLE_ENDIAN:
            raise CheckpointError(self._index, "header", "written by a big-endian machine")
        self._shards = header.num_shards
        entries = {key: self._entry(key, value) for key, value in rows}
        self._check_overlap(entries)
        return entries

    def _entry(self, key: bytes, value: memoryview) -> _Entry:
        place = repr(key[:200])[2:-1]
        proto = parse(MESSAGES["BundleEntryProto"], value, self._index, place)
        if not 0 <= proto.shard_id < self._shards:
            reason = f"in shard {proto.shard_id} of {self._shards}"
            raise CheckpointError(self._index, place, reason)
        shape = tensor_shape(proto.shape, self._index, place)
        info = TensorInfo(data_type(proto.dtype), shape)
        slices = tuple(TensorSlice.of(part, shape, self._index, place) for part in proto.slices)
        return _Entry(info, proto.shard_id, proto.offset, proto.size, proto.crc32c, slices)

    def _check_overlap(self, entries: dict[bytes, _Entry]) -> None:
        """Tensors share no bytes: all of them together are no more than the file."""
        spans = sorted((e.shard, e.offset, e.offset + e.size) for e in entries.values() if e.size)
        for _, shard in groupby(spans, lambda span: span[0]):
            last = 0
            for _, start, end in shard:
                if start < last or end < start:
                    reason = f"bytes {start} to {end} are another tensor's, or no bytes at all"
                    raise CheckpointError(self._index, "", reason)
                last = end

    def _take_slices(self, entries: dict[bytes, _Entry]) -> dict[tuple[bytes, int], _Entry]:
        """The entries of slices, which are not listed, out of the others."""
        taken: dict[tuple[bytes, int], _Entry] = {}
        for name, entry in [(name, entry) for name, entry in entries.items() if entry.slices]:
            for number, part in enumerate(entry.slices):
                stored = entries.pop(part.key(name), None)
                if stored is None and part.is_full and len(entry.slices) == 1:
                    stored = entry
                place = repr(name[:200])[2:-1]
                if stored is None:
                    reason = f"its slice {list(part.extents)} is missing, or listed twice"
                    raise CheckpointError(self._index, place, reason)
                expected = TensorInfo(entry.info.dtype, part.shape(entry.info.shape))
                if stored.info != expected:
                    reason = f"a slice is {stored.info} instead of {expected}"
                    raise CheckpointError(self._index, place, reason)
                taken[name, number] = stored
        return taken

    # ---- the data ----------------------------------------------------------------------------

    def _partitioned(self, name: str, entry: _Entry) -> Tensor:
        numbers = range(len(entry.slices))
        stored = [self._slices[name.encode(), number] for number in numbers]
        for part in stored:
            self._view(name, part)  # what they hold is in the file: so the whole may be made
        check_partition(entry.slices, entry.info.shape, self._index, name)
        parts = (self._numbers(name, part, pristine=True) for part in stored)
        dtype = TORCH_DTYPES[stored_type(entry.info.dtype)]
        return assemble(zip(entry.slices, parts, strict=True), entry.info.shape, dtype)

    def _numbers(self, name: str, entry: _Entry, *, pristine: bool) -> Tensor:
        """A view of the file, once its checksum is right."""
        view = self._view(name, entry, pristine)
        if mask(crc32c(view)) != entry.crc:
            raise self._error(name, "its checksum does not match: the data file is damaged")
        dtype, shape = stored_type(entry.info.dtype), entry.info.shape
        tensor = self._file(name, entry, pristine).tensor(entry.offset, dtype, shape, name)
        if dtype == "bool" and (tensor.view(torch.uint8) > 1).any():
            raise self._error(name, "bytes that are neither true nor false")
        return tensor

    def _view(self, name: str, entry: _Entry, pristine: bool = True) -> memoryview:
        """An entry's bytes; of numbers they must be as many as its shape has."""
        dtype = TORCH_DTYPES.get(stored_type(entry.info.dtype))
        if dtype and entry.size != entry.info.elements * dtype.itemsize:
            raise self._error(name, f"{entry.size} bytes for {entry.info}")
        if not entry.size:
            return memoryview(b"")
        return self._file(name, entry, pristine).view(entry.offset, entry.size, name)

    def _file(self, name: str, entry: _Entry, pristine: bool) -> MappedFile:
        """A data file; the pristine mapping is the one whose tensors nobody else has."""
        key = entry.shard, pristine
        if key not in self._files:
            suffix = f".data-{entry.shard:05d}-of-{self._shards:05d}"
            path = self._prefix.with_name(self._prefix.name + suffix)
            if not path.is_file():
                raise CheckpointError(path, name, "no such file: a part of the checkpoint")
            self._files[key] = MappedFile(path)
        return self._files[key]

    def _split(self, name: str, data: memoryview, entry: _Entry) -> list[bytes]:
        """Strings: their lengths, a checksum of these as numbers of 32 bits, and then their bytes.

        The entry's own checksum is of these numbers, the first checksum and the bytes.
        """
        lengths, position = [], 0
        try:
            for _ in range(entry.info.elements):
                length, position = varint(data, position)
                lengths.append(length)
        except IndexError as error:
            raise self._error(name, "the lengths of its strings are cut short") from error
        start = position + 4 if data else 0
        if start + sum(lengths) != len(data):
            raise self._error(name, f"strings of {sum(lengths)} bytes in {len(data)}")
        numbers = b"".join(n.to_bytes(4 if n < 2**32 else 8, "little") for n in lengths)
        of_lengths = crc32c(numbers)
        stored, body = data[position:start], data[start:]
        whole = mask(crc32c(stored, body, start=of_lengths))
        if (data and mask(of_lengths) != int.from_bytes(stored, "little")) or whole != entry.crc:
            raise self._error(name, "its checksum does not match: the data file is damaged")
        strings, position = [], 0
        for length in lengths:
            strings.append(bytes(body[position : position + length]))
            position += length
        return strings

    # ---- names -------------------------------------------------------------------------------

    @cached_property
    def _object_graph(self) -> list[Any]:
        """The nodes of TF 2's description of what was saved; none in TF 1's checkpoints."""
        info = self._entries[OBJECT_GRAPH].info if OBJECT_GRAPH in self else None
        if info is None or info.dtype != "string" or prod(info.shape) != 1:
            return []
        (graph,) = self.strings(OBJECT_GRAPH)
        return list(parse(MESSAGES["TrackableObjectGraph"], graph, self.path, OBJECT_GRAPH).nodes)

    def _attributes(self, node: Any) -> Iterator[tuple[str, str]]:
        """A node's keys of this checkpoint, and the full names of their variables."""
        for attribute in node.attributes:
            key = text(attribute.checkpoint_key, self.path, OBJECT_GRAPH)
            if key in self._entries:
                yield key, text(attribute.full_name, self.path, OBJECT_GRAPH)

    def _error(self, name: str, reason: str) -> CheckpointError:
        return CheckpointError(self._prefix, name, reason)


def latest_checkpoint(folder: Path) -> Checkpoint:
    """What the file ``checkpoint`` of a folder says is the latest.

    As for ``tf.train.latest_checkpoint``, a relative path begins in the folder, an absolute one is
    taken as it is; nothing but a checkpoint is ever read.

    Raises:
        CheckpointError: the file or the checkpoint is missing or damaged.
    """
    state = MappedFile(folder / "checkpoint")
    if state.size > LARGEST_STATE:
        raise CheckpointError(state.path, "", f"{state.size} bytes are no list of checkpoints")
    message: Any = MESSAGES["CheckpointState"]()
    try:
        text_format.Parse(bytes(state.view(0, state.size, "")), message, allow_unknown_field=True)
    except (text_format.ParseError, ValueError, RecursionError) as error:
        raise CheckpointError(state.path, "", f"no list of checkpoints ({error})") from error
    latest = message.model_checkpoint_path
    if not latest or b"\x00" in latest:
        raise CheckpointError(state.path, "model_checkpoint_path", f"names no path: {latest!r}")
    return _named(folder / os.fsdecode(latest), state.path)


def _named(prefix: Path, state: Path) -> Checkpoint:
    """The checkpoint of that prefix, of either format."""
    try:
        if prefix.with_name(prefix.name + ".index").is_file():
            return Bundle(prefix)
        if prefix.is_file() or SHARDS in prefix.name:
            return TableCheckpoint(prefix)
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(state, "model_checkpoint_path", str(error)) from error
    reason = f"there is no checkpoint {str(prefix)!r}; if it was moved, open it by its own path"
    raise CheckpointError(state, "model_checkpoint_path", reason)
