"""``tf.image.resize`` of TF 2, with its half-pixel centres, for every method.

Bilinear without antialiasing is PyTorch's, of integers TF's steps one by one (their sum is rounded
to an integer, so the last bit counts).  The others are a product with a matrix for the rows and
one for the columns, whose elements follow ``tensorflow/core/kernels/image``: ``resize_bicubic_op``
(weights from a table of 1024 steps), ``resize_area_op`` and ``scale_and_translate_op``, in float32
as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

METHODS = (
    "bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic",
)  # fmt: skip
_TABLE = 1024


def resize(x: Tensor, size: tuple[int, int], method: str, antialias: bool = False) -> Tensor:
    """Images ``[n, h, w, c]`` in another size.

    Args:
        x: of any type; integers are rounded and cut to their range.
        size: rows and columns.
        method: one of ``METHODS``.
        antialias: whether shrinking averages over what lies between; no matter for ``nearest``
            and ``area``.
    """
    if _is_same(x.shape[1], size[0]) and _is_same(x.shape[2], size[1]):
        return x
    if not x.is_floating_point() and method != "nearest":
        return _of_integers(x, size, method, antialias)
    if method == "nearest":
        rows, columns = (_nearest(x, axis, out) for axis, out in zip((1, 2), size, strict=True))
        return x.index_select(1, rows).index_select(2, columns)
    if method == "bilinear" and not antialias:
        image = x.permute(0, 3, 1, 2)
        return F.interpolate(image, size, mode="bilinear").permute(0, 2, 3, 1)
    rows, columns = (
        _matrix(x, axis, out, method, antialias) for axis, out in zip((1, 2), size, strict=True)
    )
    y = torch.matmul(rows, x.flatten(2)).unflatten(2, x.shape[2:])
    return torch.matmul(columns, y)


def _of_integers(x: Tensor, size: tuple[int, int], method: str, antialias: bool) -> Tensor:
    values, kind = x.to(torch.float32), torch.iinfo(x.dtype)
    if method == "bilinear" and not antialias:
        y = _bilinear(_bilinear(values, 2, size[1]), 1, size[0])
    else:
        y = resize(values, size, method, antialias)
    return y.round().clamp(kind.min, kind.max).to(x.dtype)


def _bilinear(x: Tensor, axis: int, out: int) -> Tensor:
    """One axis as ``resize_bilinear_op`` does it."""
    places = _centres(x, axis, out) - 0.5
    before = places.floor()
    last = x.shape[axis] - 1
    low, high = before.clamp(0, last).long(), places.ceil().clamp(0, last).long()
    share = (places - before).reshape(-1, *(1,) * (x.dim() - 1 - axis))
    one, other = x.index_select(axis, low), x.index_select(axis, high)
    return one + (other - one) * share


def _is_same(size: int, wanted: int) -> bool:
    return isinstance(size, int) and isinstance(wanted, int) and size == wanted


def _step(size: int, out: int) -> Tensor:
    """Inputs for one output, as TF's kernels have it: one float32 division."""
    return torch.tensor(size, dtype=torch.float32) / torch.tensor(out, dtype=torch.float32)


def _centres(x: Tensor, axis: int, out: int) -> Tensor:
    """Where outputs' centres lie among inputs, the first of which is from 0 to 1."""
    places = torch.arange(out, dtype=torch.float32, device=x.device)
    return (places + 0.5) * _step(x.shape[axis], out).to(x.device)


def _nearest(x: Tensor, axis: int, out: int) -> Tensor:
    return _centres(x, axis, out).floor().long().clamp(max=x.shape[axis] - 1)


def _matrix(x: Tensor, axis: int, out: int, method: str, antialias: bool) -> Tensor:
    """``[out, in]``: what each input gives to each output."""
    inputs = torch.arange(x.shape[axis], dtype=torch.float32, device=x.device)
    if method == "area":
        matrix = _area(inputs, x, axis, out)
    elif method == "bicubic" and not antialias:
        matrix = _bicubic(inputs, _centres(x, axis, out) - 0.5)
    else:
        matrix = _sampled(inputs, x, axis, out, _KERNELS[method], antialias)
    return matrix.to(x.dtype)


def _area(inputs: Tensor, x: Tensor, axis: int, out: int) -> Tensor:
    """The share of each input in the interval of each output."""
    step = _step(x.shape[axis], out).to(x.device)
    starts = (torch.arange(out, dtype=torch.float32, device=x.device) * step)[:, None]
    ends = starts + step
    return (torch.minimum(ends, inputs + 1) - torch.maximum(starts, inputs)).clamp_min(0) / step


def _bicubic(inputs: Tensor, places: Tensor) -> Tensor:
    """Keys' cubic at four inputs; those outside the image count nothing."""
    first = places.floor()
    offset = ((places - first) * _TABLE).round() / _TABLE
    matrix = torch.zeros_like(places[:, None] + inputs)
    for tap in (-1, 0, 1, 2):
        weight = _keys_cubic((offset - tap).abs())
        matrix = matrix + torch.where(inputs == (first + tap)[:, None], weight[:, None], 0.0)
    return _normalized(matrix)


def _sampled(
    inputs: Tensor,
    x: Tensor,
    axis: int,
    out: int,
    kernel: tuple[float, Callable[[Tensor], Tensor]],
    antialias: bool,
) -> Tensor:
    """A kernel around each output's centre, wider where it shrinks with antialiasing."""
    radius, function = kernel
    scale = _step(out, x.shape[axis])  # TF is given its float32 value and inverts it again
    step = (1 / scale).to(x.device)
    places = torch.arange(out, dtype=torch.float32, device=x.device)
    centres = ((places + 0.5) * step)[:, None]
    width = step.clamp_min(1) if antialias else torch.ones_like(step)
    start = (centres - radius * width - 0.5).ceil()
    end = (centres + radius * width - 0.5).floor()
    weights = function((inputs + 0.5 - centres).mul(1 / width).abs())
    return _normalized(torch.where((inputs >= start) & (inputs <= end), weights, 0.0))


def _normalized(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(1, keepdim=True)


def _keys_cubic(x: Tensor) -> Tensor:
    near = ((1.5 * x - 2.5) * x) * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x >= 2, 0.0, torch.where(x >= 1, far, near))


def _mitchell_cubic(x: Tensor) -> Tensor:
    near = ((7 / 6 * x - 2) * x) * x + 8 / 9
    far = ((-7 / 18 * x + 2) * x - 10 / 3) * x + 16 / 9
    return torch.where(x >= 2, 0.0, torch.where(x >= 1, far, near))


def _lanczos(radius: float) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        angle = math.pi * x.clamp_min(1e-3)
        wave = radius * angle.sin() * (angle / radius).sin() / (angle * angle)
        return torch.where(x > radius, 0.0, torch.where(x <= 1e-3, 1.0, wave))

    return function


def _gaussian(x: Tensor) -> Tensor:
    return torch.where(x >= 1.5, 0.0, torch.exp(-x * x / (2 * 0.5 * 0.5)))


def _triangle(x: Tensor) -> Tensor:
    return (1 - x).clamp_min(0)


_KERNELS: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {
    "bilinear": (1.0, _triangle),
    "bicubic": (2.0, _keys_cubic),
    "lanczos3": (3.0, _lanczos(3.0)),
    "lanczos5": (5.0, _lanczos(5.0)),
    "gaussian": (1.5, _gaussian),
    "mitchellcubic": (2.0, _mitchell_cubic),
}
"""Radius and values."""
