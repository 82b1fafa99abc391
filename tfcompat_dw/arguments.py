"""What a call may say: one function per rule.

``parse_*`` turn an argument into the form the rest of the package uses, ``check_*`` let it pass.
Both raise ``TypeError`` or ``ValueError`` with the argument's name, the rule, the value and what to
do about it, before anything is computed.  Functions and layers share them, so the argument's name
is a parameter.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from tfcompat_dw.padding import Padding, Window, dilated_kernel

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_AUTOCAST_DTYPES = DTYPES[1:]  # Autocast leaves float64 alone.
_AUTOCAST_DEVICES = ("cpu", "cuda")  # What ops.py registers it for.

FILTER_AXES = "[h, w, in, mult]"
IMAGE_AXES = {True: "[n, h, w, c]", False: "[n, c, h, w]"}

# TensorFlow's limit on strides, dilations and explicit padding, here on the kernel too: with it the
# window arithmetic on any size that memory can hold stays within int64.
MAX_STEP = 2**31 - 1
_TOO_LARGE = "TensorFlow has the same limit; use a smaller number"

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """The arguments of a ``tf.nn``-named call that say how the window slides."""

    stride: Pair
    padding: Padding
    dilation: Pair
    channels_last: bool
    space_to_batch: bool
    """Whether the stride is to be taken within each space-to-batch phase."""
    same: str = "SAME"
    """How the caller spells that padding."""

    def split(self, shape: Sequence[int]) -> tuple[int, Pair, int]:
        """Batch, (rows, columns) and channels of an image of this data format."""
        if self.channels_last:
            batch, rows, columns, channels = shape
        else:
            batch, channels, rows, columns = shape
        return batch, (rows, columns), channels

    def window(self, filter_name: str, kernel: Pair, size: Pair) -> Window:
        """The window on an image of ``size``; ValueError where the kernel has no place on it."""
        (rows, columns), (height, width) = kernel, size
        if (
            type(rows) is type(columns) is type(height) is type(width) is int
            and not torch.compiler.is_compiling()
        ):
            try:
                return _known_window(self, filter_name, kernel, size)
            except TypeError:  # a SymInt among the strides, padding or dilations has no hash
                pass
        return self._window(filter_name, kernel, size)

    def _window(self, filter_name: str, kernel: Pair, size: Pair) -> Window:
        check_kernel(filter_name, kernel, self.dilation)
        check_fit(filter_name, kernel, self.padding, size, self.dilation, self.same)
        # Space-to-batch pads before it looks at the stride: SAME is that of stride 1.
        stride = (1, 1) if self.space_to_batch else self.stride
        window = Window.resolve(
            self.padding, size, kernel, stride, self.dilation, self.channels_last
        )
        return window._replace(stride=self.stride) if self.space_to_batch else window


@functools.lru_cache(maxsize=1024)
def _known_window(geometry: Geometry, filter_name: str, kernel: Pair, size: Pair) -> Window:
    """The same in a fifth of the time: a network asks for the same few windows again and again."""
    return geometry._window(filter_name, kernel, size)


def parse_geometry(
    strides: object,
    padding: object,
    data_format: object,
    dilations: object,
    strided_dilation: object,
) -> Geometry:
    """The five arguments that every ``tf.nn``-named function has."""
    channels_last = parse_data_format(data_format)
    stride = parse_spatial("strides", strides, channels_last)
    dilation = (1, 1) if dilations is None else parse_spatial("dilations", dilations, channels_last)
    return Geometry(
        stride,
        parse_padding(padding, channels_last),
        dilation,
        channels_last,
        parse_strided_dilation(strided_dilation, stride, dilation),
    )


def parse_data_format(value: object) -> bool:
    """Whether the axes are channels-last.  None means NHWC, as in TensorFlow."""
    if value is None or (isinstance(value, str) and value == "NHWC"):
        return True
    if isinstance(value, str) and value == "NCHW":
        return False
    raise ValueError(f"data_format must be 'NHWC', 'NCHW' or None (which is NHWC); got {value!r}")


def parse_integer(name: str, value: object, whole: object) -> int:
    """``value``, an element of the argument ``whole``, as an int.

    Booleans and floats are no ints here: a float stride is a size computed by ``/``, and
    TensorFlow would truncate it without a word.
    """
    if type(value) is int or isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]  # SymInt stands in for int everywhere.
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)  # NumPy's integers, IntEnum.
    raise TypeError(
        f"{name} takes only ints, got {value!r} of type {type(value).__name__}"
        f"{_inside(name, value, whole)}; pass ints, alone or in a list or tuple"
    )


def parse_at_least_one(name: str, value: object, whole: object) -> int:
    """A kernel size, stride, dilation, multiplier or channel count."""
    number = parse_integer(name, value, whole)
    if 1 <= number <= MAX_STEP:
        return number
    remedy = "1 is the least that has a meaning" if number < 1 else _TOO_LARGE
    raise ValueError(
        f"{name} must be between 1 and {MAX_STEP}, got {number}{_inside(name, value, whole)}; "
        f"{remedy}"
    )


def _inside(name: str, value: object, whole: object) -> str:
    return "" if value is whole else f" in {name}={whole!r}"


def parse_spatial(name: str, value: object, channels_last: bool) -> Pair:
    """(rows, columns) of an int, a pair, or four values in data_format order."""
    if not isinstance(value, (tuple, list)):
        both = parse_at_least_one(name, value, value)
        return both, both
    if len(value) == 2:
        rows, columns = value
    elif len(value) == 4:
        if channels_last:
            batch, rows, columns, channel = value
        else:
            batch, channel, rows, columns = value
        for outside in (batch, channel):
            if parse_integer(name, outside, value) != 1:
                raise ValueError(
                    f"{name} must be 1 for batch and channel, got {name}={value!r} in "
                    f"{IMAGE_AXES[channels_last]} order; the window moves over h and w only"
                )
    else:
        raise ValueError(
            f"{name} must be an int, (rows, columns), or 4 values in "
            f"{IMAGE_AXES[channels_last]} order; got {len(value)} values: {name}={value!r}"
        )
    return parse_at_least_one(name, rows, value), parse_at_least_one(name, columns, value)


def parse_padding(value: object, channels_last: bool) -> Padding:
    """``'SAME'``, ``'VALID'``, or four (before, after) pairs in data_format order."""
    if isinstance(value, str) and value == "SAME":
        return "SAME"
    if isinstance(value, str) and value == "VALID":
        return "VALID"
    if not isinstance(value, (tuple, list)):
        refusal = ValueError if isinstance(value, str) else TypeError
        raise refusal(
            f"padding must be 'SAME' or 'VALID', in capitals, or 4 (before, after) pairs in "
            f"{IMAGE_AXES[channels_last]} order; got padding={value!r}"
        )
    if len(value) != 4:
        raise ValueError(
            f"explicit padding must be 4 (before, after) pairs in {IMAGE_AXES[channels_last]} "
            f"order; got {len(value)} elements: padding={value!r}"
        )
    batch, first, second, third = (parse_pad_pair("padding", pair, value) for pair in value)
    rows, columns, channel = (first, second, third) if channels_last else (second, third, first)
    if batch != (0, 0) or channel != (0, 0):
        raise ValueError(
            f"padding must be (0, 0) for batch and channel, got padding={value!r} in "
            f"{IMAGE_AXES[channels_last]} order; only h and w can be padded"
        )
    return (*rows, *columns)


def parse_pad_pair(name: str, pair: object, whole: object) -> Pair:
    """One (before, after) of explicit padding."""
    if not isinstance(pair, (tuple, list)):
        raise TypeError(
            f"explicit {name} must be made of (before, after) pairs, got {pair!r} in "
            f"{name}={whole!r}; write n as (n, n)"
        )
    if len(pair) != 2:
        raise ValueError(
            f"explicit {name} must be made of (before, after) pairs, got {len(pair)} elements "
            f"in {pair!r} of {name}={whole!r}"
        )
    before, after = (parse_integer(name, element, whole) for element in pair)
    for pad in (before, after):
        if not 0 <= pad <= MAX_STEP:
            remedy = "to crop, slice the input" if pad < 0 else _TOO_LARGE
            raise ValueError(
                f"{name} must be between 0 and {MAX_STEP}, got {pad} in {name}={whole!r}; {remedy}"
            )
    return before, after


def parse_strided_dilation(value: object, stride: Pair, dilation: Pair) -> bool:
    """Whether the call is to be computed the space-to-batch way; the two agree at stride 1."""
    if not isinstance(value, str) or value not in ("error", "plain", "space_to_batch"):
        raise ValueError(
            f"strided_dilation must be 'error', 'plain' or 'space_to_batch'; got {value!r}"
        )
    if (stride[0] == 1 and stride[1] == 1) or (dilation[0] == 1 and dilation[1] == 1):
        return False
    if value == "error":
        raise ValueError(
            f"strides must be 1 where dilations are above 1, got (rows, columns) "
            f"strides={stride} and dilations={dilation}: TensorFlow documents this as an error "
            f"and returns something else than the plain dilated convolution. Pass "
            f"strided_dilation='plain' for what Keras and PyTorch compute, or "
            f"strided_dilation='space_to_batch' for what tf.nn 2.21 returns"
        )
    return value == "space_to_batch"


def parse_sizes(name: str, value: object, axes: str) -> tuple[int, int, int, int]:
    """The four of ``input_sizes`` or ``filter_sizes``: a sequence of ints or an integer tensor."""
    if isinstance(value, Tensor):
        integral = not (value.is_floating_point() or value.is_complex())
        if not integral or value.dtype is torch.bool or value.layout is not torch.strided:
            raise TypeError(
                f"{name} must be a sequence of ints or a tensor of an integer dtype, got a "
                f"tensor of {value.dtype}; convert it with .to(torch.int64)"
            )
        if value.dim() != 1:
            raise ValueError(
                f"{name} must be 1-D with the 4 sizes {axes}, got a tensor of shape "
                f"{tuple(value.shape)}"
            )
        elements: Sequence[object] = value.tolist()
    elif isinstance(value, (tuple, list)):
        elements = value
    elif hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1:  # NumPy, as TensorFlow takes
        elements = value.tolist()
    else:
        raise TypeError(
            f"{name} must be a list or tuple of the 4 sizes {axes}, or an integer tensor; got "
            f"{value!r} of type {type(value).__name__}"
        )
    if len(elements) != 4:
        raise ValueError(
            f"{name} must have the 4 sizes {axes}, got {len(elements)}: {name}={value!r}"
        )
    first, second, third, fourth = (parse_integer(name, element, value) for element in elements)
    for size in (first, second, third, fourth):
        if size < 0:
            raise ValueError(
                f"{name} must be at least 0, got {size} in {name}={value!r}; they are the shape "
                f"{axes} of a tensor"
            )
    return first, second, third, fourth


def check_tensor(name: str, value: object, axes: str) -> None:
    """A dense floating-point tensor with as many dimensions as ``axes``, like '[h, w]', has."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor {axes}, got {type(value).__name__}; convert it with "
            f"torch.as_tensor()"
        )
    if value.layout is not torch.strided or value.is_nested:
        layout = "nested" if value.is_nested else value.layout
        raise TypeError(
            f"{name} must be a dense (torch.strided) tensor, got layout {layout}; convert it with "
            f".to_dense(), or .to_padded_tensor() if nested"
        )
    if value.dtype not in DTYPES:
        remedy = ".dequantize()" if value.is_quantized else ".to(torch.float32)"
        raise TypeError(
            f"{name} must be float64, float32, bfloat16 or float16, got {value.dtype}; convert "
            f"it with {remedy}"
        )
    rank = axes.count(",") + 1
    if value.dim() != rank:
        raise ValueError(
            f"{name} must have {rank} dimension{'s' if rank > 1 else ''}, {axes}; got "
            f"{value.dim()}: shape {tuple(value.shape)}; reshape it"
        )


