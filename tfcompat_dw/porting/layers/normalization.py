"""Normalizations with TF's epsilon, momentum and variance rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.arguments import (
    as_list,
    flag,
    number,
    refuse,
    weight_shape,
)


class BatchNormalization(_BatchNorm):
    """Keras' batch normalization: over all axes but one.

    PyTorch's module with TF's numbers: ``moving = moving * momentum + batch * (1 - momentum)``
    (PyTorch's momentum is one minus TF's), and the moving variance takes up the biased variance of
    the batch, except where Keras 2 calls TF's fused kernel (4 axes, 5 in later versions), which
    gives the unbiased one.  A batch of one element per channel is no error, as in TF.
    """

    def __init__(
        self,
        channels: int,
        axis: int,
        momentum: float,
        epsilon: float,
        center: bool,
        scale: bool,
        keras_major: int,
    ) -> None:
        super().__init__(channels, epsilon, 1 - momentum)
        self.axis, self.keras_major = axis, keras_major
        if not scale:
            self.register_parameter("weight", None)
        if not center:
            self.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:
        """The statistics of the batch in training, the moving ones otherwise."""
        x = input.movedim(self.axis, 1) if input.dim() > 2 else input
        y = self._trained(x) if self.training else self._normalized(x)
        return y.movedim(1, self.axis) if input.dim() > 2 else y

    def _normalized(self, x: Tensor) -> Tensor:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)

    def _trained(self, x: Tensor) -> Tensor:
        moving = self.get_buffer("running_mean"), self.get_buffer("running_var")
        mean, variance = map(torch.zeros_like, moving)
        # of the batch alone (momentum 1): autograd keeps what it is given, which must not change
        y = torch.batch_norm(x, self.weight, self.bias, mean, variance, True, 1.0, self.eps, False)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            if count == 1:  # PyTorch divides by count - 1
                variance = torch.zeros_like(variance)
            elif not self._is_fused(x):
                variance = variance * ((count - 1) / count)
            momentum = self.momentum if self.momentum is not None else 0.0
            moving[0].lerp_(mean, momentum)
            moving[1].lerp_(variance, momentum)
        return y

    def _is_fused(self, x: Tensor) -> bool:
        return self.keras_major < 3 and x.dim() in (4, 5)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""

    def tf_weights(self) -> list[TfWeight]:
        """``gamma``, ``beta``, ``moving_mean``, ``moving_variance``."""
        found = [("gamma", self.weight), ("beta", self.bias)]
        trained = [TfWeight(name, tensor) for name, tensor in found if tensor is not None]
        return [
            *trained,
            TfWeight("moving_mean", self.get_buffer("running_mean"), trainable=False),
            TfWeight("moving_variance", self.get_buffer("running_var"), trainable=False),
        ]

    def extra_repr(self) -> str:
        """In TF's terms."""
        momentum = 1 - (self.momentum or 0.0)
        parts = [f"{self.num_features}, epsilon={self.eps:g}, momentum={momentum:.6g}"]
        parts += [] if self.weight is not None else ["scale=False"]
        parts += [] if self.bias is not None else ["center=False"]
        return ", ".join(parts)


class LayerNormalization(nn.Module):
    """Over some axes of each example; ``gamma`` and ``beta`` have these axes."""

    def __init__(
        self,
        axes: tuple[int, ...],
        shape: tuple[int, ...],
        epsilon: float,
        center: bool,
        scale: bool,
    ) -> None:
        super().__init__()
        self.axes, self.shape, self.epsilon = axes, shape, epsilon
        self.weight = nn.Parameter(torch.ones(shape)) if scale else None
        self.bias = nn.Parameter(torch.zeros(shape)) if center else None

    def forward(self, x: Tensor) -> Tensor:
        """The axes are moved to the end where they are not there."""
        last = tuple(range(-len(self.axes), 0))
        places = tuple(axis % x.dim() for axis in self.axes)
        moved = places != tuple(axis % x.dim() for axis in last)
        y = x.movedim(places, last) if moved else x
        y = F.layer_norm(y, self.shape, self.weight, self.bias, self.epsilon)
        return y.movedim(last, places) if moved else y

    def tf_weights(self) -> list[TfWeight]:
        """``gamma`` and ``beta``."""
        found = [("gamma", self.weight), ("beta", self.bias)]
        return [TfWeight(name, tensor) for name, tensor in found if tensor is not None]

    def extra_repr(self) -> str:
        """Axes, shape and epsilon."""
        return f"{self.shape}, axis={self.axes}, epsilon={self.epsilon:g}"


class GroupNormalization(nn.Module):
    """Over space and groups of channels of each example."""

    def __init__(
        self, groups: int, channels: int, axis: int, epsilon: float, center: bool, scale: bool
    ) -> None:
        super().__init__()
        self.groups, self.axis, self.epsilon = groups, axis, epsilon
        self.weight = nn.Parameter(torch.ones(channels)) if scale else None
        self.bias = nn.Parameter(torch.zeros(channels)) if center else None

    def forward(self, x: Tensor) -> Tensor:
        """Of any rank from 2 on."""
        y = x.movedim(self.axis, 1)
        groups = y.shape[1] if self.groups == -1 else self.groups
        y = F.group_norm(y, groups, self.weight, self.bias, self.epsilon)
        return y.movedim(1, self.axis)

    def tf_weights(self) -> list[TfWeight]:
        """``gamma`` and ``beta``."""
        found = [("gamma", self.weight), ("beta", self.bias)]
        return [TfWeight(name, tensor) for name, tensor in found if tensor is not None]

    def extra_repr(self) -> str:
        """Groups and epsilon."""
        return f"groups={self.groups}, axis={self.axis}, epsilon={self.epsilon:g}"


