"""Bare functions of tensors: ``x * 2.0``, ``keras.ops.mean``, ``tf.nn.relu``, nodes of graphs.

Keras 3 writes them as operations (``keras/src/ops``), Keras 2 as ``TFOpLambda`` and
``SlicingOpLambda`` layers (``tf_keras/src/layers/core/tf_op_layer.py``), Keras of TF 2.2 as
``TensorFlowOpLayer`` with TensorFlow's node in it.
"""

from __future__ import annotations

import base64
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tfcompat_dw.porting.config import Call, Constant, Layer, TensorRef, shown
from tfcompat_dw.porting.functions import FUNCTIONS as FUNCTIONS
from tfcompat_dw.porting.functions import SEVERAL_RESULTS as SEVERAL_RESULTS
from tfcompat_dw.porting.functions.arrays import dtype_named
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.operation_names import KERAS, TF
from tfcompat_dw.porting.sizes import Computed, Size, SizeOf, evaluated, refs_in

_TAKE_DEVICES = frozenset(
    name
    for name, function in FUNCTIONS.items()
    if "device" in inspect.signature(function).parameters
)
"""They make tensors of numbers, where the others are."""
_TAKE_ARRAYS = frozenset(
    {"add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "matmul", "clip"}
)
"""Lists of numbers among their arguments are arrays."""
_TAKE_LISTS = frozenset({"concatenate", "stack", "add_n"})
"""Their first argument is a list of tensors."""

# ---- the module ----------------------------------------------------------------------------------


class _Hole:
    """Where a tensor goes among the arguments."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Buffer:
    """Where one of the module's own arrays goes, or its dtype alone."""

    def __init__(self, name: str, dtype_alone: bool = False) -> None:
        self.name, self.dtype_alone = name, dtype_alone


class Operation(nn.Module):
    """A function of tensors, its other arguments fixed.

    Args:
        function: its name in :data:`FUNCTIONS`.
        args, kwargs: its arguments; a ``TensorRef`` is a tensor that ``forward`` is given, a
            :class:`~tfcompat_dw.porting.config.Constant` or a ``Tensor`` an array, a
            :class:`~tfcompat_dw.porting.sizes.Size` a number that is computed from the sizes of
            tensors that ``forward`` is given.  Arrays of numbers with fractions, and a ``dtype``
            of such, follow the module's ``to(dtype)``.

    Attributes:
        refs: the tensors that ``forward`` takes, in order.
    """

    def __init__(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.arguments = list(args), dict(kwargs)
        self.refs: list[TensorRef] = []
        self._arrays = 0
        self._args = self._template(list(args))
        self._kwargs = {key: self._named(key, value) for key, value in kwargs.items()}
        self._takes_device = function in _TAKE_DEVICES
        self._is_of_sizes = not self.refs and not self._arrays and not self._takes_device
        """Whether its tensors are all made of sizes, which are nowhere."""
        known = set(self.refs)
        for ref in _of_sizes(self.arguments):
            if ref not in known:
                self.refs.append(ref)
                known.add(ref)
        self._places = {ref: place for place, ref in reversed(list(enumerate(self.refs)))}

    def _template(self, value: Any) -> Any:
        if isinstance(value, TensorRef):
            self.refs.append(value)
            return _Hole(len(self.refs) - 1)
        if isinstance(value, (Constant, Tensor)):
            return self._buffer(value if isinstance(value, Tensor) else _array(value))
        return mapped(value, self._template)

    def _named(self, key: str, value: Any) -> Any:
        """A dtype with fractions is that of a buffer, which is the module's."""
        if key != "dtype" or not isinstance(value, str):
            return self._template(value)
        kind = dtype_named(value)
        if not kind.is_floating_point:
            return kind
        return _Buffer(self._buffer(torch.empty(0, dtype=kind)).name, dtype_alone=True)

    def _buffer(self, array: Tensor) -> _Buffer:
        name = f"constant_{self._arrays}"
        self._arrays += 1
        self.register_buffer(name, array.detach(), persistent=False)
        return _Buffer(name)

    def forward(self, *tensors: Tensor) -> Any:
        """The function of the tensors in :attr:`refs`, in their order."""

        def size_of(ref: TensorRef, axis: int) -> Any:
            return tensors[self._places[ref]].shape[axis]

        def filled(value: Any) -> Any:
            if isinstance(value, _Hole):
                return tensors[value.number]
            if isinstance(value, _Buffer):
                buffer = getattr(self, value.name)
                return buffer.dtype if value.dtype_alone else buffer
            if isinstance(value, Size):
                return evaluated(value, size_of)
            return mapped(value, filled)

        kwargs = filled(self._kwargs)
        if self._takes_device:
            kwargs["device"] = self._device(tensors)
        if self._is_of_sizes and tensors:
            with tensors[0].device:
                return FUNCTIONS[self.function](*filled(self._args), **kwargs)
        return FUNCTIONS[self.function](*filled(self._args), **kwargs)

    def _device(self, tensors: Sequence[Tensor]) -> torch.device | None:
        found = next((one for one in (*tensors, *self.buffers())), None)
        return None if found is None else found.device

    def extra_repr(self) -> str:
        """The function and its fixed arguments."""
        parts = [self.function, *map(_shown_argument, self._args)]
        parts += [f"{key}={self._shown_named(key)}" for key in self._kwargs]
        return ", ".join(parts)

    def _shown_named(self, key: str) -> str:
        return str(self.arguments[1][key]) if key == "dtype" else _shown_argument(self._kwargs[key])


def mapped(structure: Any, change: Callable[[Any], Any]) -> Any:
    """The structure with its parts changed; what has no parts as it is."""
    if isinstance(structure, (list, tuple)):
        return [change(element) for element in structure]
    if isinstance(structure, dict):
        return {key: change(value) for key, value in structure.items()}
    if isinstance(structure, slice):
        return slice(change(structure.start), change(structure.stop), change(structure.step))
    return structure


def _of_sizes(structure: Any) -> Iterator[TensorRef]:
    """The tensors whose sizes are among the arguments."""
    if isinstance(structure, Size):
        yield from refs_in(structure)
    elif isinstance(structure, (list, tuple)):
        for element in structure:
            yield from _of_sizes(element)
    elif isinstance(structure, dict):
        yield from _of_sizes(list(structure.values()))
    elif isinstance(structure, slice):
        yield from _of_sizes([structure.start, structure.stop, structure.step])


def _shown_argument(value: Any) -> str:
    if isinstance(value, _Hole):
        return "·"
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown_argument, value)) + "]"
    if isinstance(value, _Buffer):
        return "array"
    if isinstance(value, Size):
        return shown_size(value)
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        ends = ["" if end is None else _shown_argument(end) for end in parts]
        return ":".join(ends[: 3 if ends[2] else 2])
    return "..." if value is ... else repr(value)


