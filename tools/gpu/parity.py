"""The kernels' numbers: right, wherever the operands lie, and the same in every run."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gpu.problems import (
    RESULTS,
    Shape,
    everything,
    exact,
    noise,
    reference_results,
    results,
    same_bits,
    shapes,
    single_gradients,
)
from gpu.process import run_within
from gpu.session import Deadline, Report
from tfcompat_dw.arguments import DTYPES

CASE_SECONDS = 20.0
"""After which a kernel does not end."""


def poison(device: str) -> None:
    """What the allocator of a GPU hands out next, of small and of large blocks, is full of NaN."""
    if device == "cuda":
        torch.cuda.empty_cache()
        blocks = [64 << 20, *[1 << 17] * 64, *[1 << 14] * 64, *[1 << 11] * 64, *[1 << 7] * 64]
        # every bit set: a NaN in every dtype
        _ = [torch.full((size,), -1, dtype=torch.int32, device=device) for size in blocks]


def differences(
    got: Sequence[Tensor], expected: Sequence[Tensor], names: Sequence[str] = RESULTS
) -> list[str]:
    """Results that are further from the float64 ones than one unit in the last place."""
    found = []
    for name, a, b in zip(names, got, expected, strict=True):
        error = (a.cpu().double() - b).abs()
        # sums are exact in float32, a 16-bit result is one rounding away: half a unit; the largest
        # sums in float32 are beyond 2^24 / 256 and lose their last bits: a unit
        limit = b.abs() * torch.finfo(a.dtype).eps
        if not bool((error <= limit).all()):
            found.append(f"{name} by {float((error - limit).max()):.3g}")
    return found


def check_parity(
    report: Report, device: str, deadline: Deadline, chosen: Sequence[Shape] | None = None
) -> None:
    """Every kernel against the float64 reference, which the CPU kernels have to equal."""
    generator = torch.Generator().manual_seed(1)
    cases = list(shapes()) if chosen is None else chosen
    for shape in report.remaining("parity", cases):
        if deadline.over:
            left = len(cases) - report.progress["parity"] + 1
            report.leave_out(f"parity: the last {left} of {len(cases)} shapes")
            return
        tensors = exact(shape, generator)
        expected = reference_results(tensors, shape)
        on_cpu = zip(RESULTS, results(tensors, shape), expected, strict=True)
        wrong = [name for name, one, other in on_cpu if not torch.equal(one, other)]
        report.case("CPU kernels", str(shape), wrong)
        for dtype in DTYPES:
            own = [tensor.to(device, dtype) for tensor in tensors]
            compare = functools.partial(compare_poisoned, own, shape, expected, device)
            report.attempt("parity", f"{dtype} {shape}", device, compare, CASE_SECONDS)


def compare_poisoned(
    own: Sequence[Tensor], shape: Shape, expected: Sequence[Tensor], device: str
) -> list[str]:
    """What differs of all results, and of the gradients one by one."""
    poison(device)
    wrong = differences(results(own, shape), expected)
    poison(device)
    single = single_gradients(own, shape)
    return wrong + differences(single, expected[1:3], ("input grad alone", "filter grad alone"))


def check_views(report: Report, device: str) -> None:
    """Slices, transposes and odd addresses."""
    generator = torch.Generator().manual_seed(2)
    seen = []
    for last in (True, False):
        shape = Shape(2, 13, 12, 16, (3, 3), channels_last=last)
        tensors = exact(shape, generator)
        seen.append((shape, tensors, reference_results(tensors, shape)))
    cases = list(itertools.product(DTYPES, VIEWS, seen))
    for dtype, name, (shape, tensors, expected) in report.remaining("views", cases):
        own = [tensor.to(device, dtype) for tensor in tensors]
        compare = functools.partial(VIEWS[name], own, shape, expected)
        title = f"{dtype} {name}, {'NHWC' if shape.channels_last else 'NCHW'}"
        report.attempt("views", title, device, compare, CASE_SECONDS)


Operands = list[Tensor]
View = Callable[[Operands, Shape, Sequence[Tensor]], list[str]]


def at_offset(offset: int) -> View:
    """Each operand begins some elements after an aligned address, among NaN."""

    def compare(own: Operands, shape: Shape, expected: Sequence[Tensor]) -> list[str]:
        views = []
        for tensor in own:
            room = tensor.new_full((tensor.numel() + 8,), math.nan)
            view = room[offset : offset + tensor.numel()].view(tensor.shape)
            views.append(view.copy_(tensor))
        return differences(results(views, shape), expected)

    return compare


def every_other(own: Operands, shape: Shape, expected: Sequence[Tensor]) -> list[str]:
    """Elements with others between them."""
    strided = [torch.stack([tensor, tensor], -1)[..., 0] for tensor in own]
    return differences(results(strided, shape), expected)


def in_the_other_order(own: Operands, shape: Shape, expected: Sequence[Tensor]) -> list[str]:
    """NCHW by name and NHWC in memory, or the other way round, and so are the results."""
    there, back = (0, 3, 1, 2), (0, 2, 3, 1)
    if not shape.channels_last:
        there, back = back, there
    x, f, b, grad = own
    other = dataclasses.replace(shape, channels_last=not shape.channels_last)
    got = results([x.permute(there), f, b, grad.permute(there)], other)
    got[:2] = [tensor.permute(back) for tensor in got[:2]]
    in_order = got[0].is_contiguous()
    return differences(got, expected) + ([] if in_order else ["result not in the input's order"])


VIEWS: dict[str, View] = {
    "offset 1": at_offset(1),
    "offset 3": at_offset(3),
    "every other": every_other,
    "the other order by name": in_the_other_order,
}


# ---- the same bits -------------------------------------------------------------------------------

SPLIT = (  # sums that many blocks share
    Shape(8, 56, 56, 32, (3, 3)),
    Shape(8, 57, 55, 33, (5, 5), stride=(2, 2)),
    Shape(16, 14, 14, 64, (7, 7)),
    Shape(8, 28, 28, 24, (3, 3), multiplier=2),
    Shape(8, 56, 56, 32, (3, 3), channels_last=False),
    Shape(16, 14, 14, 64, (5, 5), channels_last=False),
)
RUNS = 5
PROGRAM = Path(__file__).resolve().parent.parent / "gpu_check.py"


def check_determinism(
    report: Report, device: str, deadline: Deadline, chosen: Sequence[Shape] = SPLIT
) -> None:
    """Run to run, beside other work on the GPU."""
    for shape in chosen:
        if deadline.over:
            report.leave_out(f"determinism: {shape}: no time")
            continue
        for dtype in DTYPES:
            compare = functools.partial(runs_that_differ, shape, dtype, device)
            report.attempt("determinism", f"{dtype} {shape}", device, compare)


def runs_that_differ(shape: Shape, dtype: torch.dtype, device: str) -> list[str]:
    """From the first."""
    operands = noise(shape, dtype, device)
    first = everything(operands, shape)
    wrong = []
    for run in range(2, RUNS + 1):
        poison(device)
        disturb(device)
        if not all(map(same_bits, first, everything(operands, shape))):
            wrong.append(f"run {run} gave other bits")
    return wrong


def disturb(device: str) -> None:
    """Work on another stream, so that blocks start in another order."""
    if device == "cuda":
        with torch.cuda.stream(torch.cuda.Stream()):
            matrix = torch.ones(2048, 2048, device=device)
            for _ in range(4):
                matrix = matrix @ matrix / 2048


def all_bits(device: str) -> list[Tensor]:
    """Of all of ``SPLIT``, on the CPU."""
    found: list[Tensor] = []
    for shape, dtype in itertools.product(SPLIT, DTYPES):
        found += [tensor.cpu() for tensor in everything(noise(shape, dtype, device), shape)]
    return found


def check_another_process(report: Report, device: str, deadline: Deadline) -> None:
    """A process of its own gives the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bits.pt"
        command = [sys.executable, str(PROGRAM), "--device", device, "--save-bits", str(path)]
        finished = run_within(command, deadline.left)
        if finished.status is None:
            report.leave_out("determinism in another process: no time")
            return
        if finished.status != 0:
            report.case("determinism", "another process", [finished.last_line])
            return
        there = torch.load(path, weights_only=True)
    same = all(map(same_bits, all_bits(device), there))
    report.case("determinism", "another process", [] if same else ["gave other bits"])
