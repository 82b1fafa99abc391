"""TFLite's operators as TensorFlow's: other layouts of filters, activations as nodes of their own.

What an operator computes: ``tensorflow/lite/kernels/internal/reference``.
"""

from __future__ import annotations

import struct
from collections import ChainMap, Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tfcompat_dw.checkpoint.graph import Graph, GraphInput, GraphNode, Output, needed
from tfcompat_dw.checkpoint.tflite import MISSING
from tfcompat_dw.porting.layer import UnsupportedLayerError

L2_EPSILON = 1e-6
"""Least norm that ``L2_NORMALIZATION`` divides by."""
ACTIVATIONS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "RELU": ("Relu", ()),
    "RELU6": ("Relu6", ()),
    "RELU_N1_TO_1": ("ClipByValue", (-1.0, 1.0)),
}
"""TFLite's kernels leave ``TANH`` and ``SIGN_BIT`` out without a word, delegates do not."""
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
            ``axis`` and ``dtype``) behind each of those, which rounds and clips it to the numbers
            that the integers stand for.
        kept: operators that keep TFLite's names in any case.
    """
    lowering = _Lowering(graph, simulate_quantization, kept)
    for node in graph.nodes.values():
        lowering.lower(node)
    return lowering.result()


_Step = tuple[str, tuple[Output, ...], dict[str, Any]]
"""An operation, its inputs beside the step before, its attributes."""


class _Lowering:
    """Collects the new nodes."""

    def __init__(self, graph: Graph, simulates: bool, kept: Collection[str]) -> None:
        self.graph, self.simulates, self.kept = graph, simulates, kept
        self.nodes: dict[str, GraphNode] = {}
        self.constants: dict[str, Tensor] = {}
        self.refused: dict[str, str] = {}
        """By the names of nodes that keep TFLite's names: the reason."""
        self.arranged: dict[tuple[str, Output, tuple[int, ...]], Output] = {}
        """Filters by what is done with them."""
        self.counts: Counter[str] = Counter()
        """How many results of a node are taken: up to the last one."""
        for taken in (graph.outputs.values(), *(one.inputs for one in graph.nodes.values())):
            for output in taken:
                self.counts[output.node] = max(self.counts[output.node], output.index + 1)

    def result(self) -> Graph:
        """The graph of the new nodes, without those that nothing takes."""
        inputs = tuple(self._input(one) for one in self.graph.inputs)
        ends = [*self.graph.outputs.values(), *(one.output for one in inputs)]
        nodes = needed(self.nodes, ends)
        constants = ChainMap(self.constants, self.graph.constants)  # type: ignore[arg-type]
        return replace(
            self.graph,
            nodes=nodes,
            constants=constants,
            inputs=inputs,
            is_tflite=False,
            refused=self.refused,
        )

    def _input(self, given: GraphInput) -> GraphInput:
        """Where a quantized input is simulated, its value enters before the rounding."""
        name = f"{given.output.node}/exact"
        return replace(given, output=Output(name)) if name in self.nodes else given

    def lower(self, node: GraphNode) -> None:
        """One node, or what is left of it."""
        if node.op == "Placeholder":
            self.finish(node, "Placeholder", ())
        elif node.op == "Const":
            self.nodes[node.name] = node
        elif node.op in self.kept:
            self._keep(node)
        elif node.op in SAME_MEANING:
            self.finish(node, SAME_MEANING[node.op], node.inputs, node.attributes)
        elif node.op in LOWERINGS:
            try:
                LOWERINGS[node.op](self, node)
            except UnsupportedLayerError as error:
                self.refused[node.name] = str(error)
                self._keep(node)
        else:
            self._keep(node)

    def _keep(self, node: GraphNode) -> None:
        """As it is: there is a module of the caller's for it, or the port lists it."""
        self._results(node, [(node.op, node.inputs, dict(node.attributes))])

    # -- nodes

    def constant(self, near: GraphNode, values: Any, dtype: torch.dtype = torch.int32) -> Output:
        """A constant of one's own."""
        name = self._free(f"{near.name}/constant")
        self.constants[name] = torch.tensor(values, dtype=dtype)
        self.nodes[name] = GraphNode(name, "Const")
        return Output(name)

    def emit(
        self, near: GraphNode, op: str, inputs: Sequence[Output], attributes: Any = None
    ) -> Output:
        """A node on the way to another's result."""
        name = self._free(f"{near.name}/{op}")
        self.nodes[name] = GraphNode(name, op, tuple(inputs), attributes or {})
        return Output(name)

    def finish(
        self, node: GraphNode, op: str, inputs: Sequence[Output], attributes: Any = None
    ) -> None:
        """The node with the result, or the one before its activation and its rounding."""
        activation = node.attributes.get("fused_activation_function", "NONE")
        given = tuple(one for one in inputs if one != MISSING)
        steps: list[_Step] = [(op, given, dict(attributes or {}))]
        if activation != "NONE":
            if activation not in ACTIVATIONS:
                raise UnsupportedLayerError(f"its activation is {activation}")
            kind, limits = ACTIVATIONS[activation]
            ends = tuple(self.constant(node, limit, torch.float32) for limit in limits)
            steps.append((kind, ends, {}))
        self._results(node, steps)

    def _results(self, node: GraphNode, steps: list[_Step]) -> None:
        """Each of the results is rounded where the original holds integers."""
        stored = {
            output.index: dict(vars(quantization))
            for output, quantization in self.graph.quantization.items()
            if self.simulates and output.node == node.name
        }
        if not stored or self.counts[node.name] < 2:
            rounding: list[_Step] = [("FakeQuantize", (), stored[0])] if 0 in stored else []
            self._chain(node, [*steps, *rounding])
            return
        name = self._free(f"{node.name}/{steps[-1][0]}")
        self._chain(replace(node, name=name), steps)
        results = [Output(name, place) for place in range(self.counts[node.name])]
        for place in set(stored) & set(range(len(results))):
            results[place] = self.emit(node, "FakeQuantize", (results[place],), stored[place])
        self.nodes[node.name] = GraphNode(node.name, "IdentityN", tuple(results))

    def _chain(self, node: GraphNode, steps: list[_Step]) -> None:
        """Nodes one after another; the last has the name."""
        before: tuple[Output, ...] = ()
        for place, (op, others, attributes) in enumerate(steps):
            is_last = place == len(steps) - 1
            name = node.name if is_last else self._free(f"{node.name}/{op}")
            if op == "Placeholder" and not is_last:
                name = f"{node.name}/exact"
            self.nodes[name] = GraphNode(name, op, (*before, *others), attributes)
            before = (Output(name),)

    def _free(self, name: str) -> str:
        unique, number = name, 1
        while unique in self.nodes or unique in self.graph.nodes:
            unique, number = f"{name}_{number}", number + 1
        return unique

    def shape(self, output: Output) -> tuple[int, ...]:
        """Of a constant, or of one that is only unpacked on its way."""
        node = self.graph.nodes[output.node]
        while node.op in ("DEQUANTIZE", "DENSIFY", "QUANTIZE") and node.inputs:
            node = self.graph.nodes[node.inputs[0].node]
        if node.op != "Const":
            raise UnsupportedLayerError("its filter is computed")
        return tuple(self.graph.constants[node.name].shape)

    def turned(self, node: GraphNode, filter: Output, axes: Sequence[int]) -> Output:
        """A filter with its axes in another order."""
        return self._arranged(node, "Transpose", filter, axes)

    def reshaped(self, node: GraphNode, filter: Output, sizes: Sequence[int]) -> Output:
        """A filter of another shape."""
        return self._arranged(node, "Reshape", filter, sizes)

    def _arranged(self, near: GraphNode, op: str, filter: Output, how: Sequence[int]) -> Output:
        """One node for all operators that take it so: a filter that is shared stays one."""
        key = (op, filter, tuple(how))
        if key not in self.arranged:
            inputs = (filter, self.constant(near, list(how)))
            self.arranged[key] = self.emit(near, op, inputs)
        return self.arranged[key]

    def with_bias(
        self, node: GraphNode, op: str, inputs: Sequence[Output], bias: Sequence[Output], given: Any
    ) -> None:
        """A node, and its bias if there is one."""
        if bias and bias[0] != MISSING:
            result = self.emit(node, op, inputs, given)
            self.finish(node, "BiasAdd", (result, bias[0]), {"data_format": "NHWC"})
        else:
            self.finish(node, op, inputs, given)


