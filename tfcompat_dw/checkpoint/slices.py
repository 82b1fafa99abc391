"""Shapes, and the slices that partitioned variables are stored in.

``tensorflow/core/framework/{tensor_shape,tensor_slice}.cc``; a slice is found under a key made of
the tensor's name and the slice (``tensorflow/core/util/saved_tensor_slice_util.cc``) in an encoding
whose bytes sort as what they stand for (``tensorflow/core/lib/strings/ordered_code.cc``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.base import CheckpointError

FULL = -1
"""The length of a slice that has all of a dimension."""
MOST_DIMENSIONS = 64
"""PyTorch indexes no more."""


def tensor_shape(proto: Any, path: Path, place: str) -> tuple[int, ...]:
    """A ``TensorShapeProto``'s sizes: none negative, and their product no more than 63 bits."""
    shape = tuple(dim.size for dim in proto.dim[: MOST_DIMENSIONS + 1])
    if proto.unknown_rank or any(size < 0 for size in shape):
        raise CheckpointError(path, place, f"a shape that is not known: {list(shape)}")
    if len(shape) > MOST_DIMENSIONS:
        raise CheckpointError(path, place, f"more than {MOST_DIMENSIONS} dimensions")
    if prod(max(size, 1) for size in shape) > (2**63 - 1) // 16:
        raise CheckpointError(path, place, f"a shape of more bytes than 2**63: {list(shape)}")
    return shape


@dataclass(frozen=True)
class TensorSlice:
    """A start and a length for each dimension; a length of -1 is all of it."""

    extents: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, proto: Any, shape: Sequence[int], path: Path, place: str) -> TensorSlice:
        """Out of a ``TensorSliceProto``; one that does not lie within ``shape`` is an error."""
        extents = tuple(
            (extent.start, extent.length if extent.HasField("length") else FULL)
            for extent in proto.extent[: len(shape) + 1]
        )
        if len(extents) != len(shape) or not all(
            (start == 0 and length == FULL) or (start >= 0 and 0 <= length <= size - start)
            for (start, length), size in zip(extents, shape, strict=True)
        ):
            reason = f"a slice {list(extents)} that is not within its shape {list(shape)}"
            raise CheckpointError(path, place, reason)
        return cls(extents)

    @property
    def is_full(self) -> bool:
        """Whether it is written as all of its tensor."""
        return all(length == FULL for _, length in self.extents)

    def shape(self, full: Sequence[int]) -> tuple[int, ...]:
        """Its own shape, within a tensor of shape ``full``."""
        return tuple(
            size if length == FULL else length
            for (_, length), size in zip(self.extents, full, strict=True)
        )

    def index(self, full: Sequence[int]) -> tuple[slice, ...]:
        """What selects it in a tensor of shape ``full``."""
        return tuple(
            slice(start, start + size)
            for (start, _), size in zip(self.extents, self.shape(full), strict=True)
        )

    def key(self, name: bytes) -> bytes:
        """The key it is stored under, for a tensor of that name."""
        escaped = re.sub(rb"[\x00\xff]", lambda byte: _ESCAPED[byte[0]], name)
        extents = (_signed(value) for extent in self.extents for value in extent)
        return b"".join((_number(0), escaped, b"\x00\x01", _number(len(self.extents)), *extents))


_ESCAPED = {b"\x00": b"\x00\xff", b"\xff": b"\xff\x00"}


def _number(value: int) -> bytes:
    """How many bytes follow, and these."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
    """In L bytes of 7 bits each: two's complement with its first L bits inverted."""
    size = (value if value >= 0 else ~value).bit_length() // 7 + 1
    bits = value & ((1 << 8 * size) - 1)
    return (bits ^ ((1 << size) - 1) << 7 * size).to_bytes(size, "big")


def check_partition(
    slices: Sequence[TensorSlice], shape: Sequence[int], path: Path, place: str
) -> None:
    """Together they must be the tensor, each element once.

    Takes a byte for each element: the caller knows already that the file has that many.
    """
    stored = sum(prod(part.shape(shape)) for part in slices)
    if stored != prod(shape):
        reason = f"slices of {stored} elements for a tensor of {prod(shape)}: some are missing"
        raise CheckpointError(path, place, reason)
    taken = torch.zeros(tuple(shape), dtype=torch.bool)
    for part in slices:
        region = taken[part.index(shape)]
        if region.any():
            raise CheckpointError(path, place, f"slices that overlap, at {list(part.extents)}")
        region.fill_(True)


def assemble(
    parts: Iterable[tuple[TensorSlice, Tensor]], shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """The tensor whose slices these are."""
    result = torch.empty(tuple(shape), dtype=dtype)
    for part, values in parts:
        result[part.index(shape)] = values
    return result
