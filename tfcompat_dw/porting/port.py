"""``port_model``: from a file to an ``nn.Module``."""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.checkpoint.base import Checkpoint
from tfcompat_dw.porting.config import (
    Call,
    Layer,
    Network,
    TensorRef,
    keras_major_of,
    map_references,
    parse_network,
    references,
    shown,
)
from tfcompat_dw.porting.graph import TAKE_PADDING, Node, fold_paddings, ordered_nodes
from tfcompat_dw.porting.layer import (
    Builder,
    LayerSpec,
    PortError,
    UnsupportedLayerError,
    listed,
)
from tfcompat_dw.porting.model import (
    DataFormat,
    ModelInput,
    PortedModel,
    Slot,
    Step,
    attribute_names,
    with_spent,
)
from tfcompat_dw.porting.operations import Operation, operation_of
from tfcompat_dw.porting.options import Options
from tfcompat_dw.porting.weights import FileVariable, Path, assign, pairs_of, variables_by_layer


def port_model(
    path: str | os.PathLike[str],
    *,
    data_format: DataFormat = "channels_last",
    layers: Mapping[str, Builder] | None = None,
    dtype: torch.dtype | None = None,
    signature: str | None = None,
    outputs: Sequence[str] | None = None,
    input_shapes: Mapping[str, Sequence[int | None]] | None = None,
    simulate_quantization: bool = False,
) -> PortedModel:
    """A trained TensorFlow network as a PyTorch module, without TensorFlow.

    The module computes what TensorFlow computes, layer by layer.  One that was a Keras model trains
    like it, too: batch normalizations with its epsilon, momentum and variance, layers with
    ``trainable=False`` frozen.  A graph does not tell the momentum, which is 0.99 then; those of
    its weights are trained that the file says are, all of them where it has no variables.  The
    ``state_dict`` has TensorFlow's names of layers and nodes.

    Args:
        path: a Keras model of any version (``.keras``, ``.h5``, ``.hdf5``; Sequential or
            Functional, nested as deep as you like), a SavedModel folder, a frozen graph (``.pb``,
            ``.pbtxt``), a graph beside its checkpoint (``.meta``), ``.tflite``, or the
            ``model.json`` of TensorFlow.js.
        data_format: ``"channels_last"``: images are ``[n, h, w, c]``, as in TensorFlow.
            ``"channels_first"``: those that go in and come out, that is all tensors of three to
            five axes, are ``[n, c, h, w]``.
        layers: builders for classes of layers, or of a graph's operations, that this package does
            not have, or that are to be replaced: from the class' or operation's name to a function
            of a :class:`~tfcompat_dw.porting.layer.LayerSpec` that returns the module.  The
            variables of a layer are loaded if the module has ``tf_weights()``; the module of an
            operation is called with all of the operation's inputs, constants too.
        dtype: of the parameters; float32 if None.
        signature: of a SavedModel or TFLite network with several.
        outputs: names of a graph's nodes whose results are wanted in the place of its own outputs.
        input_shapes: by the names of a graph's inputs, where the file does not say; None for sizes
            that may vary.
        simulate_quantization: for a quantized TFLite network: round and clip every result as the
            original does with its integers.  Otherwise the network computes with the numbers that
            the integers stand for.

    Returns:
        The network in evaluation mode: ``print`` it to see its layers, ``.train()`` it to go on
        training.  It takes its inputs in the order of ``.inputs`` or by their names, and gives what
        the Keras model gives; of a graph one tensor, or a dict of several by the names of outputs.

    Raises:
        PortError: layers or operations that cannot be carried over, all of them in one message; a
            description that contradicts itself; variables that do not fit their layers.
        CheckpointError: the file is missing or damaged.
        ValueError: there is no such signature or node.

    Example:
        >>> model = tfcompat_dw.port_model("mobilenet.h5")
        >>> features = model(images)  # float32 [n, 224, 224, 3]
        >>> print(model)

        A layer of your own::

            class Scale(nn.Module):
                def __init__(self, channels):
                    super().__init__()
                    self.gamma = nn.Parameter(torch.ones(channels))

                def forward(self, x):
                    return x * self.gamma

                def tf_weights(self):
                    return [TfWeight("gamma", self.gamma)]

            port_model("net.keras", layers={"Scale": lambda spec: Scale(spec.config["channels"])})
    """
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            f"data_format must be 'channels_last' or 'channels_first'; got {data_format!r}"
        )
    checkpoint = open_checkpoint(path)
    shapes = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    options = Options(data_format, layers or {}, shapes, simulate_quantization)
    try:
        with _default_dtype(dtype):
            model = _port(checkpoint, options, signature, outputs)
    except PortError as error:
        raise PortError(f"{checkpoint.path}: {error}") from error.__cause__
    return model if dtype is None else model.to(dtype)


