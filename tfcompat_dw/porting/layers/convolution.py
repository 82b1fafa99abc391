"""Convolutions: PyTorch's own modules with TF's padding, depthwise ones with TF's filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw import layers as depthwise
from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.activation import activation_of
from tfcompat_dw.porting.layers.arguments import (
    back,
    channels_last,
    first,
    flag,
    pairs,
    refuse,
    same_ends,
    sizes,
    text,
    weight_name,
    weight_shape,
)

Pads = tuple[tuple[int, int], ...]
Padding = str | Pads
"""``"same"``, ``"valid"``, ``"causal"``, or (before, after) of each axis."""


def kernel_axes(rank: int) -> tuple[int, ...]:
    """``[..., in, out]`` as PyTorch's ``[out, in, ...]``."""
    return (rank + 1, rank, *range(rank))


class _Activated:
    """What convolutions and dense layers share."""

    activation: nn.Module | None

    def _activated(self, x: Tensor) -> Tensor:
        return x if self.activation is None else self.activation(x)


class _Conv(_Activated):
    """A dense convolution; its other parent is one of PyTorch's."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    kernel_size: tuple[int, ...]
    groups: int
    tf_padding: Padding
    is_last: bool
    kernel_name: str

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        y = self._convolved(first(x, self.is_last))
        return self._activated(back(y, self.is_last))

    def _convolved(self, x: Tensor) -> Tensor:
        x, symmetric = self._padded(x)
        stride = self.stride
        if max(self.kernel_size) == 1 and max(stride) > 1:
            # oneDNN's gradient of a strided 1x1 convolution with channels last and few channels
            # writes past its buffer in PyTorch 2.13 (oneDNN issue 6035): pick the pixels before
            picked = [slice(None), slice(None), *(slice(None, None, step) for step in stride)]
            x = x[tuple(picked)].clone(memory_format=torch.preserve_format)
            stride = (1,) * len(stride)
        function: Any = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
        y: Tensor = function(
            x, self.weight, self.bias, stride, symmetric, self.dilation, self.groups
        )
        return y

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The input, and what PyTorch pads on both sides of it; other padding is a copy."""
        pads = self._pads(x.shape[2:])
        if all(isinstance(end, int) for pair in pads for end in pair) and all(
            before == after for before, after in pads
        ):
            return x, tuple(before for before, _ in pads)
        flat = [end for pair in reversed(pads) for end in pair]
        return F.pad(x, flat), (0,) * len(pads)

    def _pads(self, shape: Sequence[int]) -> Pads:
        if self.tf_padding == "valid":
            return ((0, 0),) * len(shape)
        if self.tf_padding == "causal":
            return (((self.kernel_size[0] - 1) * self.dilation[0], 0),)
        if self.tf_padding == "same":
            windows = zip(shape, self.kernel_size, self.stride, self.dilation, strict=True)
            return tuple(same_ends(*window) for window in windows)
        assert not isinstance(self.tf_padding, str)
        return self.tf_padding

    def tf_weights(self) -> list[TfWeight]:
        """``kernel`` and ``bias``."""
        axes = kernel_axes(len(self.stride))
        kernel = TfWeight(self.kernel_name, self.weight, axes)
        return [kernel] + ([] if self.bias is None else [TfWeight("bias", self.bias)])

    def extra_repr(self) -> str:
        """PyTorch's, with TF's padding."""
        own = [
            f"{self.weight.shape[1] * self.groups}, {self.weight.shape[0]}",
            f"kernel_size={self.kernel_size}",
            f"padding={self.tf_padding!r}",
        ]
        if max(self.stride) > 1:
            own.append(f"stride={self.stride}")
        if max(self.dilation) > 1:
            own.append(f"dilation={self.dilation}")
        if self.groups > 1:
            own.append(f"groups={self.groups}")
        if self.bias is None:
            own.append("bias=False")
        if self.activation is not None:
            own.append(f"activation={_named(self.activation)}")
        return ", ".join(own)


def _named(activation: nn.Module) -> str:
    return activation.extra_repr() if hasattr(activation, "name") else repr(activation)


class Conv1D(_Conv, nn.Conv1d):
    """``[n, w, c]`` in and out."""


class Conv2D(_Conv, nn.Conv2d):
    """``[n, h, w, c]`` in and out."""


class Conv3D(_Conv, nn.Conv3d):
    """``[n, d, h, w, c]`` in and out."""


