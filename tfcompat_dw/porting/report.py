"""The page that ``tfcompat-dw compare`` writes: error over depth, feature maps side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import log10
from typing import Any

import jinja2
import matplotlib as mpl
import matplotlib.image
import numpy as np
from numpy.typing import NDArray

from tfcompat_dw.porting.compare import Comparison, LayerError

Array = NDArray[Any]
CHANNELS = 6
"""Of a layer's output that are shown."""
MAPS = 6
"""Layers that are shown."""
WIDTH, HEIGHT, MARGIN = 960, 260, 50
FLOOR, CEILING = 1e-9, 1e1
"""What the chart shows of relative errors."""


@dataclass(frozen=True)
class Point:
    """A layer in the chart."""

    x: float
    y: float
    layer: LayerError
    diverges: bool


@dataclass(frozen=True)
class Maps:
    """A layer's channels as pictures."""

    layer: LayerError
    diverges: bool
    pictures: tuple[tuple[str, str, str], ...]
    """Of each channel: original, port and difference, as data URIs."""


def page(
    comparison: Comparison,
    port: Mapping[str, Array],
    original: Mapping[str, Array],
    *,
    title: str,
    facts: Mapping[str, str],
) -> str:
    """HTML, self-contained; all names in it are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfcompat_dw.porting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    shown = layers_to_show(comparison, original)
    return environment.get_template("compare.html.j2").render(
        title=title,
        facts=facts,
        comparison=comparison,
        points=_points(comparison),
        ticks=[(_y(10.0**power), f"1e{power}") for power in range(-8, 2, 2)],
        threshold=_y(comparison.tolerance),
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
        maps=[_maps(layer, comparison, port, original) for layer in shown],
    )


def layers_to_show(comparison: Comparison, original: Mapping[str, Array]) -> list[LayerError]:
    """Images: the first that diverges and the one before it, and some evenly spread."""
    images = [
        layer
        for layer in comparison.layers
        if original[layer.name].ndim == 4 and layer.shape == layer.original_shape
    ]
    if not images:
        return []
    spread = {int(i) for i in np.linspace(0, len(images) - 1, min(MAPS, len(images)))}
    first = next(
        (i for i, layer in enumerate(images) if layer.diverges(comparison.tolerance)), None
    )
    if first is not None:
        spread |= {max(0, first - 1), first}
    return [images[index] for index in sorted(spread)]


def _points(comparison: Comparison) -> list[Point]:
    step = (WIDTH - 2 * MARGIN) / max(1, len(comparison.layers) - 1)
    return [
        Point(MARGIN + i * step, _y(layer.relative), layer, layer.diverges(comparison.tolerance))
        for i, layer in enumerate(comparison.layers)
    ]


def _y(error: float) -> float:
    """The height of an error in the chart, on a logarithmic scale."""
    share = log10(min(max(error, FLOOR), CEILING) / FLOOR) / log10(CEILING / FLOOR)
    return HEIGHT - MARGIN / 2 - share * (HEIGHT - MARGIN)


def _maps(
    layer: LayerError,
    comparison: Comparison,
    port: Mapping[str, Array],
    original: Mapping[str, Array],
) -> Maps:
    ours, theirs = port[layer.name][0], original[layer.name][0]
    channels = range(min(CHANNELS, theirs.shape[-1]))
    pictures = tuple(_pictures(ours[..., channel], theirs[..., channel]) for channel in channels)
    return Maps(layer, layer.diverges(comparison.tolerance), pictures)


def _pictures(ours: Array, theirs: Array) -> tuple[str, str, str]:
    """On one scale; the difference on its own, black where there is none."""
    finite = theirs[np.isfinite(theirs)]
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    difference = np.abs(np.nan_to_num(ours) - np.nan_to_num(theirs))
    largest = max(abs(low), abs(high)) or 1.0
    return (
        _picture(theirs, low, high, "viridis"),
        _picture(ours, low, high, "viridis"),
        _picture(difference, 0, largest * 0.01, "inferno"),
    )


def _picture(values: Array, low: float, high: float, colours: str) -> str:
    buffer = io.BytesIO()
    colour_map = mpl.colormaps[colours]
    scaled = (np.nan_to_num(values.astype(np.float64)) - low) / ((high - low) or 1.0)
    mpl.image.imsave(buffer, colour_map(np.clip(scaled, 0, 1)), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
