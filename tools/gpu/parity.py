"""The kernels' numbers: right, wherever the operands lie, and the same in every run."""

from __future__ import annotations

import itertools
import math
import sys
import tempfile
from collections.abc import Sequence
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


def poison(device: str) -> None:
    """What the allocator of a GPU hands out next, of small and of large blocks, is full of NaN."""
    if device == "cuda":
        blocks = [64 << 20, *[1 << 17] * 64]
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
    for done, shape in enumerate(cases):
        if deadline.over:
            report.leave_out(f"parity: the last {len(cases) - done} of {len(cases)} shapes")
            return
        tensors = exact(shape, generator)
        expected = reference_results(tensors, shape)
        on_cpu = zip(RESULTS, results(tensors, shape), expected, strict=True)
        wrong = [name for name, one, other in on_cpu if not torch.equal(one, other)]
        report.case("CPU kernels", str(shape), wrong)
        for dtype in DTYPES:
            own = [tensor.to(device, dtype) for tensor in tensors]
            poison(device)
            wrong = differences(results(own, shape), expected)
            poison(device)
            wrong += differences(
                single_gradients(own, shape),
                expected[1:3],
                ("input grad alone", "filter grad alone"),
            )
            report.case("parity", f"{dtype} {shape}", wrong)


def check_views(report: Report, device: str) -> None:
    """Slices, transposes and odd addresses."""
    generator = torch.Generator().manual_seed(2)
    shape = Shape(2, 13, 12, 16, (3, 3))
    for dtype in DTYPES:
        tensors = exact(shape, generator)
        expected = reference_results(tensors, shape)
        own = [tensor.to(device, dtype) for tensor in tensors]
        for offset in (1, 3):
            views = []
            for tensor in own:
                room = torch.full((tensor.numel() + 8,), math.nan, dtype=dtype, device=device)
                view = room[offset : offset + tensor.numel()].view(tensor.shape)
                views.append(view.copy_(tensor))
            wrong = differences(results(views, shape), expected)
            report.case("views", f"{dtype} offset {offset}", wrong)
        strided = [torch.stack([tensor, tensor], -1)[..., 0] for tensor in own]
        wrong = differences(results(strided, shape), expected)
        report.case("views", f"{dtype} every other", wrong)
        nchw = Shape(2, 13, 12, 16, (3, 3), channels_last=False)
        x, f, b, grad = own
        got = results([x.permute(0, 3, 1, 2), f, b, grad.permute(0, 3, 1, 2)], nchw)
        in_order = got[0].is_contiguous(memory_format=torch.channels_last)
        got[:2] = [tensor.permute(0, 2, 3, 1) for tensor in got[:2]]
        wrong = differences(got, expected)
        wrong += [] if in_order else ["result not in channels_last order"]
        report.case("views", f"{dtype} channels_last memory", wrong)


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
            operands = noise(shape, dtype, device)
            first = everything(operands, shape)
            wrong = []
            for run in range(2, RUNS + 1):
                poison(device)
                disturb(device)
                if not all(map(same_bits, first, everything(operands, shape))):
                    wrong.append(f"run {run} gave other bits")
            report.case("determinism", f"{dtype} {shape}", wrong)


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
