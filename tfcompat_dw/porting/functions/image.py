"""Images in other sizes, and windows over them.

``tensorflow/core/kernels/image`` (resizing) and ``tensorflow/core/kernels`` (pooling, patches).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tfcompat_dw.padding import same_padding
from tfcompat_dw.porting.functions.arrays import Array, as_tensor
from tfcompat_dw.porting.layers import resizing
from tfcompat_dw.porting.layers.arguments import from_first, to_first
from tfcompat_dw.porting.layers.pooling import AveragePooling, MaxPooling

MOST_PADDING = 2**15
"""Of one axis, before or after: a window that reaches further is no window."""
MOST_WEIGHTS = 2**28
"""Of a matrix that resizes one axis."""
MOST_TAPS = 2**10
"""Of a filter whose places are taken one by one."""
Padding = str | Sequence[Sequence[int]]
"""``SAME``, ``VALID``, or (before, after) of each axis of the image."""

# ---- windows -------------------------------------------------------------------------------------


def pads_of(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: Padding,
) -> list[tuple[int, int]]:
    """(before, after) of each axis of the image."""
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    if isinstance(padding, str):
        axes = zip(sizes, kernel, strides, dilations, strict=True)
        pads = [same_padding(*axis) for axis in axes]
    else:
        pads = [(before, after) for before, after in padding]
    for pair in pads:
        if any(isinstance(end, int) and end > MOST_PADDING for end in pair):
            raise ValueError(f"it pads an axis by {max(pair)}")
    return pads


def padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """``[n, c, ...]`` with more around the image."""
    ends = [end for pair in reversed(pads) for end in pair]
    return x if all(isinstance(end, int) and end == 0 for end in ends) else F.pad(
        x, ends, value=value
    )  # fmt: skip


@lru_cache(maxsize=256)
def _pooling(
    kind: type[MaxPooling] | type[AveragePooling],
    size: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
    channels_last: bool,
) -> MaxPooling | AveragePooling:
    """The layer: it has no state."""
    return kind(size, strides, padding, channels_last)


def _max_pool(
    x: Array,
    size: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    channels_last: bool = True,
) -> Tensor:
    x = as_tensor(x)
    if not x.is_floating_point():  # PyTorch's are for numbers with fractions
        of_numbers = _max_pool(x.double(), size, strides, padding, channels_last)
        return of_numbers.to(x.dtype)
    if not isinstance(padding, str):
        first = padded(to_first(x, channels_last), pads_of([], [], [], [], padding), -torch.inf)
        x, padding = from_first(first, channels_last), "VALID"
    layer = _pooling(MaxPooling, tuple(size), tuple(strides), padding.lower(), channels_last)
    return layer.forward(x)


def _average_pool(
    x: Array, size: Sequence[int], strides: Sequence[int], padding: str, channels_last: bool = True
) -> Tensor:
    layer = _pooling(AveragePooling, tuple(size), tuple(strides), padding.lower(), channels_last)
    return layer.forward(as_tensor(x))


def _max_pool_with_argmax(
    x: Tensor,
    size: Sequence[int],
    strides: Sequence[int],
    padding: str,
    dtype: torch.dtype,
    include_batch: bool = False,
) -> list[Tensor]:
    """The largest of each window, and its place in the flattened image."""
    n, height, width, channels = x.shape
    pads = pads_of((height, width), size, strides, (1, 1), padding)
    image = padded(x.permute(0, 3, 1, 2), pads, -torch.inf)
    values, places = F.max_pool2d(image, list(size), list(strides), return_indices=True)
    rows = places // image.shape[3] - pads[0][0]
    columns = places % image.shape[3] - pads[1][0]
    each = torch.arange(channels, device=x.device)[:, None, None]
    index = (rows * width + columns) * channels + each
    if include_batch:
        images = torch.arange(n, device=x.device)[:, None, None, None]
        index = index + images * (height * width * channels)
    return [values.permute(0, 2, 3, 1), index.permute(0, 2, 3, 1).to(dtype)]


def _image_patches(
    x: Array, size: Sequence[int], strides: Sequence[int], rates: Sequence[int], padding: str
) -> Tensor:
    """``ExtractImagePatches``: ``[n, rows, columns, size * c]``."""
    x = as_tensor(x)
    pads = pads_of(x.shape[1:3], size, strides, rates, padding)
    reach = [(k - 1) * d + 1 for k, d in zip(size, rates, strict=True)]
    image = padded(x.permute(0, 3, 1, 2), pads).permute(0, 2, 3, 1)
    pieces = image.unfold(1, reach[0], strides[0]).unfold(2, reach[1], strides[1])
    pieces = pieces[..., :: rates[0], :: rates[1]]  # [n, rows, columns, c, *size]
    return pieces.permute(0, 1, 2, 4, 5, 3).reshape(*pieces.shape[:3], -1)


def _dilation(
    x: Array,
    filter: Array,
    strides: Sequence[int],
    rates: Sequence[int],
    padding: str,
) -> Tensor:
    """``Dilation2D``: the maximum over each window of the image plus the filter."""
    x = as_tensor(x, filter)
    filter = as_tensor(filter, x)
    size = filter.shape[:2]
    pads = pads_of(x.shape[1:3], size, strides, rates, padding)
    image = padded(x.permute(0, 3, 1, 2), pads, -torch.inf).permute(0, 2, 3, 1)
    outputs = [
        (n - (k - 1) * d - 1) // s + 1
        for n, k, s, d in zip(image.shape[1:3], size, strides, rates, strict=True)
    ]
    if not 0 < size[0] * size[1] <= MOST_TAPS:
        raise ValueError(f"its filter has shape {tuple(filter.shape)}")
    best = None
    for row in range(size[0]):
        for column in range(size[1]):
            cells = image
            starts = (row * rates[0], column * rates[1])
            for axis, start, count, step in zip((1, 2), starts, outputs, strides, strict=True):
                cells = cells.narrow(axis, start, (count - 1) * step + 1)
            one = cells[:, :: strides[0], :: strides[1]] + filter[row, column]
            best = one if best is None else torch.maximum(best, one)
    assert best is not None
    return best


def _local_response_normalization(
    x: Array, depth_radius: int, bias: float, alpha: float, beta: float
) -> Tensor:
    """``LRN``: each number by its neighbours' squares, channels being the last axis."""
    x = as_tensor(x)
    channels = x.shape[-1]
    radius = depth_radius if not isinstance(channels, int) else min(depth_radius, channels)
    around = F.pad(x.square(), (radius, radius)).unfold(-1, 2 * radius + 1, 1).sum(-1)
    return x * (bias + alpha * around) ** -beta


