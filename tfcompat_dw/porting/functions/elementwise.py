"""Functions of each number on its own (``tensorflow/core/ops/math_ops.cc``, ``nn_ops.cc``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tfcompat_dw.porting.functions.arrays import Array, as_tensor, dtype_named, is_floating


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[[Any], Tensor]:
    def apply(x: Any) -> Tensor:
        return function(as_tensor(x))

    return apply


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Any], Tensor]:
    def apply(x: Any, y: Any) -> Tensor:
        x = as_tensor(x, y)
        return function(x, as_tensor(y, x))

    return apply


def _softplus(x: Tensor) -> Tensor:
    return F.softplus(x, threshold=40)  # at PyTorch's 20 a float64 would not be exact


def _divide_whole(x: Tensor, y: Tensor) -> Tensor:
    """Integers are cut towards zero, as in C."""
    return x / y if is_floating(x) else torch.div(x, y, rounding_mode="trunc")


def _floor_div(x: Tensor, y: Tensor) -> Tensor:
    return torch.floor(x / y) if is_floating(x) else torch.div(x, y, rounding_mode="floor")


def _div_no_nan(x: Tensor, y: Tensor) -> Tensor:
    is_zero = y == 0
    return torch.where(is_zero, 0, x / torch.where(is_zero, 1, y))


def _mul_no_nan(x: Tensor, y: Tensor) -> Tensor:
    return torch.where(y == 0, 0, x * y)


def _squared_difference(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square()


def _xdivy(x: Tensor, y: Tensor) -> Tensor:
    is_zero = x == 0
    return torch.where(is_zero, 0, x / torch.where(is_zero, 1, y))


def _xlog1py(x: Tensor, y: Tensor) -> Tensor:
    return torch.xlogy(x, 1 + y) if not is_floating(x) else torch.special.xlog1py(x, y)


def _approximate_equal(x: Array, y: Array, tolerance: float) -> Tensor:
    x = as_tensor(x, y)
    return (x - as_tensor(y, x)).abs() < tolerance


def _clip_by_value(x: Array, low: Array, high: Array) -> Tensor:
    x = as_tensor(x, low if isinstance(low, Tensor) else high)
    low, high = (as_tensor(end, x).to(x.dtype) for end in (low, high))
    return torch.minimum(torch.maximum(x, low), high)


def _prelu(x: Tensor, alpha: Array) -> Tensor:
    return torch.where(x > 0, x, x * as_tensor(alpha, x))


def _select_rows(condition: Array, x: Array, y: Array) -> Tensor:
    """``Select``: a vector chooses among the first axis, whatever the rank."""
    x = as_tensor(x, y)
    condition = as_tensor(condition, device=x.device)
    if condition.dim() == 1 and x.dim() > 1:
        condition = condition.reshape(-1, *[1] * (x.dim() - 1))
    return torch.where(condition.bool(), x, as_tensor(y, x))


def _select(condition: Array, x: Array, y: Array) -> Tensor:
    """``SelectV2``: everything is broadcast."""
    x = as_tensor(x, y)
    return torch.where(as_tensor(condition, device=x.device).bool(), x, as_tensor(y, x))


def _cast(x: Array, dtype: torch.dtype | str) -> Tensor:
    """Fractions are cut off towards zero."""
    x = as_tensor(x)
    if isinstance(dtype, str):
        dtype = dtype_named(dtype)
    if x.is_complex() and not dtype.is_complex:
        x = x.real
    return x.to(dtype)


def _add_n(xs: Sequence[Array]) -> Tensor:
    like = next((x for x in xs if isinstance(x, Tensor)), None)
    total = as_tensor(xs[0], like)
    for x in xs[1:]:
        total = total + as_tensor(x, total)
    return total


def _bucketize(x: Array, boundaries: Array) -> Tensor:
    """How many boundaries are not above each number, int32."""
    x = as_tensor(x)
    limits = as_tensor(boundaries, device=x.device)
    if not limits.numel():
        return torch.zeros_like(x, dtype=torch.int32)
    return torch.bucketize(x.to(limits.dtype), limits, out_int32=True, right=True)


def _approximate_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _tensors(xs: Sequence[Array], device: torch.device | None = None) -> list[Tensor]:
    """As they are."""
    return [as_tensor(x, device=device) for x in xs]


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "tan": torch.tan,
    "asin": torch.asin,
    "acos": torch.acos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "acosh": torch.acosh,
    "atanh": torch.atanh,
    "sign": torch.sgn,
    "reciprocal": torch.reciprocal,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "erfinv": torch.erfinv,
    "lgamma": torch.lgamma,
    "digamma": torch.digamma,
    "logical_not": torch.logical_not,
    "is_nan": torch.isnan,
    "is_inf": torch.isinf,
    "is_finite": torch.isfinite,
    "bitwise_not": torch.bitwise_not,
    "zeros_like": torch.zeros_like,
    "ones_like": torch.ones_like,
    "softplus": _softplus,
    "gelu_tanh": _approximate_gelu,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "divide_whole": _divide_whole,
    "floor_div": _floor_div,
    "floor_mod": torch.remainder,
    "truncated_mod": torch.fmod,
    "div_no_nan": _div_no_nan,
    "mul_no_nan": _mul_no_nan,
    "squared_difference": _squared_difference,
    "xlogy": torch.xlogy,
    "xdivy": _xdivy,
    "xlog1py": _xlog1py,
    "atan2": torch.atan2,
    "larger": torch.maximum,
    "smaller": torch.minimum,
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "bitwise_and": torch.bitwise_and,
    "bitwise_or": torch.bitwise_or,
    "bitwise_xor": torch.bitwise_xor,
    "left_shift": torch.bitwise_left_shift,
    "right_shift": torch.bitwise_right_shift,
}


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """``tf.nn.gelu``: ``x (1 + erf(x / sqrt(2))) / 2``, or its approximation by a tanh.

    ``F.gelu`` has an erf of its own on processors with AVX-512, which is up to 1e-6 off.
    """
    if approximate:
        return F.gelu(x, approximate="tanh")
    return 0.5 * x * (1 + torch.erf(x * 0.5**0.5))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _unary(function) for name, function in UNARY.items()},
    **{name: _binary(function) for name, function in BINARY.items()},
    "approximate_equal": _approximate_equal,
    "clip_by_value": _clip_by_value,
    "prelu": _prelu,
    "select_rows": _select_rows,
    "select": _select,
    "cast": _cast,
    "add_n": _add_n,
    "bucketize": _bucketize,
    "tensors": _tensors,
}
