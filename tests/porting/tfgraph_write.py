"""Networks as graphs, written by TensorFlow, and what it computes with them.

    python tfgraph_write.py FOLDER CASE [CASE ...]

A case is FORMAT:NETWORK, such as frozen:MobileNetV2; the file is FOLDER/FORMAT_NETWORK, beside it
lies FORMAT_NETWORK.npz with inputs and outputs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from graph_networks import randomize
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import tf_optimizer

tf.config.threading.set_intra_op_parallelism_threads(1)
SIZE, CLASSES = 64, 10
CALIBRATION = 8
"""Inputs from which the ranges of int8 are taken."""


# ---- networks --------------------------------------------------------------------------------


def application(name):
    """A network of keras.applications with random weights and statistics, and an input."""
    keras.utils.clear_session()
    size = 96 if name == "Xception" else SIZE
    options = {"alpha": 0.25} if name == "MobileNet" else {}
    make = getattr(keras.applications, name)
    model = make(
        input_shape=(size, size, 3), weights=None, classes=CLASSES, classifier_activation=None,
        **options,
    )  # fmt: skip
    randomize(model)
    high = 255 if any(type(layer).__name__ == "Rescaling" for layer in model.layers) else 1
    image = np.random.default_rng(1).uniform(0, high, (2, size, size, 3)).astype("f4")
    return model, image


def variable(random, *shape):
    fan = max(1, int(np.prod(shape[:-1])))
    return tf.Variable(random.normal(0, 1 / fan**0.5, shape).astype("f4"))


class Dilated(tf.Module):
    """Blocks as DeepLab's: dilated depthwise convolutions, pyramid pooling, images of any size."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(2)
        self.depthwise = [variable(random, 3, 3, 8, mult) for mult in (1, 2, 1)]
        self.pointwise = [variable(random, 1, 1, n, 8) for n in (8, 16, 8)]
        self.dense = variable(random, 3, 3, 8, 8)
        self.pooled = variable(random, 1, 1, 8, 8)
        self.bias = variable(random, 8)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 8], tf.float32, "image")])
    def __call__(self, image):
        x = image
        for rate, depthwise, pointwise in zip(
            (2, 4, 3), self.depthwise, self.pointwise, strict=False
        ):
            x = tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "SAME", dilations=[rate, rate])
            x = tf.nn.relu6(tf.nn.conv2d(x, pointwise, 1, "SAME") + self.bias)
        x = tf.nn.atrous_conv2d(x, self.dense, 2, "SAME")
        pooled = tf.reduce_mean(x, [1, 2], keepdims=True)
        pooled = tf.nn.conv2d(pooled, self.pooled, 1, "SAME")
        pooled = tf.image.resize(pooled, tf.shape(x)[1:3])
        small = tf.nn.avg_pool2d(tf.concat([x, pooled], -1), 3, 2, "SAME")
        large = tf.compat.v1.image.resize_bilinear(small, tf.shape(image)[1:3], align_corners=True)
        scores = large[..., :8] - large[..., 8:]
        return {"scores": tf.nn.softmax(scores), "classes": tf.argmax(scores, -1)}


def dilated():
    image = np.random.default_rng(3).normal(size=(2, 19, 24, 8)).astype("f4")
    return Dilated(), image


class Mapped(tf.Module):
    """What is done to each element: to one tensor with two results, to two and a value of all."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(6)
        self.depthwise = variable(random, 3, 3, 3, 2)

    @tf.function(input_signature=[tf.TensorSpec([None, 20, 24, 3], tf.float32, "image")])
    def __call__(self, image):
        return self.outputs(image)

    def outputs(self, image):
        def resized(one):
            small = tf.image.resize(one[None], [12, 10])[0]
            return small * 2 - 1, tf.reduce_max(one)

        x, top = tf.map_fn(resized, image, fn_output_signature=(tf.float32, tf.float32))
        x = tf.nn.depthwise_conv2d(x, self.depthwise, [1, 1, 1, 1], "SAME")
        centre = tf.reduce_mean(x)
        weighted = tf.map_fn(
            lambda pair: tf.reduce_sum(pair[0] * pair[1], [0, 1]) - centre,
            (x, tf.nn.softmax(x, 1)),
            fn_output_signature=tf.float32,
        )
        return {"top": top, "weighted": weighted}


class Looped(tf.Module):
    """A loop whose every turn takes the result of the one before."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "image")])
    def __call__(self, image):
        _, x = tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.sin(x)), [0, image])
        return {"x": x}


