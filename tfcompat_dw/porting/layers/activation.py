"""Activations, as layers and as the ``activation`` argument of other layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.arguments import (
    as_list,
    number,
    optional_number,
    refuse,
    weight_shape,
)

Function = Callable[[Tensor], Tensor]


def hard_sigmoid(x: Tensor) -> Tensor:
    """Keras 3's: ``relu6(x + 3) / 6``."""
    return F.relu6(x + 3) / 6


def hard_sigmoid_keras_2(x: Tensor) -> Tensor:
    """Keras 1's and 2's: ``0.2 x + 0.5`` between 0 and 1."""
    return (0.2 * x + 0.5).clamp(0, 1)


def hard_silu(x: Tensor) -> Tensor:
    """``x * hard_sigmoid(x)``, with Keras 3's hard_sigmoid."""
    return x * hard_sigmoid(x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Over the channels."""
    return F.softmax(x, axis)


def linear(x: Tensor) -> Tensor:
    """Nothing."""
    return x


FUNCTIONS: dict[str, Function] = {
    "linear": linear,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": partial(F.leaky_relu, negative_slope=0.2),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swish": F.silu,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "hard_sigmoid": hard_sigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "softmax": softmax,
    "log_softmax": partial(F.log_softmax, dim=-1),
    "log_sigmoid": F.logsigmoid,
    "exponential": torch.exp,
    "mish": F.mish,
    "hard_tanh": F.hardtanh,
    "tanh_shrink": F.tanhshrink,
    "squareplus": lambda x: (x + (x * x + 4).sqrt()) / 2,
}
"""By Keras' names (``keras/src/activations``), for Keras 3."""


class Activation(nn.Module):
    """A function of each element, or of each pixel's channels."""

    def __init__(self, name: str, keras_major: int = 3) -> None:
        super().__init__()
        self.name, self.keras_major = name, keras_major

    def forward(self, x: Tensor) -> Tensor:
        """The function."""
        if self.name == "hard_sigmoid" and self.keras_major < 3:
            return hard_sigmoid_keras_2(x)
        return FUNCTIONS[self.name](x)

    def extra_repr(self) -> str:
        """Its name."""
        return self.name


class Relu(nn.Module):
    """``x`` from a threshold up to a largest value, a line of another slope below."""

    def __init__(self, max_value: float | None, negative_slope: float, threshold: float) -> None:
        super().__init__()
        self.max_value, self.negative_slope = max_value, negative_slope
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        if self.threshold == 0:
            slope = self.negative_slope
            result = F.leaky_relu(x, slope) if slope else F.relu(x)
        else:
            below = self.negative_slope * (x - self.threshold)
            result = torch.where(x >= self.threshold, x, below)
        return result if self.max_value is None else result.clamp(max=self.max_value)

    def extra_repr(self) -> str:
        """What differs from the plain ReLU."""
        parts = [
            f"{key}={value:g}"
            for key, value, usual in (
                ("max_value", self.max_value, None),
                ("negative_slope", self.negative_slope, 0),
                ("threshold", self.threshold, 0),
            )
            if value is not None and value != usual
        ]
        return ", ".join(parts)


class Elu(nn.Module):
    """``x``, and ``alpha * (exp(x) - 1)`` where it is negative."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """The slope."""
        return f"alpha={self.alpha:g}"


class Gelu(nn.Module):
    """``x * P(X <= x)`` of the normal distribution, or its approximation by tanh."""

    def __init__(self, approximate: bool) -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return F.gelu(x, approximate="tanh" if self.approximate else "none")

    def extra_repr(self) -> str:
        """Which of them."""
        return f"approximate={self.approximate}"


class Softmax(nn.Module):
    """Over one axis or several."""

    def __init__(self, axes: list[int]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Sums to 1 over the axes."""
        if len(self.axes) == 1:
            return F.softmax(x, self.axes[0])
        shifted = (x - x.amax(self.axes, keepdim=True)).exp()
        return shifted / shifted.sum(self.axes, keepdim=True)

    def extra_repr(self) -> str:
        """The axes."""
        return f"axis={self.axes if len(self.axes) > 1 else self.axes[0]}"


class PRelu(nn.Module):
    """A slope for negative values that is learned: one for each position that shares none."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """``alpha`` has the shape of one example, with 1 where an axis is shared."""
        return F.relu(x) - self.weight * F.relu(-x)

    def tf_weights(self) -> list[TfWeight]:
        """``alpha``."""
        return [TfWeight("alpha", self.weight)]

    def extra_repr(self) -> str:
        """The shape of the slopes."""
        return f"{tuple(self.weight.shape)}"


# ---- builders ------------------------------------------------------------------------------------


def activation_of(value: Any, keras_major: int) -> nn.Module | None:
    """The module of an ``activation`` argument; None where it does nothing."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _configured(value, keras_major)
    name = value.lower() if isinstance(value, str) else None
    name = {"relu_6": "relu6", "log_softmax_v2": "log_softmax"}.get(name or "", name)
    if name == "linear":
        return None
    if name not in FUNCTIONS:
        raise refuse(f"the activation {value!r} is not known")
    return Activation(name, keras_major)


def _configured(value: Mapping[str, Any], keras_major: int) -> nn.Module | None:
    """An activation that is an object with arguments."""
    name, config = value.get("class_name"), value.get("config")
    if name in BUILDERS and isinstance(config, Mapping):
        return BUILDERS[str(name)](LayerSpec(str(name), "", config, {}, keras_major))
    if isinstance(name, str) and isinstance(config, str):  # a function: its name is the config
        return activation_of(config.rpartition(">")[2], keras_major)
    raise refuse(f"the activation {name!r} is not known")


def _activation(spec: LayerSpec) -> nn.Module:
    return activation_of(spec.config.get("activation"), spec.keras_major) or nn.Identity()


def _relu(spec: LayerSpec) -> nn.Module:
    slope = number(spec, "negative_slope", 0.0) if spec.config.get("negative_slope") else 0.0
    threshold = number(spec, "threshold", 0.0) if spec.config.get("threshold") else 0.0
    return Relu(optional_number(spec, "max_value"), slope, threshold)


def _leaky_relu(spec: LayerSpec) -> nn.Module:
    return Relu(None, number(spec, "negative_slope", 0.3), 0.0)


def _thresholded_relu(spec: LayerSpec) -> nn.Module:
    return ThresholdedRelu(number(spec, "theta", 1.0))


class ThresholdedRelu(nn.Module):
    """``x`` where it is above ``theta``, else 0."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = theta

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return x * (x > self.theta)

    def extra_repr(self) -> str:
        """The threshold."""
        return f"theta={self.theta:g}"


def _softmax(spec: LayerSpec) -> nn.Module:
    axes = as_list(spec.config.get("axis", -1))
    if not axes or any(type(axis) is not int for axis in axes):
        raise refuse(f"axis={spec.config.get('axis')!r}; an axis or a list of them is expected")
    return Softmax(axes)


BUILDERS: dict[str, Builder] = {
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ThresholdedReLU": _thresholded_relu,
    "PReLU": lambda spec: PRelu(weight_shape(spec, "alpha")),
    "ELU": lambda spec: Elu(number(spec, "alpha", 1.0)),
    "Gelu": lambda spec: Gelu(bool(spec.config.get("approximate", True))),
    "Softmax": _softmax,
}
