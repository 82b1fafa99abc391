"""Run with TensorFlow, in a process of its own: writes graphs, and what TensorFlow says of them.

``python graph_write.py FOLDER``: ``expected.json`` is a list of what each graph of each file has.
"""

from __future__ import annotations

import os

os.environ |= {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_USE_LEGACY_KERAS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}

import json
import sys
from collections import Counter
from pathlib import Path

import flat_tables as flat
import numpy as np
import tensorflow as tf
import tf_keras
from flat_tables import flatbuffer
from google.protobuf import json_format
from tensorflow.core.framework import tensor_shape_pb2
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

v1 = tf.compat.v1
NUMERIC = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "int8", "int16",
           "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")  # fmt: skip
HANDED_ON = ("Const", "Placeholder", "Identity", "ReadVariableOp", "NoOp", "VarHandleOp")
"""What inlining leaves or takes away."""
WITHOUT_DELEGATES = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def numbers(dtype, shape, seed=0):
    generator = np.random.default_rng(seed)
    dtype = tf.as_dtype(dtype)
    if dtype.is_bool:
        return generator.random(shape) < 0.5
    if dtype.is_integer:
        return generator.integers(dtype.min, dtype.max, shape, dtype.as_numpy_dtype, endpoint=True)
    values = generator.standard_normal(shape)
    if dtype.is_complex:
        values = values + 1j * generator.standard_normal(shape)
    return np.asarray(values).astype(dtype.as_numpy_dtype)


def encoded(value):
    """A tensor's type, shape and bytes."""
    value = np.asarray(value)
    if value.dtype.kind in "OSU":
        return ["string", list(value.shape), [bytes(one).hex() for one in value.ravel()]]
    return [value.dtype.name, list(value.shape), value.tobytes().hex()]


def plain(value):
    """An attribute as JSON has it."""
    if isinstance(value, tensor_shape_pb2.TensorShapeProto):
        value = tf.TensorShape(value)
    if isinstance(value, tf.TensorShape):
        return None if value.rank is None else value.as_list()
    if isinstance(value, tf.DType):
        return value.base_dtype.name
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.name if hasattr(value, "name") else value


# ---- graphs --------------------------------------------------------------------------------------


def nodes_of(graph):
    """Operation, inputs and attributes of every node, by name."""
    found = {}
    for op in graph.get_operations():
        attributes = {
            name: plain(op.get_attr(name))
            for name, value in op.node_def.attr.items()
            if not name.startswith("_") and not value.HasField("tensor")
        }
        inputs = [tensor.name.removesuffix(":0") for tensor in op.inputs]
        found[op.name] = [op.type, inputs, attributes]
    return found


def constants_of(graph):
    with v1.Session(graph=graph) as session:
        tensors = {op.name: op.outputs[0] for op in graph.get_operations() if op.type == "Const"}
        return {name: encoded(value) for name, value in session.run(tensors).items()}


def imported(definition):
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    return graph


def plain_graph():
    """Constants of all types, attributes of all kinds, several results, edges that only order."""
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 8, None, 3], "x")
        text = v1.placeholder(tf.string, [], "text")
        v1.placeholder(tf.int32, None, "of_any_rank")
        for dtype in NUMERIC:
            tf.constant(numbers(dtype, (2, 3)), name=f"of/{dtype}")
        tf.constant(1.5, shape=(3, 4), name="filled")
        tf.constant(np.zeros((0, 3), "f4"), name="empty")
        tf.constant(np.float32(-2), name="scalar")
        tf.constant([[b"", b"conv"], [bytes(range(256)), b"\0"]], name="words")
        tf.constant([b"ab"] * 7, name="same_words")
        filter = tf.constant(numbers("float32", (3, 3, 3, 4)), name="conv/filter")
        padding = [[0, 0], [1, 2], [0, 1], [0, 0]]
        y = tf.nn.conv2d(x, filter, [1, 2, 1, 1], padding, name="conv")
        first, second = tf.split(y, 2, axis=3, name="split")
        with tf.control_dependencies([first.op]):
            z = tf.nn.leaky_relu(tf.nn.relu6(second, name="relu6"), 0.125)
        pooled = tf.raw_ops.FractionalMaxPool(value=z, pooling_ratio=[1.0, 1.44, 1.73, 1.0])
        tf.raw_ops.Unique(x=pooled.row_pooling_sequence, name="both")
        tf.cast(tf.stack([first, z], axis=1)[..., ::2], tf.float64, name="end")
        tf.raw_ops.ParseSingleExample(
            serialized=text, dense_defaults=[tf.zeros([3]), tf.zeros([0], tf.int64)], num_sparse=1,
            sparse_keys=["a"], dense_keys=["größe", "c"], sparse_types=[tf.string],
            dense_shapes=[[3], [None]], name="parsed",
        )  # fmt: skip
    return graph


