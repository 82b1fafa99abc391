"""Run with TensorFlow, in a process of its own: writes checkpoints, and what TF reads of them.

``python tf_write.py folder``: a folder for each case; ``expected.json`` has, for each path that
``open_checkpoint`` is to take, the names, types, shapes and bytes that ``tf.train.load_checkpoint``
gives.
"""

from __future__ import annotations

import os

os.environ |= {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_USE_LEGACY_KERAS": "0",
    "CUDA_VISIBLE_DEVICES": "",
}

import json
import sys
from pathlib import Path

# before TensorFlow: PyTorch may bring Triton, whose import crashes after it
from tfcompat_dw.checkpoint import open_checkpoint  # isort: skip

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import saved_model_pb2
from tf_keras.protobuf import saved_metadata_pb2

v1 = tf.compat.v1
NUMERIC = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
NUMERIC += ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def numbers(dtype, shape, seed=0):
    generator = np.random.default_rng(seed)
    dtype = tf.as_dtype(dtype)
    if dtype.is_integer:
        return generator.integers(dtype.min, dtype.max, shape, dtype.as_numpy_dtype, endpoint=True)
    values = generator.standard_normal(shape)
    if dtype.is_complex:
        values = values + 1j * generator.standard_normal(shape)
    return np.asarray(values).astype(dtype.as_numpy_dtype)


# ---- tf.train.Checkpoint -------------------------------------------------------------------------


def objects(folder):
    """All types, scalars, nothing at all, text, nested objects with names."""
    variables = {name: tf.Variable(numbers(name, (3, 5))) for name in NUMERIC}
    variables["bool"] = tf.Variable([True, False, True])
    variables["scalar"] = tf.Variable(1.5, name="named/scalar")
    variables["empty"] = tf.Variable(tf.zeros((0, 3)))
    variables["large"] = tf.Variable(numbers("float32", (100, 300)))
    words = [b"", b"conv", bytes(range(256)) * 3, "Größe".encode(), b"\0" * 20000, b"x"]
    variables["words"] = tf.Variable(tf.reshape(tf.constant(words), (2, 3)), dtype=tf.string)
    variables["word"] = tf.Variable("text", dtype=tf.string)
    variables["no_words"] = tf.Variable(tf.zeros((0,), tf.string), dtype=tf.string)
    nested = [variables["scalar"], {"a.b/c": tf.Variable([2, 3], name="inner")}]
    return tf.train.Checkpoint(nested=nested, **variables).save(folder / "objects")


def iterator(folder):
    """An iterator's state is a variant."""
    dataset = iter(tf.data.Dataset.range(5))
    next(dataset)
    checkpoint = tf.train.Checkpoint(dataset=dataset, number=tf.Variable(3))
    return checkpoint.write(folder / "iterator")


# ---- TF 1's Saver --------------------------------------------------------------------------------


def saver(prefix, version, *, sharded=False):
    """Variables in slices along one axis or the other, on three devices; path and values."""
    graph, values = tf.Graph(), {}

    def make(name, *args, **kwargs):
        variable = v1.get_variable(name, *args, **kwargs)
        partitioned = hasattr(variable, "as_tensor")
        values[name] = variable.as_tensor() if partitioned else variable

    with graph.as_default():
        partitioner = v1.fixed_size_partitioner
        random = v1.random_normal_initializer(seed=0)
        make("rows", (7, 3), initializer=random, partitioner=partitioner(3))
        columns = partitioner(4, axis=1)
        make("scope/columns", (2, 500), tf.float64, initializer=random, partitioner=columns)
        make("scope/long", (50_000,), initializer=random, partitioner=partitioner(3))
        with tf.device("/cpu:1"):
            make("whole", initializer=numbers("float32", (300, 400)))
            make("large", initializer=numbers("float32", (300, 300), 1))
        with tf.device("/cpu:2"):
            make("ints", initializer=numbers("int64", (5,)))
            make("step", initializer=np.int32(-7))
            make("words", initializer=np.array([b"a", b"", b"\xff\0"], object), dtype=tf.string)
            for dtype in NUMERIC:  # format V1 has not all of them
                if version == v1.train.SaverDef.V2 or dtype not in ("bfloat16", "uint32", "uint64"):
                    make(f"of/{dtype}", initializer=numbers(dtype, (2, 3)))
            make("of/bool", initializer=np.array([True, False]))
            make("of/empty", initializer=np.zeros((0, 2), np.float32))
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            writer = v1.train.Saver(write_version=version, sharded=sharded)
            path = writer.save(session, str(prefix), write_meta_graph=False)
            return path, session.run(values)


