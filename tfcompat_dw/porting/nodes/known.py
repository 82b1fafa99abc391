"""Arithmetic on sizes, done while a graph is ported.

Sizes are NumPy's arrays of objects: integers (numbers with fractions, where the graph made them so)
and :class:`~tfcompat_dw.porting.sizes.Size` expressions, which calculate like numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tfcompat_dw.checkpoint.graph import HAND_ON
from tfcompat_dw.porting.config import TensorRef, shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes import HANDLERS
from tfcompat_dw.porting.nodes.arguments import DTYPES, flag, torch_dtype, whole, whole_list
from tfcompat_dw.porting.nodes.call import NodeCall
from tfcompat_dw.porting.nodes.making import broadcast_sizes
from tfcompat_dw.porting.sizes import Computed, Size, computed, has_fraction, is_never_negative

Array = NDArray[Any]
Folded = Array | tuple[Array, ...]
MOST_NUMBERS = 2**16
"""Of one result: these are sizes, not images."""


class _OpenError(Exception):
    """A number is wanted where a size stands."""


def folded(call: NodeCall) -> Folded | None:
    """What a node makes of sizes; several results are a tuple.

    Args:
        call: a node with sizes among its inputs, the others known.

    Returns:
        None if it cannot be known before the network runs.

    Raises:
        UnsupportedLayerError: the node does not take these, or a formula becomes too large.
    """
    inputs = [_array(value) for value in call.inputs if not isinstance(value, TensorRef)]
    if len(inputs) < len(call.inputs) or any(one.size > MOST_NUMBERS for one in inputs):
        return None
    fold = _FOLDS.get(call.op)
    try:
        if fold is not None:
            return fold(call, inputs)
        return _of_numbers(call, inputs)
    except _OpenError:
        return None
    except (
        IndexError, TypeError, ValueError, OverflowError, ZeroDivisionError, RuntimeError
    ) as error:  # fmt: skip
        raise UnsupportedLayerError(f"it does not fit the sizes it is given ({error})") from error


# ---- arrays --------------------------------------------------------------------------------------


def _array(value: Any) -> Array:
    """An array of objects of the same shape."""
    if isinstance(value, Tensor):
        return _objects(value.flatten().tolist(), tuple(value.shape))
    return cast(Array, value)


def _objects(values: Sequence[Any], shape: tuple[int, ...]) -> Array:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found.reshape(shape)


def _of(value: Any) -> Array:
    """NumPy gives an array without axes as what is in it."""
    if isinstance(value, np.ndarray):
        return value
    found = np.empty((), dtype=object)
    found[()] = value
    return found


def _each(function: Callable[..., Any], *arrays: Array) -> Array:
    """Broadcast, like NumPy's own."""
    shape = np.broadcast_shapes(*(one.shape for one in arrays))
    _check_count(shape)
    wide = [np.broadcast_to(one, shape) for one in arrays]
    flat = [function(*values) for values in zip(*(one.flat for one in wide), strict=True)]
    return _objects(flat, shape)


def _check_count(shape: Sequence[Any]) -> None:
    count = 1
    for one in shape:
        if isinstance(one, Size):
            return
        count *= int(one)
    if count > MOST_NUMBERS:
        raise UnsupportedLayerError(f"it makes {count} sizes")


def _is_number(value: Any) -> bool:
    return not isinstance(value, Size)


def _are_numbers(*arrays: Array) -> bool:
    return all(_is_number(value) for one in arrays for value in one.flat)


def _whole(array: Array, what: str) -> list[int]:
    """Plain integers out of an array."""
    values = array.flatten().tolist()
    if any(isinstance(value, Size) for value in values):
        raise _OpenError
    if not all(type(value) is int for value in values):
        raise UnsupportedLayerError(f"its {what} is {shown(values)}")
    return cast(list[int], values)


# ---- numbers -------------------------------------------------------------------------------------


def _rounded(value: Any, kind: object) -> Any:
    """Numbers with fractions as graphs calculate in them: as float32, unless the node says more."""
    if kind == "float64" or not has_fraction(value):
        return value
    if isinstance(value, Computed):
        return value if value.function in _EXACT else computed("float32", value)
    return float(np.float32(value))


_EXACT = ("max", "min", "neg", "float32", "float")
"""Of numbers that are rounded they make such."""


def _divide_whole(a: Any, b: Any) -> Any:
    """Integers are cut towards zero: down, as long as neither is below it."""
    if has_fraction(a) or has_fraction(b):
        return a / b
    if is_never_negative(a) and is_never_negative(b):
        return a // b
    return computed("truncdiv", a, b)


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "AddV2": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "FloorDiv": operator.floordiv,
    "FloorMod": operator.mod,
    "RealDiv": operator.truediv,
    "Div": _divide_whole,
    "TruncateDiv": _divide_whole,
    "Maximum": lambda a, b: computed("max", a, b),
    "Minimum": lambda a, b: computed("min", a, b),
    "Neg": operator.neg,
}
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "Equal": operator.eq,
    "NotEqual": operator.ne,
    "Less": operator.lt,
    "LessEqual": operator.le,
    "Greater": operator.gt,
    "GreaterEqual": operator.ge,
}
Fold = Callable[[NodeCall, list[Array]], Folded | None]


