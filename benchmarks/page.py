"""Writes docs/benchmarks.md and the README's table from the results that are committed.

python benchmarks/page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import networks
import plot
from harness import cliffs, report, targets
from harness.cases import TINY, Case
from harness.results import Results, distinct
from harness.roofline import geometric_mean
from harness.settings import KERNEL, OURS, PEERS, TITLES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CPU = ("cpu_tiny.json", "cpu_float32.json", "cpu_16bit.json")
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "benchmarks.png"
README = ROOT / "README.md"
MOST_CLIFFS = 40
"""On the page; the rest is in the results."""
PEER_NAMES = [setting.name for setting in PEERS]

TEXT = """\
# CPU benchmarks

{machine}. `make bench` measured it, `python benchmarks/page.py` wrote this page; every turn of
every contestant is in [benchmarks/results](../benchmarks/results). Times are microseconds, medians
of interleaved turns. *Speed* is the fastest peer's time over ours. The *floor* is what copy and
multiply-add rates of the machine allow; *share* is the floor over our kernel's time.

## Targets

{verdicts}

## Whole networks

Stock PyTorch layers against the same after `replace_depthwise`, milliseconds, 224 x 224 images;
*speed* is over the faster of the two stock formats. The rest of a network (1 x 1 convolutions,
norms, activations) takes most of its time and is PyTorch's in both.

{networks}

## Cliffs

{cliffs}

## Layers

{layers}
"""


def main() -> None:
    """Write both, and the picture."""
    results = cpu_results()
    PAGE.write_text(page(results))
    README.write_text(readme(results, README.read_text()))
    panels = {
        panel: cases
        for panel, cases in plot.panels(results, "float32", "nhwc").items()
        if panel[1:] in ((1, 1), (1, 8))
    }
    plot.draw_layers(results, panels, "float32 NHWC").savefig(PICTURE, dpi=90)


def cpu_results() -> Results:
    """The committed ones."""
    return Results.load(*(RESULTS / name for name in CPU))


def page(results: Results) -> str:
    """docs/benchmarks.md."""
    timings = network_timings()
    found = [*targets.verdicts(results), *networks.verdicts(timings)]
    return TEXT.format(
        machine=f"{results.machine['processor']}, {results.machine['cpus']} processors",
        verdicts="\n".join(f"* {'MET' if v.met else 'MISSED'}: {v.text}" for v in found),
        networks=table(NETWORK_HEAD, map(network_row, timings)),
        cliffs=cliffs_text(Results.load(RESULTS / "cpu_cliffs.json")),
        layers="\n\n".join(layer_tables(results)),
    )


def readme(results: Results, text: str) -> str:
    """The README with its table."""
    marked = re.compile("(<!-- benchmarks -->\n).*(<!-- end -->)", re.DOTALL)
    new, count = marked.subn(lambda m: m[1] + summary(results) + m[2], text)
    assert count == 1, "the README has lost the comments that mark its table"
    return new


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """In Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def groups(results: Results) -> list[list[Case]]:
    """Those of the report, without the tiny call."""
    layers = [[c for c in cases if c.layer != TINY] for cases in report.groups(results)]
    return [cases for cases in layers if cases]


def summary(results: Results) -> str:
    """For the README: how many times the fastest peer's speed."""

    def row(cases: list[Case]) -> tuple[str, ...]:
        speeds = [(ratio, c) for c in cases if (ratio := report.speed(results, c)) is not None]
        worst, best = (end(speeds, key=lambda each: each[0]) for end in (min, max))
        shares = [s for case in cases if (s := share(results, case)) is not None]
        return (
            cases[0].kind,
            f"**{geometric_mean([ratio for ratio, _ in speeds]):.2f}x**",
            *(f"{ratio:.2f}x ({c.layer.name}, batch {c.batch})" for ratio, c in (worst, best)),
            f"{100 * geometric_mean(shares):.0f} %",
        )

    head = ("", "mean", "worst layer", "best layer", "of the machine's limit")
    chosen = (cases for cases in groups(results) if cases[0].dtype != "float16")
    return "\n" + table(head, map(row, chosen)) + "\n\n"


def share(results: Results, case: Case) -> float | None:
    """Of the roofline, by the kernel."""
    seconds = results.seconds(case, KERNEL.name)
    return None if seconds is None else results.floor(case) / seconds


def layer_tables(results: Results) -> Iterator[str]:
    """One per pass, dtype, order and number of threads."""
    head = (
        "layer",
        "batch",
        "ours",
        "kernel",
        "floor",
        "share",
        "fastest peer",
        "its time",
        "speed",
    )
    for cases in groups(results):
        rows = (layer_row(results, case) for case in cases)
        yield f"### {cases[0].kind}\n\n" + table(head, rows)


def layer_row(results: Results, case: Case) -> tuple[str, ...]:
    """Losses included."""
    best = results.fastest(case, PEER_NAMES)
    ratio, part = report.speed(results, case), share(results, case)
    return (
        case.layer.name,
        str(case.batch),
        microseconds(results.seconds(case, OURS.name)),
        microseconds(results.seconds(case, KERNEL.name)),
        microseconds(results.floor(case)),
        "" if part is None else f"{100 * part:.0f} %",
        "" if best is None else TITLES[best[0]],
        "" if best is None else microseconds(best[1]),
        "" if ratio is None else f"{ratio:.2f}x",
    )


def microseconds(seconds: float | None) -> str:
    """Three significant digits."""
    return "" if seconds is None else f"{float(f'{1e6 * seconds:.3g}'):g}"


NETWORK_HEAD = ("network", "mode", "batch", "threads", *networks.STOCK, networks.OURS, "speed")


def network_timings() -> list[networks.Timing]:
    """As committed."""
    content = json.loads((RESULTS / "cpu_networks.json").read_text())
    return [
        networks.Timing(networks.Case(**each["case"]), each["seconds"])
        for each in content["timings"]
    ]


def network_row(timing: networks.Timing) -> tuple[str, ...]:
    """Milliseconds."""
    case = timing.case
    times = (f"{1e3 * timing.seconds[name]:.1f}" for name in (*networks.STOCK, networks.OURS))
    named = (case.network, case.mode, str(case.batch), str(case.threads))
    return (*named, *times, f"{timing.ratio:.2f}x")


def cliffs_text(swept: Results) -> str:
    """The verdict, and the steepest."""
    bases = distinct(
        Case(layer, batch, case.dtype, case.threads, case.pass_, case.order)
        for case in swept.cases()
        for layer, batch in cliffs.BASES
    )
    verdict, found = cliffs.verdict(swept, bases), cliffs.cliffs(swept, bases)
    head = ("moved", "shape", "us", "time / floor", "neighbour", "its", "step")
    rows = (
        (
            *(cliff.parameter, cliff.case.name, microseconds(cliff.seconds)),
            *(f"{cliff.cost:.1f}", cliff.neighbour.layer.name, f"{cliff.neighbours_cost:.1f}"),
            f"{cliff.step:.1f}x",
        )
        for cliff in found[:MOST_CLIFFS]
    )
    said = f"{'MET' if verdict.met else 'MISSED'}: {verdict.text}."
    if len(found) > MOST_CLIFFS:
        said += f" The {MOST_CLIFFS} highest:"
    return said + ("\n\n" + table(head, rows) if found else "")


if __name__ == "__main__":
    main()
