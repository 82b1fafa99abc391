"""Layers that act in training only."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec
from tfcompat_dw.porting.layers.arguments import channels_last, number, refuse, unsupported


class Dropout(nn.Dropout):
    """``keras.layers.Dropout``: ``noise_shape`` says which values are dropped together."""

    def __init__(self, rate: float, noise_shape: tuple[int | None, ...] | None = None) -> None:
        super().__init__(rate)
        self.noise_shape = noise_shape

    def forward(self, input: Tensor) -> Tensor:
        """The input itself outside of training."""
        if not self.training or self.noise_shape is None:
            return super().forward(input)
        pairs = zip(input.shape, self.noise_shape, strict=True)
        shape = [size if wanted is None else wanted for size, wanted in pairs]
        return input * F.dropout(input.new_ones(shape), self.p)

    def extra_repr(self) -> str:
        """The rate, then what is not at its default."""
        shape = "" if self.noise_shape is None else f", noise_shape={self.noise_shape}"
        return f"{self.p:g}{shape}"


class SpatialDropout(nn.Module):
    """``keras.layers.SpatialDropout1D``, ``2D`` and ``3D``: whole channels of an example."""

    def __init__(self, rate: float, is_last: bool) -> None:
        super().__init__()
        self.rate, self.is_last = rate, is_last

    def forward(self, x: Tensor) -> Tensor:
        """The input itself outside of training."""
        if not self.training:
            return x
        space = (1,) * (x.dim() - 2)
        shape = (x.shape[0], *space, x.shape[-1]) if self.is_last else (*x.shape[:2], *space)
        return x * F.dropout(x.new_ones(shape), self.rate)

    def extra_repr(self) -> str:
        """The rate, then what is not at its default."""
        return f"{self.rate:g}" + ", data_format='channels_first'" * (not self.is_last)


class _Noise(nn.Module):
    """One number says how much."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """The input itself outside of training."""
        return self._noisy(x) if self.training and self.rate > 0 else x

    def _noisy(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The number."""
        return f"{self.rate:g}"


class GaussianNoise(_Noise):
    """``keras.layers.GaussianNoise``: adds noise of a standard deviation."""

    def _noisy(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) * self.rate


class GaussianDropout(_Noise):
    """``keras.layers.GaussianDropout``: multiplies by noise around 1."""

    def _noisy(self, x: Tensor) -> Tensor:
        deviation = math.sqrt(self.rate / (1 - self.rate))
        return x * (1 + torch.randn_like(x) * deviation)


class StochasticDepth(_Noise):
    """ConvNeXt's: leaves a branch out for some of the examples, and scales it for the others."""

    def _noisy(self, x: Tensor) -> Tensor:
        one_each = x.new_ones((x.shape[0], *(1,) * (x.dim() - 1)))
        return x * F.dropout(one_each, self.rate)


# ---- builders ------------------------------------------------------------------------------------


def _rate(spec: LayerSpec, key: str = "rate", below: float = 2.0) -> float:
    rate = number(spec, key, None)
    if not 0 <= rate <= 1 or rate >= below:
        raise refuse(f"{key}={rate!r}, where a share between 0 and 1 is expected")
    return rate


def _dropout(spec: LayerSpec) -> nn.Module:
    shape = spec.config.get("noise_shape")
    if shape is None:
        return Dropout(_rate(spec))
    if not isinstance(shape, (list, tuple)) or any(
        size is not None and (type(size) is not int or size < 1) for size in shape
    ):
        raise refuse(f"noise_shape={shape!r}, where a list of sizes is expected")
    return Dropout(_rate(spec), tuple(shape))


def _alpha_dropout(spec: LayerSpec) -> nn.Module:
    if spec.config.get("noise_shape") is not None:
        raise unsupported(spec, f"noise_shape={spec.config['noise_shape']!r}")
    return nn.AlphaDropout(_rate(spec))


def _spatial_dropout(spec: LayerSpec) -> nn.Module:
    return SpatialDropout(_rate(spec), channels_last(spec))


def _stddev(spec: LayerSpec) -> float:
    deviation = number(spec, "stddev", None)
    if deviation < 0:
        raise refuse(f"stddev={deviation!r}, where a number from 0 on is expected")
    return deviation


BUILDERS: dict[str, Builder] = {
    "Dropout": _dropout,
    **{f"SpatialDropout{rank}D": _spatial_dropout for rank in (1, 2, 3)},
    "GaussianNoise": lambda spec: GaussianNoise(_stddev(spec)),
    "GaussianDropout": lambda spec: GaussianDropout(_rate(spec, below=1.0)),
    "AlphaDropout": _alpha_dropout,
    "StochasticDepth": lambda spec: StochasticDepth(_rate(spec, "drop_path_rate")),
}
