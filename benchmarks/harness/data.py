"""The operands of a case, what must come out, and the verdict on what did.

Operands are small integers, so small that every sum of the case stays below 2^24: float32 holds
each partial sum exactly, in whatever order it is formed.  A float32 result is therefore right only
if it equals the reference, bit for bit, and no tolerance can hide a mistake.  (Times do not depend
on the values: no multiplication is faster for integers, and there are no denormals.)

A 16-bit result is rounded at least once, and some peers round every partial sum.  A sequence of n
such additions of random terms has a relative error of about u sqrt(n / 6) (u = unit roundoff: step
i rounds a sum that has grown to sqrt(i) of sqrt(n), by u / sqrt(3) of its size).  Four times that
is allowed in the root mean square, and never more than 5 %, whatever the reason; a single element
may be off by eight times as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.cases import Case

Array = npt.NDArray[np.float32]
UNIT_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
LARGEST_ERROR = 0.05
RESULTS = {
    "forward": ("output",),
    "backward": ("input_gradient", "filter_gradient"),
    "backward_input": ("input_gradient",),
    "backward_filter": ("filter_gradient",),
    "forward_grad": ("output",),
    "training": ("output", "input_gradient", "filter_gradient"),
}


@dataclass(frozen=True)
class Operands:
    """Float32 arrays that every dtype holds exactly; images are [n, h, w, c]."""

    input: Array
    filter: Array
    grad: Array


def make_operands(case: Case) -> Operands:
    """The same for every run and peer."""
    generator = np.random.default_rng(20)
    longest = math.prod(case.output_shape[:3])  # the sum of one element of the filter gradient
    longest = max(longest, case.layer.taps * case.layer.multiplier)
    limit = min(4, math.isqrt((2**24 - 1) // longest))
    if limit < 1:
        raise ValueError(f"{case.name}: sums of {longest} terms are not exact in float32")

    def integers(shape: tuple[int, ...]) -> Array:
        return generator.integers(-limit, limit + 1, shape, dtype=np.int8).astype(np.float32)

    shapes = case.input_shape, case.layer.filter_shape, case.output_shape
    return Operands(*map(integers, shapes))


def terms(case: Case, result: str) -> int:
    """Products in one sum."""
    if result == "output":
        return case.layer.taps
    if result == "input_gradient":
        return case.layer.taps * case.layer.multiplier
    return math.prod(case.output_shape[:3])


def tolerance(case: Case, result: str) -> float:
    """The relative error, root mean square, that a 16-bit result may have; 0 for float32."""
    if case.dtype == "float32":
        return 0.0
    typical = UNIT_ROUNDOFF[case.dtype] * max(1.0, math.sqrt(terms(case, result) / 6))
    return min(4 * typical, LARGEST_ERROR)


def fault(case: Case, results: dict[str, Array], expected: dict[str, Array]) -> str | None:
    """What is wrong with the results, or None."""
    for name in RESULTS[case.pass_]:
        if name not in results:
            return f"no {name}"
        text = _fault(results[name], expected[name], tolerance(case, name))
        if text is not None:
            return f"wrong {name}: {text}"
    return None


def _fault(result: Array, expected: Array, allowed: float) -> str | None:
    if result.shape != expected.shape:
        return f"shape {result.shape} instead of {expected.shape}"
    difference = np.abs(result - expected)
    if not np.isfinite(difference).all():
        return f"{np.count_nonzero(~np.isfinite(difference))} elements are not finite"
    if allowed == 0.0:
        wrong = np.count_nonzero(difference)
        if wrong:
            return f"{wrong} of {expected.size} elements differ, by up to {difference.max():g}"
        return None
    scale = math.sqrt(np.mean(np.square(expected, dtype=np.float64)))
    error = math.sqrt(np.mean(np.square(difference, dtype=np.float64)))
    if error > allowed * scale:
        return f"an error of {100 * error / scale:.1f} %, {100 * allowed:.1f} % allowed"
    if (difference > 8 * allowed * (np.abs(expected) + scale)).any():
        return f"one element is off by {difference.max():g} (typical value {scale:g})"
    return None


def save(folder: Path, arrays: Iterable[tuple[str, Array]]) -> None:
    """Each into a file of its own."""
    for name, array in arrays:
        np.save(folder / f"{name}.npy", array)


def load(folder: Path, name: str) -> Array:
    """One of the saved, mapped into memory rather than read."""
    array: Array = np.load(folder / f"{name}.npy", mmap_mode="c")
    return array
