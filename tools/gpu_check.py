"""Checks and times the CUDA kernels on the machine's own GPU: run by tools/gpu_check.

    tools/gpu_check                             all of it, in 8 minutes
    python tools/gpu_check.py --show FILE       tables, verdicts and pictures of an earlier run
    python tools/gpu_check.py --device cpu      a rehearsal without a GPU: small layers, no graphs

Stages come in the order of their importance, each has a time limit, and what there was no time for
is named; the results are written after each.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

TOOLS = Path(__file__).resolve().parent
sys.path[:0] = [str(TOOLS), str(TOOLS.parent)]

from gpu import parity, pictures, sanitizer, suite, transforms  # noqa: E402
from gpu.bench import bench, copy_rates  # noqa: E402
from gpu.layers import DTYPES, LAYERS, ORDERS, Layer  # noqa: E402
from gpu.peers import variants  # noqa: E402
from gpu.problems import short  # noqa: E402
from gpu.session import Deadline, Session, Stage, run_stages  # noqa: E402
from gpu.tables import findings, times  # noqa: E402
from gpu.timing import Machine, gpu, rehearsal  # noqa: E402

SECONDS = 450
"""Of the whole, the build included: 8 minutes less what the last step and the pictures take."""
OUTPUT = TOOLS.parent / "build" / "gpu_check" / "results.json"
TINY_LAYERS = (Layer(6, 8, 3, 1, 1, 1, 2), Layer(7, 4, 5, 2, 1, 2, 1))
"""Those of a rehearsal."""
COPIED = (1 << 20, 16 << 20, 64 << 20, 256 << 20, 512 << 20)
"""Bytes that copies read and write, before any layer is timed."""
VARIED = LAYERS[:1] + LAYERS[4:5] + LAYERS[6:8]
"""The layers on which PyTorch's other kernels are timed."""


# ---- stages --------------------------------------------------------------------------------------


def copy_stage(seconds: float, machine: Machine) -> Stage:
    """What the GPU's memory can do."""

    def run(session: Session, deadline: Deadline) -> None:
        rates = copy_rates(COPIED if session.device == "cuda" else COPIED[:1], machine)
        session.about["copy_rates"] = rates
        for moved, by_method in rates.items():
            print(f"{int(moved) / 1e6:6.1f} MB, TB/s:", by_method, flush=True)

    return Stage("copy rate", seconds, run)


def bench_stage(
    seconds: float, machine: Machine, layers: Sequence[Layer], order: str, dtype: str
) -> Stage:
    """Times of all layers in a memory order and a dtype."""

    def run(session: Session, deadline: Deadline) -> None:
        bench(session.report, session.rows, deadline, machine, layers, dtype, order)

    return Stage(f"benchmark {order} {dtype}", seconds, run, resumes=True)


def variants_stage(seconds: float, machine: Machine, layers: Sequence[Layer], dtype: str) -> Stage:
    """Times of the kernels that PyTorch takes only if it is told to."""

    def run(session: Session, deadline: Deadline) -> None:
        bench(
            *(session.report, session.variants, deadline, machine),
            *(layers, dtype, "nhwc", variants()),
        )

    return Stage(f"PyTorch's other kernels, {dtype}", seconds, run)


def sanitizer_stage(seconds: float, tool: str) -> Stage:
    """A short parity run under one of compute-sanitizer's tools."""

    def run(session: Session, deadline: Deadline) -> None:
        verdict = sanitizer.check_sanitizer(session.report, session.device, deadline, tool)
        session.about.setdefault("sanitizer", []).append(verdict)

    return Stage(f"compute-sanitizer {tool}", seconds, run)


def check_parity(session: Session, deadline: Deadline) -> None:
    """The kernels' numbers."""
    chosen = None if session.device == "cuda" else list(short())
    parity.check_parity(session.report, session.device, deadline, chosen)
    parity.check_views(session.report, session.device)


def check_determinism(session: Session, deadline: Deadline) -> None:
    """Bits."""
    parity.check_determinism(session.report, session.device, deadline)
    parity.check_another_process(session.report, session.device, deadline)


def check_transforms(session: Session, deadline: Deadline) -> None:
    """Autograd, autocast, compilation, streams and graphs."""
    if session.device == "cuda":
        checks = transforms.ON_A_GPU
        transforms.check_all(session.report, session.device, deadline, "streams", checks)
    checks = transforms.ANYWHERE
    transforms.check_all(session.report, session.device, deadline, "transforms", checks)


