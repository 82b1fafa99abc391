"""The original of a graph, run by TensorFlow or a TFLite interpreter: results of its nodes.

Only ``tfcompat-dw compare`` and the tests use this.  Files are read by TensorFlow itself, except
TensorFlow.js' whose JSON is put together into TensorFlow's own message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfcompat_dw.checkpoint import Checkpoint
from tfcompat_dw.checkpoint.graph import Graph, GraphInput
from tfcompat_dw.porting.compare import Integers
from tfcompat_dw.porting.original import OriginalError, first_line
from tfcompat_dw.porting.original_tfjs import graph_def_of

Array = NDArray[Any]
Runner = Callable[[Sequence[Array], Sequence[str]], dict[str, Array]]
"""From inputs and the names of results to these, those that there are."""
LOOPS = ("While", "StatelessWhile")
"""Their results are counters and lists; what the port has under their names is another thing."""


class GraphOriginal:
    """A graph in the software that it was made for."""

    def __init__(self, library: str, run: Runner) -> None:
        self.library, self._run = library, run

    def outputs(self, inputs: Sequence[Array], names: Sequence[str]) -> dict[str, Array]:
        """Results of nodes by their names, as the port has them; those that there are."""
        return self._run(inputs, names)


def open_graph_original(checkpoint: Checkpoint, signature: str | None = None) -> GraphOriginal:
    """The network of a file whose graph the port reads.

    Raises:
        OriginalError: TensorFlow, or a TFLite interpreter, is not installed or refuses the file.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # TF's own kernels: padded taps differ
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    graph = checkpoint.graph(signature)
    assert graph is not None
    try:
        if checkpoint.format == "TFLite":
            return _interpreter(checkpoint.path, graph.inputs)
        return GraphOriginal("tensorflow", _tensorflow(checkpoint, signature, graph.inputs))
    except OriginalError:
        raise
    except Exception as error:  # a library fails on foreign files in any way it can
        raise OriginalError(
            f"{checkpoint.path} was not opened: {first_line(error)}; this needs the package "
            f"tensorflow, or ai-edge-litert for .tflite"
        ) from error


def integers_of(graph: Graph) -> dict[str, Integers]:
    """Of results that a quantized network computes in integers, by the names of the results."""
    found = {}
    for output, one in graph.quantization.items():
        if len(one.scale) == 1 and one.dtype in ("int8", "uint8", "int16"):
            limits = np.iinfo(one.dtype)
            ends = [one.scale[0] * (end - one.zero_point[0]) for end in (limits.min, limits.max)]
            name = f"{output.node}.{output.index}" if output.index else output.node
            found[name] = Integers(one.scale[0], min(ends), max(ends))
    return found


def rounded_inputs(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The numbers that a quantized network makes of its inputs before it does anything else."""
    integers = integers_of(graph)
    first = {node.inputs[0]: node for node in graph.nodes.values() if node.op == "QUANTIZE"}
    found = []
    for one, values in zip(graph.inputs, inputs, strict=True):
        name = first[one.output].name if one.output in first else one.output.node
        found.append(integers[name].nearest(values) if name in integers else values)
    return found


# ---- TensorFlow ----------------------------------------------------------------------------------


def _tensorflow(
    checkpoint: Checkpoint, signature: str | None, inputs: Sequence[GraphInput]
) -> Runner:
    import tensorflow as tf

    graph, saver = tf.Graph(), None
    if checkpoint.path.suffix == ".meta":
        feeds = [f"{one.output.node}:0" for one in inputs]
        with graph.as_default():
            saver = tf.compat.v1.train.import_meta_graph(str(checkpoint.path), clear_devices=True)
    else:
        graph_def, feeds = _graph_def(checkpoint, signature, inputs)
        with graph.as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    operations = {one.name for one in graph.get_operations() if one.type not in LOOPS}

    def run(values: Sequence[Array], names: Sequence[str]) -> dict[str, Array]:
        places = {name: _tensor_name(name, operations) for name in names}
        wanted = {name: place for name, place in places.items() if place is not None}
        with tf.compat.v1.Session(graph=graph) as session:
            if saver is not None:
                saver.restore(session, str(checkpoint.path.with_suffix("")))
            fed = {
                feed: value.astype(graph.get_tensor_by_name(feed).dtype.as_numpy_dtype)
                for feed, value in zip(feeds, values, strict=True)
            }
            found: dict[str, Array] = session.run(wanted, feed_dict=fed)
        return found

    return run


def _graph_def(
    checkpoint: Checkpoint, signature: str | None, inputs: Sequence[GraphInput]
) -> tuple[Any, list[str]]:
    """TensorFlow's own reading of a file, variables as constants, and where its inputs enter."""
    import tensorflow as tf

    path = checkpoint.path
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return _frozen_saved_model(path, signature or checkpoint.signatures()[0], inputs)
    feeds = [f"{one.output.node}:0" for one in inputs]
    graph_def = tf.compat.v1.GraphDef()
    if checkpoint.format.startswith("TensorFlow.js"):
        return graph_def_of(path, checkpoint), feeds
    data = path.read_bytes()
    try:
        graph_def.ParseFromString(data)
    except Exception:  # text
        from google.protobuf import text_format

        text_format.Parse(data.decode(), graph_def)
    return graph_def, feeds


def _frozen_saved_model(
    path: Path, signature: str, inputs: Sequence[GraphInput]
) -> tuple[Any, list[str]]:
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    model = tf.saved_model.load(str(path))
    if signature in model.signatures:
        function = model.signatures[signature]
    else:  # an attribute of the saved object, or the second way in which one was called
        attribute, _, number = signature.rpartition("_")
        is_further = not hasattr(model, signature) and number.isdecimal()
        saved = getattr(model, attribute if is_further else signature)
        functions = getattr(saved, "concrete_functions", [saved])
        function = functions[int(number) if is_further else 0]
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        function, lower_control_flow=False
    )
    by_name = {tensor.name.partition(":")[0]: tensor.name for tensor in frozen.inputs}
    feeds: list[str] = []
    for one in inputs:
        found = [by_name[key] for key in by_name if key in (one.name, one.output.node)]
        feeds.append(found[0] if found else frozen.inputs[len(feeds)].name)
    return frozen.graph.as_graph_def(), feeds


