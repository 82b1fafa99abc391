"""A case through this package."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cases import Case, Example, Passes, from_format, to_format

import tfcompat_dw

# How a tensor lies in memory: as its axes say, in the other of the two orders, or as the middle of
# a larger tensor full of NaN (which any read outside the slice would bring in).
MEMORY = ("contiguous", "other order", "slice")


def tensor(values: np.ndarray, dtype: str, memory: str = "contiguous") -> torch.Tensor:
    result = torch.from_numpy(np.array(values, order="C")).to(getattr(torch, dtype))
    if memory == "other order":
        return in_other_order(result)
    return in_a_slice(result) if memory == "slice" else result


def in_other_order(values: torch.Tensor) -> torch.Tensor:
    """The same values, where the last axis is no longer the densest one."""
    return values.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)


def in_a_slice(values: torch.Tensor) -> torch.Tensor:
    larger = torch.full([size + 2 for size in values.shape], torch.nan, dtype=values.dtype)
    middle = larger[1:-1, 1:-1, 1:-1, 1:-1]
    return middle.copy_(values)


def array(result: torch.Tensor | None) -> np.ndarray:
    assert result is not None
    return result.detach().double().numpy()


def arguments(case: Case) -> dict[str, Any]:
    return {**case.arguments(case.data_format), "strided_dilation": case.strided_dilation}


def by_autograd(case: Case, example: Example, memory: str = "contiguous") -> Passes:
    """Forward, then backward through torch."""
    x = tensor(to_format(example.input, case.data_format), case.dtype, memory).requires_grad_()
    f = tensor(example.filter, case.dtype, memory).requires_grad_()
    output = tfcompat_dw.depthwise_conv2d(x, f, **arguments(case))
    output.backward(gradient_like(output, case, example, memory))
    return passes(case, output, x.grad, f.grad)


def by_functions(case: Case, example: Example, memory: str = "contiguous") -> Passes:
    """Forward without gradients, then the two backprop functions."""
    x = tensor(to_format(example.input, case.data_format), case.dtype, memory)
    f = tensor(example.filter, case.dtype, memory)
    rest = arguments(case)
    output = tfcompat_dw.depthwise_conv2d(x, f, **rest)
    gradient = gradient_like(output, case, example, memory)
    of_input = tfcompat_dw.depthwise_conv2d_backprop_input(x.shape, f, gradient, **rest)
    of_filter = tfcompat_dw.depthwise_conv2d_backprop_filter(x, f.shape, gradient, **rest)
    return passes(case, output, of_input, of_filter)


def gradient_like(
    output: torch.Tensor, case: Case, example: Example, memory: str = "contiguous"
) -> torch.Tensor:
    """The gradient from the example's pool, in the layout and type of an output of this package."""
    channels_last = from_format(np.empty(output.shape), case.data_format).shape
    gradient = to_format(example.gradient_of_shape(channels_last), case.data_format)
    return tensor(gradient, case.dtype, memory)


def passes(case: Case, *results: torch.Tensor | None) -> Passes:
    """Channels-last arrays, from three results of the case's type."""
    for result in results:
        assert result is not None
        assert result.dtype == getattr(torch, case.dtype)
    return Passes(*map(array, results)).from_format(case.data_format)