# ---- other sizes ---------------------------------------------------------------------------------


def _resize_nearest(
    x: Array, size: Sequence[int], align_corners: bool = False, half_pixel_centers: bool = False
) -> Tensor:
    x = as_tensor(x)
    for axis, out in zip((1, 2), size, strict=True):
        scale = _scale(x, axis, out, align_corners)
        places = _numbers(x, out)
        places = (places + 0.5) * scale if half_pixel_centers else places * scale
        whole = places.floor()
        if align_corners:
            whole = whole + (places - whole >= 0.5)
        x = x.index_select(axis, whole.long().clamp(0, x.shape[axis] - 1))
    return x


def _resize_bilinear(
    x: Array, size: Sequence[int], align_corners: bool = False, half_pixel_centers: bool = False
) -> Tensor:
    """Integers become float32."""
    x = as_tensor(x)
    x = x if x.is_floating_point() else x.float()
    if align_corners or half_pixel_centers:
        image = x.permute(0, 3, 1, 2)
        image = F.interpolate(image, list(size), mode="bilinear", align_corners=align_corners)
        return image.permute(0, 2, 3, 1)
    for axis, out in ((2, size[1]), (1, size[0])):
        places = _numbers(x, out) * _scale(x, axis, out, False)
        before, last = places.floor(), x.shape[axis] - 1
        share = (places - before).to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1 - axis))
        one = x.index_select(axis, before.long().clamp(0, last))
        other = x.index_select(axis, places.ceil().long().clamp(0, last))
        x = one + (other - one) * share
    return x


def _resize_bicubic(
    x: Array, size: Sequence[int], align_corners: bool = False, half_pixel_centers: bool = False
) -> Tensor:
    """Integers become float32."""
    x = as_tensor(x)
    x = x if x.is_floating_point() else x.float()
    _check_matrices(x, size)
    if half_pixel_centers:
        return resizing.resize(x, (size[0], size[1]), "bicubic")
    rows, columns = (
        _bicubic(x, axis, out, align_corners) for axis, out in zip((1, 2), size, strict=True)
    )
    y = torch.matmul(rows, x.flatten(2)).unflatten(2, x.shape[2:])
    return torch.matmul(columns, y)


def _resize_area(x: Array, size: Sequence[int]) -> Tensor:
    """Integers become float32."""
    x = as_tensor(x)
    _check_matrices(x, size)
    return resizing.resize(x if x.is_floating_point() else x.float(), (size[0], size[1]), "area")


