"""Keras' description of a network, of any version, as checked dataclasses with Keras 3's names.

The formats: ``keras/src/models/functional.py`` and ``sequential.py`` (Keras 3),
``tf_keras/src/engine/functional.py`` (Keras 2), ``keras/engine/topology.py`` (Keras 1).  Nothing
that the description names is imported, and code in it (Lambda layers) is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn

from tfcompat_dw.porting.layer import PortError
from tfcompat_dw.porting.operation_names import KERAS

MODEL_DEPTH = 16
"""Models within models."""
VALUE_DEPTH = 40
"""Lists within lists, in arguments of layers and of calls."""
MOST_LAYERS = 20_000
CONSTANT = "_CONSTANT_VALUE"
"""Keras 2's layer name where a number stands in the place of a tensor."""


# ---- what comes out --------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorRef:
    """One result of one call of a layer."""

    layer: str
    call: int = 0
    index: int = 0


@dataclass(frozen=True)
class Constant:
    """An array in the place of a tensor: nested lists of numbers."""

    value: Any
    dtype: str | None = None


@dataclass(frozen=True)
class Call:
    """Arguments of a call, as Keras passes them: nested structures with references in them."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """One layer, operation or nested model of a network."""

    class_name: str
    """Keras 3's; a custom class by its last part: ``LayerScale`` of ``Custom>LayerScale``."""
    name: str
    config: Mapping[str, Any]
    calls: tuple[Call, ...] = ()
    network: Network | None = None
    """Of a nested model."""
    operation: str | None = None
    """Of a bare function of tensors: its name, as in :mod:`tfcompat_dw.porting.operations`."""
    refusal: str | None = None
    """Why it cannot be carried over, where its description alone says so."""
    original_class: str = ""
    """As the file spells it."""

    @property
    def trainable(self) -> bool:
        """What the file says; layers are, unless it says no."""
        return self.config.get("trainable", True) is not False