def _arithmetic(function: Callable[..., Any]) -> Fold:
    def fold(call: NodeCall, inputs: list[Array]) -> Array:
        kind = call.attributes.get("T")
        return _each(lambda *values: _rounded(function(*values), kind), *inputs)

    return fold


def _comparison(function: Callable[..., Any]) -> Fold:
    """Decided for plain numbers, and for formulas that are the same."""

    def fold(call: NodeCall, inputs: list[Array]) -> Array | None:
        return _each(function, *inputs) if _are_numbers(*inputs) else None

    return fold


def _whole_part(name: str) -> Fold:
    """``Floor`` and ``Ceil``: what has no fraction, but is no integer."""

    def fold(call: NodeCall, inputs: list[Array]) -> Array:
        return _each(lambda value: computed("float", computed(name, value)), inputs[0])

    return fold


def _cast(call: NodeCall, inputs: list[Array]) -> Array | None:
    kind = call.attributes.get("DstT")
    if kind == "bool":
        return _each(bool, inputs[0]) if _are_numbers(inputs[0]) else None
    if kind in ("int32", "int64"):
        if str(call.attributes.get("SrcT")).startswith("int"):
            return inputs[0]
        return _each(lambda value: computed("int", value), inputs[0])
    if kind in ("float32", "float64"):
        name = "float" if kind == "float64" else "float32"
        return _each(lambda value: computed(name, value), inputs[0])
    return None


def _reduction(step: Callable[[Any, Any], Any], empty: Any) -> Fold:
    def fold(call: NodeCall, inputs: list[Array]) -> Array:
        def function(a: Any, b: Any) -> Any:
            return _rounded(step(a, b), call.attributes.get("T"))

        values, rank = inputs[0], inputs[0].ndim
        over = sorted({_axis(axis, rank) for axis in _whole(inputs[1], "axis")}, reverse=True)
        for axis in over:
            values = _along(function, empty, values, axis)
        if flag(call, "keep_dims"):
            for axis in reversed(over):
                values = np.expand_dims(values, axis)
        return values

    return fold


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise UnsupportedLayerError(f"its axis is {axis}, its input of rank {rank}")
    return axis % rank


def _along(function: Callable[[Any, Any], Any], empty: Any, values: Array, axis: int) -> Array:
    moved = np.moveaxis(values, axis, 0)
    total = None
    for one in moved:
        total = _of(one) if total is None else _each(function, total, _of(one))
    return total if total is not None else _each(lambda: empty) if moved.ndim == 1 else (
        np.full(moved.shape[1:], empty, dtype=object)
    )  # fmt: skip


def _select(call: NodeCall, inputs: list[Array]) -> Array | None:
    condition, one, other = inputs
    if not _are_numbers(condition):
        return None
    if call.op == "Select" and condition.ndim == 1 and one.ndim > 1:
        condition = condition.reshape(-1, *[1] * (one.ndim - 1))
    return _each(lambda chosen, a, b: a if chosen else b, condition, one, other)


# ---- places --------------------------------------------------------------------------------------


def _strided_slice(call: NodeCall, inputs: list[Array]) -> Array:
    bound = HANDLERS["StridedSlice"](_with_numbers(call, inputs))
    return _of(inputs[0][tuple(_plain_key(bound.args[1]))])


def _plain_key(key: Sequence[Any]) -> list[Any]:
    for part in key:
        ends = (part.start, part.stop, part.step) if isinstance(part, slice) else (part,)
        if any(isinstance(end, Size) for end in ends):
            raise _OpenError
    return list(key)


def _with_numbers(call: NodeCall, inputs: Sequence[Array]) -> NodeCall:
    return NodeCall(call.name, call.op, tuple(inputs), call.attributes, call.shapes)


def _slice(call: NodeCall, inputs: list[Array]) -> Array:
    bound = HANDLERS["Slice"](_with_numbers(call, inputs))
    return _of(inputs[0][tuple(_plain_key(bound.args[1]))])


def _gather(call: NodeCall, inputs: list[Array]) -> Array | None:
    axis = _whole(inputs[2], "axis")[0] if len(inputs) > 2 else 0
    if whole(call, "batch_dims", 0) or not _are_numbers(inputs[1]):
        return None
    indices = inputs[1].astype(np.int64)
    if indices.size and indices.min() < 0:
        raise UnsupportedLayerError("it gathers at a place below zero")
    _check_count((*inputs[0].shape, *indices.shape))
    return _of(np.take(inputs[0], indices, _axis(axis, inputs[0].ndim)))


