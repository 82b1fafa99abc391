"""Bare functions of tensors in Keras graphs: ``x * 2.0``, ``keras.ops.mean``, ``tf.nn.relu``.

Keras 3 writes them as operations (``keras/src/ops``), Keras 2 as ``TFOpLambda`` and
``SlicingOpLambda`` layers (``tf_keras/src/layers/core/tf_op_layer.py``), Keras of TF 2.2 as
``TensorFlowOpLayer`` with TensorFlow's node in it.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tfcompat_dw.porting.config import Call, Constant, Layer, TensorRef, map_references, shown
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.operation_names import KERAS, NODES, TF

Axis = int | Sequence[int] | None

# ---- the functions -----------------------------------------------------------------------------


def _axes(x: Tensor, axis: Axis) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.dim()))
    return (axis,) if isinstance(axis, int) else tuple(axis)


def _mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.mean(_axes(x, axis), keepdim=keepdims)


def _sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.sum(_axes(x, axis), keepdim=keepdims)


def _max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.amax(_axes(x, axis), keepdim=keepdims)


def _min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.amin(_axes(x, axis), keepdim=keepdims)


def _variance(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.var(_axes(x, axis), correction=0, keepdim=keepdims)


def _std(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.std(_axes(x, axis), correction=0, keepdim=keepdims)


def _argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    return x.argmax(axis, keepdim=keepdims)


def _reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(list(shape))


def _transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    return x.permute(list(axes) if axes is not None else list(range(x.dim()))[::-1])


def _expand_dims(x: Tensor, axis: Axis) -> Tensor:
    for one in sorted(_axes(x, axis)):
        x = x.unsqueeze(one)
    return x


def _squeeze(x: Tensor, axis: Axis = None) -> Tensor:
    return x.squeeze() if axis is None else x.squeeze(_axes(x, axis))


def _concatenate(xs: Sequence[Tensor], axis: int = -1) -> Tensor:
    return torch.cat(list(xs), axis)


def _stack(xs: Sequence[Tensor], axis: int = 0) -> Tensor:
    return torch.stack(list(xs), axis)


def _split(x: Tensor, sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """An int is a number of parts; a sequence, where to cut."""
    return list(torch.tensor_split(x, sections, axis))


def _split_sizes(x: Tensor, sizes: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """An int is a number of parts; a sequence, their sizes."""
    if isinstance(sizes, int):
        return list(torch.tensor_split(x, sizes, axis))
    return list(torch.split(x, list(sizes), axis))


def _getitem(x: Tensor, key: Any) -> Tensor:
    """Like NumPy's, negative steps included."""
    parts = list(key) if isinstance(key, (list, tuple)) else [key]
    where = [place for place, part in enumerate(parts) if part is ...]
    if where:
        taken = sum(part is not None and part is not ... for part in parts)
        parts[where[0] : where[0] + 1] = [slice(None)] * (x.dim() - taken)
    forward, flipped, axis = [], [], 0
    for part in parts:
        if isinstance(part, slice) and isinstance(part.step, int) and part.step < 0:
            part = _mirrored(part, x.shape[axis])
            flipped.append(axis)
        forward.append(part)
        axis += part is not None
    return x.flip(flipped)[tuple(forward)] if flipped else x[tuple(forward)]


def _mirrored(part: slice, size: int) -> slice:
    """What a slice with a negative step takes, of the axis turned round."""
    start, stop, step = part.indices(size)
    return slice(size - 1 - start, size - 1 - stop, -step)