def _port(
    checkpoint: Checkpoint, options: Options, signature: str | None, outputs: Sequence[str] | None
) -> PortedModel:
    """By Keras' description where there is one, else, or where that fails, by the graph."""
    config = checkpoint.model_config()
    refusal: PortError | None = None
    if config is not None and signature is None and outputs is None:
        try:
            return _port_keras(config, checkpoint, options)
        except PortError as error:
            refusal = error
            if not checkpoint.signatures():
                raise
    from tfcompat_dw.porting.graph_port import port_graph  # for those who port graphs

    graph = checkpoint.graph(signature, outputs)
    if graph is None:
        raise PortError(_without_graph(checkpoint, config is not None))
    try:
        model = port_graph(graph, options)
    except PortError as error:
        raise refusal or error from None
    if not model.steps and outputs is None and checkpoint.path.suffix == ".meta":
        raise PortError(
            "its graph has nothing but variables and what saves them; name the result that you "
            "want by outputs= (--output-node), or build the network as a torch.nn.Module and use "
            "load_tf_weights"
        )
    if refusal is not None:
        warnings.warn(
            f"{checkpoint.path}: {refusal}\nThe file's graph of operations was ported instead: the "
            f"names in the state_dict are its nodes', and what only Keras' description says is "
            f"lost, such as momentum and which layers are frozen",
            stacklevel=3,
        )
    return model


def _without_graph(checkpoint: Checkpoint, is_described: bool) -> str:
    """What is wrong with a file that has none."""
    if is_described:
        return (
            f"signature and outputs choose among a graph's, and this {checkpoint.format} has a "
            f"Keras description alone; port the whole network without them"
        )
    return (
        f"this {checkpoint.format} has variables, but no description of a network; build the "
        f"network as a torch.nn.Module and use load_tf_weights"
    )


def _port_keras(config: Mapping[str, Any], checkpoint: Checkpoint, options: Options) -> PortedModel:
    ported = port_network(config, checkpoint, options.data_format, options.layers)
    for pair in ported.pairs:
        assign(pair.weight, checkpoint[pair.variable.key])
    for note in ported.notes:
        warnings.warn(note, stacklevel=4)
    return ported.model.eval()


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Parameters are made in it, so that values need not pass through another one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True)
class WeightPair:
    """A weight of a module and its variable in the file."""

    weight: Any
    variable: FileVariable


@dataclass(frozen=True)
class Ported:
    """A network without its values, and where they are."""

    model: PortedModel
    pairs: list[WeightPair]
    notes: list[str]
    """What a user should know of it."""


def port_network(
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
    data_format: DataFormat = "channels_last",
    layers: Mapping[str, Builder] | None = None,
) -> Ported:
    """The modules that a description asks for, and their variables in the file.

    Raises:
        PortError: all that stands in the way.
    """
    major = keras_major_of(checkpoint.keras_version())
    network = parse_network(config, major)
    variables, problems = variables_by_layer(network, checkpoint)
    port = _Port(major, variables, layers or {}, problems)
    model = port.network(network, (), data_format)
    if port.problems:
        raise PortError(listed(port.problems))
    return Ported(model, port.pairs, port.notes)


