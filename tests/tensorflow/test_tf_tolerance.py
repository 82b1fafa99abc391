"""The error bounds: wide enough for what they describe, too narrow for anything worse."""

from __future__ import annotations

import numpy as np
import pytest
from cases import DTYPES, Case
from oracle import Oracle, assert_within_bound
from tolerance import reference_error, sum_error

MANY_TERMS = Case(size=(24, 25), kernel=(7, 7), channels=4, multiplier=2)


def of_type(dtype: str) -> Case:
    return Case(**{**vars(MANY_TERMS), "dtype": dtype})


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_eigen_kernels_keep_the_bound_of_a_sum_in_their_own_type(
    dtype: str, oracle: Oracle
) -> None:
    case = of_type(dtype)
    reference = oracle.reference(case)
    theirs = oracle.eigen(case, case.reals())
    rows = zip(theirs, reference.reals, reference.magnitude, reference.terms, strict=True)
    for result, true, magnitude, terms in rows:
        allowed = sum_error(magnitude, terms, dtype) + reference_error(magnitude, terms)
        assert (np.abs(result - true) <= allowed).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_bound_for_this_package_refuses_a_sum_in_16_bits(dtype: str, oracle: Oracle) -> None:
    case = of_type(dtype)
    with pytest.raises(AssertionError, match="too far from TensorFlow"):
        assert_within_bound(case, oracle.eigen(case, case.reals()), oracle.reference(case))


def test_the_bound_for_float64_refuses_a_sum_in_float32(oracle: Oracle) -> None:
    in_float32, in_float64 = of_type("float32"), of_type("float64")
    theirs = oracle.eigen(in_float32, in_float64.reals())
    with pytest.raises(AssertionError, match="too far from TensorFlow"):
        assert_within_bound(in_float64, theirs, oracle.reference(in_float64))
