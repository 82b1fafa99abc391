"""The network that comes out: an ``nn.Module`` that runs a Keras graph, NHWC inside."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tfcompat_dw.layers import _DepthwiseConv, _SeparableConv
from tfcompat_dw.names import Names

DataFormat = Literal["channels_last", "channels_first"]
LONGEST_NAME = 100


@dataclass(frozen=True)
class ModelInput:
    """What the network takes, in the order of its arguments."""

    name: str
    """Of the InputLayer."""
    shape: tuple[int | None, ...] | None
    """The batch first, channels last; None where any size is taken, or nothing is said."""
    dtype: str = "float32"


@dataclass(frozen=True)
class Slot:
    """A value that was computed before: an input of the network, or a result of a step."""

    number: int
    index: int = 0
    """Which of several results."""


@dataclass(frozen=True)
class Step:
    """One call of a module."""

    module: str
    """Its attribute."""
    name: str
    """The layer's name in TensorFlow; of a second call with ``:1``."""
    args: tuple[Any, ...]
    """Structures with slots in them."""
    kwargs: Mapping[str, Any]
    output: int
    """The number of the slot that it fills."""
    spent: tuple[int, ...] = ()
    """Slots that nothing after it reads."""


@dataclass(frozen=True)
class Record:
    """What layers give while a network runs."""

    found: dict[str, Tensor]
    given: Mapping[str, Tensor] = field(default_factory=dict)
    """What the layers behind them get in the place of it."""
    prefix: str = ""
    """The models around the layers."""

    def within(self, name: str) -> Record:
        """For the layers of a nested model."""
        return Record(self.found, self.given, f"{self.prefix}{name}/")

    def added(self, name: str, result: Any) -> Any:
        """Notes a result; what the layers behind it get: the same, or what is given for it."""
        name = self.prefix + name
        for index, tensor in enumerate(flat(result)):
            if isinstance(tensor, Tensor):
                self.found[name + (f".{index}" if index else "")] = tensor
        given = self.given.get(name)
        if given is None or not isinstance(result, Tensor) or given.shape != result.shape:
            return result
        return given.to(result.dtype)


