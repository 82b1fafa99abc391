"""TensorFlow's depthwise convolutions, under ``tf.nn``'s names, with its arguments and numbers.

Each function checks its arguments, works out the explicit padding and calls one operator of
``torch.ops.tfcompat_dw``, which is differentiable to any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear

from tfcompat_dw import space_to_batch
from tfcompat_dw.arguments import (
    FILTER_AXES,
    IMAGE_AXES,
    Geometry,
    check_bias,
    check_equal,
    check_like,
    check_tensor,
    parse_geometry,
    parse_sizes,
)
from tfcompat_dw.autograd import Operator, call
from tfcompat_dw.layout import channels_last_in_memory
from tfcompat_dw.padding import Window

# Overloads, not their packets: PyTorch finds the only one there is anew in every call of a packet.
_depthwise_conv2d: Operator = torch.ops.tfcompat_dw.depthwise_conv2d.default
_backward_input: Operator = torch.ops.tfcompat_dw.depthwise_conv2d_backward_input.default
_backward_filter: Operator = torch.ops.tfcompat_dw.depthwise_conv2d_backward_filter.default

__all__ = [
    "depthwise_conv2d",
    "depthwise_conv2d_backprop_filter",
    "depthwise_conv2d_backprop_input",
    "separable_conv2d",
]

_FILTER_CHANNELS = (
    "a filter is [h, w, in, mult] in either data_format, and data_format names the input's axes"
)

Steps = int | Sequence[int]
"""Strides or dilations: an int, (rows, columns), or 4 values in data_format order."""
Padding = Literal["SAME", "VALID"] | Sequence[Sequence[int]]
"""TensorFlow's padding: a name, or 4 (before, after) pairs in data_format order."""
DataFormat = Literal["NHWC", "NCHW"]
StridedDilation = Literal["error", "plain", "space_to_batch"]


def depthwise_conv2d(
    input: Tensor,
    filter: Tensor,
    strides: Steps,
    padding: Padding,
    data_format: DataFormat | None = None,
    dilations: Steps | None = None,
    name: str | None = None,
    *,
    bias: Tensor | None = None,
    strided_dilation: StridedDilation = "error",
) -> Tensor:
    """Convolve every channel with its own filters: ``tf.nn.depthwise_conv2d``.

    ::

        output[n, i, j, c*mult + m] =
            sum_{h, w} filter[h, w, c, m] * input[n, i*stride - top + h*dilation,
                                                     j*stride - left + w*dilation, c]

    in which positions outside the input are skipped (they add nothing, whatever the filter holds).

    Args:
        input: ``[n, h, w, c]``, or ``[n, c, h, w]`` if ``data_format`` is ``"NCHW"``.  float64,
            float32, bfloat16 or float16; the 16-bit types are summed in float32 and rounded once.
        filter: ``[h, w, c, mult]`` in either data format; same dtype and device.
        strides: an int, (rows, columns), or 4 values in data_format order.
        padding: ``"SAME"`` (``ceil(size / stride)`` outputs, an odd row or column of padding goes
            after), ``"VALID"``, or 4 (before, after) pairs in data_format order.
        data_format: names the axes: ``"NHWC"`` (also None) or ``"NCHW"``.  Which order is fast is
            not decided here but by how the input lies in memory: either one is.
        dilations: as ``strides``; None is 1.
        name: accepted for TensorFlow's sake and ignored.
        bias: ``[c*mult]``, added before the one rounding.  TensorFlow adds it in a second call.
        strided_dilation: what to do where a stride and a dilation are above 1: ``"error"``, as
            TensorFlow documents; ``"plain"``, the formula above, which Keras and PyTorch compute;
            ``"space_to_batch"``, what ``tf.nn.depthwise_conv2d`` of TensorFlow 2.21 returns.

    Returns:
        ``[n, out_h, out_w, c*mult]`` or ``[n, c*mult, out_h, out_w]``, in the input's memory order.

    Raises:
        TypeError, ValueError: where TensorFlow, eager or in a graph, refuses the arguments, but for
            what only its kernels lack (NCHW, unequal strides) and short forms (an int for strides);
            and where it fails to refuse (an empty kernel, batch padding).
    """
    geometry = parse_geometry(strides, padding, data_format, dilations, strided_dilation)
    window = check_forward(input, "filter", filter, bias, geometry)
    return convolve(input, filter, bias, geometry, window)


