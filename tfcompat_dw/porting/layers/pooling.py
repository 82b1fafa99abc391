"""Pooling with TF's SAME: padded cells have no part in a maximum or an average."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.padding import same_padding
from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import (
    channels_last,
    flag,
    from_first,
    sizes,
    text,
    to_first,
)

Pads = list[tuple[int, int]]
"""(before, after) of each axis."""


class _Windows(NamedTuple):
    """Of two or three axes."""

    size: tuple[int, ...]
    strides: tuple[int, ...]


class _Pooling(nn.Module):
    """Windows over 1 to 3 spatial axes."""

    kind: ClassVar[Literal["max", "average"]]

    def __init__(
        self, pool_size: tuple[int, ...], strides: tuple[int, ...], padding: str, is_last: bool
    ) -> None:
        super().__init__()
        self.pool_size, self.strides = pool_size, strides
        self.padding, self.is_last = padding, is_last

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        x = to_first(x, self.is_last)
        if len(self.strides) > 1:
            y = self._pooled(x, _Windows(self.pool_size, self.strides))
        else:  # an image of one row: PyTorch's own for one axis do without channels-last
            row = _Windows((1, *self.pool_size), (1, *self.strides))
            y = self._pooled(x.unsqueeze(2), row).squeeze(2)
        return from_first(y, self.is_last)

    def _pooled(self, x: Tensor, windows: _Windows) -> Tensor:
        if self.padding == "valid":
            return self._pool(x, windows)
        pads = [
            same_padding(1 if s == 1 else n, k, s, 1)
            for n, k, s in zip(x.shape[2:], *windows, strict=True)
        ]
        if not all(isinstance(end, int) for pair in pads for end in pair):
            return self._of_padded(x, windows, pads)
        return self._of_overhanging(x, windows, pads)

    def _of_overhanging(self, x: Tensor, windows: _Windows, pads: Pads) -> Tensor:
        """PyTorch's windows hang over the ends, and no padded copy is made.

        They start ``before`` cells outside and may end outside (``ceil_mode``).  With a stride of
        1 none would hang over one cell further at the end than at the beginning: there they start
        as far out as they are to end, and the first is dropped.
        """
        extra = [
            s == 1 and pair[1] > pair[0] for s, pair in zip(windows.strides, pads, strict=True)
        ]
        before = tuple(pair[one] for one, pair in zip(extra, pads, strict=True))
        y = self._pool(x, windows, before, overhang=True)
        for axis, one in enumerate(extra):
            if one:
                y = y.narrow(axis + 2, 1, y.shape[axis + 2] - 1)
        return y

    def _of_padded(self, x: Tensor, windows: _Windows, pads: Pads) -> Tensor:
        """For sizes that are symbols: PyTorch's pooling takes only numbers for its padding."""
        ends = [end for pair in reversed(pads) for end in pair]
        if self.kind == "max":
            return self._pool(F.pad(x, ends, value=-torch.inf), windows)
        inside = F.pad(torch.ones_like(x[:1, :1]), ends)
        return self._pool(F.pad(x, ends), windows) / self._pool(inside, windows)

    def _pool(
        self, x: Tensor, windows: _Windows, before: tuple[int, ...] = (), overhang: bool = False
    ) -> Tensor:
        volume = len(windows.size) == 3
        before = before or (0,) * len(windows.size)
        if self.kind == "max":
            pool: Any = F.max_pool3d if volume else F.max_pool2d
            y = pool(x, *windows, before, ceil_mode=overhang)
        else:
            pool = F.avg_pool3d if volume else F.avg_pool2d
            y = pool(x, *windows, before, overhang, count_include_pad=False)
        return cast(Tensor, y)

    def extra_repr(self) -> str:
        """Windows, then what is not at its default."""
        shown = [f"{self.pool_size}"]
        shown += [f"strides={self.strides}"] if self.strides != self.pool_size else []
        shown += [f"padding={self.padding!r}"] if self.padding != "valid" else []
        return ", ".join(shown + ["data_format='channels_first'"] * (not self.is_last))