def mapped():
    return Mapped(), np.random.default_rng(7).uniform(0, 1, (3, 20, 24, 3)).astype("f4")


def looped():
    return Looped(), np.zeros((1, 4), "f4")


def slim():
    """A graph of TF 1: a switch for training, batch normalizations of both kinds, PReLU, Pad."""
    v1 = tf.compat.v1
    random = np.random.default_rng(4)
    graph = tf.Graph()
    with graph.as_default():
        image = v1.placeholder(tf.float32, [None, 33, 29, 3], "image")
        training = v1.placeholder_with_default(False, [], "is_training")

        def get(name, *shape, low=None):
            value = random.normal(0, 0.3, shape) if low is None else random.uniform(low, 2, shape)
            trainable = "moving" not in name
            return v1.get_variable(name, initializer=value.astype("f4"), trainable=trainable)

        def norm(x, name):
            gamma, beta = get(f"{name}/gamma", 6, low=0.5), get(f"{name}/beta", 6)
            mean, variance = (
                get(f"{name}/moving_mean", 6),
                get(f"{name}/moving_variance", 6, low=0.5),
            )
            return gamma, beta, mean, variance

        x = tf.pad(image, [[0, 0], [0, 1], [0, 1], [0, 0]])
        x = tf.nn.conv2d(x, get("conv/weights", 3, 3, 3, 6), 2, "VALID")
        gamma, beta, mean, variance = norm(x, "conv/BatchNorm")
        x = v1.cond(
            training,
            lambda: v1.nn.fused_batch_norm(x, gamma, beta, epsilon=0.001)[0],
            lambda: v1.nn.fused_batch_norm(
                x, gamma, beta, mean, variance, epsilon=0.001, is_training=False
            )[0],
        )
        alpha = get("prelu/alpha", 6)
        x = tf.nn.relu(x) - alpha * tf.nn.relu(-x)
        x = tf.nn.depthwise_conv2d(
            x, get("depthwise/depthwise_weights", 3, 3, 6, 1), [1, 2, 2, 1], "SAME"
        )
        gamma, beta, mean, variance = norm(x, "depthwise/BatchNorm")
        x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, 0.001)
        x = x * tf.nn.relu6(x + 3.0) / 6.0
        x = tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])
        x = v1.nn.xw_plus_b(x, get("logits/weights", x.shape[1], 5), get("logits/biases", 5))
        output = tf.nn.l2_normalize(x, 1, name="embedding")
    value = random.normal(size=(2, 33, 29, 3)).astype("f4")
    return graph, image, output, value


# ---- formats -----------------------------------------------------------------------------------


def concrete(model):
    if isinstance(model, tf.Module) and not isinstance(model, keras.Model):
        return model.__call__.get_concrete_function()
    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "image")
    return tf.function(lambda image: model(image, training=False)).get_concrete_function(spec)