def depthwise_conv2d_backprop_input(
    input_sizes: Sequence[int] | Tensor,
    filter: Tensor,
    out_backprop: Tensor,
    strides: Steps,
    padding: Padding,
    data_format: DataFormat = "NHWC",
    dilations: Steps = (1, 1),
    name: str | None = None,
    *,
    strided_dilation: StridedDilation = "error",
) -> Tensor:
    """The input's gradient: ``tf.nn.depthwise_conv2d_backprop_input``.

    TensorFlow ignores ``dilations`` here; this function is the adjoint of the dilated convolution.

    Args:
        input_sizes: the 4 sizes of the input in data_format order: ints or an integer tensor.
        filter: ``[h, w, c, mult]``.
        out_backprop: the gradient of the output, in the output's shape.
        strides: as for ``depthwise_conv2d``.
        padding: as for ``depthwise_conv2d``.
        data_format: as for ``depthwise_conv2d``.
        dilations: as for ``depthwise_conv2d``.
        name: ignored.
        strided_dilation: as for ``depthwise_conv2d``.

    Returns:
        A tensor of ``input_sizes``, in the memory order of ``out_backprop``.  Inputs that no window
        reads have gradient 0.

    Raises:
        TypeError, ValueError: for bad arguments, and sizes that do not belong together.
    """
    geometry = parse_geometry(strides, padding, data_format, dilations, strided_dilation)
    axes = IMAGE_AXES[geometry.channels_last]
    input_size = parse_sizes("input_sizes", input_sizes, axes)
    check_tensor("filter", filter, FILTER_AXES)
    _check_grad(out_backprop, "filter", filter, geometry)
    window = _backprop_window(
        geometry, "input_sizes", input_size, "filter", filter.shape, out_backprop.shape
    )
    if geometry.space_to_batch:
        return space_to_batch.depthwise_conv2d_backward_input(
            input_size, filter, out_backprop, window
        )
    return call(_backward_input, input_size, filter, out_backprop, *window)


def depthwise_conv2d_backprop_filter(
    input: Tensor,
    filter_sizes: Sequence[int] | Tensor,
    out_backprop: Tensor,
    strides: Steps,
    padding: Padding,
    data_format: DataFormat = "NHWC",
    dilations: Steps = (1, 1),
    name: str | None = None,
    *,
    strided_dilation: StridedDilation = "error",
) -> Tensor:
    """The filter's gradient: ``tf.nn.depthwise_conv2d_backprop_filter``.

    TensorFlow ignores ``dilations`` here; this function is the adjoint of the dilated convolution.

    Args:
        input: ``[n, h, w, c]`` or ``[n, c, h, w]``.
        filter_sizes: the filter's sizes ``[h, w, c, mult]``: ints or an integer tensor.
        out_backprop: the gradient of the output, in the output's shape.
        strides: as for ``depthwise_conv2d``.
        padding: as for ``depthwise_conv2d``.
        data_format: as for ``depthwise_conv2d``.
        dilations: as for ``depthwise_conv2d``.
        name: ignored.
        strided_dilation: as for ``depthwise_conv2d``.

    Returns:
        A contiguous tensor of ``filter_sizes``; zeros where nothing is summed (an empty batch, a
        tap that only ever meets padding).

    Raises:
        TypeError, ValueError: for bad arguments, and sizes that do not belong together.
    """
    geometry = parse_geometry(strides, padding, data_format, dilations, strided_dilation)
    check_tensor("input", input, IMAGE_AXES[geometry.channels_last])
    filter_size = parse_sizes("filter_sizes", filter_sizes, FILTER_AXES)
    _check_grad(out_backprop, "input", input, geometry)
    window = _backprop_window(
        geometry, "input", input.shape, "filter_sizes", filter_size, out_backprop.shape
    )
    if geometry.space_to_batch:
        return space_to_batch.depthwise_conv2d_backward_filter(
            input, filter_size, out_backprop, window
        )
    return call(_backward_filter, input, filter_size, out_backprop, *window)


