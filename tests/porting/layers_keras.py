"""Keras' side of `test_keras_layers.py`: runs the table's layers and writes what came out.

    python layers_keras.py FOLDER

A program of its own, so that TensorFlow and PyTorch never share a process.  `models.json` has the
description of a model with each layer, `arrays.npz` its weights, outputs and gradients.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import zlib
from pathlib import Path
from typing import Any

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf
from layers_cases import CASES, TRAINING, Case

STEPS = 3


def make_layer(library: Any, name: str, arguments: dict[str, Any]) -> Any:
    arguments = dict(arguments)
    if isinstance(arguments.get("layer"), tuple):
        arguments["layer"] = make_layer(library, *arguments["layer"])
    if hasattr(library.layers, name):
        return getattr(library.layers, name)(**arguments)
    return getattr(importlib.import_module("keras.src.applications.convnext"), name)(**arguments)


def draw(case: Case, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if case.values == "bytes":
        return random.integers(0, 256, shape).astype("uint8")
    if case.values.isdigit():
        return random.integers(0, int(case.values), shape).astype("int32")
    values = random.standard_normal(shape).astype("float32")
    return np.maximum(values, 0) if case.values == "relu" else values * 1.5


def randomize(layer: Any, random: np.random.Generator) -> None:
    """Every variable, so that none is at a value that hides a mistake."""
    for variable in layer.weights:
        name, shape = variable.name, tuple(variable.shape)
        if "seed" in name:
            continue
        if any(part in name for part in ("variance", "gamma")):
            variable.assign(random.uniform(0.5, 1.5, shape).astype("float32"))
        elif "count" not in name:
            variable.assign((random.standard_normal(shape) / 2).astype("float32"))


def call(layer: Any, inputs: list[Any], spread: bool, **arguments: Any) -> Any:
    if spread:
        return layer(*inputs, **arguments)
    return layer(inputs if len(inputs) > 1 else inputs[0], **arguments)


def flattened(output: Any) -> tf.Tensor:
    """Several results one after another."""
    if not isinstance(output, (list, tuple)):
        return output
    return tf.concat([tf.reshape(one, (one.shape[0], -1)) for one in output], 1)


def run(
    layer: Any, inputs: list[tf.Tensor], spread: bool, is_training: bool, random: Any
) -> dict[str, Any]:
    """The output, and the gradients of its product with random numbers."""
    variables = [
        weight.value if hasattr(weight, "path") else weight for weight in layer.trainable_weights
    ]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = flattened(call(layer, inputs, spread, training=is_training))
        if not output.dtype.is_floating:
            return {"output": output.numpy()}
        pool = random.standard_normal(output.shape).astype("float32")
        product = tf.reduce_sum(output * pool)
    found = {"output": output.numpy(), "pool": pool}
    sources = [one for one in inputs if one.dtype.is_floating]
    try:
        gradients = tape.gradient(product, [*sources, *variables])
    except LookupError:  # TF has no gradient of ResizeArea
        return found
    for number, gradient in enumerate(gradients):
        if gradient is not None:
            name = f"dx{number}" if number < len(sources) else f"dw{number - len(sources)}"
            found[name] = tf.convert_to_tensor(gradient).numpy()
    return found


def record(number: int, case: Case, arrays: dict[str, np.ndarray]) -> Any:
    library = importlib.import_module(case.library)
    random = np.random.default_rng(zlib.crc32(str(case).encode()))
    inputs = [draw(case, shape, random) for shape in case.shapes]
    layer = make_layer(library, case.layer, {"name": "layer", **case.arguments})
    symbols = [library.Input(one.shape[1:], dtype=str(one.dtype)) for one in inputs]
    model = library.Model(symbols, call(layer, symbols, case.spread))
    randomize(layer, random)
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()  # Normalization keeps what it makes of its variables
    weights = [weight for weight in layer.weights if "seed" not in weight.name]
    for index, weight in enumerate(weights):
        arrays[f"{number} w{index}"] = np.asarray(weight)
    for step in range(STEPS if case in TRAINING else 1):
        inputs = [draw(case, shape, random) for shape in case.shapes]
        for index, one in enumerate(inputs):
            arrays[f"{number} step{step} x{index}"] = one
        tensors = [tf.constant(one) for one in inputs]
        for key, value in run(layer, tensors, case.spread, case.is_training, random).items():
            arrays[f"{number} step{step} {key}"] = value
    for index, weight in enumerate(weights):
        arrays[f"{number} after{index}"] = np.asarray(weight)
    names = [getattr(weight, "path", weight.name).rpartition("/")[2] for weight in weights]
    trainable = [any(weight is one for one in layer.trainable_weights) for weight in weights]
    names = [name.partition(":")[0] for name in names]
    return {"model": json.loads(model.to_json()), "weights": names, "trainable": trainable}


def main(folder: Path) -> None:
    arrays: dict[str, np.ndarray] = {}
    models = [record(number, case, arrays) for number, case in enumerate([*CASES, *TRAINING])]
    (folder / "models.json").write_text(json.dumps(models))
    np.savez(folder / "arrays.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
