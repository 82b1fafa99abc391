"""HDF5 files: pyfive finds what is where, and what it says is checked before it is believed.

pyfive is a reader in plain Python (the format: "HDF5 File Format Specification", The HDF Group).
It trusts files, so it reads through a file object that stops it where a loop has no end, whatever
it raises becomes a :class:`CheckpointError`, and numbers are read here.  Links that lead out of the
file (external links and storage, virtual datasets) are not followed.
"""

from __future__ import annotations

import contextlib
import os
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from math import ceil, prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyfive
import torch
from torch import Tensor

from tfcompat_dw.checkpoint.base import TORCH_DTYPES, CheckpointError, TensorInfo
from tfcompat_dw.checkpoint.mapped import MappedFile

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
DEFLATE_RATIO = 1032
"""Deflate makes no more of a byte (zlib's "technical details")."""
SMALLEST_OBJECT = 24
"""Bytes; a group or a dataset takes more than this."""
UNDEFINED = 2**64 - 1
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2
FLAGS = {"FALSE": 0, "TRUE": 1}
"""How h5py writes booleans: an enumeration."""
Result = TypeVar("Result")


class _Metered:
    """A file for pyfive: bytes of the map, and only so many reads as a file of its size needs."""

    closed = False

    def __init__(self, file: MappedFile) -> None:
        self._file, self._position, self._left = file, 0, 0

    def refill(self) -> None:
        """Before each question."""
        self._left = 16 * self._file.size + 2**20

    def read(self, size: int = -1) -> bytes:
        """What is there, like any file."""
        end = self._file.size
        if size >= 0:
            end = min(end, self._position + size)
        size = max(0, end - self._position)
        self._left -= size + 16
        if self._left < 0:
            raise ValueError("its structures lead in circles")
        data = bytes(self._file.view(self._position, size, "")) if size else b""
        self._position += size
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Anywhere; past the end there is nothing to read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}
        if base[whence] + offset < 0:
            raise ValueError("an address before the file's beginning")
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        """Where it is."""
        return self._position


