"""How far two right answers may be apart: per element, from arithmetic, nothing tuned.

Every result here is a sum of `terms` products. Write `magnitude` for the sum of their absolute
values. A sum of n products in any order, with or without fused multiply-add, rounds each term at
most n times (its product once, and n - 1 additions), each time by a factor 1 + d with |d| <= u,
the unit roundoff. So

    |computed - true| <= ((1 + u)^n - 1) * magnitude

(at most gamma_n * magnitude, with the usual gamma_n = n u / (1 - n u), and true for any n).

Padded taps and zero fills add exactly 0 and are no terms. Products of two 16-bit floats are exact
in float32.

* Ours sums in float64 for float64 and in float32 for the rest; a 16-bit result is then rounded
  once.
* TensorFlow's Eigen kernels sum in the element type itself: n roundings of 16 bits for float16
  and bfloat16. oneDNN, where it takes a call, is at least as accurate.
* The reference is TensorFlow in float64 on the same inputs, which all are exact in float64; it
  has the bound of a float64 sum.

* Separable convolutions and layers are sums of products of up to four operands, in stages. All
  factors (1 + d) of all stages multiply, so a Chain just counts them.

Results near the bottom of the exponent range lose more than a relative u, as TensorFlow flushes
denormals to zero in all types but float16: each rounding may also lose LOST_TO_UNDERFLOW.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
ACCUMULATOR = {
    "float64": "float64",
    "float32": "float32",
    "float16": "float32",
    "bfloat16": "float32",
}
LOST_TO_UNDERFLOW = {
    "float64": 2.0**-1022,
    "float32": 2.0**-126,
    "float16": 2.0**-25,
    "bfloat16": 2.0**-126,
}

Terms = np.ndarray | int


def sum_error(magnitude: np.ndarray, terms: Terms, accumulator: str) -> np.ndarray:
    """The error of a sum of products, rounded to the accumulator's type after every operation."""
    growth = np.expm1(np.asarray(terms) * np.log1p(UNIT_ROUNDOFF[accumulator]))
    return growth * magnitude + np.asarray(terms) * LOST_TO_UNDERFLOW[accumulator]


def our_error(true: np.ndarray, magnitude: np.ndarray, terms: Terms, dtype: str) -> np.ndarray:
    """The error of a result of this package: a sum in the accumulator's type, then one rounding."""
    error = sum_error(magnitude, terms, ACCUMULATOR[dtype])
    return (
        error
        if ACCUMULATOR[dtype] == dtype
        else error + rounding_error(np.abs(true) + error, dtype)
    )


def rounding_error(magnitude: np.ndarray, dtype: str) -> np.ndarray:
    """The error of one rounding to `dtype` of values not above `magnitude`."""
    return UNIT_ROUNDOFF[dtype] * magnitude + LOST_TO_UNDERFLOW[dtype]


def reference_error(magnitude: np.ndarray, terms: Terms) -> np.ndarray:
    """The error of TensorFlow's float64 result."""
    return sum_error(magnitude, terms, "float64")


def allowed_against_reference(
    reference: np.ndarray, magnitude: np.ndarray, terms: Terms, dtype: str
) -> np.ndarray:
    """How far our result may be from TensorFlow's float64 result."""
    doubt = reference_error(magnitude, terms)
    return our_error(np.abs(reference) + doubt, magnitude, terms, dtype) + doubt


def allowed_against_native(
    reference: np.ndarray, magnitude: np.ndarray, terms: Terms, dtype: str
) -> np.ndarray:
    """How far our result may be from TensorFlow's in the same type, whatever computed that."""
    theirs = sum_error(magnitude, terms, dtype)
    return allowed_against_reference(reference, magnitude, terms, dtype) + theirs


def assert_within(ours: np.ndarray, theirs: np.ndarray, allowed: np.ndarray, what: str) -> None:
    """Every element of `ours` is within `allowed` of `theirs`; NaN is never within anything."""
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, TensorFlow has {theirs.shape}"
    difference = np.abs(ours - theirs)
    wrong = ~(difference <= allowed)
    if not wrong.any():
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        worst = np.unravel_index(np.argmax(np.where(wrong, difference / allowed, -1.0)), ours.shape)
    raise AssertionError(
        f"{what}: {wrong.sum()} of {wrong.size} elements are too far from TensorFlow, the worst at "
        f"{tuple(int(i) for i in worst)}: {ours[worst]!r}, TensorFlow {theirs[worst]!r}, "
        f"allowed difference {float(allowed[worst]):.3g}"
    )


# ---- stages ----


@dataclass(frozen=True)
class Chain:
    """How often a term of one result is rounded: in sums, and on its way from stage to stage."""

    sums: int
    stages: int

    def error(self, magnitude: np.ndarray, largest: float, dtype: str) -> np.ndarray:
        """The bound for a result computed in `dtype`, whose absolute terms sum to `magnitude`.

        What a stage loses to underflow, the next may multiply by the `largest` operand and sum up.
        """
        logarithm = self.sums * math.log1p(UNIT_ROUNDOFF[ACCUMULATOR[dtype]])
        if ACCUMULATOR[dtype] != dtype:
            logarithm += self.stages * math.log1p(UNIT_ROUNDOFF[dtype])
        lost = LOST_TO_UNDERFLOW[dtype] * self.stages * (1 + self.sums * max(1.0, largest))
        return math.expm1(logarithm) * magnitude + lost


def depthwise_chains(taps: int, multiplier: int, pixels: int) -> list[Chain]:
    """Output, and gradients of input, kernel, bias."""
    return [Chain(taps + 1, 1), Chain(taps * multiplier, 1), Chain(pixels, 1), Chain(pixels, 1)]


def separable_chains(
    taps: int, multiplier: int, pixels: int, middle: int, filters: int, biased: bool = False
) -> list[Chain]:
    """Output, and gradients of input, depthwise kernel, pointwise kernel, bias.

    The pointwise product is PyTorch's: in 16 bits it is rounded before the bias is added.
    """
    return [
        Chain(taps + middle + 1, 3 if biased else 2),
        Chain(filters + taps * multiplier, 2),
        Chain(filters + pixels, 2),
        Chain(taps + pixels, 2),
        Chain(pixels, 1),
    ]


def assert_within_chains(
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    magnitudes: Sequence[np.ndarray],
    chains: Sequence[Chain],
    largest: float,
    dtypes: tuple[str, str],
) -> None:
    """Our results and TensorFlow's, computed in two dtypes, are within the sum of their errors."""
    assert len(ours) == len(theirs)
    rows = zip(chains[: len(ours)], ours, theirs, magnitudes, strict=True)
    for number, (chain, mine, reference, magnitude) in enumerate(rows):
        allowed = sum(chain.error(magnitude, largest, dtype) for dtype in dtypes)
        assert_within(mine, reference, allowed, f"result {number}")


def largest_of(example: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(values).max()) for values in example)