@dataclass(frozen=True)
class Network:
    """A model: its layers in the file's order, and how it is called."""

    name: str
    class_name: str
    layers: tuple[Layer, ...]
    inputs: Any
    """A structure of references to InputLayers."""
    outputs: Any
    """A structure of references."""
    trainable: bool = True

    def layer(self, name: str) -> Layer:
        """By its name."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}


# ---- structures --------------------------------------------------------------------------------


def references(structure: Any) -> Iterator[TensorRef]:
    """Every reference in a structure, dicts by sorted keys as Keras flattens them."""
    if isinstance(structure, TensorRef):
        yield structure
    elif isinstance(structure, (list, tuple)):
        for element in structure:
            yield from references(element)
    elif isinstance(structure, Mapping):
        for key in sorted(structure, key=str):
            yield from references(structure[key])
    elif isinstance(structure, slice):
        yield from references((structure.start, structure.stop, structure.step))


def map_references(structure: Any, change: Callable[[TensorRef], Any]) -> Any:
    """The structure with ``change`` of each reference in its place."""
    if isinstance(structure, TensorRef):
        return change(structure)
    if isinstance(structure, (list, tuple)):
        return type(structure)(map_references(element, change) for element in structure)
    if isinstance(structure, Mapping):
        return {key: map_references(value, change) for key, value in structure.items()}
    if isinstance(structure, slice):
        ends = (structure.start, structure.stop, structure.step)
        return slice(*(map_references(end, change) for end in ends))
    return structure


def shown(name: object) -> str:
    """A name out of a file, fit for a message."""
    text = repr(name)
    return text if len(text) <= 80 else text[:60] + "..." + text[-15:]


# ---- reading ---------------------------------------------------------------------------------


def parse_network(config: object, keras_major: int) -> Network:
    """The network that ``Checkpoint.model_config()`` describes.

    Args:
        config: ``{"class_name": ..., "config": ...}``, as parsed from JSON.
        keras_major: 1, 2 or 3: which Keras wrote it.

    Raises:
        PortError: it is no description of a Sequential or Functional model, or contradicts itself.
    """
    if not isinstance(config, dict):
        _refuse("the model", f"its description is {_kind(config)} instead of an object")
    if not _is_model(config):
        name = shown(config.get("class_name"))
        _refuse(
            "the model",
            f"it is of class {name}, whose graph is Python code that the file does not have; "
            f"build it as a torch.nn.Module and use load_tf_weights",
        )
    return _Reader(keras_major).network(config, "the model", 0)


def keras_major_of(version: str | None) -> int:
    """1, 2 or 3, of ``2.4.0-tf``; Keras 1 did not write its version at first."""
    match = re.match(r"\d+", version or "1")
    return min(max(int(match.group()[:3]), 1), 3) if match else 1


def _refuse(place: str, reason: str) -> NoReturn:
    raise PortError(f"{place}: {reason}")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def _is_model(config: Mapping[str, Any]) -> bool:
    inner = config.get("config")
    if _last_part(config.get("class_name")) == "Sequential":
        return isinstance(inner, list) or (isinstance(inner, dict) and "layers" in inner)
    return isinstance(inner, dict) and {"layers", "input_layers", "output_layers"} <= inner.keys()


def _last_part(name: object) -> str:
    return re.split(r"[>.]", name)[-1] if isinstance(name, str) else ""


class _Reader:
    """Reads one description; counts layers over all nested models."""

    def __init__(self, keras_major: int) -> None:
        self.keras_major = keras_major
        self._count = 0

    # -- models

    def network(self, data: Mapping[str, Any], place: str, depth: int) -> Network:
        """A model, nested ``depth`` deep."""
        if depth > MODEL_DEPTH:
            _refuse(place, f"models are nested more than {MODEL_DEPTH} deep")
        if _last_part(data.get("class_name")) == "Sequential":
            return self._sequential(data["config"], place, depth)
        return self._functional(data["config"], place, depth)

    def _functional(self, config: Mapping[str, Any], place: str, depth: int) -> Network:
        raw = self._list(config["layers"], place, "layers")
        layers = tuple(self._layer(item, place, depth, in_graph=True) for item in raw)
        by_name = self._unique(layers, place)
        first_call = _first_calls(raw, layers, config, self.keras_major)
        layers = tuple(_renumbered(layer, first_call) for layer in layers)
        offset = _Offset(first_call)
        inputs, outputs = (
            map_references(self._legacy_structure(config[key], place, key, 0), offset.of_list)
            for key in ("input_layers", "output_layers")
        )
        for ref in references(inputs):
            self._known(ref, by_name, place)
            if by_name[ref.layer].class_name != "InputLayer":
                _refuse(place, f"its input {shown(ref.layer)} is no InputLayer")
        for ref in references(outputs):
            self._known(ref, by_name, place)
        if not list(references(outputs)):
            _refuse(place, "it has no outputs")
        for layer in layers:
            for call in layer.calls:
                for ref in references((call.args, call.kwargs)):
                    self._known(ref, by_name, f"{place}, layer {shown(layer.name)}")
        return Network(
            self._name(config.get("name", "model"), place), "Functional", layers,
            _unpacked(inputs), _unpacked(outputs), config.get("trainable", True) is not False,
        )  # fmt: skip

    def _known(self, ref: TensorRef, by_name: Mapping[str, Layer], place: str) -> None:
        layer = by_name.get(ref.layer)
        if layer is None:
            _refuse(place, f"it takes the output of {shown(ref.layer)}, which is no layer here")
        calls = 1 if layer.class_name == "InputLayer" else len(layer.calls)
        if not 0 <= ref.call < calls:
            _refuse(
                place,
                f"it takes the output of call {ref.call} of {shown(ref.layer)}, which is called "
                f"{calls} times",
            )
        if ref.index < 0:
            _refuse(place, f"it takes output {ref.index} of {shown(ref.layer)}")

    def _unique(self, layers: tuple[Layer, ...], place: str) -> dict[str, Layer]:
        by_name: dict[str, Layer] = {}
        for layer in layers:
            if layer.name in by_name:
                _refuse(place, f"two layers are named {shown(layer.name)}")
            by_name[layer.name] = layer
        return by_name

    def _sequential(self, config: Any, place: str, depth: int) -> Network:
        about = config if isinstance(config, dict) else {}
        raw = self._list(about.get("layers", config), place, "layers")
        layers = [self._layer(item, place, depth, in_graph=False) for item in raw]
        self._unique(tuple(layers), place)
        if not layers:
            _refuse(place, "it has no layers")
        if layers[0].class_name != "InputLayer":
            layers.insert(0, _input_before(layers[0], about))
            self._unique(tuple(layers), place)
        chain, previous = [layers[0]], TensorRef(layers[0].name)
        for layer in layers[1:]:
            if layer.class_name == "InputLayer":
                _refuse(place, f"InputLayer {shown(layer.name)} is not its first layer")
            chain.append(replace(layer, calls=(Call((previous,)),)))
            previous = TensorRef(layer.name)
        name = self._name(about.get("name", "sequential"), place)
        trainable = about.get("trainable", True) is not False
        return Network(
            name, "Sequential", tuple(chain), TensorRef(chain[0].name), previous, trainable
        )

    # -- layers

    def _layer(self, data: object, place: str, depth: int, in_graph: bool) -> Layer:
        self._count += 1
        if self._count > MOST_LAYERS:
            _refuse("the model", f"it has more than {MOST_LAYERS} layers")
        if not isinstance(data, dict):
            _refuse(place, f"a layer's description is {_kind(data)} instead of an object")
        config = data.get("config")
        about = config if isinstance(config, dict) else {}
        name = self._name(data.get("name", about.get("name")), place)
        here = f"{place}, layer {shown(name)}"
        class_name = data.get("class_name")
        if not isinstance(class_name, str):
            _refuse(here, f"its class_name is {_kind(class_name)} instead of text")
        if _is_model(data):
            inner = self.network(data, here, depth + 1)
            config = {"trainable": inner.trainable}
            layer = Layer("Functional", name, config, network=replace(inner, name=name))
        elif not isinstance(config, dict):
            _refuse(here, f"its config is {_kind(config)} instead of an object")
        else:
            layer = self._leaf(data, name, config, here)
        layer = replace(layer, original_class=class_name)
        return replace(layer, calls=self._calls(data, layer, here)) if in_graph else layer

    def _leaf(self, data: Mapping[str, Any], name: str, config: dict[str, Any], here: str) -> Layer:
        class_name = _last_part(data["class_name"])
        module = data.get("module")
        if class_name == "Lambda":
            return Layer(class_name, name, {}, refusal="a Lambda layer's Python code is never run")
        if class_name in _OPERATION_LAYERS:
            return _keras_2_operation(class_name, name, self._plain_config(config, here))
        if _is_operation(class_name, module, config, self.keras_major):
            plain = self._plain_config(config, here)
            return Layer(class_name, name, plain, operation=f"keras.{class_name}")
        return _translated(class_name, name, self._plain_config(config, here), self.keras_major)

    def plain(self, value: Any, place: str, depth: int = 0) -> Any:
        """Keras' wrappers of tuples, dtypes and functions replaced by what they hold."""
        if depth > VALUE_DEPTH:
            _refuse(place, f"its config is nested more than {VALUE_DEPTH} deep")
        if isinstance(value, list):
            return [self.plain(element, place, depth + 1) for element in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("class_name"), str):
            return self._plain_object(value, place, depth)
        return self._plain_config(value, place, depth)

    def _plain_config(self, config: dict[str, Any], place: str, depth: int = 0) -> dict[str, Any]:
        """Arguments by name, without those that only matter before training."""
        return {
            key: self.plain(value, place, depth + 1)
            for key, value in config.items()
            if not key.endswith(_FOR_TRAINING)
        }

    def _plain_object(self, value: dict[str, Any], place: str, depth: int) -> Any:
        kind, config = value["class_name"], value.get("config")
        inner = config if isinstance(config, dict) else {}
        if kind in ("__tuple__", "TensorShape", "ListWrapper"):
            items = value["items"] if "items" in value else inner.get("value")
            return self.plain(items if isinstance(items, list) else [], place, depth + 1)
        if kind in ("DTypePolicy", "Policy", "PolicyV1"):
            return inner.get("name")
        if kind == "QuantizedDTypePolicy":
            return f"quantized {inner.get('mode')}"
        if kind == "function":
            return _last_part(config) or _last_part(value.get("registered_name"))
        if kind in ("__lambda__", "Lambda"):
            return {"class_name": "Lambda", "config": {}}
        if kind in ("__numpy__", "__tensor__"):
            return Constant(inner.get("value"), _text_or_none(inner.get("dtype")))
        layer = _translated(
            _last_part(kind), str(inner.get("name", "")),
            self._plain_config(inner, place, depth + 1), self.keras_major,
        )  # fmt: skip
        return {"class_name": layer.class_name, "config": dict(layer.config)}

    # -- calls

    def _calls(self, data: Mapping[str, Any], layer: Layer, here: str) -> tuple[Call, ...]:
        calls = []
        for node in self._list(data.get("inbound_nodes", []), here, "inbound_nodes"):
            if isinstance(node, dict) and {"args", "kwargs"} <= node.keys():
                calls.append(self._keras_3_call(node, here))
            else:
                calls.append(self._legacy_call(node, layer, here))
        return tuple(_completed(call, layer) for call in calls)

    def _keras_3_call(self, node: Mapping[str, Any], here: str) -> Call:
        args, kwargs = (self._keras_3_value(node[key], here, 0) for key in ("args", "kwargs"))
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            _refuse(here, "the arguments of its call are no list and object")
        return Call(tuple(args), kwargs)

    def _keras_3_value(self, value: Any, here: str, depth: int) -> Any:
        if depth > VALUE_DEPTH:
            _refuse(here, f"the arguments of its call are nested more than {VALUE_DEPTH} deep")
        if isinstance(value, list):
            return [self._keras_3_value(element, here, depth + 1) for element in value]
        if not isinstance(value, dict):
            return value
        kind, inner = value.get("class_name"), value.get("config")
        if kind == "__ellipsis__":
            return ...
        if not isinstance(kind, str) or "config" not in value:
            return {key: self._keras_3_value(item, here, depth + 1) for key, item in value.items()}
        inner = inner if isinstance(inner, dict) else {}
        if kind == "__keras_tensor__":
            return self._ref(inner.get("keras_history"), here, in_history=True)
        if kind == "__tuple__":
            items = inner.get("value")
            items = items if isinstance(items, list) else []
            return tuple(self._keras_3_value(element, here, depth + 1) for element in items)
        if kind == "__slice__":
            ends = (inner.get(end) for end in ("start", "stop", "step"))
            return slice(*(self._keras_3_value(end, here, depth + 1) for end in ends))
        return self.plain(value, here, depth)

    def _legacy_call(self, node: Any, layer: Layer, here: str) -> Call:
        kwargs: dict[str, Any] = {}
        first = self._legacy_structure(node, here, "inbound_nodes", 0, kwargs)
        if isinstance(first, list) and len(first) == 1 and layer.operation is None:
            first = first[0]
        return Call((first,), kwargs)

    def _legacy_structure(
        self, value: Any, here: str, what: str, depth: int, kwargs: dict[str, Any] | None = None
    ) -> Any:
        """``[layer, call, index(, kwargs)]`` within lists and objects."""
        if depth > VALUE_DEPTH:
            _refuse(here, f"its {what} are nested more than {VALUE_DEPTH} deep")
        if _is_node(value):
            if kwargs is not None and len(value) == 4:
                kwargs.update(self._legacy_kwargs(value[3], here))
            return value[2] if value[0] == CONSTANT else self._ref(value[:3], here)
        value = _without_tuple(value)
        if isinstance(value, list):
            return [self._legacy_structure(item, here, what, depth + 1, kwargs) for item in value]
        if isinstance(value, dict):
            return {
                key: self._legacy_structure(item, here, what, depth + 1, kwargs)
                for key, item in value.items()
            }
        _refuse(here, f"its {what} hold {shown(value)}, where [layer, call, output] is expected")

    def _legacy_kwargs(self, value: Any, here: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            _refuse(here, f"the keyword arguments of its call are {_kind(value)}, not an object")
        return {key: self._legacy_value(item, here, 0) for key, item in value.items()}

    def _legacy_value(self, value: Any, here: str, depth: int) -> Any:
        if depth > VALUE_DEPTH:
            _refuse(here, f"the arguments of its call are nested more than {VALUE_DEPTH} deep")
        if _is_node(value):
            return value[2] if value[0] == CONSTANT else self._ref(value[:3], here)
        value = _without_tuple(value)
        if isinstance(value, list):
            return [self._legacy_value(item, here, depth + 1) for item in value]
        if isinstance(value, dict) and value.keys() == {"start", "stop", "step"}:
            ends = (value[end] for end in ("start", "stop", "step"))
            return slice(*(self._legacy_value(end, here, depth + 1) for end in ends))
        if isinstance(value, dict) and value.get("class_name") == "__ellipsis__":
            return ...
        if isinstance(value, dict) and isinstance(value.get("class_name"), str):
            return self.plain(value, here, depth)
        if isinstance(value, dict):
            return {key: self._legacy_value(item, here, depth + 1) for key, item in value.items()}
        return value

    # -- checks

    def _ref(self, value: Any, here: str, in_history: bool = False) -> TensorRef:
        if (
            not isinstance(value, list)
            or len(value) != 3
            or not isinstance(value[0], str)
            or not all(type(number) is int and 0 <= number < 2**31 for number in value[1:])
        ):
            _refuse(here, f"{shown(value)} is no reference to a layer's output")
        kind = _HistoryRef if in_history else TensorRef
        return kind(*value)

    def _list(self, value: Any, place: str, what: str) -> list[Any]:
        if not isinstance(value, list):
            _refuse(place, f"its {what} are {_kind(value)} instead of a list")
        return value

    def _name(self, value: Any, place: str) -> str:
        if not isinstance(value, str):
            _refuse(place, f"a name is {_kind(value)} instead of text")
        return value


class _HistoryRef(TensorRef):
    """A reference that counts a nested model's calls from 0; lists of Keras 2 count from 1."""


def _is_node(value: Any) -> bool:
    """``[layer, call, index]`` or ``[layer, call, index, kwargs]``."""
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)


