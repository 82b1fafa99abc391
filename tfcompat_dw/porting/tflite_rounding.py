"""How TFLite's kernels of 8 bits round on the way to their integers, found by running them.

A sum of products is multiplied by a number of 32 bits from 1/2 to 1, rounded, divided by a power of
two, and rounded again (``tensorflow/lite/kernels/internal/common.h``,
``MultiplyByQuantizedMultiplier``; ``quantization_util.cc``, ``QuantizeMultiplier``).
"""

from __future__ import annotations

from collections.abc import Callable
from math import frexp
from typing import Any

from tfcompat_dw.checkpoint.graph import Graph, GraphNode, Output, Quantization
from tfcompat_dw.porting.functions.quantization import in_whole_groups

TWICE_ROUNDED = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "MUL"), 0),
    "TRANSPOSE_CONV": 1,
}
"""Which input of an operator is the first factor; the second one follows it."""
ROUNDED_UP = frozenset(
    {(op, dtype) for op in ("CONV_2D", "FULLY_CONNECTED") for dtype in ("int8", "uint8")}
    | {("TRANSPOSE_CONV", "uint8")}
)
"""Those whose halves are rounded up, as ruy has it (``ruy/apply_multiplier.cc``), not away from
zero."""
CHANNELS_AT_ONCE = 8
"""A depthwise convolution of int8 takes so many in vectors, which it rounds up; those that are left
over it rounds away from zero."""
WINDOW_PLACES = 12
"""Binary places that tell halves from all other fractions of up to ``2 ** 11`` numbers' mean."""
Step = tuple[str, tuple[Output, ...], dict[str, Any]]
"""An operation, its inputs beside the step before, its attributes."""
ON_THE_WAY = ("shifts", "rounds_up", "offset")
"""Attributes of ``FakeQuantize`` beside the integers."""


Shape = Callable[[Output], tuple[int, ...]]
"""Of a constant."""


def rounding_of(graph: Graph, node: GraphNode, result: Quantization, shape: Shape) -> Step:
    """What makes an operator's exact result the integers of its kernel.

    Args:
        graph: of the operator.
        node: the operator.
        result: of its integers.
        shape: of a filter.
    """
    about, is_of_8_bits = vars(result), result.dtype in ("int8", "uint8")
    if len(result.scale) == 1:
        if node.op == "MEAN" and is_of_8_bits:
            return _mean(graph, node, about)
        if node.op == "AVERAGE_POOL_2D":  # of the integers: halves go away from the integer 0
            about = about | {"shifts": (WINDOW_PLACES,), "offset": float(result.zero_point[0])}
        elif node.op in TWICE_ROUNDED and is_of_8_bits:
            about = about | _twice(graph, node, result, shape)
    return "FakeQuantize", (), about


def _twice(graph: Graph, node: GraphNode, result: Quantization, shape: Shape) -> dict[str, Any]:
    first = TWICE_ROUNDED[node.op]
    x, filter = (graph.quantization.get(one) for one in node.inputs[first : first + 2])
    if x is None or filter is None or len(x.scale) != 1:
        return {}
    factors = (x.scale[0] * one / result.scale[0] for one in filter.scale)
    found: dict[str, Any] = {"shifts": tuple(max(0, -frexp(factor)[1]) for factor in factors)}
    if (node.op, result.dtype) in ROUNDED_UP:
        found["rounds_up"] = (True,)
    elif (node.op, result.dtype) == ("DEPTHWISE_CONV_2D", "int8"):
        found["rounds_up"] = in_whole_groups(shape(node.inputs[1])[-1], CHANNELS_AT_ONCE)
    return found


def _mean(graph: Graph, node: GraphNode, integers: dict[str, Any]) -> Step:
    x = graph.quantization.get(node.inputs[0])
    if x is None or len(x.scale) != 1:
        return "FakeQuantize", (), integers
    given = {
        "keep_dims": bool(node.attributes.get("keep_dims", False)),
        "x_scale": x.scale[0],
        "x_zero_point": x.zero_point[0],
    }
    return "FakeQuantizeMean", node.inputs, integers | given


def with_rounding(steps: list[Step], rounding: Step) -> list[Step]:
    """An operator and perhaps its activation, with the rounding at the end.

    What an activation cuts at is rounded by itself, and not on the way to integers.
    """
    op, others, about = rounding
    plain = {key: value for key, value in about.items() if key not in ON_THE_WAY}
    first, *activation = steps
    if activation and about.get("shifts"):
        return [first, rounding, *activation, (op, others, plain)]
    return [*steps, rounding]