Lower = Callable[[_Lowering, GraphNode], None]


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


def _conv_2d(to: _Lowering, node: GraphNode) -> None:
    x, filter, *bias = node.inputs
    kernel = to.turned(node, filter, (1, 2, 3, 0))
    to.with_bias(node, "Conv2D", (x, kernel), bias, _window(node))


def _depthwise_conv_2d(to: _Lowering, node: GraphNode) -> None:
    x, filter, *bias = node.inputs
    shape, multiplier = to.shape(filter), node.attributes["depth_multiplier"] or 1
    if len(shape) != 4 or shape[0] != 1 or multiplier < 1 or shape[3] % multiplier:
        raise UnsupportedLayerError(f"its filter has shape {shape}, its multiplier is {multiplier}")
    sizes = [shape[1], shape[2], shape[3] // multiplier, multiplier]
    kernel = to.reshaped(node, filter, sizes)
    to.with_bias(node, "DepthwiseConv2dNative", (x, kernel), bias, _window(node))


def _transpose_conv(to: _Lowering, node: GraphNode) -> None:
    size, filter, x, *bias = node.inputs
    kernel = to.turned(node, filter, (1, 2, 0, 3))
    given = _window(node, dilates=False)
    to.with_bias(node, "Conv2DBackpropInput", (size, kernel, x), bias, given)


def _conv_3d(to: _Lowering, node: GraphNode) -> None:
    x, filter, *bias = node.inputs
    to.with_bias(node, "Conv3D", (x, filter), bias, _deep_window(node))


def _conv_3d_transpose(to: _Lowering, node: GraphNode) -> None:
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


def _fully_connected(to: _Lowering, node: GraphNode) -> None:
    x, matrix, *bias = node.inputs
    if node.attributes["weights_format"] != 0:
        raise UnsupportedLayerError("its matrix is shuffled")
    if node.attributes["keep_num_dims"]:
        to.with_bias(node, "BatchMatMulV2", (x, matrix), bias, {"adj_y": True})
    else:
        columns = _element(to, node, to.emit(node, "Shape", (matrix,)), 1)
        size = to.emit(node, "Pack", (to.constant(node, -1), columns), {"axis": 0})
        rows = to.emit(node, "Reshape", (x, size))
        to.with_bias(node, "MatMul", (rows, matrix), bias, {"transpose_b": True})


def _batch_matmul(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "BatchMatMulV2", node.inputs, dict(node.attributes))


def _convolution_2d_transpose_bias(to: _Lowering, node: GraphNode) -> None:
    """MediaPipe's (``mediapipe/util/tflite/operations/transpose_conv_bias.cc``)."""
    x, filter, *bias = node.inputs
    options = node.attributes.get("custom_options", b"")
    if len(options) < 12:
        raise UnsupportedLayerError("its options are not there")
    padding, width, height = struct.unpack("<3i", options[:12])
    shape = to.shape(filter)
    if padding not in (1, 2) or min(width, height) < 1 or len(shape) != 4:
        raise UnsupportedLayerError(f"its options are {padding}, {width} and {height}")
    sizes = to.emit(node, "Shape", (x,))
    inner = [
        _transposed_size(to, node, _element(to, node, sizes, axis), stride, taps, padding == 1)
        for axis, stride, taps in ((1, height, shape[1]), (2, width, shape[2]))
    ]
    batch, channels = _element(to, node, sizes, 0), to.constant(node, shape[0])
    size = to.emit(node, "Pack", (batch, *inner, channels), {"axis": 0})
    kernel = to.turned(node, filter, (1, 2, 0, 3))
    given = {
        "strides": [1, height, width, 1],
        "padding": "SAME" if padding == 1 else "VALID",
        "data_format": "NHWC",
    }
    to.with_bias(node, "Conv2DBackpropInput", (size, kernel, x), bias, given)


def _transposed_size(
    to: _Lowering, node: GraphNode, size: Output, stride: int, taps: int, same: bool
) -> Output:
    """``stride * (size - 1) + taps``, without what SAME cuts off.

    That is ``max(0, taps - (size - 1) % stride - 1)``: MediaPipe's rule, by which an odd size is
    not always multiplied by the stride.
    """

    def number(op: str, one: Output, other: int) -> Output:
        return to.emit(node, op, (one, to.constant(node, other)))

    before = number("Sub", size, 1)
    last = to.constant(node, taps)
    if same:
        overhang = number("AddV2", number("FloorMod", before, stride), 1)
        last = number("Minimum", overhang, taps)
    return to.emit(node, "AddV2", (number("Mul", before, stride), last))


def _element(to: _Lowering, node: GraphNode, sizes: Output, place: int) -> Output:
    """One number out of a shape."""
    ends = [to.constant(node, [number]) for number in (place, place + 1, 1)]
    return to.emit(node, "StridedSlice", (sizes, *ends), {"shrink_axis_mask": 1})


# ---- pools and images ----------------------------------------------------------------------------


def _pool(op: str) -> Lower:
    def lower(to: _Lowering, node: GraphNode) -> None:
        to.finish(node, op, node.inputs, _pool_window(node))

    return lower


def _pool_window(node: GraphNode) -> dict[str, Any]:
    options = node.attributes
    size = [1, options["filter_height"], options["filter_width"], 1]
    return {**_window(node, dilates=False), "ksize": size}


def _l2_pool(to: _Lowering, node: GraphNode) -> None:
    square = to.emit(node, "Square", node.inputs)
    mean = to.emit(node, "AvgPool", (square,), _pool_window(node))
    to.finish(node, "Sqrt", (mean,))


def _resize(op: str) -> Lower:
    def lower(to: _Lowering, node: GraphNode) -> None:
        to.finish(node, op, node.inputs, dict(node.attributes))

    return lower


def _block(op: str) -> Lower:
    def lower(to: _Lowering, node: GraphNode) -> None:
        given = {"block_size": node.attributes["block_size"], "data_format": "NHWC"}
        to.finish(node, op, node.inputs, given)

    return lower


def _mirror_pad(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "MirrorPad", node.inputs, {"mode": node.attributes["mode"]})


# ---- elementwise, normalizations -----------------------------------------------------------------


def _arithmetic(op: str) -> Lower:
    return lambda to, node: to.finish(node, op, node.inputs)


def _clip(low: float, high: float) -> Lower:
    def lower(to: _Lowering, node: GraphNode) -> None:
        ends = (to.constant(node, end, torch.float32) for end in (low, high))
        to.finish(node, "ClipByValue", (node.inputs[0], *ends))

    return lower


def _leaky_relu(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "LeakyRelu", node.inputs, {"alpha": node.attributes["alpha"]})


def _hard_swish(to: _Lowering, node: GraphNode) -> None:
    """``x * relu6(x + 3) / 6``."""
    (x,) = node.inputs
    total = to.emit(node, "AddV2", (x, to.constant(node, 3.0, torch.float32)))
    gate = to.emit(node, "Relu6", (total,))
    part = to.emit(node, "Mul", (gate, to.constant(node, 1 / 6, torch.float32)))
    to.finish(node, "Mul", (x, part))


def _gelu(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "Gelu", node.inputs, {"approximate": node.attributes["approximate"]})


def _softmax(to: _Lowering, node: GraphNode) -> None:
    x, beta = node.inputs[0], node.attributes["beta"]
    if beta != 1:
        x = to.emit(node, "Mul", (x, to.constant(node, beta, torch.float32)))
    to.finish(node, "Softmax", (x,))


def _l2_normalization(to: _Lowering, node: GraphNode) -> None:
    (x,) = node.inputs
    square = to.emit(node, "Square", (x,))
    total = to.emit(node, "Sum", (square, to.constant(node, [-1])), {"keep_dims": True})
    norm = to.emit(node, "Sqrt", (total,))
    norm = to.emit(node, "Maximum", (norm, to.constant(node, L2_EPSILON, torch.float32)))
    to.finish(node, "RealDiv", (x, norm))


def _local_response_normalization(to: _Lowering, node: GraphNode) -> None:
    options = node.attributes
    given = {
        "depth_radius": options["radius"],
        **{k: options[k] for k in ("bias", "alpha", "beta")},
    }
    to.finish(node, "LRN", node.inputs, given)


def _fake_quant(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "FakeQuantWithMinMaxArgs", node.inputs, dict(node.attributes))


def _dequantize(to: _Lowering, node: GraphNode) -> None:
    """Of half precision; what integers stand for is there already."""
    op = "Identity" if node.inputs[0] in to.graph.quantization else "Cast"
    to.finish(node, op, node.inputs, {"DstT": "float32"})


def _cast(to: _Lowering, node: GraphNode) -> None:
    options = node.attributes
    given = {"SrcT": options["in_data_type"], "DstT": options["out_data_type"]}
    to.finish(node, "Cast", node.inputs, given)


def _non_max_suppression(op: str) -> Lower:
    """Zeros fill up the results; an overlap equal to the threshold is too much."""
    given = {"pad_to_max_output_size": True, "drops_equal": True}
    return lambda to, node: to.finish(node, op, node.inputs, given)


# ---- reductions ----------------------------------------------------------------------------------


def _reduction(op: str) -> Lower:
    def lower(to: _Lowering, node: GraphNode) -> None:
        to.finish(node, op, node.inputs, {"keep_dims": node.attributes["keep_dims"]})

    return lower


def _arg(op: str) -> Lower:
    def lower(to: _Lowering, node: GraphNode) -> None:
        to.finish(node, op, node.inputs, {"output_type": node.attributes["output_type"]})

    return lower


def _cumsum(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "Cumsum", node.inputs, dict(node.attributes))


# ---- arranging -----------------------------------------------------------------------------------


def _reshape(to: _Lowering, node: GraphNode) -> None:
    shape = node.inputs[1:] or (to.constant(node, node.attributes["new_shape"]),)
    to.finish(node, "Reshape", (node.inputs[0], *shape))


def _squeeze(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "Squeeze", node.inputs, {"squeeze_dims": node.attributes["squeeze_dims"]})


def _strided_slice(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "StridedSlice", node.inputs, dict(node.attributes))


def _concatenation(to: _Lowering, node: GraphNode) -> None:
    axis = to.constant(node, node.attributes["axis"])
    given = {"N": len(node.inputs)}
    to.finish(node, "ConcatV2", (*node.inputs, axis), given)


def _pack(to: _Lowering, node: GraphNode) -> None:
    given = {"axis": node.attributes["axis"], "N": len(node.inputs)}
    to.finish(node, "Pack", node.inputs, given)


def _unpack(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "Unpack", node.inputs, dict(node.attributes))


def _split(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "Split", node.inputs, {"num_split": node.attributes["num_splits"]})


def _split_v(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "SplitV", node.inputs, {"num_split": node.attributes["num_splits"]})


def _gather(to: _Lowering, node: GraphNode) -> None:
    axis = to.constant(node, node.attributes["axis"])
    given = {"batch_dims": node.attributes["batch_dims"]}
    to.finish(node, "GatherV2", (*node.inputs, axis), given)


def _embedding_lookup(to: _Lowering, node: GraphNode) -> None:
    rows, table = node.inputs
    to.finish(node, "GatherV2", (table, rows, to.constant(node, 0)))


def _reverse_sequence(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "ReverseSequence", node.inputs, dict(node.attributes))


def _bucketize(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "Bucketize", node.inputs, {"boundaries": node.attributes["boundaries"]})


def _unique(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "Unique", node.inputs, {"out_idx": node.attributes["idx_out_type"]})


def _shape(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "Shape", node.inputs, {"out_type": node.attributes["output_type"]})


def _one_hot(to: _Lowering, node: GraphNode) -> None:
    to.finish(node, "OneHot", node.inputs, {"axis": node.attributes["axis"]})


LOWERINGS: dict[str, Lower] = {
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "TRANSPOSE_CONV": _transpose_conv,
    "CONV_3D": _conv_3d,
    "CONV_3D_TRANSPOSE": _conv_3d_transpose,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "Convolution2DTransposeBias": _convolution_2d_transpose_bias,
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
