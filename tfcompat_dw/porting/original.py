"""The original network, run by Keras where Keras is installed: every layer's output.

Only ``tfcompat-dw compare`` and the tests use this; nothing that is ported needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class OriginalError(RuntimeError):
    """No Keras here opens the file; the message has each one's reason."""


class Original:
    """A Keras model out of a file."""

    def __init__(self, model: Any, library: str) -> None:
        self.model, self.library = model, library

    @property
    def input_shapes(self) -> list[tuple[int | None, ...]]:
        """Of its inputs, the batch included; None where any size is taken."""
        return [tuple(tensor.shape) for tensor in self.model.inputs]

    def layer_outputs(self, *inputs: Array) -> dict[str, Array]:
        """By the layers' names, in the order of computation, dropout off.

        Layers of a nested model are ``outer/inner``; a layer that is called again is ``name:1``.
        """
        return dict(_layer_outputs(self.model, list(inputs), ""))


def open_original(path: str | os.PathLike[str]) -> Original:
    """The file's network in the first Keras that takes it: Keras 3, or tf_keras for older files.

    Raises:
        OriginalError: none does, or none is installed.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # TF's own kernels: padded taps differ
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    reasons = []
    for library, load in _LOADERS.items():
        try:
            return Original(load(Path(path)), library)
        except Exception as error:  # a library fails on old or foreign files in any way it can
            reasons.append(f"{library}: {first_line(error)}")
    raise OriginalError(f"{path} was opened by none of these: " + "; ".join(reasons))


def first_line(error: Exception) -> str:
    """What an error says, in short."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _load_keras(path: Path) -> Any:
    import keras

    return keras.models.load_model(str(path), compile=False, safe_mode=True)


def _load_tf_keras(path: Path) -> Any:
    import tf_keras

    return tf_keras.models.load_model(str(path), compile=False, safe_mode=True)


_LOADERS: dict[str, Callable[[Path], Any]] = {"keras": _load_keras, "tf_keras": _load_tf_keras}


# ---- every layer's output --------------------------------------------------------------------


def _layer_outputs(model: Any, inputs: list[Array], prefix: str) -> Iterator[tuple[str, Array]]:
    """Of a functional or sequential model; of those nested in it, too."""
    calls = list(_calls(model))
    wanted = [tensor for _, _, results in calls for tensor in results]
    for _, node, _ in calls:
        if _is_model(_layer_of(node)):
            wanted += _flat(node.input_tensors)
    values = _evaluate(model, inputs, wanted)
    for name, node, results in calls:
        layer = _layer_of(node)
        if _is_model(layer):
            nested = [values[id(tensor)] for tensor in _flat(node.input_tensors)]
            yield from _layer_outputs(layer, nested, f"{prefix}{name}/")
        for index, tensor in enumerate(results):
            yield f"{prefix}{name}" + (f".{index}" if index else ""), values[id(tensor)]


def _is_model(layer: Any) -> bool:
    return hasattr(layer, "layers") and hasattr(layer, "inputs") and bool(layer.inputs)


def _calls(model: Any) -> Iterator[tuple[str, Any, list[Any]]]:
    """(name, node, results) of each call in the model's graph, in the order of computation.

    Calls of a layer are numbered in the order in which they were made.
    """
    model = getattr(model, "_functional", None) or model
    depths = getattr(model, "_nodes_by_depth", {})
    nodes = [node for depth in sorted(depths, reverse=True) for node in depths[depth]]
    ours = {id(node) for node in nodes}
    for node in nodes:
        layer = _layer_of(node)
        if type(layer).__name__ == "InputLayer":
            continue
        made = [id(other) for other in layer._inbound_nodes if id(other) in ours]
        number = made.index(id(node)) if id(node) in made else 0
        yield layer.name + (f":{number}" if number else ""), node, _flat(_results(node))


def _layer_of(node: Any) -> Any:
    return getattr(node, "operation", None) or node.layer


def _results(node: Any) -> Any:
    return node.output_tensors if hasattr(node, "output_tensors") else node.outputs


def _flat(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]


def _evaluate(model: Any, inputs: Sequence[Array], wanted: list[Any]) -> dict[int, Array]:
    """The values of symbolic tensors, by their ids."""
    unique = {id(tensor): tensor for tensor in wanted}
    probe = type(model)  # Sequential is no graph of its own
    functional = getattr(model, "_functional", None) or model
    library = probe.__module__.partition(".")[0]
    outputs = list(unique.values())
    model_class = cast(Any, __import__(library)).Model
    results = model_class(functional.inputs, outputs)(
        [np.asarray(value) for value in inputs], training=False
    )
    return dict(zip(unique, (_numpy(value) for value in _flat(results)), strict=True))


def _numpy(value: Any) -> Array:
    if hasattr(value, "detach"):  # Keras on PyTorch
        value = value.detach().cpu()
    return np.asarray(value)
