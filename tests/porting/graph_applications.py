"""Networks of `keras.applications` with random weights, and every layer's output.

    python graph_applications.py FOLDER NAME SIZE FORMAT [NAME SIZE FORMAT ...]

Writes NAME_SIZE.FORMAT and NAME_SIZE.npz into the folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
from graph_networks import randomize, recorded

CLASSES = 10


def main(folder, *rest):
    for name, size, ending in zip(rest[::3], map(int, rest[1::3]), rest[2::3], strict=True):
        keras.utils.clear_session()
        make = getattr(keras.applications, name)
        model = make(
            input_shape=(size, size, 3), weights=None, classes=CLASSES, classifier_activation=None
        )
        randomize(model)
        model.save(f"{folder}/{name}_{size}.{ending}")
        random = np.random.default_rng(1)
        image = random.uniform(0, 255 if has_preprocessing(model) else 1, (1, size, size, 3))
        image = image.astype("f4")
        (output,), layers = recorded(model, image)
        arrays = {f"layer {key}": value for key, value in layers.items()}
        np.savez(Path(folder) / f"{name}_{size}.npz", image=image, output=output, **arrays)


def has_preprocessing(model):
    return any(type(layer).__name__ == "Rescaling" for layer in model.layers)


if __name__ == "__main__":
    main(*sys.argv[1:])