def _pack(call: NodeCall, inputs: list[Array]) -> Array:
    return np.stack(inputs, whole(call, "axis", 0))


def _unpack(call: NodeCall, inputs: list[Array]) -> tuple[Array, ...]:
    axis = _axis(whole(call, "axis", 0), inputs[0].ndim)
    return tuple(_of(one) for one in np.moveaxis(inputs[0], axis, 0))


def _concatenate(call: NodeCall, inputs: list[Array]) -> Array:
    is_old = call.op == "Concat"
    axis, parts = (inputs[0], inputs[1:]) if is_old else (inputs[-1], inputs[:-1])
    return np.concatenate(parts, _whole(axis, "axis")[0])


def _split(call: NodeCall, inputs: list[Array]) -> tuple[Array, ...]:
    axis, count = _whole(inputs[0], "axis")[0], whole(call, "num_split")
    if not 0 < count <= MOST_NUMBERS:
        raise UnsupportedLayerError(f"its num_split is {count}")
    return tuple(np.split(inputs[1], count, axis))


def _split_sizes(call: NodeCall, inputs: list[Array]) -> tuple[Array, ...]:
    axis = _axis(_whole(inputs[2], "axis")[0], inputs[0].ndim)
    parts = _whole(inputs[1], "size_splits")
    total = inputs[0].shape[axis]
    if parts.count(-1) == 1:
        parts[parts.index(-1)] = total - sum(parts) - 1
    if sum(parts) != total or min(parts, default=0) < 0:
        raise UnsupportedLayerError(f"its size_splits are {shown(parts)} of {total}")
    return tuple(np.split(inputs[0], list(np.cumsum(parts)[:-1]), axis))


def _expand_dims(call: NodeCall, inputs: list[Array]) -> Array:
    return np.expand_dims(inputs[0], _whole(inputs[1], "axis")[0])


def _squeeze(call: NodeCall, inputs: list[Array]) -> Array:
    key = "squeeze_dims" if "squeeze_dims" in call.attributes else "axis"
    axes = tuple(whole_list(call, key))
    return _of(np.squeeze(inputs[0], axes or None))


def _reshape(call: NodeCall, inputs: list[Array]) -> Array:
    return inputs[0].reshape(_whole(inputs[1], "shape"))


def _transpose(call: NodeCall, inputs: list[Array]) -> Array:
    return np.transpose(inputs[0], _whole(inputs[1], "permutation"))


def _reverse(call: NodeCall, inputs: list[Array]) -> Array:
    return np.flip(inputs[0], tuple(_whole(inputs[1], "axis")))


def _tile(call: NodeCall, inputs: list[Array]) -> Array:
    repeats = _whole(inputs[1], "multiples")
    if min(repeats, default=0) < 0 or len(repeats) != inputs[0].ndim:
        raise UnsupportedLayerError(f"its multiples are {shown(repeats)}")
    _check_count((*inputs[0].shape, *repeats))
    return np.tile(inputs[0], repeats)


def _broadcast(call: NodeCall, inputs: list[Array]) -> Array:
    shape = _whole(inputs[1], "shape")
    _check_count(shape)
    return np.broadcast_to(inputs[0], shape)


def _pad(call: NodeCall, inputs: list[Array]) -> Array:
    flat, sizes = _whole(inputs[1], "paddings"), inputs[0].shape
    if inputs[1].shape != (len(sizes), 2) or min(flat, default=0) < 0:
        raise UnsupportedLayerError(f"its paddings are {shown(flat)}")
    before, after = flat[::2], flat[1::2]
    shape = [sum(ends) for ends in zip(before, sizes, after, strict=True)]
    _check_count(shape)
    found = np.empty(shape, dtype=object)
    found.fill(inputs[2].flatten()[0] if len(inputs) > 2 else 0)
    inner = [slice(first, first + size) for first, size in zip(before, sizes, strict=True)]
    found[tuple(inner)] = inputs[0]
    return found


# ---- new arrays ----------------------------------------------------------------------------------


def _arange(call: NodeCall, inputs: list[Array]) -> Array | None:
    if not _are_numbers(*inputs):
        return None
    start, limit, delta = (one.flatten()[0] for one in inputs)
    if delta == 0 or abs((limit - start) / delta) > MOST_NUMBERS:
        raise UnsupportedLayerError(f"it makes numbers from {start} to {limit} by {delta}")
    if all(type(one) is int for one in (start, limit, delta)):
        values = list(range(start, limit, delta))
        return _objects(values, (len(values),))
    return _of_numbers(call, inputs)  # type: ignore[return-value]


