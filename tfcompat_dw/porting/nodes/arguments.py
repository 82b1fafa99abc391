"""What handlers read out of a node: operands, numbers among its inputs, attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tfcompat_dw.porting.config import TensorRef, shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.call import Bound, Handler, NodeCall, numbers
from tfcompat_dw.porting.sizes import Size

DTYPES = frozenset(
    {"float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8",
     "uint16", "uint32", "uint64", "bool", "complex64", "complex128"}
)  # fmt: skip
"""TensorFlow's names of types that PyTorch has, too."""
TYPE_ATTRIBUTES = ("T", "dtype", "SrcT", "DstT", "Tparams", "TI")
MOST_SIZE = 2**31
"""Of a size that a file asks for."""
MOST_RANK = 16


@dataclass(frozen=True)
class Taking:
    """A handler that takes only so many inputs (None: any number above), of known types."""

    least: int
    most: int | None
    handler: Handler

    def check_count(self, count: int) -> None:
        """Raises UnsupportedLayerError: the operation never has so many inputs."""
        if count < self.least or (self.most is not None and count > self.most):
            raise UnsupportedLayerError(f"it has {count} inputs")

    def __call__(self, call: NodeCall) -> Bound:
        """What the handler says."""
        self.check_count(len(call.inputs))
        for key in TYPE_ATTRIBUTES:
            value = call.attributes.get(key)
            if isinstance(value, str) and value not in DTYPES:
                raise UnsupportedLayerError(
                    f"its type is {shown(value)}, and PyTorch has no tensors of that"
                )
        return self.handler(call)


def takes(least: int, most: int | None, handler: Handler) -> Taking:
    """The handler, checked."""
    return Taking(least, most, handler)


def simple(function: str, count: int) -> Handler:
    """A function of so many tensors and nothing else."""
    return takes(count, count, lambda call: Bound(function, operands(call, count)))


# ---- inputs --------------------------------------------------------------------------------------


def operand(call: NodeCall, place: int) -> Any:
    """An input that may be a tensor; sizes come as nested lists of numbers."""
    value = call.inputs[place]
    return value.tolist() if isinstance(value, np.ndarray) else value


def operands(call: NodeCall, stop: int | None = None, start: int = 0) -> tuple[Any, ...]:
    """Some of the inputs."""
    count = len(call.inputs) if stop is None else stop
    return tuple(operand(call, place) for place in range(start, count))


def sizes(call: NodeCall, place: int, what: str) -> Any:
    """Integers or sizes, in nested lists.

    Raises:
        UnsupportedLayerError: it is computed from values, it has fractions, or it is immense.
    """
    value = call.inputs[place]
    if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
        raise UnsupportedLayerError(f"its {what} is {shown(value.tolist())}")
    found = numbers(value, what)
    _check_sizes(found, what)
    return found


def _check_sizes(value: Any, what: str) -> None:
    if isinstance(value, list):
        for one in value:
            _check_sizes(one, what)
    elif not isinstance(value, Size) and not (type(value) is int and abs(value) < 2**63):
        raise UnsupportedLayerError(f"its {what} contains {shown(value)}")


def shape(call: NodeCall, place: int, what: str = "shape") -> list[Any]:
    """A list of sizes that make sense for axes."""
    found = sizes(call, place, what)
    found = found if isinstance(found, list) else [found]
    if len(found) > MOST_RANK:
        raise UnsupportedLayerError(f"its {what} has {len(found)} axes")
    for one in found:
        if isinstance(one, list) or (isinstance(one, int) and not -1 <= one < MOST_SIZE):
            raise UnsupportedLayerError(f"its {what} contains {shown(one)}")
    return found


def pairs(call: NodeCall, place: int, what: str = "paddings") -> list[list[Any]]:
    """(before, after) for each axis, none below zero."""
    found = sizes(call, place, what)
    is_list = isinstance(found, list) and len(found) <= MOST_RANK
    for pair in found if is_list else [None]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise UnsupportedLayerError(f"its {what} are {shown(found)}, which are no pairs")
        if any(isinstance(end, int) and not 0 <= end < MOST_SIZE for end in pair):
            raise UnsupportedLayerError(f"its {what} contain {shown(pair)}")
    return list(found)


def axes(call: NodeCall, place: int, what: str = "axis") -> list[int]:
    """Axes as plain numbers; a single one is a list, too."""
    found = sizes(call, place, what)
    found = found if isinstance(found, list) else [found]
    for one in found:
        if not isinstance(one, int) or not -MOST_RANK <= one < MOST_RANK:
            raise UnsupportedLayerError(f"its {what} is {shown(found)}")
    return found


def axis(call: NodeCall, place: int, what: str = "axis") -> int:
    """One axis."""
    found = axes(call, place, what)
    if len(found) != 1:
        raise UnsupportedLayerError(f"its {what} is {shown(found)}, which is not one number")
    return found[0]


def size(call: NodeCall, place: int, what: str) -> Any:
    """One size."""
    found = shape(call, place, what)
    if len(found) != 1:
        raise UnsupportedLayerError(f"its {what} is {shown(found)}, which is not one number")
    return found[0]


def number(call: NodeCall, place: int, what: str) -> Any:
    """One number of any kind, or a size."""
    found = numbers(call.inputs[place], what)
    while isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, (int, float, Size)):
        raise UnsupportedLayerError(f"its {what} is {shown(found)}, which is not one number")
    return found


