"""Keras' depthwise and separable convolution layers as ``nn.Module``s.

Arguments, defaults, shapes of weights and their initial distribution are those of Keras, but for
``in_channels``, which comes first because PyTorch makes weights when it makes the layer, and for
what PyTorch does outside of a layer: no activation, initializer, regularizer or constraint.
A stride and a dilation together are the plain strided, dilated convolution, as in Keras.

The arguments are attributes, sizes as tuples.  ``strides``, ``padding``, ``dilation_rate`` and
``data_format`` may be changed: setting one checks it as the constructor does, and ``forward`` reads
it anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from tfcompat_dw import functional
from tfcompat_dw.arguments import (
    Geometry,
    Pair,
    check_dtype,
    check_equal,
    check_tensor,
    parse_at_least_one,
    parse_pad_pair,
)
from tfcompat_dw.padding import Padding, dilated_kernel

Sizes = int | Sequence[int]
"""An int, or one for each spatial dimension."""
LayerPadding = str | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]
"""'same', 'valid', (left, right) of a 1-D layer or ((top, bottom), (left, right)) of a 2-D one."""
DataFormat = Literal["channels_last", "channels_first"]


class _Layer(nn.Module):
    """What all four layers have: the window's arguments, and a bias for each output channel."""

    rank: ClassVar[int]
    """Number of spatial dimensions."""
    in_channels: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: LayerPadding
    depth_multiplier: int
    data_format: DataFormat
    dilation_rate: tuple[int, ...]
    use_bias: bool
    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        kernel_size: Sizes,
        strides: Sizes,
        padding: LayerPadding,
        depth_multiplier: int,
        data_format: DataFormat,
        dilation_rate: Sizes,
        use_bias: bool,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_dtype("dtype", dtype)
        self._set_arguments(
            in_channels=in_channels,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            depth_multiplier=depth_multiplier,
            data_format=data_format,
            dilation_rate=dilation_rate,
            use_bias=use_bias,
        )

    def _set_arguments(self, **arguments: object) -> None:
        """As a user may later; assignments would be of the types that the attributes have."""
        for name, value in arguments.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, self._parse(name, value))

    def _parse(self, name: str, value: object) -> Any:
        """``value`` as the attribute ``name`` is to have it."""
        match name:
            case "in_channels" | "depth_multiplier" | "filters":
                return parse_at_least_one(name, value, value)
            case "kernel_size" | "strides" | "dilation_rate":
                return self._parse_sizes(name, value)
            case "padding":
                return self._parse_padding(value)
            case "data_format":
                return _parse_data_format(value)
            case "use_bias" if not isinstance(value, bool):
                raise TypeError(f"use_bias must be True or False; got {value!r}")
        return value

    def _parse_sizes(self, name: str, value: object) -> tuple[int, ...]:
        if not isinstance(value, (tuple, list)):
            return (parse_at_least_one(name, value, value),) * self.rank
        if len(value) != self.rank:
            raise ValueError(
                f"{name} must be an int or a tuple of {self.rank}, got {len(value)} values: "
                f"{name}={value!r}"
            )
        return tuple(parse_at_least_one(name, element, value) for element in value)

    def _parse_padding(self, value: object) -> LayerPadding:
        if isinstance(value, str) and value.lower() in ("same", "valid"):
            return value.lower()
        explicit = "(left, right)" if self.rank == 1 else "((top, bottom), (left, right))"
        if not isinstance(value, (tuple, list)):
            refusal = ValueError if isinstance(value, str) else TypeError
            raise refusal(f"padding must be 'same', 'valid' or {explicit}; got padding={value!r}")
        if self.rank == 1:
            return parse_pad_pair("padding", value, value)
        if len(value) != 2:
            raise ValueError(
                f"explicit padding must be {explicit}; got {len(value)} elements: padding={value!r}"
            )
        rows, columns = value
        return parse_pad_pair("padding", rows, value), parse_pad_pair("padding", columns, value)

    @property
    def _channels_last(self) -> bool:
        return self.data_format == "channels_last"

    def _geometry(self) -> Geometry:
        """The layer's window; that of a 1-D layer is for an image with one row."""
        padding: Padding
        if isinstance(self.padding, str):
            padding = "SAME" if self.padding == "same" else "VALID"
        elif self.rank == 1:
            padding = (0, 0, *cast(Pair, self.padding))
        else:
            rows, columns = cast("tuple[Pair, Pair]", self.padding)  # traced: no type is made
            padding = (*rows, *columns)
        stride, dilation = (
            cast(Pair, (1, *sizes)[-2:]) for sizes in (self.strides, self.dilation_rate)
        )
        return Geometry(
            stride, padding, dilation, self._channels_last, space_to_batch=False, same="same"
        )

    def _check_input(self, input: Tensor) -> None:
        space = "w" if self.rank == 1 else "h, w"
        check_tensor(
            "input", input, f"[n, {space}, c]" if self._channels_last else f"[n, c, {space}]"
        )
        axis = input.dim() - 1 if self._channels_last else 1
        check_equal(
            "in_channels", "input", input.shape[axis], "the layer", self.in_channels,
            f"channels are axis {axis} where data_format={self.data_format!r}",
        )  # fmt: skip

    def _as_image(self, input: Tensor) -> Tensor:
        if self.rank == 2:
            return input
        return input.unsqueeze(1 if self._channels_last else 2)

    def _from_image(self, image: Tensor) -> Tensor:
        if self.rank == 2:
            return image
        return image.squeeze(1 if self._channels_last else 2)

    def _as_filter(self, weight: Tensor) -> Tensor:
        return weight if self.rank == 2 else weight.unsqueeze(0)

    def _make_bias(
        self, outputs: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        bias = torch.empty(outputs, device=device, dtype=dtype) if self.use_bias else None
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias))

    def extra_repr(self) -> str:
        """The sizes, then the arguments that are not at their defaults."""
        ones = (1,) * self.rank
        defaults: dict[str, object] = {
            "strides": ones,
            "padding": "valid",
            "depth_multiplier": 1,
            "data_format": "channels_last",
            "dilation_rate": ones,
            "use_bias": True,
        }
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]
        return ", ".join([*self._sizes_repr(), f"kernel_size={self.kernel_size}", *changed])

    def _sizes_repr(self) -> list[str]:
        return [str(self.in_channels)]


