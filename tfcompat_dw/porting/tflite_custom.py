"""TFLite's custom operators: those of object detection, MediaPipe's, TensorFlow's own."""

from __future__ import annotations

import struct

from tfcompat_dw.checkpoint.graph import GraphNode, Output
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.lowering import Lower, Lowering
from tfcompat_dw.porting.nodes import HANDLERS

FLEX = "Flex"
"""Before the name of an operation that TensorFlow's own kernel computes."""
_DETECTION = "TFLite_Detection_PostProcess"


def custom_lowering(name: str) -> Lower | None:
    """Of a custom operator; None where there is none."""
    if name.startswith(FLEX) and name.removeprefix(FLEX) in HANDLERS:
        return _flex
    return LOWERINGS.get(name)


def _flex(to: Lowering, node: GraphNode) -> None:
    """``tensorflow/lite/delegates/flex``: its options are those of TensorFlow's node."""
    to.finish(node, node.op.removeprefix(FLEX), node.inputs, node.attributes)


def _detection(to: Lowering, node: GraphNode) -> None:
    to.finish(node, _DETECTION, node.inputs, node.attributes)


def _convolution_2d_transpose_bias(to: Lowering, node: GraphNode) -> None:
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
        _transposed_size(to, node, to.element(node, sizes, axis), stride, taps, padding == 1)
        for axis, stride, taps in ((1, height, shape[1]), (2, width, shape[2]))
    ]
    batch, channels = to.element(node, sizes, 0), to.constant(node, shape[0])
    size = to.emit(node, "Pack", (batch, *inner, channels), {"axis": 0})
    kernel = to.turned(node, filter, (1, 2, 0, 3))
    given = {
        "strides": [1, height, width, 1],
        "padding": "SAME" if padding == 1 else "VALID",
        "data_format": "NHWC",
    }
    to.with_bias(node, "Conv2DBackpropInput", (size, kernel, x), bias, given)


def _transposed_size(
    to: Lowering, node: GraphNode, size: Output, stride: int, taps: int, same: bool
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


LOWERINGS: dict[str, Lower] = {
    "Convolution2DTransposeBias": _convolution_2d_transpose_bias,
    _DETECTION: _detection,
}
