"""Normalizations with TF's epsilon, momentum and variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.arguments import (
    array,
    axes_of,
    expect,
    flag,
    integer,
    number,
    one_axis,
    refuse,
    refuse_if_set,
    unsupported,
    weight_shape,
)


def _scale_and_center(gamma: Tensor | None, beta: Tensor | None) -> list[TfWeight]:
    found = (("gamma", gamma), ("beta", beta))
    return [TfWeight(name, tensor) for name, tensor in found if tensor is not None]


def _shown_flags(gamma: Tensor | None, beta: Tensor | None) -> list[str]:
    return ["scale=False"] * (gamma is None) + ["center=False"] * (beta is None)


class BatchNormalization(_BatchNorm):
    """``keras.layers.BatchNormalization``: over all axes but one.

    PyTorch's batch normalization with TF's rules: ``epsilon`` is 1e-3 unless said otherwise,
    ``moving = moving * momentum + batch * (1 - momentum)`` (PyTorch's ``momentum`` is one minus
    TF's), and the moving variance takes up the batch's *biased* variance, except in Keras 2 where
    TF's fused kernel runs (images and volumes), which gives the unbiased one.  The statistics of
    one value per channel are no error, as in TF.

    ``nn.SyncBatchNorm.convert_sync_batchnorm`` does not know that the channels are last.

    Attributes:
        weight, bias: ``gamma`` and ``beta``, or None.
        running_mean, running_var: ``moving_mean`` and ``moving_variance``.
        frozen: whether it uses the moving statistics and leaves them alone in training, too: what
            ``trainable=False`` means for this layer since TF 2.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        *,
        frozen: bool = False,
        keras_major: int = 3,
    ) -> None:
        super().__init__(channels, epsilon, 1 - momentum)
        self.axis, self.frozen, self.keras_major = axis, frozen, keras_major
        if not scale:
            self.register_parameter("weight", None)
        if not center:
            self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """Statistics and parameters as Keras makes them."""
        self.reset_running_stats()
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """The statistics of the batch in training, the moving ones otherwise."""
        x = input.movedim(self.axis, 1)
        x = x.unsqueeze(2) if input.dim() == 3 else x  # an image of one row keeps memory order
        if self.training and not self.frozen:
            y = self._trained(x, self._is_fused(input))
        else:
            mean, variance = self.running_mean, self.running_var
            y = F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        return (y.squeeze(2) if input.dim() == 3 else y).movedim(1, self.axis)

    def _is_fused(self, input: Tensor) -> bool:
        last = input.dim() - 1
        fits = input.dim() in (4, 5) and self.axis % input.dim() in (1, last)
        return self.keras_major == 2 and fits

    def _trained(self, x: Tensor, is_fused: bool) -> Tensor:
        """By the batch's statistics, which PyTorch puts into buffers that were empty before."""
        count = x.numel() // x.shape[1]
        if isinstance(count, int) and count == 1:  # PyTorch refuses it, or divides by zero
            mean, unbiased = x.detach().flatten(), torch.zeros_like(self.running_var)
            zeros = (unbiased, unbiased)
            y = F.batch_norm(x - x, *zeros, self.weight, self.bias, False, 0.0, self.eps)
        else:
            mean, unbiased = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
            y = torch.batch_norm(
                x, self.weight, self.bias, mean, unbiased, True, 1.0, self.eps,
                torch.backends.cudnn.enabled,
            )  # fmt: skip
        with torch.no_grad():
            variance = unbiased if is_fused else unbiased * ((count - 1) / count)
            self._take_up(mean, variance)
        return y

    def _take_up(self, mean: Tensor, variance: Tensor) -> None:
        """Into the moving statistics; without a momentum, the average of all batches."""
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        for moving, value in ((self.running_mean, mean), (self.running_var, variance)):
            moving.copy_(moving * (1 - share) + value * share)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes will do."""

    def tf_weights(self) -> list[TfWeight]:
        """``gamma``, ``beta``, ``moving_mean``, ``moving_variance``."""
        return [
            *_scale_and_center(self.weight, self.bias),
            TfWeight("moving_mean", self.running_mean, trainable=False),
            TfWeight("moving_variance", self.running_var, trainable=False),
        ]

    def extra_repr(self) -> str:
        """In TF's terms."""
        shown = [f"{self.num_features}, epsilon={self.eps:g}"]
        shown += [] if self.momentum is None else [f"momentum={1 - self.momentum:.6g}"]
        shown += [] if self.axis == -1 else [f"axis={self.axis}"]
        shown += _shown_flags(self.weight, self.bias)
        return ", ".join([*shown, *["frozen=True"] * self.frozen])


