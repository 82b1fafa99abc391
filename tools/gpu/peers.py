"""PyTorch's own ways to a depthwise convolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpu.layers import Layer
from gpu.timing import Call


@dataclass(frozen=True)
class Peer:
    """A memory format, and what ``torch.backends.cudnn`` is told while it is called."""

    name: str
    channels_last: bool
    cudnn: tuple[tuple[str, Any], ...] = ()

    def stored(self, image: Tensor, nhwc: bool) -> Tensor:
        """An image, [n, h, w, c] or [n, c, h, w], as the peer wants it."""
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        by_name = image.permute(0, 3, 1, 2) if nhwc else image
        return by_name.contiguous(memory_format=order)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """While its calls are captured or run."""
        before = [(name, getattr(torch.backends.cudnn, name)) for name, _ in self.cudnn]
        try:
            for name, value in self.cudnn:
                setattr(torch.backends.cudnn, name, value)
            yield
        finally:
            for name, value in before:
                setattr(torch.backends.cudnn, name, value)


FORMATS = (Peer("torch nchw", False), Peer("torch nhwc", True))
"""As everybody calls it."""


def variants() -> list[Peer]:
    """The kernels that PyTorch can be told to take: those that this release knows of.

    Not ``cudnn.benchmark``: it takes what a call without it has once chosen for the same problem.
    """
    can_choose = hasattr(torch.backends.cudnn, "depthwise_kernel")
    native = (("depthwise_kernel", "native"),) if can_choose else (("enabled", False),)
    peers = [
        Peer("nchw native", False, native),
        Peer("nhwc without cuDNN", True, (("enabled", False),)),
    ]
    if can_choose:
        peers.insert(1, Peer("nchw cuDNN", False, (("depthwise_kernel", "cudnn"),)))
    return peers


def torch_weight(filter: Tensor) -> Tensor:
    """[h, w, in, mult] as [in * mult, 1, h, w]."""
    rows, columns, channels, multiplier = filter.shape
    return filter.permute(2, 3, 0, 1).reshape(channels * multiplier, 1, rows, columns).contiguous()


def torch_call(x: Tensor, weight: Tensor, grad: Tensor, layer: Layer, mask: Sequence[bool]) -> Call:
    """PyTorch's operator: forward, or the gradients that the mask asks for."""
    window = (
        *([layer.stride] * 2, [layer.padding] * 2, [layer.dilation] * 2),
        *(False, [0, 0], layer.channels),
    )
    if not any(mask):
        return lambda: torch.ops.aten.convolution(x, weight, None, *window)
    return lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, *window, mask)
