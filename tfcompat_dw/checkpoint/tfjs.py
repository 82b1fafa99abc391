"""TensorFlow.js' weights: a JSON manifest, and the files that it names.

The format: ``tfjs-core/src/io/types.ts`` and ``io_utils.ts`` of TensorFlow.js.  A group's weights
are the bytes of its files in a row, one after another; quantized ones are integers with a scale and
a smallest value, or halves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite, prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.base import (
    TORCH_DTYPES,
    Checkpoint,
    CheckpointError,
    TensorInfo,
    parsed_json,
)
from tfcompat_dw.checkpoint.mapped import MappedFile

if TYPE_CHECKING:
    from tfcompat_dw.checkpoint.graph import Graph

MODEL = "model.json"
DTYPES = ("float32", "float16", "int32", "uint8", "uint16", "bool", "complex64", "string")
AFFINE = ("uint8", "uint16")
MOST_DIMENSIONS = 32
LARGEST_MANIFEST = 2**28
"""Bytes; a graph of thousands of nodes has some millions."""


@dataclass(frozen=True)
class _Weight:
    """Where a tensor is in its group, and how it is written there."""

    info: TensorInfo
    group: int
    offset: int
    stored: str
    """The type of what is stored."""
    scale: float = 1.0
    smallest: float = 0.0

    @property
    def is_affine(self) -> bool:
        """Whether integers stand for other numbers."""
        return self.stored in AFFINE and self.stored != self.info.dtype


class TensorFlowJs(Checkpoint):
    """``model.json`` of either kind, or a manifest of weights; keys are the weights' names.

    Quantized weights come as the numbers that they stand for.
    """

    format = "TensorFlow.js weights"

    def __init__(self, path: Path) -> None:
        self._json = path / MODEL if path.is_dir() else path
        super().__init__(path)
        file = MappedFile(self._json)
        if file.size > LARGEST_MANIFEST:
            raise CheckpointError(self._json, "", f"{file.size} bytes are no manifest")
        content = parsed_json(bytes(file.view(0, file.size, "")), self._json, "")
        self._model = content if isinstance(content, dict) else {}
        manifest = self._model.get("weightsManifest") if self._model else content
        if not isinstance(manifest, list):
            raise self._error("weightsManifest", "missing: this is no TensorFlow.js model")
        self._groups: list[_Group] = []
        self._weights: dict[str, _Weight] = {}
        self._shards: set[Path] = set()
        for number, group in enumerate(manifest):
            self._add_group(number, group)

    def info(self, name: str) -> TensorInfo:
        """Data type, once it is no longer quantized, and shape."""
        return self._weights[name].info

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        group = self._groups[weight.group]
        if weight.info.dtype == "string":
            text = MappedFile.of_bytes(self._json, b"".join(self.strings(name)))
            return text.tensor(0, "uint8", (text.size,), name)
        size = weight.info.elements * TORCH_DTYPES[weight.stored].itemsize
        part = group.part(weight.offset, size, name)
        stored = part.tensor(0, weight.stored, weight.info.shape, name)
        if weight.stored == "bool" and (stored.view(torch.uint8) > 1).any():
            raise self._error(name, "bytes that are neither true nor false")
        if not weight.is_affine:
            return stored.to(TORCH_DTYPES[weight.info.dtype])
        values = stored.double() * weight.scale + weight.smallest  # as JavaScript computes
        if weight.info.dtype == "float32":
            return values.float()
        values = values.add(0.5).floor()  # and rounds
        if not ((values >= -(2**31)) & (values < 2**31)).all():
            raise self._error(name, "quantized numbers that stand for none of 32 bits")
        return values.int()

    def strings(self, name: str) -> list[bytes]:
        """The elements of a string tensor: each has its length, 32 bits, before it."""
        weight = self._weights[name]
        if weight.info.dtype != "string":
            return super().strings(name)
        group, found, position = self._groups[weight.group], [], weight.offset
        for _ in range(weight.info.elements):
            length = int.from_bytes(group.part(position, 4, name).view(0, 4, name), "little")
            found.append(bytes(group.part(position + 4, length, name).view(0, length, name)))
            position += 4 + length
        return found

    def model_config(self) -> dict[str, Any] | None:
        """Keras' description, of a layers model."""
        topology = self._model.get("modelTopology")
        if not isinstance(topology, dict):
            return None
        config = topology.get("model_config", topology)
        return config if isinstance(config, dict) and "class_name" in config else None

    def keras_version(self) -> str | None:
        """The version that the model was converted from."""
        topology = self._model.get("modelTopology")
        version = topology.get("keras_version") if isinstance(topology, dict) else None
        return version if isinstance(version, str) else None

    # ---- the graph -----------------------------------------------------------------------------

    def graph(
        self, signature: str | None = None, outputs: Sequence[str] | None = None
    ) -> Graph | None:
        """Of a graph model; it has one signature at the most, without a name."""
        topology = self._model.get("modelTopology")
        if not isinstance(topology, dict) or not isinstance(topology.get("node"), list):
            return None
        from tfcompat_dw.checkpoint.tfjs_graph import JavaScriptGraph

        return JavaScriptGraph(self, self._json, self._model).graph(signature, outputs)

    # ---- the manifest ------------------------------------------------------------------------

    def _add_group(self, number: int, group: Any) -> None:
        place = f"weightsManifest[{number}]"
        paths = group.get("paths") if isinstance(group, dict) else None
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(paths, list) or not isinstance(weights, list):
            raise self._error(place, "no lists 'paths' and 'weights'")
        files = [self._shard(path, f"{place}.paths") for path in paths]
        self._groups.append(_Group(self._json, files))
        offset = 0
        for entry in weights:
            name, weight = self._weight(entry, number, offset, place)
            if name in self._weights:
                raise self._error(place, f"two weights are named {name!r}")
            self._weights[name] = weight
            offset = self._end(name, weight)
        if offset != self._groups[number].size:
            raise self._error(
                place, f"its files have {self._groups[number].size} bytes, its weights {offset}"
            )

    def _shard(self, path: Any, place: str) -> Path:
        """A file beside the manifest, or in a folder beside it."""
        pure = PurePosixPath(path) if isinstance(path, str) else None
        if pure is None or pure.is_absolute() or ".." in pure.parts or "\0" in str(path):
            raise self._error(place, f"{path!r} is no file beside the manifest")
        try:
            folder = self._json.parent.resolve()
            file = (folder / pure).resolve()
            is_there = file.is_file()
        except (OSError, ValueError, RuntimeError) as error:  # too long, no text, a link in circles
            raise self._error(place, f"{path[:80]!r} is no file beside the manifest") from error
        if not file.is_relative_to(folder):
            raise self._error(place, f"{path!r} leads out of the manifest's folder")
        if not is_there:
            raise self._error(place, f"{path!r} is missing: a part of the weights")
        if file in self._shards:
            raise self._error(place, f"{path!r} is listed twice")
        self._shards.add(file)
        return file

    def _weight(self, entry: Any, group: int, offset: int, place: str) -> tuple[str, _Weight]:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise self._error(place, "a weight without a name")
        if not name.isascii() and name != name.encode(errors="replace").decode():
            raise self._error(place, f"a name that is no text: {name!r:.80}")
        dtype, shape = entry.get("dtype"), entry.get("shape")
        if dtype not in DTYPES:
            raise self._error(name, f"data of type {dtype!r}; one of {', '.join(DTYPES)} is read")
        if (
            not isinstance(shape, list)
            or len(shape) > MOST_DIMENSIONS
            or any(type(n) is not int or n < 0 for n in shape)
        ):
            raise self._error(name, f"shape {shape!r:.80}")
        info = TensorInfo(dtype, tuple(shape))
        quantization = entry.get("quantization")
        if quantization is None:
            return name, _Weight(info, group, offset, dtype)
        return name, self._quantized(name, info, group, offset, quantization)

    def _quantized(
        self, name: str, info: TensorInfo, group: int, offset: int, about: Any
    ) -> _Weight:
        kind = about.get("dtype") if isinstance(about, Mapping) else None
        if kind == "float16" and info.dtype == "float32":
            return _Weight(info, group, offset, kind)
        numbers = (about.get("scale"), about.get("min")) if isinstance(about, Mapping) else ()
        if (
            kind not in AFFINE
            or info.dtype not in ("float32", "int32")
            or any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers)
        ):
            raise self._error(
                name, f"quantization {about!r:.80} of {info.dtype}, which is not known"
            )
        scale, smallest = (_finite(n) for n in numbers)
        if scale is None or smallest is None:
            raise self._error(name, "a quantization by numbers that are not finite")
        return _Weight(info, group, offset, kind, scale, smallest)

    def _end(self, name: str, weight: _Weight) -> int:
        """Where the next weight begins; the group must have all of this one's bytes."""
        group = self._groups[weight.group]
        if weight.info.dtype == "string":
            if weight.info.elements * 4 > group.size:
                raise self._error(name, f"{weight.info.elements} strings are not in the files")
            return weight.offset + sum(4 + len(text) for text in self._strings_of(weight, name))
        size = prod(weight.info.shape) * TORCH_DTYPES[weight.stored].itemsize
        if weight.offset + size > group.size:
            raise self._error(
                name,
                f"bytes {weight.offset} to {weight.offset + size} of files that have {group.size}",
            )
        return weight.offset + size

    def _strings_of(self, weight: _Weight, name: str) -> list[bytes]:
        self._weights[name] = weight
        return self.strings(name)

    def _error(self, place: str, reason: str) -> CheckpointError:
        return CheckpointError(self._json, place, reason)


def _finite(number: Any) -> float | None:
    """JSON has numbers of any size, and Python's takes infinite ones."""
    try:
        return float(number) if isfinite(number) else None
    except OverflowError:
        return None


class _Group:
    """The bytes of several files in a row."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        self._path = path
        self._files = [MappedFile(file) for file in files]
        self._starts = [0, *accumulate(file.size for file in self._files)]

    @property
    def size(self) -> int:
        """Of all files."""
        return self._starts[-1]

    def part(self, offset: int, size: int, place: str) -> MappedFile:
        """Some of the bytes: not copied where they lie in one file."""
        if offset + size > self.size:
            raise CheckpointError(
                self._path, place, f"bytes {offset} to {offset + size} of {self.size} are asked for"
            )
        pieces = []
        number = max(0, bisect_right(self._starts, offset) - 1)
        while number < len(self._files) and self._starts[number] < offset + size:
            start, file = self._starts[number], self._files[number]
            first, last = max(offset, start), min(offset + size, start + file.size)
            if first < last:
                pieces.append(file.part(first - start, last - first, place))
            number += 1
        if len(pieces) == 1:
            return pieces[0]
        data = b"".join(piece.view(0, piece.size, place) for piece in pieces)
        return MappedFile.of_bytes(self._path, data)
