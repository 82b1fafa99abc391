"""Sums, means and the like over axes, and what runs along one axis."""

from __future__ import annotations

from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import (
    Table,
    axes,
    axis,
    dtype,
    flag,
    operand,
    operands,
    size,
    takes,
    whole,
)
from tfcompat_dw.porting.nodes.call import Bound, Handler, NodeCall

_REDUCTIONS = {
    "Mean": "reduce_mean", "Sum": "reduce_sum", "Prod": "reduce_prod", "Max": "reduce_max",
    "Min": "reduce_min", "All": "reduce_all", "Any": "reduce_any",
    "EuclideanNorm": "euclidean_norm",
}  # fmt: skip


def _reduction(function: str) -> Handler:
    def handle(call: NodeCall) -> Bound:
        kwargs = {"axes": axes(call, 1), "keepdims": flag(call, "keep_dims")}
        return Bound(function, operands(call, 1), kwargs)

    return takes(2, 2, handle)


def _index(function: str) -> Handler:
    def handle(call: NodeCall) -> Bound:
        along = axis(call, 1) if len(call.inputs) > 1 else 0
        kwargs = {"axis": along, "dtype": dtype(call, "output_type", "int64")}
        return Bound(function, operands(call, 1), kwargs)

    return takes(1, 2, handle)


def _top_k(call: NodeCall) -> Bound:
    count = size(call, 1, "k") if len(call.inputs) > 1 else whole(call, "k")
    if isinstance(count, int) and count < 0:
        raise UnsupportedLayerError(f"its k is {count}")
    kwargs = {"k": count, "dtype": dtype(call, "index_type", "int32")}
    return Bound("top_k", operands(call, 1), kwargs)


def _running(function: str) -> Handler:
    def handle(call: NodeCall) -> Bound:
        kwargs = {
            "axis": axis(call, 1),
            "exclusive": flag(call, "exclusive"),
            "reverse": flag(call, "reverse"),
        }
        return Bound(function, operands(call, 1), kwargs)

    return takes(2, 2, handle)


def _last_axis(function: str) -> Handler:
    return takes(1, 1, lambda call: Bound(function, (operand(call, 0),)))


HANDLERS: Table = {
    **{op: _reduction(function) for op, function in _REDUCTIONS.items()},
    "ArgMax": _index("index_of_max"),
    "ArgMin": _index("index_of_min"),
    "TopK": takes(1, 1, _top_k),
    "TopKV2": takes(2, 2, _top_k),
    "Cumsum": _running("cumsum"),
    "Cumprod": _running("cumprod"),
    "Softmax": _last_axis("softmax"),
    "LogSoftmax": _last_axis("log_softmax"),
    "L2Loss": _last_axis("l2_loss"),
}