def write_plain(folder):
    definition = plain_graph().as_graph_def()
    (folder / "plain.pb").write_bytes(definition.SerializeToString())
    tf.io.write_graph(definition, str(folder), "plain.pbtxt")
    graph = imported(definition)
    about = {
        "nodes": nodes_of(graph),
        "constants": constants_of(graph),
        "inputs": [["x", "float32", [None, 8, None, 3]], ["text", "string", []]],
        "outputs": ["both", "both:1", "end", "parsed", "parsed:1", "parsed:2", "parsed:3",
                    "parsed:4", "FractionalMaxPool", "FractionalMaxPool:2"],
    }  # fmt: skip
    return [{"path": "plain.pb", **about}, {"path": "plain.pbtxt", **about}]


# ---- TF 1: variables -----------------------------------------------------------------------------


def network_1():
    """Both kinds of variables, some in parts, a switch on a constant; inputs and outputs."""
    v1.disable_control_flow_v2()
    x = v1.placeholder(tf.float32, [None, 7], "x")
    random = v1.random_normal_initializer(seed=0)

    def get(name, shape, **options):
        return v1.get_variable(name, shape, initializer=random, **options)

    rows = get("rows", (7, 3), partitioner=v1.fixed_size_partitioner(3), use_resource=False)
    columns = get("columns", (3, 4), partitioner=v1.fixed_size_partitioner(2, 1), use_resource=True)
    scale = get("norm/scale", (4,), use_resource=False)
    moving = get("norm/moving_mean", (4,), use_resource=True, trainable=False)
    get("unused", (2,), use_resource=True)
    y = tf.matmul(tf.matmul(x, rows), columns)
    is_training = tf.constant(False, name="is_training")
    y = v1.cond(
        tf.logical_and(is_training, tf.constant(True)),
        lambda: y - tf.reduce_mean(y, 0),
        lambda: tf.subtract(y, moving, name="of_inference"),
    )
    y = tf.multiply(y, scale, name="y")
    table = tf.constant(numbers("float32", (5, 2)), name="table")
    index = v1.placeholder(tf.int32, [None], "index")
    chosen = tf.gather(table, index, name="chosen")
    v1.enable_control_flow_v2()
    return {"x": x, "index": index}, {"y": y, "chosen": chosen}


def write_network_1(folder):
    graph, found = tf.Graph(), []
    with graph.as_default(), v1.Session(graph=graph) as session:
        inputs, outputs = network_1()
        session.run(v1.global_variables_initializer())
        variables = {one.op.name: one for one in v1.global_variables()}
        trained = [one.op.name for one in v1.trainable_variables()]
        values = {name: encoded(value) for name, value in session.run(variables).items()}
        about = {"variables": values, "trained": trained, "lost": ["Mean", "Switch", "Merge"],
                 "kept": ["of_inference", "Mul", "GatherV2"]}  # fmt: skip
        ends = {
            "inputs": [["x", "float32", [None, 7]], ["index", "int32", [None]]],
            "outputs": ["y", "chosen"],
        }
        savers = {
            "v2": v1.train.Saver(),
            "v1": v1.train.Saver(write_version=v1.train.SaverDef.V1),
            "sharded": v1.train.Saver(write_version=v1.train.SaverDef.V1, sharded=True),
            "renamed": v1.train.Saver({
                f"elsewhere/{number}": one
                for number, one in enumerate(v1.global_variables())
            }),
        }  # fmt: skip
        for name, saver in savers.items():
            saver.save(session, str(folder / f"{name}.ckpt"))
            found.append({"path": f"{name}.ckpt.meta", **about, **ends, "wanted": ["y", "chosen"]})
        v1.saved_model.simple_save(session, str(folder / "of_tf_1"), inputs, outputs)
        by_name = {"inputs": [ends["inputs"][1], ends["inputs"][0]], "outputs": ["chosen", "y"]}
        found.append({"path": "of_tf_1", **about, **by_name})
    return found


