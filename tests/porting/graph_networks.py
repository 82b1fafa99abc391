"""Networks of Keras 3 and tf_keras in files, and what they compute: the oracle of the port's tests.

    python graph_networks.py keras|tf_keras FOLDER [NAME ...]

A program of its own, so that TensorFlow and PyTorch never share a process.  Of each network it
writes NAME.keras, NAME.h5 and NAME.npz: the inputs (``input 0``), the outputs flattened
(``output 0``) and every layer's (``layer conv1``).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from pathlib import Path

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np


def randomize(model, seed=0):
    """Every variable, so that none is at a value that hides a mistake."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        name = variable.path if hasattr(variable, "path") else variable.name
        shape = tuple(variable.shape)
        if "variance" in name or "gamma" in name:
            value = random.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            fan_in = np.prod(shape[:-1]) if shape[-1] != 1 else np.prod(shape[:-2])
            value = random.normal(size=shape) / np.sqrt(fan_in)
        else:
            value = random.normal(size=shape) / 4
        if "seed" not in name:
            variable.assign(value.astype("float32"))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):  # Normalization keeps what it computes of them
            layer.finalize_state()


# ---- networks ------------------------------------------------------------------------------------


def mixed(keras):
    """Nested and shared models, operators, a dict of inputs, a dict and a list of outputs."""
    layers = keras.layers
    first = keras.Input((9, 8, 3), name="image_b")
    second = keras.Input((9, 8, 3), name="image_a")

    image = keras.Input((9, 8, 3), name="inner_image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv", activation="relu")(image)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="dw")(x)
    inner = keras.Model(image, x, name="inner")

    shared = layers.Dense(5, name="shared")
    one, two = shared(inner(first, training=False)), shared(inner(second, training=False))
    branch = keras.Sequential(
        [
            layers.Input((9, 8, 3)) if hasattr(layers, "Input") else keras.Input((9, 8, 3)),
            layers.SeparableConv2D(4, 3, name="separable"),
            layers.BatchNormalization(name="bn", scale=False),
        ],
        name="branch",
    )(second)
    one = layers.Activation("tanh", name="later")(one)  # Keras calls what has more behind it first
    x = layers.Add(name="sum")([one, two])
    x = (x * 2.0 - 1.0) / 3.0
    x = 0.5 - x
    x = x[:, 1:, :, ::2]
    x = functions(keras, x)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(branch)
    return keras.Model(
        {"image_b": first, "image_a": second},
        {"scores": x, "features": [layers.Dropout(0.5)(pooled), pooled]},
    )


def functions(keras, x):
    if hasattr(keras, "ops"):
        ops = keras.ops
        x = ops.concatenate([ops.relu(x), ops.sigmoid(x)], axis=-1)
        x = ops.mean(x, axis=(1, 2), keepdims=True)
        x = ops.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]])
        x = ops.transpose(x, (0, 3, 1, 2))
        return ops.reshape(ops.maximum(x, -0.1), (-1, 36))
    import tensorflow as tf

    x = tf.concat([tf.nn.relu(x), tf.sigmoid(x)], axis=-1)
    x = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
    x = tf.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]])
    x = tf.transpose(x, (0, 3, 1, 2))
    return tf.reshape(tf.maximum(x, -0.1), (-1, 36))


def paddings(keras):
    """ZeroPadding2D that can be folded into a convolution, and that cannot."""
    layers = keras.layers
    image = keras.Input((11, 13, 3), name="image")
    x = layers.ZeroPadding2D(((0, 1), (2, 1)), name="pad_conv")(image)
    x = layers.Conv2D(6, 3, strides=2, use_bias=False, name="conv")(x)
    x = layers.ZeroPadding2D(1, name="pad_dw")(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="valid", name="dw")(x)
    y = layers.ZeroPadding2D((2, 1), name="pad_separable")(image)
    y = layers.SeparableConv2D(4, 5, strides=2, name="separable")(y)
    twice = layers.ZeroPadding2D(1, name="pad_twice")(x)
    a = layers.Conv2D(2, 3, name="a")(twice)
    b = layers.DepthwiseConv2D(3, name="b")(twice)
    out = layers.ZeroPadding2D(1, name="pad_out")(x)
    c = layers.Conv2D(2, 3, name="c")(out)
    same = layers.ZeroPadding2D(1, name="pad_same")(x)
    d = layers.Conv2D(2, 3, padding="same", name="d")(same)
    return keras.Model(image, [a, b, out, c, d, y])