class _Scaled(nn.Module):
    """What has a learned scale, an offset, or neither."""

    def __init__(self, shape: tuple[int, ...], center: bool, scale: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape)) if scale else None
        self.bias = nn.Parameter(torch.zeros(shape)) if center else None

    def tf_weights(self) -> list[TfWeight]:
        """``gamma`` and ``beta``."""
        return _scale_and_center(self.weight, self.bias)


class LayerNormalization(_Scaled):
    """``keras.layers.LayerNormalization``: over some axes of each example.

    Attributes:
        weight, bias: ``gamma`` and ``beta``, of the sizes of these axes, or None.
    """

    def __init__(
        self,
        axes: tuple[int, ...],
        shape: tuple[int, ...],
        epsilon: float,
        center: bool,
        scale: bool,
        *,
        rms_scaling: bool = False,
    ) -> None:
        super().__init__(shape, center, scale)
        self.axes, self.epsilon, self.rms_scaling = axes, epsilon, rms_scaling

    def forward(self, x: Tensor) -> Tensor:
        """The axes are moved to the end where they are not there."""
        last = tuple(range(-len(self.axes), 0))
        y = x.movedim(self.axes, last)
        if self.rms_scaling:  # Keras' name; what it divides by is the deviation
            variance = y.var(last, correction=0, keepdim=True)
            y = y * (variance + self.epsilon).rsqrt()
            y = y if self.weight is None else y * self.weight
        else:
            shape = y.shape[-len(self.axes) :]
            y = F.layer_norm(y, shape, self.weight, self.bias, self.epsilon)
        return y.movedim(last, self.axes)

    def extra_repr(self) -> str:
        """Axes and epsilon, then what is not at its default."""
        shape = () if self.weight is self.bias else (self.weight, self.bias)
        sizes = next((str(tuple(one.shape)) for one in shape if one is not None), "")
        shown = [*[sizes] * bool(sizes), f"axis={self.axes}, epsilon={self.epsilon:g}"]
        shown += ["rms_scaling=True"] * self.rms_scaling
        return ", ".join(shown + _shown_flags(self.weight, self.bias))


class RMSNormalization(nn.Module):
    """``keras.layers.RMSNormalization``: divided by the root of the mean of squares."""

    def __init__(self, axes: tuple[int, ...], shape: tuple[int, ...], epsilon: float) -> None:
        super().__init__()
        self.axes, self.epsilon = axes, epsilon
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Over some axes of each example; the scale is that of the last ones, as in Keras."""
        mean = x.square().mean(self.axes, keepdim=True)
        return x * (mean + self.epsilon).rsqrt() * self.weight

    def tf_weights(self) -> list[TfWeight]:
        """``scale``."""
        return [TfWeight("scale", self.weight)]

    def extra_repr(self) -> str:
        """Shape, axes and epsilon."""
        return f"{tuple(self.weight.shape)}, axis={self.axes}, epsilon={self.epsilon:g}"


class GroupNormalization(_Scaled):
    """``keras.layers.GroupNormalization``: over space and a group of channels of each example.

    Attributes:
        weight, bias: ``gamma`` and ``beta``, one for each channel, or None.
    """

    def __init__(
        self, groups: int, channels: int, axis: int, epsilon: float, center: bool, scale: bool
    ) -> None:
        super().__init__((channels,), center, scale)
        self.groups, self.axis, self.epsilon = groups, axis, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Of any rank from 2 on; -1 groups are as many as channels."""
        y = x.movedim(self.axis, 1)
        groups = y.shape[1] if self.groups == -1 else self.groups
        bias = None if self.weight is None else self.bias  # PyTorch takes none without a weight
        y = F.group_norm(y, groups, self.weight, bias, self.epsilon)
        if self.bias is not None and bias is None:
            y = y + self.bias.reshape(-1, *(1,) * (x.dim() - 2))
        return y.movedim(1, self.axis)

    def extra_repr(self) -> str:
        """Groups and epsilon, then what is not at its default."""
        shown = [f"groups={self.groups}, epsilon={self.epsilon:g}"]
        shown += [] if self.axis == -1 else [f"axis={self.axis}"]
        return ", ".join(shown + _shown_flags(self.weight, self.bias))


