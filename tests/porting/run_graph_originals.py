"""Runs SavedModels and TFLite files with what they were made for, all in one process.

    python run_graph_originals.py INPUTS.npz OUTPUTS.npz NAME=PATH [NAME=PATH ...]

INPUTS has an array ``NAME`` for each, a batch of examples.  OUTPUTS gets ``NAME KEY`` for each of
its outputs: of a SavedModel from the whole batch, of a TFLite file from one example after the
other, by the names of its tensors where it has no signature.  Of a SavedModel whose NAME ends with
``frozen`` the graph is written to ``NAME.pb`` beside OUTPUTS, its functions and loops written out.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

os.environ |= {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


def interpreted(path, examples):
    """The outputs of a TFLite file, by TFLite's own kernels."""
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(path, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    ends = {end["name"]: end["index"] for end in interpreter.get_output_details()}
    run = interpreter.get_signature_runner() if interpreter.get_signature_list() else None
    found = defaultdict(list)
    for one in examples:
        if run is not None:
            results = run(**{next(iter(run.get_input_details())): one[None]})
        else:
            interpreter.set_tensor(entry["index"], one[None])
            interpreter.invoke()
            results = {name: interpreter.get_tensor(index) for name, index in ends.items()}
        for name, value in results.items():
            found[name].append(value[0].copy())
    return {name: np.stack(values) for name, values in found.items()}


def loaded(model, examples):
    """The outputs of a SavedModel."""
    return {key: value.numpy() for key, value in model(tf.constant(examples)).items()}


def freeze(model, path):
    """Variables become constants; loops run between ``Enter`` and ``Exit``, as in TF 1."""
    graph = convert_variables_to_constants_v2(model).graph
    path.write_bytes(graph.as_graph_def().SerializeToString())


def main(given, wanted, files):
    models, results = {}, {}
    with np.load(given) as inputs:
        for name, path in (file.split("=", 1) for file in files):
            if path.endswith(".tflite"):
                found = interpreted(path, inputs[name])
            else:
                if path not in models:
                    models[path] = tf.saved_model.load(path)
                model = models[path].signatures["serving_default"]
                found = loaded(model, inputs[name])
                if name.endswith("frozen"):
                    freeze(model, Path(wanted).with_name(f"{name}.pb"))
            results |= {f"{name} {key}": value for key, value in found.items()}
    np.savez(wanted, **results)


if __name__ == "__main__":
    main(*sys.argv[1:3], sys.argv[3:])
