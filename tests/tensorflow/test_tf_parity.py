"""Forward and both gradients equal those of tf.nn, over the whole space of parameters.

The primary oracle is TensorFlow in float64 (`oracle.py` says which of its back ends can run which
case): whole numbers must give exactly its values rounded once, real numbers must stay within the
error their terms allow (`tolerance.py`). Where TensorFlow has a kernel for the case's own type,
its result must agree as well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import (
    CORNERS,
    DTYPES,
    STRIDED_AND_DILATED,
    Case,
    Example,
    both_strided_dilations,
    in_all_types,
    in_nchw,
    rounded,
    sampled,
    to_format,
)
from oracle import Oracle, assert_agrees, assert_rounded_once, assert_within_bound
from ours import arguments, array, by_autograd, by_functions, gradient_like, tensor
from tolerance import allowed_against_reference, assert_within

import tfcompat_dw

CASES = [
    *in_all_types(CORNERS),
    *in_nchw(CORNERS),
    *in_all_types(both_strided_dilations(STRIDED_AND_DILATED)),
    *in_nchw(both_strided_dilations(STRIDED_AND_DILATED)),
    *sampled(400, seed=2021),
]

# tf.nn never computes the plain formula of a strided and dilated call.
IN_TF_NN = [
    case for case in CASES if not (case.strided_and_dilated and case.strided_dilation == "plain")
]
# TensorFlow's own kernels want equal strides (and NHWC, which the oracle gives them).
IN_EIGEN = [case for case in IN_TF_NN if not case.unequal_strides]
# oneDNN adds unequal strides and NCHW in float32, but not for the gradients of explicit padding.
# (In bfloat16 too, on some CPUs only.)
BY_DEFAULT = [
    case
    for case in IN_TF_NN
    if (case.data_format == "NHWC" and not case.unequal_strides)
    or (case.dtype == "float32" and isinstance(case.padding, str))
]

# What TensorFlow gives a shape to without any element, or without any term. Its gradients are left
# out: some are uninitialised memory there.
EMPTY = (
    Case(batch=0),
    Case(batch=0, padding="VALID", stride=(2, 2)),
    Case(channels=0),
    Case(multiplier=0),
    Case(size=(0, 4)),
    Case(size=(4, 0), stride=(2, 2)),
    Case(size=(0, 3), padding=((2, 2), (0, 0))),
    Case(batch=0, dilation=(2, 2)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_whole_numbers_give_the_values_of_tensorflow_rounded_once(
    case: Case, oracle: Oracle
) -> None:
    reference = oracle.reference(case)
    assert_rounded_once(case, by_autograd(case, case.integers()), reference)
    assert_rounded_once(case, by_functions(case, case.integers()), reference)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_real_numbers_stay_within_the_error_bound_around_float64(
    case: Case, oracle: Oracle
) -> None:
    reference = oracle.reference(case)
    assert_within_bound(case, by_autograd(case, case.reals()), reference)
    assert_within_bound(case, by_functions(case, case.reals()), reference)


@pytest.mark.parametrize("case", IN_EIGEN, ids=str)
def test_agrees_with_the_eigen_kernel_of_the_same_type(case: Case, oracle: Oracle) -> None:
    theirs = oracle.eigen(case, case.reals())
    assert_agrees(case, by_autograd(case, case.reals()), theirs, oracle.reference(case))


@pytest.mark.parametrize("case", BY_DEFAULT, ids=str)
def test_agrees_with_default_tensorflow_in_the_same_type(case: Case, oracle: Oracle) -> None:
    theirs = oracle.by_default(case, case.reals())
    assert_agrees(case, by_autograd(case, case.reals()), theirs, oracle.reference(case))


def test_every_case_has_an_output_and_is_listed_once() -> None:
    assert all(case.fits for case in CASES)
    assert len(set(CASES)) == len(CASES)


# ---- by hand ----


def worked_example() -> Example:
    """Channel 0 has rows 1, 2, 3, 4, channel 1 is ones; the filters are constant: 0, 2, 1, 3."""
    x = np.ones((1, 4, 4, 2))
    x[..., 0] = [1, 2, 3, 4]
    f = np.empty((3, 3, 2, 2))
    f[:, :, 0] = (0, 2)
    f[:, :, 1] = (1, 3)
    return Example(x, f, np.ones(16))


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_worked_example_is_exact(dtype: str, data_format: str, oracle: Oracle) -> None:
    case = Case(
        size=(4, 4), padding="VALID", batch=1, channels=2, dtype=dtype, data_format=data_format
    )
    expected = [[[[0, 36, 9, 27], [0, 54, 9, 27]]] * 2]
    ours = by_autograd(case, worked_example())
    (theirs,) = oracle.in_float64(case, [worked_example()])
    assert ours.output.tolist() == theirs.output.tolist() == expected
    assert ours.input_gradient.tolist() == theirs.input_gradient.tolist()
    assert ours.filter_gradient.tolist() == theirs.filter_gradient.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_filter_gradient_of_many_ones_counts_them_all(dtype: str, oracle: Oracle) -> None:
    """TensorFlow's own 16-bit kernels stop at 2048 and 256, where adding 1 changes nothing."""
    case = Case(size=(64, 64), kernel=(1, 1), batch=1, channels=1, multiplier=1, dtype=dtype)
    stalls = {"float16": 2048.0, "bfloat16": 256.0}
    assert oracle.eigen(case, case.ones()).filter_gradient.item() == stalls.get(dtype, 4096.0)
    assert by_autograd(case, case.ones()).filter_gradient.item() == 4096.0


