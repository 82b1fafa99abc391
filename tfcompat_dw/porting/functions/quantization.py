"""Numbers as an integer of few bits would hold them, with gradients as if it were the identity.

``tensorflow/core/kernels/fake_quant_ops_functor.h``; where a number is cut to the range its
gradient is 0, and the end of the range gets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.porting.functions.arrays import Array, as_tensor


def _fake_quantize_range(
    x: Tensor, low: Array, high: Array, num_bits: int = 8, narrow_range: bool = False
) -> Tensor:
    """``FakeQuantWithMinMaxVars``, ``Args`` and ``VarsPerChannel`` (the last axis).

    The range is moved a little, so that zero is one of the numbers.
    """
    low, high = as_tensor(low, x), as_tensor(high, x)
    first, last = (1 if narrow_range else 0), 2**num_bits - 1
    scale = (high - low) / (last - first)
    zero = _halves_up(first - low / scale).clamp(first, last)
    least, most = (first - zero) * scale, (last - zero) * scale
    inside = torch.minimum(torch.maximum(x, _like(low, least)), _like(high, most))
    inverse = 1 / scale
    steps = inside.detach() - least
    shift = torch.floor(0.5 - least * inverse)
    rounded = torch.floor(steps * inverse - shift + 0.5) * scale
    is_empty = (low == 0) & (high == 0)
    result = inside + (rounded - inside).detach()
    return torch.where(is_empty, torch.zeros_like(x), result)


def _like(given: Tensor, value: Tensor) -> Tensor:
    """The value, with the gradient of what it was made of."""
    return given + (value - given).detach() if given.requires_grad else value.detach()


def _halves_up(x: Tensor) -> Tensor:
    """To the next integer, halves away from zero."""
    whole = torch.trunc(x)
    return whole + torch.where((x - whole).abs() >= 0.5, torch.sgn(x), 0.0)


def _fake_quantize(
    x: Tensor,
    scale: Array,
    zero_point: Array,
    least: int,
    most: int,
    axis: int = -1,
    shifts: Array | None = None,
    rounds_up: bool = False,
) -> Tensor:
    """``scale * (integer - zero_point)`` of the nearest integer from ``least`` to ``most``.

    Args:
        x: numbers.
        scale: of one step; a number, or one for each index of ``axis``.
        zero_point: the integer that stands for 0, as ``scale``.
        least: the first integer.
        most: the last one.
        axis: which scales and zero points are for.
        shifts: binary places to which the number of steps is rounded before, for each index of the
            last axis, as TFLite's kernels do; None: it is not.
        rounds_up: whether halves of steps are rounded up, not away from zero.
    """
    scale, zero = (_along(as_tensor(one, x), x, axis) for one in (scale, zero_point))
    inside = torch.minimum(torch.maximum(x, (least - zero) * scale), (most - zero) * scale)
    steps = x.detach() / scale
    if shifts is not None:  # in float64: float32 has no room for steps and so many places
        places = torch.exp2(_along(as_tensor(shifts, x), x, -1).double())
        steps = (_halves_up(x.detach().double() / scale * places) / places).to(x.dtype)
    nearest = torch.floor(steps + 0.5) if rounds_up else _halves_up(steps)
    integers = (nearest + zero).clamp(least, most)
    return inside + ((integers - zero) * scale - inside).detach()


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "fake_quantize_range": _fake_quantize_range,
    "fake_quantize": _fake_quantize,
}
