"""Two pictures of the results, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpu.layers import DTYPES, ORDERS, Layer, Row, layer_of
from gpu.targets import SMALLEST_MEAN, SMALLEST_RATIO, SMALLEST_SHARE, Copies, ratios

COLORS = ("#1b4965", "#5fa8d3", "#d1495b")
DPI = 110
Bars = dict[str, dict[Layer, float]]
"""Heights, by what is measured."""


def panels(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The rows of each memory order and dtype, with a title."""
    found = []
    for order in ORDERS:
        for dtype in DTYPES:
            chosen = [row for row in rows if (row["order"], row["dtype"]) == (order, dtype)]
            if chosen:
                found.append((f"{order.upper()} {dtype}", chosen))
    return found


def shares(rows: Sequence[Row], all_rows: Sequence[Row]) -> Bars:
    """Percent of the copy's speed, by pass."""
    copies = Copies(all_rows)
    return {
        pass_: {layer_of(row): 100 * copies.share(row) for row in rows if row["pass"] == pass_}
        for pass_ in SMALLEST_SHARE
    }


def speeds(rows: Sequence[Row], all_rows: Sequence[Row]) -> Bars:
    """Ratios, by pass."""
    return {
        " + ".join(passes): {layer: ratio for ratio, layer, _ in ratios(rows, passes)}
        for passes in (("forward",), ("forward", "backward"))
    }


def draw(
    rows: Sequence[Row],
    title: str,
    bars_of: Callable[[Sequence[Row], Sequence[Row]], Bars],
    lines: Sequence[tuple[float, str, str]],
    unit: str,
) -> Any:
    """A panel per memory order and dtype, a group of bars per layer, lines at the targets."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    chosen = panels(rows)
    size = (13, 2.5 * len(chosen) + 1.6)
    figure, axes = plt.subplots(len(chosen), 1, figsize=size, squeeze=False, layout="constrained")
    for (name, own), ax in zip(chosen, axes[:, 0], strict=True):
        bars = bars_of(own, rows)
        layers = list(dict.fromkeys(layer_of(row) for row in own))
        width = 0.8 / len(bars)
        for i, (label, heights) in enumerate(bars.items()):
            places = [p + (i - (len(bars) - 1) / 2) * width for p in range(len(layers))]
            values = [heights.get(layer, float("nan")) for layer in layers]
            ax.bar(places, values, width, label=label, color=COLORS[i], zorder=2)
        for height, color, label in lines:
            ax.axhline(height, color=color, linewidth=0.9, linestyle="--", label=label, zorder=3)
        labels = [f"{layer.name}\nbatch {layer.batch}" for layer in layers]
        ax.set_xticks(range(len(layers)), labels, fontsize=6.5)
        ax.set_title(name, fontsize=9, loc="left")
        ax.set_ylabel(unit, fontsize=8)
        ax.tick_params(axis="y", labelsize=7)
        ax.grid(axis="y", alpha=0.3, zorder=0)
        ax.margins(x=0.01)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def write(rows: Sequence[Row], gpu: str, beside: Path) -> list[Path]:
    """Both pictures beside the results; none if there is nothing to draw.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if not rows:
        return []
    import matplotlib.pyplot as plt

    wanted = {
        "share": draw(
            rows,
            f"Share of the speed of a copy of as many bytes\n{gpu}",
            shares,
            (
                (100 * SMALLEST_SHARE["forward"], "#444444", "target, forward and input"),
                (100 * SMALLEST_SHARE["filter grad"], "#999999", "target, filter"),
            ),
            "percent",
        ),
        "ratio": draw(
            rows,
            f"Times the speed of the faster of PyTorch's two memory formats\n{gpu}",
            speeds,
            (
                (SMALLEST_RATIO, "black", "as fast"),
                (SMALLEST_MEAN["forward",], COLORS[0], "mean, forward"),
                (SMALLEST_MEAN["forward", "backward"], COLORS[1], "mean, both"),
            ),
            "times",
        ),
    }
    paths = []
    for name, figure in wanted.items():
        path = beside.with_name(f"{beside.stem}-{name}.png")
        figure.savefig(path, dpi=DPI)
        plt.close(figure)
        paths.append(path)
    return paths