def test_float16_sums_may_pass_its_largest_number_on_the_way() -> None:
    """300 * 300 - 300 * 300 is 0; TensorFlow's float16 kernel gives inf."""
    case = Case(
        size=(1, 2),
        kernel=(1, 2),
        padding="VALID",
        batch=1,
        channels=1,
        multiplier=1,
        dtype="float16",
    )
    example = Example(
        np.full((1, 1, 2, 1), 300.0), np.array([300.0, -300.0]).reshape(1, 2, 1, 1), np.ones(2)
    )
    assert by_autograd(case, example).output.tolist() == [[[[0.0]]]]


# ---- bias ----


def with_bias(
    case: Case, example: Example, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(output, bias gradient, the incoming gradient), channels-last."""
    x = tensor(to_format(example.input, case.data_format), case.dtype)
    f = tensor(example.filter, case.dtype)
    b = tensor(bias, case.dtype).requires_grad_()
    output = tfcompat_dw.depthwise_conv2d(x, f, bias=b, **arguments(case))
    gradient = gradient_like(output, case, example)
    output.backward(gradient)
    channel = 1 if case.data_format == "NCHW" else 3
    return array(output.movedim(channel, 3)), array(b.grad), array(gradient.movedim(channel, 3))


BIASED = [*in_all_types(CORNERS), *in_nchw(CORNERS)]


@pytest.mark.parametrize("case", BIASED, ids=str)
def test_bias_is_added_before_the_one_rounding_and_its_gradient_rounded_once(
    case: Case, oracle: Oracle
) -> None:
    bias = (
        np.random.default_rng(1).integers(-8, 9, case.channels * case.multiplier).astype(np.float64)
    )
    output, of_bias, gradient = with_bias(case, case.integers(), bias)
    exact = oracle.reference(case).integers.output + bias
    np.testing.assert_array_equal(output, rounded(exact, case.dtype))
    np.testing.assert_array_equal(of_bias, rounded(gradient.sum((0, 1, 2)), case.dtype))


@pytest.mark.parametrize("case", BIASED, ids=str)
def test_bias_and_its_gradient_stay_within_the_error_bound(case: Case, oracle: Oracle) -> None:
    bias = rounded(
        np.random.default_rng(2).standard_normal(case.channels * case.multiplier), case.dtype
    )
    output, of_bias, gradient = with_bias(case, case.reals(), bias)
    reference = oracle.reference(case)
    true = reference.reals.output + bias
    size = reference.magnitude.output + np.abs(bias)
    allowed = allowed_against_reference(true, size, reference.terms.output + 1, case.dtype)
    assert_within(output, true, allowed, "output")
    sums, sizes = gradient.sum((0, 1, 2)), np.abs(gradient).sum((0, 1, 2))
    allowed = allowed_against_reference(sums, sizes, gradient[..., 0].size, case.dtype)
    assert_within(of_bias, sums, allowed, "bias gradient")


# ---- nothing to compute ----


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", EMPTY, ids=lambda case: str(case).removesuffix("-NHWC-float32"))
def test_empty_calls_have_the_shape_of_tensorflow_and_zero_gradients(
    case: Case, dtype: str, data_format: str, oracle: Oracle
) -> None:
    (theirs,) = oracle.in_float64(case, [case.ones()])
    case = replace(case, dtype=dtype, data_format=data_format)
    for ours in (by_autograd(case, case.ones()), by_functions(case, case.ones())):
        np.testing.assert_array_equal(ours.output, np.zeros(theirs.output.shape))
        np.testing.assert_array_equal(ours.input_gradient, np.zeros(case.input_shape))
        np.testing.assert_array_equal(ours.filter_gradient, np.zeros(case.filter_shape))


# ---- the oracle itself ----


@pytest.mark.parametrize(
    "case", [case for case in IN_EIGEN if max(case.dilation) == 1][::40], ids=str
)
def test_a_gradient_tape_and_the_backprop_functions_of_tensorflow_are_one(
    case: Case, oracle: Oracle
) -> None:
    tape, functions = oracle.tape_and_functions(case, case.reals())
    for one, other in zip(tape, functions, strict=True):
        np.testing.assert_array_equal(one, other)