def write_constants_only(folder):
    """Several signatures; without variables the folder for them stays empty."""
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, [2, 3], "x")
        table = tf.constant(numbers("float32", (3, 4)), name="table")
        y, z = tf.matmul(x, table, name="y"), tf.negative(x, name="z")
        builder = v1.saved_model.Builder(str(folder / "constants_only"))
        signatures = {
            name: v1.saved_model.predict_signature_def({"image": x}, {"result": end})
            for name, end in (("serving_default", y), ("another", z))
        }
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        everything, values = nodes_of(graph), constants_of(graph)
    found = []
    for signature, names in (("serving_default", ["x", "table", "y"]), ("another", ["x", "z"])):
        found.append({
            "path": "constants_only", "signature": signature,
            "signatures": ["serving_default", "another"],
            "nodes": {name: everything[name] for name in names},
            "constants": {name: values[name] for name in names if name in values},
            "inputs": [["image", "float32", [2, 3]]], "outputs": ["result"],
        })  # fmt: skip
    assert not list((folder / "constants_only" / "variables").iterdir())
    return found


# ---- TF 2: functions -----------------------------------------------------------------------------

ROWS = tf.TensorSpec([None, 3], tf.float32)


class Net(tf.Module):
    """Functions that call others twice; variables of the same name; a constant it is bound to."""

    def __init__(self):
        super().__init__()
        self.w = tf.Variable(numbers("float32", (3, 3)), name="w")
        self.vs = [
            tf.Variable(numbers("float32", (3,), seed), name=name, trainable=seed != 3)
            for seed, name in ((1, "v"), (2, "v"), (3, "v_1"))
        ]
        self.table = tf.constant(numbers("float32", (4, 3), 4))

    @tf.function
    def inner(self, x):
        return tf.nn.relu(tf.matmul(x, self.w) + self.vs[0])

    @tf.function
    def outer(self, x):
        return self.inner(self.inner(x)) * self.vs[1]

    @tf.function(input_signature=[ROWS, ROWS])
    def serve(self, a, b):
        shared = self.outer(a)
        return {"sum": shared + self.outer(b), "first": shared, "places": tf.argmax(a, -1)}

    @tf.function(input_signature=[ROWS])
    def chosen(self, x):
        y = tf.cond(tf.constant(True), lambda: x * self.vs[2], lambda: tf.exp(x))
        return tf.matmul(y, self.table, transpose_b=True)

    @tf.function(input_signature=[tf.TensorSpec([4, 3], tf.float32, "x")])
    def maps(self, x):
        """The second map takes what the first one gives, and its own elements within another."""
        y = tf.map_fn(lambda row: row * 2.0, x)
        return tf.map_fn(
            lambda row: tf.map_fn(lambda one: one * tf.reduce_sum(row) + y[0, 0], row), x
        )

    @tf.function(input_signature=[tf.TensorSpec([4, 3], tf.float32, "x")])
    def wide_map(self, x):
        """So many results that their numbers have one digit and two."""
        factors = [float(n + 1) for n in range(9)]
        types = [tf.float32] * len(factors)
        return tf.stack(tf.map_fn(lambda row: [row * n for n in factors], x, types))


def ends_of(function):
    """Names, types and shapes; TensorFlow sorts them by name."""
    _, inputs = function.structured_input_signature
    about = [[name, one.dtype.name, one.shape.as_list()] for name, one in sorted(inputs.items())]
    return {"inputs": about, "outputs": sorted(function.structured_outputs)}


def about_signature(path, signature, **more):
    """As TensorFlow loads it, and as its own optimizer writes functions out."""
    loaded = tf.saved_model.load(path)
    function = loaded.signatures[signature]
    values = {}
    for one in function.variables:
        name = one.name.partition(":")[0]
        values[f"{name} again" if name in values else name] = encoded(one.numpy())
    inlined = convert_variables_to_constants_v2(function, lower_control_flow=False)
    ops = Counter(
        op.type for op in inlined.graph.get_operations() if op.type not in HANDED_ON
    )  # fmt: skip
    about = {"path": Path(path).name, "signature": signature, "ops": ops, **ends_of(function)}
    trained = [one.name.partition(":")[0] for one in function.variables if one.trainable]
    return {**about, "signatures": None, "values": values, "trained": trained, **more}