class _Port:
    """Builds modules, and collects what is wrong."""

    def __init__(
        self,
        keras_major: int,
        variables: Mapping[Path, list[FileVariable]],
        layers: Mapping[str, Builder],
        problems: list[str],
    ) -> None:
        self.keras_major = keras_major
        self.variables = variables
        self.hooks = layers
        self.problems = problems
        self.pairs: list[WeightPair] = []
        self.notes: list[str] = []

    # -- a model

    def network(
        self,
        network: Network,
        path: Path,
        data_format: DataFormat = "channels_last",
        trainable: bool = True,
    ) -> PortedModel:
        """A model and everything in it."""
        place = f"the model {shown('/'.join(path))}" if path else "the model"
        foldable = frozenset() if "ZeroPadding2D" in self.hooks else TAKE_PADDING - set(self.hooks)
        network = fold_paddings(network, foldable)
        nodes = ordered_nodes(network, place)
        trainable = trainable and network.trainable
        modules = self._modules(nodes, path, trainable)
        attributes = attribute_names(modules)
        inputs = [_input(network.layer(ref.layer)) for ref in references(network.inputs)]
        slots = {(ref.layer, 0): number for number, ref in enumerate(references(network.inputs))}
        steps = [self._step(node, modules, attributes, slots, path) for node in nodes]
        outputs = map_references(network.outputs, lambda ref: self._slot(ref, slots, place))
        return PortedModel(
            network.name,
            inputs,
            {attributes[name]: module for name, module in modules.items()},
            {attribute: name for name, attribute in attributes.items()},
            with_spent(steps, outputs, len(inputs)),
            outputs,
            pinned=self._pinned(nodes, attributes, path, trainable),
            data_format=data_format,
        )

    def _modules(self, nodes: Sequence[Node], path: Path, trainable: bool) -> dict[str, nn.Module]:
        """By the layer's name; an operation has one for each of its calls."""
        modules: dict[str, nn.Module] = {}
        for node in nodes:
            name = _module_name(node, self.hooks)
            if name not in modules:
                modules[name] = self._module(node, (*path, node.layer.name), trainable)
        return modules

    def _module(self, node: Node, path: Path, trainable: bool) -> nn.Module:
        layer = node.layer
        if layer.network is not None:
            return self.network(layer.network, path, trainable=trainable)
        place = _place(layer, path)
        try:
            if _is_operation(layer, self.hooks):
                return operation_of(layer, node.call)
            module = self._built(layer, path)
        except UnsupportedLayerError as error:
            self.problems.append(f"{place}: {error}")
            return nn.Identity()
        pairs, wrong = pairs_of(module, self.variables.get(path, []))
        self.pairs += [WeightPair(*pair) for pair in pairs]
        self.problems += [f"{place}: {one}" for one in wrong]
        if not (trainable and layer.trainable):
            module.requires_grad_(False)
        return module

    # -- a layer

    def _built(self, layer: Layer, path: Path) -> nn.Module:
        if layer.refusal is not None and layer.class_name not in self.hooks:
            raise UnsupportedLayerError(_with_remedy(layer, layer.refusal))
        variables = self.variables.get(path, [])
        shapes = {one.name: one.shape for one in variables}
        spec = LayerSpec(layer.class_name, layer.name, layer.config, shapes, self.keras_major)
        hook = self._hook(layer)
        if hook is not None:
            return hook(spec)
        builder = _builders().get(layer.class_name)
        if builder is None:
            raise UnsupportedLayerError(_with_remedy(layer, "this class is not supported"))
        _check_sizes(builder, spec, variables)
        module = _call(builder, spec)
        module.tf_spec = spec  # type: ignore[assignment]
        return module

    def _hook(self, layer: Layer) -> Builder | None:
        for name in (layer.original_class, layer.class_name):
            if name in self.hooks:
                return self.hooks[name]
        return self.hooks.get(_function_name(layer)) if layer.operation else None

    # -- a call

    def _step(
        self,
        node: Node,
        modules: Mapping[str, nn.Module],
        attributes: Mapping[str, str],
        slots: dict[tuple[str, int], int],
        path: Path,
    ) -> Step:
        layer, name = node.layer, _module_name(node, self.hooks)
        module, place = modules[name], _place(layer, (*path, layer.name))
        call = _without_mode(node.call)
        if isinstance(module, Operation):
            call = Call(tuple(module.refs))
        elif layer.operation is None:
            self._check_call(module, call, place)
        args, kwargs = map_references(
            (call.args, dict(call.kwargs)), lambda ref: self._slot(ref, slots, place)
        )
        output = len(slots)
        slots[layer.name, node.number] = output
        shown_name = layer.name + (f":{node.number}" if node.number else "")
        return Step(attributes[name], shown_name, args, kwargs, output)

    def _slot(self, ref: TensorRef, slots: Mapping[tuple[str, int], int], place: str) -> Slot:
        number = slots.get((ref.layer, ref.call))
        if number is None:
            raise PortError(f"{place}: takes {shown(ref.layer)}, which is no input of its model")
        return Slot(number, ref.index)

    def _check_call(self, module: nn.Module, call: Call, place: str) -> None:
        """Arguments that the module would not take stop the port, not the first call."""
        if isinstance(module, (PortedModel, nn.Identity)):
            if call.kwargs:
                names = ", ".join(map(shown, call.kwargs))
                self.problems.append(f"{place}: is called with {names}, which is not supported")
            return
        try:
            inspect.signature(module.forward).bind(*call.args, **call.kwargs)
        except TypeError as error:
            self.problems.append(f"{place}: is called with arguments not supported ({error})")

    # -- modes

    def _pinned(
        self, nodes: Sequence[Node], attributes: Mapping[str, str], path: Path, trainable: bool
    ) -> dict[str, bool]:
        """Modules whose mode ``train()`` must not change."""
        modes: dict[str, set[bool | None]] = {}
        for node in nodes:
            name = _module_name(node, self.hooks)
            modes.setdefault(name, set()).add(self._mode(node, trainable))
        for name, found in modes.items():
            if len(found) > 1:
                self.notes.append(
                    f"layer {shown('/'.join((*path, name)))} is called with training=True or False "
                    f"in one place and not in another; in training it follows the whole model in "
                    f"all of them"
                )
        return {
            attributes[name]: mode
            for name, found in modes.items()
            for mode in found
            if mode is not None and len(found) == 1
        }

    def _mode(self, node: Node, trainable: bool) -> bool | None:
        layer = node.layer
        if self.keras_major < 2:
            return None
        if layer.class_name == "BatchNormalization" and not (trainable and layer.trainable):
            return False
        if self.keras_major == 3:
            return None  # Keras 3 puts the model's mode in the place of what the call says
        training = node.call.kwargs.get("training")
        return bool(training) if isinstance(training, (bool, int)) else None