def write_frozen(path, model, _):
    frozen = convert_variables_to_constants_v2(concrete(model))
    path.with_suffix(".pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())


def write_text(path, model, _):
    frozen = convert_variables_to_constants_v2(concrete(model))
    tf.io.write_graph(frozen.graph, str(path.parent), f"{path.name}.pbtxt")


def write_tfjs(path, model, _):
    """As TensorFlow.js' converter: optimized by grappler, constants beside the JSON."""
    function = concrete(model)
    graph = convert_variables_to_constants_v2(function).graph
    (entry,), ends = graph.inputs, graph.outputs
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
    for tensor in (entry, *ends):
        meta.collection_def["train_op"].node_list.value.append(tensor.name)
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.optimizers.extend(GRAPPLER)
    config.graph_options.rewrite_options.meta_optimizer_iterations = 2
    config.graph_options.rewrite_options.min_graph_nodes = -1
    optimized = fused(tf_optimizer.OptimizeGraph(config, meta))
    weights, data = [], b""
    for node in optimized.node:
        if node.op == "Const":
            value = tf.make_ndarray(node.attr["value"].tensor)
            if node.attr["dtype"].type == tf.int64.as_datatype_enum:
                value = value.astype("i4")
            weights.append({"name": node.name, "shape": value.shape, "dtype": value.dtype.name})
            data += value.tobytes()
            del node.attr["value"]
    topology = MessageToDict(optimized)
    about = function.structured_outputs
    names = about if isinstance(about, dict) else ["output"]
    model = {
        "format": "graph-model",
        "modelTopology": {"node": topology["node"], "versions": topology["versions"]},
        "signature": {
            "inputs": {"image": tensor_info(entry)},
            "outputs": {name: tensor_info(end) for name, end in zip(names, ends, strict=True)},
        },
        "weightsManifest": [{"paths": ["weights.bin"], "weights": weights}],
    }
    path.mkdir()
    (path / "weights.bin").write_bytes(data)
    (path / "model.json").write_text(json.dumps(model))


GRAPPLER = ("pruning", "constfold", "arithmetic", "dependency", "pruning")


def fused(graph):
    """Convolutions that take in the bias and the ReLU6 after them, as the converter writes them."""
    nodes, users = {node.name: node for node in graph.node}, defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name.partition(":")[0]].append(node)
    gone = set()
    for node in graph.node:
        chain = [node]
        while len(users[chain[-1].name]) == 1 and len(chain) < 3:
            chain += users[chain[-1].name]
        ops = [one.op for one in chain]
        if ops[:1] not in (["Conv2D"], ["DepthwiseConv2dNative"]) or ops[1:] != ["AddV2", "Relu6"]:
            continue
        last, bias = chain[2], next(name for name in chain[1].input if name != node.name)
        if nodes[bias].op != "Const":
            continue
        last.op = {"Conv2D": "_FusedConv2D"}.get(node.op, "FusedDepthwiseConv2dNative")
        last.ClearField("input")
        last.input.extend([*node.input, bias])
        for name, value in node.attr.items():
            last.attr[name].CopyFrom(value)
        last.attr["fused_ops"].list.s.extend([b"BiasAdd", b"Relu6"])
        last.attr["num_args"].i = 1
        gone |= {chain[0].name, chain[1].name}
    kept = [node for node in graph.node if node.name not in gone]
    return tf.compat.v1.GraphDef(node=kept, versions=graph.versions)


def tensor_info(tensor):
    found = tf.compat.v1.MetaGraphDef().signature_def["one"].inputs["one"]
    found.name, found.dtype = tensor.name, tensor.dtype.as_datatype_enum
    found.tensor_shape.CopyFrom(tensor.shape.as_proto())
    return MessageToDict(found)


def write_saved(path, model, _):
    if isinstance(model, keras.Model):
        model.export(str(path), verbose=False)
    else:
        tf.saved_model.save(model, str(path), signatures=model.__call__)


def write_tflite(path, model, image, kind):
    with tempfile.TemporaryDirectory() as folder:
        write_saved(Path(folder) / "saved", model, image)
        convert = tf.lite.TFLiteConverter.from_saved_model(f"{folder}/saved")
        path.with_suffix(".tflite").write_bytes(converted(convert, image, kind))


