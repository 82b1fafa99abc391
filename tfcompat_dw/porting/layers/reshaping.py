"""Layers that move values: reshape, flatten, pad, crop, repeat, enlarge."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import (
    LARGEST,
    channels_last,
    pairs,
    refuse,
    sizes,
    text,
)
from tfcompat_dw.porting.layers.resizing import METHODS, resize


class Reshape(nn.Module):
    """``keras.layers.Reshape``: every example's values in the order of its axes."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """The batch stays."""
        return x.reshape(x.shape[0], *self.shape)

    def extra_repr(self) -> str:
        """The shape."""
        return f"{self.shape}"


class Flatten(nn.Module):
    """``keras.layers.Flatten``: one axis, in the order of channels-last axes."""

    def __init__(self, is_last: bool) -> None:
        super().__init__()
        self.is_last = is_last

    def forward(self, x: Tensor) -> Tensor:
        """``[n, values]``."""
        if x.dim() == 1:
            return x.unsqueeze(1)
        return (x if self.is_last else x.movedim(1, -1)).flatten(1)

    def extra_repr(self) -> str:
        """The order of the input's axes, where it is not the usual one."""
        return "" if self.is_last else "data_format='channels_first'"


class Permute(nn.Module):
    """``keras.layers.Permute``: the axes of every example in another order."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """A view; the batch stays."""
        return x.permute(0, *self.axes)

    def extra_repr(self) -> str:
        """The axes, counted from 1."""
        return f"{self.axes}"


class RepeatVector(nn.Module):
    """``keras.layers.RepeatVector``: ``[n, c]`` to ``[n, times, c]``."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """A view: the same values each time."""
        return x.unsqueeze(1).expand(-1, self.times, -1)

    def extra_repr(self) -> str:
        """How many times."""
        return f"{self.times}"


class _Ends(nn.Module):
    """Counts before and after each spatial axis."""

    def __init__(self, ends: tuple[tuple[int, int], ...], is_last: bool) -> None:
        super().__init__()
        self.ends, self.is_last = ends, is_last

    def extra_repr(self) -> str:
        """(before, after) of each axis."""
        return f"{self.ends}" + ", data_format='channels_first'" * (not self.is_last)


class ZeroPadding(_Ends):
    """``keras.layers.ZeroPadding1D``, ``2D`` and ``3D``."""

    def forward(self, x: Tensor) -> Tensor:
        """A larger copy in the memory order of the input."""
        ends = [end for pair in reversed(self.ends) for end in pair]
        return F.pad(x, [0, 0, *ends] if self.is_last else ends)


class Cropping(_Ends):
    """``keras.layers.Cropping1D``, ``2D`` and ``3D``."""

    def forward(self, x: Tensor) -> Tensor:
        """A view."""
        start = 1 if self.is_last else 2
        for axis, (before, after) in enumerate(self.ends, start):
            x = x.narrow(axis, before, x.shape[axis] - before - after)
        return x


class UpSampling(nn.Module):
    """``keras.layers.UpSampling1D``, ``2D`` and ``3D``: larger by whole factors."""

    def __init__(self, factors: tuple[int, ...], interpolation: str, is_last: bool) -> None:
        super().__init__()
        self.factors, self.interpolation, self.is_last = factors, interpolation, is_last

    def forward(self, x: Tensor) -> Tensor:
        """Each value again and again, or values in between."""
        if self.interpolation == "nearest":
            return self._repeated(x)
        x = x if self.is_last else x.permute(0, 2, 3, 1)
        size = (x.shape[1] * self.factors[0], x.shape[2] * self.factors[1])
        y = resize(x, size, self.interpolation)
        return y if self.is_last else y.permute(0, 3, 1, 2)

    def _repeated(self, x: Tensor) -> Tensor:
        """All axes in one copy, whatever the sizes: a repeated axis is a stretched axis of 1."""
        stretched, start = list(x.shape), 1 if self.is_last else 2
        for axis, factor in reversed(list(enumerate(self.factors, start))):
            stretched.insert(axis + 1, factor)
            x = x.unsqueeze(axis + 1)
        y = x.expand(stretched)
        shape = list(y.shape)
        for axis in range(start, start + len(self.factors)):
            shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
        return y.reshape(shape)

    def extra_repr(self) -> str:
        """Factors and interpolation."""
        shown = f"{self.factors}, {self.interpolation}"
        return shown + ", data_format='channels_first'" * (not self.is_last)


# ---- builders ------------------------------------------------------------------------------------


def _reshape(spec: LayerSpec) -> nn.Module:
    shape = spec.config.get("target_shape")
    if not isinstance(shape, (list, tuple)):
        raise refuse(f"target_shape={shape!r}, where a list of sizes is expected")
    wanted = [-1 if size is None else size for size in shape]
    if any(type(size) is not int or not -1 <= size <= LARGEST for size in wanted):
        raise refuse(f"target_shape={shape!r}, where sizes are expected")
    if wanted.count(-1) > 1:
        raise refuse(f"target_shape={shape!r}, where one size may be -1")
    return Reshape(wanted)


def _permute(spec: LayerSpec) -> nn.Module:
    axes = spec.config.get("dims")
    is_list = isinstance(axes, (list, tuple)) and all(type(axis) is int for axis in axes)
    if not is_list or sorted(axes) != list(range(1, len(axes) + 1)):  # type: ignore[arg-type]
        raise refuse(f"dims={axes!r}, where a permutation of 1, 2, ... is expected")
    return Permute(tuple(axes))  # type: ignore[arg-type]


def _ends(module: type[_Ends], key: str, rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        value = spec.config.get(key)
        return module(pairs(1 if value is None else value, rank, key), channels_last(spec))

    return build


def _up_sampling(rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        methods = METHODS if rank == 2 else ("nearest",)
        method = text(spec, "interpolation", "nearest", *methods)
        return UpSampling(sizes(spec, "size", rank, 2), method, channels_last(spec))

    return build


BUILDERS: dict[str, Builder] = {
    "Reshape": _reshape,
    "Flatten": lambda spec: Flatten(channels_last(spec)),
    "Permute": _permute,
    "RepeatVector": lambda spec: RepeatVector(sizes(spec, "n", 1)[0]),
    **{f"ZeroPadding{rank}D": _ends(ZeroPadding, "padding", rank) for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": _ends(Cropping, "cropping", rank) for rank in (1, 2, 3)},
    **{f"UpSampling{rank}D": _up_sampling(rank) for rank in (1, 2, 3)},
}