class PortedModel(nn.Module):
    """A Keras network as PyTorch modules, which :func:`~tfcompat_dw.porting.port_model` makes.

    Its children are the network's layers under their TensorFlow names (characters that Python's
    names do not have replaced by ``_``), nested models are children of this class.  It is called
    like the original: with its inputs in order, with keyword arguments named after its input
    layers, or with one list or dict of them.  It returns what the original returns: a tensor, a
    list or a dict.  Images are ``[n, h, w, c]`` unless it was ported with
    ``data_format="channels_first"``: then those that go in and come out are ``[n, c, h, w]``, and
    inside they remain channels-last (views: nothing is copied).

    ``torch.export`` with any batch: ``export(model, (x,), dynamic_shapes=(({0: batch},),))`` with
    ``batch = torch.export.Dim("batch")``: one tuple for all of its inputs.

    Attributes:
        inputs: the inputs' names, shapes and dtypes.
        tf_names: from a child's attribute to the layer's name in TensorFlow.
        data_format: of what goes in and comes out.
        source: ``"keras"`` or ``"graph"``, whichever description it was made from.
    """

    inputs: tuple[ModelInput, ...]
    tf_names: dict[str, str]
    data_format: DataFormat
    source: Literal["keras", "graph"] = "keras"
    """Which description of the network it was made from."""

    def __init__(
        self,
        name: str,
        inputs: Sequence[ModelInput],
        modules: Mapping[str, nn.Module],
        tf_names: Mapping[str, str],
        steps: Sequence[Step],
        outputs: Any,
        *,
        pinned: Mapping[str, bool] | None = None,
        data_format: DataFormat = "channels_last",
    ) -> None:
        super().__init__()
        self.name = name
        self.inputs = tuple(inputs)
        self.tf_names = dict(tf_names)
        self.data_format = data_format
        self.steps = tuple(steps)
        self.output_structure = outputs
        self.modes = dict(pinned or {})
        for attribute, module in modules.items():
            self.add_module(attribute, module)

    # -- calls

    def forward(self, *inputs: Any, **named: Tensor) -> Any:
        """The network's outputs.

        Args:
            *inputs: the inputs in order, or one list or dict of them.
            **named: inputs by the names of their input layers.

        Raises:
            TypeError: an input is missing, unknown or an array that is no tensor.
            ValueError: a layer cannot take what came of an image of other channels or another rank
                than the file says.
        """
        given = self._in_order(inputs, named)
        if torch.compiler.is_compiling():
            return self._outputs_of(given)
        try:
            return self._outputs_of(given)
        except (IndexError, RuntimeError, ValueError) as error:
            unlike = [_unlike(*pair, self.data_format) for pair in given]
            found = next((text for text in unlike if text is not None), None)
            if found is None:
                raise
            raise ValueError(f"{found} ({error})") from error

    def _outputs_of(self, given: list[tuple[ModelInput, Any]]) -> Any:
        values = [self._prepared(*pair) for pair in given]
        return self._map_outputs(self._run(values, None))

    def layer_outputs(self, *inputs: Any, **named: Tensor) -> dict[str, Tensor]:
        """The output of every layer by its TensorFlow name, in the order of computation.

        Layers of a nested model are ``outer/inner``; the second call of a shared layer is
        ``name:1``, the second output of a layer ``name.1``.  All of them are channels-last.  A
        ZeroPadding2D that became a part of the convolution behind it has none.
        """
        record = Record({})
        values = [self._prepared(*pair) for pair in self._in_order(inputs, named)]
        self._run(values, record)
        return record.found

    def outputs_of_each_layer(self, given: Mapping[str, Tensor], *inputs: Any) -> dict[str, Tensor]:
        """As :meth:`layer_outputs`, but layers take the results that are given for those before.

        What a layer does is so seen apart from what has added up before it.
        """
        record = Record({}, given)
        self._run([self._prepared(*pair) for pair in self._in_order(inputs, {})], record)
        return record.found

    def _in_order(
        self, inputs: tuple[Any, ...], named: Mapping[str, Any]
    ) -> list[tuple[ModelInput, Any]]:
        """Each input with its value."""
        if len(inputs) == 1 and not named:
            only = inputs[0]
            if isinstance(only, Mapping):
                named, inputs = self._by_name(only), ()
            elif isinstance(only, (list, tuple)):
                inputs = tuple(flat(only))
        names = [one.name for one in self.inputs]
        if len(inputs) > len(names):
            raise TypeError(f"the network takes {len(names)} inputs {names}; got {len(inputs)}")
        given = dict(zip(names, inputs, strict=False))
        for name, value in named.items():
            if name not in names or name in given:
                problem = "given twice" if name in given else "unknown"
                raise TypeError(f"input {name!r} is {problem}; the network takes {names}")
            given[name] = value
        if len(given) < len(names):
            missing = [name for name in names if name not in given]
            raise TypeError(f"inputs {missing} are missing; the network takes {names}")
        return [(one, given[one.name]) for one in self.inputs]

    def _by_name(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """A dict whose keys are no input layers' names is taken in the order of sorted keys."""
        if set(given) <= {one.name for one in self.inputs}:
            return given
        values = flat(given)
        return {one.name: value for one, value in zip(self.inputs, values, strict=False)}

    def _prepared(self, about: ModelInput, value: Any) -> Any:
        """Channels last, and integers as numbers where the network computes with numbers."""
        if not isinstance(value, Tensor):
            if hasattr(value, "__array__"):
                raise TypeError(f"input {about.name!r} must be a tensor; got {type(value)}")
            return value
        if self.data_format == "channels_first":
            value = channels_last(value)
        return as_float(value, self) if about.dtype.startswith(("float", "bfloat")) else value

    def _run(self, values: list[Any], record: Record | None) -> Any:
        slots: dict[int, Any] = dict(enumerate(values))
        for step in self.steps:
            module = getattr(self, step.module)
            args = [_filled(argument, slots) for argument in step.args]
            kwargs = {key: _filled(value, slots) for key, value in step.kwargs.items()}
            if record is not None and isinstance(module, PortedModel):
                result = module._recorded(args, kwargs, record.within(step.name))
            else:
                result = module(*args, **kwargs)
            if record is not None:
                result = record.added(step.name, result)
            for number in step.spent:
                del slots[number]
            slots[step.output] = result
        return _filled(self.output_structure, slots)

    def _recorded(self, args: list[Any], kwargs: dict[str, Any], record: Record) -> Any:
        values = [self._prepared(*pair) for pair in self._in_order(tuple(args), kwargs)]
        return self._run(values, record)

    def _map_outputs(self, outputs: Any) -> Any:
        return outputs if self.data_format == "channels_last" else channels_first(outputs)

    # -- training and evaluation

    def train(self, mode: bool = True) -> PortedModel:
        """Sets the mode of all layers but those whose mode the original fixes.

        Those are the ones that it calls with ``training=False``, and batch normalizations with
        ``trainable=False``, which keep their statistics in TensorFlow.
        """
        super().train(mode)
        for attribute, fixed in self.modes.items():
            getattr(self, attribute).train(fixed)
        return self

    # -- printing

    def __repr__(self) -> str:
        """One line per layer."""
        count = sum(parameter.numel() for parameter in self.parameters())
        head = f"{type(self).__name__} {_line(self.name)}: {len(self.tf_names)} layers, {count:,} "
        return "\n".join([f"{head}parameters, {self.data_format}", *self._lines("  ")])

    def _lines(self, indent: str) -> Iterable[str]:
        scope = _common_scope([step.name for step in self.steps])
        names = [_line(step.name.removeprefix(scope)) for step in self.steps]
        width = min(40, max(map(len, names), default=0))
        sources = {number: one.name for number, one in enumerate(self.inputs)}
        above = self.inputs[-1].name if len(self.inputs) == 1 else ""
        shown: set[str] = set()
        for step, name in zip(self.steps, names, strict=True):
            module = getattr(self, step.module)
            comes_from = [sources[number] for number in _numbers((step.args, step.kwargs))]
            where = "" if comes_from == [above] else f"  <- {', '.join(map(_line, comes_from))}"
            about = "the same again" if step.module in shown else _described(module)
            yield f"{indent}{name:{width}}  {about}{where}"
            inner = getattr(module, "body", module)
            if isinstance(inner, PortedModel) and step.module not in shown:
                yield from inner._lines(indent + "  ")
            shown.add(step.module)
            above = sources[step.output] = step.name.removeprefix(scope)


def _common_scope(names: Sequence[str]) -> str:
    """What the names of several nodes have in common, up to a slash."""
    if len(names) < 2:
        return ""
    parts = [name.split("/")[:-1] for name in names]
    common = 0
    while all(len(one) > common and one[common] == parts[0][common] for one in parts):
        common += 1
    return "".join(f"{part}/" for part in parts[0][:common])


def _line(name: str) -> str:
    """A name from a file in one line."""
    if not name.isprintable():
        return repr(name[:LONGEST_NAME])
    return name if len(name) < LONGEST_NAME else "..." + name[-LONGEST_NAME // 2 :]


def _described(module: nn.Module) -> str:
    inner = getattr(module, "body", module)
    if isinstance(inner, PortedModel):
        return f"{type(module).__name__} of {len(inner.tf_names)} layers"
    if isinstance(module, (_DepthwiseConv, _SeparableConv)):
        return f"{type(module).__name__}({', '.join(_of_depthwise(module))})"
    return re.sub(r"\s+", " ", repr(module))


def _of_depthwise(layer: _DepthwiseConv | _SeparableConv) -> Iterator[str]:
    """All that makes a depthwise convolution, whether or not it is at its default."""
    kernel, strides = ("x".join(map(str, sizes)) for sizes in (layer.kernel_size, layer.strides))
    yield f"{layer.in_channels}"
    if isinstance(layer, _SeparableConv):
        yield f"{layer.filters}"
    yield f"depthwise kernel {kernel}, stride {strides}, padding {layer.padding}"
    yield f"multiplier {layer.depth_multiplier}"
    if max(layer.dilation_rate) > 1:
        yield f"dilation {'x'.join(map(str, layer.dilation_rate))}"
    if not layer.use_bias:
        yield "no bias"
    if getattr(layer, "activation", None) is not None:
        activation = re.sub(r"\s+", " ", repr(layer.activation))
        yield f"activation {activation}"


# ---- structures --------------------------------------------------------------------------------


def _filled(structure: Any, slots: Mapping[int, Any]) -> Any:
    """The structure with values in the places of slots."""
    if isinstance(structure, Slot):
        return pick(slots[structure.number], structure.index)
    if isinstance(structure, list):
        return [_filled(element, slots) for element in structure]
    if isinstance(structure, tuple):
        return tuple([_filled(element, slots) for element in structure])
    if isinstance(structure, dict):
        return {key: _filled(value, slots) for key, value in structure.items()}
    return structure


def pick(value: Any, index: int) -> Any:
    """One of several results; a tensor is the only one."""
    if isinstance(value, Tensor):
        if index:
            raise IndexError(f"output {index} of a layer that has one")
        return value
    return flat(value)[index]


def flat(structure: Any) -> list[Any]:
    """The leaves in Keras' order: dicts by sorted keys."""
    if isinstance(structure, (list, tuple)):
        return [leaf for element in structure for leaf in flat(element)]
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in flat(structure[key])]
    return [structure]


def _numbers(structure: Any) -> list[int]:
    """The slots in a structure."""
    if isinstance(structure, (list, tuple)):
        return [number for element in structure for number in _numbers(element)]
    if isinstance(structure, Mapping):
        return [number for value in structure.values() for number in _numbers(value)]
    return [structure.number] if isinstance(structure, Slot) else []


def as_float(value: Tensor, module: nn.Module) -> Tensor:
    """Numbers of the type in which a module computes, as Keras casts its inputs."""
    dtypes = [one.dtype for one in module.parameters() if one.is_floating_point()]
    return value.to(dtypes[0] if dtypes else torch.get_default_dtype())


def _unlike(about: ModelInput, value: Any, data_format: DataFormat) -> str | None:
    """How an image differs from what the file says of the input, both in the caller's axes."""
    shape = about.shape
    if shape is None or len(shape) not in (4, 5) or not isinstance(value, Tensor):
        return None
    axis = 1 if data_format == "channels_first" else -1
    if value.dim() == len(shape) and shape[-1] in (None, int(value.shape[axis])):
        return None
    sizes = ["n", *("?" if size is None else str(size) for size in shape[1:])]
    if data_format == "channels_first":
        sizes.insert(1, sizes.pop())
    return (
        f"input {about.name!r} is {list(value.shape)}, and the file says [{', '.join(sizes)}], "
        f"with {data_format.replace('_', ' ')}; port_model's data_format says where the channels "
        f"are"
    )


def channels_last(image: Tensor) -> Tensor:
    """``[n, c, ...]`` as ``[n, ..., c]``, a view; tensors of rank 3 to 5 are images."""
    return image.movedim(1, -1) if 3 <= image.dim() <= 5 else image


def channels_first(images: Any) -> Any:
    """``[n, ..., c]`` as ``[n, c, ...]``, a view; of every tensor in a list or a dict."""
    if isinstance(images, Tensor):
        return images.movedim(-1, 1) if 3 <= images.dim() <= 5 else images
    if isinstance(images, (list, tuple)):
        return type(images)(channels_first(image) for image in images)
    if isinstance(images, dict):
        return {key: channels_first(image) for key, image in images.items()}
    return images


def with_spent(steps: Sequence[Step], outputs: Any, inputs: int) -> list[Step]:
    """The steps, each with the slots that are read for the last time."""
    last = dict.fromkeys(range(inputs), -1)
    for place, step in enumerate(steps):
        for number in _numbers((step.args, step.kwargs)):
            last[number] = place
    kept = set(_numbers(outputs))
    spent: dict[int, list[int]] = {}
    for number, place in last.items():
        if place >= 0 and number not in kept:
            spent.setdefault(place, []).append(number)
    return [
        Step(
            step.module, step.name, step.args, step.kwargs, step.output, tuple(spent.get(place, ()))
        )
        for place, step in enumerate(steps)
    ]


# ---- names ---------------------------------------------------------------------------------------


def attribute_names(names: Iterable[str]) -> dict[str, str]:
    """From layers' names to attributes: Python's names, unique, none of a module's own."""
    attributes = Names(_RESERVED)
    found = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name[:LONGEST_NAME]) or "layer"
        if plain.startswith("__"):  # within a class Python gives such names another form
            plain = "_" + plain.lstrip("_")
        if plain[0].isdigit():
            plain = f"_{plain}"
        if keyword.iskeyword(plain) or keyword.issoftkeyword(plain) or plain in _RESERVED:
            plain += "_"
        found[name] = attributes.new(plain)
    return found


_RESERVED = frozenset(
    {*dir(PortedModel("", [], {}, {}, [], None)), *PortedModel.__annotations__, "name", "steps"}
)
"""What a layer's name must not hide."""
