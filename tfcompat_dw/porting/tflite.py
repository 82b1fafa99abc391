"""TFLite's operators as TensorFlow's: other layouts of filters, activations as nodes of their own.

What an operator computes: ``tensorflow/lite/kernels/internal/reference``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from tfcompat_dw.checkpoint.graph import Graph, GraphNode
from tfcompat_dw.porting import tflite_recurrent
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.lowering import Lower, Lowering
from tfcompat_dw.porting.tflite_custom import custom_lowering

L2_EPSILON = 1e-6
"""Least norm that ``L2_NORMALIZATION`` divides by."""
SAME_MEANING = {
    "ABS": "Abs", "ADD_N": "AddN", "ATAN2": "Atan2", "BATCH_TO_SPACE_ND": "BatchToSpaceND",
    "BITWISE_XOR": "BitwiseXor", "BROADCAST_ARGS": "BroadcastArgs", "BROADCAST_TO": "BroadcastTo",
    "CEIL": "Ceil", "COMPLEX_ABS": "ComplexAbs", "COS": "Cos", "DENSIFY": "Identity",
    "DYNAMIC_UPDATE_SLICE": "XlaDynamicUpdateSlice", "ELU": "Elu", "EQUAL": "Equal", "EXP": "Exp",
    "EXPAND_DIMS": "ExpandDims", "FILL": "Fill", "FLOOR": "Floor", "FLOOR_DIV": "FloorDiv",
    "FLOOR_MOD": "FloorMod", "GATHER_ND": "GatherNd", "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterEqual", "IMAG": "Imag", "LESS": "Less", "LESS_EQUAL": "LessEqual",
    "LOG": "Log", "LOGICAL_AND": "LogicalAnd", "LOGICAL_NOT": "LogicalNot",
    "LOGICAL_OR": "LogicalOr", "LOGISTIC": "Sigmoid", "LOG_SOFTMAX": "LogSoftmax",
    "MATRIX_DIAG": "MatrixDiag", "MATRIX_SET_DIAG": "MatrixSetDiag", "MAXIMUM": "Maximum",
    "MINIMUM": "Minimum", "NEG": "Neg", "NOT_EQUAL": "NotEqual", "PAD": "Pad", "PADV2": "PadV2",
    "POW": "Pow", "PRELU": "Prelu", "QUANTIZE": "Identity", "RANGE": "Range", "RANK": "Rank",
    "REAL": "Real", "RELU": "Relu", "RELU6": "Relu6", "REVERSE_V2": "ReverseV2", "RFFT2D": "RFFT2D",
    "RIGHT_SHIFT": "RightShift", "ROUND": "Round", "RSQRT": "Rsqrt", "SCATTER_ND": "ScatterNd",
    "SEGMENT_SUM": "SegmentSum", "SELECT": "Select", "SELECT_V2": "SelectV2", "SIGN": "Sign",
    "SIN": "Sin", "SLICE": "Slice", "SPACE_TO_BATCH_ND": "SpaceToBatchND",
    "SPARSE_TO_DENSE": "SparseToDense", "SQRT": "Sqrt", "SQUARE": "Square",
    "SQUARED_DIFFERENCE": "SquaredDifference", "TANH": "Tanh", "TILE": "Tile", "TOPK_V2": "TopKV2",
    "TRANSPOSE": "Transpose", "UNSORTED_SEGMENT_MAX": "UnsortedSegmentMax",
    "UNSORTED_SEGMENT_MIN": "UnsortedSegmentMin", "UNSORTED_SEGMENT_PROD": "UnsortedSegmentProd",
    "UNSORTED_SEGMENT_SUM": "UnsortedSegmentSum", "WHERE": "Where", "ZEROS_LIKE": "ZerosLike",
}  # fmt: skip
"""Operators whose inputs are TensorFlow's, and which have no options that matter."""
REDUCTIONS = {
    "MEAN": "Mean", "SUM": "Sum", "REDUCE_PROD": "Prod", "REDUCE_MAX": "Max", "REDUCE_MIN": "Min",
    "REDUCE_ANY": "Any", "REDUCE_ALL": "All",
}  # fmt: skip
ARITHMETIC = {"ADD": "AddV2", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}


def lowered(graph: Graph, simulate_quantization: bool = False, kept: Collection[str] = ()) -> Graph:
    """The same network in TensorFlow's operations; those that have none keep TFLite's names.

    Filters are turned into TensorFlow's layouts by nodes on constants.  Results that the original
    computes in integers are real numbers here.

    Args:
        graph: a graph with ``is_tflite``.
        simulate_quantization: puts a node ``FakeQuantize`` (attributes ``scale``, ``zero_point``,
            ``axis``, ``dtype`` and ``shifts``) behind each of those, which rounds and clips it to
            the numbers that the integers stand for.
        kept: operators that keep TFLite's names in any case.
    """
    lowering = Lowering(graph, simulate_quantization, kept)
    for node in graph.nodes.values():
        _lower(lowering, node)
    return lowering.result()


