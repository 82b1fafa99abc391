"""Layers that move values: reshape, flatten, pad, crop, repeat, resize."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import (
    back,
    channels_last,
    first,
    pairs,
    refuse,
    sizes,
    text,
)


class Reshape(nn.Module):
    """Every example in another shape, its values in the order of its axes."""

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
    """One axis, in the order of channels-last axes."""

    def __init__(self, is_last: bool) -> None:
        super().__init__()
        self.is_last = is_last

    def forward(self, x: Tensor) -> Tensor:
        """``[n, values]``."""
        if x.dim() == 1:
            return x[:, None]
        return (x if self.is_last or x.dim() < 3 else x.movedim(1, -1)).flatten(1)


class Permute(nn.Module):
    """The axes of every example in another order."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """The batch stays."""
        return x.permute(0, *self.axes)

    def extra_repr(self) -> str:
        """The axes, counted from 1."""
        return f"{self.axes}"


class RepeatVector(nn.Module):
    """``[n, c]`` to ``[n, times, c]``."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """The same values each time."""
        return x[:, None].expand(-1, self.times, -1)

    def extra_repr(self) -> str:
        """How many times."""
        return f"{self.times}"


class ZeroPadding(nn.Module):
    """Zeros around every image."""

    def __init__(self, pads: tuple[tuple[int, int], ...], is_last: bool) -> None:
        super().__init__()
        self.pads, self.is_last = pads, is_last

    def forward(self, x: Tensor) -> Tensor:
        """A copy in the memory order of the input."""
        flat = [end for pair in reversed(self.pads) for end in pair]
        return F.pad(x, ([0, 0] if self.is_last else []) + flat)

    def extra_repr(self) -> str:
        """(before, after) of each axis."""
        return f"{self.pads}"


class Cropping(nn.Module):
    """Without some rows and columns at the border."""

    def __init__(self, ends: tuple[tuple[int, int], ...], is_last: bool) -> None:
        super().__init__()
        self.ends, self.is_last = ends, is_last

    def forward(self, x: Tensor) -> Tensor:
        """A view."""
        axis = 1 if self.is_last else 2
        for number, (before, after) in enumerate(self.ends):
            size = x.shape[axis + number] - before - after
            if isinstance(size, int) and size < 1:
                raise ValueError(f"cropping {self.ends} leaves nothing of {tuple(x.shape)}")
            x = x.narrow(axis + number, before, size)
        return x

    def extra_repr(self) -> str:
        """(before, after) of each axis."""
        return f"{self.ends}"


class UpSampling(nn.Module):
    """Larger by whole numbers."""

    def __init__(self, factors: tuple[int, ...], interpolation: str, is_last: bool) -> None:
        super().__init__()
        self.factors, self.interpolation, self.is_last = factors, interpolation, is_last

    def forward(self, x: Tensor) -> Tensor:
        """Each value again and again, or values in between (half-pixel centres, as TF 2)."""
        x = first(x, self.is_last)
        size = [size * factor for size, factor in zip(x.shape[2:], self.factors, strict=True)]
        if self.interpolation == "nearest":
            y = F.interpolate(x, size, mode="nearest-exact")
        else:
            y = F.interpolate(x, size, mode="bilinear", align_corners=False)
        return back(y, self.is_last)

    def extra_repr(self) -> str:
        """Factors and interpolation."""
        return f"{self.factors}, {self.interpolation}"


# ---- builders ------------------------------------------------------------------------------------


def _reshape(spec: LayerSpec) -> nn.Module:
    shape = spec.config.get("target_shape")
    if not isinstance(shape, (list, tuple)):
        raise refuse(f"target_shape={shape!r}; a list of sizes is expected")
    shape = [-1 if size is None else size for size in shape]
    if any(type(size) is not int or size < -1 for size in shape) or list(shape).count(-1) > 1:
        raise refuse(f"target_shape={shape!r}; sizes, one of them -1 at the most, are expected")
    return Reshape(shape)


def _permute(spec: LayerSpec) -> nn.Module:
    axes = spec.config.get("dims")
    if not isinstance(axes, (list, tuple)) or sorted(axes) != list(range(1, len(axes) + 1)):
        raise refuse(f"dims={axes!r}; a permutation of 1, 2, ... is expected")
    return Permute(tuple(axes))


def _ends(spec: LayerSpec, key: str, rank: int) -> tuple[tuple[int, int], ...]:
    return pairs(spec.config.get(key, 1), rank, key)


def _zero_padding(rank: int) -> Builder:
    return lambda spec: ZeroPadding(_ends(spec, "padding", rank), channels_last(spec))


def _cropping(rank: int) -> Builder:
    return lambda spec: Cropping(_ends(spec, "cropping", rank), channels_last(spec))


def _up_sampling(rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        kinds = ("nearest", "bilinear") if rank == 2 else ("nearest",)
        kind = text(spec, "interpolation", "nearest", *kinds)
        return UpSampling(sizes(spec, "size", rank, 2), kind, channels_last(spec))

    return build


BUILDERS: dict[str, Builder] = {
    "Reshape": _reshape,
    "Flatten": lambda spec: Flatten(channels_last(spec)),
    "Permute": _permute,
    "RepeatVector": lambda spec: RepeatVector(sizes(spec, "n", 1)[0]),
    **{f"ZeroPadding{rank}D": _zero_padding(rank) for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": _cropping(rank) for rank in (1, 2, 3)},
    **{f"UpSampling{rank}D": _up_sampling(rank) for rank in (1, 2, 3)},
}
