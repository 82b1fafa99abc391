"""TensorFlow's depthwise convolution for PyTorch.

``depthwise_conv2d(x, f, [1, 2, 2, 1], "SAME")`` equals
``tf.nn.depthwise_conv2d(x, f, [1, 2, 2, 1], "SAME")``: TF's arguments, TF's filter layout
``[h, w, in, mult]``, TF's padding and TF's numbers, forward and backward.
"""

from importlib.metadata import PackageNotFoundError, version

from tfcompat_dw import onnx as onnx
from tfcompat_dw import ops as ops  # defines torch.ops.tfcompat_dw
from tfcompat_dw.config import show_config
from tfcompat_dw.functional import (
    depthwise_conv2d,
    depthwise_conv2d_backprop_filter,
    depthwise_conv2d_backprop_input,
    separable_conv2d,
)
from tfcompat_dw.layers import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from tfcompat_dw.porting import export_keras_weights, load_tf_weights, port_model
from tfcompat_dw.replace import replace_depthwise

try:
    __version__ = version("tfcompat-dw")
except PackageNotFoundError:  # a source checkout on the path, not installed
    __version__ = "0+unknown"

__all__ = [
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
    "depthwise_conv2d",
    "depthwise_conv2d_backprop_filter",
    "depthwise_conv2d_backprop_input",
    "export_keras_weights",
    "load_tf_weights",
    "port_model",
    "replace_depthwise",
    "separable_conv2d",
    "show_config",
]
