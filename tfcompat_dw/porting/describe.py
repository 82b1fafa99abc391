"""What ``tfcompat-dw inspect`` says of a file's layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfcompat_dw.checkpoint import Checkpoint
from tfcompat_dw.porting.config import Layer, Network, keras_major_of, parse_network
from tfcompat_dw.porting.layer import PortError
from tfcompat_dw.porting.weights import FileVariable, Path, variables_by_layer

DEPTHWISE = ("DepthwiseConv", "SeparableConv")


def described_layers(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Every layer: of the network that the file describes, else as the variables' names tell."""
    config = checkpoint.model_config()
    if config is not None:
        try:
            network = parse_network(config, keras_major_of(checkpoint.keras_version()))
            variables, _ = variables_by_layer(network, checkpoint)
        except PortError:
            pass  # no graph of layers: names are all there is
        else:
            return list(_of_network(network, variables, ()))
    return list(_of_names(checkpoint))


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
