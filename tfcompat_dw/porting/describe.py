"""What ``tfcompat-dw inspect`` says of a file's layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfcompat_dw.checkpoint import Checkpoint, CheckpointError
from tfcompat_dw.checkpoint.graph import HAND_ON, Graph, GraphNode
from tfcompat_dw.porting.config import Layer, Network, keras_major_of, parse_network
from tfcompat_dw.porting.layer import PortError
from tfcompat_dw.porting.weights import FileVariable, Path, variables_by_layer

DEPTHWISE = ("DepthwiseConv", "SeparableConv", "DEPTHWISE_CONV", "FusedDepthwiseConv")
PLUMBING = ("Const", "Variable", "Placeholder", "Identity", "NoOp")
"""Nodes that compute nothing."""
UNPACK = (*HAND_ON, "DEQUANTIZE", "DENSIFY")
"""Nodes that hand on numbers, or write them out."""


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """A graph's ends, and every layer: of the network that the file describes, or of its graph.

    Where it has neither, layers are as the variables' names tell.
    """
    graph = graph_of(checkpoint)
    ends = {} if graph is None else _described_ends(checkpoint, graph)
    return {**ends, "layers": _described_layers(checkpoint, graph)}


def _described_layers(checkpoint: Checkpoint, graph: Graph | None) -> list[dict[str, Any]]:
    config = checkpoint.model_config()
    if config is not None:
        try:
            network = parse_network(config, keras_major_of(checkpoint.keras_version()))
            variables, _ = variables_by_layer(network, checkpoint)
        except PortError:
            pass  # no graph of layers: names are all there is
        else:
            return list(_of_network(network, variables, ()))
    return list(_of_names(checkpoint) if graph is None else _of_graph(graph))


def graph_of(checkpoint: Checkpoint) -> Graph | None:
    """The file's graph; None if it has none that can be read."""
    try:
        return checkpoint.graph()
    except (CheckpointError, ValueError):
        return None


def _described_ends(checkpoint: Checkpoint, graph: Graph) -> dict[str, Any]:
    """Signatures, inputs and outputs."""
    return {
        "signatures": list(checkpoint.signatures()),
        "inputs": [
            {
                "name": one.name,
                "shape": None if one.shape is None else list(one.shape),
                "dtype": one.dtype,
            }
            for one in graph.inputs
        ],
        "outputs": [{"name": name, "node": str(output)} for name, output in graph.outputs.items()],
    }


def _of_graph(graph: Graph) -> Iterator[dict[str, Any]]:
    """Nodes that compute something, those that are run for each element of a map, too."""
    known: dict[str, list[int] | None] = {}
    for node in graph.nodes.values():
        if "body" in node.attributes and isinstance(node.attributes["body"], Graph):
            yield from _of_graph(node.attributes["body"])
        elif node.op not in PLUMBING:
            shapes = _shapes_of_constants(graph, node, known)
            yield {
                "name": node.name,
                "class": node.op,
                "depthwise": node.op.startswith(DEPTHWISE),
                **_window_of(node, next(iter(shapes.values()), None)),
                "weights": shapes,
            }


def _shapes_of_constants(
    graph: Graph, node: GraphNode, known: dict[str, list[int] | None]
) -> dict[str, list[int]]:
    """Of the numbers that a node takes, through nodes that hand them on.

    ``known`` has those of constants so far, None for those of other types: each is read once.
    """
    found = {}
    for output in node.inputs:
        source = graph.nodes.get(output.node)
        while source is not None and source.op in UNPACK and source.inputs:
            source = graph.nodes.get(source.inputs[0].node)
        if source is not None and source.name in graph.constants:
            if source.name not in known:
                value = graph.constants[source.name]
                known[source.name] = list(value.shape) if value.is_floating_point() else None
            shape = known[source.name]
            if shape is not None:
                found[source.name] = shape
    return found


def _window_of(node: GraphNode, filter: list[int] | None) -> dict[str, Any]:
    """Kernel, strides, padding and multiplier in Keras' terms, as far as a node has them."""
    attributes = node.attributes
    is_tflite = "stride_h" in attributes
    strides = attributes.get("strides")
    strides = strides[1:-1] if isinstance(strides, list) and len(strides) > 2 else strides
    kernel = None
    if filter is not None and len(filter) == 4 and "conv" in node.op.lower():
        kernel = filter[1:3] if is_tflite else filter[:2]
    multiplier = attributes.get("depth_multiplier") or None
    if node.op.startswith(DEPTHWISE) and not is_tflite and filter:
        multiplier = filter[-1]
    return {
        "kernel": kernel,
        "strides": [attributes["stride_h"], attributes.get("stride_w")] if is_tflite else strides,
        "padding": attributes.get("padding"),
        "multiplier": multiplier,
    }


def _of_network(
    network: Network, variables: Mapping[Path, list[FileVariable]], path: Path
) -> Iterator[dict[str, Any]]:
    for layer in network.layers:
        here = (*path, layer.name)
        if layer.network is not None:
            yield _described(layer, here, [])
            yield from _of_network(layer.network, variables, here)
        else:
            yield _described(layer, here, variables.get(here, []))


def _described(layer: Layer, path: Path, variables: list[FileVariable]) -> dict[str, Any]:
    shapes = {variable.name: list(variable.shape) for variable in variables}
    config = layer.config
    kernel = config.get("kernel_size", config.get("pool_size"))
    return {
        "name": "/".join(path),
        "class": layer.original_class or layer.class_name,
        "depthwise": _is_depthwise(layer, shapes),
        "kernel": kernel,
        "strides": config.get("strides"),
        "padding": config.get("padding"),
        "multiplier": config.get("depth_multiplier"),
        "weights": shapes,
    }


def _is_depthwise(layer: Layer, shapes: Mapping[str, list[int]]) -> bool:
    if layer.class_name.startswith(DEPTHWISE):
        return True
    groups = layer.config.get("groups", 1)
    return isinstance(groups, int) and groups > 1 and shapes.get("kernel", [0, 0])[-2] == 1


def _of_names(checkpoint: Checkpoint) -> Iterator[dict[str, Any]]:
    """Variables with the same name but for the last part are a layer's."""
    names = checkpoint.variable_names()
    layers: dict[str, dict[str, list[int]]] = {}
    for key in checkpoint:
        layer, _, variable = names.get(key, key).rpartition("/")
        if layer and checkpoint.info(key).dtype != "string":
            layers.setdefault(layer, {})[variable] = list(checkpoint.info(key).shape)
    for layer, shapes in layers.items():
        depthwise = [shape for name, shape in shapes.items() if "depthwise" in name.lower()]
        yield {
            "name": layer,
            "class": "",
            "depthwise": bool(depthwise),
            "kernel": depthwise[0][:-2] if depthwise and len(depthwise[0]) > 2 else None,
            "strides": None,
            "padding": None,
            "multiplier": depthwise[0][-1] if depthwise and depthwise[0] else None,
            "weights": shapes,
        }