def run_tests(session: Session, deadline: Deadline) -> None:
    """Those marked cuda."""
    suite.run_suite(session.report, deadline)


def stages(machine: Machine, layers: Sequence[Layer], checks: bool, timings: bool) -> list[Stage]:
    """All of them, the most important first."""
    is_checked = (
        Stage("parity", 120, check_parity, resumes=True),
        Stage("determinism", 45, check_determinism),
        Stage("transforms", 60, check_transforms),
    )
    varied = [layer for layer in layers if layer in VARIED] or layers
    timed = [bench_stage(45, machine, layers, order, dtype) for order in ORDERS for dtype in DTYPES]
    found: list[Stage] = []
    if checks:
        found += is_checked
    if timings:
        found += [copy_stage(15, machine), *timed[:1]]
    if checks:
        found.append(sanitizer_stage(60, "memcheck"))
    if timings:
        found += timed[1 : len(DTYPES) + 1]  # the rest of NHWC, and NCHW float32
    if checks:
        found.append(Stage("tests", 90, run_tests))
    if timings:
        found += timed[len(DTYPES) + 1 :]
    if checks:
        found.append(sanitizer_stage(45, "racecheck"))
    if timings:
        found += [variants_stage(20, machine, varied, dtype) for dtype in DTYPES]
    return found


# ---- the program ---------------------------------------------------------------------------------


def about(device: str) -> dict[str, Any]:
    """What the results belong to."""
    named: dict[str, Any] = {"gpu": "none: a rehearsal on the CPU"}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        named = {"gpu": properties.name, "multiprocessors": properties.multi_processor_count}
    return {
        **named,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
    }


def show(content: dict[str, Any], path: Path) -> None:
    """Findings, tables, verdicts, pictures."""
    print("\n".join([*findings(content), "", *times(content)]), flush=True)
    try:
        for picture in pictures.write(content["rows"], content["gpu"], path):
            print(picture)
    except ImportError:
        print("no pictures: matplotlib is not installed; draw them elsewhere with --show")
    except Exception as error:  # an old matplotlib: the results are what matters
        print(f"no pictures: {type(error).__name__}: {error}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the results, JSON")
    parser.add_argument("--show", type=Path, metavar="FILE", help="an earlier run's results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--no-check", action="store_true", help="times alone")
    parser.add_argument("--no-bench", action="store_true", help="checks alone")
    parser.add_argument("--layers", help="which are timed, by number from 0: 0,2,5")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the whole")
    parser.add_argument("--started", type=float, help="when the build began, in seconds since 1970")
    parser.add_argument("--resume", action="store_true", help="goes on with what a run has left")
    parser.add_argument("--save-bits", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--short-parity", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def as_another_process(options: argparse.Namespace) -> bool:
    """What a run starts in processes of their own."""
    if options.save_bits:
        torch.save(parity.all_bits(options.device), options.save_bits)
    elif options.short_parity:
        wrong = sanitizer.short_parity(options.device)
        print("\n".join(wrong) or sanitizer.ALL_RIGHT)
    else:
        return False
    return True


def main() -> None:
    """Checks, then times, then pictures."""
    options = arguments()
    if options.show:
        show(json.loads(options.show.read_text()), options.show)
        return
    if as_another_process(options):
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("tools/gpu_check: PyTorch finds no GPU; --device cpu rehearses without one")
    machine = gpu() if options.device == "cuda" else rehearsal()
    layers: Sequence[Layer] = LAYERS if options.device == "cuda" else TINY_LAYERS
    if options.layers:
        layers = tuple(layers[int(number)] for number in options.layers.split(","))
    used = time.time() - options.started if options.started else 0.0
    session = Session(options.device, options.output, about(options.device), layers)
    session.started = options.started or 0.0
    if options.resume:
        session.resume()
        print(f"\n== going on in process {session.processes}", flush=True)
    else:
        print(", ".join(f"{name} {value}" for name, value in session.about.items()))
        if used:
            print(f"built in {used:.0f} s")
    chosen = stages(machine, layers, not options.no_check, not options.no_bench)
    run_stages(session, chosen, Deadline(max(0.0, options.seconds - used)))
    print()
    show(session.content(), options.output)
    print(options.output)
    unchecked = not options.no_check and not session.report.counts
    if unchecked:
        print("nothing was checked: there was no time left")
    sys.exit(1 if session.report.failures or unchecked else 0)


if __name__ == "__main__":
    main()