def _without_tuple(value: Any) -> Any:
    """Keras 2 writes tuples into SavedModels as objects."""
    if isinstance(value, dict) and value.get("class_name") == "__tuple__":
        items = value.get("items")
        return items if isinstance(items, list) else []
    return value


def _is_operation(class_name: str, module: Any, config: Mapping[str, Any], major: int) -> bool:
    """Whether it is a function of ``keras.ops``; HDF5 files do not name the module."""
    if isinstance(module, str):
        return module.startswith(("keras.src.ops.", "keras.ops"))
    return major == 3 and class_name in KERAS and "trainable" not in config


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _unpacked(structure: Any) -> Any:
    """A list of one is that one: Keras takes and returns it so."""
    if isinstance(structure, list) and len(structure) == 1:
        return structure[0]
    return structure


def _input_before(first: Layer, about: Mapping[str, Any]) -> Layer:
    """The InputLayer that a Sequential model without one has."""
    shape = first.config.get("batch_shape", about.get("build_input_shape"))
    dtype = first.config.get("dtype")
    if first.network is not None:
        inner = next(references(first.network.inputs), None)
        config = first.network.layer(inner.layer).config if inner else {}
        return Layer("InputLayer", f"{first.name}_input", config, original_class="InputLayer")
    config = {"batch_shape": shape, "dtype": "int32" if first.class_name == "Embedding" else dtype}
    return Layer("InputLayer", f"{first.name}_input", config, original_class="InputLayer")


