"""Tensors that are made: of one value, of rising numbers, of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.porting.config import TensorRef, shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import (
    Table,
    dtype,
    known_shape,
    number,
    operand,
    operands,
    shape,
    size,
    takes,
    torch_dtype,
    whole,
)
from tfcompat_dw.porting.nodes.call import Bound, NodeCall
from tfcompat_dw.porting.sizes import SizeOf, computed

MOST_NUMBERS = 2**26
"""Of a row that is made of nothing but its ends."""


def _fill(call: NodeCall) -> Bound:
    value = operand(call, 1)
    if isinstance(value, (Tensor, TensorRef)):
        return Bound("fill", (shape(call, 0, "dims"), value))
    return Bound("fill", (shape(call, 0, "dims"), value), {"dtype": dtype(call, "T", "int32")})


def _arange(call: NodeCall) -> Bound:
    ends = [number(call, place, what) for place, what in enumerate(("start", "limit", "delta"))]
    if all(isinstance(end, (int, float)) for end in ends):
        start, limit, delta = ends
        if delta == 0 or not abs((limit - start) / delta) < MOST_NUMBERS:
            raise UnsupportedLayerError(f"it makes numbers from {start} to {limit} by {delta}")
    return Bound("arange", tuple(ends), {"dtype": _type(call, "Tidx")})


def _type(call: NodeCall, key: str) -> str:
    """As the attribute says, else that of the first known input."""
    found = next((one.dtype for one in call.inputs if isinstance(one, Tensor)), torch.int32)
    return dtype(call, key, str(found).removeprefix("torch."))


def _linspace(call: NodeCall) -> Bound:
    count = size(call, 2, "num")
    if isinstance(count, int) and not 0 < count < MOST_NUMBERS:
        raise UnsupportedLayerError(f"its num is {count}")
    return Bound("linspace", (*operands(call, 2), count), {"dtype": dtype(call, "T", "float32")})


def _one_hot(call: NodeCall) -> Bound:
    args = (operand(call, 0), size(call, 1, "depth"), *operands(call, 4, 2))
    return Bound("one_hot", args, {"axis": whole(call, "axis", -1)})


# ---- sizes as tensors ----------------------------------------------------------------------------


def _sizes(call: NodeCall, place: int) -> list[Any]:
    value, known = call.inputs[place], known_shape(call, place)
    if known is None:
        raise UnsupportedLayerError("it takes the shape of what has none before it runs")
    if not isinstance(value, TensorRef):
        return list(known)
    return [SizeOf(value, axis) if one is None else one for axis, one in enumerate(known)]


def _shape(call: NodeCall) -> Bound:
    kwargs = {"dtype": dtype(call, "out_type", "int32")}
    return Bound("tensor_of", (_sizes(call, 0),), kwargs)


def _rank(call: NodeCall) -> Bound:
    return Bound("tensor_of", (len(_sizes(call, 0)),), {"dtype": "int32"})


def _count(call: NodeCall) -> Bound:
    total: Any = 1
    for one in _sizes(call, 0):
        total = total * one
    return Bound("tensor_of", (total,), {"dtype": dtype(call, "out_type", "int32")})


def broadcast_sizes(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    """The shape that two shapes have together; of open sizes the larger one."""
    rank = max(len(one), len(other))
    pairs = zip([*[1] * (rank - len(one)), *one], [*[1] * (rank - len(other)), *other], strict=True)
    found = []
    for a, b in pairs:
        are_numbers = isinstance(a, int) and isinstance(b, int)
        if are_numbers and a != b and 1 not in (a, b):
            raise UnsupportedLayerError(f"its shapes are {shown(one)} and {shown(other)}")
        found.append(b if a == 1 else a if b == 1 or a == b else computed("max", a, b))
    return found


def _broadcast_sizes(call: NodeCall) -> Bound:
    found = broadcast_sizes(shape(call, 0), shape(call, 1))
    return Bound("tensor_of", (found,), {"dtype": _type(call, "T")})


# ---- matrices ------------------------------------------------------------------------------------


def _diagonal_matrix(call: NodeCall) -> Bound:
    _check_plain_diagonal(call, "MatrixDiag", 1, ("k", "num_rows", "num_cols"))
    return Bound("diagonal_matrix", operands(call, 1))


def _diagonal_part(call: NodeCall) -> Bound:
    _check_plain_diagonal(call, "MatrixDiagPart", 1, ("k",))
    return Bound("diagonal_part", operands(call, 1))


def _set_diagonal(call: NodeCall) -> Bound:
    _check_plain_diagonal(call, "MatrixSetDiag", 2, ("k",))
    return Bound("set_diagonal", operands(call, 2))


def _check_plain_diagonal(call: NodeCall, plain: str, start: int, names: tuple[str, ...]) -> None:
    """Later versions can do more; the main diagonal of a square is all that is here."""
    if call.op == plain:
        return
    if len(call.inputs) < start + len(names):
        raise UnsupportedLayerError(f"it has {len(call.inputs)} inputs")
    for place, name in enumerate(names, start):
        value = number(call, place, name)
        if value != (0 if name == "k" else -1):
            raise UnsupportedLayerError(f"its {name} is {shown(value)}: not the main diagonal")


def _band(call: NodeCall) -> Bound:
    lower, upper = number(call, 1, "num_lower"), number(call, 2, "num_upper")
    if not isinstance(lower, int) or not isinstance(upper, int):
        raise UnsupportedLayerError("its num_lower and num_upper are computed")
    return Bound("band", (operand(call, 0), lower, upper))


def _empty(call: NodeCall) -> Bound:
    """Of zeros: what it holds is not said."""
    kind = dtype(call, "dtype", "float32")
    return Bound("fill", (shape(call, 0), torch.zeros((), dtype=torch_dtype(kind))))


HANDLERS: Table = {
    "Fill": takes(2, 2, _fill),
    "Empty": takes(1, 1, _empty),
    "Range": takes(3, 3, _arange),
    "LinSpace": takes(3, 3, _linspace),
    "OneHot": takes(4, 4, _one_hot),
    "Shape": takes(1, 1, _shape),
    "Size": takes(1, 1, _count),
    "Rank": takes(1, 1, _rank),
    "BroadcastArgs": takes(2, 2, _broadcast_sizes),
    "MatrixDiag": takes(1, 1, _diagonal_matrix),
    "MatrixDiagV2": takes(5, 5, _diagonal_matrix),
    "MatrixDiagV3": takes(5, 5, _diagonal_matrix),
    "MatrixDiagPart": takes(1, 1, _diagonal_part),
    "MatrixDiagPartV2": takes(3, 3, _diagonal_part),
    "MatrixDiagPartV3": takes(3, 3, _diagonal_part),
    "MatrixSetDiag": takes(2, 2, _set_diagonal),
    "MatrixSetDiagV2": takes(3, 3, _set_diagonal),
    "MatrixSetDiagV3": takes(3, 3, _set_diagonal),
    "MatrixBandPart": takes(3, 3, _band),
}
