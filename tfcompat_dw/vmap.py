"""Batching rules: an operator under ``torch.vmap`` is one call of it with more of some axis.

The vmapped dimension, "examples" below, joins one of the axes that the operator has already:

* the batch, where nothing but an image differs: no copy is made;
* the channels, where each example has an image and a filter of its own; what the examples share is
  repeated;
* the multiplier, where one image meets many filters, or many gradients of its output.

The input gradient sums over the multiplier and the filter gradient over the batch, so each of them
has the other two.  Operands below have their examples at the dimension that ``in_dims`` gives, None
where they have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_ops = torch.ops.tfcompat_dw

Dims = Sequence[Any]
Results = tuple[Any, Any]
"""What the operator returns, and the dimension of the examples in it."""


def _forward(
    info: Any, in_dims: Dims, input: Tensor, filter: Tensor, bias: Tensor | None, *window: Any
) -> Results:
    count, axis = info.batch_size, _channel_axis(window)
    input_dim, filter_dim, bias_dim, *_ = in_dims
    _, _, channels, multiplier = _shape(filter, filter_dim)
    if filter_dim is None and bias_dim is None:
        output = _ops.depthwise_conv2d(_join(input, input_dim, count, 0), filter, bias, *window)
        return _split(output, count, 0, _shape(input, input_dim)[0]), 0
    if input_dim is None:
        output = _ops.depthwise_conv2d(
            input,
            _join(filter, filter_dim, count, 3),
            None if bias is None else _interleave(bias, bias_dim, count, 0, channels),
            *window,
        )
        return _split_interleaved(output, count, axis, channels, multiplier), axis
    output = _ops.depthwise_conv2d(
        _join(input, input_dim, count, axis),
        _join(filter, filter_dim, count, 2),
        None if bias is None else _join(bias, bias_dim, count, 0),
        *window,
    )
    return _split(output, count, axis, channels * multiplier), axis


def _backward_input(
    info: Any, in_dims: Dims, size: Sequence[int], filter: Tensor, grad: Tensor, *window: Any
) -> Results:
    count = info.batch_size
    _, filter_dim, grad_dim, *_ = in_dims
    axis = 0 if filter_dim is None else _channel_axis(window)
    result = _ops.depthwise_conv2d_backward_input(
        _times(size, axis, count),
        filter if filter_dim is None else _join(filter, filter_dim, count, 2),
        _join(grad, grad_dim, count, axis),
        *window,
    )
    return _split(result, count, axis, size[axis]), axis


def _backward_filter(
    info: Any, in_dims: Dims, input: Tensor, size: Sequence[int], grad: Tensor, *window: Any
) -> Results:
    count, axis = info.batch_size, _channel_axis(window)
    input_dim, _, grad_dim, *_ = in_dims
    if input_dim is None:
        grad = _interleave(grad, grad_dim, count, axis, size[2])
        result = _ops.depthwise_conv2d_backward_filter(input, _times(size, 3, count), grad, *window)
        return _split(result, count, 3, size[3]), 3
    result = _ops.depthwise_conv2d_backward_filter(
        _join(input, input_dim, count, axis),
        _times(size, 2, count),
        _join(grad, grad_dim, count, axis),
        *window,
    )
    return _split(result, count, 2, size[2]), 2


def _backward(
    info: Any, in_dims: Dims, input: Tensor, filter: Tensor, grad: Tensor, *rest: Any
) -> Results:
    *window, mask = rest
    input_dim, filter_dim, grad_dim, *_ = in_dims
    if input_dim is None:
        return _backward_of_one_input(info, in_dims, input, filter, grad, *rest)
    count, axis = info.batch_size, _channel_axis(window)
    _, _, channels, multiplier = _shape(filter, filter_dim)
    d_input, d_filter, d_bias = _ops.depthwise_conv2d_backward(
        _join(input, input_dim, count, axis),
        _join(filter, filter_dim, count, 2),
        _join(grad, grad_dim, count, axis),
        *rest,
    )
    results = (
        _split(d_input, count, axis, channels) if mask[0] else None,
        _split(d_filter, count, 2, channels) if mask[1] else None,
        _split(d_bias, count, 0, channels * multiplier) if mask[2] else None,
    )
    return results, (axis, 2, 0)


def _backward_of_one_input(
    info: Any, in_dims: Dims, input: Tensor, filter: Tensor, grad: Tensor, *rest: Any
) -> Results:
    """``_backward`` as in a Jacobian: two calls, so that the input is not repeated in memory."""
    *window, mask = rest
    count, axis = info.batch_size, _channel_axis(window)
    _, filter_dim, grad_dim, *_ = in_dims
    _, _, channels, multiplier = _shape(filter, filter_dim)
    results: list[Any] = [None, None, None]
    d_input_dim = None
    if mask[0]:
        dims = (None, filter_dim, grad_dim)
        results[0], d_input_dim = _backward_input(info, dims, input.shape, filter, grad, *window)
    if mask[1] or mask[2]:
        _, d_filter, d_bias = _ops.depthwise_conv2d_backward(
            input,
            _join(filter, filter_dim, count, 3),
            _interleave(grad, grad_dim, count, axis, channels),
            *window,
            [False, mask[1], mask[2]],
        )
        results[1] = _split(d_filter, count, 3, multiplier) if mask[1] else None
        results[2] = _split_interleaved(d_bias, count, 0, channels, multiplier) if mask[2] else None
    return tuple(results), (d_input_dim, 3, 0)


def register(library: torch.library.Library) -> None:
    """Registers the batching rule of every operator."""
    rules: dict[str, Callable[..., Results]] = {
        "depthwise_conv2d": _forward,
        "depthwise_conv2d_backward_input": _backward_input,
        "depthwise_conv2d_backward_filter": _backward_filter,
        "depthwise_conv2d_backward": _backward,
    }
    for name, rule in rules.items():
        torch.library.register_vmap(f"tfcompat_dw::{name}", rule, lib=library)


# ---- examples into an axis and out of it ---------------------------------------------------------


def _channel_axis(window: Sequence[Any]) -> int:
    """Of the images that one example has."""
    return 3 if window[-1] else 1


def _shape(tensor: Tensor, dim: int | None) -> list[int]:
    """What one example has."""
    return [size for axis, size in enumerate(tensor.shape) if axis != dim]


def _times(sizes: Sequence[int], axis: int, count: int) -> list[int]:
    return [size * count if i == axis else size for i, size in enumerate(sizes)]


def _first(tensor: Tensor, dim: int | None, count: int) -> Tensor:
    """The examples in front; repeated there, not in memory, if there are none."""
    return tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _join(tensor: Tensor, dim: int | None, count: int, axis: int) -> Tensor:
    """The examples as the outer part of ``axis``."""
    return _first(tensor, dim, count).movedim(0, axis).flatten(axis, axis + 1)


def _split(result: Tensor, count: int, axis: int, size: int) -> Tensor:
    """The reverse of ``_join``: the examples at ``axis``, what they have after it."""
    parts: Tensor = result.unflatten(axis, (count, size))
    return parts


def _interleave(tensor: Tensor, dim: int | None, count: int, axis: int, channels: int) -> Tensor:
    """The examples between input channel and multiplier, of which the output channels consist."""
    outputs = _first(tensor, dim, count)
    multiplier = outputs.shape[axis + 1] // channels if channels else 0
    pairs: Tensor = outputs.unflatten(axis + 1, (channels, multiplier))
    return pairs.movedim(0, axis + 1).flatten(axis, axis + 2)


def _split_interleaved(
    result: Tensor, count: int, axis: int, channels: int, multiplier: int
) -> Tensor:
    """The reverse of ``_interleave``: the examples at ``axis``, their output channels after it."""
    triples: Tensor = result.unflatten(axis, (channels, count, multiplier))
    return triples.movedim(axis + 1, axis).flatten(axis + 1, axis + 2)