CONVOLUTIONS: tuple[type[Any], ...] = (Conv1D, Conv2D, Conv3D)


class _ConvTranspose(_Activated):
    """The gradient of a convolution with TF's padding, cut to TF's output size."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    kernel_size: tuple[int, ...]
    tf_padding: str
    extra: tuple[int, ...] | None
    is_last: bool

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        if output_size is not None:
            raise ValueError("output_size: TF's padding decides on it")
        x = first(input, self.is_last)
        function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[
            len(self.stride) - 1
        ]
        full: Tensor = function(x, self.weight, None, self.stride)
        for axis, size in enumerate(x.shape[2:]):
            full = self._cut(full, axis, size)
        if self.bias is not None:
            full = full + self.bias.reshape(-1, *(1,) * len(self.stride))
        return self._activated(back(full, self.is_last))

    def _cut(self, full: Tensor, axis: int, size: int) -> Tensor:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        out = self._size(axis, size)
        missing = (size - 1) * stride + kernel - out
        before = max(missing, 0) // 2 if self.tf_padding == "same" else 0
        length = (size - 1) * stride + kernel - before
        full = full.narrow(axis + 2, before, min(length, out))
        if out > length:
            ends = [0, 0] * (len(self.stride) - axis - 1) + [0, out - length]
            full = F.pad(full, ends)
        return full

    def _size(self, axis: int, size: int) -> int:
        """``keras/src/backend/common/backend_utils.py``."""
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        if self.extra is None:
            return size * stride + (max(kernel - stride, 0) if self.tf_padding == "valid" else 0)
        pad = kernel // 2 if self.tf_padding == "same" else 0
        return (size - 1) * stride + kernel - 2 * pad + self.extra[axis]

    def tf_weights(self) -> list[TfWeight]:
        """``kernel``, ``[..., out, in]``, and ``bias``."""
        kernel = TfWeight("kernel", self.weight, kernel_axes(len(self.stride)))
        return [kernel] + ([] if self.bias is None else [TfWeight("bias", self.bias)])

    def extra_repr(self) -> str:
        """Channels, kernel, stride and TF's padding."""
        own = [
            f"{self.weight.shape[0]}, {self.weight.shape[1]}",
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.tf_padding!r}",
        ]
        if self.activation is not None:
            own.append(f"activation={_named(self.activation)}")
        return ", ".join(own)


class Conv1DTranspose(_ConvTranspose, nn.ConvTranspose1d):
    """``[n, w, c]`` in and out."""


class Conv2DTranspose(_ConvTranspose, nn.ConvTranspose2d):
    """``[n, h, w, c]`` in and out."""


class Conv3DTranspose(_ConvTranspose, nn.ConvTranspose3d):
    """``[n, d, h, w, c]`` in and out."""


TRANSPOSED: tuple[type[Any], ...] = (Conv1DTranspose, Conv2DTranspose, Conv3DTranspose)


class _Depthwise(_Activated):
    """One of this package's layers with an activation."""

    weight: Any
    bias: Any
    kernel_name: str
    tf_kernel_shape: tuple[int, ...] | None

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        return self._activated(super().forward(x))  # type: ignore[misc]

    def tf_weights(self) -> list[TfWeight]:
        """The filter, ``[..., in, mult]``, and ``bias``."""
        kernel = TfWeight(self.kernel_name, self.weight, shape=self.tf_kernel_shape)
        return [kernel] + ([] if self.bias is None else [TfWeight("bias", self.bias)])

    def extra_repr(self) -> str:
        """The layer's own, and the activation."""
        own = super().extra_repr()  # type: ignore[misc]
        return own if self.activation is None else f"{own}, activation={_named(self.activation)}"


class DepthwiseConv1D(_Depthwise, depthwise.DepthwiseConv1D):
    """``[n, w, c]`` in and out."""


class DepthwiseConv2D(_Depthwise, depthwise.DepthwiseConv2D):
    """``[n, h, w, c]`` in and out."""