_SIGNS = {"add": "+", "sub": "-", "mul": "*", "floordiv": "//", "mod": "%", "truediv": "/"}


def shown_size(value: Any) -> str:
    """A formula for people: ``·.shape[1] * 2``."""
    if isinstance(value, SizeOf):
        return f"·.shape[{value.axis}]"
    if not isinstance(value, Computed):
        return repr(value)
    parts = [shown_size(one) for one in value.arguments]
    if value.function not in _SIGNS or len(parts) != 2:
        return f"{value.function}({', '.join(parts)})"
    is_inner = [isinstance(one, Computed) and one.function in _SIGNS for one in value.arguments]
    parts = [f"({part})" if is_in else part for part, is_in in zip(parts, is_inner, strict=True)]
    return f" {_SIGNS[value.function]} ".join(parts)


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
        return Operation(*_node_call(name, call))
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


Arguments = tuple[str, list[Any], dict[str, Any]]


def _keras_call(name: str, config: Mapping[str, Any], call: Call) -> Arguments:
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


def _tf_call(name: str, call: Call) -> Arguments:
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


def _node_call(kind: str, call: Call) -> Arguments:
    """A node of TensorFlow's, whose attributes are as protobuf writes them in JSON."""
    from tfcompat_dw.porting.nodes import HANDLERS  # which need NumPy, as nothing else here does
    from tfcompat_dw.porting.nodes.call import NodeCall

    if kind not in HANDLERS:
        raise _refuse_function(kind)
    attributes = call.kwargs.get("attr")
    attributes = attributes if isinstance(attributes, dict) else {}
    inputs = [_array(one) if isinstance(one, Constant) else one for one in call.args]
    if not all(isinstance(one, (Tensor, TensorRef)) for one in inputs):
        raise UnsupportedLayerError("it takes something that is no tensor")
    plain = {str(key): _attribute(value) for key, value in attributes.items()}
    bound = HANDLERS[kind](NodeCall("", kind, tuple(inputs), plain))
    return bound.function, _as_constants(list(bound.args)), _as_constants(dict(bound.kwargs or {}))


def _as_constants(structure: Any) -> Any:
    """Tensors as what code can be written of."""
    if isinstance(structure, Tensor):
        return Constant(structure.tolist(), str(structure.dtype).removeprefix("torch."))
    return mapped(structure, _as_constants)


def _attribute(value: Any) -> Any:
    """``{"i": "2"}`` is 2, ``{"list": {"i": ["1", "2"]}}`` is [1, 2]; None is nothing known.

    int64 is text in protobuf's JSON, bytes are base64
    (``tensorflow/core/framework/attr_value.proto``).
    """
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((kind, content),) = value.items()
    if kind == "list" and isinstance(content, dict):
        if not content:
            return []
        ((inner, parts),) = list(content.items())[:1]
        return [_scalar(inner, part) for part in parts] if isinstance(parts, list) else None
    return _scalar(kind, content)


def _scalar(kind: str, content: Any) -> Any:
    try:
        if kind == "i":
            return int(content)
        if kind == "f":
            return float(content)
        if kind == "s":
            return base64.b64decode(content, validate=True).decode("utf-8")
    except (TypeError, ValueError, OverflowError) as error:
        raise UnsupportedLayerError(f"an attribute is {shown(content)}") from error
    if kind == "type" and isinstance(content, str):
        return _TYPES.get(content, content)
    return content if kind == "b" else None


_TYPES = {
    "DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16",
    "DT_BFLOAT16": "bfloat16", "DT_COMPLEX64": "complex64", "DT_COMPLEX128": "complex128",
    **{f"DT_{name.upper()}": name for name in (
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string"
    )},
}  # fmt: skip


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