# ---- pieces --------------------------------------------------------------------------------------


def _builders() -> Mapping[str, Builder]:
    from tfcompat_dw.porting.layers import BUILDERS

    return BUILDERS


def _call(builder: Builder, spec: LayerSpec) -> nn.Module:
    try:
        return builder(spec)
    except UnsupportedLayerError:
        raise
    except Exception as error:  # a config may hold anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnsupportedLayerError(f"its description is not understood ({reason})") from error


def _check_sizes(builder: Builder, spec: LayerSpec, variables: Sequence[FileVariable]) -> None:
    """Builds it without memory first: a description may ask for more than the file holds."""
    with torch.device("meta"):
        module = _call(builder, spec)
    _, wrong = pairs_of(module, variables)
    if wrong:
        raise UnsupportedLayerError("; ".join(wrong))


def _is_operation(layer: Layer, hooks: Mapping[str, Builder]) -> bool:
    return layer.operation is not None and _function_name(layer) not in hooks


def _function_name(layer: Layer) -> str:
    """``tf.image.resize``, ``Resize`` of Keras 3."""
    operation = layer.operation or ""
    return operation if operation.startswith("tf.") else operation.partition(".")[2]


def _module_name(node: Node, hooks: Mapping[str, Builder]) -> str:
    again = node.number and _is_operation(node.layer, hooks)
    return f"{node.layer.name}:{node.number}" if again else node.layer.name


def _place(layer: Layer, path: Path) -> str:
    return f"layer {shown('/'.join(path))} ({shown(layer.original_class or layer.class_name)})"


def _with_remedy(layer: Layer, reason: str) -> str:
    name = shown(layer.class_name)
    return f"{reason}; give a builder for it: port_model(..., layers={{{name}: builder}})"


def _without_mode(call: Call) -> Call:
    """Without what says how to run, not on what; and without masks that are none."""
    kwargs = {
        key: value
        for key, value in call.kwargs.items()
        if key != "training" and not (value is None and key in _MAY_BE_NONE)
    }
    return Call(call.args, kwargs)


_MAY_BE_NONE = frozenset({"mask", "name", "initial_state", "constants", "attention_mask"})


def _input(layer: Layer) -> ModelInput:
    shape, dtype = layer.config.get("batch_shape"), layer.config.get("dtype")
    sizes = tuple(_size(size) for size in shape) if isinstance(shape, list) else None
    return ModelInput(layer.name, sizes, dtype if isinstance(dtype, str) else "float32")


def _size(value: Any) -> int | None:
    return value if type(value) is int else None


def modules_with_weights(model: PortedModel, path: Path = ()) -> Iterator[tuple[Path, nn.Module]]:
    """Every layer's module by its TensorFlow names."""
    for attribute, name in model.tf_names.items():
        module = getattr(model, attribute)
        if isinstance(module, PortedModel):
            yield from modules_with_weights(module, (*path, name))
        else:
            yield (*path, name), module