def converted(convert, image, kind):
    if kind != "float32":
        convert.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        convert.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        random = np.random.default_rng(5)
        high = image.max()
        samples = [random.uniform(0, high, (1, *image.shape[1:])) for _ in range(CALIBRATION)]
        convert.representative_dataset = lambda: ([one.astype("f4")] for one in samples)
        convert.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        convert.inference_input_type = convert.inference_output_type = tf.int8
    return convert.convert()


def interpreted(path, image):
    """Outputs of a TFLite file, and what its nodes give if it is quantized, by their names."""
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(
        str(path), experimental_op_resolver_type=resolver, experimental_preserve_all_tensors=True
    )
    (entry,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(entry["index"], image.shape)
    interpreter.allocate_tensors()
    scale, zero = entry["quantization"]
    value = np.clip(np.round(image / scale + zero), -128, 127).astype("i1") if scale else image
    interpreter.set_tensor(entry["index"], value)
    interpreter.invoke()

    def real(one):
        result, (scale, zero) = interpreter.get_tensor(one["index"]), one["quantization"]
        return (result.astype("f4") - zero) * scale if scale else result

    outputs = {one["name"]: real(one) for one in interpreter.get_output_details()}
    nodes = {
        one["name"]: real(one)
        for one in interpreter.get_tensor_details()
        if scale and one["name"] and one["dtype"] == np.int8 and one["quantization"][0]
    }
    return outputs, nodes


def write_slim(path, kind):
    graph, image, output, value = slim()
    v1 = tf.compat.v1
    with v1.Session(graph=graph) as session, graph.as_default():
        session.run(v1.global_variables_initializer())
        expected = session.run(output, {image: value})
        if kind == "saved":
            v1.saved_model.simple_save(session, str(path), {"x": image}, {"y": output})
        elif kind == "meta":
            v1.train.Saver().save(session, str(path))
        else:
            frozen = v1.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), ["embedding"]
            )
            path.with_suffix(".pb").write_bytes(frozen.SerializeToString())
    np.savez(f"{path}.npz", image=value, **{"output y": expected})


def write_tf1(path, model, image):
    """The network built by TF 1: loops of ``Enter`` and ``Exit``, and arrays in place of lists."""
    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    with v1.Session(graph=tf.Graph()) as session, session.graph.as_default():
        model = type(model)()
        outputs = model.outputs(v1.placeholder(tf.float32, [None, *image.shape[1:]], "image"))
        names = [tf.identity(value, name).op.name for name, value in outputs.items()]
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), names
        )
    v1.enable_control_flow_v2()
    assert {"TensorArrayV3", "Exit"} <= {node.op for node in frozen.node}
    path.with_suffix(".pb").write_bytes(frozen.SerializeToString())


NETWORKS = {"dilated": dilated, "mapped": mapped, "looped": looped}


def write(folder, case):
    kind, _, name = case.partition(":")
    path = Path(folder) / f"{kind}_{name}"
    if name == "slim":
        write_slim(path, kind)
        return
    model, image = NETWORKS[name]() if name in NETWORKS else application(name)
    nodes = {}
    if kind.startswith("tflite"):
        write_tflite(path, model, image, kind.removeprefix("tflite_"))
        outputs, nodes = interpreted(path.with_suffix(".tflite"), image)
    else:
        writers = {"frozen": write_frozen, "text": write_text, "saved": write_saved,
                   "tfjs": write_tfjs, "tf1": write_tf1}  # fmt: skip
        writers[kind](path, model, image)
        found = concrete(model)(tf.constant(image))
        outputs = found if isinstance(found, dict) else {"output": found}
        outputs = {name: value.numpy() for name, value in outputs.items()}
    arrays = {f"output {name}": value for name, value in outputs.items()}
    np.savez(f"{path}.npz", image=image, **arrays)
    if nodes:
        np.savez(f"{path}.nodes.npz", **nodes)


if __name__ == "__main__":
    for case in sys.argv[2:]:
        write(sys.argv[1], case)
