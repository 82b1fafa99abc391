"""separable_conv2d and its gradients equal those of tf.nn.

TensorFlow in float64 is the oracle, on its Eigen kernels, or on XLA where strides are unequal.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from cases import CORNERS, DTYPES, STRIDED_AND_DILATED, Case, rounded, to_format
from client import TensorFlowProcess
from ours import array, tensor
from tolerance import assert_within_chains, largest_of, separable_chains

import tfcompat_dw

Arrays = tuple[np.ndarray, ...]

# tf.nn computes a strided and dilated call the space-to-batch way.
SEPARABLE = [
    replace(case, dtype=DTYPES[number % 4], data_format=("NHWC", "NCHW")[number // 4 % 2])
    for number, case in enumerate(
        [
            *CORNERS,
            *(replace(case, strided_dilation="space_to_batch") for case in STRIDED_AND_DILATED),
        ]
    )
]
FILTERS = 4


def separable_example(case: Case, numbers: Callable[[tuple[int, ...]], np.ndarray]) -> Arrays:
    """Input, depthwise filter, pointwise filter, gradient pool."""
    middle = case.channels * case.multiplier
    pool = case.pool_size * FILTERS
    shapes = [case.input_shape, case.filter_shape, (1, 1, middle, FILTERS), (pool,)]
    return tuple(numbers(shape) for shape in shapes)


def run_our_separable(case: Case, example: Arrays) -> list[np.ndarray]:
    """Output and three gradients, channels-last."""
    x, *filters = (tensor(values, case.dtype) for values in example[:3])
    x = tensor(to_format(example[0], case.data_format), case.dtype)
    leaves = [operand.requires_grad_() for operand in (x, *filters)]
    output = tfcompat_dw.separable_conv2d(
        *leaves, **case.arguments(case.data_format), strided_dilation=case.strided_dilation
    )
    channel = 1 if case.data_format == "NCHW" else 3
    shape = tuple(output.movedim(channel, 3).shape)
    gradient = example[3][: output.numel()].reshape(shape)
    output.backward(tensor(to_format(gradient, case.data_format), case.dtype))
    images = [array(output), array(x.grad)]
    return [np.moveaxis(image, channel, 3) for image in images] + [array(f.grad) for f in filters]


@pytest.mark.parametrize("case", SEPARABLE, ids=str)
def test_separable_conv2d_and_its_gradients_are_those_of_tensorflow(
    case: Case, tf_eigen: TensorFlowProcess
) -> None:
    numbers = np.random.default_rng(zlib.crc32(str(case).encode()))
    example = separable_example(
        case, lambda shape: rounded(numbers.standard_normal(shape), case.dtype)
    )
    theirs, magnitudes = tf_eigen.ask(
        "separable_conv2d",
        examples=[example, tuple(map(np.abs, example))],
        dtype="float64",
        xla=case.unequal_strides,
        **case.arguments("NHWC"),
    )
    pixels = case.batch * math.prod(theirs[0].shape[1:3])
    middle = case.channels * case.multiplier
    chains = separable_chains(math.prod(case.kernel), case.multiplier, pixels, middle, FILTERS)
    ours, largest = run_our_separable(case, example), largest_of(example)
    assert_within_chains(ours, theirs, magnitudes, chains, largest, (case.dtype, "float64"))


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_separable_conv2d_of_whole_numbers_rounds_each_result_once(
    dtype: str, data_format: str, tf_eigen: TensorFlowProcess
) -> None:
    """What passes from one stage to the other has at most 8 bits, so is exact in every type."""
    case = Case(size=(9, 8), kernel=(2, 2), channels=2, batch=4, dtype=dtype)
    numbers = np.random.default_rng(5)
    example = separable_example(
        case, lambda shape: numbers.integers(-8, 9, shape).astype(np.float64)
    )
    example = (example[0], np.sign(example[1]), *example[2:])
    (theirs,) = tf_eigen.ask(
        "separable_conv2d", examples=[example], dtype="float64", **case.arguments("NHWC")
    )
    ours = run_our_separable(replace(case, data_format=data_format), example)
    for number, (mine, exact) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_array_equal(mine, rounded(exact, dtype), err_msg=f"result {number}")


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pointwise_gradient_of_many_ones_counts_them_all(dtype: str, data_format: str) -> None:
    """Every image has one pixel more than 16 bits can count; only the sum of all is rounded."""
    pixels = 2 ** {"bfloat16": 8}.get(dtype, 11) + 1
    case = Case(
        size=(1, pixels), kernel=(1, 1), batch=3, multiplier=1, dtype=dtype, data_format=data_format
    )
    gradient = run_our_separable(case, separable_example(case, np.ones))[3]
    np.testing.assert_array_equal(gradient, rounded(np.full(gradient.shape, 3.0 * pixels), dtype))