class UnitNormalization(nn.Module):
    """Each example has length 1 over the axes."""

    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = tuple(axes)

    def forward(self, x: Tensor) -> Tensor:
        """Divided by the root of the sum of squares, or by 1e-12 where that is smaller."""
        length = x.square().sum(self.axes, keepdim=True).sqrt()
        return x / length.clamp_min(1e-12)

    def extra_repr(self) -> str:
        """The axes."""
        return f"axis={self.axes}"


class Normalization(nn.Module):
    """Mean and variance that were adapted to a data set, or given."""

    mean: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, ...], axis: int | None, invert: bool) -> None:
        super().__init__()
        self.axis, self.invert = axis, invert
        self.from_file = True
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        """``(x - mean) / sqrt(variance)``, or back."""
        mean, deviation = self._spread(x, self.mean), self._spread(x, self.variance).sqrt()
        deviation = deviation.clamp_min(1e-7)
        return mean + x * deviation if self.invert else (x - mean) / deviation

    def _spread(self, x: Tensor, values: Tensor) -> Tensor:
        if self.axis is None or values.dim() != 1:
            return values
        shape = [1] * x.dim()
        shape[self.axis] = values.numel()
        return values.reshape(shape)

    def tf_weights(self) -> list[TfWeight]:
        """``mean`` and ``variance``, unless the description gives them; a count is left out."""
        if not self.from_file:
            return []
        return [
            TfWeight("mean", self.mean, trainable=False),
            TfWeight("variance", self.variance, trainable=False),
        ]

    def extra_repr(self) -> str:
        """The shape of the statistics."""
        return f"{tuple(self.mean.shape)}, axis={self.axis}, invert={self.invert}"


# ---- builders ------------------------------------------------------------------------------------


def _axis(spec: LayerSpec, default: int = -1) -> int:
    axes = as_list(spec.config.get("axis", default))
    if len(axes) != 1 or type(axes[0]) is not int:
        raise refuse(f"axis={spec.config.get('axis')!r}; one axis is expected")
    return int(axes[0])


def _batch_normalization(spec: LayerSpec) -> nn.Module:
    if spec.config.get("renorm"):
        raise refuse("renorm=True; batch renormalization is not ported")
    if spec.config.get("virtual_batch_size") or spec.config.get("adjustment"):
        raise refuse("virtual_batch_size or adjustment, which are not ported")
    (channels,) = weight_shape(spec, "moving_mean", "running_mean", rank=1)
    return BatchNormalization(
        channels,
        _axis(spec),
        number(spec, "momentum", 0.99),
        number(spec, "epsilon", 1e-3),
        flag(spec, "center", True),
        flag(spec, "scale", True),
        spec.keras_major,
    )


def _layer_normalization(spec: LayerSpec) -> nn.Module:
    if spec.config.get("rms_scaling"):
        raise refuse("rms_scaling=True, which is not ported")
    axes = as_list(spec.config.get("axis", -1))
    if not axes or any(type(axis) is not int for axis in axes):
        raise refuse(f"axis={spec.config.get('axis')!r}; axes are expected")
    center, scale = flag(spec, "center", True), flag(spec, "scale", True)
    if not center and not scale:
        raise refuse("neither center nor scale: the file does not tell its size")
    shape = weight_shape(spec, *(["gamma"] if scale else []), "beta", rank=len(axes))
    epsilon = number(spec, "epsilon", 1e-3)
    return LayerNormalization(tuple(map(int, axes)), shape, epsilon, center, scale)


def _group_normalization(spec: LayerSpec) -> nn.Module:
    center, scale = flag(spec, "center", True), flag(spec, "scale", True)
    groups = spec.config.get("groups", 32)
    if type(groups) is not int or (groups < 1 and groups != -1):
        raise refuse(f"groups={groups!r}; a positive integer or -1 is expected")
    channels = 0
    if center or scale:
        (channels,) = weight_shape(spec, *(["gamma"] if scale else []), "beta", rank=1)
    epsilon = number(spec, "epsilon", 1e-3)
    return GroupNormalization(groups, channels, _axis(spec), epsilon, center, scale)


def _unit_normalization(spec: LayerSpec) -> nn.Module:
    axes = as_list(spec.config.get("axis", -1))
    if not axes or any(type(axis) is not int for axis in axes):
        raise refuse(f"axis={spec.config.get('axis')!r}; axes are expected")
    return UnitNormalization(axes)


def _normalization(spec: LayerSpec) -> nn.Module:
    axis = spec.config.get("axis", -1)
    axes = as_list(axis) if axis is not None else []
    if len(axes) > 1 or any(type(one) is not int for one in axes):
        raise refuse(f"axis={axis!r}; one axis or none is ported")
    mean, variance = spec.config.get("mean"), spec.config.get("variance")
    invert = flag(spec, "invert", False)
    place = int(axes[0]) if axes else None
    if mean is None or variance is None:
        return Normalization(weight_shape(spec, "mean"), place, invert)
    try:
        given = [torch.tensor(value, dtype=torch.float32) for value in (mean, variance)]
    except (TypeError, ValueError, RuntimeError) as error:
        raise refuse("its mean or variance is no array of numbers") from error
    if given[0].shape != given[1].shape:
        given = list(torch.broadcast_tensors(*given))
    if given[0].dim() > 1:
        given = [value.squeeze() for value in given]
    layer = Normalization(tuple(given[0].shape), place, invert)
    layer.from_file = False
    layer.mean.copy_(given[0])
    layer.variance.copy_(given[1])
    return layer


BUILDERS: dict[str, Builder] = {
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "GroupNormalization": _group_normalization,
    "UnitNormalization": _unit_normalization,
    "Normalization": _normalization,
}