def check_dtype(name: str, value: object) -> None:
    """One of the dtypes that the operators compute in, or None for the default one."""
    if value is not None and value not in DTYPES:
        raise ValueError(
            f"{name} must be torch.float64, torch.float32, torch.bfloat16 or torch.float16, got "
            f"{value!r}; leave it out for PyTorch's default"
        )


def check_like(
    name: str, tensor: Tensor, like_name: str, like: Tensor, *, autocast: bool = False
) -> None:
    """``tensor`` and ``like`` share their device and dtype; ``autocast`` may yet convert them."""
    if tensor.device != like.device:
        raise ValueError(
            f"{name} must be on the device of {like_name}, {like.device}; got {tensor.device}; "
            f"move one of them with .to()"
        )
    if tensor.dtype is not like.dtype and not (
        autocast
        and like.device.type in _AUTOCAST_DEVICES
        and torch.is_autocast_enabled(like.device.type)
        and tensor.dtype in _AUTOCAST_DTYPES
        and like.dtype in _AUTOCAST_DTYPES
    ):
        raise TypeError(
            f"{name} must have the dtype of {like_name}, {like.dtype}; got {tensor.dtype}; "
            f"convert one of them with .to()"
        )


def check_bias(bias: object, outputs: int, like_name: str, like: Tensor) -> None:
    """A vector with one element per output channel."""
    check_tensor("bias", bias, "[out]")
    assert isinstance(bias, Tensor)
    check_like("bias", bias, like_name, like, autocast=True)
    if bias.shape[0] != outputs:
        raise ValueError(
            f"bias must have one element for each of the {outputs} output channels; got "
            f"{bias.shape[0]}"
        )


