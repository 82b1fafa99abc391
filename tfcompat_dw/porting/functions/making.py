"""Tensors that are made rather than computed from others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.porting.functions.arrays import Array, as_tensor


def _tensor_of(
    values: Any, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> Tensor:
    """Sizes as a tensor: int32 unless ``dtype`` says otherwise."""
    return as_tensor(values, None, dtype, device)


def _fill(
    shape: Sequence[int],
    value: Array,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    return as_tensor(value, None, dtype, device).reshape(()).expand(list(shape))


def _arange(
    start: Any,
    limit: Any,
    delta: Any,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    return torch.arange(start, limit, delta, dtype=dtype or torch.int32, device=device)


def _linspace(
    start: Array,
    stop: Array,
    count: int,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """``start + i * step``, and ``stop`` itself at the end."""
    start = as_tensor(start, None, dtype, device)
    stop = as_tensor(stop, start)
    if count == 1:
        return start.reshape(1)
    places = torch.arange(count - 1, dtype=start.dtype, device=start.device)
    return torch.cat([start + places * ((stop - start) / (count - 1)), stop.reshape(1)])


def _one_hot(indices: Array, depth: int, on: Array, off: Array, axis: int = -1) -> Tensor:
    """Nothing where the index is none of them."""
    on = as_tensor(on, off)
    off = as_tensor(off, on)
    indices = as_tensor(indices, device=on.device)
    rank = indices.dim() + 1
    places = torch.arange(depth, dtype=indices.dtype if indices.dtype != torch.uint8
                          else torch.int64, device=indices.device)  # fmt: skip
    shape = [1] * rank
    shape[axis] = -1
    is_on = indices.unsqueeze(axis) == places.reshape(shape)
    return torch.where(is_on, on.to(indices.device), off.to(indices.device))


def _diagonal_matrix(x: Array) -> Tensor:
    return torch.diag_embed(as_tensor(x))


def _diagonal_part(x: Array) -> Tensor:
    return torch.diagonal(as_tensor(x), dim1=-2, dim2=-1)


def _set_diagonal(x: Array, diagonal: Array) -> Tensor:
    x = as_tensor(x, diagonal)
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[-2:])
    is_on = rows[:, None] == columns
    short = as_tensor(diagonal, x)
    wide = short.new_zeros(*short.shape[:-1], x.shape[-1])
    wide[..., : short.shape[-1]] = short
    return torch.where(is_on, wide[..., None, :], x)


def _band(x: Array, lower: int, upper: int) -> Tensor:
    """``MatrixBandPart``: so many diagonals below and above, all of them if negative."""
    x = as_tensor(x)
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[-2:])
    below = rows[:, None] - columns
    is_in = torch.ones_like(below, dtype=torch.bool)
    if lower >= 0:
        is_in = is_in & (below <= lower)
    if upper >= 0:
        is_in = is_in & (-below <= upper)
    return torch.where(is_in, x, torch.zeros_like(x))


def _places_of_true(x: Array) -> Tensor:
    """``Where`` of one input: ``[found, rank]``, int64."""
    return torch.argwhere(as_tensor(x))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tensor_of": _tensor_of,
    "fill": _fill,
    "arange": _arange,
    "linspace": _linspace,
    "one_hot": _one_hot,
    "diagonal_matrix": _diagonal_matrix,
    "diagonal_part": _diagonal_part,
    "set_diagonal": _set_diagonal,
    "band": _band,
    "places_of_true": _places_of_true,
}