# ---- Keras ---------------------------------------------------------------------------------------


def tf_keras_model():
    """A block within a model; ``conv`` is the name of two layers."""
    layers = tf_keras.layers
    inner = layers.Input((8, 8, 4))
    block = tf_keras.Model(inner, layers.Conv2D(4, 1, name="conv")(inner), name="block")
    image = layers.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, padding="same", name="dw")(image)
    x = layers.Conv2D(4, 1, name="conv")(x)
    x = layers.BatchNormalization(name="bn")(block(x))
    model = tf_keras.Model(image, layers.Dense(2, name="head")(layers.Flatten()(x)), name="net")
    model.compile("adam", "mse")
    model.fit(tf.zeros((2, 8, 8, 3)), tf.zeros((2, 2)), verbose=0)
    return model


def as_before_tf_2_5(folder):
    """Moves Keras' JSON to where it used to be."""
    metadata = saved_metadata_pb2.SavedMetadata()
    metadata.ParseFromString((folder / "keras_metadata.pb").read_bytes())
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    nodes = model.meta_graphs[0].object_graph_def.nodes
    for node in metadata.nodes:
        nodes[node.node_id].user_object.metadata = node.metadata
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    (folder / "keras_metadata.pb").unlink()


class Subclassed(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.first = tf_keras.layers.Dense(3, name="first")
        self.rest = [tf_keras.layers.Dense(2, name="second")]

    def call(self, x):
        return self.rest[0](self.first(x))


def keras_3_model():
    layers = keras.layers
    shape = keras.Input((8, 8, 3))
    return keras.Sequential(
        [shape, layers.DepthwiseConv2D(3, name="dw"), layers.Flatten(), layers.Dense(2, name="out")]
    )


def keras_models(folder):
    model = tf_keras_model()
    model.save(folder / "tf_keras")
    model.save(folder / "older")
    as_before_tf_2_5(folder / "older")
    model.save_weights(folder / "weights" / "w")
    subclassed = Subclassed()
    subclassed(tf.zeros((1, 4)))
    subclassed.save(folder / "subclassed")
    keras_3_model().export(folder / "exported", verbose=False)
    names = {name: str(folder / name) for name in ("tf_keras", "older", "subclassed", "exported")}
    about = {"config": json.loads(model.to_json())["config"], "variables": {}}
    for layer in model.layers:
        for variable in layer.weights:
            name = variable.name.removesuffix(":0")
            name = name if name.startswith(f"{layer.name}/") else f"{layer.name}/{name}"
            about["variables"][name] = encoded(variable.numpy())
    (folder / "model.json").write_text(json.dumps(about))
    return {path: f"{path}/variables/variables" for path in names.values()} | {
        str(folder / "weights"): str(folder / "weights" / "w")
    }


# ---- what TensorFlow reads -----------------------------------------------------------------------


def encoded(value):
    value = np.asarray(value)
    if value.dtype == object:
        return [text.hex() for text in value.ravel()]
    return value.tobytes().hex()


def expected(prefix, values):
    """What TF reads; ``values`` are for what only its restoring operators do."""
    reader = tf.train.load_checkpoint(prefix)
    dtypes = reader.get_variable_to_dtype_map()
    result = {}
    for name, shape in reader.get_variable_to_shape_map().items():
        dtype = dtypes[name].name
        try:
            value = None if dtype == "variant" else encoded(reader.get_tensor(name))
        except (tf.errors.OpError, ValueError):  # slices and some types in format V1
            value = encoded(values[name])
        assert name not in values or value == encoded(values[name])
        result[name] = {"dtype": dtype, "shape": shape, "value": value}
    return result


def main(folder):
    (folder / "saver").mkdir()
    virtual = [tf.config.LogicalDeviceConfiguration()] * 3
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], virtual)
    prefixes = {
        str(folder / "objects-1"): objects(folder),
        str(folder / "iterator"): iterator(folder),
        str(folder / "handmade" / "table"): str(folder / "handmade" / "table"),
        **keras_models(folder),
    }
    values = {}
    for version in ("V1", "V2"):
        for sharded in (False, True):
            path = folder / "saver" / (version + "_sharded" * sharded)
            number = getattr(v1.train.SaverDef, version)
            prefix, saved = saver(path, number, sharded=sharded)
            prefixes[prefix], values[prefix] = prefix, saved
    everything = {path: expected(prefix, values.get(path, {})) for path, prefix in prefixes.items()}
    both = open_checkpoint(folder / "objects-1")  # our messages do not disturb TensorFlow's
    assert set(both) == set(everything[str(folder / "objects-1")])
    (folder / "expected.json").write_text(json.dumps(everything))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
