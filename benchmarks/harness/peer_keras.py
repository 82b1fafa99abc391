"""Keras on PyTorch: ``keras.ops.depthwise_conv``, the whole of its DepthwiseConv2D layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.cases import Case
from harness.data import Array, Operands
from harness.peer import CannotRun, Job, Peer
from harness.peer_ours import job, training


class Keras(Peer):
    """KERAS_BACKEND is set by the coordinator.  Keras has no gradients but autograd's."""

    def __init__(self, threads: int) -> None:
        import keras

        if keras.backend.backend() != "torch":
            raise CannotRun(f"the backend is {keras.backend.backend()}")
        torch.set_num_threads(threads)
        self._keras: Any = keras
        self.version = keras.__version__

    def prepare(self, case: Case, operands: Operands) -> Job:
        """All passes; ``backward`` times autograd's backward call."""
        dtype = getattr(torch, case.dtype)
        nchw = case.order == "nchw"

        def image(array: Array) -> Tensor:
            tensor = torch.from_numpy(array)
            return (tensor.permute(0, 3, 1, 2) if nchw else tensor).to(dtype).contiguous()

        x, g = image(operands.input), image(operands.grad)
        f = torch.from_numpy(operands.filter).to(dtype)
        layer, operation = case.layer, self._keras.ops.depthwise_conv
        order = "channels_first" if nchw else "channels_last"

        def forward() -> Any:
            return operation(
                x,
                f,
                strides=layer.stride,
                padding="same",
                data_format=order,
                dilation_rate=layer.dilation,
            )

        def back(name: str, tensor: Tensor) -> Array:
            if nchw and name != "filter_gradient":
                tensor = tensor.permute(0, 2, 3, 1)
            array: Array = tensor.detach().float().numpy()
            return array

        if case.pass_ == "forward":
            return job(forward, back, case)
        if case.pass_ != "backward_filter":
            x.requires_grad_()
        if case.pass_ != "backward_input":
            f.requires_grad_()
        if case.pass_ == "forward_grad":
            return job(forward, back, case)
        if case.pass_ == "training":
            return job(training(forward, x, f, g), back, case)
        y = forward()
        wanted = [tensor for tensor in (x, f) if tensor.requires_grad]
        return job(lambda: torch.autograd.grad(y, wanted, g, retain_graph=True), back, case)
