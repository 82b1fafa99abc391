"""Activations, as layers and as the ``activation`` argument of other layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.functions.elementwise import gelu
from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.arguments import (
    axes_of,
    number,
    optional_number,
    refuse,
    unsupported,
    weight_shape,
)

# ---- functions: keras/src/activations/activations.py ---------------------------------------------


def _linear(x: Tensor) -> Tensor:
    return x


def _relu(
    x: Tensor, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Tensor:
    """``x`` above a threshold and up to a largest value, a line of another slope below."""
    if threshold == 0 and max_value is None:
        return F.leaky_relu(x, negative_slope) if negative_slope else F.relu(x)
    if threshold == 0:  # the slope at 0 is 0, as in TF; that of clamp(0, ...) is not
        y = F.relu6(x) if max_value == 6 else F.relu(x).clamp(max=max_value)
    else:
        y = torch.where(x > threshold, x, torch.zeros((), dtype=x.dtype, device=x.device))
        if max_value is not None:
            y = y.clamp(0, max_value)
    return y - negative_slope * F.relu(threshold - x) if negative_slope else y


def _hard_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def _hard_sigmoid_keras_2(x: Tensor) -> Tensor:
    return (0.2 * x + 0.5).clamp(0, 1)


def _hard_silu(x: Tensor) -> Tensor:
    return x * _hard_sigmoid(x)


def _softmax(x: Tensor, axis: int | tuple[int, ...] = -1) -> Tensor:
    if isinstance(axis, int):
        return F.softmax(x, axis)
    if len(axis) == 1:
        return F.softmax(x, axis[0])
    powers = (x - x.amax(axis, keepdim=True).detach()).exp()
    return powers / powers.sum(axis, keepdim=True)


def _log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    return F.log_softmax(x, axis)


def _sparse_plus(x: Tensor) -> Tensor:
    return torch.where(x <= -1, torch.zeros_like(x), torch.where(x < 1, (x + 1) ** 2 / 4, x))


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "linear": _linear,
    "relu": _relu,
    "relu6": F.relu6,
    "leaky_relu": lambda x, negative_slope=0.2: F.leaky_relu(x, negative_slope),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": gelu,
    "silu": F.silu,
    "hard_silu": _hard_silu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_sigmoid of Keras 2": _hard_sigmoid_keras_2,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "log_sigmoid": F.logsigmoid,
    "exponential": torch.exp,
    "mish": F.mish,
    "hard_tanh": F.hardtanh,
    "tanh_shrink": F.tanhshrink,
    "soft_shrink": F.softshrink,
    "hard_shrink": F.hardshrink,
    "squareplus": lambda x: (x + (x * x + 4).sqrt()) / 2,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": lambda x: (0.5 * (x + 1)).clamp(0, 1),
    "glu": F.glu,
    "thresholded_relu": lambda x, theta: x * (x > theta),
}
"""By Keras 3's names."""

_ALIASES = {
    "swish": "silu",
    "hard_swish": "hard_silu",
    "softmax_v2": "softmax",
    "relu_6": "relu6",
    "exp": "exponential",
}


@dataclass(frozen=True)
class Function:
    """An activation with its arguments: a callable that can be copied and pickled."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """Element by element, or over the channels."""
        return FUNCTIONS[self.name](x, **dict(self.arguments))

    def __str__(self) -> str:
        return f"{self.name}({self.listed()})" if self.arguments else self.name

    def listed(self) -> str:
        """The arguments."""
        return ", ".join(f"{name}={_shown(value)}" for name, value in self.arguments)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---- modules -------------------------------------------------------------------------------------


class Activation(nn.Module):
    """A function of each element, or of each pixel's channels."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """The function."""
        return self.function(x)

    def extra_repr(self) -> str:
        """Its name and arguments."""
        return str(self.function)


class _Named(Activation):
    """A layer whose class says which function it is."""

    def extra_repr(self) -> str:
        """The arguments."""
        return self.function.listed()


class ReLU(_Named):
    """``x`` above ``threshold`` up to ``max_value``; ``negative_slope`` below."""


class LeakyReLU(_Named):
    """``negative_slope * x`` where ``x`` is negative."""


class ELU(_Named):
    """``alpha * (exp(x) - 1)`` where ``x`` is negative."""


class ThresholdedReLU(_Named):
    """``x`` where it is above ``theta``, else 0."""


class Softmax(_Named):
    """Sums to 1 over an axis or several."""