def check_equal(what: str, name: str, value: int, of: str, expected: int, remedy: str) -> None:
    """A size of ``name`` is the one that ``of`` asks for."""
    if value != expected:
        raise ValueError(f"{name} must have the {what} of {of}, {expected}; got {value}; {remedy}")


def check_kernel(name: str, kernel: Pair, dilation: Pair) -> None:
    """The kernel's rows and columns, where a tensor's shape or ``filter_sizes`` gives them."""
    for size, gap in zip(kernel, dilation, strict=True):
        if size < 1:
            raise ValueError(
                f"{name} must have at least 1 row and column, got {kernel[0]} x {kernel[1]}; a "
                f"window without taps has no result"
            )
        if dilated_kernel(size, gap) > MAX_STEP:
            raise ValueError(
                f"{name} must reach over at most {MAX_STEP} rows and columns, got {size} taps "
                f"with dilation {gap}; use a smaller kernel or dilation"
            )


def check_fit(
    name: str, kernel: Pair, padding: Padding, size: Pair, dilation: Pair, same: str
) -> None:
    """VALID and explicit padding need room for one window; SAME makes it."""
    if padding == "SAME":
        return
    pads = (0, 0, 0, 0) if padding == "VALID" else padding
    for axis, what in enumerate(("rows", "columns")):
        room = pads[2 * axis] + size[axis] + pads[2 * axis + 1]
        reach = dilated_kernel(kernel[axis], dilation[axis])
        if reach > room:
            raise ValueError(
                f"{name} must fit the padded input, got {reach} {what} "
                f"({kernel[axis]} taps, dilation {dilation[axis]}) on {room} "
                f"(input {size[axis]}, padding {pads[2 * axis]} + {pads[2 * axis + 1]}); use "
                f"padding={same!r} or a larger input"
            )
