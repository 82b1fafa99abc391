"""Inf and NaN stay where the arithmetic puts them: a padded tap adds nothing, not 0 * Inf.

TensorFlow's back ends disagree here. By default, with oneDNN's AVX-512 kernels, it skips padded
taps in float32 and bfloat16 under SAME and VALID, and that is what this package does everywhere.
Its own kernels multiply the padding, so one Inf in a filter makes the whole border NaN; so do its
explicit gradients and its dilated calls, whatever the back end, and some of oneDNN's kernels for
lesser CPUs.

What must come out follows from finite float64 runs: a single bad element reaches those results to
which its partial derivative is not zero, each through exactly one product, and leaves the others
as if it were 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from cases import DTYPES, Case, Example, Passes
from oracle import Oracle
from ours import by_autograd, by_functions

VALUES = (np.inf, -np.inf, np.nan)

# With AVX-512. In AVX2 and below oneDNN multiplies the padding in some of its kernels.
ONEDNN_ALWAYS_SKIPS = "AVX512" in torch.backends.cpu.get_cpu_capability()

# Which results each operand is a factor of.
REACHES = {
    "input": ("output", "filter_gradient"),
    "filter": ("output", "input_gradient"),
    "gradient": ("input_gradient", "filter_gradient"),
}

SKIPPED_BY_TF = (
    Case(size=(4, 5)),
    Case(size=(4, 5), padding="VALID"),
    Case(size=(4, 5), multiplier=1, channels=17),
    Case(size=(5, 6), stride=(2, 2), kernel=(3, 4)),
    Case(
        size=(7, 8), stride=(3, 3), kernel=(2, 2), padding="VALID"
    ),  # pixels that no window touches
    Case(size=(7, 8), stride=(3, 3), kernel=(2, 5)),
    Case(size=(2, 3), kernel=(5, 4), multiplier=1),  # taps that are never used
    Case(size=(6, 7), kernel=(7, 7), channels=16, multiplier=1),
)
SKIPPED_BY_US = (
    *SKIPPED_BY_TF,
    Case(size=(5, 6), stride=(1, 2), kernel=(3, 3)),
    Case(size=(4, 5), padding=((1, 2), (0, 3))),
    Case(size=(4, 5), padding=((4, 0), (0, 5)), kernel=(2, 3)),  # windows of nothing but padding
    Case(size=(5, 6), padding=((1, 1), (2, 0)), stride=(2, 2)),
    Case(size=(6, 7), dilation=(2, 2)),
    Case(size=(6, 7), dilation=(1, 3), kernel=(3, 2)),
    Case(size=(7, 6), dilation=(2, 2), stride=(2, 2), strided_dilation="plain"),
    Case(size=(7, 6), dilation=(2, 2), stride=(2, 2), strided_dilation="space_to_batch"),
)


class Spot(NamedTuple):
    """Where the bad element is."""

    operand: str
    index: int  # in the flattened operand


def spots(case: Case, output_size: int) -> list[Spot]:
    """The first, a middle and the last element of each operand."""
    sizes = {
        "input": int(np.prod(case.input_shape)),
        "filter": int(np.prod(case.filter_shape)),
        "gradient": output_size,
    }
    return [
        Spot(operand, index)
        for operand, size in sizes.items()
        for index in (0, size // 2, size - 1)
    ]


def finite_example(case: Case) -> Example:
    """Small whole numbers, none of them 0 (0 * Inf would be NaN by right)."""
    return Example(
        *(
            np.where(values == 0, 1.0, np.sign(values) * (abs(values) % 3 + 1))
            for values in case.integers()
        )
    )


def with_element(example: Example, spot: Spot, value: float) -> Example:
    values = getattr(example, spot.operand).copy()
    values.flat[spot.index] = value
    return example._replace(**{spot.operand: values})


def with_only(example: Example, spot: Spot) -> Example:
    """The operand is 1 at the spot and 0 elsewhere: the results are partial derivatives."""
    zeros = np.zeros_like(getattr(example, spot.operand))
    return with_element(example._replace(**{spot.operand: zeros}), spot, 1.0)


class Bad(NamedTuple):
    """A call with one bad element, and what it must give."""

    spot: Spot
    value: float
    example: Example
    expected: Passes


def bad_calls(case: Case, oracle: Oracle) -> list[Bad]:
    """One bad element at a time, of every kind, at every spot of a case."""
    example = finite_example(case)
    found = spots(case, oracle.reference(case).reals.output.size)
    without = oracle.in_float64(case, [with_element(example, spot, 0.0) for spot in found])
    partial = oracle.in_float64(case, [with_only(example, spot) for spot in found])
    return [
        Bad(spot, value, with_element(example, spot, value), reached(spot, value, *results))
        for spot, *results in zip(found, without, partial, strict=True)
        for value in VALUES
    ]


def reached(spot: Spot, value: float, without: Passes, partial: Passes) -> Passes:
    """The value with the derivative's sign where there is one, else the result without it."""
    changed = {}
    for name in REACHES[spot.operand]:
        derivative = getattr(partial, name)
        result = getattr(without, name).copy()
        result[derivative != 0] = value * np.sign(derivative[derivative != 0])
        changed[name] = result
    return without._replace(**changed)


