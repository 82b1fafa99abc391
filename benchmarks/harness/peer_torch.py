"""PyTorch's own convolution, in both memory formats.

Gradients are asked of ``aten::convolution_backward`` directly, without autograd's overhead.  Where
SAME needs more padding on one side than on the other, PyTorch needs a padded copy: making it counts
in the forward pass, and cutting it off the input gradient in the backward pass; the backward pass
gets the padded input for nothing, as autograd would have kept it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.cases import Case
from harness.data import Array, Operands
from harness.peer import CannotRun, Job, Peer
from harness.peer_ours import job, training


class Contiguous(Peer):
    """NCHW in memory."""

    memory_format = torch.contiguous_format

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.version = torch.__version__

    def image(self, array: Array, dtype: torch.dtype) -> Tensor:
        """[n, c, h, w] in the memory format."""
        tensor = torch.from_numpy(array).permute(0, 3, 1, 2).to(dtype)
        return tensor.contiguous(memory_format=self.memory_format)

    def prepare(self, case: Case, operands: Operands) -> Job:
        """All passes."""
        dtype = getattr(torch, case.dtype)
        x, g = self.image(operands.input, dtype), self.image(operands.grad, dtype)
        layer = case.layer
        f = torch.from_numpy(operands.filter).to(dtype).permute(2, 3, 0, 1)
        f = f.reshape(layer.lanes, 1, layer.kernel, layer.kernel)
        f = f.contiguous(memory_format=self.memory_format)
        if case.pass_ in ("forward_grad", "training"):
            forward = _forward(case, x.requires_grad_(), f.requires_grad_())
            call = forward if case.pass_ == "forward_grad" else training(forward, x, f, g)
        elif case.pass_ == "forward":
            call = _forward(case, x, f)
        else:
            call = _backward(case, x, f, g)
        return job(call, lambda name, tensor: _back(case, name, tensor), case)


class ChannelsLast(Contiguous):
    """NHWC in memory."""

    memory_format = torch.channels_last

    def prepare(self, case: Case, operands: Operands) -> Job:
        """All passes of NHWC."""
        if case.order == "nchw":
            raise CannotRun("its memory order is NHWC")
        return super().prepare(case, operands)


def _padding(case: Case) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
    """What the convolution pads on both sides, and what has to be padded before it."""
    top, bottom, left, right = case.layer.padding
    if (top, left) == (bottom, right):
        return (top, left), None
    return (0, 0), (left, right, top, bottom)


def _forward(case: Case, x: Tensor, f: Tensor) -> Callable[[], Tensor]:
    layer = case.layer
    padding, before = _padding(case)
    convolution, pad = F.conv2d, F.pad
    rest = (None, layer.stride, padding, layer.dilation, layer.channels)
    if before is None:
        return lambda: convolution(x, f, *rest)
    return lambda: convolution(pad(x, before), f, *rest)


def _backward(case: Case, x: Tensor, f: Tensor, g: Tensor) -> Callable[[], Any]:
    layer = case.layer
    padding, before = _padding(case)
    kept = x if before is None else F.pad(x, before)
    crop = None if before is None else [-n for n in before]
    both = case.pass_ == "backward"
    mask = [both or case.pass_ == "backward_input", both or case.pass_ == "backward_filter", False]
    steps = [layer.stride] * 2, list(padding), [layer.dilation] * 2
    operator = torch.ops.aten.convolution_backward.default

    def call() -> list[Tensor]:
        of_input, of_filter, _ = operator(
            g, kept, f, None, *steps, False, [0, 0], layer.channels, mask
        )
        if crop is not None and of_input is not None:
            of_input = F.pad(of_input, crop)
        return [result for result in (of_input, of_filter) if result is not None]

    return call


def _back(case: Case, name: str, tensor: Tensor) -> Array:
    tensor = tensor.detach().float()
    layer = case.layer
    if name == "filter_gradient":
        tensor = tensor.reshape(layer.channels, layer.multiplier, layer.kernel, layer.kernel)
        tensor = tensor.permute(2, 3, 0, 1)
    else:
        tensor = tensor.permute(0, 2, 3, 1)
    array: Array = tensor.numpy()
    return array
