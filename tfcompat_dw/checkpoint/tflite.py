"""TFLite files (LiteRT): their constants, and the network that they hold.

A flatbuffer (``tensorflow/compiler/mlir/lite/schema/schema.fbs``): tensors, most of them results of
operators, the rest constants in buffers; integers may stand for real numbers (``scale * (q -
zero_point)``), and a constant may be stored without its zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tfcompat_dw.checkpoint.base import TORCH_DTYPES, Checkpoint, CheckpointError, TensorInfo
from tfcompat_dw.checkpoint.flatbuffers import FlatBuffer, Table
from tfcompat_dw.checkpoint.graph import (
    Graph,
    GraphInput,
    GraphNode,
    Output,
    Quantization,
    needed,
)
from tfcompat_dw.checkpoint.mapped import MappedFile
from tfcompat_dw.checkpoint.tflite_schema import (
    CUSTOM,
    TENSOR_TYPES,
    custom_options,
    operator_name,
    options_of,
)
from tfcompat_dw.names import Names

MOST_DIMENSIONS = 16
MADE_PER_BYTE, LEAST_MADE = 64, 2**26
"""Bytes that may be made of a file's: by quantized constants, sparse ones, those that share their
bytes, together."""
MISSING = Output("")
"""In the place of an optional input that is not given."""
QUANTIZED = ("int8", "uint8", "int16", "int32", "int64", "int4")


@dataclass(frozen=True)
class _Stored:
    """One tensor of a subgraph, as the file describes it."""

    name: str
    shape: tuple[int, ...]
    open_shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None
    buffer: tuple[int, int] | None
    """Where a constant's bytes begin, and how many there are."""
    sparsity: Table | None
    is_state: bool
    """Whether it is kept from one call to the next, zeros at first."""

    @property
    def real_dtype(self) -> str:
        """Of the numbers that it stands for."""
        return self.dtype if self.quantization is None else "float32"

    @property
    def is_view(self) -> bool:
        """Whether its numbers are those of the file as they are."""
        return self.quantization is None and self.sparsity is None

    @property
    def size(self) -> int:
        """Bytes of what it stands for."""
        kind = TORCH_DTYPES.get(self.real_dtype, torch.float64)
        return prod(self.shape) * kind.itemsize


@dataclass(frozen=True)
class _Operator:
    """One operator of a subgraph, tensors by their numbers."""

    op: str
    inputs: list[int]
    results: list[int]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class _Subgraph:
    """One network of a file."""

    name: str
    tensors: list[_Stored]
    inputs: list[int]
    outputs: list[int]
    operators: list[_Operator]


@dataclass(frozen=True)
class _Signature:
    """Which subgraph it is, and names of that one's tensors by their numbers."""

    subgraph: int
    inputs: dict[int, str]
    outputs: dict[int, str]


