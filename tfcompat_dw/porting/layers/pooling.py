"""Pooling with TF's SAME: padded cells are no part of a maximum or of an average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import (
    back,
    channels_last,
    first,
    flag,
    same_ends,
    sizes,
    text,
)


class Pool(nn.Module):
    """The maximum or the average of windows, for 1 to 3 spatial axes."""

    def __init__(
        self,
        kind: str,
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...],
        padding: str,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.kind, self.kernel_size, self.stride = kind, kernel_size, stride
        self.padding, self.is_last = padding, is_last

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out."""
        x = first(x, self.is_last)
        if self.padding == "valid":
            y = self._pooled(x, (0,) * len(self.stride), False)
        else:
            y = self._same(x)
        return back(y, self.is_last)

    def _same(self, x: Tensor) -> Tensor:
        ends = [
            same_ends(size, k, s, 1)
            for size, k, s in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        ]
        if all(isinstance(before, int) for before, _ in ends):
            # windows start `before` cells outside and may end outside; no padded copy is made
            return self._pooled(x, tuple(before for before, _ in ends), True)
        pads = [end for pair in reversed(ends) for end in pair]  # of sizes that are not known yet
        none = (0,) * len(self.stride)
        if self.kind == "max":
            return self._pooled(F.pad(x, pads, value=-torch.inf), none, False)
        inside = F.pad(torch.ones_like(x[:1, :1]), pads)
        return self._pooled(F.pad(x, pads), none, False) / self._pooled(inside, none, False)

    def _pooled(self, x: Tensor, before: Sequence[int], past_the_end: bool) -> Tensor:
        rank = len(self.stride)
        windows: Any = (self.kernel_size, self.stride, before)
        if self.kind == "max":
            function: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
            return function(x, *windows, ceil_mode=past_the_end)  # type: ignore[no-any-return]
        function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
        return function(x, *windows, past_the_end, False)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Windows and padding."""
        return f"{self.kind}, {self.kernel_size}, stride={self.stride}, padding={self.padding!r}"


class GlobalPool(nn.Module):
    """The maximum or the average over space."""

    def __init__(self, kind: str, rank: int, is_last: bool, keepdims: bool) -> None:
        super().__init__()
        self.kind, self.rank, self.is_last, self.keepdims = kind, rank, is_last, keepdims

    def forward(self, x: Tensor) -> Tensor:
        """``[n, c]``, or with 1 for every spatial axis."""
        axes = tuple(range(1, 1 + self.rank)) if self.is_last else tuple(range(2, 2 + self.rank))
        return x.amax(axes, self.keepdims) if self.kind == "max" else x.mean(axes, self.keepdims)

    def extra_repr(self) -> str:
        """Which of them."""
        return f"{self.kind}, keepdims={self.keepdims}"


# ---- builders ------------------------------------------------------------------------------------


def _pool(kind: str, rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        kernel = sizes(spec, "pool_size", rank, 2)
        stride = sizes(spec, "strides", rank) if spec.config.get("strides") else kernel
        padding = text(spec, "padding", "valid", "same", "valid")
        return Pool(kind, kernel, stride, padding, channels_last(spec))

    return build


def _global(kind: str, rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        return GlobalPool(kind, rank, channels_last(spec), flag(spec, "keepdims", False))

    return build


BUILDERS: dict[str, Builder] = {
    f"{name}{rank}D": make(kind, rank)
    for name, kind, make in (
        ("MaxPooling", "max", _pool),
        ("AveragePooling", "average", _pool),
        ("GlobalMaxPooling", "max", _global),
        ("GlobalAveragePooling", "average", _global),
    )
    for rank in (1, 2, 3)
}
