"""Convolutions: PyTorch's own modules with TF's padding, depthwise ones with TF's filters.

Images keep Keras' order of axes.  PyTorch convolves a view of them with the channels in front,
which is its channels_last memory format: nothing is copied for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw import layers as depthwise
from tfcompat_dw.padding import same_padding
from tfcompat_dw.porting.layer import Builder, LayerSpec, TfWeight
from tfcompat_dw.porting.layers.activation import Function, activation_of
from tfcompat_dw.porting.layers.arguments import (
    channels_last,
    expect,
    flag,
    from_first,
    pairs,
    refuse,
    refuse_if_set,
    sizes,
    text,
    to_first,
    unsupported,
    weight_shape,
)

Pads = tuple[tuple[int, int], ...]
Padding = str | Pads
"""``"same"``, ``"valid"``, ``"causal"``, or (before, after) of each axis."""
_MEMORY_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def _kernel_axes(rank: int) -> tuple[int, ...]:
    """``[..., in, out]`` as PyTorch's ``[out, in, ...]``."""
    return (rank + 1, rank, *range(rank))


class _Activated:
    """What ends with an activation: a plain function, so that the module has no children."""

    activation: Function | None = None

    def _activated(self, x: Tensor) -> Tensor:
        return x if self.activation is None else self.activation(x)

    def _with_activation(self, shown: list[str]) -> str:
        return ", ".join([*shown, *([f"activation={self.activation}"] if self.activation else [])])


def _weights(bias: Tensor | None, *kernels: TfWeight) -> list[TfWeight]:
    return [*kernels] + ([] if bias is None else [TfWeight("bias", bias)])


# ---- dense convolutions --------------------------------------------------------------------------


class _Windowed(_Activated):
    """A convolution of PyTorch's, the class' other parent, or its transpose: images in and out."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    kernel_size: tuple[int, ...]
    in_channels: int
    out_channels: int
    is_last: bool

    def forward(self, input: Tensor) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        image = self._computed(to_first(input, self.is_last))
        return self._activated(from_first(image, self.is_last))

    def _computed(self, x: Tensor) -> Tensor:
        """Of images with their channels in front."""
        raise NotImplementedError


class _Convolution(_Windowed):
    """A dense convolution.

    Attributes:
        weight: PyTorch's ``[out, in, ...]``.
        tf_padding: ``"same"``, ``"valid"``, ``"causal"``, or (before, after) of each axis.
        is_last: whether the channels are the last axis.
    """

    dilation: tuple[int, ...]
    groups: int

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel_size: tuple[int, ...],
        strides: tuple[int, ...],
        padding: Padding,
        dilation_rate: tuple[int, ...],
        groups: int,
        use_bias: bool,
        is_last: bool,
        activation: Function | None,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]
            in_channels, filters, kernel_size, strides, 0, dilation_rate, groups, use_bias
        )
        self.tf_padding, self.is_last, self.activation = padding, is_last, activation
        _order_in_memory(self.weight, is_last)

    def _computed(self, x: Tensor) -> Tensor:
        stride, rank = self.stride, len(self.stride)
        x, padding = self._padded(x)
        if max(self.kernel_size) == 1 and max(stride) > 1:
            # oneDNN's gradient of a strided 1x1 convolution with channels last and few channels
            # writes past its buffer in PyTorch 2.13 (oneDNN issue 6035): pick the pixels before
            steps = tuple(slice(None, None, step) for step in stride)
            x = x[(slice(None), slice(None)) + steps]  # noqa: RUF005  # Python 3.10
            x = _in_order(x, self.is_last)
            stride = (1,) * rank
        dilation, groups, weight = self.dilation, self.groups, self.weight
        if rank > 1:
            convolve: Any = F.conv2d if rank == 2 else F.conv3d
            return cast(Tensor, convolve(x, weight, self.bias, stride, padding, dilation, groups))
        # as an image of one row: conv1d would not keep the channels last in memory
        x, weight, window = x.unsqueeze(2), weight.unsqueeze(2), (stride, padding, dilation)
        strides, pads, gaps = ((start, *one) for start, one in zip((1, 0, 1), window, strict=True))
        return F.conv2d(x, weight, self.bias, strides, pads, gaps, groups).squeeze(2)

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The input, and what PyTorch pads on both sides; unequal sides take a padded copy."""
        pads = self._pads(x.shape[2:])
        ends = [end for pair in reversed(pads) for end in pair]
        is_known = all(isinstance(end, int) for end in ends)
        is_symmetric = is_known and all(before == after for before, after in pads)
        if is_symmetric and (max(self.kernel_size) > 1 or not any(ends)):
            return x, tuple(before for before, _ in pads)
        return F.pad(x, ends), (0,) * len(pads)

    def _pads(self, size: Sequence[int]) -> Pads:
        """(before, after) of each axis; SymInts where the input's size is one and matters."""
        if not isinstance(self.tf_padding, str):
            return self.tf_padding
        window = zip(size, self.kernel_size, self.stride, self.dilation, strict=True)
        if self.tf_padding == "causal":
            return tuple(((k - 1) * d, 0) for _, k, _, d in window)
        if self.tf_padding == "same":
            # with stride 1 the size does not matter, so none enters an exported program
            return tuple(same_padding(1 if s == 1 else n, k, s, d) for n, k, s, d in window)
        return ((0, 0),) * len(size)

    def tf_weights(self) -> list[TfWeight]:
        """``kernel`` and ``bias``."""
        axes = _kernel_axes(len(self.stride))
        return _weights(self.bias, TfWeight("kernel", self.weight, axes))

    def extra_repr(self) -> str:
        """Sizes, then what is not at its default."""
        shown = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        shown += [f"strides={self.stride}"] if max(self.stride) > 1 else []
        shown += [f"padding={self.tf_padding!r}"] if self.tf_padding != "valid" else []
        shown += [f"dilation_rate={self.dilation}"] if max(self.dilation) > 1 else []
        shown += [f"groups={self.groups}"] if self.groups > 1 else []
        return self._with_activation([*shown, *_shown_flags(self.bias, self.is_last)])