class TFLite(Checkpoint):
    """A ``.tflite`` file; keys are the names of its constants (``name_1`` where one comes again).

    Quantized constants come as the float32 numbers that they stand for, sparse ones with their
    zeros.

    Raises:
        CheckpointError: this is no TFLite file, or it is damaged.
    """

    format = "TFLite"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = MappedFile(path)
        if self._file.size < 8 or bytes(self._file.view(4, 4, "")) != b"TFL3":
            raise CheckpointError(path, "", "no TFLite file: it does not begin with TFL3")
        self._model = FlatBuffer(self._file).root()
        self._buffers = self._model.tables(4)
        self._subgraphs = self._model.tables(2)
        self._read: dict[int, _Subgraph] = {}
        if not self._subgraphs:
            raise CheckpointError(path, "", "a TFLite file without a network")

    # ---- constants -----------------------------------------------------------------------------

    def info(self, name: str) -> TensorInfo:
        """Data type, once it is no longer quantized, and shape."""
        stored = self._constants[name]
        return TensorInfo(stored.real_dtype, stored.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._constants)

    def __len__(self) -> int:
        return len(self._constants)

    def __contains__(self, name: object) -> bool:
        return name in self._constants

    def __getitem__(self, name: str) -> Tensor:
        return self._real(self._constants[name])

    def strings(self, name: str) -> list[bytes]:
        """The elements of a constant of strings; ``TypeError`` for another one."""
        stored = self._constants[name]
        return self._strings(stored) if stored.dtype == "string" else super().strings(name)

    @cached_property
    def _constants(self) -> dict[str, _Stored]:
        return {one.name: one for one in self._subgraph(0).tensors if one.buffer is not None}

    def _strings(self, stored: _Stored) -> list[bytes]:
        """Their number, where each begins and where the last ends, then their bytes."""
        assert stored.buffer is not None
        name, (start, size) = stored.name, stored.buffer
        if not size:
            return []
        part = self._file.part(start, size, name)
        count = int.from_bytes(part.view(0, 4, name), "little")
        if count != prod(stored.shape):
            raise self._error(name, f"{count} strings of shape {list(stored.shape)}")
        ends = np.frombuffer(part.view(4, 4 * (count + 1), name), "<i4").tolist()
        if any(first > last for first, last in pairwise(ends)):
            raise self._error(name, "strings that end before they begin")
        pairs = pairwise(ends)
        return [bytes(part.view(first, last - first, name)) for first, last in pairs]

    def _real(self, stored: _Stored) -> Tensor:
        """The numbers that a constant stands for."""
        self._check_made([stored])
        values = self._values(stored)
        return values if stored.quantization is None else _dequantized(values, stored.quantization)

    def _check_made(self, constants: Iterable[_Stored]) -> None:
        """That constants which are kept at the same time are not far larger than the file."""
        room, met = MADE_PER_BYTE * self._file.size + LEAST_MADE, set()
        for one in constants:
            if not one.is_view or one.buffer in met:
                room -= one.size
            met.add(one.buffer)
            if room < 0:
                reason = f"{one.dtype} of shape {list(one.shape)}, which is more than is there"
                raise self._error(one.name, reason)

    def _values(self, stored: _Stored) -> Tensor:
        """What is stored, in a dtype of PyTorch's."""
        assert stored.buffer is not None
        start, size = stored.buffer
        if stored.dtype == "string":
            text = MappedFile.of_bytes(self.path, b"".join(self._strings(stored)))
            return text.tensor(0, "uint8", (text.size,), stored.name)
        part = self._file.part(start, size, stored.name)
        if stored.sparsity is not None:
            return self._dense(stored, part)
        if stored.dtype == "int4":
            return _unpacked(part, stored)
        if stored.dtype not in TORCH_DTYPES:
            raise self._error(stored.name, f"data of type {stored.dtype}, which is not read")
        values = part.tensor(0, stored.dtype, stored.shape, stored.name)
        if stored.dtype == "bool" and bool((values.view(torch.uint8) > 1).any()):
            raise self._error(stored.name, "bytes that are neither true nor false")
        return values

    # ---- tensors -------------------------------------------------------------------------------

    def _subgraph(self, number: int) -> _Subgraph:
        """One of the networks; its tables are read once."""
        if number not in self._read:
            table = self._subgraphs[number]
            tables = table.tables(0)
            names = _unique([one.text(3) for one in tables])
            tensors = [self._stored(*pair) for pair in zip(tables, names, strict=True)]
            self._read[number] = _Subgraph(
                table.text(4) or "tflite",
                tensors,
                self._numbers(table, 1, len(tensors)),
                self._numbers(table, 2, len(tensors)),
                [self._operator(one, len(tensors)) for one in table.tables(3)],
            )
        return self._read[number]

    def _numbers(self, table: Table, slot: int, count: int) -> list[int]:
        """A list of tensors; -1 is none."""
        numbers: list[int] = table.vector(slot, "int32").tolist()
        if any(not -1 <= number < count for number in numbers):
            raise self._error("subgraph", f"a tensor of {count} has another number")
        return numbers

    def _operator(self, table: Table, tensors: int) -> _Operator:
        inputs, results = self._numbers(table, 1, tensors), self._numbers(table, 2, tensors)
        number = table.number(0, "uint32")
        if number >= len(self._codes):
            raise self._error("operator_codes", f"code {number} of {len(self._codes)}")
        code, name = self._codes[number]
        if code == CUSTOM:
            options = table.vector(5, "uint8").tobytes()
            attributes = {**custom_options(name, options, self.path), "custom_options": options}
        else:
            attributes = options_of(name, table.table(4))
        return _Operator(name, inputs, results, attributes)

    @cached_property
    def _codes(self) -> list[tuple[int, str]]:
        """Numbers and names of the operations that operators name by their places here."""
        found = []
        for table in self._model.tables(1):
            code = max(table.number(0, "int8"), table.number(3, "int32"))
            name = table.text(1) or "CUSTOM" if code == CUSTOM else operator_name(code)
            found.append((code, name))
        return found

    def _stored(self, table: Table, name: str) -> _Stored:
        shape = self._shape(table, 0, name)
        signature = self._shape(table, 7, name) or shape
        if len(signature) != len(shape):
            raise self._error(name, f"shapes {shape} and {signature}")
        number = table.number(1, "int8")
        dtype = TENSOR_TYPES[number] if 0 <= number < len(TENSOR_TYPES) else f"type {number}"
        return _Stored(
            name,
            shape,
            tuple(None if size < 0 else size for size in signature),
            dtype,
            self._quantization(table.table(4), shape, dtype, name),
            self._buffer(table, name) if min(shape, default=0) >= 0 else None,
            table.table(6),
            bool(table.number(5, "bool")),
        )

    def _shape(self, table: Table, slot: int, name: str) -> tuple[int, ...]:
        sizes = table.vector(slot, "int32").tolist()
        if len(sizes) > MOST_DIMENSIONS or min(sizes, default=0) < -1:
            raise self._error(name, f"shape {sizes!r:.80}")
        return tuple(sizes)

    def _buffer(self, table: Table, name: str) -> tuple[int, int] | None:
        """A constant's bytes; buffer 0 and empty ones are those of results."""
        number = table.number(2, "uint32")
        if number >= len(self._buffers):
            raise self._error(name, f"buffer {number} of {len(self._buffers)}")
        buffer = self._buffers[number]
        found = buffer.span(0, 1)
        if found is None and (offset := buffer.number(1, "uint64")) > 1:
            size = buffer.number(2, "uint64")  # behind the flatbuffer: files of more than 2 GB
            self._file.view(offset, size, name)
            found = offset, size
        return found if number and found and found[1] else None

    def _quantization(
        self, table: Table | None, shape: tuple[int, ...], dtype: str, name: str
    ) -> Quantization | None:
        if table is None or dtype not in QUANTIZED:
            return None
        scale = table.vector(2, "float32")
        zero = table.vector(3, "int64")
        if not np.isfinite(scale).all():
            raise self._error(name, "a scale that is not finite")
        if not scale.any():
            return None
        zero = zero if len(zero) else np.zeros(len(scale), np.int64)
        axis = table.number(6, "int32")
        if axis < 0 or (shape and axis >= len(shape)):
            raise self._error(name, f"scales along axis {axis} of {len(shape)}")
        count = shape[axis] if shape else None
        if len(scale) != len(zero) or (len(scale) > 1 and len(scale) != count):
            raise self._error(name, f"{len(scale)} scales and {len(zero)} zeros for {count}")
        return Quantization(tuple(scale.tolist()), tuple(zero.tolist()), axis, dtype)

    # ---- sparse constants ----------------------------------------------------------------------

    def _dense(self, stored: _Stored, part: MappedFile) -> Tensor:
        """With its zeros (``tensorflow/lite/kernels/internal/utils/sparsity_format_converter.h``).

        Dimensions, and blocks of them, follow each other in an order of the file's; each is either
        stored whole or as a list of the indices that are there.
        """
        assert stored.sparsity is not None
        order = stored.sparsity.vector(0, "int32").tolist()
        blocks = stored.sparsity.vector(1, "int32").tolist()
        levels = stored.sparsity.tables(2)
        rank = len(stored.shape)
        if (
            len(set(blocks)) != len(blocks)
            or any(not 0 <= axis < rank for axis in blocks)
            or sorted(order) != list(range(rank + len(blocks)))
            or len(levels) != len(order)
        ):
            raise self._error(stored.name, "a description of sparse data that makes no sense")
        kind = TORCH_DTYPES.get(stored.dtype)
        if kind is None:
            raise self._error(stored.name, f"sparse data of type {stored.dtype}")
        count = part.size // kind.itemsize
        values = part.tensor(0, stored.dtype, (count,), stored.name)
        index, sizes = self._indices(stored, levels, count)
        places = np.zeros(count, np.int64)
        position = {axis: index[place] for place, axis in enumerate(order)}
        size_of = {axis: sizes[place] for place, axis in enumerate(order)}
        for axis in range(rank):
            along = position[axis]
            for number, blocked in enumerate(blocks):
                if blocked == axis:
                    along = along * size_of[rank + number] + position[rank + number]
            if len(along) and int(along.max()) >= stored.shape[axis]:
                raise self._error(stored.name, "a place outside of the tensor")
            places = places * stored.shape[axis] + along
        if len(np.unique(places)) != len(places):
            raise self._error(stored.name, "two numbers for one place")
        dense = torch.zeros(prod(stored.shape), dtype=kind)
        dense[torch.from_numpy(places)] = values
        return dense.view(stored.shape)

    def _indices(
        self, stored: _Stored, levels: Sequence[Table], count: int
    ) -> tuple[list[NDArray[np.int64]], list[int]]:
        """For each level, its index of every number that is stored, and its size."""
        found: list[NDArray[np.int64]] = []
        sizes: list[int] = []
        for level in levels:
            if level.number(0, "int8") == 0:
                size = level.number(1, "int32")
                here = np.arange(min(max(0, size), count + 1))  # one more is too many
                repeats: Any = len(here)
            else:
                segments, here = self._ints(level, 2, stored), self._ints(level, 4, stored)
                size = int(here.max(initial=-1)) + 1
                repeats = np.diff(segments)
                nodes = len(found[0]) if found else 1
                is_whole = len(repeats) == nodes and segments[0] == 0
                if not is_whole or (repeats < 0).any() or repeats.sum() != len(here):
                    raise self._error(stored.name, "segments that do not fit their indices")
            nodes = len(found[0]) if found else 1
            total = nodes * len(here) if isinstance(repeats, int) else len(here)
            if not 0 < total <= count or (len(here) and int(here.min()) < 0):
                raise self._error(stored.name, f"{total} places for {count} numbers")
            found = [np.repeat(one, repeats) for one in found]
            found.append(np.tile(here, nodes) if isinstance(repeats, int) else here)
            sizes.append(size)
        if not found or len(found[0]) != count:
            raise self._error(stored.name, f"other than {count} places for its numbers")
        return found, sizes

    def _ints(self, level: Table, slot: int, stored: _Stored) -> NDArray[np.int64]:
        """A vector of indices, in one of three types."""
        kinds = {1: "int32", 2: "uint16", 3: "uint8"}
        kind, table = kinds.get(level.number(slot, "uint8")), level.table(slot + 1)
        if kind is None or table is None:
            raise self._error(stored.name, "a level of sparse data without its indices")
        return table.vector(0, kind).astype(np.int64)

    # ---- the network -----------------------------------------------------------------------------

    def signatures(self) -> tuple[str, ...]:
        """The file's, or one for the first subgraph."""
        return tuple(self._signatures)

    @cached_property
    def _signatures(self) -> dict[str, _Signature]:
        found = {}
        for table in self._model.tables(7):
            number = table.number(4, "uint32")
            if number >= len(self._subgraphs):
                raise self._error("signature", f"subgraph {number} of {len(self._subgraphs)}")
            ends = [
                {one.number(1, "uint32"): one.text(0) for one in table.tables(slot)}
                for slot in (0, 1)
            ]
            name = table.text(2) or "main"
            if name in found:
                raise self._error("signature", f"two are named {name[:200]!r}")
            found[name] = _Signature(number, *ends)
        return found or {"main": _Signature(0, {}, {})}

    def graph(
        self, signature: str | None = None, outputs: Sequence[str] | None = None
    ) -> Graph | None:
        """The operators under TFLite's names, ``DEPTHWISE_CONV_2D``, their options as attributes.

        A node has its first result's name.  An optional input that is not given is
        :data:`MISSING`.  ``quantization`` has the results that the original computes in integers;
        inputs that are such are described as the float32 numbers that these stand for.
        """
        names = self.signatures()
        if signature is not None and signature not in names:
            raise ValueError(f"there is no signature {signature!r}; there are {list(names)}")
        return _GraphReader(self, self._signatures[signature or names[0]]).graph(outputs)

    def _error(self, place: str, reason: str) -> CheckpointError:
        return CheckpointError(self.path, place, reason)


