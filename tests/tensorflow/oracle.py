"""What TensorFlow says to a case, and the comparison of what this package says with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from cases import Case, Example, Passes, magnitudes, rounded
from client import TensorFlowProcess
from tolerance import allowed_against_native, allowed_against_reference, assert_within


class Reference(NamedTuple):
    """TensorFlow's float64 results of whole and of real numbers, and what the error bound needs."""

    integers: Passes
    reals: Passes
    magnitude: Passes
    terms: Passes


class Oracle:
    """Asks the TensorFlow that can run a case.

    In float64 TensorFlow has its Eigen kernel, which wants NHWC and equal strides. Data is
    channels-last here, so NCHW is no obstacle; for unequal strides the same tf.nn functions run
    compiled by TensorFlow's XLA. strided_dilation="plain" is what Keras computes, by decomposition.
    """

    def __init__(self, eigen: TensorFlowProcess, onednn: TensorFlowProcess) -> None:
        self._eigen = eigen
        self._onednn = onednn
        self._references: dict[Case, Reference] = {}

    def reference(self, case: Case) -> Reference:
        if case not in self._references:
            reals = case.reals()
            examples = [case.integers(), reals, magnitudes(reals), case.ones()]
            self._references[case] = Reference(*self.in_float64(case, examples))
        return self._references[case]

    def in_float64(self, case: Case, examples: list[Example]) -> list[Passes]:
        if case.strided_dilation == "plain" and case.strided_and_dilated:
            return self._keras(case, examples)
        return _ask(self._eigen, case, examples, "float64", "NHWC", xla=case.unequal_strides)

    def eigen(self, case: Case, example: Example) -> Passes:
        """TensorFlow's own kernel, in NHWC, in the case's type; its strides must be equal."""
        return _ask(self._eigen, case, [example], case.dtype, "NHWC")[0]

    def by_default(self, case: Case, example: Example) -> Passes:
        """TensorFlow as it starts by default, with oneDNN, in the case's type and format."""
        reference = self.reference(case)
        examples = [example.in_format(case.data_format, reference.reals.output.shape)]
        (theirs,) = _ask(self._onednn, case, examples, case.dtype, case.data_format)
        if case.dtype != "bfloat16":
            return theirs
        # oneDNN leaves the filter taps that only meet padding uninitialised in bfloat16.
        met = reference.terms.filter_gradient > 0
        return theirs._replace(filter_gradient=np.where(met, theirs.filter_gradient, 0.0))

    def tape_and_functions(self, case: Case, example: Example) -> list[Passes]:
        """The two ways to TensorFlow's gradients, in the case's own type."""
        ways = ("tape", "functions")
        return [
            _ask(self._eigen, case, [example], case.dtype, "NHWC", gradients=way)[0] for way in ways
        ]

    def _keras(self, case: Case, examples: list[Example]) -> list[Passes]:
        answers = self._eigen.ask(
            "keras_depthwise_conv",
            examples=[tuple(example) for example in examples],
            dtype="float64",
            pads=((0, 0), *case.explicit_pads, (0, 0)),
            strides=case.stride,
            padding="same" if case.padding == "SAME" else "valid",
            data_format="channels_last",
            dilation_rate=case.dilation,
        )
        return [Passes(*answer) for answer in answers]


def _ask(
    process: TensorFlowProcess,
    case: Case,
    examples: list[Example],
    dtype: str,
    data_format: str,
    xla: bool = False,
    gradients: str | None = None,
) -> list[Passes]:
    answers = process.ask(
        "depthwise_conv2d",
        examples=[tuple(example) for example in examples],
        dtype=dtype,
        # TensorFlow's backprop functions ignore dilations; a GradientTape does not.
        gradients=gradients or ("tape" if max(case.dilation) > 1 else "functions"),
        xla=xla,
        **case.arguments(data_format),
    )
    return [Passes(*answer).from_format(data_format) for answer in answers]


# ---- the comparison ----


def assert_within_bound(case: Case, ours: Passes, reference: Reference) -> None:
    """Real numbers: every element is within the error that its terms allow."""
    for name, mine, theirs, magnitude, terms in _by_pass(ours, reference):
        allowed = allowed_against_reference(theirs, magnitude, terms, case.dtype)
        assert_within(mine, theirs, allowed, name)


def assert_rounded_once(case: Case, ours: Passes, reference: Reference) -> None:
    """Whole numbers: TensorFlow's exact values, rounded once to the type."""
    for name, mine, exact in zip(Passes._fields, ours, reference.integers, strict=True):
        assert_within(mine, rounded(exact, case.dtype), np.zeros(exact.shape), name)


def assert_agrees(case: Case, ours: Passes, theirs: Passes, reference: Reference) -> None:
    """TensorFlow's result in the same type is within the sum of the two error bounds."""
    for name, mine, true, magnitude, terms in _by_pass(ours, reference):
        allowed = allowed_against_native(true, magnitude, terms, case.dtype)
        assert_within(mine, getattr(theirs, name), allowed, name)


def _by_pass(
    ours: Passes, reference: Reference
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    return zip(
        Passes._fields, ours, reference.reals, reference.magnitude, reference.terms, strict=True
    )