# ---- from which number a nested model's calls count ----------------------------------------------


class _Offset:
    """Renumbers references so that every layer's calls count from 0."""

    def __init__(self, first_call: Mapping[str, int]) -> None:
        self._first_call = first_call

    def of_list(self, ref: TensorRef) -> TensorRef:
        """Of Keras 2's lists."""
        return TensorRef(ref.layer, ref.call - self._first_call.get(ref.layer, 0), ref.index)

    def of_any(self, ref: TensorRef) -> TensorRef:
        """Of Keras 2's lists or of Keras 3's histories, which count from 0 as they are."""
        if isinstance(ref, _HistoryRef):
            return TensorRef(ref.layer, ref.call, ref.index)
        return self.of_list(ref)


def _renumbered(layer: Layer, first_call: Mapping[str, int]) -> Layer:
    change = _Offset(first_call).of_any
    calls = (map_references((call.args, call.kwargs), change) for call in layer.calls)
    return replace(layer, calls=tuple(Call(args, kwargs) for args, kwargs in calls))


def _first_calls(
    raw: list[Any], layers: tuple[Layer, ...], config: Mapping[str, Any], keras_major: int
) -> dict[str, int]:
    """The number of each nested model's first call in lists.

    Keras makes a node when it makes a model, and that one is not written; so a model's own calls
    count from 1.  A Sequential model that did not know its input's shape has no such node, and
    Keras 3's Sequential never has.
    """
    highest: dict[str, int] = {}
    lists = [layer.calls for layer in layers]
    ends = [config["input_layers"], config["output_layers"]]
    refs = [
        ref
        for calls in lists
        for call in calls
        for ref in references((call.args, call.kwargs))
        if not isinstance(ref, _HistoryRef)
    ]
    found = [*((ref.layer, ref.call) for ref in refs), *_ends(ends)]
    lowest: dict[str, int] = {}
    for name, call in found:
        highest[name] = max(call, highest.get(name, 0))
        lowest[name] = min(call, lowest.get(name, call))
    first_call = {}
    for item, layer in zip(raw, layers, strict=True):
        if layer.network is None or layer.name not in highest:
            continue
        is_sequential = _last_part(item.get("class_name")) == "Sequential"
        usual = 0 if is_sequential and keras_major == 3 else 1
        fits = {
            first: lowest[layer.name] >= first and highest[layer.name] < first + len(layer.calls)
            for first in (0, 1)
        }
        first_call[layer.name] = usual if fits[usual] or not fits[1 - usual] else 1 - usual
    return first_call