class UnitNormalization(nn.Module):
    """``keras.layers.UnitNormalization``: each example has length 1 over some axes."""

    def __init__(self, axes: Sequence[int], smallest: float) -> None:
        super().__init__()
        self.axes, self.smallest = tuple(axes), smallest

    def forward(self, x: Tensor) -> Tensor:
        """Zeros stay zeros: no sum of squares counts as less than ``smallest``."""
        squares = x.square().sum(self.axes, keepdim=True)
        return x * squares.clamp_min(self.smallest).rsqrt()

    def extra_repr(self) -> str:
        """The axes."""
        return f"axis={self.axes}"


class Normalization(nn.Module):
    """``keras.layers.Normalization``: by a mean and a variance, adapted to data or given.

    Attributes:
        mean, variance: of the axes that are kept, in the order of these axes.
        count: how many values they were adapted to; None where they were given.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor | None

    def __init__(
        self,
        mean: Tensor,
        variance: Tensor,
        axes: tuple[int, ...],
        *,
        invert: bool = False,
        adapted: bool = True,
        counted: bool = True,
    ) -> None:
        super().__init__()
        self.axes, self.invert, self.adapted = axes, invert, adapted
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)
        count = torch.zeros((), dtype=torch.int64) if adapted and counted else None
        self.register_buffer("count", count)

    def forward(self, x: Tensor) -> Tensor:
        """``(x - mean) / deviation``, or back; no deviation counts as less than 1e-7."""
        x = x if x.is_floating_point() else x.to(self.mean.dtype)
        mean, variance = self._spread(x, self.mean), self._spread(x, self.variance)
        deviation = variance.sqrt().clamp_min(1e-7)
        return mean + x * deviation if self.invert else (x - mean) / deviation

    def _spread(self, x: Tensor, values: Tensor) -> Tensor:
        """The last of the kept axes are those of ``values``, as in NumPy."""
        kept = sorted(axis % x.dim() for axis in self.axes)
        shape = [1] * x.dim()
        for place, size in zip(reversed(kept), reversed(values.shape), strict=False):
            shape[place] = size
        return values.reshape(shape)

    def tf_weights(self) -> list[TfWeight]:
        """``mean``, ``variance`` and ``count``, unless mean and variance are arguments."""
        if not self.adapted:
            return []
        found = [("mean", self.mean), ("variance", self.variance), ("count", self.count)]
        return [TfWeight(name, one, trainable=False) for name, one in found if one is not None]

    def extra_repr(self) -> str:
        """Shape and axes, then what is not at its default."""
        shown = f"{tuple(self.mean.shape)}, axis={self.axes}"
        return shown + ", invert=True" * self.invert


# ---- builders ------------------------------------------------------------------------------------


def _batch_normalization(spec: LayerSpec) -> nn.Module:
    refuse_if_set(spec, "renorm", "virtual_batch_size", "adjustment")
    shape = weight_shape(spec, "moving_mean", rank=1)
    is_frozen = spec.config.get("trainable", True) is False and spec.keras_major > 1
    return BatchNormalization(
        shape[0],
        one_axis(spec),
        number(spec, "momentum", 0.99),
        number(spec, "epsilon", 1e-3),
        flag(spec, "center", True),
        flag(spec, "scale", True),
        frozen=is_frozen,
        keras_major=spec.keras_major,
    )


def _axes_in_order(spec: LayerSpec, default: int = -1) -> tuple[int, ...]:
    """Several axes of a shape: Keras sorts them by their numbers, whatever their signs."""
    axes = tuple(sorted(axes_of(spec, default)))
    if len({axis < 0 for axis in axes}) > 1 or len(set(axes)) < len(axes):
        raise unsupported(spec, f"axis={list(axes)}: axes counted from both ends, or twice")
    if 0 in axes:
        raise unsupported(spec, f"axis={list(axes)}: statistics over the batch")
    return axes


def _shape(spec: LayerSpec, names: Sequence[str], rank: int) -> tuple[int, ...]:
    """Of gamma and beta, which agree; empty where there is neither."""
    shapes = [weight_shape(spec, name, rank=rank) for name in names]
    for shape in shapes[1:]:
        expect(names[1], shape, shapes[0])
    return shapes[0] if shapes else ()


def _layer_normalization(spec: LayerSpec) -> nn.Module:
    axes = _axes_in_order(spec)
    is_rms = flag(spec, "rms_scaling", False)
    scale = flag(spec, "scale", True) or is_rms
    center = flag(spec, "center", True) and not is_rms
    shape = _shape(spec, ["gamma"] * scale + ["beta"] * center, len(axes))
    epsilon = number(spec, "epsilon", 1e-3)
    return LayerNormalization(axes, shape, epsilon, center, scale, rms_scaling=is_rms)


def _rms_normalization(spec: LayerSpec) -> nn.Module:
    axes = _axes_in_order(spec)
    shape = weight_shape(spec, "scale", rank=len(axes))
    return RMSNormalization(axes, shape, number(spec, "epsilon", 1e-6))


def _group_normalization(spec: LayerSpec) -> nn.Module:
    groups, axis = integer(spec, "groups", 32), one_axis(spec)
    if groups < 1 and groups != -1:
        raise refuse(f"groups={groups}, where a positive integer or -1 is expected")
    if axis < -1 or axis == 0:
        raise unsupported(spec, f"axis={axis}")
    center, scale = flag(spec, "center", True), flag(spec, "scale", True)
    shape = _shape(spec, ["gamma"] * scale + ["beta"] * center, 1)
    if shape and shape[0] % groups:
        raise refuse(f"groups={groups} of {shape[0]} channels")
    epsilon = number(spec, "epsilon", 1e-3)
    return GroupNormalization(groups, shape[0] if shape else 0, axis, epsilon, center, scale)


def _unit_normalization(spec: LayerSpec) -> nn.Module:
    # Keras 3 bounds the reciprocal of the length, tf.math.l2_normalize the sum of squares
    smallest = 1e-24 if spec.keras_major == 3 else 1e-12
    return UnitNormalization(axes_of(spec), smallest)


def _normalization(spec: LayerSpec) -> nn.Module:
    axes = () if spec.config.get("axis", -1) in (None, [], ()) else axes_of(spec)
    mean, variance = spec.config.get("mean"), spec.config.get("variance")
    invert = flag(spec, "invert", False)
    if mean is None and variance is None:
        shape = () if not axes and "mean" not in spec.weights else _adapted_shape(spec, len(axes))
        return Normalization(
            torch.zeros(shape), torch.ones(shape), axes, invert=invert,
            counted="count" in spec.weights,
        )  # fmt: skip
    given, spread = _given(spec, "mean"), _given(spec, "variance")
    if given.shape != spread.shape or given.dim() > max(1, len(axes)):
        raise refuse(
            f"its mean has shape {tuple(given.shape)}, its variance {tuple(spread.shape)}, for "
            f"axis={list(axes)}"
        )
    return Normalization(given, spread, axes, invert=invert, adapted=False)


def _adapted_shape(spec: LayerSpec, rank: int) -> tuple[int, ...]:
    shape = weight_shape(spec, "mean", rank=rank)
    expect("variance", weight_shape(spec, "variance", rank=rank), shape)
    return shape


def _given(spec: LayerSpec, key: str) -> Tensor:
    value: Any = array(spec.config.get(key))
    try:
        values = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise refuse(f"its {key} is no array of numbers") from error
    while values.dim() > 1 and values.shape[0] == 1:  # Keras 2 keeps the axes it reduced
        values = values[0]
    return values


BUILDERS: dict[str, Builder] = {
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "GroupNormalization": _group_normalization,
    "UnitNormalization": _unit_normalization,
    "Normalization": _normalization,
}