def _tensor_name(name: str, operations: set[str]) -> str | None:
    """TensorFlow's name of a node's result; functions that were inlined have a prefix there."""
    node, _, index = name.partition(":")
    number = index or "0"
    if "." in node and node not in operations:  # the second result of a node is `name.1`
        stem, _, last = node.rpartition(".")
        if last.isdigit():
            node, number = stem, last
    if node in operations:
        return f"{node}:{number}"
    ends = [other for other in operations if other.endswith(f"/{node}")]
    return f"{ends[0]}:{number}" if len(ends) == 1 else None


# ---- TFLite --------------------------------------------------------------------------------------


def _interpreter(path: Path, inputs: Sequence[GraphInput]) -> GraphOriginal:
    """With plain kernels, which keep the results of all nodes, where these know every operation."""
    library, lite = _interpreter_module()
    kinds = lite.OpResolverType
    try:
        interpreter = _allocated(lite, path, kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    except RuntimeError:  # XNNPACK alone knows MediaPipe's
        interpreter = _allocated(lite, path, kinds.AUTO)

    def run(values: Sequence[Array], names: Sequence[str]) -> dict[str, Array]:
        details = {one["name"]: one for one in interpreter.get_input_details()}
        order = [details[one.output.node] for one in inputs]
        for one, value in zip(order, values, strict=True):
            if list(value.shape) != list(one["shape"]):
                interpreter.resize_tensor_input(one["index"], value.shape)
        interpreter.allocate_tensors()
        for one, value in zip(order, values, strict=True):
            interpreter.set_tensor(one["index"], _stored(value, one))
        interpreter.invoke()
        wanted = set(names)
        found = {}
        for one in interpreter.get_tensor_details():
            if one["name"] in wanted:
                found[one["name"]] = _real(interpreter.get_tensor(one["index"]), one)
        return {name: found[name] for name in names if name in found}

    return GraphOriginal(library, run)


def _allocated(lite: Any, path: Path, kernels: Any) -> Any:
    interpreter = lite.Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=kernels,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def _interpreter_module() -> tuple[str, Any]:
    """What has the classes ``Interpreter`` and ``OpResolverType``."""
    try:
        from ai_edge_litert import interpreter

        return "ai-edge-litert", interpreter
    except ImportError:
        from tensorflow.lite.python import interpreter

        return "tensorflow", interpreter


def _stored(value: Array, details: Mapping[str, Any]) -> Array:
    """Real numbers as the integers that stand for them."""
    scale, zero_point = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if not scale or dtype.kind == "f":
        return value.astype(dtype)
    limits = np.iinfo(dtype)
    rounded = np.round(value / scale) + zero_point
    found: Array = np.clip(rounded, limits.min, limits.max).astype(dtype)
    return found


def _real(value: Array, details: Mapping[str, Any]) -> Array:
    """The numbers that integers stand for."""
    scale, zero_point = details["quantization"]
    if not scale or value.dtype.kind == "f":
        return value
    found: Array = (value.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return found