def write_functions(folder):
    net = Net()
    path = str(folder / "functions")
    tf.saved_model.save(net, path, {"serving_default": net.serve, "chosen": net.chosen})
    tf.saved_model.save(net, str(folder / "no_signatures"))
    names = ["serving_default", "chosen"]
    found = [
        about_signature(path, "serving_default", signatures=names),
        about_signature(path, "chosen", signatures=names, lost=["If", "StatelessIf", "Exp"]),
    ]
    del found[1]["ops"]
    loaded = tf.saved_model.load(str(folder / "no_signatures"))
    parts = {name: getattr(loaded, name) for name in dir(loaded)}
    functions = sorted(name for name, one in parts.items() if hasattr(one, "concrete_functions"))
    values = {
        "serve": {"w": net.w, "v": net.vs[0], "v again": net.vs[1]},
        "chosen": {"v_1": net.vs[2], "constant": net.table},
    }
    for name, ends in (
        ("serve", {"inputs": [["a", "float32", [None, 3]], ["b", "float32", [None, 3]]],
                   "outputs": ["first", "places", "sum"]}),
        ("chosen", {"inputs": [["x", "float32", [None, 3]]], "outputs": None}),
    ):  # fmt: skip
        about = {key: encoded(value.numpy()) for key, value in values[name].items()}
        found.append({
            "path": "no_signatures", "signature": name, "signatures": functions,
            "values": about, **ends,
        })  # fmt: skip
    return found


def write_maps(folder):
    net = Net()
    tf.saved_model.save(net, str(folder / "maps"), net.maps)
    x = numbers("float32", (4, 3))
    np.savez(folder / "maps.npz", x=x, y=net.maps(x))
    tf.saved_model.save(net, str(folder / "wide_map"), net.wide_map)
    np.savez(folder / "wide_map.npz", x=x, y=net.wide_map(x))
    frozen = convert_variables_to_constants_v2(net.wide_map.get_concrete_function())
    definition = frozen.graph.as_graph_def()
    for seed in range(4):
        shuffled = in_another_order(definition, seed)
        (folder / f"wide_map_{seed}.pb").write_bytes(shuffled.SerializeToString())
    return []


def in_another_order(definition, seed):
    """The same graph as another run of TensorFlow may write it.

    Each run has its own order of a loop's nodes, and leaves another number of placeholders behind
    that nothing takes (``unused_control_flow_input``): here none.
    """
    nodes = [one for one in definition.node if not one.name.startswith("unused_control_flow")]
    shuffled = v1.GraphDef(versions=definition.versions)
    order = np.random.default_rng(seed).permutation(len(nodes))
    shuffled.node.extend(nodes[place] for place in order)
    return shuffled


def write_keras(folder):
    """What Keras 2 saves: its description lies beside the graph."""
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [layers.Dense(4, input_shape=(3,), name="dense"), layers.BatchNormalization(name="bn")]
    )
    for number, one in enumerate(model.weights):
        one.assign(np.abs(numbers("float32", one.shape, number)))
    model.save(folder / "keras", include_optimizer=False)
    about = about_signature(str(folder / "keras"), "serving_default", config="Sequential")
    return [about]


# ---- TFLite --------------------------------------------------------------------------------------


class Small(tf.Module):
    """Convolutions of both kinds and a matrix, with activations that become parts of them."""

    def __init__(self, bits=None):
        super().__init__()
        self.bits = bits
        self.conv = tf.constant(numbers("float32", (3, 3, 3, 8)))
        self.depthwise = tf.constant(numbers("float32", (3, 3, 8, 1), 1))
        dense = numbers("float32", (32, 40), 2)  # enough of them to be quantized
        dense[::2] = 0  # whole blocks: the converter may leave them out
        dense[1::4] = 0
        self.dense = tf.constant(dense)

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.float32, "image")])
    def __call__(self, image):
        y = tf.nn.relu6(tf.nn.conv2d(image, self.conv, [2, 2], "SAME") + 0.25)
        y = tf.nn.depthwise_conv2d(y, self.depthwise, [1, 1, 1, 1], "SAME", dilations=[2, 2])
        y = tf.nn.avg_pool2d(y, 2, 2, "VALID")
        return {"scores": tf.nn.softmax(tf.matmul(tf.reshape(y, [1, 32]), self.dense))}