def _fill(call: NodeCall, inputs: list[Array]) -> Array | None:
    shape = _whole(inputs[0], "dims")
    if min(shape, default=0) < 0:
        raise UnsupportedLayerError(f"its dims are {shown(shape)}")
    if int(np.prod(shape, dtype=object)) > MOST_NUMBERS:
        return None  # no size: an image of them
    value = inputs[1].flatten()[0]
    if not isinstance(value, (int, Size)):
        return None  # floats are no sizes, and more than these have types
    return np.broadcast_to(_of(value), shape)


def _broadcast_args(call: NodeCall, inputs: list[Array]) -> Array:
    found = broadcast_sizes(*(one.tolist() for one in inputs))
    return _objects(found, (len(found),))


def _like(value: int) -> Fold:
    return lambda call, inputs: _each(lambda _: value, inputs[0])


def _shape(call: NodeCall, inputs: list[Array]) -> Array:
    return _objects(list(inputs[0].shape), (inputs[0].ndim,))


def _same(call: NodeCall, inputs: list[Array]) -> Array:
    return inputs[0]


# ---- anything else, of plain numbers -------------------------------------------------------------

_TYPE_KEYS = ("T", "SrcT", "Tidx")
_BY_TENSORS = frozenset(
    {"Sqrt", "Rsqrt", "Square", "Abs", "Sign", "Exp", "Log", "Log1p", "Pow", "Round", "Rint",
     "Mod", "TruncateMod", "DivNoNan", "SquaredDifference", "Range", "Mean", "All", "Any",
     "LogicalAnd", "LogicalOr", "LogicalNot", "ArgMax", "ArgMin", "Cumsum", "Cumprod",
     "ClipByValue", "Reciprocal", "Inv", "GatherNd", "ScatterNd", "AddN", "SelectV2",
     "InvertPermutation"}
)  # fmt: skip


def _of_numbers(call: NodeCall, inputs: list[Array]) -> Folded | None:
    """As tensors: plain numbers, in the type that the node says."""
    if call.op not in _BY_TENSORS or not _are_numbers(*inputs):
        return None
    from tfcompat_dw.porting.operations import Operation  # which has all of the handlers

    tensors = tuple(
        value if isinstance(value, Tensor) else _as_tensor(call, one)
        for value, one in zip(call.inputs, inputs, strict=True)
    )
    plain = NodeCall(call.name, call.op, tensors, call.attributes, call.shapes)
    bound = HANDLERS[call.op](plain)
    with torch.no_grad():
        result = Operation(bound.function, bound.args, bound.kwargs or {})()
    return _array(result)


def _as_tensor(call: NodeCall, values: Array) -> Tensor:
    flat = values.flatten().tolist()
    if all(isinstance(value, bool) for value in flat) and flat:
        return torch.tensor(flat).reshape(values.shape)
    has_fractions = any(isinstance(value, float) for value in flat)
    said = [call.attributes.get(key) for key in _TYPE_KEYS]
    kind = next(
        (one for one in said if isinstance(one, str) and one in DTYPES
         and one.startswith("float") == has_fractions and not one.startswith(("bool", "complex"))),
        "float32" if has_fractions else "int32",
    )  # fmt: skip
    return torch.tensor(flat, dtype=torch_dtype(kind)).reshape(values.shape)


_FOLDS: dict[str, Fold] = {
    **{op: _arithmetic(function) for op, function in _ARITHMETIC.items()},
    **{op: _comparison(function) for op, function in _COMPARISONS.items()},
    "Floor": _whole_part("floor"),
    "Ceil": _whole_part("ceil"),
    "Cast": _cast,
    "Sum": _reduction(operator.add, 0),
    "Prod": _reduction(operator.mul, 1),
    "Max": _reduction(lambda a, b: computed("max", a, b), 0),
    "Min": _reduction(lambda a, b: computed("min", a, b), 0),
    "Select": _select,
    "SelectV2": _select,
    "StridedSlice": _strided_slice,
    "Slice": _slice,
    "Gather": _gather,
    "GatherV2": _gather,
    "Pack": _pack,
    "Unpack": _unpack,
    "ConcatV2": _concatenate,
    "Concat": _concatenate,
    "Split": _split,
    "SplitV": _split_sizes,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "ReverseV2": _reverse,
    "Tile": _tile,
    "BroadcastTo": _broadcast,
    "BroadcastArgs": _broadcast_args,
    "Pad": _pad,
    "PadV2": _pad,
    "Range": _arange,
    "Fill": _fill,
    "ZerosLike": _like(0),
    "OnesLike": _like(1),
    "Shape": _shape,
    "Size": lambda call, inputs: _of(inputs[0].size),
    "Rank": lambda call, inputs: _of(inputs[0].ndim),
    **dict.fromkeys((*HAND_ON, "StopGradient"), _same),
}
