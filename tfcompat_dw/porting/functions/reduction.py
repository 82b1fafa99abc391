"""Sums, means and the like over axes, and what runs along one axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.porting.functions.arrays import Array, as_tensor

Axes = Sequence[int] | None
"""None is all of them; an empty sequence is none."""


def _reduction(
    function: Callable[[Tensor, tuple[int, ...], bool], Tensor],
) -> Callable[..., Tensor]:
    def apply(x: Array, axes: Axes = None, keepdims: bool = False) -> Tensor:
        x = as_tensor(x)
        over = tuple(range(x.dim())) if axes is None else tuple(axes)
        return function(x, over, keepdims) if over else x

    return apply


def _sum(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return x.sum(axes, keepdim=keepdims, dtype=x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if x.is_floating_point() or x.is_complex():
        return x.mean(axes, keepdim=keepdims)
    total, count = _sum(x, axes, keepdims), 1
    for axis in axes:
        count = count * x.shape[axis]
    return torch.div(total, count, rounding_mode="trunc")


def _prod(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdims, dtype=x.dtype)
    return x


def _max(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return x.amax(axes, keepdim=keepdims)


def _min(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return x.amin(axes, keepdim=keepdims)


def _all(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return x.all(axes, keepdim=keepdims)


def _any(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return x.any(axes, keepdim=keepdims)


def _euclidean_norm(x: Array, axes: Axes = None, keepdims: bool = False) -> Tensor:
    return _reduction(_sum)(as_tensor(x).square(), axes, keepdims).sqrt()


def _l2_loss(x: Array) -> Tensor:
    return as_tensor(x).square().sum() / 2


def _index_of_max(x: Array, axis: int, dtype: torch.dtype) -> Tensor:
    """The first of several."""
    x = as_tensor(x)
    return (x.to(torch.uint8) if x.dtype is torch.bool else x).argmax(axis).to(dtype)


def _index_of_min(x: Array, axis: int, dtype: torch.dtype) -> Tensor:
    """The first of several."""
    x = as_tensor(x)
    return (x.to(torch.uint8) if x.dtype is torch.bool else x).argmin(axis).to(dtype)


def _top_k(x: Array, k: int, dtype: torch.dtype) -> list[Tensor]:
    """Of equal ones the first comes first, which ``torch.topk`` does not promise."""
    values, indices = torch.sort(as_tensor(x), dim=-1, descending=True, stable=True)
    return [values.narrow(-1, 0, k), indices.narrow(-1, 0, k).to(dtype)]


def _running(function: Callable[..., Tensor], neutral: int) -> Callable[..., Tensor]:
    def apply(x: Array, axis: int, exclusive: bool = False, reverse: bool = False) -> Tensor:
        x = as_tensor(x)
        x = x.flip(axis) if reverse else x
        if exclusive:
            first = torch.full_like(x.narrow(axis, 0, 1), neutral)
            x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
        y = function(x, axis, dtype=x.dtype)
        return y.flip(axis) if reverse else y

    return apply


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_sum": _reduction(_sum),
    "reduce_mean": _reduction(_mean),
    "reduce_prod": _reduction(_prod),
    "reduce_max": _reduction(_max),
    "reduce_min": _reduction(_min),
    "reduce_all": _reduction(_all),
    "reduce_any": _reduction(_any),
    "euclidean_norm": _euclidean_norm,
    "l2_loss": _l2_loss,
    "index_of_max": _index_of_max,
    "index_of_min": _index_of_min,
    "top_k": _top_k,
    "cumsum": _running(torch.cumsum, 0),
    "cumprod": _running(torch.cumprod, 1),
}
