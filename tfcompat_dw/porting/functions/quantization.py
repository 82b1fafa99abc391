"""Numbers as an integer of few bits would hold them, with gradients as if it were the identity.

``tensorflow/core/kernels/fake_quant_ops_functor.h``; where a number is cut to the range its
gradient is 0, and the end of the range gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import frexp, prod
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


FLOAT_PLACES = 15
"""Binary places that sums of float32 have right, of 8 bits in front of the point."""


def _to_places(x: Tensor, places: Tensor) -> Tensor:
    """To so many binary places, halves up."""
    scale = torch.exp2(places)
    return torch.floor(x * scale + 0.5) / scale


def _fake_quantize(
    x: Tensor,
    scale: Array,
    zero_point: Array,
    least: int,
    most: int,
    axis: int = -1,
    shifts: Array | None = None,
    rounds_up: Array = False,
    offset: float = 0.0,
    snaps: bool = False,
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
        rounds_up: whether halves of steps are rounded up, not away from zero, for each index of the
            last axis.
        offset: steps that are added before the rounding; their nearest integer is taken off behind.
        snaps: whether what is a half but for float32's rounding is taken for one.
    """
    scale, zero = (_along(as_tensor(one, x), x, axis) for one in (scale, zero_point))
    inside = torch.minimum(torch.maximum(x, (least - zero) * scale), (most - zero) * scale)
    # in float64, if places behind the point count: float32 has no room for them beside the steps
    steps = (x.detach() if shifts is None else x.detach().double()) / scale + offset
    if shifts is not None:
        shifts = _along(as_tensor(shifts, x), x, -1).double()
        if snaps:
            steps = _to_places(steps, (shifts + 2).clamp(min=FLOAT_PLACES))
        steps = _to_places(steps, shifts).to(x.dtype)
    is_up = _along(torch.as_tensor(rounds_up, device=x.device), x, -1)
    nearest = torch.where(is_up, torch.floor(steps + 0.5), _halves_up(steps))
    integers = (nearest - round(offset) + zero).clamp(least, most)
    return inside + ((integers - zero) * scale - inside).detach()


AT_ONCE = 16
"""Channels that TFLite's kernel for images takes in vectors of int8, which it rounds up."""


def in_whole_groups(count: int, size: int) -> list[bool]:
    """Of so many, which are in a group of the given size; those that are left over are not."""
    whole = count - count % size
    return [True] * whole + [False] * (count - whole)


def _fake_quantize_mean(
    mean: Tensor,
    x: Tensor,
    scale: Array,
    zero_point: Array,
    least: int,
    most: int,
    axes: Sequence[int],
    keep_dims: bool,
    factor: float,
    x_zero_point: int,
) -> Tensor:
    """:func:`_fake_quantize` of ``x``'s mean along ``axes``, as TFLite's kernels of 8 bits have it.

    A sum of integers is multiplied by a number that divides by their count, too.  Where all of an
    image is averaged, the zero points are left in, and their part is rounded on its own.
    ``factor`` is the scale of ``x`` over that of the mean; where that is 1, halves are frequent.
    """
    axes = sorted(axis % x.dim() for axis in axes)
    count = prod(x.shape[axis] for axis in axes)
    known = (mean, scale, zero_point, least, most, -1)
    if not (x.dim() == 4 and axes == [1, 2] and keep_dims):
        shift = count.bit_length() - 1 - frexp(factor)[1]
        return _fake_quantize(*known, shifts=[max(0, shift)], snaps=factor == 1)
    up = in_whole_groups(x.shape[3], AT_ONCE) if least < 0 else False
    shifts, offset = [max(0, -frexp(factor / max(1, count))[1])], x_zero_point * factor
    return _fake_quantize(*known, shifts, up, offset, snaps=factor == 1)


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[axis] = -1
    return values.reshape(shape)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "fake_quantize_range": _fake_quantize_range,
    "fake_quantize": _fake_quantize,
    "fake_quantize_mean": _fake_quantize_mean,
}
