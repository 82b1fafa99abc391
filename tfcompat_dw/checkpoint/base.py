"""What every reader gives, and what it says of a file that it cannot read."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tfcompat_dw.checkpoint.graph import Graph


class CheckpointError(ValueError):
    """A file that is damaged, not what it says it is, or of no known kind.

    The message is ``file: place: reason``; the three are attributes, too.
    """

    def __init__(self, path: Path | str, place: str, reason: str) -> None:
        self.path, self.place, self.reason = str(path), place, reason
        super().__init__(": ".join(part for part in (self.path, place, reason) if part))


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor before it is read."""

    dtype: str
    """TensorFlow's name: ``float32``, ``bfloat16``, ``string``, ..."""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers, or strings, it has."""
        return prod(self.shape)


class Checkpoint(Mapping[str, Tensor], ABC):
    """The tensors of a file by name, each read when it is asked for.

    Names and their order are the file's; shapes and layouts, too: filters are ``[h, w, in, out]``,
    depthwise ones ``[h, w, in, mult]``.  A string tensor comes as the uint8 bytes of its elements,
    one after another; :meth:`strings` tells them apart.

    Reading a tensor raises :class:`CheckpointError` where the file is damaged, and ``KeyError`` for
    a name that is not there.
    """

    format: str
    """What kind of file it is, in words."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def info(self, name: str) -> TensorInfo:
        """Data type and shape, without reading the tensor."""

    @abstractmethod
    def __getitem__(self, name: str) -> Tensor:
        """The tensor, in a dtype of PyTorch's that holds its values exactly."""

    @abstractmethod
    def __iter__(self) -> Iterator[str]: ...

    @abstractmethod
    def __len__(self) -> int: ...

    def __contains__(self, name: object) -> bool:
        """Without reading the tensor."""
        return any(name == other for other in self)

    def __repr__(self) -> str:
        return f"<{self.format} {str(self.path)!r}: {len(self)} tensors>"

    def strings(self, name: str) -> list[bytes]:
        """The elements of a string tensor, in row-major order; ``TypeError`` for another one."""
        raise TypeError(f"{name} is {self.info(name).dtype}, not string")

    def variable_names(self) -> dict[str, str]:
        """From a tensor's name to the name of its variable, where the file tells them apart.

        TF 2 writes ``layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE`` for a variable
        ``conv1/kernel``.
        """
        return {}

    def model_config(self) -> dict[str, Any] | None:
        """Keras' description of the network (``{"class_name": ..., "config": ...}``), if any."""
        return None

    def keras_version(self) -> str | None:
        """The version of Keras that wrote the file, if it says so."""
        return None

    def signatures(self) -> tuple[str, ...]:
        """Names of the graphs that the file has, the one that is taken by default first.

        Raises:
            CheckpointError: what the file says of them is damaged.
        """
        return ()

    def graph(
        self, signature: str | None = None, outputs: Sequence[str] | None = None
    ) -> Graph | None:
        """The graph of operations, if the file has one.

        Args:
            signature: one of :meth:`signatures`; the first of them if None.
            outputs: nodes (``name`` or ``name:1``) whose results are wanted in the place of the
                graph's own outputs; the rest of the graph is left out.

        Raises:
            CheckpointError: the graph is damaged, too large, or runs in circles.
            ValueError: there is no such signature or node; the message lists those that are there.
        """
        return None


def parsed_json(text: bytes | str, path: Path, place: str) -> Any:
    """JSON from a file; what is none, or too deep, is a :class:`CheckpointError`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, place, f"no valid JSON ({error})") from error
    level, depth = [value] if isinstance(value, (dict, list)) else [], 0
    while level:  # one level after another: whoever goes through it recursively may do so
        depth += 1
        if depth > DEEPEST_JSON:
            raise CheckpointError(path, place, f"JSON of more than {DEEPEST_JSON} levels")
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for several in inner for one in several if isinstance(one, (dict, list))]
    return value


DEEPEST_JSON = 200
"""Levels; Keras takes half a dozen for each model within another."""


TORCH_DTYPES: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "uint64": torch.uint64,
    "bool": torch.bool,
    "complex64": torch.complex64,
    "complex128": torch.complex128,
}
"""TensorFlow's numeric types under TensorFlow's names."""