def chain(keras):
    """Sequential models, one in another, without an InputLayer."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Sequential(
                [layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="bn")],
                name="stem",
            ),
            layers.Activation("relu6", name="relu"),
            layers.DepthwiseConv2D(3, strides=2, padding="same", name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, activation="softmax", name="dense"),
        ],
        name="chain",
    )
    model.build((None, 9, 10, 3))
    model(np.zeros((1, 9, 10, 3), "float32"))
    return model


def frozen(keras):
    """A frozen backbone whose layers have names of their head's."""
    layers = keras.layers
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, name="conv")(image)
    x = layers.BatchNormalization(name="bn")(x)
    backbone = keras.Model(image, layers.ReLU(name="relu")(x), name="backbone")
    backbone.trainable = False
    image = keras.Input((8, 8, 3), name="photo")
    x = backbone(image, training=False)
    x = layers.Conv2D(4, 3, name="conv")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.BatchNormalization(name="bn_frozen", trainable=False)(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x), name="frozen")


def deep(keras):
    """Models in models in models, with layers of one name in two of them."""
    layers = keras.layers

    def block(name, channels, inside=None):
        image = keras.Input((None, None, channels), name=f"{name}_in")
        x = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_dw")(image)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        if inside is not None:
            x = layers.Add(name=f"{name}_add")([inside(x), x])
        return keras.Model(image, x, name=name)

    inner = block("inner", 3)
    middle = block("middle", 3, inner)
    outer = block("outer", 3, middle)
    image = keras.Input((7, 6, 3), name="image")
    return keras.Model(image, [outer(image), block("other", 3)(image)], name="deep")


def mobilenet_v2(keras):
    return keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, classes=10)


NETWORKS = {
    network.__name__: network for network in (mixed, paddings, chain, frozen, deep, mobilenet_v2)
}


# ---- files ---------------------------------------------------------------------------------------


def flat(structure):
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in flat(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for element in structure for leaf in flat(element)]
    return [np.asarray(structure)]


def recorded(model, structure):
    """The outputs, and every layer's by the port's names: Keras runs, its layers' calls listen."""
    found, within, listened = {}, [], set()

    def listen(owner):
        owner = getattr(owner, "_functional", None) or owner
        for layer in getattr(owner, "operations", owner.layers):
            if type(layer).__name__ != "InputLayer" and id(layer) not in listened:
                listened.add(id(layer))
                layer.call = listening(layer, layer.call)
                if hasattr(layer, "layers"):
                    listen(layer)

    def listening(layer, call):
        def heard(*args, **kwargs):
            counts = within[-1][1] if within else outermost
            name = layer.name + (f":{counts[layer.name]}" if counts[layer.name] else "")
            counts[layer.name] += 1
            path = (within[-1][0] if within else "") + name
            within.append((f"{path}/", Counter()))
            result = call(*args, **kwargs)
            within.pop()
            for index, tensor in enumerate(flat(result)):
                found[path + (f".{index}" if index else "")] = tensor
            return result

        return heard

    outermost = Counter()
    listen(model)
    return flat(model(structure, training=False)), found


def write(name, model, folder):
    random = np.random.default_rng(1)
    inputs = [
        random.normal(size=[2 if size is None else size for size in tensor.shape]).astype("f4")
        for tensor in model.inputs
    ]
    structure = {"image_a": inputs[0], "image_b": inputs[1]} if name == "mixed" else inputs
    outputs, layers = recorded(model, structure if len(inputs) > 1 else inputs[0])
    arrays = {f"input {number}": array for number, array in enumerate(inputs)}
    arrays |= {f"output {number}": array for number, array in enumerate(outputs)}
    arrays |= {f"layer {key}": array for key, array in layers.items()}
    np.savez(folder / f"{name}.npz", **arrays)


def main(library, folder, *names):
    keras = importlib.import_module(library)
    for name in names or NETWORKS:
        model = NETWORKS[name](keras)
        randomize(model)
        model.save(f"{folder}/{name}.keras")
        model.save(f"{folder}/{name}.h5")
        write(name, model, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