def _ends(structure: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    if depth > VALUE_DEPTH:
        return
    if _is_node(structure):
        if type(structure[1]) is int:
            yield structure[0], structure[1]
    elif isinstance(structure, (list, dict)):
        for item in structure.values() if isinstance(structure, dict) else structure:
            yield from _ends(item, depth + 1)


# ---- older spellings ---------------------------------------------------------------------------

_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint", "_initializers")
_OPERATION_LAYERS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")

_KERAS_1_CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution1D": "SeparableConv1D",
    "SeparableConvolution2D": "SeparableConv2D",
    "Convolution2DTranspose": "Conv2DTranspose",
    "Convolution3DTranspose": "Conv3DTranspose",
    "Deconvolution2D": "Conv2DTranspose",
    "Deconvolution3D": "Conv3DTranspose",
}
_ALIASES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "AvgPool1D": "AveragePooling1D",
    "AvgPool2D": "AveragePooling2D",
    "AvgPool3D": "AveragePooling3D",
    "MaxPool1D": "MaxPooling1D",
    "MaxPool2D": "MaxPooling2D",
    "MaxPool3D": "MaxPooling3D",
    "GlobalAvgPool1D": "GlobalAveragePooling1D",
    "GlobalAvgPool2D": "GlobalAveragePooling2D",
    "GlobalAvgPool3D": "GlobalAveragePooling3D",
    "GlobalMaxPool1D": "GlobalMaxPooling1D",
    "GlobalMaxPool2D": "GlobalMaxPooling2D",
    "GlobalMaxPool3D": "GlobalMaxPooling3D",
    "SeparableConvolution1D": "SeparableConv1D",
    "SeparableConvolution2D": "SeparableConv2D",
    "LSTMV1": "LSTM",
    "LSTMV2": "LSTM",
    "GRUV1": "GRU",
    "GRUV2": "GRU",
}
_KERAS_1_ARGUMENTS = {
    "nb_filter": "filters",
    "border_mode": "padding",
    "subsample": "strides",
    "subsample_length": "strides",
    "dim_ordering": "data_format",
    "bias": "use_bias",
    "atrous_rate": "dilation_rate",
    "filter_length": "kernel_size",
    "pool_length": "pool_size",
    "stride": "strides",
    "sigma": "stddev",
    "inner_activation": "recurrent_activation",
    "p": "rate",
}
"""Of any layer; ``output_dim`` and ``alpha`` mean different things in different ones."""
_BY_CLASS = {
    "LeakyReLU": {"alpha": "negative_slope"},
    "Dense": {"output_dim": "units"},
    "LSTM": {"output_dim": "units"},
    "GRU": {"output_dim": "units"},
    "SimpleRNN": {"output_dim": "units"},
    "UpSampling1D": {"length": "size"},
}
_MERGES = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "min": "Minimum",
    "concat": "Concatenate",
}


