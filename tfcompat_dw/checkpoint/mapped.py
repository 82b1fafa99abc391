"""A file's bytes, mapped into memory, never read past their end."""

from __future__ import annotations

import mmap
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.base import TORCH_DTYPES, CheckpointError


class MappedFile:
    """The bytes of one file, or of a file within a file.

    The mapping is private: tensors that view it may be written to, and the file stays as it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if size else b""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CheckpointError(path, "", reason) from error
        self._bytes = memoryview(content)

    @classmethod
    def of_bytes(cls, path: Path, data: bytes) -> MappedFile:
        """What was unpacked out of the file ``path``."""
        file = cls.__new__(cls)
        file.path, file._bytes = path, memoryview(bytearray(data))
        return file

    def part(self, offset: int, size: int, place: str) -> MappedFile:
        """A file that lies within this one."""
        file = type(self).__new__(type(self))
        file.path, file._bytes = self.path, self.view(offset, size, place)
        return file

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self._bytes)

    def view(self, offset: int, size: int, place: str) -> memoryview:
        """Bytes ``offset`` to ``offset + size``, not copied; ``place`` names them in errors."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CheckpointError(
                self.path,
                place,
                f"bytes {offset} to {offset + size} are asked for, there are {self.size}",
            )
        return self._bytes[offset : offset + size]

    def tensor(self, offset: int, dtype: str, shape: tuple[int, ...], place: str) -> Tensor:
        """Little-endian numbers; a view of the file where their address is a multiple of theirs."""
        type = TORCH_DTYPES[dtype]
        if prod(size for size in shape if size) >= 2**63:  # more than PyTorch counts
            raise CheckpointError(self.path, place, f"shape {shape}")
        view = self.view(offset, prod(shape) * type.itemsize, place)
        if not len(view):
            return torch.empty(shape, dtype=type)
        tensor = torch.frombuffer(view, dtype=torch.uint8)
        if tensor.data_ptr() % type.itemsize:
            tensor = tensor.clone()
        return tensor.view(type).view(shape)
