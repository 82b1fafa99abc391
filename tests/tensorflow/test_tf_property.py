"""Any call at all, on operands anywhere in memory: results and gradients equal TensorFlow's."""

from __future__ import annotations

from dataclasses import replace

from cases import DTYPES, Case, Pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Oracle, assert_rounded_once, assert_within_bound
from ours import MEMORY, by_autograd, by_functions


def bounded(max_examples: int) -> settings:
    return settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def pairs(lowest: int, highest: int) -> st.SearchStrategy[Pair]:
    number = st.integers(lowest, highest)
    return st.tuples(number, number)


def calls(**fixed: st.SearchStrategy[object]) -> st.SearchStrategy[Case]:
    """Any case with an output: padding that leaves none becomes SAME."""
    parameters: dict[str, st.SearchStrategy[object]] = {
        "size": pairs(1, 13),
        "kernel": pairs(1, 8),
        "stride": pairs(1, 4),
        "padding": st.sampled_from(("SAME", "VALID")) | st.tuples(pairs(0, 6), pairs(0, 6)),
        "dilation": st.just((1, 1)) | pairs(1, 4),
        "batch": st.integers(1, 3),
        "channels": st.integers(1, 35),
        "multiplier": st.integers(1, 5),
        "data_format": st.sampled_from(("NHWC", "NCHW")),
        "dtype": st.sampled_from(DTYPES),
        "strided_dilation": st.sampled_from(("space_to_batch", "plain")),
    }
    return st.builds(Case, **(parameters | fixed)).map(with_an_output)


def with_an_output(case: Case) -> Case:
    return case if case.fits else replace(case, padding="SAME")


def equal_pairs(lowest: int, highest: int) -> st.SearchStrategy[Pair]:
    return st.integers(lowest, highest).map(lambda number: (number, number))


def check(case: Case, memory: str, oracle: Oracle) -> None:
    reference = oracle.reference(case)
    assert_rounded_once(case, by_autograd(case, case.integers(), memory), reference)
    assert_within_bound(case, by_functions(case, case.reals(), memory), reference)


@bounded(100)  # unequal strides cost an XLA compilation each
@given(case=calls(), memory=st.sampled_from(MEMORY))
def test_any_call_equals_tensorflow(case: Case, memory: str, oracle: Oracle) -> None:
    check(case, memory, oracle)


@bounded(1000)
@given(case=calls(stride=equal_pairs(1, 4)), memory=st.sampled_from(MEMORY))
def test_any_call_with_equal_strides_equals_tensorflow(
    case: Case, memory: str, oracle: Oracle
) -> None:
    check(case, memory, oracle)