def _translated(class_name: str, name: str, config: dict[str, Any], keras_major: int) -> Layer:
    """A layer with Keras 3's names of class and arguments."""
    class_name, refusal = _ALIASES.get(class_name, class_name), None
    renamed = {"batch_input_shape": "batch_shape", **_BY_CLASS.get(class_name, {})}
    if keras_major == 1:
        class_name = _KERAS_1_CLASSES.get(class_name, class_name)
        renamed = {**_KERAS_1_ARGUMENTS, **renamed, **_BY_CLASS.get(class_name, {})}
    new = {key: value for key, value in config.items() if key not in renamed}
    for old, value in config.items():
        if old in renamed:
            new.setdefault(renamed[old], value)
    if keras_major == 1:
        class_name, refusal = _from_keras_1(class_name, new)
    if class_name in ("DepthwiseConv2D", "DepthwiseConv1D") and new.get("groups") == 1:
        del new["groups"]  # TF 2.3 to 2.15 write it, no Keras reads it
    if str(new.get("dtype")).startswith("quantized"):
        refusal = f"its variables are {new['dtype']}; save the model before quantizing it"
    return Layer(class_name, name, new, refusal=refusal)


def _from_keras_1(class_name: str, config: dict[str, Any]) -> tuple[str, str | None]:
    """Class and refusal; changes the arguments whose values mean something else today."""
    _kernel_of_keras_1(config)
    order = config.get("data_format")
    if order in ("tf", "th"):
        config["data_format"] = "channels_last" if order == "tf" else "channels_first"
    padding = config.get("padding")
    if class_name == "ZeroPadding2D" and isinstance(padding, list) and len(padding) == 4:
        config["padding"] = [padding[:2], padding[2:]]
    if class_name == "BatchNormalization" and config.get("mode", 0) != 0:
        return class_name, f"mode={shown(config['mode'])}: only mode 0 has moving statistics"
    return _merge(config) if class_name == "Merge" else (class_name, None)