def separable_conv2d(
    input: Tensor,
    depthwise_filter: Tensor,
    pointwise_filter: Tensor,
    strides: Steps,
    padding: Padding,
    data_format: DataFormat | None = None,
    dilations: Steps | None = None,
    name: str | None = None,
    *,
    strided_dilation: StridedDilation = "error",
) -> Tensor:
    """A depthwise convolution, then a 1x1 convolution of its channels: ``tf.nn.separable_conv2d``.

    Args:
        input: ``[n, h, w, c]`` or ``[n, c, h, w]``.
        depthwise_filter: ``[h, w, c, mult]``.
        pointwise_filter: ``[1, 1, c*mult, out]``.  All of its ``c*mult`` inputs have to be there:
            TensorFlow takes fewer for a grouped convolution.
        strides: of the depthwise part, as for ``depthwise_conv2d``.
        padding: as for ``depthwise_conv2d``.
        data_format: as for ``depthwise_conv2d``.
        dilations: of the depthwise part.
        name: ignored.
        strided_dilation: as for ``depthwise_conv2d``.

    Returns:
        ``[n, out_h, out_w, out]`` or ``[n, out, out_h, out_w]``, in the input's memory order.

    Raises:
        TypeError, ValueError: as ``depthwise_conv2d``.
    """
    geometry = parse_geometry(strides, padding, data_format, dilations, strided_dilation)
    return separable(
        input,
        "depthwise_filter",
        depthwise_filter,
        "pointwise_filter",
        pointwise_filter,
        None,
        geometry,
    )


def check_forward(
    input: Tensor, filter_name: str, filter: Tensor, bias: Tensor | None, geometry: Geometry
) -> Window:
    """The window of a convolution whose arguments belong together."""
    check_tensor("input", input, IMAGE_AXES[geometry.channels_last])
    check_tensor(filter_name, filter, FILTER_AXES)
    check_like(filter_name, filter, "input", input, autocast=True)
    _, size, channels = geometry.split(input.shape)
    rows, columns, filter_channels, multiplier = filter.shape
    check_equal(
        "channels", filter_name, filter_channels, "input", channels,
        _FILTER_CHANNELS,
    )  # fmt: skip
    if bias is not None:
        check_bias(bias, channels * multiplier, "input", input)
    return geometry.window(filter_name, (rows, columns), size)


def convolve(
    input: Tensor, filter: Tensor, bias: Tensor | None, geometry: Geometry, window: Window
) -> Tensor:
    """The convolution of checked arguments."""
    if geometry.space_to_batch:
        return space_to_batch.depthwise_conv2d(input, filter, bias, window)
    return call(_depthwise_conv2d, input, filter, bias, *window)


