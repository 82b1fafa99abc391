"""What the port of a graph asks of one node's kind: a function of tensors and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tfcompat_dw.porting.config import TensorRef
from tfcompat_dw.porting.layer import UnsupportedLayerError

Sizes = NDArray[np.object_]
"""Integers, some of them :class:`~tfcompat_dw.porting.sizes.Size` expressions."""
Value = TensorRef | Tensor | Sizes
"""What a node takes: a tensor that is computed when the network runs, one that is known when it is
ported (a constant, or computed from constants), or sizes of tensors."""


@dataclass(frozen=True)
class NodeCall:
    """One node of a graph, its inputs as far as they are known."""

    name: str
    op: str
    inputs: tuple[Value, ...]
    attributes: Mapping[str, Any]
    shapes: tuple[tuple[int | None, ...] | None, ...] = ()
    """Of the inputs, None for sizes that are open and for ranks that are not known."""


@dataclass(frozen=True)
class Bound:
    """A function of :data:`tfcompat_dw.porting.operations.FUNCTIONS` with its arguments.

    Among the arguments a ``TensorRef`` is a tensor that comes when the network runs, a ``Tensor``
    one that is kept with the module, a ``Size`` a number that is computed when it runs.
    """

    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None


Handler = Callable[[NodeCall], Bound]
"""Raises :class:`~tfcompat_dw.porting.layer.UnsupportedLayerError` with the reason."""


def numbers(value: Value, what: str) -> Any:
    """Nested lists of integers (or one) and ``Size`` expressions.

    Raises:
        UnsupportedLayerError: it is computed from values of tensors.
    """
    if isinstance(value, TensorRef):
        raise UnsupportedLayerError(f"its {what} is computed from values, not from sizes")
    return value.tolist()
