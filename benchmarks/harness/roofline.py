"""The least time that a pass can take on a machine with given rates.

    floor = max(bytes / copy rate, flops / multiply-add rate)

Bytes are those of the operands, each read or written once:

    forward          x + w + y
    backward_input   y + w + x
    backward_filter  x + y + w
    backward         2 x + y + 2 w       both gradients in one sweep: x and y read, dx written

Flops are two per tap that meets the image (padding is no work), and the same for each gradient.
The copy rate counts what is read and what is written, and is that of a copy that moves as many
bytes as the pass does, so that a layer that fits into a cache is held to the cache's rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.cases import KERNEL_PASSES, Case

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Rates:
    """What this machine does per second with a number of threads."""

    threads: int
    copies: tuple[tuple[int, float], ...]
    """(bytes moved, bytes per second), by size; what is read and written counts as moved."""
    flops: float
    """Float32 operations, two per multiply-add."""

    def copy_rate(self, moved: float) -> float:
        """Bytes per second of a copy of that size: linear in the logarithm between the measured."""
        sizes = [size for size, _ in self.copies]
        if moved <= sizes[0]:
            return self.copies[0][1]
        for (small, at_small), (large, at_large) in zip(self.copies, self.copies[1:], strict=False):
            if moved <= large:
                share = math.log(moved / small) / math.log(large / small)
                return at_small + share * (at_large - at_small)
        return self.copies[-1][1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Rates:
        """The inverse of ``to_dict``."""
        copies = tuple((int(size), float(rate)) for size, rate in values["copies"])
        return Rates(int(values["threads"]), copies, float(values["flops"]))

    def faster(self, other: Rates) -> Rates:
        """The better of two measurements, number by number: the machine's limit is the larger."""
        pairs = zip(self.copies, other.copies, strict=True)
        copies = tuple((size, max(rate, rate2)) for (size, rate), (_, rate2) in pairs)
        return Rates(self.threads, copies, max(self.flops, other.flops))


@dataclass(frozen=True)
class Work:
    """What a pass must move and compute."""

    moved: int
    flops: int

    def floor(self, rates: Rates) -> float:
        """Seconds."""
        return max(self.moved / rates.copy_rate(self.moved), self.flops / rates.flops)

    def memory_bound(self, rates: Rates) -> bool:
        """Whether moving takes longer than computing."""
        return self.moved / rates.copy_rate(self.moved) >= self.flops / rates.flops


def work(case: Case) -> Work:
    """What the case must move and compute."""
    if case.pass_ not in KERNEL_PASSES:
        raise ValueError(f"{case.pass_} has no roofline")
    x, y = math.prod(case.input_shape), math.prod(case.output_shape)
    w = math.prod(case.layer.filter_shape)
    both = case.pass_ == "backward"
    elements = 2 * x + y + 2 * w if both else x + y + w
    return Work(elements * BYTES[case.dtype], (2 if both else 1) * 2 * multiply_adds(case))


def multiply_adds(case: Case) -> int:
    """Of the forward pass: taps in the padding are skipped, so they do not count."""
    layer = case.layer
    top, _, left, _ = layer.padding
    rows, columns = layer.output_size
    return (
        case.batch
        * layer.lanes
        * _meetings(layer.height, rows, layer.kernel, layer.stride, layer.dilation, top)
        * _meetings(layer.width, columns, layer.kernel, layer.stride, layer.dilation, left)
    )


def _meetings(inputs: int, outputs: int, kernel: int, stride: int, gap: int, before: int) -> int:
    """Pairs of an output and a tap, along one axis, that meet the image."""
    return sum(
        0 <= output * stride + tap * gap - before < inputs
        for output in range(outputs)
        for tap in range(kernel)
    )


def geometric_mean(values: Sequence[float]) -> float:
    """Of at least one positive number."""
    return math.exp(sum(map(math.log, values)) / len(values))