def _lower(to: Lowering, node: GraphNode) -> None:
    """One node, or what is left of it."""
    lower = LOWERINGS.get(node.op) or custom_lowering(node.op)
    if node.op == "Placeholder":
        to.finish(node, "Placeholder", ())
    elif node.op == "Const":
        to.nodes[node.name] = node
    elif node.op in to.kept:
        to.keep(node)
    elif node.op in SAME_MEANING:
        to.finish(node, SAME_MEANING[node.op], node.inputs, node.attributes)
    elif lower is None:
        to.keep(node)
    else:
        try:
            lower(to, node)
        except UnsupportedLayerError as error:
            to.refused[node.name] = str(error)
            to.keep(node)
        except (IndexError, KeyError, TypeError, ValueError) as error:  # a file may hold anything
            to.refused[node.name] = f"its inputs or options are not understood ({error})"
            to.keep(node)


# ---- convolutions and products -------------------------------------------------------------------


def _window(node: GraphNode, dilates: bool = True) -> dict[str, Any]:
    """Strides, padding and dilations as TensorFlow has them."""
    options = node.attributes
    found: dict[str, Any] = {
        "strides": [1, options["stride_h"], options["stride_w"], 1],
        "padding": options["padding"],
        "data_format": "NHWC",
    }
    if dilates:
        found["dilations"] = [1, options["dilation_h_factor"], options["dilation_w_factor"], 1]
    return found


def _conv_2d(to: Lowering, node: GraphNode) -> None:
    x, filter, *bias = node.inputs
    kernel = to.turned(node, filter, (1, 2, 3, 0))
    to.with_bias(node, "Conv2D", (x, kernel), bias, _window(node))


