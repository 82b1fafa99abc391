"""Layers that act in training only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import channels_last, number, refuse


class Dropout(nn.Module):
    """Zeros some values and scales the others up; ``noise_shape`` says which go together."""

    def __init__(self, rate: float, noise_shape: tuple[int | None, ...] | None = None) -> None:
        super().__init__()
        self.rate, self.noise_shape = rate, noise_shape

    def forward(self, x: Tensor) -> Tensor:
        """The input itself outside of training."""
        if not self.training or self.rate == 0:
            return x
        if self.noise_shape is None:
            return F.dropout(x, self.rate)
        shape = [
            size if wanted is None else wanted
            for size, wanted in zip(x.shape, self.noise_shape, strict=True)
        ]
        return x * F.dropout(x.new_ones(shape), self.rate)

    def extra_repr(self) -> str:
        """The rate, and what goes together."""
        together = "" if self.noise_shape is None else f", noise_shape={self.noise_shape}"
        return f"{self.rate:g}{together}"


class SpatialDropout(nn.Module):
    """Zeros whole channels of an example."""

    def __init__(self, rate: float, is_last: bool) -> None:
        super().__init__()
        self.rate, self.is_last = rate, is_last

    def forward(self, x: Tensor) -> Tensor:
        """The input itself outside of training."""
        if not self.training or self.rate == 0:
            return x
        shape = [1] * x.dim()
        shape[0], channel = x.shape[0], -1 if self.is_last else 1
        shape[channel] = x.shape[channel]
        return x * F.dropout(x.new_ones(shape), self.rate)

    def extra_repr(self) -> str:
        """The rate."""
        return f"{self.rate:g}"


class GaussianNoise(nn.Module):
    """Adds noise of a standard deviation."""

    def __init__(self, stddev: float) -> None:
        super().__init__()
        self.stddev = stddev

    def forward(self, x: Tensor) -> Tensor:
        """The input itself outside of training."""
        return x + torch.randn_like(x) * self.stddev if self.training else x

    def extra_repr(self) -> str:
        """The deviation."""
        return f"{self.stddev:g}"


class GaussianDropout(nn.Module):
    """Multiplies by noise around 1."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """The input itself outside of training."""
        if not self.training or self.rate == 0:
            return x
        deviation = (self.rate / (1 - self.rate)) ** 0.5
        result: Tensor = x * (1 + torch.randn_like(x) * deviation)
        return result

    def extra_repr(self) -> str:
        """The rate."""
        return f"{self.rate:g}"


class StochasticDepth(nn.Module):
    """ConvNeXt's: leaves a branch out for some examples."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """The input itself outside of training."""
        if not self.training or self.rate == 0:
            return x
        mask = F.dropout(x.new_ones((x.shape[0], *(1,) * (x.dim() - 1))), self.rate)
        return x * mask

    def extra_repr(self) -> str:
        """The rate."""
        return f"{self.rate:g}"


# ---- builders ------------------------------------------------------------------------------------


def _rate(spec: LayerSpec, key: str = "rate") -> float:
    rate = number(spec, key, 0.0)
    if not 0 <= rate <= 1:
        raise refuse(f"{key}={rate!r}; a share between 0 and 1 is expected")
    return rate


def _dropout(spec: LayerSpec) -> nn.Module:
    shape = spec.config.get("noise_shape")
    if shape is None:
        return Dropout(_rate(spec))
    if not isinstance(shape, (list, tuple)) or any(
        size is not None and type(size) is not int for size in shape
    ):
        raise refuse(f"noise_shape={shape!r}; a list of sizes is expected")
    return Dropout(_rate(spec), tuple(shape))


def _alpha_dropout(spec: LayerSpec) -> nn.Module:
    if spec.config.get("noise_shape") is not None:
        raise refuse("noise_shape of AlphaDropout, which is not ported")
    return nn.AlphaDropout(_rate(spec))


def _spatial(spec: LayerSpec) -> nn.Module:
    return SpatialDropout(_rate(spec), channels_last(spec))


def _nothing(spec: LayerSpec) -> nn.Module:
    return nn.Identity()


BUILDERS: dict[str, Builder] = {
    "Dropout": _dropout,
    "SpatialDropout1D": _spatial,
    "SpatialDropout2D": _spatial,
    "SpatialDropout3D": _spatial,
    "GaussianNoise": lambda spec: GaussianNoise(number(spec, "stddev", 0.0)),
    "GaussianDropout": lambda spec: GaussianDropout(_rate(spec)),
    "AlphaDropout": _alpha_dropout,
    "ActivityRegularization": _nothing,
    "StochasticDepth": lambda spec: StochasticDepth(_rate(spec, "drop_path_rate")),
}
