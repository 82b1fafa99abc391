"""Sharding rules: what the operators do with ``DTensor`` operands.

Images may be sharded by batch or by channels, everything may be replicated; other placements are
redistributed first.  Sums over a sharded batch (the filter and the bias gradient) are partial.
Channels are sharded only where their number is a multiple of the mesh's size: otherwise shards of
the input would not belong to shards of the output.  (On a mesh of several dimensions any of them
may shard channels, so all of them count.)

Rules are registered when this package is imported after ``torch.distributed.tensor``, else by the
first call.  One call cannot do so, because PyTorch does not ask: ``torch.ops.tfcompat_dw`` itself,
in inference mode, as the very first; call :func:`register` before it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch

_ops = torch.ops.tfcompat_dw
Rule = tuple[list[Any], list[Any]]
"""Placements of the results, and of the arguments (None for what is no tensor)."""

DTENSOR = "torch.distributed.tensor"
"""The module without which nobody has a DTensor; it takes longer to import than this package."""


@functools.cache
def register() -> None:
    """Registers the rules, once; for calls after ``DTENSOR`` was imported.

    Some of the names are private to PyTorch; a version without them has no rules, and says so to
    whoever brings a DTensor.
    """
    with contextlib.suppress(ImportError, AttributeError):
        _register()


def _register() -> None:
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._op_schema import RuntimeSchemaInfo
    from torch.distributed.tensor.experimental import register_sharding

    propagator = DTensor._op_dispatcher.sharding_propagator
    windows, sizes = propagator.op_to_schema_info, propagator.op_to_shape_and_stride_idx
    for op, rules in _RULES.items():
        register_sharding(op)(rules)
        # register_sharding lets calls with other windows share what it knows of one
        windows[op] = RuntimeSchemaInfo(static_argnum=0, needs_pytree=True)
    # arguments that are the size of the result: DTensor makes them local
    sizes[_ops.depthwise_conv2d_backward_input.default] = 0
    sizes[_ops.depthwise_conv2d_backward_filter.default] = 1


class _Placements:
    """Of all that takes part, in one way to shard a convolution."""

    def __init__(self, image: Any, filter: Any, bias: Any, summed: Any = None) -> None:
        self.image, self.filter, self.bias = image, filter, bias
        self.filter_gradient = summed or filter
        self.bias_gradient = summed or bias


def _ways(mesh: Any, channels: int, channels_last: bool) -> list[_Placements]:
    """Replicated, by batch, by channels."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    ways = [
        _Placements(Replicate(), Replicate(), Replicate()),
        _Placements(Shard(0), Replicate(), Replicate(), summed=Partial()),
    ]
    if channels % mesh.size() == 0:
        ways.append(_Placements(Shard(3 if channels_last else 1), Shard(2), Shard(0)))
    return ways


_NO_WINDOW = (None,) * 4
"""Stride, padding, dilation and channels_last are no tensors."""


def _forward(input: Any, filter: Any, bias: Any, *window: Any) -> list[Rule]:
    return [
        ([way.image], [way.image, way.filter, None if bias is None else way.bias, *_NO_WINDOW])
        for way in _ways(input.mesh, filter.shape[2], window[-1])
    ]


def _backward_input(size: Any, filter: Any, grad: Any, *window: Any) -> list[Rule]:
    return [
        ([way.image], [None, way.filter, way.image, *_NO_WINDOW])
        for way in _ways(grad.mesh, filter.shape[2], window[-1])
    ]


def _backward_filter(input: Any, size: Any, grad: Any, *window: Any) -> list[Rule]:
    channels = input.shape[3 if window[-1] else 1]
    return [
        ([way.filter_gradient], [way.image, None, way.image, *_NO_WINDOW])
        for way in _ways(input.mesh, channels, window[-1])
    ]


def _backward(input: Any, filter: Any, grad: Any, *rest: Any) -> list[Rule]:
    *window, mask = rest
    rules: list[Rule] = []
    for way in _ways(input.mesh, filter.shape[2], window[-1]):
        results = way.image, way.filter_gradient, way.bias_gradient
        wanted = [place if want else None for place, want in zip(results, mask, strict=True)]
        rules.append((wanted, [way.image, way.filter, way.image, *_NO_WINDOW, None]))
    return rules


_RULES: dict[Any, Callable[..., list[Rule]]] = {
    _ops.depthwise_conv2d.default: _forward,
    _ops.depthwise_conv2d_backward_input.default: _backward_input,
    _ops.depthwise_conv2d_backward_filter.default: _backward_filter,
    _ops.depthwise_conv2d_backward.default: _backward,
}