def rank(call: NodeCall, place: int) -> int | None:
    """Of an input, if it is known."""
    value = call.inputs[place]
    if not isinstance(value, TensorRef):
        return len(value.shape)
    known = call.shapes[place] if place < len(call.shapes) else None
    return None if known is None else len(known)


def known_shape(call: NodeCall, place: int) -> tuple[int | None, ...] | None:
    """Of an input, None for sizes that are open; None itself if the rank is."""
    value = call.inputs[place]
    if not isinstance(value, TensorRef):
        return tuple(value.shape)
    return call.shapes[place] if place < len(call.shapes) else None


# ---- attributes ----------------------------------------------------------------------------------


def flag(call: NodeCall, key: str, default: bool = False) -> bool:
    """True or False."""
    value = call.attributes.get(key, default)
    if value not in (True, False):
        raise UnsupportedLayerError(f"its {key} is {shown(value)}")
    return bool(value)


def whole(call: NodeCall, key: str, default: int | None = None) -> int:
    """An integer."""
    value = call.attributes.get(key, default)
    if type(value) is not int or abs(value) >= 2**63:
        raise UnsupportedLayerError(f"its {key} is {shown(value)}, which is no integer")
    return value


def real(call: NodeCall, key: str, default: float) -> float:
    """A number."""
    value = call.attributes.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnsupportedLayerError(f"its {key} is {shown(value)}, which is no number")
    return float(value)


def text(call: NodeCall, key: str, default: str, *allowed: str) -> str:
    """One of the words allowed."""
    value = call.attributes.get(key, default)
    if not isinstance(value, str) or value not in allowed:
        raise UnsupportedLayerError(
            f"its {key} is {shown(value)}; {' and '.join(allowed)} can be carried over"
        )
    return value


def whole_list(call: NodeCall, key: str, default: Sequence[int] = ()) -> list[int]:
    """Integers."""
    value = call.attributes.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, (list, tuple)) or not all(
        type(one) is int and abs(one) < MOST_SIZE for one in value
    ):
        raise UnsupportedLayerError(f"its {key} is {shown(value)}")
    return list(value)


def dtype(call: NodeCall, key: str, default: str) -> str:
    """The name of a type that PyTorch has."""
    value = call.attributes.get(key, default)
    if not isinstance(value, str) or value not in DTYPES:
        raise UnsupportedLayerError(
            f"its {key} is {shown(value)}, and PyTorch has no tensors of that"
        )
    return value


def is_whole_type(call: NodeCall, key: str = "T") -> bool:
    """Whether an attribute says that the numbers are integers."""
    value = call.attributes.get(key)
    return isinstance(value, str) and value.startswith(("int", "uint", "bool"))


# ---- images --------------------------------------------------------------------------------------


def channels_last(call: NodeCall) -> bool:
    """Where ``data_format`` puts the channels."""
    last, first = ("NHWC", "NDHWC"), ("NCHW", "NCDHW")
    return text(call, "data_format", "NHWC", *last, *first) in last


def spatial(call: NodeCall, key: str, rank: int, default: int | None = None) -> list[int]:
    """One number above zero for each axis of the image, out of one for each axis."""
    values = whole_list(call, key, () if default is None else [default] * (rank + 2))
    if not values and default is not None:
        return [default] * rank
    return of_image(values, key, rank, channels_last(call))


def of_image(values: Sequence[Any], what: str, rank: int, is_last: bool) -> list[int]:
    """The middle ones; those of the batch and of the channels have to be 1."""
    if len(values) != rank + 2 or not all(type(one) is int and 0 < one < MOST_SIZE
                                          for one in values):  # fmt: skip
        raise UnsupportedLayerError(f"its {what} is {shown(list(values))}")
    inner = list(values[1:-1] if is_last else values[2:])
    if values[0] != 1 or values[-1 if is_last else 1] != 1:
        raise UnsupportedLayerError(
            f"its {what} is {shown(list(values))}: not of the image's axes alone"
        )
    return inner


def padding(call: NodeCall, rank: int, *, explicit: bool = True) -> Any:
    """``SAME``, ``VALID``, or (before, after) for each axis of the image."""
    allowed = ("SAME", "VALID", "EXPLICIT") if explicit else ("SAME", "VALID")
    kind = text(call, "padding", "", *allowed)
    if kind != "EXPLICIT":
        return kind
    ends = whole_list(call, "explicit_paddings")
    found = [ends[place : place + 2] for place in range(0, len(ends), 2)]
    is_last = channels_last(call)
    if len(ends) != 2 * (rank + 2) or min(ends) < 0:
        raise UnsupportedLayerError(f"its explicit_paddings are {shown(ends)}")
    if any(found[0]) or any(found[-1 if is_last else 1]):
        raise UnsupportedLayerError(
            f"its explicit_paddings are {shown(ends)}: not of the image's axes alone"
        )
    return found[1:-1] if is_last else found[2:]


Table = dict[str, Handler]
Builder = Callable[[NodeCall], Bound]


def torch_dtype(name: str) -> torch.dtype:
    """PyTorch's dtype of one of :data:`DTYPES`."""
    kind = getattr(torch, name)
    assert isinstance(kind, torch.dtype)
    return kind