def _merge(config: dict[str, Any]) -> tuple[str, str | None]:
    """Keras 1's Merge layer in a graph: one of Keras 3's."""
    mode = config.get("mode")
    if config.get("mode_type") not in (None, "raw") or not isinstance(mode, str):
        return "Merge", "its mode is a Python function"
    if "layers" in config and isinstance(config["layers"], list) and config["layers"]:
        return "Merge", "it holds the branches of a Sequential model; save it as a Model"
    if mode not in _MERGES:
        return "Merge", f"mode={shown(mode)} is none of {', '.join(_MERGES)}"
    if "concat_axis" in config:
        config["axis"] = config["concat_axis"]
    return _MERGES[mode], None


def _kernel_of_keras_1(config: dict[str, Any]) -> None:
    sizes = [config[key] for key in ("kernel_dim1", "nb_row") if key in config]
    sizes += [config[key] for key in ("kernel_dim2", "nb_col") if key in config]
    sizes += [config[key] for key in ("kernel_dim3",) if key in config]
    if len(sizes) > 1:
        config.setdefault("kernel_size", sizes)


# ---- functions of tensors in Keras 2's graphs ----------------------------------------------------


def _keras_2_operation(class_name: str, name: str, config: dict[str, Any]) -> Layer:
    if class_name == "SlicingOpLambda":
        return Layer(class_name, name, {}, operation="tf.getitem")
    if class_name == "TFOpLambda":
        function = config.get("function")
        if not isinstance(function, str):
            return Layer(class_name, name, {}, refusal="it names no function")
        return Layer(class_name, name, {}, operation=f"tf.{function}")
    definition, constants = config.get("node_def"), config.get("constants", {})
    if not isinstance(definition, dict) or not isinstance(constants, dict):
        return Layer(
            class_name, name, {}, refusal="its node_def is not in the form of TF 2.2 and later"
        )
    arguments = {"attr": definition.get("attr", {}), "constants": constants}
    return Layer(class_name, name, arguments, operation=f"node.{definition.get('op')}")


def _completed(call: Call, layer: Layer) -> Call:
    """With the constants that a TensorFlowOpLayer keeps apart, in their places."""
    if not (layer.operation or "").startswith("node."):
        return call
    first = call.args[0] if call.args else []
    tensors = list(first) if isinstance(first, list) else [first]
    for place, value in sorted(_numbered(layer.config["constants"])):
        tensors.insert(place, Constant(value))
    return Call(tuple(tensors), {"attr": layer.config["attr"]})


def _numbered(constants: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    for key, value in constants.items():
        if key.isascii() and key.isdigit() and len(key) < 4:
            yield int(key), value
