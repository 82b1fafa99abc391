"""What Keras on TensorFlow makes of the demo's network: the oracle of `test_demo_network.py`.

    python keras_mini_xception.py MODEL.hdf5 IMAGES.npy OUTPUTS.npz

A program of its own, so that TensorFlow and PyTorch never share a process.
"""

from __future__ import annotations

import sys

import keras
import numpy as np

LAYERS = ("add_1", "add_2", "add_3", "add_4", "global_average_pooling2d_1", "predictions")


def main(model_path: str, images_path: str, outputs_path: str) -> None:
    model = keras.saving.load_model(model_path, compile=False)
    layers = [model.get_layer(name).output for name in LAYERS]
    outputs = keras.Model(model.input, layers).predict_on_batch(np.load(images_path))
    np.savez(outputs_path, **dict(zip(LAYERS, outputs, strict=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