class MaxPooling(_Pooling):
    """``keras.layers.MaxPooling1D``, ``2D`` and ``3D``.

    Where a window has its maximum several times, the gradient goes to the first; so it does in TF,
    except in 3D, where TF gives it to all of them.
    """

    kind = "max"


class AveragePooling(_Pooling):
    """``keras.layers.AveragePooling1D``, ``2D`` and ``3D``."""

    kind = "average"


class _GlobalPooling(nn.Module):
    def __init__(self, rank: int, keepdims: bool, is_last: bool) -> None:
        super().__init__()
        self.rank, self.keepdims, self.is_last = rank, keepdims, is_last

    def _space(self) -> tuple[int, ...]:
        start = 1 if self.is_last else 2
        return tuple(range(start, start + self.rank))

    def extra_repr(self) -> str:
        """What is not at its default."""
        shown = ["keepdims=True"] * self.keepdims
        return ", ".join(shown + ["data_format='channels_first'"] * (not self.is_last))


class GlobalMaxPooling(_GlobalPooling):
    """``keras.layers.GlobalMaxPooling1D``, ``2D`` and ``3D``."""

    def forward(self, x: Tensor) -> Tensor:
        """``[n, c]``, or with 1 for every spatial axis."""
        return x.amax(self._space(), self.keepdims)


class GlobalAveragePooling(_GlobalPooling):
    """``keras.layers.GlobalAveragePooling1D``, ``2D`` and ``3D``."""

    def forward(self, x: Tensor) -> Tensor:
        """``[n, c]``, or with 1 for every spatial axis."""
        return x.mean(self._space(), self.keepdims)


class _AdaptivePooling(nn.Module):
    """As many windows as are asked for, as equal as whole cells allow."""

    kind: ClassVar[Literal["max", "average"]]

    def __init__(self, output_size: tuple[int, ...], is_last: bool) -> None:
        super().__init__()
        self.output_size, self.is_last = output_size, is_last

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        rank = len(self.output_size) - 1
        pools: Any = (
            (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
            if self.kind == "max"
            else (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
        )
        return from_first(pools[rank](to_first(x, self.is_last), self.output_size), self.is_last)

    def extra_repr(self) -> str:
        """The output's size, then what is not at its default."""
        return f"{self.output_size}" + ", data_format='channels_first'" * (not self.is_last)


class AdaptiveMaxPooling(_AdaptivePooling):
    """``keras.layers.AdaptiveMaxPooling1D``, ``2D`` and ``3D``."""

    kind = "max"


class AdaptiveAveragePooling(_AdaptivePooling):
    """``keras.layers.AdaptiveAveragePooling1D``, ``2D`` and ``3D``."""

    kind = "average"


# ---- builders ------------------------------------------------------------------------------------


def _pooling(module: type[_Pooling], rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        window = sizes(spec, "pool_size", rank, 2)
        strides = window if spec.config.get("strides") is None else sizes(spec, "strides", rank)
        padding = text(spec, "padding", "valid", "same", "valid")
        return module(window, strides, padding, channels_last(spec))

    return build


def _global_pooling(module: type[_GlobalPooling], rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        return module(rank, flag(spec, "keepdims", False), channels_last(spec))

    return build


def _adaptive_pooling(module: type[_AdaptivePooling], rank: int) -> Builder:
    return lambda spec: module(sizes(spec, "output_size", rank), channels_last(spec))


_MODULES: dict[str, tuple[Any, Any]] = {
    "MaxPooling": (_pooling, MaxPooling),
    "AveragePooling": (_pooling, AveragePooling),
    "GlobalMaxPooling": (_global_pooling, GlobalMaxPooling),
    "GlobalAveragePooling": (_global_pooling, GlobalAveragePooling),
    "AdaptiveMaxPooling": (_adaptive_pooling, AdaptiveMaxPooling),
    "AdaptiveAveragePooling": (_adaptive_pooling, AdaptiveAveragePooling),
}
BUILDERS: dict[str, Builder] = {
    f"{name}{rank}D": build(module, rank)
    for name, (build, module) in _MODULES.items()
    for rank in (1, 2, 3)
}