@pytest.fixture(scope="module")
def calls_of(oracle: Oracle) -> Callable[[Case], list[Bad]]:
    """bad_calls, once per case: the numbers are exact in every type, so all types share them."""
    return cache(lambda case: bad_calls(case, oracle))


def assert_equal(ours: Passes, bad: Bad) -> None:
    for name, mine, wanted in zip(Passes._fields, ours, bad.expected, strict=True):
        np.testing.assert_array_equal(mine, wanted, err_msg=f"{name}, {bad.value} at {bad.spot}")


def without_type(case: Case) -> str:
    return str(case).replace("-NHWC-float32", "")


@pytest.mark.parametrize("memory", ["contiguous", "other order"])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SKIPPED_BY_US, ids=without_type)
def test_a_bad_element_reaches_only_what_it_is_a_term_of(
    case: Case, dtype: str, data_format: str, memory: str, calls_of: Callable[[Case], list[Bad]]
) -> None:
    of_type = replace(case, dtype=dtype, data_format=data_format)
    for bad in calls_of(case):
        assert_equal(by_autograd(of_type, bad.example, memory), bad)
        assert_equal(by_functions(of_type, bad.example, memory), bad)


def assert_equal_to_default(case: Case, ours: Passes, example: Example, oracle: Oracle) -> None:
    """But for what oneDNN on a lesser CPU makes NaN, as TensorFlow's own kernel does: 0 * Inf."""
    theirs = oracle.by_default(case, example)
    multiplied = oracle.eigen(case, example)
    for name, mine, wanted, eigen in zip(Passes._fields, ours, theirs, multiplied, strict=True):
        padded = np.isnan(wanted) & np.isnan(eigen) & (not ONEDNN_ALWAYS_SKIPS)
        np.testing.assert_array_equal(mine[~padded], wanted[~padded], err_msg=name)


@pytest.mark.parametrize("case", SKIPPED_BY_TF, ids=without_type)
def test_one_bad_element_has_the_effect_it_has_in_tensorflow_by_default(
    case: Case, calls_of: Callable[[Case], list[Bad]], oracle: Oracle
) -> None:
    for bad in calls_of(case):
        assert_equal_to_default(case, by_autograd(case, bad.example), bad.example, oracle)


@pytest.mark.parametrize("operand", Example._fields)
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("case", SKIPPED_BY_TF, ids=without_type)
def test_nothing_but_bad_elements_has_the_effect_it_has_in_tensorflow_by_default(
    case: Case, value: float, operand: str, oracle: Oracle
) -> None:
    example = finite_example(case)
    bad = example._replace(**{operand: np.full_like(getattr(example, operand), value)})
    assert_equal_to_default(case, by_autograd(case, bad), bad, oracle)


@pytest.mark.parametrize("value", VALUES)
def test_zero_times_a_bad_element_inside_the_input_is_nan(value: float, oracle: Oracle) -> None:
    case = Case(size=(4, 5))
    bad = with_element(finite_example(case), Spot("input", 21), value)
    bad = bad._replace(filter=np.zeros_like(bad.filter))
    ours = by_autograd(case, bad)
    assert np.isnan(ours.output).sum() == 9 * case.multiplier
    assert_equal_to_default(case, ours, bad, oracle)
