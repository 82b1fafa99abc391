"""Writes Keras files, in a process of its own: keras_write.py FOLDER keras|tf_keras."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def network(keras: Any) -> Any:
    """Nested, with layers that have no variables; a name that is not ASCII where Keras takes it."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    inner = keras.Model(image, x, name="inner")
    outer = keras.Input((8, 8, 3))
    y = layers.GlobalAveragePooling2D()(inner(outer))
    y = layers.Dense(3, name="größe" if keras.__name__ == "keras" else "dense")(y)
    return keras.Model(outer, y)


def own_variables(keras: Any) -> Any:
    """A model with variables of its own, and a layer with more than ten, in several types."""

    class Many(keras.layers.Layer):  # type: ignore[misc]
        def build(self, _: Any) -> None:
            self.weights_ = [
                self.add_weight(shape=(number + 1,), initializer="uniform", dtype=dtype)
                for number, dtype in enumerate(("float32", "float16", "bfloat16", "float64") * 3)
            ]

        def call(self, x: Any) -> Any:
            return x

    class Model(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.many = Many()
            self.scale = self.add_weight(shape=(2,), initializer="uniform")

        def call(self, x: Any) -> Any:
            return self.many(x)

    keras.utils.set_random_seed(1)
    model = Model()
    model(keras.ops.zeros((1, 2)))
    return model


def write_more(keras: Any, folder: Path) -> None:
    """What only Keras 3 writes."""
    own_variables(keras).save_weights(folder / "own.weights.h5")
    model = network(keras)
    model.save_weights(folder / "whole.weights.h5")
    kilobyte = 1024 / 2**30  # of the GiB that Keras counts in; the network has two of them
    model.save_weights(folder / "several.weights.json", max_shard_size=0.45 * kilobyte)


def main() -> None:
    """See above."""
    folder, library = Path(sys.argv[1]), sys.argv[2]
    keras = importlib.import_module(library)
    model = network(keras)
    model.save(folder / "model.keras")
    if library == "keras":
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
        model.save_weights(folder / "model.weights.h5")
        model.save(folder / "model.h5")
        (folder / "more").mkdir()
        write_more(keras, folder / "more")
    else:
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
        model.save(str(folder / "model.h5"))
        model.save_weights(str(folder / "weights.h5"), save_format="h5")


if __name__ == "__main__":
    main()
