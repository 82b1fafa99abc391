"""Compares tfcompat_dw with every other CPU implementation of depthwise convolution, in one run.

    python benchmarks/bench.py                       every layer, pass and dtype; takes a while
    python benchmarks/bench.py --layer 14x512 --layer 28x240k5s2 --batch 8 --threads 1
    python benchmarks/bench.py --cliffs              looks for shapes that cost far more than others

Every contestant has a process of its own and they take turns, so that one is awake at a time.  A
time counts only if the result was right.  The machine's copy and multiply-add rates are measured
before and after.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from harness import build, cliffs, machine, report, targets
from harness.cases import CALL_PASSES, DTYPES, LAYERS, ORDERS, PASSES, TINY, Case, Layer
from harness.client import Client
from harness.race import Plan, race
from harness.results import Results, distinct
from harness.settings import FUNCTION, KERNEL, OURS, PEERS, Setting
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

DEFAULT_BATCHES = (1, 8)
PASSES_BY_DEFAULT = ("forward", "backward")
CLIFF_PLAN = Plan(rounds=5, turn_seconds=0.01, pause_seconds=0.0)


def main() -> None:
    """Measure, print, save."""
    options = arguments(sys.argv[1:])
    to = report.console()
    try:
        with to.status("compiling the helpers"):
            build.rates_program()
            build.kernels_library()
    except build.BuildError as error:
        sys.exit(f"bench.py: {error}")
    results = Results(machine.describe())
    bases: list[Case] = []
    if options.cliffs:
        bases = cliff_bases(options)
        cases = distinct(c for base in bases for p in cliffs.STEPS for c in cliffs.sweep(base, p))
        settings, plan = [OURS], CLIFF_PLAN
    else:
        cases = chosen_cases(options)
        settings, plan = contestants(options.peer), Plan(rounds=options.rounds)
    measure_rates(results, distinct(case.threads for case in cases), to)
    report.print_machine(to, results)
    whole = run(results, cases, settings, plan, to)
    measure_rates(results, distinct(case.threads for case in results.cases()), to)
    if options.cliffs:
        report.print_cliffs(to, cliffs.cliffs(results, bases))
        verdicts = [cliffs.verdict(results, bases)]
    else:
        report.print_tables(to, results)
        verdicts = targets.verdicts(results)
    to.print()
    report.print_versions(to, results)
    if options.output is not None:
        results.save(options.output)
        to.print(f"written: {options.output}", style="dim")
    if not whole:
        to.print("interrupted: what follows is about the cases that ran", style="red")
    report.print_verdicts(to, verdicts)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line; lists are None where nothing was given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    several = "; may be repeated"

    def layer(text: str) -> Layer:
        try:
            return Layer.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    def count(text: str) -> int:
        if not text.isdigit() or int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
        return int(text)

    names = [setting.name for setting in PEERS]
    parser.add_argument("--layer", type=layer, action="append", help="as 14x512k5s2d1m1" + several)
    parser.add_argument("--batch", type=count, action="append", help="default: 1 and 8" + several)
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: all" + several)
    parser.add_argument("--threads", type=count, action="append", help="default: 1, all" + several)
    parser.add_argument(
        "--pass",
        dest="pass_",
        choices=PASSES,
        action="append",
        help="default: forward and backward (both gradients)" + several,
    )
    parser.add_argument("--order", choices=ORDERS, action="append", help="default: both" + several)
    parser.add_argument(
        "--peer", choices=[*names, "none"], action="append", help="default: all" + several
    )
    parser.add_argument("--rounds", type=count, default=9, help="turns of everyone (default 9)")
    parser.add_argument("--cliffs", action="store_true", help="look for cliffs instead")
    parser.add_argument("--output", type=Path, help="a JSON file with everything that was measured")
    return parser.parse_args(given)


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """One number of threads after the other, so that each needs its processes once."""
    threads = options.threads or distinct((1, machine.cpu_count()))
    cases = []
    for count in threads:
        cases += [
            Case(layer, batch, dtype, count, pass_, order)
            for order in options.order or ORDERS
            for dtype in options.dtype or DTYPES
            for pass_ in options.pass_ or PASSES_BY_DEFAULT
            for layer in options.layer or LAYERS
            for batch in options.batch or DEFAULT_BATCHES
        ]
        if options.layer is None and not (options.dtype or options.order or options.pass_):
            passes = ("forward", *CALL_PASSES)
            cases += [Case(TINY, 1, "float32", count, pass_) for pass_ in passes]
    return list(distinct(cases))


def cliff_bases(options: argparse.Namespace) -> list[Case]:
    """The shapes around which the sweep moves."""
    if options.layer:
        shapes = [(layer, b) for layer in options.layer for b in options.batch or (8,)]
    else:
        shapes = [(layer, b) for layer, own in cliffs.BASES for b in options.batch or (own,)]
    return [
        Case(layer, batch, dtype, threads, pass_, order)
        for threads in options.threads or (1,)
        for order in options.order or ORDERS
        for dtype in options.dtype or ("float32",)
        for pass_ in options.pass_ or PASSES_BY_DEFAULT
        for layer, batch in shapes
    ]


def contestants(peers: Sequence[str] | None) -> list[Setting]:
    """Ours and the chosen peers."""
    chosen = [setting for setting in PEERS if peers is None or setting.name in peers]
    return [OURS, KERNEL, FUNCTION, *chosen]


def takes_part(setting: Setting, case: Case) -> bool:
    """Our own variants are compared where they differ."""
    if setting is KERNEL:
        return case.pass_ not in CALL_PASSES and case.layer != TINY
    if setting is FUNCTION:
        return case.pass_ in CALL_PASSES or case.layer == TINY
    return True


def measure_rates(results: Results, threads: Sequence[int], to: Console) -> None:
    """Of the machine; the better of what has been measured so far."""
    with to.status("measuring the machine's copy and multiply-add rates"):
        for count in threads:
            rates = machine.measure(count)
            results.rates[count] = rates.faster(results.rates.get(count, rates))


def run(
    results: Results, cases: Sequence[Case], settings: Sequence[Setting], plan: Plan, to: Console
) -> bool:
    """Race them all; False if Ctrl-C ended it early."""
    columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn()
    with ExitStack() as stack:
        bar = stack.enter_context(
            Progress(*columns, TimeRemainingColumn(), console=to, transient=True)
        )
        task = bar.add_task("", total=len(cases) * (plan.rounds + 2))
        try:
            for threads in distinct(case.threads for case in cases):
                with ExitStack() as processes:
                    clients = [Client(setting, threads) for setting in settings]
                    for client in clients:
                        processes.callback(client.close)
                    for case in (case for case in cases if case.threads == threads):
                        bar.update(task, description=case.name)
                        racers = [c for c in clients if takes_part(c.setting, case)]
                        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                            found = race(
                                racers, case, Path(folder), plan, partial(bar.advance, task)
                            )
                        results.add(found)
                        results.versions |= {
                            client.setting.name: client.version
                            for client in clients
                            if client.version is not None
                        }
        except KeyboardInterrupt:
            return False
    return True


if __name__ == "__main__":
    main()
