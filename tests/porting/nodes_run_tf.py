"""Runs TensorFlow's operations one at a time, as test_nodes.py asks for them over a pipe.

A question is (operation, inputs, attributes), an input a NumPy array or a list of them; the answer
is the list of its results, or what TensorFlow says against it.
"""

import os
import pickle
import struct
import sys

os.environ |= {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

RENAMED = {
    **{(op, "reduction_indices"): "axis"
       for op in ("Mean", "Sum", "Prod", "Max", "Min", "All", "Any", "EuclideanNorm")},
    ("ExpandDims", "dim"): "axis",
    ("Split", "split_dim"): "axis",
    ("SplitV", "split_dim"): "axis",
    ("Select", "t"): "x",
    ("Select", "e"): "y",
    ("Where", "input"): "condition",
}  # fmt: skip
"""Inputs that raw_ops calls otherwise than ``tensorflow/core/ops`` does."""


def answer(op, inputs, attributes):
    names = [argument.name for argument in op_def_registry.get(op).input_arg]
    names = [RENAMED.get((op, name), name) for name in names]
    named = {name: _tensors(value) for name, value in zip(names, inputs, strict=True)}
    try:
        result = getattr(tf.raw_ops, op)(**named, **attributes)
    except Exception as error:
        return str(error)[:2000]
    several = result if isinstance(result, (list, tuple)) else [result]
    return [one.numpy() for one in tf.nest.flatten(list(several))]


def _tensors(value):
    return [tf.constant(one) for one in value] if isinstance(value, list) else tf.constant(value)


def main():
    pipe, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what TensorFlow prints is no answer
    while head := pipe.read(8):
        data = pickle.dumps(answer(*pickle.loads(pipe.read(struct.unpack("<q", head)[0]))))
        out.write(struct.pack("<q", len(data)) + data)
        out.flush()


if __name__ == "__main__":
    main()
