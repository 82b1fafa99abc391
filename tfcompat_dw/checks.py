"""The operators' last guard where no C++ kernel is asked: fakes, and devices without kernels.

``csrc/library.cpp`` guards the kernels by the same rules, in the same order and words.  A size may
be symbolic here.  A rule about one counts as broken only where that is certain whatever its value,
so tracing adds no guard, and the kernel has the last word when the size is a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.arguments import DTYPES, MAX_STEP
from tfcompat_dw.padding import Window, at_least_zero, dilated_kernel

_MAX_COUNT = 2**63 - 1


def check_forward(input: Tensor, filter: Tensor, bias: Tensor | None, *rest: Any) -> None:
    """The arguments of ``depthwise_conv2d``."""
    guard = _Guard("depthwise_conv2d", "input", input)
    guard.check_tensor("input", input, 4)
    guard.check_tensor("filter", filter, 4)
    guard.check_sizes(input.shape, filter.shape, Window(*rest))
    if bias is not None:
        guard.check_tensor("bias", bias, 1)
        outputs = filter.shape[2] * filter.shape[3]
        guard.check(
            bias.shape[0] == outputs, f"bias must have {outputs} elements, got {bias.shape[0]}"
        )


def check_backward_input(
    input_size: Sequence[int], filter: Tensor, grad: Tensor, *rest: Any
) -> None:
    """The arguments of ``depthwise_conv2d_backward_input``."""
    guard = _Guard("depthwise_conv2d_backward_input", "grad", grad)
    guard.check_tensor("filter", filter, 4)
    guard.check_tensor("grad", grad, 4)
    guard.check_size_list("input_size", input_size)
    guard.check_grad(grad, guard.check_sizes(input_size, filter.shape, Window(*rest)))


def check_backward_filter(
    input: Tensor, filter_size: Sequence[int], grad: Tensor, *rest: Any
) -> None:
    """The arguments of ``depthwise_conv2d_backward_filter``."""
    guard = _Guard("depthwise_conv2d_backward_filter", "grad", grad)
    guard.check_tensor("input", input, 4)
    guard.check_tensor("grad", grad, 4)
    guard.check_size_list("filter_size", filter_size)
    guard.check_grad(grad, guard.check_sizes(input.shape, filter_size, Window(*rest)))


def check_backward(input: Tensor, filter: Tensor, grad: Tensor, *rest: Any) -> None:
    """The arguments of the fused ``depthwise_conv2d_backward``."""
    *window, mask = rest
    guard = _Guard("depthwise_conv2d_backward", "grad", grad)
    guard.check(len(mask) == 3, f"mask must hold 3 booleans, got {len(mask)}")
    guard.check_tensor("input", input, 4)
    guard.check_tensor("filter", filter, 4)
    guard.check_tensor("grad", grad, 4)
    guard.check_grad(grad, guard.check_sizes(input.shape, filter.shape, Window(*window)))


CHECKS: dict[str, Callable[..., None]] = {
    "depthwise_conv2d": check_forward,
    "depthwise_conv2d_backward_input": check_backward_input,
    "depthwise_conv2d_backward_filter": check_backward_filter,
    "depthwise_conv2d_backward": check_backward,
}


class _Guard:
    """The rules for one call of ``op``, whose tensors have to be like ``model``."""

    def __init__(self, op: str, model_name: str, model: Tensor) -> None:
        self.op, self.model_name, self.model = op, model_name, model

    def check(self, rule: bool | torch.SymBool, text: str) -> None:
        if _is_broken(rule):
            raise RuntimeError(f"tfcompat_dw::{self.op}: {text}")

    def check_tensor(self, name: str, tensor: Tensor, rank: int) -> None:
        model = self.model
        self.check(
            tensor.device == model.device,
            f"all tensors must be on one device; {name} is on {tensor.device}, "
            f"{self.model_name} on {model.device}",
        )
        self.check(
            tensor.layout is torch.strided,
            f"{name} must be dense (torch.strided), got {tensor.layout}; convert with .to_dense()",
        )
        self.check(tensor.dim() == rank, f"{name} must have {rank} dimensions, got {tensor.dim()}")
        self.check(tensor.dtype in DTYPES, f"{name} must be float64, float32, bfloat16 or float16")
        self.check(tensor.dtype is model.dtype, f"all tensors must have one dtype; {name} differs")

    def check_size_list(self, name: str, sizes: Sequence[int]) -> None:
        self.check(len(sizes) == 4, f"{name} must hold 4 integers, got {_show(sizes)}")
        for size in sizes:
            self.check(size >= 0, f"{name} must not be negative, got {_show(sizes)}")

    def check_sizes(
        self, input: Sequence[int], filter: Sequence[int], window: Window
    ) -> tuple[int, ...]:
        """The sizes of the result, where those of input and filter belong together."""
        self._check_list("stride", window.stride, 2, 1)
        self._check_list("padding", window.padding, 4, 0)
        self._check_list("dilation", window.dilation, 2, 1)
        batch, channels = input[0], input[3 if window.channels_last else 1]
        self.check(
            channels == filter[2],
            f"the filter is for {filter[2]} input channels, the input has {channels}",
        )
        rows, columns = window.rows_and_columns(input)
        (top, bottom, left, right), dilation = window.padding, window.dilation
        self._check_axis("rows", rows, filter[0], dilation[0], top, bottom)
        self._check_axis("columns", columns, filter[1], dilation[1], left, right)
        kernel = (filter[0], filter[1])
        space = tuple(map(at_least_zero, window.output_size((rows, columns), kernel)))
        lanes = (64, filter[2], filter[3])  # 64: room for what the kernels count
        for axes in (space, (rows, columns)):
            self._check_count(batch, *lanes, *map(_at_least_one, axes))
        self._check_count(*lanes, *kernel)
        outputs = filter[2] * filter[3]
        return (batch, *space, outputs) if window.channels_last else (batch, outputs, *space)

    def check_grad(self, grad: Tensor, expected: tuple[int, ...]) -> None:
        for actual, size in zip(grad.shape, expected, strict=True):
            self.check(
                actual == size,
                f"grad must have the forward result's size {_show(expected)}, "
                f"got {_show(grad.shape)}",
            )

    def _check_list(self, name: str, values: Sequence[int], length: int, least: int) -> None:
        text = f"{name} must hold {length} integers, got {_show(values)}"
        self.check(len(values) == length, text)
        text = f"{name} must be in [{least}, {MAX_STEP}], got {_show(values)}"
        for value in values:
            self.check(value >= least, text)
            self.check(value <= MAX_STEP, text)

    def _check_axis(
        self, name: str, size: int, kernel: int, dilation: int, before: int, after: int
    ) -> None:
        text = f"the filter's {name} must be in [1, {MAX_STEP}], got {kernel}"
        self.check(kernel >= 1, text)
        self.check(kernel <= MAX_STEP, text)
        padded, reach = before + size + after, dilated_kernel(kernel, dilation)
        self.check(padded <= _MAX_COUNT, f"the padded {name} exceed 64-bit arithmetic")
        if _is_broken(size == 0):
            self.check(
                reach <= padded,
                f"a window of {reach} {name} does not fit into "
                f"{size} + {before} + {after} padded ones",
            )

    def _check_count(self, *factors: int) -> None:
        if all(isinstance(factor, int) for factor in factors):
            self.check(
                prod(factors) <= _MAX_COUNT, "the sizes of this call exceed 64-bit arithmetic"
            )


def _is_broken(rule: bool | torch.SymBool) -> bool:
    """Whether ``rule`` is false, for a symbolic one whatever the values of its sizes."""
    if isinstance(rule, bool):
        return not rule
    # Here, because importing it takes longer than importing the package; tracing has it already.
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(torch.sym_not(rule))


def _at_least_one(size: int) -> int:
    return at_least_zero(size - 1) + 1


def _show(values: Sequence[int]) -> str:
    return f"[{', '.join(map(str, values))}]"