class Hdf5File:
    """The datasets and attributes of a file, by their paths."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self._metered = _Metered(file)
        root = self._ask("", lambda: pyfive.File(self._metered))
        self._base = self._ask("", lambda: int(root.userblock_size))
        self._attributes: dict[str, Any] = {}
        self._datasets = dict(self._walk(root))

    @property
    def datasets(self) -> Mapping[str, TensorInfo]:
        """By path, in the file's order."""
        return {path: self.info(path) for path in self._datasets}

    @property
    def groups(self) -> list[str]:
        """Paths of all groups; the root is the empty one."""
        return list(self._attributes)

    def info(self, path: str) -> TensorInfo:
        """Data type and shape of a dataset; ``KeyError`` if there is none."""
        dataset = self._datasets[path]
        return self._ask(path, lambda: TensorInfo(_dtype_name(dataset), _shape(dataset)))

    def attributes(self, path: str) -> dict[str, Any]:
        """Of a group; ``KeyError`` if there is none.  Strings are bytes."""
        group = self._attributes[path]
        return self._ask(path, lambda: dict(group.attrs))

    def __contains__(self, path: object) -> bool:
        return path in self._datasets

    def __iter__(self) -> Iterator[str]:
        return iter(self._datasets)

    def __len__(self) -> int:
        return len(self._datasets)

    def strings(self, path: str) -> list[bytes]:
        """The elements of a string dataset."""
        info, dataset = self.info(path), self._datasets[path]
        if info.dtype != "string":
            raise TypeError(f"{path} is {info.dtype}, not string")
        if info.elements > self.file.size:  # each takes some bytes
            raise self._error(path, f"{info.elements} strings in a file of {self.file.size} bytes")
        return self._ask(path, lambda: [_bytes(text) for text in np.ravel(dataset[()])])

    def tensor(self, path: str) -> Tensor:
        """The numbers of a dataset; a view of the file where they lie in one piece."""
        info, dataset = self.info(path), self._datasets[path]
        if info.dtype == "string":
            text = MappedFile.of_bytes(self.file.path, b"".join(self.strings(path)))
            return text.tensor(0, "uint8", (text.size,), path)
        if info.dtype not in TORCH_DTYPES:
            raise self._error(path, f"data of type {info.dtype}, which no tensor holds")
        if info.elements == 0:
            return torch.empty(info.shape, dtype=TORCH_DTYPES[info.dtype])
        if info.dtype == "bool":
            self._check_flags(path, dataset)
        layout, dtype = self._ask(path, lambda: (dataset.id.layout_class, dataset.dtype))
        if layout == CONTIGUOUS and dtype.byteorder != ">":
            return self._contiguous(path, dataset, info)
        if layout == CHUNKED:
            data = self._chunked(path, dataset, info, dtype)
        else:
            data = self._small(path, dataset, info, dtype, layout)
        numbers = torch.from_numpy(np.array(data, dtype=dtype.newbyteorder("="), order="C"))
        return numbers.view(TORCH_DTYPES[info.dtype]) if info.dtype == "bool" else numbers

    def _small(self, path: str, dataset: Any, info: TensorInfo, dtype: Any, layout: Any) -> Any:
        """Within the dataset's own description, or numbers whose bytes are in another order."""
        if layout not in (COMPACT, CONTIGUOUS):
            raise self._error(path, "a virtual dataset, whose numbers are in other files")
        if info.elements * dtype.itemsize > self.file.size:
            raise self._error(path, f"{info.shape} elements are more than the file holds")
        data = self._ask(path, lambda: np.asarray(dataset[()]))
        if data.shape != info.shape or data.dtype != dtype:
            raise self._error(path, f"{data.shape} elements instead of {info.shape}")
        return data

    def _check_flags(self, path: str, dataset: Any) -> None:
        """Of booleans: one byte each, which PyTorch takes to be 0 or 1."""
        if prod(_shape(dataset)) > self.file.size:
            raise self._error(path, "more booleans than the file has bytes")
        if self._ask(path, lambda: bool((np.asarray(dataset[()]).view(np.uint8) > 1).any())):
            raise self._error(path, "bytes that are neither true nor false")

    # ---- storage -----------------------------------------------------------------------------

    def _contiguous(self, path: str, dataset: Any, info: TensorInfo) -> Tensor:
        offset = self._ask(path, lambda: int(dataset.id.data_offset))
        if offset == UNDEFINED:
            raise self._error(path, "no data was ever written, or it is in another file")
        return self.file.tensor(self._base + offset, info.dtype, info.shape, path)

    def _chunked(self, path: str, dataset: Any, info: TensorInfo, dtype: Any) -> Any:
        """Decoded chunk by chunk; each may hold no more than a chunk's numbers."""
        chunk = self._ask(path, lambda: tuple(int(size) for size in dataset.chunks))
        if len(chunk) != len(info.shape) or min(chunk) < 1:
            raise self._error(path, f"chunks of {chunk} for a shape of {info.shape}")
        filters = self._ask(path, lambda: _filters(dataset))
        stored = self._ask(path, lambda: _chunks(dataset))
        expected = prod(ceil(size / step) for size, step in zip(info.shape, chunk, strict=True))
        if len(stored) != expected:
            raise self._error(path, f"{len(stored)} of its {expected} chunks are in the file")
        of_chunk = prod(chunk) * dtype.itemsize
        held = sum(size for _, _, _, size in stored)
        wanted = max(prod(info.shape) * dtype.itemsize, of_chunk)
        if held > self.file.size or wanted > held * DEFLATE_RATIO:
            raise self._error(path, f"{wanted} bytes cannot come of the {held} that are stored")
        result = np.empty(info.shape, dtype)
        for start, mask, offset, size in stored:
            raw = self.file.view(self._base + offset, size, path)
            data = self._decoded(path, raw, [f for i, f in enumerate(filters) if not mask >> i & 1])
            if len(data) != of_chunk:
                raise self._error(path, f"a chunk of {len(data)} bytes instead of {of_chunk}")
            target = tuple(
                slice(first, min(first + step, size))
                for first, step, size in zip(start, chunk, info.shape, strict=True)
            )
            piece = np.frombuffer(data, dtype).reshape(chunk)
            if any(
                span.start % step or span.start >= span.stop
                for span, step in zip(target, chunk, strict=True)
            ):
                raise self._error(path, f"a chunk at {start}, outside of {info.shape}")
            result[target] = piece[tuple(slice(0, span.stop - span.start) for span in target)]
        return result

    def _decoded(
        self, path: str, data: memoryview | bytes, filters: list[tuple[int, int, int]]
    ) -> memoryview | bytes:
        for kind, itemsize, limit in reversed(filters):
            if kind == DEFLATE:
                data = self._inflated(path, data, limit)
            elif kind == SHUFFLE and itemsize > 1:
                whole = len(data) // itemsize * itemsize
                planes = np.frombuffer(data[:whole], np.uint8).reshape(itemsize, -1)
                data = planes.T.tobytes() + bytes(data[whole:])
            elif kind == FLETCHER32:
                data = data[:-4]
        return data

    def _inflated(self, path: str, data: memoryview | bytes, limit: int) -> bytes:
        stream = zlib.decompressobj()
        try:
            result = stream.decompress(data, limit + 1)
        except zlib.error as error:
            raise self._error(path, f"a chunk that is no zlib stream ({error})") from error
        if len(result) > limit:
            raise self._error(path, f"a chunk that unpacks to more than its {limit} bytes")
        return result

    # ---- what pyfive says ----------------------------------------------------------------------

    def _walk(self, root: Any) -> Iterator[tuple[str, Any]]:
        """Every dataset with its path; groups are noted on the way."""
        most = self.file.size // SMALLEST_OBJECT + 1
        seen: set[int] = {id(root._dataobjects)}
        waiting: list[tuple[str, Any]] = [("", root)]
        count = 0
        while waiting:
            path, thing = waiting.pop()
            if isinstance(thing, pyfive.Dataset):
                yield path, thing
                continue
            if not isinstance(thing, pyfive.Group):
                continue  # a named type
            self._attributes[path] = thing
            inner = []
            for name in self._names(path, thing):
                count += 1
                if count > most:
                    raise self._error(path, "more objects than the file has room for")
                place = f"{path}/{name}" if path else name
                child = self._child(place, thing, name)
                if isinstance(child, pyfive.Group):
                    if id(child._dataobjects) in seen:
                        raise self._error(place, "a group within itself, or a second name of one")
                    seen.add(id(child._dataobjects))
                inner.append((place, child))
            waiting += reversed(inner)

    def _names(self, place: str, group: Any) -> list[str]:
        return self._ask(place, lambda: [str(name) for name in group])

    def _child(self, place: str, group: Any, name: str) -> Any:
        if "/" in name or name in ("", ".", ".."):
            raise self._error(place, f"an object named {name!r}")
        if isinstance(group._links.get(name), str):
            raise self._error(place, "a soft link; links are not followed")
        return self._ask(place, lambda: group.get_lazy_view(name))

    def _ask(self, place: str, question: Callable[[], Result]) -> Result:
        """The answer; whatever goes wrong in pyfive is the file's fault."""
        self._metered.refill()
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(None):
                warnings.simplefilter("ignore")
                return question()
        except CheckpointError:
            raise
        except ImportError:
            raise
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise self._error(place, f"damaged, or not understood ({reason[:200]})") from error

    def _error(self, place: str, reason: str) -> CheckpointError:
        return CheckpointError(self.file.path, place, reason)


