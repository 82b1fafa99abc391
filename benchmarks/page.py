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
from harness import cliffs, targets
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
    return marked.sub(lambda m: m[1] + summary(results) + m[2], text)


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """In Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def groups(results: Results) -> dict[tuple[str, str, str, int], list[Case]]:
    """Cases by dtype, order, pass and threads."""
    found: dict[tuple[str, str, str, int], list[Case]] = {}
    for case in results.cases():
        if case.layer != TINY:
            key = case.dtype, case.order, case.pass_, case.threads
            found.setdefault(key, []).append(case)
    return found


def summary(results: Results) -> str:
    """For the README: how many times the fastest peer's speed."""

    def row(key: tuple[str, str, str, int], cases: list[Case]) -> tuple[str, ...]:
        dtype, order, pass_, threads = key
        ratios = {case: ratio for case in cases if (ratio := speed(results, case)) is not None}
        worst, best = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        shares = [s for case in cases if (s := share(results, case)) is not None]
        return (
            f"{dtype} {order.upper()}, {pass_}, {threads} thread{'s' if threads > 1 else ''}",
            f"**{geometric_mean(list(ratios.values())):.2f}x**",
            f"{ratios[worst]:.2f}x ({worst.layer.name}, batch {worst.batch})",
            f"{ratios[best]:.2f}x ({best.layer.name}, batch {best.batch})",
            f"{100 * geometric_mean(shares):.0f} %",
        )

    head = ("", "mean", "worst layer", "best layer", "of the machine's limit")
    chosen = ((key, cases) for key, cases in groups(results).items() if key[0] != "float16")
    return "\n" + table(head, (row(key, cases) for key, cases in chosen)) + "\n\n"


def speed(results: Results, case: Case) -> float | None:
    """The fastest peer's time over ours."""
    best, own = results.fastest(case, PEER_NAMES), results.seconds(case, OURS.name)
    return None if best is None or own is None else best[1] / own


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
    for (dtype, order, pass_, threads), cases in groups(results).items():
        title = (
            f"### {pass_}, {dtype} {order.upper()}, {threads} thread{'s' if threads > 1 else ''}"
        )
        yield title + "\n\n" + table(head, (layer_row(results, case) for case in cases))


def layer_row(results: Results, case: Case) -> tuple[str, ...]:
    """Losses included."""
    best = results.fastest(case, PEER_NAMES)
    ratio, part = speed(results, case), share(results, case)
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
        for cliff in found
    )
    said = f"{'MET' if verdict.met else 'MISSED'}: {verdict.text}."
    return said + ("\n\n" + table(head, rows) if found else "")


if __name__ == "__main__":
    main()
