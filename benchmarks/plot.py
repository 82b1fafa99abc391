"""Draws two pictures of a benchmark's results: speeds by layer, and the roofline.

python benchmarks/plot.py results.json          writes results-layers.png, results-roofline.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from harness.cases import DTYPES, ORDERS, TINY, Case, count_of_threads
from harness.results import Results
from harness.roofline import work
from harness.settings import KERNEL, OURS, PEERS, TITLES

COLORS = {
    OURS.name: "#d1495b",
    "torch_contiguous": "#1b4965",
    "torch_channels_last": "#5fa8d3",
    "tensorflow_onednn": "#e09f3e",
    "tensorflow_eigen": "#f3d9a4",
    "tflite": "#588157",
    "onnxruntime": "#7b5ea7",
    "keras_torch": "#9a9a9a",
}
DPI = 130
Panel = tuple[str, int, int]
"""Pass, threads, batch."""


def main() -> None:
    """Read the results, write the pictures beside them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, help="default: the first that is in the file")
    parser.add_argument("--order", choices=ORDERS, help="default: the first that is in the file")
    options = parser.parse_args()
    results = Results.load(options.results)
    wanted = [
        (dtype, order)
        for dtype in DTYPES
        for order in ORDERS
        if options.dtype in (None, dtype) and options.order in (None, order)
    ]
    drawn = next(((*kind, p) for kind in wanted if (p := panels(results, *kind))), None)
    if drawn is None:
        parser.exit(1, f"plot.py: nothing to draw in {options.results}\n")
    dtype, order, chosen = drawn
    for name, draw in (("layers", draw_layers), ("roofline", draw_roofline)):
        path = options.results.with_name(f"{options.results.stem}-{name}.png")
        figure = draw(results, chosen, f"{dtype} {order.upper()}")
        figure.savefig(path, dpi=DPI)
        plt.close(figure)
        print(path)


def panels(results: Results, dtype: str, order: str) -> dict[Panel, list[Case]]:
    """The cases of each panel: both passes, each number of threads and batch."""
    cases = [
        case
        for case in results.cases()
        if (case.dtype, case.order) == (dtype, order)
        and case.layer != TINY
        and case.pass_ in ("forward", "backward")
    ]
    keys = sorted({(c.threads, c.batch) for c in cases})
    found: dict[Panel, list[Case]] = {}
    for pass_ in ("forward", "backward"):
        for threads, batch in keys:
            panel = [c for c in cases if (c.pass_, c.threads, c.batch) == (pass_, threads, batch)]
            if panel:
                found[pass_, threads, batch] = panel
    return found


def _title(panel: Panel) -> str:
    pass_, threads, batch = panel
    return f"{pass_}, batch {batch}, {count_of_threads(threads)}"


def _heading(figure: Any, results: Results, text: str) -> None:
    figure.suptitle(f"{text}\n{results.machine['processor']}", fontsize=11)


def draw_layers(results: Results, chosen: dict[Panel, list[Case]], what: str) -> Any:
    """Bars: how fast each is, as a multiple of the fastest peer."""
    figure, axes = plt.subplots(
        len(chosen), 1, figsize=(13, 2.6 * len(chosen) + 1), squeeze=False, layout="constrained"
    )
    order = [OURS.name, *(setting.name for setting in PEERS)]
    peers = order[1:]
    labels: dict[str, Any] = {}
    for (panel, cases), ax in zip(chosen.items(), axes[:, 0], strict=True):
        present = [s for s in order if any(results.seconds(c, s) is not None for c in cases)]
        width = 0.85 / max(len(present), 1)
        for index, setting in enumerate(present):
            speeds = []
            for case in cases:
                best, own = results.fastest(case, peers), results.seconds(case, setting)
                speeds.append(best[1] / own if best is not None and own is not None else np.nan)
            places = np.arange(len(cases)) + (index - (len(present) - 1) / 2) * width
            bars = ax.bar(places, speeds, width, color=COLORS[setting], zorder=2)
            labels.setdefault(TITLES[setting], bars)
            if setting == OURS.name:
                for place, speed in zip(places, speeds, strict=True):
                    if np.isfinite(speed):
                        ax.annotate(
                            f"{speed:.2f}",
                            (place, speed),
                            ha="center",
                            va="bottom",
                            fontsize=7,
                            color=COLORS[setting],
                            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
                            xytext=(0, 2),
                            zorder=4,
                            textcoords="offset points",
                        )
        ax.axhline(1, color="black", linewidth=0.8, zorder=3)
        ax.set_xticks(range(len(cases)), [case.layer.name for case in cases], fontsize=8)
        ax.set_title(_title(panel), fontsize=9, loc="left")
        ax.set_ylabel("speed", fontsize=8)
        ax.grid(axis="y", alpha=0.3, zorder=0)
        ax.margins(x=0.01, y=0.12)
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=8, fontsize=8)
    _heading(figure, results, f"Speed by layer, {what}; the fastest peer is 1")
    return figure


def draw_roofline(results: Results, chosen: dict[Panel, list[Case]], what: str) -> Any:
    """Attained rates over flops per byte, below each layer's own roof."""
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    inches = (6.5 * columns, 4.6 * rows + 0.8)
    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False, layout="constrained")
    peers = [setting.name for setting in PEERS]
    for ax in axes.flat[len(chosen) :]:
        ax.set_axis_off()
    for (panel, cases), ax in zip(chosen.items(), axes.flat, strict=False):
        _, threads, _ = panel
        rates = results.rates[threads]
        reach = np.geomspace(0.5, 64, 100)
        for size, style in ((1 << 20, ":"), (1 << 24, "--"), (1 << 27, "-.")):
            roof = np.minimum(reach * rates.copy_rate(size), rates.flops) / 1e9
            name = f"roof if {size >> 20} MB are moved"
            ax.plot(reach, roof, style, color="gray", linewidth=0.8, label=name)
        for case in cases:
            needed = work(case)
            intensity = needed.flops / needed.moved
            own_roof = needed.flops / results.floor(case) / 1e9
            ax.plot(intensity, own_roof, "_", color="black", markersize=11)
            best, kernel = results.fastest(case, peers), results.seconds(case, KERNEL.name)
            if kernel is not None:
                attained = needed.flops / kernel / 1e9
                ax.plot(intensity, attained, "o", color=COLORS[OURS.name], markersize=4)
                ax.plot(
                    [intensity] * 2, [attained, own_roof], color=COLORS[OURS.name], linewidth=0.5
                )
                ax.annotate(
                    case.layer.name,
                    (intensity, attained),
                    xytext=(5, -2),
                    textcoords="offset points",
                    fontsize=6,
                )
            if best is not None:
                attained = needed.flops / best[1] / 1e9
                ax.plot(intensity, attained, "x", color=COLORS["torch_contiguous"], markersize=4)
        ax.plot([], [], "_", color="black", markersize=11, label="the layer's own roof")
        ax.plot([], [], "o", color=COLORS[OURS.name], markersize=4, label="our kernel")
        ax.plot([], [], "x", color=COLORS["torch_contiguous"], markersize=4, label="fastest peer")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_title(_title(panel), fontsize=9, loc="left")
        ax.set_xlabel("flops per byte moved", fontsize=8)
        ax.set_ylabel("GFLOP/s", fontsize=8)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=6, loc="lower right")
    _heading(figure, results, f"Roofline, {what}")
    return figure


if __name__ == "__main__":
    main()