def _check_matrices(x: Tensor, size: Sequence[int]) -> None:
    for out, given in zip(size, x.shape[1:3], strict=True):
        if isinstance(out, int) and isinstance(given, int) and out * given > MOST_WEIGHTS:
            raise ValueError(f"it resizes {given} to {out}")


def _bicubic(x: Tensor, axis: int, out: int, align_corners: bool) -> Tensor:
    """``[out, in]``: the older cubic (a = -0.75) out of a table of 1024 steps.

    What lies outside of the image is its nearest number.
    """
    places = _numbers(x, out) * _scale(x, axis, out, align_corners)
    first = places.floor()
    offset = ((places - first) * 1024).round() / 1024
    inputs = _numbers(x, x.shape[axis])
    matrix = torch.zeros_like(places[:, None] + inputs)
    for tap in (-1, 0, 1, 2):
        weight = _cubic((offset - tap).abs(), -0.75)[:, None]
        cell = (first + tap).clamp(0, x.shape[axis] - 1)[:, None]
        matrix = matrix + torch.where(inputs == cell, weight, 0.0)
    return matrix.to(x.dtype)


def _cubic(x: Tensor, a: float) -> Tensor:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, far)


def _numbers(x: Tensor, count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float32, device=x.device)


def _scale(x: Tensor, axis: int, out: int, align_corners: bool) -> Tensor:
    """Inputs for one output: one division of float32."""
    given = x.shape[axis]
    if align_corners:  # of a single output the scale does not matter
        given, out = given - 1, torch.sym_max(out - 1, 1)
    return as_tensor(given, None, torch.float32, x.device) / as_tensor(
        out, None, torch.float32, x.device
    )


def _crop_and_resize(
    image: Array,
    boxes: Array,
    box_indices: Array,
    crop_size: Sequence[int],
    method: str,
    extrapolation_value: float,
) -> Tensor:
    """``CropAndResize``: ``[boxes, *crop_size, c]``; boxes are (y1, x1, y2, x2) from 0 to 1."""
    image = as_tensor(image, boxes)
    image = image if image.is_floating_point() else image.float()
    boxes = as_tensor(boxes, image).to(image.dtype)
    which = as_tensor(box_indices, device=image.device).long()[:, None, None]
    rows, columns = (
        _sampled(boxes[:, first], boxes[:, first + 2], image.shape[axis], out)
        for first, axis, out in zip((0, 1), (1, 2), crop_size, strict=True)
    )
    is_inside = (_is_inside(rows, image.shape[1])[:, :, None]
                 & _is_inside(columns, image.shape[2])[:, None, :])  # fmt: skip

    def cells(y: Tensor, x: Tensor) -> Tensor:
        y = y.long().clamp(0, image.shape[1] - 1)[:, :, None]
        return image[which, y, x.long().clamp(0, image.shape[2] - 1)[:, None, :]]

    if method == "nearest":
        found = cells(_rounded(rows), _rounded(columns))
    else:
        down, right = (rows - rows.floor())[:, :, None, None], columns - columns.floor()
        right = right[:, None, :, None]
        top, bottom = (
            _between(cells(y, columns.floor()), cells(y, columns.ceil()), right)
            for y in (rows.floor(), rows.ceil())
        )
        found = _between(top, bottom, down)
    return torch.where(is_inside[..., None], found, extrapolation_value)


def _between(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return one + (other - one) * share


def _rounded(places: Tensor) -> Tensor:
    """Halves away from zero; nothing below zero is looked at."""
    whole = places.floor()
    return whole + (places - whole >= 0.5)


def _is_inside(places: Tensor, size: int) -> Tensor:
    return (places >= 0) & (places <= size - 1)


def _sampled(start: Tensor, end: Tensor, size: int, out: int) -> Tensor:
    """``[boxes, out]``: places among the image's cells."""
    if out == 1:
        return (0.5 * (start + end) * (size - 1))[:, None]
    step = (end - start) * (size - 1) / (out - 1)
    places = torch.arange(out, dtype=start.dtype, device=start.device)
    return (start * (size - 1))[:, None] + places * step[:, None]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "max_pool_with_argmax": _max_pool_with_argmax,
    "image_patches": _image_patches,
    "dilation": _dilation,
    "local_response_normalization": _local_response_normalization,
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "resize_bicubic": _resize_bicubic,
    "resize_area": _resize_area,
    "crop_and_resize": _crop_and_resize,
}
