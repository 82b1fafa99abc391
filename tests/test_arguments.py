"""Every rule for arguments: the exact text of its refusal, which comes before any computation."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

from tfcompat_dw import (
    depthwise_conv2d,
    depthwise_conv2d_backprop_filter,
    depthwise_conv2d_backprop_input,
    separable_conv2d,
)

INPUT = torch.ones(2, 5, 6, 3)
FILTER = torch.ones(3, 2, 3, 2)
GRAD = torch.ones(2, 5, 6, 6)
POINTWISE = torch.ones(1, 1, 6, 4)
BIG = 2**31
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch's quantized tensors are deprecated, and still there.
    QUANTIZED = torch.quantize_per_tensor(INPUT, 1.0, 0, torch.qint8)


def convolve(**changes):
    call = {"input": INPUT, "filter": FILTER, "strides": 1, "padding": "SAME"}
    return depthwise_conv2d(**call | changes)


def backprop_input(**changes):
    call = {"input_sizes": INPUT.shape, "filter": FILTER, "out_backprop": GRAD}
    return depthwise_conv2d_backprop_input(**call | {"strides": 1, "padding": "SAME"} | changes)


def backprop_filter(**changes):
    call = {"input": INPUT, "filter_sizes": FILTER.shape, "out_backprop": GRAD}
    return depthwise_conv2d_backprop_filter(**call | {"strides": 1, "padding": "SAME"} | changes)


def separable(**changes):
    call = {"input": INPUT, "depthwise_filter": FILTER, "pointwise_filter": POINTWISE}
    return separable_conv2d(**call | {"strides": 1, "padding": "SAME"} | changes)


def pads(*pairs):
    return {"padding": list(pairs)}


# (function, changed arguments, exception, text); the text is the whole message.
REFUSED = [
    # data_format
    (
        convolve,
        {"data_format": "nhwc"},
        ValueError,
        "data_format must be 'NHWC', 'NCHW' or None (which is NHWC); got 'nhwc'",
    ),
    (
        convolve,
        {"data_format": "channels_last"},
        ValueError,
        "data_format must be 'NHWC', 'NCHW' or None (which is NHWC); got 'channels_last'",
    ),
    # strides
    (
        convolve,
        {"data_format": np.array(["NHWC", "NCHW"])},
        ValueError,
        "data_format must be 'NHWC', 'NCHW' or None (which is NHWC); got array(['NHWC', 'NCHW'], "
        "dtype='<U4')",
    ),
    (
        convolve,
        {"strides": 0},
        ValueError,
        "strides must be between 1 and 2147483647, got 0; 1 is the least that has a meaning",
    ),
    (
        convolve,
        {"strides": (1, -1)},
        ValueError,
        "strides must be between 1 and 2147483647, got -1 in strides=(1, -1); 1 is the "
        "least that has a meaning",
    ),
    (
        convolve,
        {"strides": [1, 2, 0, 1]},
        ValueError,
        "strides must be between 1 and 2147483647, got 0 in strides=[1, 2, 0, 1]; 1 is the "
        "least that has a meaning",
    ),
    (
        convolve,
        {"strides": BIG},
        ValueError,
        "strides must be between 1 and 2147483647, got 2147483648; TensorFlow has the same "
        "limit; use a smaller number",
    ),
    (
        convolve,
        {"strides": [2, 1, 1, 1]},
        ValueError,
        "strides must be 1 for batch and channel, got strides=[2, 1, 1, 1] in [n, h, w, c] "
        "order; the window moves over h and w only",
    ),
    (
        convolve,
        {"strides": [1, 2, 2, 1], "data_format": "NCHW"},
        ValueError,
        "strides must be 1 for batch and channel, got strides=[1, 2, 2, 1] in [n, c, h, w] "
        "order; the window moves over h and w only",
    ),
    (
        convolve,
        {"strides": [1, 1, 1]},
        ValueError,
        "strides must be an int, (rows, columns), or 4 values in [n, h, w, c] order; got 3 "
        "values: strides=[1, 1, 1]",
    ),
    (
        convolve,
        {"strides": []},
        ValueError,
        "strides must be an int, (rows, columns), or 4 values in [n, h, w, c] order; got 0 "
        "values: strides=[]",
    ),
    (
        convolve,
        {"strides": True},
        TypeError,
        "strides takes only ints, got True of type bool; pass ints, alone or in a list or tuple",
    ),
    (
        convolve,
        {"strides": 2.0},
        TypeError,
        "strides takes only ints, got 2.0 of type float; pass ints, alone or in a list or tuple",
    ),
    (
        convolve,
        {"strides": (1, 2.0)},
        TypeError,
        "strides takes only ints, got 2.0 of type float in strides=(1, 2.0); pass ints, "
        "alone or in a list or tuple",
    ),
    (
        convolve,
        {"strides": [True, 1, 1, 1]},
        TypeError,
        "strides takes only ints, got True of type bool in strides=[True, 1, 1, 1]; pass "
        "ints, alone or in a list or tuple",
    ),
    (
        convolve,
        {"strides": [1.0, 1, 1, 1]},
        TypeError,
        "strides takes only ints, got 1.0 of type float in strides=[1.0, 1, 1, 1]; pass "
        "ints, alone or in a list or tuple",
    ),
    (
        convolve,
        {"strides": [1, 1, 1, np.True_]},
        TypeError,
        "strides takes only ints, got np.True_ of type bool in strides=[1, 1, 1, np.True_]; "
        "pass ints, alone or in a list or tuple",
    ),
    (
        convolve,
        {"strides": None},
        TypeError,
        "strides takes only ints, got None of type NoneType; pass ints, alone or in a list "
        "or tuple",
    ),
    (
        convolve,
        {"strides": "11"},
        TypeError,
        "strides takes only ints, got '11' of type str; pass ints, alone or in a list or tuple",
    ),
    (
        convolve,
        {"strides": torch.tensor(2)},
        TypeError,
        "strides takes only ints, got tensor(2) of type Tensor; pass ints, alone or in a "
        "list or tuple",
    ),
    # dilations
    (
        convolve,
        {"dilations": 0},
        ValueError,
        "dilations must be between 1 and 2147483647, got 0; 1 is the least that has a meaning",
    ),
    (
        convolve,
        {"dilations": [1, 1, 1, 2]},
        ValueError,
        "dilations must be 1 for batch and channel, got dilations=[1, 1, 1, 2] in [n, h, w, "
        "c] order; the window moves over h and w only",
    ),
    (
        convolve,
        {"dilations": [2]},
        ValueError,
        "dilations must be an int, (rows, columns), or 4 values in [n, h, w, c] order; got "
        "1 values: dilations=[2]",
    ),
    (
        convolve,
        {"dilations": (2, False)},
        TypeError,
        "dilations takes only ints, got False of type bool in dilations=(2, False); pass "
        "ints, alone or in a list or tuple",
    ),
    # padding
    (
        convolve,
        {"padding": "same"},
        ValueError,
        "padding must be 'SAME' or 'VALID', in capitals, or 4 (before, after) pairs in [n, "
        "h, w, c] order; got padding='same'",
    ),
    (
        convolve,
        {"padding": "EXPLICIT"},
        ValueError,
        "padding must be 'SAME' or 'VALID', in capitals, or 4 (before, after) pairs in [n, "
        "h, w, c] order; got padding='EXPLICIT'",
    ),
    (
        convolve,
        {"padding": None},
        TypeError,
        "padding must be 'SAME' or 'VALID', in capitals, or 4 (before, after) pairs in [n, "
        "h, w, c] order; got padding=None",
    ),
    (
        convolve,
        {"padding": 1},
        TypeError,
        "padding must be 'SAME' or 'VALID', in capitals, or 4 (before, after) pairs in [n, "
        "h, w, c] order; got padding=1",
    ),
    (
        convolve,
        {"padding": np.zeros((4, 2), int)},
        TypeError,
        "padding must be 'SAME' or 'VALID', in capitals, or 4 (before, after) pairs in [n, h, w, "
        "c] order; got padding=array([[0, 0],\n       [0, 0],\n       [0, 0],\n       [0, 0]])",
    ),
    (
        convolve,
        pads((1, 0), (0, 1)),
        ValueError,
        "explicit padding must be 4 (before, after) pairs in [n, h, w, c] order; got 2 "
        "elements: padding=[(1, 0), (0, 1)]",
    ),
    (
        convolve,
        pads(1, 0, 0, 1),
        TypeError,
        "explicit padding must be made of (before, after) pairs, got 1 in padding=[1, 0, 0, "
        "1]; write n as (n, n)",
    ),
    (
        convolve,
        pads((0, 0), (1, 1, 1), (0, 0), (0, 0)),
        ValueError,
        "explicit padding must be made of (before, after) pairs, got 3 elements in (1, 1, "
        "1) of padding=[(0, 0), (1, 1, 1), (0, 0), (0, 0)]",
    ),
    (
        convolve,
        pads((0, 0), (-1, 0), (0, 0), (0, 0)),
        ValueError,
        "padding must be between 0 and 2147483647, got -1 in padding=[(0, 0), (-1, 0), (0, "
        "0), (0, 0)]; to crop, slice the input",
    ),
    (
        convolve,
        pads((0, 0), (0, 0), (0, BIG), (0, 0)),
        ValueError,
        "padding must be between 0 and 2147483647, got 2147483648 in padding=[(0, 0), (0, "
        "0), (0, 2147483648), (0, 0)]; TensorFlow has the same limit; use a smaller number",
    ),
    (
        convolve,
        pads((0, 0), (0, 1.0), (0, 0), (0, 0)),
        TypeError,
        "padding takes only ints, got 1.0 of type float in padding=[(0, 0), (0, 1.0), (0, "
        "0), (0, 0)]; pass ints, alone or in a list or tuple",
    ),
    (
        convolve,
        pads((0, 0), (0, True), (0, 0), (0, 0)),
        TypeError,
        "padding takes only ints, got True of type bool in padding=[(0, 0), (0, True), (0, "
        "0), (0, 0)]; pass ints, alone or in a list or tuple",
    ),
    (
        convolve,
        pads((1, 0), (0, 0), (0, 0), (0, 0)),
        ValueError,
        "padding must be (0, 0) for batch and channel, got padding=[(1, 0), (0, 0), (0, 0), "
        "(0, 0)] in [n, h, w, c] order; only h and w can be padded",
    ),
    (
        convolve,
        pads((0, 0), (0, 0), (0, 0), (0, 1)),
        ValueError,
        "padding must be (0, 0) for batch and channel, got padding=[(0, 0), (0, 0), (0, 0), "
        "(0, 1)] in [n, h, w, c] order; only h and w can be padded",
    ),
    (
        convolve,
        pads((0, 0), (1, 1), (0, 0), (0, 0)) | {"data_format": "NCHW"},
        ValueError,
        "padding must be (0, 0) for batch and channel, got padding=[(0, 0), (1, 1), (0, 0), "
        "(0, 0)] in [n, c, h, w] order; only h and w can be padded",
    ),
    # strided_dilation
    (
        convolve,
        {"strided_dilation": "native"},
        ValueError,
        "strided_dilation must be 'error', 'plain' or 'space_to_batch'; got 'native'",
    ),
    (
        convolve,
        {"strided_dilation": None},
        ValueError,
        "strided_dilation must be 'error', 'plain' or 'space_to_batch'; got None",
    ),
    (
        convolve,
        {"strided_dilation": np.array(["plain", "error"])},
        ValueError,
        "strided_dilation must be 'error', 'plain' or 'space_to_batch'; got array(['plain', "
        "'error'], dtype='<U5')",
    ),
    (
        convolve,
        {"strides": 2, "dilations": 2},
        ValueError,
        "strides must be 1 where dilations are above 1, got (rows, columns) strides=(2, 2) "
        "and dilations=(2, 2): TensorFlow documents this as an error and returns something "
        "else than the plain dilated convolution. Pass strided_dilation='plain' for what "
        "Keras and PyTorch compute, or strided_dilation='space_to_batch' for what tf.nn "
        "2.21 returns",
    ),
    (
        convolve,
        {"strides": (2, 1), "dilations": (1, 2)},
        ValueError,
        "strides must be 1 where dilations are above 1, got (rows, columns) strides=(2, 1) "
        "and dilations=(1, 2): TensorFlow documents this as an error and returns something "
        "else than the plain dilated convolution. Pass strided_dilation='plain' for what "
        "Keras and PyTorch compute, or strided_dilation='space_to_batch' for what tf.nn "
        "2.21 returns",
    ),
    (
        backprop_input,
        {"strides": 2, "dilations": 2},
        ValueError,
        "strides must be 1 where dilations are above 1, got (rows, columns) strides=(2, 2) "
        "and dilations=(2, 2): TensorFlow documents this as an error and returns something "
        "else than the plain dilated convolution. Pass strided_dilation='plain' for what "
        "Keras and PyTorch compute, or strided_dilation='space_to_batch' for what tf.nn "
        "2.21 returns",
    ),
    (
        backprop_filter,
        {"strides": (1, 3), "dilations": 2},
        ValueError,
        "strides must be 1 where dilations are above 1, got (rows, columns) strides=(1, 3) "
        "and dilations=(2, 2): TensorFlow documents this as an error and returns something "
        "else than the plain dilated convolution. Pass strided_dilation='plain' for what "
        "Keras and PyTorch compute, or strided_dilation='space_to_batch' for what tf.nn "
        "2.21 returns",
    ),
    (
        separable,
        {"strides": 2, "dilations": (2, 1)},
        ValueError,
        "strides must be 1 where dilations are above 1, got (rows, columns) strides=(2, 2) "
        "and dilations=(2, 1): TensorFlow documents this as an error and returns something "
        "else than the plain dilated convolution. Pass strided_dilation='plain' for what "
        "Keras and PyTorch compute, or strided_dilation='space_to_batch' for what tf.nn "
        "2.21 returns",
    ),
    # tensors
    (
        convolve,
        {"input": INPUT.numpy()},
        TypeError,
        "input must be a torch.Tensor [n, h, w, c], got ndarray; convert it with torch.as_tensor()",
    ),
    (
        convolve,
        {"filter": [[1.0]]},
        TypeError,
        "filter must be a torch.Tensor [h, w, in, mult], got list; convert it with "
        "torch.as_tensor()",
    ),
    (
        convolve,
        {"input": INPUT[0]},
        ValueError,
        "input must have 4 dimensions, [n, h, w, c]; got 3: shape (5, 6, 3); reshape it",
    ),
    (
        convolve,
        {"input": INPUT[None], "data_format": "NCHW"},
        ValueError,
        "input must have 4 dimensions, [n, c, h, w]; got 5: shape (1, 2, 5, 6, 3); reshape it",
    ),
    (
        convolve,
        {"filter": FILTER[0]},
        ValueError,
        "filter must have 4 dimensions, [h, w, in, mult]; got 3: shape (2, 3, 2); reshape it",
    ),
    (
        convolve,
        {"input": INPUT.int()},
        TypeError,
        "input must be float64, float32, bfloat16 or float16, got torch.int32; convert it "
        "with .to(torch.float32)",
    ),
    (
        convolve,
        {"input": QUANTIZED},
        TypeError,
        "input must be float64, float32, bfloat16 or float16, got torch.qint8; convert it "
        "with .dequantize()",
    ),
    (
        convolve,
        {"input": INPUT.to(torch.complex64)},
        TypeError,
        "input must be float64, float32, bfloat16 or float16, got torch.complex64; convert "
        "it with .to(torch.float32)",
    ),
    (
        convolve,
        {"filter": FILTER.bool()},
        TypeError,
        "filter must be float64, float32, bfloat16 or float16, got torch.bool; convert it "
        "with .to(torch.float32)",
    ),
    (
        convolve,
        {"filter": FILTER.to(torch.float8_e4m3fn)},
        TypeError,
        "filter must be float64, float32, bfloat16 or float16, got torch.float8_e4m3fn; "
        "convert it with .to(torch.float32)",
    ),
    (
        convolve,
        {"filter": FILTER.double()},
        TypeError,
        "filter must have the dtype of input, torch.float32; got torch.float64; convert one "
        "of them with .to()",
    ),
    (
        convolve,
        {"filter": FILTER.to("meta")},
        ValueError,
        "filter must be on the device of input, cpu; got meta; move one of them with .to()",
    ),
    (
        convolve,
        {"input": INPUT.to_sparse()},
        TypeError,
        "input must be a dense (torch.strided) tensor, got layout torch.sparse_coo; convert "
        "it with .to_dense(), or .to_padded_tensor() if nested",
    ),
    (
        convolve,
        {"input": torch.nested.nested_tensor(list(INPUT), layout=torch.jagged)},
        TypeError,
        "input must be a dense (torch.strided) tensor, got layout nested; convert it with "
        ".to_dense(), or .to_padded_tensor() if nested",
    ),
    # filter against input
    (
        convolve,
        {"filter": FILTER[:, :, :2]},
        ValueError,
        "filter must have the channels of input, 3; got 2; a filter is [h, w, in, mult] in "
        "either data_format, and data_format names the input's axes",
    ),
    (
        convolve,
        {"filter": FILTER, "data_format": "NCHW"},
        ValueError,
        "filter must have the channels of input, 5; got 3; a filter is [h, w, in, mult] in "
        "either data_format, and data_format names the input's axes",
    ),
    (
        convolve,
        {"filter": FILTER[:0]},
        ValueError,
        "filter must have at least 1 row and column, got 0 x 2; a window without taps has "
        "no result",
    ),
    (
        convolve,
        {"filter": FILTER[:, :0]},
        ValueError,
        "filter must have at least 1 row and column, got 3 x 0; a window without taps has "
        "no result",
    ),
    (
        convolve,
        {"dilations": BIG - 1},
        ValueError,
        "filter must reach over at most 2147483647 rows and columns, got 3 taps with "
        "dilation 2147483647; use a smaller kernel or dilation",
    ),
    (
        convolve,
        {"input": INPUT[:, :2], "padding": "VALID"},
        ValueError,
        "filter must fit the padded input, got 3 rows (3 taps, dilation 1) on 2 (input 2, "
        "padding 0 + 0); use padding='SAME' or a larger input",
    ),
    (
        convolve,
        {"input": INPUT[:, :2], "padding": "VALID", "strides": 5},
        ValueError,
        "filter must fit the padded input, got 3 rows (3 taps, dilation 1) on 2 (input 2, "
        "padding 0 + 0); use padding='SAME' or a larger input",
    ),
    (
        convolve,
        {"input": INPUT[:, :0], "padding": "VALID"},
        ValueError,
        "filter must fit the padded input, got 3 rows (3 taps, dilation 1) on 0 (input 0, "
        "padding 0 + 0); use padding='SAME' or a larger input",
    ),
    (
        convolve,
        {"padding": "VALID", "dilations": (1, 6)},
        ValueError,
        "filter must fit the padded input, got 7 columns (2 taps, dilation 6) on 6 (input "
        "6, padding 0 + 0); use padding='SAME' or a larger input",
    ),
    (
        convolve,
        pads((0, 0), (1, 0), (0, 0), (0, 0)) | {"dilations": 3},
        ValueError,
        "filter must fit the padded input, got 7 rows (3 taps, dilation 3) on 6 (input 5, "
        "padding 1 + 0); use padding='SAME' or a larger input",
    ),
    # bias
    (
        convolve,
        {"bias": [0.0] * 6},
        TypeError,
        "bias must be a torch.Tensor [out], got list; convert it with torch.as_tensor()",
    ),
    (
        convolve,
        {"bias": torch.ones(3)},
        ValueError,
        "bias must have one element for each of the 6 output channels; got 3",
    ),
    (
        convolve,
        {"bias": torch.ones(6, 1)},
        ValueError,
        "bias must have 1 dimension, [out]; got 2: shape (6, 1); reshape it",
    ),
    (
        convolve,
        {"bias": torch.ones(6).half()},
        TypeError,
        "bias must have the dtype of input, torch.float32; got torch.float16; convert one "
        "of them with .to()",
    ),
    (
        convolve,
        {"bias": torch.ones(6).to("meta")},
        ValueError,
        "bias must be on the device of input, cpu; got meta; move one of them with .to()",
    ),
    # sizes
    (
        backprop_input,
        {"input_sizes": None},
        TypeError,
        "input_sizes must be a list or tuple of the 4 sizes [n, h, w, c], or an integer "
        "tensor; got None of type NoneType",
    ),
    (
        backprop_input,
        {"input_sizes": 5},
        TypeError,
        "input_sizes must be a list or tuple of the 4 sizes [n, h, w, c], or an integer "
        "tensor; got 5 of type int",
    ),
    (
        backprop_input,
        {"input_sizes": [2, 5]},
        ValueError,
        "input_sizes must have the 4 sizes [n, h, w, c], got 2: input_sizes=[2, 5]",
    ),
    (
        backprop_input,
        {"input_sizes": [2, 5.0, 6, 3]},
        TypeError,
        "input_sizes takes only ints, got 5.0 of type float in input_sizes=[2, 5.0, 6, 3]; "
        "pass ints, alone or in a list or tuple",
    ),
    (
        backprop_input,
        {"input_sizes": [2, 5, 6, True]},
        TypeError,
        "input_sizes takes only ints, got True of type bool in input_sizes=[2, 5, 6, True]; "
        "pass ints, alone or in a list or tuple",
    ),
    (
        backprop_input,
        {"input_sizes": [2, -5, 6, 3]},
        ValueError,
        "input_sizes must be at least 0, got -5 in input_sizes=[2, -5, 6, 3]; they are the "
        "shape [n, h, w, c] of a tensor",
    ),
    (
        backprop_input,
        {"input_sizes": torch.tensor([2.0, 5, 6, 3])},
        TypeError,
        "input_sizes must be a sequence of ints or a tensor of an integer dtype, got a "
        "tensor of torch.float32; convert it with .to(torch.int64)",
    ),
    (
        backprop_input,
        {"input_sizes": torch.ones(4, dtype=torch.bool)},
        TypeError,
        "input_sizes must be a sequence of ints or a tensor of an integer dtype, got a "
        "tensor of torch.bool; convert it with .to(torch.int64)",
    ),
    (
        backprop_input,
        {"input_sizes": torch.ones(1, 4, dtype=torch.int32)},
        ValueError,
        "input_sizes must be 1-D with the 4 sizes [n, h, w, c], got a tensor of shape (1, 4)",
    ),
    (
        backprop_input,
        {"input_sizes": torch.tensor([2, 5, 6])},
        ValueError,
        "input_sizes must have the 4 sizes [n, h, w, c], got 3: input_sizes=tensor([2, 5, 6])",
    ),
    (
        backprop_filter,
        {"filter_sizes": [3, 2, -3, 2]},
        ValueError,
        "filter_sizes must be at least 0, got -3 in filter_sizes=[3, 2, -3, 2]; they are "
        "the shape [h, w, in, mult] of a tensor",
    ),
    (
        backprop_filter,
        {"filter_sizes": torch.ones(4)},
        TypeError,
        "filter_sizes must be a sequence of ints or a tensor of an integer dtype, got a "
        "tensor of torch.float32; convert it with .to(torch.int64)",
    ),
    (
        backprop_filter,
        {"filter_sizes": [0, 2, 3, 2]},
        ValueError,
        "filter_sizes must have at least 1 row and column, got 0 x 2; a window without taps "
        "has no result",
    ),
    (
        backprop_filter,
        {"filter_sizes": [BIG, 2, 3, 2]},
        ValueError,
        "filter_sizes must reach over at most 2147483647 rows and columns, got 2147483648 "
        "taps with dilation 1; use a smaller kernel or dilation",
    ),
    # gradients against the rest
    (
        backprop_input,
        {"out_backprop": GRAD[0]},
        ValueError,
        "out_backprop must have 4 dimensions, [n, h, w, c]; got 3: shape (5, 6, 6); reshape it",
    ),
    (
        backprop_input,
        {"out_backprop": GRAD.double()},
        TypeError,
        "out_backprop must have the dtype of filter, torch.float32; got torch.float64; "
        "convert one of them with .to()",
    ),
    (
        backprop_filter,
        {"out_backprop": GRAD.to("meta")},
        ValueError,
        "out_backprop must be on the device of input, cpu; got meta; move one of them with .to()",
    ),
    (
        backprop_input,
        {"out_backprop": GRAD[:1]},
        ValueError,
        "out_backprop must have the batch of input_sizes, 2; got 1; there is one gradient "
        "for each image",
    ),
    (
        backprop_filter,
        {"out_backprop": GRAD[:1]},
        ValueError,
        "out_backprop must have the batch of input, 2; got 1; there is one gradient for each image",
    ),
    (
        backprop_input,
        {"input_sizes": [2, 5, 6, 4]},
        ValueError,
        "filter must have the channels of input_sizes, 4; got 3; a filter is [h, w, in, "
        "mult] in either data_format, and data_format names the input's axes",
    ),
    (
        backprop_filter,
        {"filter_sizes": [3, 2, 4, 2]},
        ValueError,
        "filter_sizes must have the channels of input, 3; got 4; a filter is [h, w, in, "
        "mult] in either data_format, and data_format names the input's axes",
    ),
    (
        backprop_input,
        {"out_backprop": GRAD[..., :5]},
        ValueError,
        "out_backprop must have the in * mult channels of filter, 6; got 5; output channel "
        "c*mult + m belongs to filter[:, :, c, m]",
    ),
    (
        backprop_filter,
        {"out_backprop": GRAD[..., :5]},
        ValueError,
        "out_backprop must have the in * mult channels of filter_sizes, 6; got 5; output "
        "channel c*mult + m belongs to filter[:, :, c, m]",
    ),
    (
        backprop_input,
        {"out_backprop": GRAD[:, :4]},
        ValueError,
        "out_backprop must have the rows of the convolution's output, 5; got 4; strides, "
        "padding, dilations and the input's size must be those of the forward call",
    ),
    (
        backprop_filter,
        {"out_backprop": GRAD[:, :, :5]},
        ValueError,
        "out_backprop must have the columns of the convolution's output, 6; got 5; strides, "
        "padding, dilations and the input's size must be those of the forward call",
    ),
    (
        backprop_input,
        {"dilations": (1, 2), "padding": "VALID"},
        ValueError,
        "out_backprop must have the rows of the convolution's output, 3; got 5; strides, "
        "padding, dilations and the input's size must be those of the forward call",
    ),
    # pointwise
    (
        separable,
        {"depthwise_filter": FILTER[:, :, :2]},
        ValueError,
        "depthwise_filter must have the channels of input, 3; got 2; a filter is [h, w, in, "
        "mult] in either data_format, and data_format names the input's axes",
    ),
    (
        separable,
        {"pointwise_filter": POINTWISE[0]},
        ValueError,
        "pointwise_filter must have 4 dimensions, [1, 1, in*mult, out]; got 3: shape (1, 6, "
        "4); reshape it",
    ),
    (
        separable,
        {"pointwise_filter": POINTWISE.expand(2, 1, 6, 4)},
        ValueError,
        "pointwise_filter must be [1, 1, in*mult, out], got shape (2, 1, 6, 4); a larger "
        "second convolution is torch.nn.functional.conv2d",
    ),
    (
        separable,
        {"pointwise_filter": POINTWISE[:, :, :3]},
        ValueError,
        "pointwise_filter must have the in * mult channels of depthwise_filter, 6; got 3; "
        "TensorFlow takes fewer for a grouped convolution, which is "
        "torch.nn.functional.conv2d(groups=...)",
    ),
    (
        separable,
        {"pointwise_filter": POINTWISE.double()},
        TypeError,
        "pointwise_filter must have the dtype of input, torch.float32; got torch.float64; "
        "convert one of them with .to()",
    ),
]


@pytest.fixture
def no_operator() -> Iterator[None]:
    """Fails the test if an operator of this package runs."""

    class Refuse(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func.namespace != "tfcompat_dw", f"{func} ran"
            return func(*args, **(kwargs or {}))

    with Refuse():
        yield


@pytest.mark.parametrize(("function", "changes", "exception", "text"), REFUSED)
def test_refusal_has_its_text_and_comes_before_any_operator(
    no_operator, function, changes, exception, text
):
    with pytest.raises(exception) as refusal:
        function(**changes)
    assert refusal.type is exception
    assert str(refusal.value) == text


@pytest.mark.usefixtures("no_operator")
def test_all_sizes_wrong_are_asked_for_in_tensorflows_order():
    # Batch, in_depth, out_depth, rows, columns: each call puts the first remaining one right.
    wrong = {"filter": torch.ones(3, 2, 4, 2), "out_backprop": torch.ones(1, 4, 4, 5)}
    for fix, complaint in [
        ({}, "out_backprop must have the batch of input_sizes"),
        ({"out_backprop": torch.ones(2, 4, 4, 5)}, "filter must have the channels of input_sizes"),
        ({"filter": FILTER}, "out_backprop must have the in * mult channels of filter"),
        ({"out_backprop": torch.ones(2, 4, 4, 6)}, "out_backprop must have the rows"),
        ({"out_backprop": torch.ones(2, 5, 4, 6)}, "out_backprop must have the columns"),
    ]:
        wrong |= fix
        with pytest.raises(ValueError, match=f"^{re.escape(complaint)}"):
            backprop_input(**wrong)


@pytest.mark.parametrize(
    "strides",
    [2, (2, 2), [2, 2], [1, 2, 2, 1], (1, 2, 2, 1), np.int64(2), [1, np.int32(2), 2, np.int64(1)]],
    ids=repr,
)
def test_spellings_of_strides_that_mean_the_same(strides):
    expected = convolve(strides=(2, 2))
    assert torch.equal(convolve(strides=strides), expected)
    assert expected.shape == (2, 3, 3, 6)


@pytest.mark.parametrize("dilations", [2, (2, 2), [1, 2, 2, 1]], ids=repr)
def test_spellings_of_dilations_that_mean_the_same(dilations):
    assert torch.equal(convolve(dilations=dilations), convolve(dilations=(2, 2)))


def test_vectors_are_in_data_format_order():
    nchw = torch.ones(2, 3, 5, 6)
    padding = [(0, 0), (0, 0), (1, 0), (0, 2)]
    result = convolve(input=nchw, data_format="NCHW", strides=[1, 1, 2, 3], padding=padding)
    assert result.shape == (2, 6, 2, 3)
    result = convolve(strides=[1, 2, 3, 1], padding=[(0, 0), (1, 0), (0, 2), (0, 0)])
    assert result.shape == (2, 2, 3, 6)


def test_none_is_nhwc_without_dilation_and_name_is_ignored():
    expected = convolve(data_format="NHWC", dilations=(1, 1))
    assert torch.equal(convolve(data_format=None, dilations=None, name="depthwise"), expected)
    # All of tf.nn's arguments by position.
    assert torch.equal(depthwise_conv2d(INPUT, FILTER, 1, "SAME", None, None, None), expected)


def test_explicit_zeros_are_valid():
    assert torch.equal(convolve(padding=[[0, 0]] * 4), convolve(padding="VALID"))


@pytest.mark.parametrize(
    "as_sizes",
    [
        list,
        tuple,
        torch.Size,
        np.array,
        torch.tensor,
        lambda sizes: torch.tensor(sizes, dtype=torch.int32),
    ],
    ids=["list", "tuple", "Size", "NumPy", "int64", "int32"],
)
def test_sizes_are_sequences_or_integer_tensors(as_sizes):
    sizes = as_sizes(list(INPUT.shape))
    assert torch.equal(backprop_input(input_sizes=sizes), backprop_input())
    sizes = as_sizes(list(FILTER.shape))
    assert torch.equal(backprop_filter(filter_sizes=sizes), backprop_filter())


def test_input_sizes_tell_two_inputs_with_the_same_output_apart():
    grad = torch.ones(2, 3, 3, 6)
    for rows in (5, 6):
        result = backprop_input(input_sizes=[2, rows, 6, 3], out_backprop=grad, strides=2)
        assert result.shape == (2, rows, 6, 3)


def test_strides_of_true_and_one_are_not_taken_for_each_other():
    # They are equal and hash alike: a cache would mix them up.
    for strides in ([1, 1, 1, 1], (1, 1, 1, 1)):
        convolve(strides=strides)
        for other in (True, 1.0):
            with pytest.raises(TypeError):
                convolve(strides=type(strides)([1, 1, other, 1]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_all_dtypes_take_nchw_and_unequal_strides(dtype, data_format):
    # TensorFlow's CPU kernels refuse some of these.
    image = torch.ones((1, 4, 4, 2) if data_format == "NHWC" else (1, 2, 4, 4), dtype=dtype)
    filter = torch.ones(2, 2, 2, 1, dtype=dtype)
    result = depthwise_conv2d(image, filter, (1, 2), "SAME", data_format)
    assert result.dtype is dtype
    assert result.shape == ((1, 4, 2, 2) if data_format == "NHWC" else (1, 2, 4, 2))


@pytest.mark.parametrize(
    ("input_size", "filter_size", "output_size"),
    [
        ((0, 5, 6, 3), (3, 2, 3, 2), (0, 5, 6, 6)),
        ((2, 5, 6, 0), (3, 2, 0, 2), (2, 5, 6, 0)),
        ((2, 5, 6, 3), (3, 2, 3, 0), (2, 5, 6, 0)),
        ((2, 0, 6, 3), (3, 2, 3, 2), (2, 0, 6, 6)),
        ((2, 5, 0, 3), (3, 2, 3, 2), (2, 5, 0, 6)),
    ],
)
def test_empty_sizes_give_empty_results_and_zero_gradients(input_size, filter_size, output_size):
    image = torch.ones(input_size, requires_grad=True)
    filter = torch.ones(filter_size, requires_grad=True)
    result = depthwise_conv2d(image, filter, 1, "SAME")
    assert result.shape == output_size
    gradients = torch.autograd.grad(result.sum(), (image, filter))
    ones = torch.ones(output_size)
    gradients += (
        depthwise_conv2d_backprop_input(input_size, filter.detach(), ones, 1, "SAME"),
        depthwise_conv2d_backprop_filter(image.detach(), filter_size, ones, 1, "SAME"),
    )
    for gradient, like in zip(gradients, (image, filter) * 2, strict=True):
        assert torch.equal(gradient, torch.zeros_like(like))


def test_explicit_padding_makes_something_of_an_empty_image():
    pairs = [(0, 0), (2, 1), (0, 0), (0, 0)]
    image = torch.ones(1, 0, 6, 3)
    result = convolve(input=image, padding=pairs, bias=torch.arange(6.0))
    assert torch.equal(result, torch.arange(6.0).expand(1, 1, 5, 6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_dtypes_are_left_to_autocast_where_it_is_on(dtype):
    with torch.autocast("cpu", dtype):
        assert convolve(input=INPUT.to(dtype)).dtype is dtype
        result = separable(input=INPUT.to(dtype))
        assert result.dtype is dtype
        with pytest.raises(TypeError, match="filter must have the dtype of input"):
            convolve(input=INPUT.double())
        for backprop in (backprop_input, backprop_filter):  # which it leaves alone
            with pytest.raises(TypeError, match="out_backprop must have the dtype of "):
                backprop(out_backprop=GRAD.to(dtype))
    with pytest.raises(TypeError):
        convolve(input=INPUT.to(dtype))


def test_mixed_dtypes_are_refused_on_a_device_without_autocast():
    with pytest.raises(TypeError, match="filter must have the dtype of input"):
        convolve(input=INPUT.double().to("meta"), filter=FILTER.to("meta"))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("channels", "outputs"), [(3, 4), (32, 64)])  # 32 * 2 * 64 is "large"
def test_separable_is_depthwise_then_one_by_one_in_either_memory_order(batch, channels, outputs):
    torch.manual_seed(0)
    filter = torch.randn(3, 2, channels, 2)
    pointwise = torch.randn(1, 1, 2 * channels, outputs)
    weight = pointwise[0, 0].t().reshape(outputs, 2 * channels, 1, 1)
    for order in (torch.contiguous_format, torch.channels_last):
        nchw = torch.randn(batch, channels, 5, 6).contiguous(memory_format=order)
        middle = depthwise_conv2d(nchw, filter, 2, "SAME", "NCHW")
        expected = torch.nn.functional.conv2d(middle, weight)
        result = separable_conv2d(nchw, filter, pointwise, 2, "SAME", "NCHW")
        torch.testing.assert_close(result, expected)
        assert result.is_contiguous(memory_format=order)
        nhwc = nchw.permute(0, 2, 3, 1)
        result = separable_conv2d(nhwc, filter, pointwise, [1, 2, 2, 1], "SAME")
        torch.testing.assert_close(result.permute(0, 3, 1, 2), expected)
        assert result.permute(0, 3, 1, 2).is_contiguous(memory_format=order)


@pytest.mark.parametrize("size", [(0, 5, 6, 3), (2, 0, 6, 3)])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_separable_of_nothing_is_nothing(size, data_format):
    image = torch.ones(size) if data_format == "NHWC" else torch.ones(size).permute(0, 3, 1, 2)
    for x in (image, image.contiguous()):
        result = separable(input=x, data_format=data_format)
        nhwc = result if data_format == "NHWC" else result.permute(0, 2, 3, 1)
        assert nhwc.shape == (*size[:3], 4)


def test_padding_may_be_symbolic_where_sizes_are_not():
    mode = FakeTensorMode(shape_env=ShapeEnv())
    pad = mode.from_tensor(torch.empty(5)).shape[0]
    assert isinstance(pad, torch.SymInt)
    with mode:
        padding = [(0, 0), (pad, pad), (1, 1), (0, 0)]
        result = depthwise_conv2d(torch.empty(1, 4, 4, 3), torch.empty(3, 3, 3, 1), 1, padding)
        assert result.shape == (1, 2 * pad + 2, 4, 3)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_sizes_stay_symbolic_under_export(data_format, padding):
    class Everything(torch.nn.Module):
        def forward(self, image):
            call = {"strides": 2, "padding": padding, "data_format": data_format}
            result = depthwise_conv2d(image, FILTER, **call)
            return (
                result,
                depthwise_conv2d_backprop_input(image.shape, FILTER, result, **call),
                depthwise_conv2d_backprop_filter(image, FILTER.shape, result, **call),
                separable_conv2d(image, FILTER, POINTWISE, **call),
            )

    dims = [torch.export.Dim(name, min=8, max=512) for name in "nhw"]
    dims.insert(3 if data_format == "NHWC" else 1, None)

    def image(*sizes):
        sizes = list(sizes)
        sizes.insert(3 if data_format == "NHWC" else 1, 3)
        return torch.randn(sizes)

    module = Everything()
    for strict in (False, True):
        exported = torch.export.export(
            module, (image(8, 19, 20),), dynamic_shapes=(dict(enumerate(dims)),), strict=strict
        ).module()
        for sizes in ((9, 8, 8), (8, 33, 18)):
            x = image(*sizes)
            torch.testing.assert_close(exported(x), module(x))


def test_compiles_whole_and_once_for_all_sizes():
    def convolve(image, filter):
        return depthwise_conv2d(
            image, filter, 2, "SAME", dilations=(2, 1), strided_dilation="plain"
        )

    compiled = torch.compile(convolve, backend="eager", fullgraph=True, dynamic=True)
    image = torch.randn(5, 9, 10, 3)  # Two sizes that are equal now are taken to be always.
    torch.testing.assert_close(compiled(image, FILTER), convolve(image, FILTER))
    with torch.compiler.set_stance("fail_on_recompile"):
        for sizes in ((2, 12, 7, 3), (3, 8, 8, 3)):
            image = torch.randn(sizes)
            torch.testing.assert_close(compiled(image, FILTER), convolve(image, FILTER))