def _shown_flags(bias: Tensor | None, is_last: bool) -> list[str]:
    shown = ["use_bias=False"] if bias is None else []
    return shown + ([] if is_last else ["data_format='channels_first'"])


def _order_in_memory(weight: Tensor, is_last: bool) -> None:
    """PyTorch keeps channels-last images in that order if its weights are in it, too."""
    weight.data = _in_order(weight.data, is_last)


def _in_order(x: Tensor, is_last: bool) -> Tensor:
    """``[n, c, ...]`` without gaps in memory, in the order that the channels' place asks for."""
    memory_format = _MEMORY_FORMATS.get(x.dim() - 2) if is_last else None
    return x.contiguous(memory_format=memory_format or torch.contiguous_format)


class Conv1D(_Convolution, nn.Conv1d):
    """``keras.layers.Conv1D``: ``[n, w, c]`` to ``[n, out_w, filters]``."""


class Conv2D(_Convolution, nn.Conv2d):
    """``keras.layers.Conv2D``: ``[n, h, w, c]`` to ``[n, out_h, out_w, filters]``."""


class Conv3D(_Convolution, nn.Conv3d):
    """``keras.layers.Conv3D``: ``[n, d, h, w, c]`` to ``[n, out_d, out_h, out_w, filters]``."""


# ---- transposed convolutions ---------------------------------------------------------------------