def separable(
    input: Tensor,
    depthwise_name: str,
    depthwise: Tensor,
    pointwise_name: str,
    pointwise: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Depthwise, pointwise, bias: what the function and the layers share."""
    window = check_forward(input, depthwise_name, depthwise, None, geometry)
    check_tensor(pointwise_name, pointwise, "[1, 1, in*mult, out]")
    check_like(pointwise_name, pointwise, "input", input, autocast=True)
    rows, columns, channels, outputs = pointwise.shape
    if rows != 1 or columns != 1:
        raise ValueError(
            f"{pointwise_name} must be [1, 1, in*mult, out], got shape {tuple(pointwise.shape)}; "
            f"a larger second convolution is torch.nn.functional.conv2d"
        )
    check_equal(
        "in * mult channels", pointwise_name, channels,
        depthwise_name, depthwise.shape[2] * depthwise.shape[3],
        "TensorFlow takes fewer for a grouped convolution, which is "
        "torch.nn.functional.conv2d(groups=...)",
    )  # fmt: skip
    if bias is not None:
        check_bias(bias, outputs, "input", input)
    middle = convolve(input, depthwise, None, geometry, window)
    return _pointwise(middle, pointwise[0, 0], bias, geometry.channels_last)


def _pointwise(image: Tensor, matrix: Tensor, bias: Tensor | None, channels_last: bool) -> Tensor:
    """Multiply the channels with ``matrix``, [in, out], in the memory order that is there."""
    stored_channels_last = channels_last_in_memory(image, channels_last)
    nchw = image.permute(0, 3, 1, 2) if channels_last else image
    wide = image.dtype in (torch.float32, torch.float64)
    if wide and (stored_channels_last or _conv2d_is_faster(nchw, matrix)) and image.numel() > 0:
        result = conv2d(nchw, matrix.t()[:, :, None, None], bias)
    elif wide and not stored_channels_last:
        # flatten() would compare a traced width with a single row: a guard export cannot prove.
        planes = nchw.squeeze(2) if nchw.shape[2] == 1 else nchw.flatten(2)
        matrices = matrix.t().expand(planes.shape[0], -1, -1)  # The same one for every image.
        if bias is None:
            product = torch.bmm(matrices, planes)
        else:
            product = torch.baddbmm(bias.unsqueeze(1), matrices, planes)
        result = product.view(*product.shape[:2], *nchw.shape[2:])
    else:
        # In 16 bits only one product of all pixels rounds the matrix's gradient once: the others
        # round it for every image.  PyTorch copies planes for it, and they are copied back here.
        result = linear(nchw.permute(0, 2, 3, 1), matrix.t(), bias).permute(0, 3, 1, 2)
        if not stored_channels_last:
            result = result.contiguous()
    return result.permute(0, 2, 3, 1) if channels_last else result


def _conv2d_is_faster(planes: Tensor, matrix: Tensor) -> bool:
    """Whether to leave NCHW planes to conv2d rather than to a product for each image.

    Measured on one thread (AVX-512; batches 1 to 64, 3 to 1024 channels, 1 to 112 rows), values and
    gradients: with a matrix of 64 x 64 or larger conv2d takes a third to 1.1 times as long (single
    pixels: less); with smaller ones, and with a single image, up to 3 times.
    """
    return matrix.numel() >= 64 * 64 and planes.shape[0] > 1


def _check_grad(out_backprop: Tensor, like_name: str, like: Tensor, geometry: Geometry) -> None:
    check_tensor("out_backprop", out_backprop, IMAGE_AXES[geometry.channels_last])
    check_like("out_backprop", out_backprop, like_name, like)


def _backprop_window(
    geometry: Geometry,
    input_name: str,
    input_size: Sequence[int],
    filter_name: str,
    filter_size: Sequence[int],
    grad_size: Sequence[int],
) -> Window:
    """The window of a gradient whose three sizes, in TensorFlow's order of asking, fit."""
    batch, size, channels = geometry.split(input_size)
    grad_batch, grad_spatial, grad_channels = geometry.split(grad_size)
    rows, columns, filter_channels, multiplier = filter_size
    check_equal(
        "batch", "out_backprop", grad_batch, input_name, batch,
        "there is one gradient for each image",
    )  # fmt: skip
    check_equal(
        "channels", filter_name, filter_channels, input_name, channels,
        _FILTER_CHANNELS,
    )  # fmt: skip
    check_equal(
        "in * mult channels", "out_backprop", grad_channels,
        filter_name, filter_channels * multiplier,
        "output channel c*mult + m belongs to filter[:, :, c, m]",
    )  # fmt: skip
    window = geometry.window(filter_name, (rows, columns), size)
    output_size = space_to_batch.output_size if geometry.space_to_batch else Window.output_size
    for what, actual, computed in zip(
        ("rows", "columns"), grad_spatial, output_size(window, size, (rows, columns)), strict=True
    ):
        check_equal(
            what, "out_backprop", actual, "the convolution's output", computed,
            "strides, padding, dilations and the input's size must be those of the forward call",
        )  # fmt: skip
    return window
