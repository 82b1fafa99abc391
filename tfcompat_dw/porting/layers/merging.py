"""Layers of several inputs: each takes a list of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import flag, integer, refuse


class _Merge(nn.Module):
    """Element by element; tensors with fewer axes get axes of 1 after the batch's."""

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Sizes of 1 are stretched."""
        rank = max(tensor.dim() for tensor in tensors)
        return self._merged([_with_axes(tensor, rank) for tensor in tensors])

    def _merged(self, tensors: list[Tensor]) -> Tensor:
        raise NotImplementedError


def _with_axes(tensor: Tensor, rank: int) -> Tensor:
    while tensor.dim() < rank:
        tensor = tensor.unsqueeze(1)
    return tensor


class Add(_Merge):
    """``keras.layers.Add``."""

    def _merged(self, tensors: list[Tensor]) -> Tensor:
        return reduce(torch.add, tensors)


class Subtract(_Merge):
    """``keras.layers.Subtract``: the first minus the second."""

    def _merged(self, tensors: list[Tensor]) -> Tensor:
        if len(tensors) != 2:
            raise ValueError(f"Subtract takes 2 tensors; got {len(tensors)}")
        return tensors[0] - tensors[1]


class Multiply(_Merge):
    """``keras.layers.Multiply``."""

    def _merged(self, tensors: list[Tensor]) -> Tensor:
        return reduce(torch.mul, tensors)


class Average(_Merge):
    """``keras.layers.Average``."""

    def _merged(self, tensors: list[Tensor]) -> Tensor:
        return reduce(torch.add, tensors) / len(tensors)


class Maximum(_Merge):
    """``keras.layers.Maximum``: where two are equal, the gradient goes to the first, as in TF."""

    def _merged(self, tensors: list[Tensor]) -> Tensor:
        return reduce(lambda a, b: torch.where((a >= b) | a.isnan(), a, b), tensors)


class Minimum(_Merge):
    """``keras.layers.Minimum``: where two are equal, the gradient goes to the first, as in TF."""

    def _merged(self, tensors: list[Tensor]) -> Tensor:
        return reduce(lambda a, b: torch.where((a <= b) | a.isnan(), a, b), tensors)


class Concatenate(nn.Module):
    """``keras.layers.Concatenate``: one after another along an axis."""

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """All other sizes are the same."""
        return torch.cat(list(tensors), self.axis)

    def extra_repr(self) -> str:
        """The axis."""
        return f"axis={self.axis}"


class Dot(nn.Module):
    """``keras.layers.Dot``: the product over one axis of each of two tensors, per example."""

    def __init__(self, axes: tuple[int, int], normalize: bool, smallest: float) -> None:
        super().__init__()
        self.axes, self.normalize, self.smallest = axes, normalize, smallest

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """``[n, rest of the first, rest of the second]``; ``[n, 1]`` of two vectors."""
        a, b = (
            self._unit(tensor, axis) if self.normalize else tensor
            for tensor, axis in zip(tensors, self.axes, strict=True)
        )
        a, b = a.movedim(self.axes[0], -1), b.movedim(self.axes[1], 1)
        rest = [*a.shape[1:-1], *b.shape[2:]]
        rows = a.flatten(1, -2) if a.dim() > 2 else a.unsqueeze(1)
        columns = b.flatten(2) if b.dim() > 2 else b.unsqueeze(2)
        return torch.bmm(rows, columns).reshape(a.shape[0], *(rest or [1]))

    def _unit(self, x: Tensor, axis: int) -> Tensor:
        """Of length 1; no sum of squares counts as less than ``smallest``."""
        return x * x.square().sum(axis, keepdim=True).clamp_min(self.smallest).rsqrt()

    def extra_repr(self) -> str:
        """The axes, then what is not at its default."""
        return f"axes={self.axes}" + ", normalize=True" * self.normalize


# ---- builders ------------------------------------------------------------------------------------


def _dot(spec: LayerSpec) -> nn.Module:
    axes = spec.config.get("axes")
    pair: list[Any] = list(axes) if isinstance(axes, (list, tuple)) else [axes, axes]
    if len(pair) != 2 or any(type(axis) is not int or axis == 0 for axis in pair):
        raise refuse(f"axes={axes!r}, where one axis of each tensor, not the batch's, is expected")
    smallest = 1e-14 if spec.keras_major == 3 else 1e-12  # keras.ops.normalize, l2_normalize
    return Dot((pair[0], pair[1]), flag(spec, "normalize", False), smallest)


def _merge(module: type[_Merge]) -> Builder:
    return lambda spec: module()


BUILDERS: dict[str, Builder] = {
    **{
        module.__name__: _merge(module)
        for module in (Add, Subtract, Multiply, Average, Maximum, Minimum)
    },
    "Concatenate": lambda spec: Concatenate(integer(spec, "axis", -1)),
    "Dot": _dot,
}