def _shape(dataset: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in dataset.shape or ())


def _dtype_name(dataset: Any) -> str:
    """TensorFlow's name of a dataset's type."""
    dtype = dataset.dtype
    if dtype.kind in "OS":
        return "string"
    if (dtype.metadata or {}).get("enum") == FLAGS:
        return "bool"
    return str(np.dtype(dtype).newbyteorder("=").name)


def _bytes(text: Any) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text or b"")


def _filters(dataset: Any) -> list[tuple[int, int, int]]:
    """(kind, bytes of a number, most bytes that come out) of each filter, in writing order."""
    limit = prod(int(size) for size in dataset.chunks) * dataset.dtype.itemsize + 4
    pipeline = dataset.id.filter_pipeline or []
    kinds = [int(entry["filter_id"]) for entry in pipeline]
    unknown = [kind for kind in kinds if kind not in (DEFLATE, SHUFFLE, FLETCHER32)]
    if unknown:
        raise ValueError(f"compressed by filter {unknown[0]}; only gzip is read")
    return [(kind, dataset.dtype.itemsize, limit) for kind in kinds]


def _chunks(dataset: Any) -> list[tuple[tuple[int, ...], int, int, int]]:
    """(start, filter mask, offset, size) of every chunk in the file."""
    dataset.id._build_index()
    return [
        (tuple(info.chunk_offset), int(info.filter_mask), int(info.byte_offset), int(info.size))
        for info in map(dataset.id.get_chunk_info, range(dataset.id.get_num_chunks()))
    ]


def open_hdf5(path: Path) -> Hdf5File:
    """A file on disk."""
    return Hdf5File(MappedFile(path))
