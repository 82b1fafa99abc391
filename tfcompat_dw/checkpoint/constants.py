"""Constants as graphs have them: ``TensorProto`` messages.

``tensorflow/core/framework/tensor.proto``, read as ``tensorflow/core/framework/tensor.cc`` does:
the values are ``tensor_content`` or a list for their type; a list that is too short goes on with
its last value, an empty one with zeros.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tfcompat_dw.checkpoint.base import TORCH_DTYPES, CheckpointError, TensorInfo
from tfcompat_dw.checkpoint.mapped import MappedFile
from tfcompat_dw.checkpoint.schemas import data_type, stored_type
from tfcompat_dw.checkpoint.slices import tensor_shape
from tfcompat_dw.checkpoint.table_checkpoint import _FIELDS as FIELDS

LARGEST_FILLED = 2**28
"""Bytes of a constant that its file has fewer values of; the same for the text of strings."""
MOST_FILLED_STRINGS = 2**20


def constant_info(proto: Any, path: Path, place: str) -> TensorInfo:
    """Data type and shape; a shape that is open is an error."""
    return TensorInfo(data_type(proto.dtype), tensor_shape(proto.tensor_shape, path, place))


def constant(proto: Any, path: Path, place: str) -> Tensor:
    """Its values; of strings the bytes, one string after another.

    One number that stands for all of them takes the memory of one: writing to the tensor is
    writing to all of its elements.

    Raises:
        CheckpointError: values that are too few, too many or out of range, a type that no tensor of
            PyTorch's holds, or a shape that is far larger than what the file has.
    """
    info = constant_info(proto, path, place)
    if info.dtype == "string":
        text = b"".join(constant_strings(proto, path, place))
        return MappedFile.of_bytes(path, text).tensor(0, "uint8", (len(text),), place)
    dtype = stored_type(info.dtype)
    if dtype not in TORCH_DTYPES:
        reason = f"data of type {info.dtype}, which no tensor of PyTorch's holds"
        raise CheckpointError(path, place, reason)
    if proto.tensor_content:
        return _content(proto.tensor_content, TensorInfo(dtype, info.shape), path, place)
    numbers = _numbers(proto, dtype, path, place)
    return _filled(numbers, TensorInfo(dtype, info.shape), path, place)


def constant_strings(proto: Any, path: Path, place: str) -> list[bytes]:
    """The elements of a constant of strings, in row-major order."""
    info = constant_info(proto, path, place)
    if info.dtype != "string":
        raise TypeError(f"{place} is {info.dtype}, not string")
    strings = list(proto.string_val)
    more = _missing(len(strings), info, path, place)
    last = strings[-1] if strings else b""
    if more > MOST_FILLED_STRINGS or more * len(last) > LARGEST_FILLED:
        raise _far_larger(len(strings), info, path, place)
    return strings + [last] * more


def has_values(proto: Any) -> bool:
    """Whether the file has any; TensorFlow takes a constant without values for zeros."""
    lists = {field for field, _ in FIELDS.values()} | {"string_val"}
    return bool(proto.tensor_content) or any(len(getattr(proto, name)) for name in lists)


def constant_bytes(proto: Any, path: Path, place: str) -> tuple[int, int]:
    """How many bytes its values take, and how many of them the file does not have."""
    info = constant_info(proto, path, place)
    stored = int(proto.ByteSize())
    if info.dtype == "string":
        more = info.elements - len(proto.string_val)
        last = len(proto.string_val[-1]) if proto.string_val else 0
        filled = max(0, more) * (last + STRING_OVERHEAD)
        return stored + filled, filled
    dtype = TORCH_DTYPES.get(stored_type(info.dtype))
    size = info.elements * dtype.itemsize if dtype is not None else 0
    return size, max(0, size - stored)


STRING_OVERHEAD = 40
"""Bytes that Python takes for a string of bytes, and for its place in a list."""


def _content(data: bytes, info: TensorInfo, path: Path, place: str) -> Tensor:
    expected = info.elements * TORCH_DTYPES[info.dtype].itemsize
    if len(data) != expected:
        reason = f"{len(data)} bytes for {info.dtype} of shape {list(info.shape)}"
        raise CheckpointError(path, place, reason)
    tensor = MappedFile.of_bytes(path, data).tensor(0, info.dtype, info.shape, place)
    if info.dtype == "bool" and (tensor.view(torch.uint8) > 1).any():
        raise CheckpointError(path, place, "bytes that are neither true nor false")
    return tensor


def _numbers(proto: Any, dtype: str, path: Path, place: str) -> Tensor:
    """The listed values, in a row."""
    field, type = FIELDS[dtype]
    values = getattr(proto, field)
    numbers: NDArray[Any] = np.fromiter(values, type, count=len(values))
    if type == "int32" and dtype != "int32":  # all that have 8 or 16 bits
        narrow = numbers.astype("uint16" if "float" in dtype else dtype)
        if not np.array_equal(narrow, numbers):
            raise CheckpointError(path, place, f"numbers that are no {dtype}")
        numbers = narrow
    if "complex" in dtype and len(numbers) % 2:
        raise CheckpointError(path, place, "a complex number without an imaginary part")
    return torch.from_numpy(numbers).view(TORCH_DTYPES[dtype])


def _filled(numbers: Tensor, info: TensorInfo, path: Path, place: str) -> Tensor:
    """As many as the shape has."""
    more = _missing(len(numbers), info, path, place)
    if more * numbers.dtype.itemsize > LARGEST_FILLED:
        raise _far_larger(len(numbers), info, path, place)
    if not len(numbers):
        numbers = torch.zeros(1, dtype=numbers.dtype)
    if info.elements <= 1:
        return numbers[: info.elements].view(info.shape)
    if len(numbers) == 1:
        return numbers.expand(info.shape)
    if more:
        numbers = torch.cat([numbers, numbers[-1].expand(more)])
    return numbers.view(info.shape)


def _missing(values: int, info: TensorInfo, path: Path, place: str) -> int:
    more = prod(info.shape) - values
    if more < 0:
        raise CheckpointError(path, place, f"{values} values for shape {list(info.shape)}")
    return more


def _far_larger(values: int, info: TensorInfo, path: Path, place: str) -> CheckpointError:
    reason = f"{info.dtype} of shape {list(info.shape)}, of which the file has {values} values"
    return CheckpointError(path, place, reason)
