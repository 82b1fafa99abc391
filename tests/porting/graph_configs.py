"""Descriptions of networks as each Keras writes them, by hand: the ones that none here writes."""

from __future__ import annotations

import json
from typing import Any

import torch

from tfcompat_dw.checkpoint.base import Checkpoint, TensorInfo


class Described(Checkpoint):
    """A file that is no file: a description, and variables by legacy layers' names."""

    format = "description"
    is_legacy = True

    def __init__(self, config: Any, layers: dict[str, dict[str, torch.Tensor]], version: str):
        self.path = "described.h5"
        self._config, self._layers, self._version = config, layers, version
        self._tensors = {
            f"{layer}/{name}": tensor
            for layer, ones in layers.items()
            for name, tensor in ones.items()
        }

    def info(self, name: str) -> TensorInfo:
        tensor = self._tensors[name]
        return TensorInfo(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def model_config(self):
        return self._config

    def keras_version(self) -> str:
        return self._version

    def layers(self) -> dict[str, list[str]]:
        return {layer: [f"{layer}/{name}" for name in ones] for layer, ones in self._layers.items()}


def layer(class_name: str, name: str, inbound: Any = None, **config: Any) -> dict[str, Any]:
    """One layer of a Keras 2 graph; ``inbound``: a name, or several."""
    data = {"class_name": class_name, "name": name, "config": {"name": name, **config}}
    if inbound is not None:
        names = [inbound] if isinstance(inbound, str) else inbound
        data["inbound_nodes"] = [[[source, 0, 0, {}] for source in names]] if names else []
    return data


def image(name: str = "image", *shape: int | None) -> dict[str, Any]:
    return layer("InputLayer", name, [], batch_input_shape=[None, *(shape or (8, 8, 3))])


def graph(*layers: dict[str, Any], inputs: Any = None, outputs: Any = None) -> dict[str, Any]:
    """A Keras 2 Model from the first layer to the last."""
    return {
        "class_name": "Model",
        "config": {
            "name": "model",
            "layers": list(layers),
            "input_layers": inputs or [[layers[0]["name"], 0, 0]],
            "output_layers": outputs or [[layers[-1]["name"], 0, 0]],
        },
    }


def nested(depth: int) -> dict[str, Any]:
    """Models in models; made without recursion."""
    model = graph(image(), layer("Activation", "relu", "image", activation="relu"))
    for _ in range(depth):
        inner = {**model, "name": "inner", "inbound_nodes": [[["image", 0, 0, {}]]]}
        model = graph(image(), inner, outputs=[["inner", 1, 0]])
    return model


def copied(config: Any) -> Any:
    return json.loads(json.dumps(config))