class _GraphReader:
    """Makes a graph of one subgraph."""

    def __init__(self, file: TFLite, signature: _Signature) -> None:
        self.file, self.signature = file, signature
        self.subgraph = file._subgraph(signature.subgraph)
        self.tensors = list(self.subgraph.tensors)
        self.made: dict[int, Output] = {}
        """By the tensors' numbers."""
        self.nodes: dict[str, GraphNode] = {}
        self.constants: dict[str, _Stored] = {}

    def graph(self, wanted: Sequence[str] | None) -> Graph:
        for index in self.subgraph.inputs:
            self._add_input(index)
        for operator in self.subgraph.operators:
            self._add(operator)
        ends = self._ends()
        if wanted is not None:
            ends = {name: self._named(name) for name in wanted}
        nodes = needed(self.nodes, ends.values())  # constants were met before their operators
        if wanted is None:
            nodes = {**self._placeholders(), **nodes}
        constants = {name: self.constants[name] for name in nodes if name in self.constants}
        self.file._check_made(constants.values())
        return Graph(
            self.subgraph.name,
            nodes,
            tuple(
                self._input(index) for index in self.subgraph.inputs if self._name(index) in nodes
            ),
            ends,
            _Constants(self.file, constants),
            quantization=self._quantization(nodes),
            is_tflite=True,
        )

    def _name(self, index: int) -> str:
        return self.tensors[index].name

    def _placeholders(self) -> dict[str, GraphNode]:
        names = map(self._name, self.subgraph.inputs)
        return {name: self.nodes[name] for name in names}

    def _add_input(self, index: int) -> None:
        if index < 0 or index in self.made:
            raise self.file._error("subgraph", "an input that is no tensor, or is there twice")
        name = self._name(index)
        self.nodes[name] = GraphNode(name, "Placeholder")
        self.made[index] = Output(name)

    def _input(self, index: int) -> GraphInput:
        tensor = self.tensors[index]
        name = self.signature.inputs.get(index, tensor.name)
        return GraphInput(name, Output(tensor.name), tensor.open_shape, tensor.real_dtype)

    def _ends(self) -> dict[str, Output]:
        return {
            self.signature.outputs.get(index, self._name(index)): self._source(index)
            for index in self.subgraph.outputs
            if index >= 0
        }

    def _named(self, name: str) -> Output:
        for index, output in self.made.items():
            if name in (str(output), self._name(index)):
                return output
        known = ", ".join(repr(one) for one in list(self.nodes)[:20])
        raise ValueError(f"there is no node {name!r}; there are {known}, ...")

    def _source(self, index: int) -> Output:
        """Where a tensor comes from: a result, an input or a constant."""
        if index < 0:
            return MISSING
        if index not in self.made:
            tensor = self.tensors[index]
            if tensor.buffer is None and 0 in tensor.shape:  # a constant of no numbers
                tensor = self.tensors[index] = replace(tensor, buffer=(0, 0))
            if tensor.buffer is None and tensor.is_state:
                return MISSING  # every call of the port is the first
            if tensor.buffer is None:
                raise self.file._error(tensor.name, "it is used before it is computed")
            self.nodes[tensor.name] = GraphNode(tensor.name, "Const", (), {"dtype": tensor.dtype})
            self.constants[tensor.name] = tensor
            self.made[index] = Output(tensor.name)
        return self.made[index]

    def _add(self, operator: _Operator) -> None:
        inputs = tuple(map(self._source, operator.inputs))
        results = operator.results
        if not results:
            return  # it changes a variable, or nothing
        if any(index < 0 or index in self.made for index in results) or (
            len(set(results)) != len(results)
        ):
            raise self.file._error("subgraph", "an operator whose results others have")
        name = self._name(results[0])
        self.nodes[name] = GraphNode(name, operator.op, inputs, operator.attributes)
        for place, index in enumerate(results):
            self.made[index] = Output(name, place)

    def _quantization(self, nodes: Mapping[str, GraphNode]) -> dict[Output, Quantization]:
        found = {}
        for index, output in self.made.items():
            quantization = self.tensors[index].quantization
            node = nodes.get(output.node)
            if quantization is not None and node is not None:
                found[output] = quantization
        return found


