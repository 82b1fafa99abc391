"""Layers of several inputs: each takes a list of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import flag, refuse


def _average(tensors: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, tensors) / len(tensors)


def _subtract(tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) != 2:
        raise ValueError(f"Subtract takes 2 tensors; got {len(tensors)}")
    return tensors[0] - tensors[1]


FUNCTIONS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "Add": lambda tensors: reduce(torch.add, tensors),
    "Subtract": _subtract,
    "Multiply": lambda tensors: reduce(torch.mul, tensors),
    "Average": _average,
    "Maximum": lambda tensors: reduce(torch.maximum, tensors),
    "Minimum": lambda tensors: reduce(torch.minimum, tensors),
}


class Merge(nn.Module):
    """Element by element; tensors with fewer axes get them after the batch."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Sizes of 1 are stretched."""
        rank = max(tensor.dim() for tensor in tensors)
        return FUNCTIONS[self.kind]([_with_axes(tensor, rank) for tensor in tensors])

    def extra_repr(self) -> str:
        """Which of them."""
        return self.kind


def _with_axes(tensor: Tensor, rank: int) -> Tensor:
    while tensor.dim() < rank:
        tensor = tensor.unsqueeze(1)
    return tensor


class Concatenate(nn.Module):
    """One after another along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """All other sizes are the same."""
        return torch.cat(list(tensors), self.axis)

    def extra_repr(self) -> str:
        """The axis."""
        return f"axis={self.axis}"


class Dot(nn.Module):
    """The product over one axis of each of two tensors, example by example."""

    def __init__(self, axes: tuple[int, int], normalize: bool) -> None:
        super().__init__()
        self.axes, self.normalize = axes, normalize

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """``[n, rest of the first, rest of the second]``; ``[n, 1]`` of two vectors."""
        a, b = tensors
        if self.normalize:
            a, b = (F.normalize(t, dim=axis) for t, axis in zip((a, b), self.axes, strict=True))
        a, b = a.movedim(self.axes[0], -1), b.movedim(self.axes[1], 1)
        rest_a, rest_b = a.shape[1:-1], b.shape[2:]
        product = a.flatten(1, -2) if a.dim() > 2 else a[:, None]
        other = b.flatten(2) if b.dim() > 2 else b[..., None]
        result = product @ other
        if not rest_a and not rest_b:
            return result.flatten(1)
        return result.reshape(a.shape[0], *rest_a, *rest_b)

    def extra_repr(self) -> str:
        """The axes."""
        return f"axes={self.axes}, normalize={self.normalize}"


def _concatenate(spec: LayerSpec) -> nn.Module:
    axis = spec.config.get("axis", -1)
    if type(axis) is not int:
        raise refuse(f"axis={axis!r}; an integer is expected")
    return Concatenate(axis)


def _dot(spec: LayerSpec) -> nn.Module:
    axes = spec.config.get("axes")
    pair = [axes, axes] if type(axes) is int else axes
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise refuse(f"axes={axes!r}; one axis of each tensor is expected")
    if any(type(axis) is not int or axis == 0 for axis in pair):
        raise refuse(f"axes={axes!r}; axes other than the batch's are expected")
    return Dot((pair[0], pair[1]), flag(spec, "normalize", False))


def _merge(kind: str) -> Builder:
    return lambda spec: Merge(kind)


BUILDERS: dict[str, Builder] = {
    **{kind: _merge(kind) for kind in FUNCTIONS},
    "Concatenate": _concatenate,
    "Dot": _dot,
}
