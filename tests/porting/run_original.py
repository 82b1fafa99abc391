"""Runs a network in Keras, in a process of its own: run_original.py FILE INPUTS.npz OUTPUTS.npz.

Writes every layer's output by its name.  TensorFlow stays out of the tests' own process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ |= {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}

import numpy as np


def main() -> None:
    """See above."""
    from tfcompat_dw.porting.original import open_original

    file, inputs, outputs = sys.argv[1:]
    with np.load(inputs) as arrays:
        values = [arrays[name] for name in sorted(arrays.files)]
    original = open_original(Path(file))
    np.savez(outputs, **original.layer_outputs(*values))


if __name__ == "__main__":
    main()
