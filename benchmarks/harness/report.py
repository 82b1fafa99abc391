"""Tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cases import KERNEL_PASSES, Case, count_of_threads
from harness.cliffs import Cliff
from harness.race import Measurement
from harness.results import Results, distinct
from harness.roofline import Rates
from harness.settings import KERNEL, OURS, OWN, PEERS, TITLES
from harness.targets import Verdict

WIDTH = 210
"""Of what is not a terminal, a file for instance."""


def console() -> Console:
    """Where everything is printed."""
    usual = Console(highlight=False)
    return usual if usual.is_terminal else Console(highlight=False, width=WIDTH)


def print_machine(to: Console, results: Results) -> None:
    """What it is and what it can do."""
    machine = results.machine
    processor = escape(machine["processor"])
    to.print(f"[bold]{processor}[/], {machine['cpus']} CPUs, {machine['system']}")
    to.print(", ".join(machine["caches"]) + f"; load before the run {machine['load_before']}")
    for rates in results.rates.values():
        print_rates(to, rates)


def print_rates(to: Console, rates: Rates) -> None:
    """One line per number of threads."""
    copies = ", ".join(f"{_size(size)} {rate / 1e9:.0f}" for size, rate in rates.copies)
    to.print(f"{count_of_threads(rates.threads)}: {rates.flops / 1e9:.0f} GFLOP/s of multiply-adds")
    to.print(f"  copies (read + write), GB/s by bytes moved: {copies}")


def print_tables(to: Console, results: Results) -> None:
    """A table per pass, dtype, memory order and number of threads."""
    for cases in groups(results):
        to.print()
        to.print(_table(results, cases))
        for line in _reasons(results, cases):
            to.print(line, style="dim")


def groups(results: Results) -> list[list[Case]]:
    """The cases of each pass, dtype, memory order and number of threads."""
    found: dict[tuple[str, str, str, int], list[Case]] = {}
    for case in results.cases():
        found.setdefault((case.pass_, case.dtype, case.order, case.threads), []).append(case)
    return list(found.values())


def _table(results: Results, cases: Sequence[Case]) -> Table:
    first = cases[0]
    table = Table(
        title=f"{first.kind}: microseconds (± interquartile range)",
        title_justify="left",
        title_style="bold",
    )
    settings = _settings(results, cases)
    has_roofline = first.pass_ in KERNEL_PASSES
    table.add_column("layer", no_wrap=True)
    table.add_column("batch", justify="right")
    for setting in settings:
        style = "bold" if setting == OURS.name else ""
        table.add_column(TITLES.get(setting, setting), justify="right", style=style)
    table.add_column("times the\nfastest", justify="right")
    if has_roofline:
        table.add_column("floor", justify="right")
        table.add_column("share,\nkernel", justify="right")
        table.add_column("share,\ncall", justify="right")
    for case in cases:
        measured = results.of(case)
        row = [case.layer.name, str(case.batch)]
        row += [_cell(measured.get(setting)) for setting in settings]
        row.append(_ratio(results, case))
        if has_roofline:
            floor = results.floor(case)
            row.append(_digits(floor * 1e6))
            row += [_share(floor, results.seconds(case, s.name)) for s in (KERNEL, OURS)]
        table.add_row(*row)
    return table


def _settings(results: Results, cases: Sequence[Case]) -> list[str]:
    """Those that took part, in the usual order, then any others."""
    present = {setting for case in cases for setting in results.of(case)}
    usual = [setting.name for setting in (*OWN, *PEERS) if setting.name in present]
    return usual + sorted(present - set(usual))


def _cell(measurement: Measurement | None) -> str:
    if measurement is None:
        return ""
    if measurement.seconds is None:
        return "[red]WRONG[/]" if (measurement.reason or "").startswith("wrong") else "[dim]n/a[/]"
    spread = measurement.spread
    uncertain = "" if spread is None else f" ±{100 * spread:.0f}%"
    return _digits(measurement.seconds * 1e6) + uncertain


def speed(results: Results, case: Case) -> float | None:
    """How many times the speed of the fastest peer we have."""
    best = results.fastest(case, [setting.name for setting in PEERS])
    ours = results.seconds(case, OURS.name)
    return None if best is None or ours is None else best[1] / ours


def _ratio(results: Results, case: Case) -> str:
    ratio = speed(results, case)
    if ratio is None:
        return "n/a"
    color = "green" if ratio >= 1 else "red"
    return f"[{color}]{ratio:.2f}x[/]"


def _share(floor: float, seconds: float | None) -> str:
    return "n/a" if seconds is None else f"{100 * floor / seconds:.0f} %"


def _reasons(results: Results, cases: Sequence[Case]) -> list[str]:
    """Why there are times missing: never silently."""
    counted = Counter(
        (setting, measurement.reason)
        for case in cases
        for setting, measurement in results.of(case).items()
        if measurement.reason is not None
    )
    return [
        f"n/a: {TITLES.get(setting, setting)}: {escape(str(reason))} "
        f"({count} of {len(cases)} layer{'s' if len(cases) > 1 else ''})"
        for (setting, reason), count in counted.items()
    ]


def print_cliffs(to: Console, found: Sequence[Cliff]) -> None:
    """Every shape over the limit, beside its neighbour."""
    table = Table(title="Steps of more than 2x in time over roofline time", title_justify="left")
    for name in ("moved", "shape", "microseconds", "time / floor", "neighbour", "its", "step"):
        is_text = name in ("moved", "shape", "neighbour")
        table.add_column(name, justify="left" if is_text else "right")
    for cliff in found:
        table.add_row(
            cliff.parameter,
            cliff.case.name,
            _digits(cliff.seconds * 1e6),
            f"{cliff.cost:.1f}",
            cliff.neighbour.layer.name,
            f"{cliff.neighbours_cost:.1f}",
            f"{cliff.step:.1f}x",
        )
    to.print(table)


def print_versions(to: Console, results: Results) -> None:
    """Of everything that was compared."""
    settings = distinct(results.versions)
    to.print(", ".join(f"{TITLES.get(s, s)} {results.versions[s]}" for s in settings), style="dim")


def print_verdicts(to: Console, verdicts: Sequence[Verdict]) -> None:
    """The last lines."""
    for verdict in verdicts:
        to.print(str(verdict), style="green" if verdict.met else "red", markup=False)


def _digits(value: float) -> str:
    """Three significant ones."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _size(size: int) -> str:
    return f"{size >> 20}M" if size >= 1 << 20 else f"{size >> 10}K"