def _pad(x: Tensor, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Tensor:
    pairs = [[side, side] if isinstance(side, int) else list(side) for side in pad_width]
    flat = [size for pair in reversed(pairs) for size in pair]
    mode = mode.lower()
    if mode == "constant":
        return F.pad(x, flat, value=constant_values)
    return _pad_by_index(x, pairs, mode)


def _pad_by_index(x: Tensor, pairs: Sequence[Sequence[int]], mode: str) -> Tensor:
    """Reflection of any axis: ``F.pad`` takes the last ones alone."""
    if mode not in ("reflect", "symmetric"):
        raise ValueError(f"mode must be 'constant', 'reflect' or 'symmetric'; got {mode!r}")
    skip = 1 if mode == "reflect" else 0
    for axis, (before, after) in enumerate(pairs):
        size = x.shape[axis]
        index = torch.cat(
            [
                torch.arange(before - 1 + skip, skip - 1, -1, device=x.device),
                torch.arange(size, device=x.device),
                torch.arange(size - 1 - skip, size - 1 - skip - after, -1, device=x.device),
            ]
        )
        if before or after:
            x = x.index_select(axis, index)
    return x


def _cast(x: Tensor, dtype: str) -> Tensor:
    kind = getattr(torch, dtype.rpartition(".")[2], None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"no dtype of PyTorch's is called {dtype!r}")
    return x.to(kind)


def _clip(x: Tensor, x_min: Any = None, x_max: Any = None) -> Tensor:
    return torch.clamp(x, x_min, x_max)


def _maximum(x: Any, y: Any) -> Tensor:
    return torch.clamp(x, min=y) if isinstance(x, Tensor) else torch.clamp(y, min=x)


def _minimum(x: Any, y: Any) -> Tensor:
    return torch.clamp(x, max=y) if isinstance(x, Tensor) else torch.clamp(y, max=x)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return F.softmax(x, axis)


def _log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    return F.log_softmax(x, axis)


def _gelu(x: Tensor, approximate: bool = True) -> Tensor:
    return F.gelu(x, approximate="tanh" if approximate else "none")


def _gelu_exact(x: Tensor, approximate: bool = False) -> Tensor:
    return _gelu(x, approximate)


def _hard_sigmoid_3(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def _hard_silu(x: Tensor) -> Tensor:
    return x * _hard_sigmoid_3(x)


def _leaky_relu(x: Tensor, negative_slope: float = 0.2) -> Tensor:
    return F.leaky_relu(x, negative_slope)


def _l2_normalize(x: Tensor, axis: Axis = None, epsilon: float = 1e-12) -> Tensor:
    total = x.square().sum(_axes(x, axis), keepdim=True)
    return x * torch.rsqrt(torch.clamp(total, min=epsilon))


def _add_all(xs: Sequence[Tensor]) -> Tensor:
    total = xs[0]
    for x in xs[1:]:
        total = total + x
    return total


def _reverse(x: Tensor, axis: Axis) -> Tensor:
    return x.flip(_axes(x, axis))


def _tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    return x.repeat(list(repeats))


def _repeat(x: Tensor, repeats: int, axis: int | None = None) -> Tensor:
    return x.repeat_interleave(repeats, axis)


def _unstack(x: Tensor, axis: int = 0) -> list[Tensor]:
    return list(x.unbind(axis))


def _space_to_depth(x: Tensor, block_size: int) -> Tensor:
    n, h, w, c = x.shape
    b = block_size
    x = x.reshape(n, h // b, b, w // b, b, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h // b, w // b, b * b * c)


def _depth_to_space(x: Tensor, block_size: int) -> Tensor:
    n, h, w, c = x.shape
    b = block_size
    x = x.reshape(n, h, w, b, b, c // (b * b)).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * b, w * b, c // (b * b))


def _resize(x: Tensor, size: Sequence[int], interpolation: str = "bilinear") -> Tensor:
    """Pixels are squares whose middles are at halves, as in TF 2."""
    image = x.permute(0, 3, 1, 2)
    if interpolation == "bilinear":
        image = F.interpolate(image, list(size), mode="bilinear", align_corners=False)
    elif interpolation == "nearest":
        image = F.interpolate(image, list(size), mode="nearest-exact")
    else:
        raise ValueError(f"interpolation must be 'bilinear' or 'nearest'; got {interpolation!r}")
    return image.permute(0, 2, 3, 1)


def _matmul(a: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(x: Any, y: Any) -> Any:
        return function(x, y)

    return apply


def _plain(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        return function(x)

    return apply


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _arithmetic(operator.add),
    "subtract": _arithmetic(operator.sub),
    "multiply": _arithmetic(operator.mul),
    "divide": _arithmetic(operator.truediv),
    "power": _arithmetic(operator.pow),
    "floor_divide": _arithmetic(operator.floordiv),
    "maximum": _maximum,
    "minimum": _minimum,
    "matmul": _matmul,
    "negative": _plain(torch.neg),
    "absolute": _plain(torch.abs),
    "square": _plain(torch.square),
    "sqrt": _plain(torch.sqrt),
    "rsqrt": _plain(torch.rsqrt),
    "exp": _plain(torch.exp),
    "log": _plain(torch.log),
    "sin": _plain(torch.sin),
    "cos": _plain(torch.cos),
    "floor": _plain(torch.floor),
    "ceil": _plain(torch.ceil),
    "round": _plain(torch.round),
    "identity": _plain(lambda x: x),
    "stop_gradient": _plain(torch.detach),
    "relu": _plain(F.relu),
    "relu6": _plain(F.relu6),
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "silu": _plain(F.silu),
    "elu": _plain(F.elu),
    "selu": _plain(F.selu),
    "softplus": _plain(F.softplus),
    "softsign": _plain(F.softsign),
    "hard_sigmoid": _hard_sigmoid_3,
    "hard_silu": _hard_silu,
    "gelu": _gelu,
    "gelu_exact": _gelu_exact,
    "leaky_relu": _leaky_relu,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "clip": _clip,
    "l2_normalize": _l2_normalize,
    "mean": _mean,
    "sum": _sum,
    "max": _max,
    "min": _min,
    "variance": _variance,
    "std": _std,
    "argmax": _argmax,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "split_sizes": _split_sizes,
    "getitem": _getitem,
    "pad": _pad,
    "cast": _cast,
    "add_all": _add_all,
    "reverse": _reverse,
    "tile": _tile,
    "repeat": _repeat,
    "unstack": _unstack,
    "space_to_depth": _space_to_depth,
    "depth_to_space": _depth_to_space,
    "resize": _resize,
}
_TAKE_ARRAYS = frozenset(
    {"add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "matmul", "clip"}
)
"""Lists of numbers among their arguments are arrays."""
_TAKE_LISTS = frozenset({"concatenate", "stack", "add_all"})
"""Their first argument is a list of tensors."""

# ---- the module ----------------------------------------------------------------------------------


class _Hole:
    """Where a tensor goes among the arguments."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Buffer:
    """Where one of the module's own arrays goes."""

    def __init__(self, name: str) -> None:
        self.name = name


class Operation(nn.Module):
    """A function of tensors, its other arguments fixed.

    Args:
        function: its name in :data:`FUNCTIONS`.
        args, kwargs: its arguments; a ``TensorRef`` is a tensor that ``forward`` is given, a
            :class:`~tfcompat_dw.porting.config.Constant` an array.
    """

    def __init__(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.arguments = list(args), dict(kwargs)
        self.refs: list[TensorRef] = []
        self._arrays = 0
        self._args = self._template(list(args))
        self._kwargs = self._template(dict(kwargs))

    def _template(self, structure: Any) -> Any:
        return _replace_constants(map_references(structure, self._hole), self._buffer)

    def _hole(self, ref: TensorRef) -> _Hole:
        self.refs.append(ref)
        return _Hole(len(self.refs) - 1)

    def _buffer(self, constant: Constant) -> _Buffer:
        name = f"constant_{self._arrays}"
        self._arrays += 1
        self.register_buffer(name, _array(constant), persistent=False)
        return _Buffer(name)

    def forward(self, *tensors: Tensor) -> Any:
        """The tensors in the order in which they appear among the arguments."""
        args, kwargs = self._filled(self._args, tensors), self._filled(self._kwargs, tensors)
        return FUNCTIONS[self.function](*args, **kwargs)

    def _filled(self, structure: Any, tensors: Sequence[Tensor]) -> Any:
        if isinstance(structure, _Hole):
            return tensors[structure.number]
        if isinstance(structure, _Buffer):
            return getattr(self, structure.name)
        if isinstance(structure, (list, tuple)):
            return [self._filled(element, tensors) for element in structure]
        if isinstance(structure, dict):
            return {key: self._filled(value, tensors) for key, value in structure.items()}
        return structure

    def extra_repr(self) -> str:
        """The function and its fixed arguments."""
        parts = [self.function, *map(_shown_argument, self._args)]
        parts += [f"{key}={_shown_argument(value)}" for key, value in self._kwargs.items()]
        return ", ".join(parts)


def _shown_argument(value: Any) -> str:
    if isinstance(value, _Hole):
        return "·"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown_argument, value)) + "]"
    if isinstance(value, _Buffer):
        return "array"
    if isinstance(value, slice):
        ends = ["" if end is None else str(end) for end in (value.start, value.stop, value.step)]
        return ":".join(ends[: 3 if ends[2] else 2])
    return "..." if value is ... else repr(value)


def _replace_constants(structure: Any, change: Callable[[Constant], Any]) -> Any:
    if isinstance(structure, Constant):
        return change(structure)
    if isinstance(structure, list):
        return [_replace_constants(element, change) for element in structure]
    if isinstance(structure, tuple):
        return tuple(_replace_constants(element, change) for element in structure)
    if isinstance(structure, dict):
        return {key: _replace_constants(value, change) for key, value in structure.items()}
    return structure


def _array(constant: Constant) -> Tensor:
    kind = getattr(torch, constant.dtype or "", None)
    try:
        array = torch.tensor(constant.value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UnsupportedLayerError(f"an array among its arguments is none ({error})") from error
    if isinstance(kind, torch.dtype):
        return array.to(kind)
    return array.float() if array.is_floating_point() else array


# ---- from a file's call to a module --------------------------------------------------------------


def operation_of(layer: Layer, call: Call) -> Operation:
    """The module of one call.

    Raises:
        UnsupportedLayerError: the function, or one of its arguments, is none of those here.
    """
    family, _, name = (layer.operation or "").partition(".")
    if family == "keras":
        function, args, kwargs = _keras_call(name, layer.config, call)
    elif family == "tf":
        function, args, kwargs = _tf_call(name, call)
    else:
        function, args, kwargs = _node_call(name, call)
    args, kwargs = _with_arrays(function, args, kwargs)
    try:
        inspect.signature(FUNCTIONS[function]).bind(*args, **kwargs)
    except TypeError as error:
        raise UnsupportedLayerError(f"its arguments are not understood ({error})") from error
    _check_arguments(function, args, kwargs)
    return Operation(function, args, kwargs)


def _with_arrays(
    function: str, args: list[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arrays where the function takes tensors, plain numbers where it takes sizes."""
    change = _as_array if function in _TAKE_ARRAYS else _without_array
    kwargs = {key: change(value) for key, value in kwargs.items()}
    if function in _TAKE_LISTS and args and isinstance(args[0], list):
        tensors = [_as_array(value) for value in args[0]]
        return [tensors, *map(change, args[1:])], kwargs
    return [change(value) for value in args], kwargs


def _refuse_function(name: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"the function {shown(name)} is none of those that are carried over; replace it by a "
        f"layer, or give a builder for it: layers={{{shown(name)}: ...}}"
    )


Bound = tuple[str, list[Any], dict[str, Any]]


def _keras_call(name: str, config: Mapping[str, Any], call: Call) -> Bound:
    if name not in KERAS:
        raise _refuse_function(name)
    function, renamed = KERAS[name]
    given = {**config, **call.kwargs}
    kwargs = {
        renamed.get(key, key): value
        for key, value in given.items()
        if key not in ("name", "trainable", "dtype") or (key == "dtype" and name == "Cast")
    }
    if name in ("Concatenate", "Stack") and not call.args and "xs" not in kwargs:
        raise UnsupportedLayerError("it is called without tensors")
    _drop_defaults(name, kwargs)
    return function, list(call.args), kwargs


def _tf_call(name: str, call: Call) -> Bound:
    if name not in TF:
        raise _refuse_function(f"tf.{name}")
    function, renamed = TF[name]
    kwargs = {
        renamed.get(key, key): value
        for key, value in call.kwargs.items()
        if key != "name" and not (value is None and key != "axis")
    }
    _drop_defaults(name, kwargs)
    return function, list(call.args), kwargs


def _drop_defaults(name: str, kwargs: dict[str, Any]) -> None:
    """Leaves out what a function here has not, where it says what happens anyway."""
    for key, value in _DEFAULTS.items():
        if key in kwargs and kwargs[key] == value:
            del kwargs[key]
    if name == "Resize" and kwargs.get("data_format") == "channels_last":
        del kwargs["data_format"]


_DEFAULTS: dict[str, Any] = {
    "conjugate": False,
    "constant_values": None,
    "antialias": False,
    "preserve_aspect_ratio": False,
    "crop_to_aspect_ratio": False,
    "pad_to_aspect_ratio": False,
    "fill_mode": "constant",
    "fill_value": 0.0,
}


def _node_call(kind: str, call: Call) -> Bound:
    """A node's inputs in order; what else it needs are attributes."""
    if kind not in NODES:
        raise _refuse_function(kind)
    attributes = call.kwargs.get("attr")
    attributes = attributes if isinstance(attributes, dict) else {}
    args, kwargs = list(call.args), dict[str, Any]()
    if kind in ("Mean", "Sum", "Max", "Min"):
        kwargs["keepdims"] = _flag(attributes.get("keep_dims"))
    elif kind == "ConcatV2":
        args = [args[:-1], args[-1]]
    elif kind == "Pack":
        args, kwargs = [args], {"axis": _number(attributes.get("axis"))}
    elif kind == "Squeeze":
        found = _of_attribute(attributes.get("squeeze_dims"), "list")
        sizes = found.get("i", []) if isinstance(found, dict) else []
        kwargs["axis"] = [int(size) for size in sizes] or None
    elif kind == "PadV2":
        kwargs = {"constant_values": args.pop() if len(args) == 3 else 0}
    elif kind == "MirrorPad":
        kwargs["mode"] = "reflect" if _text(attributes.get("mode")) != "SYMMETRIC" else "symmetric"
    elif kind == "StridedSlice":
        args = [args[0], _strided_slice([_without_array(arg) for arg in args[1:]], attributes)]
    return NODES[kind], args, kwargs


def _of_attribute(attribute: Any, kind: str) -> Any:
    return attribute.get(kind) if isinstance(attribute, dict) else None


def _flag(attribute: Any) -> bool:
    return _of_attribute(attribute, "b") is True


def _number(attribute: Any) -> int:
    value = _of_attribute(attribute, "i") or 0  # int64 is text in protobuf's JSON
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise UnsupportedLayerError(f"an attribute {shown(value)} is no number") from error


def _text(attribute: Any) -> str:
    """Bytes are base64 in protobuf's JSON; the one name that matters here is compared so."""
    value = _of_attribute(attribute, "s")
    return "SYMMETRIC" if value in ("U1lNTUVUUklD", "SYMMETRIC") else str(value)


def _strided_slice(ends: list[Any], attributes: Mapping[str, Any]) -> list[Any]:
    """``tensorflow/core/ops/array_ops.cc``: bit i of a mask speaks of element i."""
    if len(ends) != 3 or not all(isinstance(end, list) for end in ends):
        raise UnsupportedLayerError("a slice whose ends are computed")
    begin, end, strides = ends
    mask = {
        name: _number(attributes.get(f"{name}_mask"))
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    key: list[Any] = []
    for place, (start, stop, step) in enumerate(zip(begin, end, strides, strict=False)):
        bit = 1 << place
        if mask["ellipsis"] & bit:
            key.append(...)
        elif mask["new_axis"] & bit:
            key.append(None)
        elif mask["shrink_axis"] & bit:
            key.append(start)
        else:
            first = None if mask["begin"] & bit else start
            key.append(slice(first, None if mask["end"] & bit else stop, step))
    return key


def _as_array(value: Any) -> Any:
    """A list of numbers is an array where a tensor may stand."""
    if isinstance(value, list) and _all_numbers(value):
        return Constant(value)
    return value


def _without_array(value: Any) -> Any:
    """An array where numbers must stand is those numbers."""
    if isinstance(value, Constant):
        return value.value
    if isinstance(value, list):
        return [_without_array(element) for element in value]
    return value


def _all_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_all_numbers, value))
    return isinstance(value, (int, float))


def _check_arguments(function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Sizes and axes are numbers; a padding or a new shape is no larger than memory."""
    bound = inspect.signature(FUNCTIONS[function]).bind(*args, **kwargs).arguments
    for name in ("axis", "axes", "shape", "pad_width", "repeats", "block_size", "size"):
        value = bound.get(name)
        if value is not None and not _small_numbers(value):
            raise UnsupportedLayerError(f"its argument {name} is {shown(value)}")
    if function == "getitem" and not _is_key(bound.get("key")):
        raise UnsupportedLayerError(f"its index {shown(bound.get('key'))} is computed, or none")
    if bound.get("interpolation") not in (None, "bilinear", "nearest"):
        raise UnsupportedLayerError(f"its interpolation is {shown(bound['interpolation'])}")


def _is_key(key: Any) -> bool:
    """Numbers, slices of numbers, None and ``...``."""
    parts = key if isinstance(key, (list, tuple)) else [key]
    ends = [
        end
        for part in parts
        for end in ((part.start, part.stop, part.step) if isinstance(part, slice) else (part,))
    ]
    return all(end is None or end is ... or type(end) is int for end in ends)


def _small_numbers(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_small_numbers, value))
    return type(value) is int and abs(value) < 2**31 and math.isfinite(value)