def _depthwise_conv_2d(to: Lowering, node: GraphNode) -> None:
    x, filter, *bias = node.inputs
    shape, multiplier = to.shape(filter), node.attributes["depth_multiplier"] or 1
    if len(shape) != 4 or shape[0] != 1 or multiplier < 1 or shape[3] % multiplier:
        raise UnsupportedLayerError(f"its filter has shape {shape}, its multiplier is {multiplier}")
    sizes = [shape[1], shape[2], shape[3] // multiplier, multiplier]
    kernel = to.reshaped(node, filter, sizes)
    to.with_bias(node, "DepthwiseConv2dNative", (x, kernel), bias, _window(node))


def _transpose_conv(to: Lowering, node: GraphNode) -> None:
    size, filter, x, *bias = node.inputs
    kernel = to.turned(node, filter, (1, 2, 0, 3))
    given = _window(node, dilates=False)
    to.with_bias(node, "Conv2DBackpropInput", (size, kernel, x), bias, given)


def _conv_3d(to: Lowering, node: GraphNode) -> None:
    x, filter, *bias = node.inputs
    to.with_bias(node, "Conv3D", (x, filter), bias, _deep_window(node))


def _conv_3d_transpose(to: Lowering, node: GraphNode) -> None:
    size, filter, x, *bias = node.inputs
    to.with_bias(node, "Conv3DBackpropInputV2", (size, filter, x), bias, _deep_window(node))


def _deep_window(node: GraphNode) -> dict[str, Any]:
    options = node.attributes
    names = ("stride_d", "stride_h", "stride_w")
    gaps = ("dilation_d_factor", "dilation_h_factor", "dilation_w_factor")
    return {
        "strides": [1, *(options[name] for name in names), 1],
        "dilations": [1, *(options[name] for name in gaps), 1],
        "padding": options["padding"],
        "data_format": "NDHWC",
    }


def _fully_connected(to: Lowering, node: GraphNode) -> None:
    x, matrix, *bias = node.inputs
    if node.attributes["weights_format"] != 0:
        raise UnsupportedLayerError("its matrix is shuffled")
    if node.attributes["keep_num_dims"]:
        to.with_bias(node, "BatchMatMulV2", (x, matrix), bias, {"adj_y": True})
    else:
        columns = to.element(node, to.emit(node, "Shape", (matrix,)), 1)
        size = to.emit(node, "Pack", (to.constant(node, -1), columns), {"axis": 0})
        rows = to.emit(node, "Reshape", (x, size))
        to.with_bias(node, "MatMul", (rows, matrix), bias, {"transpose_b": True})


def _batch_matmul(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "BatchMatMulV2", node.inputs, dict(node.attributes))


# ---- pools and images ----------------------------------------------------------------------------


def _pool(op: str) -> Lower:
    def lower(to: Lowering, node: GraphNode) -> None:
        to.finish(node, op, node.inputs, _pool_window(node))

    return lower


def _pool_window(node: GraphNode) -> dict[str, Any]:
    options = node.attributes
    size = [1, options["filter_height"], options["filter_width"], 1]
    return {**_window(node, dilates=False), "ksize": size}


def _l2_pool(to: Lowering, node: GraphNode) -> None:
    square = to.emit(node, "Square", node.inputs)
    mean = to.emit(node, "AvgPool", (square,), _pool_window(node))
    to.finish(node, "Sqrt", (mean,))


def _resize(op: str) -> Lower:
    def lower(to: Lowering, node: GraphNode) -> None:
        to.finish(node, op, node.inputs, dict(node.attributes))

    return lower


def _block(op: str) -> Lower:
    def lower(to: Lowering, node: GraphNode) -> None:
        given = {"block_size": node.attributes["block_size"], "data_format": "NHWC"}
        to.finish(node, op, node.inputs, given)

    return lower


def _mirror_pad(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "MirrorPad", node.inputs, {"mode": node.attributes["mode"]})


# ---- elementwise, normalizations -----------------------------------------------------------------


def _arithmetic(op: str) -> Lower:
    return lambda to, node: to.finish(node, op, node.inputs)


def _clip(low: float, high: float) -> Lower:
    def lower(to: Lowering, node: GraphNode) -> None:
        ends = (to.constant(node, end, torch.float32) for end in (low, high))
        to.finish(node, "ClipByValue", (node.inputs[0], *ends))

    return lower


def _leaky_relu(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "LeakyRelu", node.inputs, {"alpha": node.attributes["alpha"]})


def _hard_swish(to: Lowering, node: GraphNode) -> None:
    """``x * relu6(x + 3) / 6``."""
    (x,) = node.inputs
    total = to.emit(node, "AddV2", (x, to.constant(node, 3.0, torch.float32)))
    gate = to.emit(node, "Relu6", (total,))
    part = to.emit(node, "Mul", (gate, to.constant(node, 1 / 6, torch.float32)))
    to.finish(node, "Mul", (x, part))


def _gelu(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "Gelu", node.inputs, {"approximate": node.attributes["approximate"]})


def _softmax(to: Lowering, node: GraphNode) -> None:
    x, beta = node.inputs[0], node.attributes["beta"]
    if beta != 1:
        x = to.emit(node, "Mul", (x, to.constant(node, beta, torch.float32)))
    to.finish(node, "Softmax", (x,))


def _l2_normalization(to: Lowering, node: GraphNode) -> None:
    (x,) = node.inputs
    square = to.emit(node, "Square", (x,))
    total = to.emit(node, "Sum", (square, to.constant(node, [-1])), {"keep_dims": True})
    norm = to.emit(node, "Sqrt", (total,))
    norm = to.emit(node, "Maximum", (norm, to.constant(node, L2_EPSILON, torch.float32)))
    to.finish(node, "RealDiv", (x, norm))


def _local_response_normalization(to: Lowering, node: GraphNode) -> None:
    options = node.attributes
    given = {
        "depth_radius": options["radius"],
        **{k: options[k] for k in ("bias", "alpha", "beta")},
    }
    to.finish(node, "LRN", node.inputs, given)


def _fake_quant(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "FakeQuantWithMinMaxArgs", node.inputs, dict(node.attributes))


def _dequantize(to: Lowering, node: GraphNode) -> None:
    """Of half precision; what integers stand for is there already."""
    op = "Identity" if node.inputs[0] in to.graph.quantization else "Cast"
    to.finish(node, op, node.inputs, {"DstT": "float32"})


def _cast(to: Lowering, node: GraphNode) -> None:
    options = node.attributes
    given = {"SrcT": options["in_data_type"], "DstT": options["out_data_type"]}
    to.finish(node, "Cast", node.inputs, given)


def _non_max_suppression(op: str) -> Lower:
    """Zeros fill up the results; an overlap equal to the threshold is too much."""
    given = {"pad_to_max_output_size": True, "drops_equal": True}
    return lambda to, node: to.finish(node, op, node.inputs, given)


# ---- reductions ----------------------------------------------------------------------------------


def _reduction(op: str) -> Lower:
    def lower(to: Lowering, node: GraphNode) -> None:
        to.finish(node, op, node.inputs, {"keep_dims": node.attributes["keep_dims"]})

    return lower


def _arg(op: str) -> Lower:
    def lower(to: Lowering, node: GraphNode) -> None:
        to.finish(node, op, node.inputs, {"output_type": node.attributes["output_type"]})

    return lower


def _cumsum(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "Cumsum", node.inputs, dict(node.attributes))


# ---- arranging -----------------------------------------------------------------------------------


def _reshape(to: Lowering, node: GraphNode) -> None:
    shape = node.inputs[1:] or (to.constant(node, node.attributes["new_shape"]),)
    to.finish(node, "Reshape", (node.inputs[0], *shape))


def _squeeze(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "Squeeze", node.inputs, {"squeeze_dims": node.attributes["squeeze_dims"]})


def _strided_slice(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "StridedSlice", node.inputs, dict(node.attributes))


def _concatenation(to: Lowering, node: GraphNode) -> None:
    axis = to.constant(node, node.attributes["axis"])
    given = {"N": len(node.inputs)}
    to.finish(node, "ConcatV2", (*node.inputs, axis), given)


def _pack(to: Lowering, node: GraphNode) -> None:
    given = {"axis": node.attributes["axis"], "N": len(node.inputs)}
    to.finish(node, "Pack", node.inputs, given)


def _unpack(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "Unpack", node.inputs, dict(node.attributes))


def _split(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "Split", node.inputs, {"num_split": node.attributes["num_splits"]})


def _split_v(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "SplitV", node.inputs, {"num_split": node.attributes["num_splits"]})


def _gather(to: Lowering, node: GraphNode) -> None:
    axis = to.constant(node, node.attributes["axis"])
    given = {"batch_dims": node.attributes["batch_dims"]}
    to.finish(node, "GatherV2", (*node.inputs, axis), given)


def _embedding_lookup(to: Lowering, node: GraphNode) -> None:
    rows, table = node.inputs
    to.finish(node, "GatherV2", (table, rows, to.constant(node, 0)))


def _reverse_sequence(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "ReverseSequence", node.inputs, dict(node.attributes))


def _bucketize(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "Bucketize", node.inputs, {"boundaries": node.attributes["boundaries"]})


def _unique(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "Unique", node.inputs, {"out_idx": node.attributes["idx_out_type"]})


def _shape(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "Shape", node.inputs, {"out_type": node.attributes["output_type"]})


def _one_hot(to: Lowering, node: GraphNode) -> None:
    to.finish(node, "OneHot", node.inputs, {"axis": node.attributes["axis"]})


LOWERINGS: dict[str, Lower] = {
    **tflite_recurrent.LOWERINGS,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "TRANSPOSE_CONV": _transpose_conv,
    "CONV_3D": _conv_3d,
    "CONV_3D_TRANSPOSE": _conv_3d_transpose,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "AVERAGE_POOL_2D": _pool("AvgPool"),
    "MAX_POOL_2D": _pool("MaxPool"),
    "L2_POOL_2D": _l2_pool,
    "RESIZE_BILINEAR": _resize("ResizeBilinear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("ResizeNearestNeighbor"),
    "SPACE_TO_DEPTH": _block("SpaceToDepth"),
    "DEPTH_TO_SPACE": _block("DepthToSpace"),
    "MIRROR_PAD": _mirror_pad,
    "NON_MAX_SUPPRESSION_V4": _non_max_suppression("NonMaxSuppressionV4"),
    "NON_MAX_SUPPRESSION_V5": _non_max_suppression("NonMaxSuppressionV5"),
    **{name: _arithmetic(op) for name, op in ARITHMETIC.items()},
    **{name: _reduction(op) for name, op in REDUCTIONS.items()},
    "RELU_N1_TO_1": _clip(-1.0, 1.0),
    "RELU_0_TO_1": _clip(0.0, 1.0),
    "LEAKY_RELU": _leaky_relu,
    "HARD_SWISH": _hard_swish,
    "GELU": _gelu,
    "SOFTMAX": _softmax,
    "L2_NORMALIZATION": _l2_normalization,
    "LOCAL_RESPONSE_NORMALIZATION": _local_response_normalization,
    "FAKE_QUANT": _fake_quant,
    "CAST": _cast,
    "DEQUANTIZE": _dequantize,
    "ARG_MAX": _arg("ArgMax"),
    "ARG_MIN": _arg("ArgMin"),
    "CUMSUM": _cumsum,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "CONCATENATION": _concatenation,
    "PACK": _pack,
    "UNPACK": _unpack,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "GATHER": _gather,
    "EMBEDDING_LOOKUP": _embedding_lookup,
    "REVERSE_SEQUENCE": _reverse_sequence,
    "BUCKETIZE": _bucketize,
    "UNIQUE": _unique,
    "SHAPE": _shape,
    "ONE_HOT": _one_hot,
}
