"""Calls of the operators to check, and what they give."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import tfcompat_dw  # noqa: F401  defines torch.ops.tfcompat_dw
from tfcompat_dw import reference
from tfcompat_dw.padding import Window

OPS = torch.ops.tfcompat_dw
RESULTS = ("output", "input grad", "filter grad", "bias grad")


@dataclass(frozen=True)
class Shape:
    """One call: sizes, then stride, dilation, multiplier, and whether memory is channels last."""

    batch: int
    height: int
    width: int
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    multiplier: int = 1
    padding: tuple[int, int, int, int] | None = None
    channels_last: bool = True

    def window(self) -> Window:
        """TensorFlow's arguments as the operator takes them."""
        return Window.resolve(
            self.padding or "SAME",
            (self.height, self.width),
            self.kernel,
            self.stride,
            self.dilation,
            self.channels_last,
        )

    def sizes(self) -> list[tuple[int, ...]]:
        """Of input, filter, bias and the output's gradient."""
        n, c, lanes = self.batch, self.channels, self.channels * self.multiplier
        space = (self.height, self.width)
        out = tuple(self.window().output_size(space, self.kernel))
        last = self.channels_last
        return [
            (n, *space, c) if last else (n, c, *space),
            (*self.kernel, c, self.multiplier),
            (lanes,),
            (n, *out, lanes) if last else (n, lanes, *out),
        ]


def shapes() -> Iterator[Shape]:
    """Every kernel, with sizes that fill tiles and sizes that do not."""
    for last in (True, False):
        for kernel in ((3, 3), (5, 5), (7, 7), (1, 1), (2, 3), (4, 2), (1, 9), (31, 31)):
            for channels in (32, 33, 8):
                for stride in ((1, 1), (2, 2)):
                    yield Shape(2, 19, 23, channels, kernel, stride, channels_last=last)
        for size, channels, multiplier in itertools.product((7, 14, 40), (3, 24), (1, 2, 4, 8)):
            yield Shape(3, size, size, channels, (3, 3), multiplier=multiplier, channels_last=last)
        yield Shape(2, 9, 11, 2, (3, 3), multiplier=20, channels_last=last)
        for stride in ((1, 1), (2, 2)):  # tiles that ask for much shared memory
            yield Shape(2, 60, 50, 32, (11, 11), stride, channels_last=last)
            yield Shape(1, 70, 50, 3, (15, 15), stride, channels_last=last)
        yield Shape(2, 33, 33, 64, (3, 3), dilation=(4, 4), channels_last=last)
        yield Shape(2, 33, 20, 40, (5, 3), dilation=(2, 3), channels_last=last)
        yield Shape(2, 33, 20, 40, (3, 3), stride=(3, 3), channels_last=last)
        yield Shape(2, 33, 20, 40, (3, 3), stride=(2, 1), channels_last=last)
        yield Shape(2, 33, 20, 40, (3, 3), stride=(2, 2), dilation=(2, 2), channels_last=last)
        yield Shape(2, 11, 9, 40, (3, 3), padding=(5, 0, 7, 2), channels_last=last)
        yield Shape(1, 1, 1, 1, (1, 1), channels_last=last)
        yield Shape(1, 3, 5000, 5, (3, 5), channels_last=last)
        yield Shape(1, 5000, 3, 5, (5, 3), channels_last=last)
        yield Shape(70, 5, 6, 130, (3, 3), channels_last=last)


def short() -> Iterator[Shape]:
    """Every kernel once in both memory orders, small: for tools under which all is slow."""
    for last in (True, False):
        for kernel, stride in itertools.product(((3, 3), (5, 5), (7, 7)), ((1, 1), (2, 2))):
            yield Shape(2, 9, 11, 20, kernel, stride, channels_last=last)
        yield Shape(1, 9, 7, 5, (3, 3), channels_last=last)
        yield Shape(2, 9, 11, 8, (3, 3), dilation=(2, 2), channels_last=last)
        yield Shape(2, 9, 11, 3, (3, 3), multiplier=4, channels_last=last)
        for channels, stride in itertools.product((1, 8), ((1, 1), (2, 2))):
            yield Shape(1, 9, 11, channels, (9, 9), stride, channels_last=last)
        yield Shape(2, 9, 11, 8, (2, 4), stride=(3, 1), channels_last=last)


def exact(shape: Shape, generator: torch.Generator) -> list[Tensor]:
    """Input, filter, bias and gradient in float64.

    Whole sixteenths: every dtype holds them, and float32 the sums of their products.
    """
    return [torch.randint(-16, 16, s, generator=generator).double() / 16 for s in shape.sizes()]


def noise(shape: Shape, dtype: torch.dtype, device: str) -> list[Tensor]:
    """The same four, such that another order of summation gives other bits."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(s, generator=generator).to(device, dtype) for s in shape.sizes()]


def results(tensors: list[Tensor], shape: Shape) -> list[Tensor]:
    """Output, input, filter and bias gradient."""
    x, f, b, grad = tensors
    out = OPS.depthwise_conv2d(x, f, b, *shape.window())
    return [out, *OPS.depthwise_conv2d_backward(x, f, grad, *shape.window(), [True] * 3)]


def single_gradients(tensors: list[Tensor], shape: Shape) -> list[Tensor]:
    """Input and filter gradient by the operators that compute one alone."""
    x, f, _, grad = tensors
    window = shape.window()
    return [
        OPS.depthwise_conv2d_backward_input(list(x.shape), f, grad, *window),
        OPS.depthwise_conv2d_backward_filter(x, list(f.shape), grad, *window),
    ]


def everything(tensors: list[Tensor], shape: Shape) -> list[Tensor]:
    """By all four operators."""
    return [*results(tensors, shape), *single_gradients(tensors, shape)]


def reference_results(tensors: list[Tensor], shape: Shape) -> list[Tensor]:
    """What ``results`` has to be, by loops in plain PyTorch."""
    x, f, b, grad = tensors
    window = shape.window()
    axes = (0, 1, 2) if shape.channels_last else (0, 2, 3)
    return [
        reference.depthwise_conv2d(x, f, b, *window),
        reference.depthwise_conv2d_backward_input(list(x.shape), f, grad, *window),
        reference.depthwise_conv2d_backward_filter(x, list(f.shape), grad, *window),
        grad.sum(axes),
    ]


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal, byte by byte."""
    return torch.equal(
        one.contiguous().flatten().view(torch.uint8), other.contiguous().flatten().view(torch.uint8)
    )


def synchronize(device: str) -> None:
    """Waits for what the device has to do."""
    if device == "cuda":
        torch.cuda.synchronize()
