"""This package: its operators, and its ``tf.nn`` functions."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

import tfcompat_dw
from harness.cases import Case
from harness.data import RESULTS, Array, Operands
from harness.expected import window
from harness.peer import CannotRun, Job, Peer

Tensors = tuple[Tensor, ...]


def _image(array: Array, case: Case) -> Tensor:
    """In the case's dtype and memory order, with axes named in that order."""
    tensor = torch.from_numpy(array)
    if case.order == "nchw":
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.to(getattr(torch, case.dtype)).contiguous()


def _back(case: Case, name: str, tensor: Tensor) -> Array:
    if case.order == "nchw" and name != "filter_gradient":
        tensor = tensor.permute(0, 2, 3, 1)
    array: Array = tensor.detach().float().numpy()
    return array


class Operator(Peer):
    """``torch.ops.tfcompat_dw``: what a model's layers call."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.version = tfcompat_dw.__version__

    def forward(self, case: Case, x: Tensor, f: Tensor) -> Any:
        """A call of the forward pass, ready but for its tensors' gradients."""
        operator = torch.ops.tfcompat_dw.depthwise_conv2d
        arguments = window(case.layer, case.order == "nhwc")
        return lambda: operator(x, f, None, *arguments)

    def backward(self, case: Case, x: Tensor, f: Tensor, g: Tensor) -> Any:
        """A call of the gradients, without autograd."""
        ops = torch.ops.tfcompat_dw
        arguments = window(case.layer, case.order == "nhwc")
        if case.pass_ == "backward":
            mask = [True, True, False]
            return lambda: ops.depthwise_conv2d_backward(x, f, g, *arguments, mask)[:2]
        if case.pass_ == "backward_input":
            size = list(x.shape)
            return lambda: ops.depthwise_conv2d_backward_input(size, f, g, *arguments)
        size = list(f.shape)
        return lambda: ops.depthwise_conv2d_backward_filter(x, size, g, *arguments)

    def prepare(self, case: Case, operands: Operands) -> Job:
        """All passes and orders."""
        x, g = _image(operands.input, case), _image(operands.grad, case)
        f = torch.from_numpy(operands.filter).to(x.dtype)
        if case.pass_ == "forward":
            return job(self.forward(case, x, f), lambda name, y: _back(case, name, y), case)
        if case.pass_.startswith("backward"):
            return job(self.backward(case, x, f, g), lambda name, d: _back(case, name, d), case)
        forward = self.forward(case, x.requires_grad_(), f.requires_grad_())
        call = forward if case.pass_ == "forward_grad" else training(forward, x, f, g)
        return job(call, lambda name, value: _back(case, name, value), case)


class Function(Operator):
    """``tfcompat_dw.depthwise_conv2d``, which checks and explains its arguments."""

    def forward(self, case: Case, x: Tensor, f: Tensor) -> Any:
        """TensorFlow's arguments."""
        function, stride = tfcompat_dw.depthwise_conv2d, case.layer.stride
        format_: Literal["NHWC", "NCHW"] = "NHWC" if case.order == "nhwc" else "NCHW"
        dilation = case.layer.dilation
        if stride > 1 and dilation > 1:
            raise CannotRun("a stride with a dilation has more than one meaning")
        strides = [1, stride, stride, 1] if format_ == "NHWC" else [1, 1, stride, stride]
        return lambda: function(x, f, strides, "SAME", format_, dilation)

    def backward(self, case: Case, x: Tensor, f: Tensor, g: Tensor) -> Any:
        """TensorFlow's functions for it take time in the same way as the forward one."""
        raise CannotRun("timed for calls of the forward pass and of training only")


def training(forward: Any, x: Tensor, f: Tensor, g: Tensor) -> Any:
    """A call: forward, then backward through autograd."""

    def call() -> Tensors:
        y = forward()
        return y, *torch.autograd.grad(y, (x, f), g)

    return call


def job(call: Any, back: Any, case: Case) -> Job:
    """A job whose call returns a tensor, or one tensor per result."""
    names = RESULTS[case.pass_]

    def results(value: Any) -> dict[str, Array]:
        values = value if isinstance(value, list | tuple) else (value,)
        return {name: back(name, each) for name, each in zip(names, values, strict=True)}

    return Job(call, results)
