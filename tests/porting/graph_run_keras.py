"""What Keras makes of files that this package wrote: the oracle of `test_export_keras.py`.

python graph_run_keras.py keras|tf_keras FILE INPUTS.npz OUTPUTS.npz [FILE INPUTS OUTPUTS ...]
"""

from __future__ import annotations

import importlib
import os
import sys

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
from graph_networks import flat


def main(library, *rest):
    keras = importlib.import_module(library)
    for file, inputs, outputs in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        model = keras.models.load_model(file, compile=False)
        with np.load(inputs) as arrays:
            values = list(arrays.values())
        if len(values) > 1:
            values = dict(zip(sorted(tensor.name for tensor in model.inputs), values, strict=True))
        else:
            (values,) = values
        found = flat(model(values, training=False))
        weights = [np.asarray(weight) for weight in model.get_weights()]
        arrays = {f"output {number}": value for number, value in enumerate(found)}
        arrays |= {f"weight {number}": value for number, value in enumerate(weights)}
        np.savez(outputs, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
