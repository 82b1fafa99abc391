"""Random calls of the raw operators whose results are exact, so tests can ask for equality.

Operands are small integers: their products and sums stay far below 2^24, which float32 holds
exactly in any order of summation.  A 16-bit result is the exact sum rounded once.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tfcompat_dw import reference
from tfcompat_dw.padding import Window, dilated_kernel

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def integers(
    size: list[int] | tuple[int, ...], dtype: torch.dtype, generator: random.Random
) -> Tensor:
    """Integers in [-4, 4]."""
    seeded = torch.Generator().manual_seed(generator.randrange(2**31))
    return torch.randint(-4, 5, size, generator=seeded).to(dtype)


def whole_numbers(*size: int) -> Tensor:
    """float32 integers in [-4, 4], the same for the same size."""
    return integers(size, torch.float32, random.Random(sum(size)))


def with_whole_numbers(network: nn.Module) -> nn.Module:
    """With such parameters: on images of whole numbers, all that it computes is exact."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(whole_numbers(*parameter.shape))
    return network


def stored(tensor: Tensor, order: str, channels_last: bool) -> Tensor:
    """The same tensor with another memory order: "nhwc", "nchw", or a view of a larger one."""
    to_nchw = (0, 3, 1, 2) if channels_last else (0, 1, 2, 3)
    from_nchw = (0, 2, 3, 1) if channels_last else (0, 1, 2, 3)
    image = tensor.permute(to_nchw)
    if order == "nchw":
        return image.contiguous().permute(from_nchw)
    if order == "nhwc":
        return image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).permute(from_nchw)
    assert order in ("sliced", "transposed")
    if order == "transposed":  # width before height
        return image.transpose(2, 3).contiguous().transpose(2, 3).permute(from_nchw)
    larger = torch.full([n + 3 for n in image.shape], torch.nan, dtype=tensor.dtype)
    view = larger[tuple(slice(1, 1 + n) for n in image.shape)]
    view.copy_(image)
    return view.permute(from_nchw)


ORDERS = ("nhwc", "nchw", "sliced", "transposed")


@dataclass(frozen=True)
class Problem:
    """Arguments of one call, and the tensors of its three passes."""

    input: Tensor
    filter: Tensor
    bias: Tensor
    grad: Tensor
    window: Window

    def results(self) -> dict[str, Tensor]:
        """What the operators make of it."""
        ops = torch.ops.tfcompat_dw
        d_input, d_filter, d_bias = ops.depthwise_conv2d_backward(
            self.input, self.filter, self.grad, *self.window, [True, True, True]
        )
        return {
            "output": ops.depthwise_conv2d(self.input, self.filter, self.bias, *self.window),
            "input gradient": d_input,
            "filter gradient": d_filter,
            "bias gradient": d_bias,
        }

    def expected(self) -> dict[str, Tensor]:
        """The exact results, from the reference in float64 (itself tested against plain loops)."""
        input, filter, bias, grad = (
            t.double() for t in (self.input, self.filter, self.bias, self.grad)
        )
        axes = (0, 1, 2) if self.window.channels_last else (0, 2, 3)
        exact = {
            "output": reference.depthwise_conv2d(input, filter, bias, *self.window),
            "input gradient": reference.depthwise_conv2d_backward_input(
                input.shape, filter, grad, *self.window
            ),
            "filter gradient": reference.depthwise_conv2d_backward_filter(
                input, filter.shape, grad, *self.window
            ),
            "bias gradient": grad.sum(axes),
        }
        return {name: value.to(self.input.dtype) for name, value in exact.items()}


def random_problem(
    generator: random.Random, channels: tuple[int, ...] = (1, 2, 3, 8, 17, 40)
) -> Problem:
    """A call that the kernels accept, anywhere in the parameter space."""
    pick = generator.randint
    while True:
        size = (pick(1, 12), pick(1, 12) if pick(0, 3) else pick(13, 80))
        kernel = (pick(1, 6), pick(1, 8))
        dilation = (generator.choice((1, 1, 2, 3)), generator.choice((1, 1, 2, 3)))
        padding = (pick(0, 4), pick(0, 4), pick(0, 4), pick(0, 4))
        if (
            dilated_kernel(kernel[0], dilation[0]) <= size[0] + padding[0] + padding[1]
            and dilated_kernel(kernel[1], dilation[1]) <= size[1] + padding[2] + padding[3]
        ):
            break
    channels_last = generator.random() < 0.5
    window = Window((pick(1, 4), pick(1, 4)), padding, dilation, channels_last)
    dtype = generator.choice(DTYPES)
    batch, depth, multiplier = (
        pick(1, 3),
        generator.choice(channels),
        generator.choice((1, 1, 2, 3, 8)),
    )

    def image(space: tuple[int, int], depth: int) -> Tensor:
        shape = (batch, *space, depth) if channels_last else (batch, depth, *space)
        order = generator.choice(ORDERS)
        return stored(integers(shape, dtype, generator), order, channels_last)

    return Problem(
        image(size, depth),
        integers((*kernel, depth, multiplier), dtype, generator),
        integers((depth * multiplier,), dtype, generator),
        image(window.output_size(size, kernel), depth * multiplier),
        window,
    )