class PReLU(nn.Module):
    """A learned slope for negative values: one for each position that shares none.

    Attributes:
        weight: the shape of one example, 1 where an axis is shared.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """``x``, or ``x * weight`` where it is negative."""
        return F.relu(x) - self.weight * F.relu(-x)

    def tf_weights(self) -> list[TfWeight]:
        """``alpha``."""
        return [TfWeight("alpha", self.weight)]

    def extra_repr(self) -> str:
        """The shape of the slopes."""
        return f"{tuple(self.weight.shape)}"


# ---- builders ------------------------------------------------------------------------------------


def activation_of(spec: LayerSpec, key: str = "activation") -> Function | None:
    """The function of an ``activation`` argument; None where it does nothing."""
    return _function(spec.config.get(key), spec)


def _function(value: Any, spec: LayerSpec) -> Function | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return _function_of_object(value, spec)
    name = _ALIASES.get(value.lower(), value.lower()) if isinstance(value, str) else None
    if name == "linear":
        return None
    if name == "hard_sigmoid" and spec.keras_major < 3:
        return Function("hard_sigmoid of Keras 2")
    if name not in FUNCTIONS or name == "thresholded_relu":
        raise unsupported(spec, f"the activation {value!r}")
    return Function(name)


def _function_of_object(value: Mapping[str, Any], spec: LayerSpec) -> Function | None:
    """An activation that is a layer with arguments, or a function in an object."""
    name, config = value.get("class_name"), value.get("config")
    if isinstance(name, str) and name in _FUNCTIONS_OF_LAYERS and isinstance(config, Mapping):
        return _FUNCTIONS_OF_LAYERS[name](
            LayerSpec(spec.class_name, spec.name, config, {}, spec.keras_major)
        )
    if name == "function" and isinstance(config, str):
        return _function(config, spec)
    raise unsupported(spec, f"the activation {name!r}")


def _relu_of(spec: LayerSpec) -> Function:
    largest = optional_number(spec, "max_value")
    found = [] if largest is None else [("max_value", largest)]
    for name in ("negative_slope", "threshold"):
        value = number(spec, name, 0.0)
        found += [(name, value)] if value else []
    return Function("relu", tuple(found))


def _leaky_relu_of(spec: LayerSpec) -> Function:
    return Function("leaky_relu", (("negative_slope", number(spec, "negative_slope", 0.3)),))


def _elu_of(spec: LayerSpec) -> Function:
    return Function("elu", (("alpha", number(spec, "alpha", 1.0)),))


def _thresholded_relu_of(spec: LayerSpec) -> Function:
    return Function("thresholded_relu", (("theta", number(spec, "theta", 1.0)),))


def _softmax_of(spec: LayerSpec) -> Function:
    axes = axes_of(spec)
    return Function("softmax", (("axis", axes[0] if len(axes) == 1 else axes),))


def _activation_of_layer(spec: LayerSpec) -> Function | None:
    return activation_of(spec)


_FUNCTIONS_OF_LAYERS: dict[str, Callable[[LayerSpec], Function | None]] = {
    "Activation": _activation_of_layer,
    "ReLU": _relu_of,
    "LeakyReLU": _leaky_relu_of,
    "ELU": _elu_of,
    "ThresholdedReLU": _thresholded_relu_of,
    "Softmax": _softmax_of,
}


def _layer(module: type[Activation], function: Callable[[LayerSpec], Function]) -> Builder:
    return lambda spec: module(function(spec))


def _prelu(spec: LayerSpec) -> nn.Module:
    shape = weight_shape(spec, "alpha")
    shared = spec.config.get("shared_axes")
    for axis in shared if isinstance(shared, (list, tuple)) else [shared] * (shared is not None):
        if type(axis) is not int or not 0 < axis <= len(shape) or shape[axis - 1] != 1:
            raise refuse(f"its alpha is {shape} in the file, which shared_axes={shared!r} denies")
    return PReLU(shape)


BUILDERS: dict[str, Builder] = {
    "Activation": lambda spec: Activation(activation_of(spec) or Function("linear")),
    "ReLU": _layer(ReLU, _relu_of),
    "LeakyReLU": _layer(LeakyReLU, _leaky_relu_of),
    "ThresholdedReLU": _layer(ThresholdedReLU, _thresholded_relu_of),
    "ELU": _layer(ELU, _elu_of),
    "Softmax": _layer(Softmax, _softmax_of),
    "PReLU": _prelu,
}
