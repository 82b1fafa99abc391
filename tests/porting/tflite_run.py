"""Writes TFLite networks with TensorFlow's own module of the schema, and runs them.

A question is (network, inputs), see ``tflite_network.py``; the answer is (file, outputs), or (file,
complaint).  XNNPACK is not used, which has arithmetic of its own: the kernels are those that
TensorFlow Lite itself has, on one thread.
"""

import os
import pickle
import re
import struct
import sys

os.environ |= {
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}

import flatbuffers
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

WITHOUT_DELEGATES = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
PLAIN = tf.lite.experimental.OpResolverType.BUILTIN_REF
OPTIONS = {
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), "Pool2D"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY",
                     "REDUCE_ALL"), "Reducer"),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), "MaximumMinimum"),
    **dict.fromkeys(("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"), "Random"),
    "L2_NORMALIZATION": "L2Norm",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNN",
    "CONV_3D_TRANSPOSE": "Conv3D",
    "ATAN2": "ATan2",
}  # fmt: skip
"""Where the table of options has another name than the operator."""
VERSIONS = {"BROADCAST_TO": 2}
"""Of operators that have no first version among the kernels."""
ENUMS = {
    "padding": schema.Padding,
    "fused_activation_function": schema.ActivationFunctionType,
    "mode": schema.MirrorPadMode,
    **dict.fromkeys(("in_data_type", "out_data_type", "output_type", "out_type", "idx_out_type"),
                    schema.TensorType),
}  # fmt: skip
MADE = schema.BuiltinOptions
MADE_2 = schema.BuiltinOptions2
SPLIT = re.compile("[^A-Z0-9]")


def answer(network, inputs):
    if isinstance(network, str):
        return converted(FUNCTIONS[network], inputs)
    data = written(network)
    if inputs is None:
        return data, []
    try:
        outputs = run(data, inputs, network.is_plain)
        for number, value in zip(network.outputs, outputs, strict=True):
            network.tensors[number].shape = value.shape  # as converters write it
        data = written(network)
        return data, run(data, inputs, network.is_plain)
    except Exception as error:
        return data, f"{type(error).__name__}: {error}"[:2000]


def patches(x):
    """What TFLite has no operator for."""
    return tf.image.extract_patches(x, [1, 2, 3, 1], [1, 2, 1, 1], [1, 1, 2, 1], "SAME") * 2


FUNCTIONS = {"patches": patches}
"""What a question may name in the place of a network."""


def converted(function, inputs):
    """The file that TensorFlow's converter makes of a function, and what the function computes."""
    specs = [tf.TensorSpec(one.shape, one.dtype) for one in inputs]
    traced = tf.function(function).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    return converter.convert(), [traced(*map(tf.constant, inputs)).numpy()]


def run(data, inputs, is_plain):
    kernels = PLAIN if is_plain else WITHOUT_DELEGATES
    interpreter = tf.lite.Interpreter(
        model_content=data, experimental_op_resolver_type=kernels, num_threads=1
    )
    interpreter.allocate_tensors()
    for one, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(one["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]


# ---- the file ------------------------------------------------------------------------------------


def written(network):
    model = schema.ModelT()
    model.version, model.description = 3, b""
    model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT()], [], []
    codes = {}
    for one in [network, *network.others]:
        model.subgraphs.append(subgraph(model, codes, one))
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def subgraph(model, codes, network):
    graph = schema.SubGraphT()
    graph.name = b"main"
    graph.tensors = [
        tensor(model, one, one.name or f"tensor_{place}")
        for place, one in enumerate(network.tensors)
    ]
    graph.inputs, graph.outputs = network.inputs, network.outputs
    graph.operators = [operator(model, codes, one) for one in network.operators]
    return graph


def tensor(model, given, name):
    made = schema.TensorT()
    made.name, made.shape = name.encode(), list(given.shape)
    made.hasRank, made.isVariable = True, given.is_variable
    if given.open_shape is not None:
        made.shapeSignature = list(given.open_shape)
    made.type = getattr(schema.TensorType, given.dtype.upper())
    if given.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(given.data, np.uint8)
        model.buffers.append(buffer)
        made.buffer = len(model.buffers) - 1
    if given.steps is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = list(given.steps.scale)
        made.quantization.zeroPoint = list(given.steps.zero_point)
        made.quantization.quantizedDimension = given.steps.axis
    if given.sparsity is not None:
        made.sparsity = sparsity(**given.sparsity)
    return made


def sparsity(order, blocks, levels):
    """A level is the size of one that is stored whole, or its segments and indices."""
    made = schema.SparsityParametersT()
    made.traversalOrder, made.blockMap, made.dimMetadata = order, blocks, []
    for level in levels:
        dimension = schema.DimensionMetadataT()
        if isinstance(level, int):
            dimension.denseSize = level
        else:
            dimension.format = schema.DimensionType.SPARSE_CSR
            for key, values in zip(("Segments", "Indices"), level, strict=True):
                vector = schema.Int32VectorT()
                vector.values = list(values)
                setattr(dimension, f"array{key}Type", schema.SparseIndexVector.Int32Vector)
                setattr(dimension, f"array{key}", vector)
        made.dimMetadata.append(dimension)
    return made


def operator(model, codes, given):
    made = schema.OperatorT()
    made.inputs, made.outputs = given.inputs, given.outputs
    made.opcodeIndex = code(model, codes, given)
    if given.custom is not None:
        made.customOptions = np.frombuffer(given.custom, np.uint8)
        return made
    name = OPTIONS.get(given.name) or options_name(given.name)
    if hasattr(MADE, f"{name}Options"):
        made.builtinOptionsType = getattr(MADE, f"{name}Options")
        made.builtinOptions = options(f"{name}OptionsT", given.options)
    elif hasattr(MADE_2, f"{name}Options"):
        made.builtinOptions2Type = getattr(MADE_2, f"{name}Options")
        made.builtinOptions2 = options(f"{name}OptionsT", given.options)
    else:
        assert not given.options, f"{given.name} has no options"
    return made


def options_name(operator):
    """``CONV_2D``: ``Conv2D``, whatever the schema writes in capitals."""
    plain = operator.replace("_", "").upper() + "OPTIONS"
    found = [one for one in (*vars(MADE), *vars(MADE_2)) if one.upper() == plain]
    return found[0].removesuffix("Options") if found else ""


def options(name, given):
    made = getattr(schema, name)()
    for key, value in given.items():
        first, *rest = key.split("_")
        field = first + "".join(part.capitalize() for part in rest)
        assert hasattr(made, field), f"{name} has no {field}"
        if isinstance(value, str):
            value = getattr(ENUMS[key], value.upper())
        setattr(made, field, value)
    return made


def code(model, codes, given):
    """The operator's number in the file's list."""
    if given.name not in codes:
        made = schema.OperatorCodeT()
        if given.custom is None:
            number = getattr(schema.BuiltinOperator, given.name)
        else:
            number, made.customCode = schema.BuiltinOperator.CUSTOM, given.name.encode()
        made.builtinCode, made.deprecatedBuiltinCode = number, min(number, 127)
        made.version = VERSIONS.get(given.name, 1)
        codes[given.name] = len(model.operatorCodes)
        model.operatorCodes.append(made)
    return codes[given.name]


def main():
    pipe, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what TensorFlow prints is no answer
    while head := pipe.read(8):
        data = pickle.dumps(answer(*pickle.loads(pipe.read(struct.unpack("<q", head)[0]))))
        out.write(struct.pack("<q", len(data)) + data)
        out.flush()


if __name__ == "__main__":
    main()
