"""A Keras file by hand, with names that no honest network has."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

NAMES = (
    'a"); import os; os._exit(7)  #',
    'b\'"""\n\nimport os\nos._exit(7)',
    "__class__",
    "forward",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "",
    "é‮x",
    "{{ 7 * 7 }}",
    "class",
    "[bold]rich[/bold]",
)


def write_dense_chain(path: Path, names: Sequence[str] = NAMES) -> None:
    """A ``.keras`` file of a Sequential model of Dense layers, 3 to 3, with these names."""
    generator = np.random.default_rng(0)
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 3]}}
    layers = [first] + [
        {
            "class_name": "Dense",
            "config": {"name": name, "units": 3, "activation": "tanh", "use_bias": True},
        }
        for name in names
    ]
    config = {"class_name": "Sequential", "config": {"name": names[0], "layers": layers}}
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for number in range(len(names)):
            group = f"layers/dense{f'_{number}' if number else ''}/vars"
            file[f"{group}/0"] = generator.normal(size=(3, 3)).astype("f4")
            file[f"{group}/1"] = np.full(3, number, "f4")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("model.weights.h5", weights.getvalue())