class _Separable(_Activated):
    depthwise_weight: Any
    pointwise_weight: Any
    bias: Any

    def forward(self, x: Tensor) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        return self._activated(super().forward(x))  # type: ignore[misc]

    def tf_weights(self) -> list[TfWeight]:
        """Both filters and ``bias``."""
        kernels = [
            TfWeight("depthwise_kernel", self.depthwise_weight),
            TfWeight("pointwise_kernel", self.pointwise_weight),
        ]
        return kernels + ([] if self.bias is None else [TfWeight("bias", self.bias)])

    def extra_repr(self) -> str:
        """The layer's own, and the activation."""
        own = super().extra_repr()  # type: ignore[misc]
        return own if self.activation is None else f"{own}, activation={_named(self.activation)}"


class SeparableConv1D(_Separable, depthwise.SeparableConv1D):
    """``[n, w, c]`` in and out."""


class SeparableConv2D(_Separable, depthwise.SeparableConv2D):
    """``[n, h, w, c]`` in and out."""


class Dense(_Activated, nn.Linear):
    """``[..., in]`` to ``[..., units]``."""

    def __init__(self, inputs: int, units: int, bias: bool, activation: nn.Module | None) -> None:
        super().__init__(inputs, units, bias)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """The last axis is the one that is multiplied."""
        return self._activated(super().forward(input))

    def tf_weights(self) -> list[TfWeight]:
        """``kernel`` and ``bias``."""
        kernel = TfWeight("kernel", self.weight, (1, 0))
        return [kernel] + ([] if self.bias is None else [TfWeight("bias", self.bias)])

    def extra_repr(self) -> str:
        """PyTorch's, and the activation."""
        own = super().extra_repr()
        return own if self.activation is None else f"{own}, activation={_named(self.activation)}"


# ---- builders ------------------------------------------------------------------------------------


def _has_bias(spec: LayerSpec) -> bool:
    return flag(spec, "use_bias", True)


def _activation(spec: LayerSpec) -> nn.Module | None:
    return activation_of(spec.config.get("activation"), spec.keras_major)


def _padding(spec: LayerSpec, rank: int, *choices: str) -> Padding:
    explicit = spec.config.get("explicit_padding")
    if explicit is not None:
        return pairs(explicit, rank, "explicit_padding")
    return text(spec, "padding", "valid", *choices)


