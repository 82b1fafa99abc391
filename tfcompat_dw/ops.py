"""Completes the operators of the C++ library: fakes, other devices, autocast, autograd, vmap.

After import, ``torch.ops.tfcompat_dw`` holds ``depthwise_conv2d``,
``depthwise_conv2d_backward_input``, ``depthwise_conv2d_backward_filter`` and the fused
``depthwise_conv2d_backward``; the schemas are in ``csrc/library.cpp``.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from tfcompat_dw import autograd, reference, sharding, vmap
from tfcompat_dw.checks import CHECKS
from tfcompat_dw.layout import channels_last_in_memory, empty_in_order
from tfcompat_dw.padding import Window, at_least_zero

_library = torch.library.Library("tfcompat_dw", "IMPL")

# ---- fakes: sizes and strides without data -----------------------------------------------------


def _output_size(input: Tensor, filter: Tensor, window: Window) -> list[int]:
    kernel = (filter.shape[0], filter.shape[1])
    sizes = window.output_size(window.rows_and_columns(input.shape), kernel)
    height, width = map(at_least_zero, sizes)  # below zero: an empty image without padding
    channels = filter.shape[2] * filter.shape[3]
    if window.channels_last:
        return [input.shape[0], height, width, channels]
    return [input.shape[0], channels, height, width]


def _like(tensor: Tensor, size: Sequence[int], channels_last: bool) -> Tensor:
    """A result of ``size`` in ``tensor``'s memory order."""
    in_memory = channels_last_in_memory(tensor, channels_last)
    return empty_in_order(tensor, size, channels_last, in_memory)


def _forward_fake(input: Tensor, filter: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    window = Window(*rest)
    return _like(input, _output_size(input, filter, window), window.channels_last)


def _backward_input_fake(
    input_size: Sequence[int], filter: Tensor, grad: Tensor, *rest: Any
) -> Tensor:
    return _like(grad, input_size, Window(*rest).channels_last)


def _backward_filter_fake(
    input: Tensor, filter_size: Sequence[int], grad: Tensor, *rest: Any
) -> Tensor:
    return grad.new_empty(filter_size)


def _backward_fake(
    input: Tensor, filter: Tensor, grad: Tensor, *rest: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    *window, mask = rest
    return (
        _like(grad, input.shape, Window(*window).channels_last) if mask[0] else None,
        grad.new_empty(filter.shape) if mask[1] else None,
        grad.new_empty([filter.shape[2] * filter.shape[3]]) if mask[2] else None,
    )


_FAKES: dict[str, Callable[..., Any]] = {
    "depthwise_conv2d": _forward_fake,
    "depthwise_conv2d_backward_input": _backward_input_fake,
    "depthwise_conv2d_backward_filter": _backward_filter_fake,
    "depthwise_conv2d_backward": _backward_fake,
}


def _fake(name: str) -> Callable[..., Any]:
    """The operator without data, for arguments that it takes."""
    check, fake = CHECKS[name], _FAKES[name]

    def run(*args: Any) -> Any:
        check(*args)
        return fake(*args)

    return run


# ---- devices without kernels -------------------------------------------------------------------


def _reference_backward(
    input: Tensor, filter: Tensor, grad: Tensor, *rest: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    *window, mask = rest
    axes = (0, 1, 2) if Window(*window).channels_last else (0, 2, 3)
    wide = torch.promote_types(grad.dtype, torch.float32)
    return (
        reference.depthwise_conv2d_backward_input(input.shape, filter, grad, *window)
        if mask[0]
        else None,
        reference.depthwise_conv2d_backward_filter(input, filter.shape, grad, *window)
        if mask[1]
        else None,
        grad.sum(axes, dtype=wide).to(grad.dtype) if mask[2] else None,
    )


_FALLBACKS: dict[str, Callable[..., Any]] = {
    "depthwise_conv2d": reference.depthwise_conv2d,
    "depthwise_conv2d_backward_input": reference.depthwise_conv2d_backward_input,
    "depthwise_conv2d_backward_filter": reference.depthwise_conv2d_backward_filter,
    "depthwise_conv2d_backward": _reference_backward,
}
_warned: set[str] = set()


def _on_other_device(name: str) -> Callable[..., Any]:
    """The operator on a device that has no kernel: the reference, with one warning per device."""
    check, fallback = CHECKS[name], _FALLBACKS[name]

    def run(*args: Any) -> Any:
        check(*args)
        device = next(arg.device.type for arg in args if isinstance(arg, Tensor))
        if device == "cuda":
            raise RuntimeError(
                f"tfcompat_dw::{name}: this build has no CUDA kernels; build it with them "
                "(TFCOMPAT_DW_CUDA=1 pip install --no-build-isolation .) or move the tensors to "
                "the CPU with .cpu()"
            )
        if device not in _warned:
            _warned.add(device)
            warnings.warn(
                f"tfcompat_dw has no kernels for device type '{device}'; "
                "using the slow reference implementation in plain PyTorch",
                stacklevel=2,
            )
        return fallback(*args)

    return run


for _name in _FALLBACKS:
    torch.library.register_fake(f"tfcompat_dw::{_name}", _fake(_name))
    _library.impl(_name, _on_other_device(_name), "CompositeExplicitAutograd")


# ---- flops: what torch.utils.flop_counter counts ------------------------------------------------


def _flops(grad_shape: Sequence[int], filter_shape: Sequence[int]) -> int:
    """Of one pass, a multiply-add counting two, as if nothing were padded."""
    return 2 * math.prod(grad_shape) * filter_shape[0] * filter_shape[1]


def _forward_flops(
    input: Sequence[int], filter: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any
) -> int:
    return _flops(out_shape, filter)


def _gradient_flops(
    input_size: Sequence[int], filter_size: Sequence[int], grad: Sequence[int], *_: Any, **__: Any
) -> int:
    """Of either gradient: both operators have the three in this order."""
    return _flops(grad, filter_size)


def _backward_flops(
    input: Sequence[int], filter: Sequence[int], grad: Sequence[int], *rest: Any, **_: Any
) -> int:
    wanted: list[bool] = rest[-1]
    return sum(wanted[:2]) * _flops(grad, filter)


for _name, _formula in {
    "depthwise_conv2d": _forward_flops,
    "depthwise_conv2d_backward_input": _gradient_flops,
    "depthwise_conv2d_backward_filter": _gradient_flops,
    "depthwise_conv2d_backward": _backward_flops,
}.items():
    _register: Callable[..., Any] = register_flop_formula(getattr(torch.ops.tfcompat_dw, _name))
    _register(_formula)

# ---- autocast ----------------------------------------------------------------------------------


def _autocast(device: str) -> Callable[..., Any]:
    """As conv2d: float32 and 16-bit operands in the autocast dtype, float64 left alone."""

    def run(input: Tensor, filter: Tensor, bias: Tensor | None, *window: Any) -> Any:
        dtype = torch.get_autocast_dtype(device)
        operands = [
            operand.to(dtype)
            if operand is not None and operand.is_floating_point() and operand.dtype != torch.double
            else operand
            for operand in (input, filter, bias)
        ]
        with torch.autocast(device, enabled=False):
            return torch.ops.tfcompat_dw.depthwise_conv2d(*operands, *window)

    return run


_library.impl("depthwise_conv2d", _autocast("cpu"), "AutocastCPU")
_library.impl("depthwise_conv2d", _autocast("cuda"), "AutocastCUDA")

autograd.register(_library)
vmap.register(_library)
if sharding.DTENSOR in sys.modules:
    sharding.register()
