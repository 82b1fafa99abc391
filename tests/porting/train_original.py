"""Trains a network of keras.applications in Keras, in float64: train_original.py NAME FOLDER RATE.

Writes the network before and after ten steps of SGD with momentum, the data, and the gradients of
the first step.  Dropout and its like are off; batch normalizations have random statistics.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "KERAS_BACKEND": "tensorflow",
}

import keras
import numpy as np
import tensorflow as tf

STEPS, MOMENTUM, BATCH, CLASSES = 10, 0.9, 3, 5
SIZES = {"Xception": 71}
SIZE = 33


def leaves(model: Any) -> Any:
    """Layers, those of nested models, too."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from leaves(layer)
        else:
            yield layer


def network(name: str) -> Any:
    """Random, with random statistics; nothing in it is random in training."""
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    size = SIZES.get(name, SIZE)
    base = getattr(keras.applications, name)(
        input_shape=(size, size, 3), weights=None, include_top=False, pooling="avg"
    )
    model = keras.Model(base.input, keras.layers.Dense(CLASSES, name="top")(base.output))
    generator = np.random.default_rng(0)
    for layer in leaves(model):
        for attribute in ("rate", "drop_path_rate"):
            if hasattr(layer, attribute):
                setattr(layer, attribute, 0.0)
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                low, high = (0.5, 1.5) if variable.name in ("gamma", "moving_variance") else (-1, 1)
                variable.assign(generator.uniform(low, high, variable.shape))
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(generator.uniform(0.5, 1.5, layer.gamma.shape))
    return model


def main() -> None:
    """See above."""
    name, folder, rate = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = network(name)
    model.save(folder / "before.keras")
    generator = np.random.default_rng(1)
    shape = (BATCH, *model.input_shape[1:])
    x, y = generator.uniform(0, 1, shape), generator.normal(size=(BATCH, CLASSES))
    x *= 255 if any(isinstance(layer, keras.layers.Rescaling) for layer in leaves(model)) else 1
    velocity = [np.zeros(variable.shape) for variable in model.trainable_variables]
    gradients: dict[str, np.ndarray] = {}
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        found = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        if not gradients:
            gradients = {
                variable.path: gradient.numpy()
                for variable, gradient in zip(model.trainable_variables, found, strict=True)
            }
        for place, (variable, gradient) in enumerate(
            zip(model.trainable_variables, found, strict=True)
        ):
            velocity[place] = MOMENTUM * velocity[place] + gradient.numpy()
            variable.assign(variable.numpy() - rate * velocity[place])
    model.save(folder / "after.keras")
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "gradients.npz", **gradients)


if __name__ == "__main__":
    main()