class FourBits(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.float32, "image")])
    def __call__(self, image):
        fake = tf.quantization
        image = fake.fake_quant_with_min_max_args(image, -4, 4)
        filter = tf.constant(numbers("float32", (3, 3, 3, 8)))
        filter = fake.fake_quant_with_min_max_vars_per_channel(
            filter, [-2.0] * 8, [2.0] * 8, num_bits=4, narrow_range=True
        )
        y = tf.nn.conv2d(image, filter, [1, 1], "SAME")
        return {"y": fake.fake_quant_with_min_max_args(y, -20, 20)}


class Words(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "place")])
    def word(self, place):
        return {"word": tf.gather(tf.constant([b"", b"conv", "größe".encode(), b"\0x"]), place)}

    @tf.function(input_signature=[tf.TensorSpec([2, 3], tf.float32, "x")])
    def twice(self, x):
        return {"y": x * tf.constant(numbers("float32", (3,))), "x": -x}


def converted(module, *functions, **options):
    concrete = [function.get_concrete_function() for function in functions or [module.__call__]]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(concrete, module)
    for name, value in options.items():
        setattr(converter, name, value)
    return converter.convert()


def samples():
    for seed in range(4):
        yield [numbers("float32", (1, 8, 8, 3), seed)]


def write_tflite(folder):
    net, optimize = Small(), tf.lite.Optimize
    whole = {
        "optimizations": [optimize.DEFAULT],
        "representative_dataset": samples,
    }
    words = Words()
    with_signatures = {"word": words.word, "twice": words.twice}
    tf.saved_model.save(words, str(folder / "words"), with_signatures)
    several = tf.lite.TFLiteConverter.from_saved_model(str(folder / "words"))
    files = {
        "float32": converted(net),
        "float16": converted(net, optimizations=[optimize.DEFAULT],
                             target_spec=target([tf.float16])),
        "dynamic": converted(net, optimizations=[optimize.DEFAULT]),
        "int8": converted(net, **whole, inference_input_type=tf.int8,
                          inference_output_type=tf.uint8),
        "per_tensor": converted(net, **whole, _experimental_disable_per_channel=True),
        "sparse": converted(net, optimizations=[optimize.EXPERIMENTAL_SPARSITY]),
        "int4": converted(FourBits(), optimizations=[optimize.DEFAULT],
                          _experimental_low_bit_qat=True),
        "several": several.convert(),
    }  # fmt: skip
    files["uint8"] = flatbuffer(eight_bits())
    found = []
    for name, data in files.items():
        path = folder / f"{name}.tflite"
        path.write_bytes(data)
        found += about_tflite(path)
    return found


def eight_bits():
    """As TensorFlow's converter before MLIR wrote it; names come again, or are missing."""
    steps = flat.quantization([0.5], [3])
    tensors = [
        flat.tensor(name, (2, 3), flat.UINT8, place, quantization=steps)
        for name, place in (("x", 0), ("k", 1), ("k", 2), ("", 0), ("y", 0))
    ]
    operators = [flat.operator(0, [0, 1], [3]), flat.operator(0, [2, 3], [4])]
    buffers = [flat.buffer(bytes(range(6))), flat.buffer(bytes(range(250, 256)))]
    return flat.model([flat.subgraph(tensors, [0], [4], operators)], buffers, [flat.ADD])


def target(types):
    spec = tf.lite.TargetSpec()
    spec.supported_types = types
    return spec


