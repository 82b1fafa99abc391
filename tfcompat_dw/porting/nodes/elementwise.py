"""Functions of each number on its own."""

from __future__ import annotations

import numpy as np
import torch

from tfcompat_dw.checkpoint.graph import HAND_ON
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes.arguments import (
    Table,
    dtype,
    flag,
    is_whole_type,
    operand,
    operands,
    real,
    simple,
    takes,
)
from tfcompat_dw.porting.nodes.call import Bound, Handler, NodeCall

_UNARY = {
    "Neg": "negative", "Abs": "absolute", "ComplexAbs": "absolute", "Square": "square",
    "Sqrt": "sqrt", "Rsqrt": "rsqrt", "Exp": "exp", "Expm1": "expm1", "Log": "log",
    "Log1p": "log1p", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos",
    "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh",
    "Atanh": "atanh", "Floor": "floor", "Ceil": "ceil", "Round": "round", "Rint": "round",
    "Sign": "sign", "Erf": "erf", "Erfc": "erfc", "Erfinv": "erfinv", "Lgamma": "lgamma",
    "Digamma": "digamma", "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu",
    "Relu6": "relu6", "Elu": "elu", "Selu": "selu", "Softplus": "softplus",
    "Softsign": "softsign", "LogicalNot": "logical_not", "IsNan": "is_nan", "IsInf": "is_inf",
    "IsFinite": "is_finite", "Invert": "bitwise_not", "ZerosLike": "zeros_like",
    "OnesLike": "ones_like", "StopGradient": "stop_gradient",
}  # fmt: skip
_BINARY = {
    "Add": "add", "AddV2": "add", "Sub": "subtract", "Mul": "multiply", "RealDiv": "divide",
    "Div": "divide_whole", "TruncateDiv": "divide_whole", "FloorDiv": "floor_div",
    "FloorMod": "floor_mod", "Mod": "truncated_mod", "TruncateMod": "truncated_mod",
    "DivNoNan": "div_no_nan", "MulNoNan": "mul_no_nan", "Pow": "power",
    "SquaredDifference": "squared_difference", "Maximum": "larger", "Minimum": "smaller",
    "Xlogy": "xlogy", "Xdivy": "xdivy", "Xlog1py": "xlog1py", "Atan2": "atan2",
    "Equal": "equal", "NotEqual": "not_equal", "Less": "less", "LessEqual": "less_equal",
    "Greater": "greater", "GreaterEqual": "greater_equal", "LogicalAnd": "logical_and",
    "LogicalOr": "logical_or", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor", "LeftShift": "left_shift", "RightShift": "right_shift",
    "Prelu": "prelu",
}  # fmt: skip


def _first(call: NodeCall) -> Bound:
    return Bound("identity", operands(call, 1))


def _all(call: NodeCall) -> Bound:
    return Bound("tensors", (list(operands(call)),))


def _add_n(call: NodeCall) -> Bound:
    return Bound("add_n", (list(operands(call)),))


def _cast(call: NodeCall) -> Bound:
    return Bound("cast", operands(call, 1), {"dtype": dtype(call, "DstT", "")})


def _bitcast(call: NodeCall) -> Bound:
    if dtype(call, "type", "") != dtype(call, "T", ""):
        raise UnsupportedLayerError("it takes the bits of one type for those of another")
    return _first(call)


def _leaky_relu(call: NodeCall) -> Bound:
    return Bound("leaky_relu", operands(call, 1), {"negative_slope": real(call, "alpha", 0.2)})


def _reciprocal(call: NodeCall) -> Bound:
    if is_whole_type(call):
        return Bound("divide_whole", (torch.ones((), dtype=torch.int32), operand(call, 0)))
    return Bound("reciprocal", operands(call, 1))


def _gelu(call: NodeCall) -> Bound:
    return Bound("gelu", operands(call, 1), {"approximate": flag(call, "approximate", False)})


def _select(function: str) -> Handler:
    def handle(call: NodeCall) -> Bound:
        return Bound(function, operands(call, 3))

    return takes(3, 3, handle)


def _where(call: NodeCall) -> Bound:
    if len(call.inputs) == 1:
        return Bound("places_of_true", operands(call, 1))
    if len(call.inputs) != 3:
        raise UnsupportedLayerError(f"it has {len(call.inputs)} inputs")
    return Bound("select", operands(call, 3))


def _clip(call: NodeCall) -> Bound:
    return Bound("clip_by_value", operands(call, 3))


def _approximate_equal(call: NodeCall) -> Bound:
    return Bound(
        "approximate_equal", operands(call, 2), {"tolerance": real(call, "tolerance", 1e-5)}
    )


def _bucketize(call: NodeCall) -> Bound:
    boundaries = call.attributes.get("boundaries")
    if not isinstance(boundaries, (list, tuple)) or not all(
        isinstance(one, (int, float)) for one in boundaries
    ):
        raise UnsupportedLayerError("its boundaries are no numbers")
    limits = torch.from_numpy(np.array(boundaries, dtype=np.float32))
    return Bound("bucketize", (operand(call, 0), limits))


HANDLERS: Table = {
    **{op: simple(function, 1) for op, function in _UNARY.items()},
    **{op: simple(function, 2) for op, function in _BINARY.items()},
    **{op: takes(1, None, _first) for op in HAND_ON},
    "IdentityN": takes(1, None, _all),
    "AddN": takes(1, None, _add_n),
    "AccumulateNV2": takes(1, None, _add_n),
    "Cast": takes(1, 1, _cast),
    "Bitcast": takes(1, 1, _bitcast),
    "LeakyRelu": takes(1, 1, _leaky_relu),
    "Reciprocal": takes(1, 1, _reciprocal),
    "Inv": takes(1, 1, _reciprocal),
    "Gelu": takes(1, 1, _gelu),
    "Select": _select("select_rows"),
    "SelectV2": _select("select"),
    "Where": takes(1, 3, _where),
    "ClipByValue": takes(3, 3, _clip),
    "ApproximateEqual": takes(2, 2, _approximate_equal),
    "Bucketize": takes(1, 1, _bucketize),
}