class _TransposedConvolution(_Windowed):
    """The gradient of a TF convolution with respect to its input.

    Attributes:
        weight: PyTorch's ``[in, out, ...]``.
        overlap: for each axis, how much longer the windows reach than the output.
    """

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel_size: tuple[int, ...],
        strides: tuple[int, ...],
        padding: str,
        output_padding: tuple[int, ...] | None,
        use_bias: bool,
        is_last: bool,
        activation: Function | None,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]
            in_channels, filters, kernel_size, strides, bias=use_bias
        )
        self.tf_padding, self.is_last, self.activation = padding, is_last, activation
        self.tf_output_padding = output_padding
        extra = output_padding or (None,) * len(strides)
        window = zip(kernel_size, strides, extra, strict=True)
        self.overlap = tuple(_overlap(padding, *one) for one in window)
        _order_in_memory(self.weight, is_last)

    def _computed(self, x: Tensor) -> Tensor:
        """An overlap is cut in halves, an odd one more at the end; beyond the windows is bias.

        ``output_padding`` is not left to PyTorch: for a channels-last image and a kernel smaller
        than its stride, its gradient writes past its arrays (2.13, processors without AVX-512).
        """
        rank = len(self.stride)
        before = tuple(max(overlap, 0) // 2 for overlap in self.overlap)
        beyond = tuple(max(-overlap, 0) for overlap in self.overlap)
        transpose: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        bias = None if any(beyond) else self.bias
        y = transpose(x, self.weight, bias, self.stride, before)
        if any(beyond):
            y = F.pad(y, [end for size in reversed(beyond) for end in (0, size)])
            y = y if self.bias is None else y + self.bias.view(-1, *[1] * rank)
        for axis, overlap in enumerate(self.overlap):
            if overlap > 0 and overlap % 2:
                y = y.narrow(axis + 2, 0, y.shape[axis + 2] - 1)
        return cast(Tensor, y)

    def tf_weights(self) -> list[TfWeight]:
        """``kernel``, in TF ``[..., out, in]``, and ``bias``."""
        axes = _kernel_axes(len(self.stride))
        return _weights(self.bias, TfWeight("kernel", self.weight, axes))

    def extra_repr(self) -> str:
        """Sizes, then what is not at its default."""
        shown = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        shown += [f"strides={self.stride}"] if max(self.stride) > 1 else []
        shown += [f"padding={self.tf_padding!r}"] if self.tf_padding != "valid" else []
        extra = self.tf_output_padding
        shown += [] if extra is None else [f"output_padding={extra}"]
        return self._with_activation([*shown, *_shown_flags(self.bias, self.is_last)])


def _overlap(padding: str, kernel: int, stride: int, extra: int | None) -> int:
    """``(size - 1) * stride + kernel`` minus the output's size, which ``size`` has no part in.

    The output's size is that of ``keras/src/backend/common/backend_utils.py``.
    """
    if extra is None:
        return kernel - stride if padding == "same" else min(kernel - stride, 0)
    return (2 * (kernel // 2) if padding == "same" else 0) - extra


class Conv1DTranspose(_TransposedConvolution, nn.ConvTranspose1d):  # type: ignore[misc]
    """``keras.layers.Conv1DTranspose``: ``[n, w, c]`` to ``[n, out_w, filters]``."""


class Conv2DTranspose(_TransposedConvolution, nn.ConvTranspose2d):  # type: ignore[misc]
    """``keras.layers.Conv2DTranspose``: ``[n, h, w, c]`` to ``[n, out_h, out_w, filters]``."""


class Conv3DTranspose(_TransposedConvolution, nn.ConvTranspose3d):  # type: ignore[misc]
    """``keras.layers.Conv3DTranspose``: ``[n, d, h, w, c]`` to ``[n, ..., filters]``."""


# ---- depthwise and separable convolutions --------------------------------------------------------


class _Depthwise(_Activated):
    """One of this package's depthwise layers, with an activation and TF's names of variables.

    Attributes:
        tf_shape: the kernel's in the file, where it is a grouped convolution's.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    tf_shape: tuple[int, ...] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        return self._activated(super().forward(input))  # type: ignore[misc]

    def tf_weights(self) -> list[TfWeight]:
        """``kernel``, ``[..., in, mult]``, and ``bias``."""
        return _weights(self.bias, TfWeight("kernel", self.weight, shape=self.tf_shape))

    def extra_repr(self) -> str:
        """The layer's own, and the activation."""
        return self._with_activation([super().extra_repr()])  # type: ignore[misc]


class DepthwiseConv1D(_Depthwise, depthwise.DepthwiseConv1D):
    """``keras.layers.DepthwiseConv1D``: ``[n, w, c]`` to ``[n, out_w, c*mult]``."""


class DepthwiseConv2D(_Depthwise, depthwise.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D``: ``[n, h, w, c]`` to ``[n, out_h, out_w, c*mult]``."""


class _Separable(_Activated):
    depthwise_weight: nn.Parameter
    pointwise_weight: nn.Parameter
    bias: nn.Parameter | None

    def forward(self, input: Tensor) -> Tensor:
        """Images in, images out, channels where ``data_format`` puts them."""
        return self._activated(super().forward(input))  # type: ignore[misc]

    def tf_weights(self) -> list[TfWeight]:
        """Both kernels and ``bias``."""
        return _weights(
            self.bias,
            TfWeight("depthwise_kernel", self.depthwise_weight),
            TfWeight("pointwise_kernel", self.pointwise_weight),
        )

    def extra_repr(self) -> str:
        """The layer's own, and the activation."""
        return self._with_activation([super().extra_repr()])  # type: ignore[misc]


class SeparableConv1D(_Separable, depthwise.SeparableConv1D):
    """``keras.layers.SeparableConv1D``: ``[n, w, c]`` to ``[n, out_w, filters]``."""


class SeparableConv2D(_Separable, depthwise.SeparableConv2D):
    """``keras.layers.SeparableConv2D``: ``[n, h, w, c]`` to ``[n, out_h, out_w, filters]``."""


class Dense(_Activated, nn.Linear):
    """``keras.layers.Dense``: ``[..., in]`` to ``[..., units]``."""

    def __init__(
        self, inputs: int, units: int, use_bias: bool, activation: Function | None
    ) -> None:
        super().__init__(inputs, units, use_bias)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """The last axis is the one that is multiplied."""
        return self._activated(super().forward(input))

    def tf_weights(self) -> list[TfWeight]:
        """``kernel`` and ``bias``."""
        return _weights(self.bias, TfWeight("kernel", self.weight, (1, 0)))

    def extra_repr(self) -> str:
        """Sizes, then what is not at its default."""
        shown = [f"{self.in_features}, {self.out_features}"]
        return self._with_activation([*shown, *_shown_flags(self.bias, is_last=True)])


# ---- builders ------------------------------------------------------------------------------------


def _use_bias(spec: LayerSpec) -> bool:
    return flag(spec, "use_bias", True)


def _padding(spec: LayerSpec, rank: int, *more: str) -> Padding:
    explicit = spec.config.get("explicit_padding")
    if explicit is not None:
        return pairs(explicit, rank, "explicit_padding")
    return text(spec, "padding", "valid", "same", "valid", *more)


def _kernel_size(spec: LayerSpec, rank: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The kernel's, which has to be the argument's if there is one."""
    if spec.config.get("kernel_size") is not None:
        expect("kernel's size", shape[:rank], sizes(spec, "kernel_size", rank))
    return shape[:rank]


def _filters(spec: LayerSpec, filters: int) -> int:
    if spec.config.get("filters") is not None:
        expect("number of filters", (filters,), sizes(spec, "filters", 1))
    return filters


def _convolution(module: Any, rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        refuse_if_set(spec, "lora_rank", "quantization_mode")
        shape = weight_shape(spec, "kernel", rank=rank + 2)
        groups = sizes(spec, "groups", 1, 1)[0]
        filters = _filters(spec, shape[-1])
        if filters % groups:
            raise refuse(f"{filters} filters in {groups} groups")
        padding = _padding(spec, rank, *(["causal"] if rank == 1 else []))
        if rank == 2 and groups > 1 and shape[2] == 1:
            return _grouped(spec, shape, groups, padding)
        layer: nn.Module = module(
            shape[-2] * groups,
            filters,
            _kernel_size(spec, rank, shape),
            sizes(spec, "strides", rank, 1),
            padding,
            sizes(spec, "dilation_rate", rank, 1),
            groups,
            _use_bias(spec),
            channels_last(spec),
            activation_of(spec),
        )
        return layer

    return build


def _grouped(
    spec: LayerSpec, shape: tuple[int, ...], groups: int, padding: Padding
) -> DepthwiseConv2D:
    """A Conv2D with one input channel in each group is depthwise: ``[h, w, 1, c*mult]``."""
    layer = DepthwiseConv2D(
        groups,
        _kernel_size(spec, 2, shape),
        sizes(spec, "strides", 2, 1),
        cast(Any, padding),
        shape[3] // groups,
        _data_format(spec),
        sizes(spec, "dilation_rate", 2, 1),
        _use_bias(spec),
    )
    layer.activation, layer.tf_shape = activation_of(spec), shape
    return layer


def _data_format(spec: LayerSpec) -> Any:
    return "channels_last" if channels_last(spec) else "channels_first"


def _depthwise(module: Any, rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        shape = weight_shape(spec, "kernel", "depthwise_kernel", rank=rank + 2)
        expect("depth_multiplier", shape[-1:], sizes(spec, "depth_multiplier", 1, 1))
        layer: nn.Module = module(shape[-2], *_window(spec, rank, shape))
        layer.activation = activation_of(spec)  # type: ignore[assignment]
        return layer

    return build


def _separable(module: Any, rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        shape = weight_shape(spec, "depthwise_kernel", rank=rank + 2)
        expect("depth_multiplier", shape[-1:], sizes(spec, "depth_multiplier", 1, 1))
        pointwise = weight_shape(spec, "pointwise_kernel", rank=rank + 2)
        expect("pointwise kernel", pointwise[:-1], (*(1,) * rank, shape[-2] * shape[-1]))
        filters = _filters(spec, pointwise[-1])
        layer: nn.Module = module(shape[-2], filters, *_window(spec, rank, shape))
        layer.activation = activation_of(spec)  # type: ignore[assignment]
        return layer

    return build


def _window(spec: LayerSpec, rank: int, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The arguments that this package's depthwise and separable layers share."""
    kernel, strides = _kernel_size(spec, rank, shape), sizes(spec, "strides", rank, 1)
    dilation = sizes(spec, "dilation_rate", rank, 1)
    if max(strides) > 1 and max(dilation) > 1 and spec.keras_major < 3:
        raise unsupported(spec, f"strides={strides} with dilation_rate={dilation} of Keras 2")
    padding: Any = _padding(spec, rank, *(["causal"] if rank == 1 else []))
    if padding == "causal":
        padding = (((kernel[0] - 1) * dilation[0], 0),)
    if rank == 1 and not isinstance(padding, str):
        (padding,) = padding
    data_format, use_bias = _data_format(spec), _use_bias(spec)
    return kernel, strides, padding, shape[-1], data_format, dilation, use_bias


def _transposed(module: Any, rank: int) -> Builder:
    def build(spec: LayerSpec) -> nn.Module:
        shape = weight_shape(spec, "kernel", rank=rank + 2)
        strides = sizes(spec, "strides", rank, 1)
        if max(sizes(spec, "dilation_rate", rank, 1)) > 1:  # TF does not run it on CPUs
            raise unsupported(spec, f"dilation_rate={spec.config['dilation_rate']!r}")
        layer: nn.Module = module(
            shape[-1],
            _filters(spec, shape[-2]),
            _kernel_size(spec, rank, shape),
            strides,
            text(spec, "padding", "valid", "same", "valid"),
            _output_padding(spec, rank, strides),
            _use_bias(spec),
            channels_last(spec),
            activation_of(spec),
        )
        return layer

    return build


def _output_padding(spec: LayerSpec, rank: int, strides: tuple[int, ...]) -> tuple[int, ...] | None:
    value = spec.config.get("output_padding")
    if value is None:
        return None
    extra = list(value) if isinstance(value, (list, tuple)) else [value] * rank
    if len(extra) != rank or any(type(n) is not int or n < 0 for n in extra):
        raise refuse(f"output_padding={value!r}, where {rank} integers are expected")
    if any(n >= stride for n, stride in zip(extra, strides, strict=True)):
        raise refuse(f"output_padding={value!r}, which has to be less than strides={strides}")
    return tuple(extra)


def _dense(spec: LayerSpec) -> nn.Module:
    refuse_if_set(spec, "lora_rank", "quantization_mode")
    inputs, units = weight_shape(spec, "kernel", rank=2)
    if spec.config.get("units") is not None:
        expect("number of units", (units,), sizes(spec, "units", 1))
    return Dense(inputs, units, _use_bias(spec), activation_of(spec))


BUILDERS: dict[str, Builder] = {
    "Conv1D": _convolution(Conv1D, 1),
    "Conv2D": _convolution(Conv2D, 2),
    "Conv3D": _convolution(Conv3D, 3),
    "Conv1DTranspose": _transposed(Conv1DTranspose, 1),
    "Conv2DTranspose": _transposed(Conv2DTranspose, 2),
    "Conv3DTranspose": _transposed(Conv3DTranspose, 3),
    "DepthwiseConv1D": _depthwise(DepthwiseConv1D, 1),
    "DepthwiseConv2D": _depthwise(DepthwiseConv2D, 2),
    "SeparableConv1D": _separable(SeparableConv1D, 1),
    "SeparableConv2D": _separable(SeparableConv2D, 2),
    "Dense": _dense,
}