class _DepthwiseConv(_Layer):
    def __init__(
        self,
        in_channels: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: LayerPadding = "valid",
        depth_multiplier: int = 1,
        data_format: DataFormat = "channels_last",
        dilation_rate: Sizes = 1,
        use_bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            kernel_size,
            strides,
            padding,
            depth_multiplier,
            data_format,
            dilation_rate,
            use_bias,
            dtype,
        )
        shape = (*self.kernel_size, self.in_channels, self.depth_multiplier)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self._make_bias(self.in_channels * self.depth_multiplier, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight from Keras' glorot_uniform and set the bias to zero."""
        _glorot_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``input``; the result has its data format and its memory order."""
        self._check_input(input)
        geometry = self._geometry()
        image, filter = self._as_image(input), self._as_filter(self.weight)
        window = functional.check_forward(image, "weight", filter, self.bias, geometry)
        return self._from_image(functional.convolve(image, filter, self.bias, geometry, window))


class _SeparableConv(_Layer):
    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: LayerPadding = "valid",
        depth_multiplier: int = 1,
        data_format: DataFormat = "channels_last",
        dilation_rate: Sizes = 1,
        use_bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            kernel_size,
            strides,
            padding,
            depth_multiplier,
            data_format,
            dilation_rate,
            use_bias,
            dtype,
        )
        self.filters = filters
        depthwise = (*self.kernel_size, self.in_channels, self.depth_multiplier)
        middle_channels = self.in_channels * self.depth_multiplier
        pointwise = (*(1,) * self.rank, middle_channels, self.filters)
        self.depthwise_weight = nn.Parameter(torch.empty(depthwise, device=device, dtype=dtype))
        self.pointwise_weight = nn.Parameter(torch.empty(pointwise, device=device, dtype=dtype))
        self._make_bias(self.filters, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both weights from Keras' glorot_uniform and set the bias to zero."""
        _glorot_uniform_(self.depthwise_weight)
        _glorot_uniform_(self.pointwise_weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``input``; the result has its data format and its memory order."""
        self._check_input(input)
        return self._from_image(
            functional.separable(
                self._as_image(input),
                "depthwise_weight",
                self._as_filter(self.depthwise_weight),
                "pointwise_weight",
                self._as_filter(self.pointwise_weight),
                self.bias,
                self._geometry(),
            )
        )

    def _sizes_repr(self) -> list[str]:
        return [str(self.in_channels), str(self.filters)]


class DepthwiseConv2D(_DepthwiseConv):
    """``keras.layers.DepthwiseConv2D``: every channel with its own ``depth_multiplier`` filters.

    Input ``[n, h, w, c]``, or ``[n, c, h, w]`` if channels-first; output likewise with
    ``c*depth_multiplier`` channels, of which ``c*depth_multiplier + m`` belongs to channel ``c``.

    Args:
        in_channels: ``c``.
        kernel_size: an int or (rows, columns).
        strides: an int or (rows, columns).
        padding: ``"same"`` or ``"valid"`` in any case, meaning what they mean in TensorFlow (and
            ``"same"`` goes with every stride), or ``((top, bottom), (left, right))``.
        depth_multiplier: filters per channel.
        data_format: ``"channels_last"`` or ``"channels_first"``: the order of the axes.  Either is
            fast in either memory order.
        dilation_rate: an int or (rows, columns).
        use_bias: whether to add one number per output channel.
        device, dtype: of the parameters.

    Attributes:
        weight: ``[h, w, in_channels, depth_multiplier]``, as in Keras.
        bias: ``[in_channels*depth_multiplier]`` or None.

    Raises:
        ValueError: a size below 1, an unknown name; in ``forward``, an input whose rank or channels
            are others, or that is smaller than the kernel where nothing pads it.
        TypeError: a size that is a float or bool; in ``forward``, an input of another dtype.
    """

    rank = 2

    @classmethod
    def from_conv2d(
        cls, conv: nn.Conv2d, data_format: DataFormat = "channels_first"
    ) -> DepthwiseConv2D:
        """The layer that computes what ``conv``, a depthwise one, computes.

        Parameters are copied, with their dtype, device and ``requires_grad``; so is the training
        flag.  Hooks are not.

        Args:
            conv: an ``nn.Conv2d`` with ``groups == in_channels``.
            data_format: ``"channels_first"``, PyTorch's, takes the same input as ``conv``.

        Raises:
            TypeError: ``conv`` is no ``nn.Conv2d``, or has a forward of its own.
            ValueError: ``conv`` is not depthwise, pads with anything but zeros, or computes its
                weight (weight_norm and the like).
        """
        if not isinstance(conv, nn.Conv2d):
            raise TypeError(f"conv must be an nn.Conv2d; got {type(conv).__name__}")
        kind = type(conv)
        if (kind.forward, kind._conv_forward) != (nn.Conv2d.forward, nn.Conv2d._conv_forward):
            raise TypeError(
                f"conv must compute what nn.Conv2d does, but {kind.__name__} overrides its "
                f"forward; build DepthwiseConv2D and copy the weight"
            )
        if not isinstance(conv.weight, nn.Parameter):
            raise ValueError(
                "conv.weight must be a parameter, but it is computed (weight_norm, "
                "parametrization); make it one with remove_weight_norm() or "
                "remove_parametrizations()"
            )
        if conv.groups != conv.in_channels:
            raise ValueError(
                f"conv must be depthwise, groups == in_channels; got groups={conv.groups} and "
                f"in_channels={conv.in_channels}"
            )
        if conv.padding_mode != "zeros":
            raise ValueError(
                f"conv.padding_mode must be 'zeros', got {conv.padding_mode!r}; pad with "
                f"torch.nn.functional.pad before the layer"
            )
        padding: LayerPadding
        if isinstance(conv.padding, str):
            padding = conv.padding  # 'same' has stride 1 in PyTorch, where it is TensorFlow's.
        else:
            rows, columns = conv.padding
            padding = ((rows, rows), (columns, columns))
        layer = cls(
            conv.in_channels,
            conv.kernel_size,
            conv.stride,
            padding,
            conv.out_channels // conv.in_channels,
            data_format,
            conv.dilation,
            conv.bias is not None,
            device="meta",  # Neither fills memory nor draws random numbers.
        )
        shape = (layer.in_channels, layer.depth_multiplier, *layer.kernel_size)
        filter = conv.weight.detach().reshape(shape).permute(2, 3, 0, 1)
        layer.weight = _parameter_like(conv.weight, filter)
        if conv.bias is not None:
            layer.bias = _parameter_like(conv.bias, conv.bias.detach())
        return layer.train(conv.training)

    def to_conv2d(self) -> nn.Conv2d:
        """The ``nn.Conv2d`` that computes what this layer computes, on ``[n, c, h, w]`` input.

        Raises:
            ValueError: ``nn.Conv2d`` cannot express the padding: it differs between two opposite
                sides, or (``"same"`` with a stride) depends on the size of the input.
        """
        conv = nn.Conv2d(
            self.in_channels,
            self.in_channels * self.depth_multiplier,
            cast(Pair, self.kernel_size),
            cast(Pair, self.strides),
            self._conv2d_padding(),
            cast(Pair, self.dilation_rate),
            groups=self.in_channels,
            bias=self.bias is not None,
            device="meta",
        )
        weight = self.weight.detach().permute(2, 3, 0, 1).flatten(0, 1).unsqueeze(1)
        conv.weight = _parameter_like(self.weight, weight)
        if self.bias is not None:
            conv.bias = _parameter_like(self.bias, self.bias.detach())
        return conv.train(self.training)

    def _conv2d_padding(self) -> str | Pair:
        padding = self.padding
        if padding == "same" and self.strides == (1, 1):
            return "same"
        pads: list[int] = []
        for axis, name in enumerate(("rows", "columns")):
            reach = dilated_kernel(self.kernel_size[axis], self.dilation_rate[axis])
            if not isinstance(padding, str):
                before, after = cast("tuple[Pair, Pair]", padding)[axis]
            elif padding == "valid" or reach == 1:
                before, after = 0, 0
            elif self.strides[axis] == 1:
                before, after = (reach - 1) // 2, reach // 2
            else:
                raise ValueError(
                    f"nn.Conv2d cannot express padding='same' with strides={self.strides}: the "
                    f"padding of the {name} depends on the input's size; set the layer's padding "
                    f"to the one of your input's size"
                )
            if before != after:
                raise ValueError(
                    f"nn.Conv2d cannot express padding {before} before and {after} after the "
                    f"{name}; pad with nn.ZeroPad2d and set the layer's padding to 'valid'"
                )
            pads.append(before)
        return pads[0], pads[1]


class DepthwiseConv1D(_DepthwiseConv):
    """``keras.layers.DepthwiseConv1D``: ``DepthwiseConv2D`` without rows.

    Input ``[n, w, c]``, or ``[n, c, w]`` if channels-first.  Arguments as for ``DepthwiseConv2D``,
    sizes being an int or a 1-tuple and explicit padding ``(left, right)``.

    Attributes:
        weight: ``[w, in_channels, depth_multiplier]``.
        bias: ``[in_channels*depth_multiplier]`` or None.
    """

    rank = 1


class SeparableConv2D(_SeparableConv):
    """``keras.layers.SeparableConv2D``: depthwise without a bias, then 1x1 to ``filters`` channels.

    Input ``[n, h, w, c]``, or ``[n, c, h, w]`` if channels-first.  Arguments as for
    ``DepthwiseConv2D``; ``filters`` is the number of output channels.

    Attributes:
        depthwise_weight: ``[h, w, in_channels, depth_multiplier]``.
        pointwise_weight: ``[1, 1, in_channels*depth_multiplier, filters]``.
        bias: ``[filters]`` or None.
    """

    rank = 2


class SeparableConv1D(_SeparableConv):
    """``keras.layers.SeparableConv1D``: ``SeparableConv2D`` without rows.

    Input ``[n, w, c]``, or ``[n, c, w]`` if channels-first.  Arguments as for ``DepthwiseConv1D``;
    ``filters`` is the number of output channels.

    Attributes:
        depthwise_weight: ``[w, in_channels, depth_multiplier]``.
        pointwise_weight: ``[1, in_channels*depth_multiplier, filters]``.
        bias: ``[filters]`` or None.
    """

    rank = 1


def _parse_data_format(value: object) -> str:
    if isinstance(value, str) and value in ("channels_last", "channels_first"):
        return value
    raise ValueError(f"data_format must be 'channels_last' or 'channels_first'; got {value!r}")


def _glorot_uniform_(weight: Tensor) -> None:
    """Keras' default, whose fans are those of a dense kernel ``[..., in, out]``.

    For a depthwise weight that is ``taps * in_channels`` and ``taps * depth_multiplier``, though
    each output sees one channel only: trained networks started from it, so it is kept.
    """
    *taps, fan_in, fan_out = weight.shape
    limit = math.sqrt(6 / (math.prod(taps) * (fan_in + fan_out)))
    nn.init.uniform_(weight, -limit, limit)


def _parameter_like(parameter: Tensor, values: Tensor) -> nn.Parameter:
    """A dense copy of ``values`` that asks for a gradient if ``parameter`` does."""
    copy = values.clone(memory_format=torch.contiguous_format)
    return nn.Parameter(copy, requires_grad=parameter.requires_grad)
