"""The sweep for cliffs: shapes that cost far more than their neighbours.

One parameter moves at a time, around a few base shapes.  The cost of a shape is its time over its
roofline time.  A shape is a cliff if its call takes at least 50 microseconds and its cost is more
than twice that of the shape one step away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from harness.cases import Case, Layer
from harness.results import Results
from harness.settings import OURS
from harness.targets import Verdict

BASES = (
    (Layer.parse("28x64"), 16),
    (Layer.parse("112x3"), 32),
    (Layer.parse("14x512"), 8),
    (Layer.parse("56x7x256"), 8),
)
"""Ordinary, few channels, many channels, narrow; with the batch."""
STEPS: dict[str, tuple[int, ...]] = {
    "kernel": (*range(1, 14), 31),
    "stride": (1, 2, 3),
    "dilation": (1, 2, 3, 4),
    "channels": (
        *range(1, 18),
        *(23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 79, 80, 96, 97, 127, 128, 129),
        *(160, 191, 192, 193, 255, 256, 257, 333, 384, 480, 512, 513, 728, 1000, 1023, 1024),
    ),
    "multiplier": tuple(range(1, 9)),
    "width": tuple(range(1, 114)),
}
SMALLEST_CALL = 50e-6
LARGEST_STEP = 2.0
MOST_ELEMENTS = 24_000_000
"""Of input and output together: larger shapes of a sweep are left out."""


def sweep(base: Case, parameter: str) -> list[Case]:
    """The base with every value of one parameter, the base's own included."""
    own = getattr(base.layer, parameter)
    values = sorted({*STEPS[parameter], own})
    cases = [replace(base, layer=replace(base.layer, **{parameter: value})) for value in values]
    return [case for case in cases if _elements(case) <= MOST_ELEMENTS]


def _elements(case: Case) -> int:
    return math.prod(case.input_shape) + math.prod(case.output_shape)


@dataclass(frozen=True)
class Cliff:
    """A shape, its cheaper neighbour, and what they cost (time over roofline time)."""

    parameter: str
    case: Case
    neighbour: Case
    seconds: float
    cost: float
    neighbours_cost: float

    @property
    def step(self) -> float:
        """How much more the shape costs."""
        return self.cost / self.neighbours_cost


def cliffs(results: Results, bases: Sequence[Case], setting: str = OURS.name) -> list[Cliff]:
    """All of them, the highest first; a shape that is one on both sides is there twice."""
    found: set[Cliff] = set()
    for base in bases:
        for parameter in STEPS:
            found.update(_in_sweep(results, base, parameter, setting))
    return sorted(found, key=lambda cliff: -cliff.step)


def _in_sweep(results: Results, base: Case, parameter: str, setting: str) -> Iterator[Cliff]:
    costs = []
    for case in sweep(base, parameter):
        seconds = results.seconds(case, setting)
        if seconds is not None:
            costs.append((case, seconds, seconds / results.floor(case)))
    for one, other in pairwise(costs):
        high, low = (one, other) if one[2] > other[2] else (other, one)
        if high[1] >= SMALLEST_CALL and high[2] > LARGEST_STEP * low[2]:
            yield Cliff(parameter, high[0], low[0], high[1], high[2], low[2])


def verdict(results: Results, bases: Sequence[Case]) -> Verdict:
    """Whether the sweep found none."""
    found = cliffs(results, bases)
    cases = results.cases()
    judged = [t for c in cases if (t := results.seconds(c, OURS.name)) and t >= SMALLEST_CALL]
    failed = [c for c in cases if results.seconds(c, OURS.name) is None]
    text = f"no cliffs: {len(found)} steps of more than {LARGEST_STEP:g}x"
    if found:
        text += f", the highest {found[0].step:.1f}x at {found[0].case.name}"
    text += f"; {len(cases)} shapes, {len(judged)} of at least {SMALLEST_CALL * 1e6:.0f} us"
    if failed:
        text += f"; no time for {len(failed)}, as {failed[0].name}"
    return Verdict(not found and not failed, text)
