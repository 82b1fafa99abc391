"""TF checkpoints of the first format, V1: one file that is a table with the tensors in it.

What TF 1's ``Saver`` wrote before version 1.0, and later with ``write_version=V1``
(``tensorflow/core/util/tensor_slice_{writer,reader}.cc``).  The empty key has a list of tensors and
their slices; each slice is a ``TensorProto`` under a key of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from tfcompat_dw.checkpoint.table import Table

SHARDS = "-?????-of-"
"""What ``Saver(sharded=True)`` has in its name for all files together; their number follows."""
VERSION = 1
"""Of both formats (``TF_CHECKPOINT_VERSION``, ``kTensorBundleVersion``)."""

_FIELDS = {
    "float32": ("float_val", "float32"),
    "float64": ("double_val", "float64"),
    "complex64": ("scomplex_val", "float32"),
    "complex128": ("dcomplex_val", "float64"),
    "float16": ("half_val", "int32"),
    "bfloat16": ("half_val", "int32"),
    "bool": ("bool_val", "bool"),
    "int64": ("int64_val", "int64"),
    "uint32": ("uint32_val", "uint32"),
    "uint64": ("uint64_val", "uint64"),
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), ("int_val", "int32")),
}
"""Where a ``TensorProto`` has numbers of a type, and their type there."""


@dataclass
class _Stored:
    """A tensor of the list, and its slices with the table that each is in."""

    info: TensorInfo
    slices: dict[TensorSlice, Table] = field(default_factory=dict)


class TableCheckpoint(Checkpoint):
    """A checkpoint of format V1.

    Keys are those of ``tf.train.load_checkpoint(path).get_variable_to_shape_map()``, in the order
    of the file's list; a partitioned variable is one tensor.  Tensors are decoded, not mapped.

    Args:
        path: the file; for a sharded one ``name-?????-of-00003``, as ``Saver.save`` returns it.

    Raises:
        CheckpointError: a file is missing or damaged.
    """

    format = "TF checkpoint of format V1"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._tensors: dict[str, _Stored] = {}
        for file in _files(path):
            self._add(Table(MappedFile(file)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def info(self, name: str) -> TensorInfo:
        """Data type and shape."""
        return self._tensors[name].info

    def __getitem__(self, name: str) -> Tensor:
        stored = self._tensors[name]
        info = stored.info
        if info.dtype == "string":
            data = b"".join(self.strings(name))
            return MappedFile.of_bytes(self.path, data).tensor(0, "uint8", (len(data),), name)
        dtype = stored_type(info.dtype)
        if dtype not in _FIELDS:
            reason = f"data of type {info.dtype}, which no tensor of PyTorch's holds"
            raise CheckpointError(self.path, name, reason)
        records = self._records(name)
        parts = list(stored.slices)
        if len(parts) == 1 and parts[0].shape(info.shape) == info.shape:
            return self._numbers(name, dtype, info.shape, records[parts[0]])
        check_partition(parts, info.shape, self.path, name)
        values = (
            (part, self._numbers(name, dtype, part.shape(info.shape), records[part]))
            for part in parts
        )
        return assemble(values, info.shape, TORCH_DTYPES[dtype])

    def strings(self, name: str) -> list[bytes]:
        """The elements of a string tensor, in row-major order; ``TypeError`` for another one."""
        info = self._tensors[name].info
        if info.dtype != "string":
            return super().strings(name)
        records = self._records(name)
        if len(records) > 1:
            raise CheckpointError(self.path, name, "strings in slices, which are not read")
        ((part, record),) = records.items()
        values = list(self._data(name, record).string_val)
        self._check_count(name, len(values), part.shape(info.shape))
        return values

    # ---- the list ----------------------------------------------------------------------------

    def _add(self, table: Table) -> None:
        """What one file lists."""
        path = table.file.path
        value = table.get(b"")
        if value is None:
            raise CheckpointError(path, "", "no checkpoint: a table without a list of tensors")
        meta = parse(MESSAGES["SavedTensorSlices"], value, path, "list of tensors").meta
        check_version(meta.versions, path, "list of tensors")
        for listed in meta.tensor:
            name = text(listed.name, path, "list of tensors")
            info = TensorInfo(data_type(listed.type), tensor_shape(listed.shape, path, name))
            stored = self._tensors.setdefault(name, _Stored(info))
            if stored.info != info:
                reason = f"it is listed as {stored.info} and as {info}"
                raise CheckpointError(path, name, reason)
            for proto in listed.slice:
                part = TensorSlice.of(proto, info.shape, path, name)
                if part in stored.slices:
                    raise CheckpointError(path, name, f"two slices at {list(part.extents)}")
                stored.slices[part] = table

    # ---- the data ----------------------------------------------------------------------------

    def _records(self, name: str) -> dict[TensorSlice, memoryview]:
        """The stored slices of a tensor, which are at least as many bytes as it has elements."""
        stored = self._tensors[name]
        records: dict[TensorSlice, memoryview] = {}
        for part, table in stored.slices.items():
            record = table.get(part.key(name.encode()))
            if record is None:
                reason = f"its slice {list(part.extents)} is not in the file"
                raise CheckpointError(table.file.path, name, reason)
            records[part] = record
        if not records or stored.info.elements > sum(map(len, records.values())):
            reason = f"{stored.info} is more than the file holds of it"
            raise CheckpointError(self.path, name, reason)
        return records

    def _data(self, name: str, record: memoryview) -> Any:
        data = parse(MESSAGES["SavedTensorSlices"], record, self.path, name).data
        if data.name != name.encode():
            raise CheckpointError(self.path, name, f"the slice of another tensor, {data.name!r}")
        return data.data

    def _numbers(self, name: str, dtype: str, shape: tuple[int, ...], record: memoryview) -> Tensor:
        data = self._data(name, record)
        field, type = _FIELDS[dtype]
        values = getattr(data, field)
        self._check_count(name, len(values), (2, *shape) if "complex" in dtype else shape)
        numbers = np.fromiter(values, type, count=len(values))
        if type == "int32" and dtype != "int32":
            numbers = self._narrowed(name, dtype, numbers)
        return torch.from_numpy(numbers).view(TORCH_DTYPES[dtype]).view(shape)

    def _narrowed(self, name: str, dtype: str, numbers: Any) -> Any:
        """Out of the 32 bits that a ``TensorProto`` has for numbers of 8 and of 16."""
        narrow = numbers.astype("uint16" if "float" in dtype else dtype)
        if not np.array_equal(narrow, numbers):
            raise CheckpointError(self.path, name, f"numbers that are no {dtype}")
        return narrow

    def _check_count(self, name: str, count: int, shape: Iterable[int]) -> None:
        if count != prod(shape):
            reason = f"{count} values instead of {prod(shape)}"
            raise CheckpointError(self.path, name, reason)


def check_version(version: Any, path: Path, place: str) -> None:
    """That files of version 1 may be read so (``tensorflow/core/framework/versions.cc``)."""
    if version.min_consumer > VERSION or VERSION in version.bad_consumers:
        raise CheckpointError(path, place, "written for a newer TensorFlow, in another format")


def _files(path: Path) -> list[Path]:
    """The file, or all that a name with question marks stands for."""
    prefix, marks, total = path.name.rpartition(SHARDS)
    if not marks:
        return [path]
    of = total if re.fullmatch(r"\d{5}", total, re.ASCII) else r"\d{5}"
    pattern = re.compile(rf"{re.escape(prefix)}-(\d{{5}})-of-({of})", re.ASCII)
    try:
        names = sorted(file.name for file in path.parent.iterdir())
    except OSError as error:
        raise CheckpointError(path, "", error.strerror or str(error)) from error
    found = [match for match in map(pattern.fullmatch, names) if match]
    _check_complete(path, [(int(match[1]), int(match[2])) for match in found])
    return [path.with_name(match[0]) for match in found]


def _check_complete(path: Path, numbers: list[tuple[int, int]]) -> None:
    total = numbers[0][1] if numbers else 0
    if not numbers or numbers != [(number, total) for number in range(total)]:
        reason = f"{len(numbers)} files of that name, which are not all of one checkpoint"
        raise CheckpointError(path, "", reason)
