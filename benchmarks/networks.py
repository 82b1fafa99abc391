"""Times whole networks: stock PyTorch layers against the same after ``replace_depthwise``.

    python benchmarks/networks.py                      all networks, inference and a training step
    python benchmarks/networks.py --network MobileNetV2 --batch 8 --threads 1

All variants of a network have the same weights and images, live in one process and take turns.  A
time counts only if outputs, and for training the gradients, agree with those of the stock layers.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import machine, report
from harness.cases import count_of_threads
from harness.client import KEEP_MEMORY
from harness.networks import CLASSES, IMAGE_SIZE, NETWORKS, initialize
from harness.targets import Verdict
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tfcompat_dw

MODES = ("inference", "training")
STOCK = ("stock contiguous", "stock channels_last")
OURS = "ours"
SMALLEST_RATIO = {"inference": 1.0, "training": 1.5}
"""Ours over the faster of the two stock formats."""
SHARE_OF_ONE, SHARE_OF_ALL = 1e-4, 1e-6
"""How far the output and each gradient may be from those of the stock layers, in Euclidean norms,
relative to its own and to all of them, beyond three times what the two stock formats are from each
other: batch norms and ReLU6 magnify rounding to 1e-2 in MobileNetV2's gradients."""
SEED = 0


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    network: str
    mode: str
    batch: int
    threads: int


@dataclass(frozen=True)
class Timing:
    """Median seconds by variant."""

    case: Case
    seconds: dict[str, float]

    @property
    def ratio(self) -> float:
        """The faster stock format's time over ours."""
        return min(self.seconds[name] for name in STOCK) / self.seconds[OURS]


def main() -> None:
    """Measure, print, save."""
    if any(os.environ.get(name) != value for name, value in KEEP_MEMORY.items()):
        sys.exit(subprocess.call([sys.executable, *sys.argv], env={**os.environ, **KEEP_MEMORY}))
    options = arguments()
    to = report.console()
    timings = []
    for threads in options.threads or sorted({1, machine.cpu_count()}):
        torch.set_num_threads(threads)
        for network in options.network or NETWORKS:
            for mode in options.mode or MODES:
                for batch in options.batch or ((8,) if mode == "training" else (1, 8)):
                    case = Case(network, mode, batch, threads)
                    with to.status(
                        f"{network}, {mode}, batch {batch}, {count_of_threads(threads)}"
                    ):
                        timings.append(measure(case, options.rounds))
    print_table(to, timings)
    if options.output is not None:
        save(options.output, timings)
        to.print(f"written: {options.output}", style="dim")
    report.print_verdicts(to, list(verdicts(timings)))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--mode", choices=MODES, action="append")
    parser.add_argument("--batch", type=int, action="append", help="default: 1 and 8; training 8")
    parser.add_argument("--threads", type=int, action="append", help="default: 1 and all")
    parser.add_argument("--rounds", type=int, default=7, help="turns of everyone (default 7)")
    parser.add_argument("--output", type=Path, help="a JSON file")
    return parser.parse_args()


def measure(case: Case, rounds: int) -> Timing:
    """The variants' times, by turns."""
    torch.manual_seed(SEED)
    network = initialize(NETWORKS[case.network]()).train(case.mode == "training")
    images = torch.randn(case.batch, 3, IMAGE_SIZE, IMAGE_SIZE)
    labels = torch.randint(CLASSES, (case.batch,))
    steps = {}
    found = {}
    for name in (*STOCK, OURS):
        variant = variant_of(network, name)
        steps[name] = step_of(variant, case.mode, in_format(images, name), labels)
        output = steps[name]()
        grads = [p.grad for p in variant.parameters() if p.grad is not None]
        found[name] = [output, *grads]
    check(case, found)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return Timing(case, {name: statistics.median(turns) for name, turns in times.items()})


def variant_of(network: nn.Module, name: str) -> nn.Module:
    """A copy in the variant's memory format, with our layers in ours."""
    variant = copy.deepcopy(network)
    if name != STOCK[0]:
        variant = variant.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if name == OURS:
        tfcompat_dw.replace_depthwise(variant)
    return variant


def in_format(images: Tensor, name: str) -> Tensor:
    """The images as the variant likes them."""
    return images if name == STOCK[0] else images.contiguous(memory_format=torch.channels_last)


def step_of(network: nn.Module, mode: str, images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """One inference, or one training step but for the optimizer: the same for all variants."""
    if mode == "inference":

        def infer() -> Tensor:
            with torch.inference_mode():
                result: Tensor = network(images)
                return result

        return infer

    def train() -> Tensor:
        network.zero_grad(set_to_none=True)
        output: Tensor = network(images)
        F.cross_entropy(output, labels).backward()
        return output.detach()

    return train


def check(case: Case, found: dict[str, list[Tensor]]) -> None:
    """A result that is wrong has no time."""
    whole = float(torch.cat([tensor.flatten() for tensor in found[STOCK[0]]]).norm())
    for index, tensors in enumerate(zip(*(found[name] for name in (*STOCK, OURS)), strict=True)):
        stock, other, ours = tensors
        error, apart = float((ours - stock).norm()), float((other - stock).norm())
        allowed = 3 * apart + SHARE_OF_ONE * float(stock.norm()) + SHARE_OF_ALL * whole
        if not error <= allowed:
            what = "the output" if index == 0 else f"gradient {index} of {len(found[OURS]) - 1}"
            sys.exit(f"networks.py: {case}: {what} is off by {error:.1e}, allowed {allowed:.1e}")


def print_table(to: Console, timings: list[Timing]) -> None:
    """Milliseconds."""
    table = Table(title="milliseconds, 224 x 224", title_justify="left", title_style="bold")
    for column in ("network", "mode"):
        table.add_column(column)
    for column in ("batch", "threads", *STOCK, OURS, "times the faster"):
        table.add_column(column, justify="right")
    for timing in timings:
        case = timing.case
        times = [f"{1e3 * timing.seconds[name]:.1f}" for name in (*STOCK, OURS)]
        table.add_row(
            *(case.network, case.mode, str(case.batch), str(case.threads)),
            *times,
            f"{timing.ratio:.2f}x",
        )
    to.print(table)


def verdicts(timings: list[Timing]) -> Iterator[Verdict]:
    """One per mode and number of threads."""
    for mode in MODES:
        for threads in sorted({timing.case.threads for timing in timings}):
            chosen = [t for t in timings if (t.case.mode, t.case.threads) == (mode, threads)]
            if not chosen:
                continue
            worst = min(chosen, key=lambda timing: timing.ratio)
            target = SMALLEST_RATIO[mode]
            yield Verdict(
                worst.ratio >= target,
                f"whole networks, {mode}, {count_of_threads(threads)}: worst "
                f"{worst.ratio:.2f}x (target {target:g}x) on {worst.case.network} batch "
                f"{worst.case.batch}; {len(chosen)} cases",
            )


def save(path: Path, timings: list[Timing]) -> None:
    """Machine and medians."""
    content = {
        "machine": machine.describe(),
        "torch": torch.__version__,
        "timings": [asdict(timing) for timing in timings],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