def about_tflite(path):
    """What the interpreter, and TensorFlow's own module of the schema, say of each subgraph."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    found = []
    for signature in model.signatureDefs or [None]:
        number = signature.subgraphIndex if signature else 0
        interpreter = tf.lite.Interpreter(
            str(path), experimental_op_resolver_type=WITHOUT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )  # fmt: skip
        interpreter.allocate_tensors()
        interpreter.invoke()  # of zeros: what sparse constants stand for is there then
        graph = model.subgraphs[number]
        key = signature.signatureKey.decode() if signature else "main"
        keys = [one.signatureKey.decode() for one in model.signatureDefs or []]
        about = {"path": path.name, "signature": key, "signatures": keys or ["main"]}
        found.append({**about, **about_subgraph(interpreter, model, graph, number, signature)})
    return found


def about_subgraph(interpreter, model, graph, number, signature):
    details = interpreter.get_tensor_details(number)
    names = [one.name.decode() for one in graph.tensors]
    own = {"Densify_output", *names}  # what the interpreter calls what it makes itself
    assert {one["name"] for one in details[: len(names)]} <= own
    results = {index for one in graph.operators for index in one.outputs}
    entries = set(graph.inputs)
    used = {index for one in graph.operators for index in one.inputs} - results - entries
    constants = {}
    for index in sorted(used):
        is_stored = model.buffers[graph.tensors[index].buffer].data is not None
        if is_stored and not details[index]["sparsity_parameters"]:
            name = f"{names[index]}_1" if names[index] in constants else names[index]
            value = encoded(interpreter.get_tensor(index, number))
            constants[name] = [*value, quantized(details[index])]
    for one in graph.operators:
        if op_name(model, one) == "DENSIFY":
            value = interpreter.get_tensor(one.outputs[0], number)
            constants[names[one.inputs[0]]] = [*encoded(value), None]
    operators = [
        [op_name(model, one), names_of(one.inputs, names), names_of(one.outputs, names),
         options_of(one)]
        for one in graph.operators
    ]  # fmt: skip
    given = {one.tensorIndex: one.name.decode() for one in signature.inputs} if signature else {}
    ends = {one.tensorIndex: one.name.decode() for one in signature.outputs} if signature else {}
    inputs = []
    for index in graph.inputs:
        one = details[index]
        kind = "float32" if one["quantization_parameters"]["scales"].size else name_of(one["dtype"])
        shape = [None if size < 0 else int(size) for size in one["shape_signature"]]
        inputs.append([given.get(index, names[index]), kind, shape])
    return {
        "inputs": inputs,
        "outputs": [ends.get(index, names[index]) for index in graph.outputs],
        "constants": constants,
        "operators": operators,
        "quantization": {
            names[index]: quantized(details[index])
            for index in sorted(results | entries)
            if quantized(details[index]) is not None
        },
    }


def name_of(dtype):
    return "string" if dtype is np.bytes_ else np.dtype(dtype).name


def names_of(indices, names):
    return [names[index] if index >= 0 else "" for index in indices]


def quantized(detail):
    parameters = detail["quantization_parameters"]
    scales = parameters["scales"].tolist()
    if not scales:
        return None
    return [scales, parameters["zero_points"].tolist(), int(parameters["quantized_dimension"])]


BUILTINS = {value: key for key, value in vars(schema.BuiltinOperator).items()}


def op_name(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    return BUILTINS[max(code.builtinCode, code.deprecatedBuiltinCode)]


ENUMS = {
    "padding": schema.Padding,
    "fusedActivationFunction": schema.ActivationFunctionType,
    **dict.fromkeys(("inDataType", "outDataType", "outputType", "outType"), schema.TensorType),
}


def options_of(operator):
    """Under the names that TensorFlow's module has; enums by name, vectors as lists."""
    found = {}
    for name, value in getattr(operator.builtinOptions, "__dict__", {}).items():
        if name in ENUMS:
            value = next(key for key, number in vars(ENUMS[name]).items() if number == value)
        found[name] = value.tolist() if isinstance(value, np.ndarray) else value
    return found


# ---- TensorFlow.js -------------------------------------------------------------------------------


def small_graph():
    """A bit of everything that ports know, so that damage meets all of it."""
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, None, None, 3], "x")
        constants = {
            name: tf.constant(numbers("float32", shape, seed), name=name)
            for seed, (name, shape) in enumerate({
                "dw/filter": (3, 3, 3, 1), "dw/bias": (3,), "scale": (3,),
                "conv/filter": (1, 1, 3, 2), "gamma": (2,), "beta": (2,), "mean": (2,),
                "alpha": (2,), "matrix": (2, 3),
            }.items())
        }  # fmt: skip
        variance = tf.constant([0.5, 2.0], name="variance")
        y = tf.nn.depthwise_conv2d(x, constants["dw/filter"], [1, 2, 2, 1], "SAME", name="dw")
        y = tf.nn.bias_add(y, constants["dw/bias"])
        y = tf.multiply(y, constants["scale"], name="scaled")
        y = tf.nn.conv2d(
            tf.pad(y, [[0, 0], [0, 1], [1, 0], [0, 0]]), constants["conv/filter"], 1, "VALID"
        )
        given = [constants[name] for name in ("gamma", "beta", "mean")]
        y = v1.nn.fused_batch_norm(y, *given, variance, is_training=False)[0]
        y = tf.nn.batch_normalization(y, *given[2:], variance, *given[1::-1], 0.001)
        y = y * tf.nn.relu6(y + 3.0) / 6.0
        y = tf.nn.relu(y) - constants["alpha"] * tf.nn.relu(-y)
        size = tf.shape(x)
        large = v1.image.resize_bilinear(y, size[1:3], align_corners=True)
        pooled = tf.reduce_mean(large, [1, 2], keepdims=True)
        both = tf.concat([large[:, ::2], tf.zeros_like(large[:, ::2]) + pooled], -1)
        first, _ = tf.split(both, 2, axis=3)
        rows = tf.reshape(first, [-1, 2], name="rows")
        y = tf.matmul(rows, constants["matrix"], name="product")
        y = tf.reshape(y, [size[0], -1, size[2], tf.shape(rows)[1] + 1])
        tf.nn.softmax(tf.transpose(y, [0, 3, 1, 2]), name="y")
    return graph