class _Constants(Mapping[str, Tensor]):
    """Of one subgraph, by name, each read when it is asked for."""

    def __init__(self, file: TFLite, stored: Mapping[str, _Stored]) -> None:
        self._file, self._stored = file, stored

    def __getitem__(self, name: str) -> Tensor:
        return self._file._real(self._stored[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


# ---- pieces --------------------------------------------------------------------------------------


def _unique(names: Sequence[str]) -> list[str]:
    """Numbers behind names that come again, or are empty."""
    others = Names(name for name in names if name)
    met: set[str] = set()
    found = []
    for name in names:
        is_own = bool(name) and name not in met
        met.add(name)
        found.append(name if is_own else others.new(name or "tensor"))
    return found


def _dequantized(values: Tensor, quantization: Quantization) -> Tensor:
    """``scale * (q - zero_point)`` in float32."""
    is_small = values.dtype.itemsize < 4 and max(map(abs, quantization.zero_point)) < 2**24
    numbers = values.to(torch.int32 if is_small else torch.int64)
    if len(quantization.scale) == 1:
        zero, scale = quantization.zero_point[0], quantization.scale[0]
        return (numbers - zero).to(torch.float32) * torch.tensor(scale)
    shape = [1] * values.dim()
    shape[quantization.axis] = -1
    zeros = torch.tensor(quantization.zero_point, dtype=numbers.dtype).view(shape)
    scales = torch.tensor(quantization.scale, dtype=torch.float32).view(shape)
    return (numbers - zeros).to(torch.float32) * scales


def _unpacked(part: MappedFile, stored: _Stored) -> Tensor:
    """Two numbers of four bits in each byte, the lower one first."""
    count = prod(stored.shape)
    packed = part.tensor(0, "uint8", ((count + 1) // 2,), stored.name)
    both = torch.stack([packed & 15, packed >> 4], -1).flatten()[:count].to(torch.int8)
    return torch.where(both > 7, both - 16, both).view(stored.shape)