def _expect(what: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        raise refuse(f"its {what} is {found} in the file and {expected} by its arguments")


def _conv(spec: LayerSpec, rank: int) -> nn.Module:
    shape = weight_shape(spec, "kernel", "W", rank=rank + 2)
    kernel = sizes(spec, "kernel_size", rank) if "kernel_size" in spec.config else shape[:rank]
    _expect("kernel's size", shape[:rank], kernel)
    groups = sizes(spec, "groups", 1, 1)[0]
    strides, dilation = sizes(spec, "strides", rank, 1), sizes(spec, "dilation_rate", rank, 1)
    choices = ("same", "valid", "causal") if rank == 1 else ("same", "valid")
    padding = _padding(spec, rank, *choices)
    is_last = channels_last(spec)
    if rank == 2 and groups > 1 and shape[2] == 1 and shape[3] % groups == 0:
        return _grouped(spec, shape, groups, padding)
    if shape[-1] % groups or not shape[-2]:
        raise refuse(f"a kernel of {shape} in {groups} groups")
    layer = CONVOLUTIONS[rank - 1](
        shape[-2] * groups,
        shape[-1],
        kernel,
        strides,
        dilation=dilation,
        groups=groups,
        bias=_has_bias(spec),
    )
    layer.tf_padding, layer.is_last = padding, is_last
    layer.activation = _activation(spec)
    layer.kernel_name = weight_name(spec, "kernel", "W")
    if rank == 2 and is_last:
        layer.to(memory_format=torch.channels_last)
    return layer  # type: ignore[no-any-return]


def _grouped(
    spec: LayerSpec, shape: tuple[int, ...], groups: int, padding: Padding
) -> DepthwiseConv2D:
    """A Conv2D with one input channel per group is depthwise."""
    layer = DepthwiseConv2D(
        groups,
        shape[:2],
        sizes(spec, "strides", 2, 1),
        padding,  # type: ignore[arg-type]
        shape[3] // groups,
        "channels_last" if channels_last(spec) else "channels_first",
        sizes(spec, "dilation_rate", 2, 1),
        _has_bias(spec),
    )
    layer.activation = _activation(spec)
    layer.kernel_name, layer.tf_kernel_shape = "kernel", shape
    return layer


def _depthwise(spec: LayerSpec, rank: int) -> nn.Module:
    shape = weight_shape(spec, "depthwise_kernel", "kernel", "depthwise", rank=rank + 2)
    _expect("kernel's size", shape[:rank], sizes(spec, "kernel_size", rank))
    _expect("multiplier", shape[-1:], sizes(spec, "depth_multiplier", 1, 1))
    layer: Any = (DepthwiseConv1D, DepthwiseConv2D)[rank - 1](
        shape[-2],
        shape[:rank],
        sizes(spec, "strides", rank, 1),
        _depthwise_padding(spec, rank),
        shape[-1],
        "channels_last" if channels_last(spec) else "channels_first",
        sizes(spec, "dilation_rate", rank, 1),
        _has_bias(spec),
    )
    layer.activation = _activation(spec)
    layer.kernel_name = weight_name(spec, "depthwise_kernel", "kernel", "depthwise")
    layer.tf_kernel_shape = None
    return layer  # type: ignore[no-any-return]


def _depthwise_padding(spec: LayerSpec, rank: int) -> Any:
    padding = _padding(spec, rank, "same", "valid", "causal")
    if padding == "causal":
        (kernel,), (dilation,) = sizes(spec, "kernel_size", 1), sizes(spec, "dilation_rate", 1, 1)
        return (((kernel - 1) * dilation, 0),)
    return padding


def _separable(spec: LayerSpec, rank: int) -> nn.Module:
    shape = weight_shape(spec, "depthwise_kernel", rank=rank + 2)
    pointwise = weight_shape(spec, "pointwise_kernel", rank=rank + 2)
    _expect("kernel's size", shape[:rank], sizes(spec, "kernel_size", rank))
    _expect("pointwise kernel", pointwise[:-1], (*(1,) * rank, shape[-2] * shape[-1]))
    layer: Any = (SeparableConv1D, SeparableConv2D)[rank - 1](
        shape[-2],
        pointwise[-1],
        shape[:rank],
        sizes(spec, "strides", rank, 1),
        _depthwise_padding(spec, rank),
        shape[-1],
        "channels_last" if channels_last(spec) else "channels_first",
        sizes(spec, "dilation_rate", rank, 1),
        _has_bias(spec),
    )
    layer.activation = _activation(spec)
    return layer  # type: ignore[no-any-return]


def _transposed(spec: LayerSpec, rank: int) -> nn.Module:
    shape = weight_shape(spec, "kernel", rank=rank + 2)
    _expect("kernel's size", shape[:rank], sizes(spec, "kernel_size", rank))
    if max(sizes(spec, "dilation_rate", rank, 1)) > 1:
        raise refuse("dilation_rate above 1; transposed convolutions are ported without dilation")
    layer = TRANSPOSED[rank - 1](
        shape[-1], shape[-2], shape[:rank], sizes(spec, "strides", rank, 1), bias=_has_bias(spec)
    )
    layer.tf_padding = text(spec, "padding", "valid", "same", "valid")
    extra = spec.config.get("output_padding")
    layer.extra = (
        None if extra is None else tuple(p[0] for p in pairs(extra, rank, "output_padding"))
    )
    layer.is_last = channels_last(spec)
    layer.activation = _activation(spec)
    return layer  # type: ignore[no-any-return]


def _dense(spec: LayerSpec) -> nn.Module:
    inputs, units = weight_shape(spec, "kernel", "W", rank=2)
    if "units" in spec.config:
        _expect("number of units", (units,), sizes(spec, "units", 1))
    if spec.config.get("lora_rank") or spec.config.get("quantization_mode"):
        raise refuse("LoRA or quantized weights; merge or dequantize them before saving")
    return Dense(inputs, units, _has_bias(spec), _activation(spec))


BUILDERS: dict[str, Builder] = {
    "Conv1D": lambda spec: _conv(spec, 1),
    "Conv2D": lambda spec: _conv(spec, 2),
    "Conv3D": lambda spec: _conv(spec, 3),
    "Conv1DTranspose": lambda spec: _transposed(spec, 1),
    "Conv2DTranspose": lambda spec: _transposed(spec, 2),
    "Conv3DTranspose": lambda spec: _transposed(spec, 3),
    "DepthwiseConv1D": lambda spec: _depthwise(spec, 1),
    "DepthwiseConv2D": lambda spec: _depthwise(spec, 2),
    "SeparableConv1D": lambda spec: _separable(spec, 1),
    "SeparableConv2D": lambda spec: _separable(spec, 2),
    "Dense": _dense,
}