def write_small(folder):
    definition = small_graph().as_graph_def()
    (folder / "small.pb").write_bytes(definition.SerializeToString())
    tf.io.write_graph(definition, str(folder), "small.pbtxt")
    graph = imported(definition)
    about = {
        "nodes": nodes_of(graph),
        "constants": constants_of(graph),
        "inputs": [["x", "float32", [None, None, None, 3]]],
        "outputs": ["y"],
    }
    return [{"path": "small.pb", **about}, {"path": "small.pbtxt", **about}]


def write_tfjs(folder):
    """``model.json`` as TensorFlow.js' converter writes it: constants lie in a file of weights."""
    definition = small_graph().as_graph_def()
    values = {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in definition.node
        if node.op == "Const"
    }
    codes = np.random.default_rng(0).integers(0, 256, values["dw/filter"].shape, np.uint8)
    quantization = {
        "dw/filter": {"dtype": "uint8", "scale": 0.031, "min": -4.2},
        "dw/bias": {"dtype": "float16"},
    }
    stored = {**values, "dw/filter": codes, "dw/bias": values["dw/bias"].astype("f2")}
    for node in definition.node:
        if node.op == "Const":
            for name in ("tensor_content", "float_val", "int_val"):
                node.attr["value"].tensor.ClearField(name)
    weights = [
        {"name": name, "shape": list(value.shape), "dtype": value.dtype.name}
        | ({"quantization": quantization[name]} if name in quantization else {})
        for name, value in values.items()
    ]
    place = folder / "tfjs"
    place.mkdir()
    data = b"".join(stored[name].tobytes() for name in values)
    (place / "group1-shard1of2.bin").write_bytes(data[:33])
    (place / "group1-shard2of2.bin").write_bytes(data[33:])
    topology = json.loads(json_format.MessageToJson(definition))
    ends = {
        "inputs": {"image": {"name": "x:0", "dtype": "DT_FLOAT", "tensorShape": {
            "dim": [{"size": "-1"}, {"size": "-1"}, {"size": "-1"}, {"size": "3"}]}}},
        "outputs": {"result": {"name": "y:0", "dtype": "DT_FLOAT"}},
    }  # fmt: skip
    paths = ["group1-shard1of2.bin", "group1-shard2of2.bin"]
    model = {
        "format": "graph-model", "modelTopology": topology, "signature": ends,
        "weightsManifest": [{"paths": paths, "weights": weights}],
    }  # fmt: skip
    (place / "model.json").write_text(json.dumps(model))
    # JavaScript computes in 64 bits and rounds once
    values["dw/filter"] = (codes * 0.031 + -4.2).astype("f4")
    values["dw/bias"] = stored["dw/bias"].astype("f4")
    return [{
        "path": "tfjs/model.json", "signatures": [],
        "nodes": nodes_of(small_graph()),
        "constants": {name: encoded(value) for name, value in values.items()},
        "inputs": [["image", "float32", [None, None, None, 3]]], "outputs": ["result"],
    }]  # fmt: skip


WRITERS = (
    write_plain,
    write_network_1,
    write_constants_only,
    write_functions,
    write_maps,
    write_keras,
    write_tflite,
    write_small,
    write_tfjs,
)


def main(folder):
    everything = [about for write in WRITERS for about in write(folder)]
    (folder / "expected.json").write_text(json.dumps(everything))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
