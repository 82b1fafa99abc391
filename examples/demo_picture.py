"""The demo's picture: the photograph, the scores, and what a depthwise layer does to the face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import ConnectionPatch, Rectangle
from mini_xception import FIRST_DEPTHWISE, prepare
from torch import Tensor, nn

import tfcompat_dw

INK, MUTED, PALE = "#1f2933", "#616e7c", "#eef1f4"
ACCENT = "#d9480f"  # the face and the winner
WIDTH, HEIGHT, DPI = 16, 12, 100
LEFT, RIGHT = 0.05, 0.95  # of every row


@dataclass(frozen=True)
class FaceBox:
    """A square in the photograph, in pixels."""

    top: int
    left: int
    side: int


@dataclass(frozen=True)
class LayerView:
    """A depthwise convolution at work, channel by channel: ``[channel, height, width]`` each."""

    images: np.ndarray
    filters: np.ndarray
    results: np.ndarray


def draw(
    path: Path,
    network: nn.Module,
    photo: np.ndarray,
    box: FaceBox,
    face: Tensor,
    scores: dict[str, float],
) -> None:
    """Write the picture as a PNG file."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    _headline(figure)
    _draw_reading(figure, photo, box, face, scores)
    _draw_layer(figure, first_depthwise(network, face))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def first_depthwise(network: nn.Module, face: Tensor) -> LayerView:
    """What goes into the network's first depthwise convolution, its filters, what comes out."""
    layer = network.get_submodule(FIRST_DEPTHWISE)
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network(prepare(face[None]))
        hook.remove()
        images = seen[0]
        filters = layer.get_parameter("depthwise_weight")
        results = tfcompat_dw.depthwise_conv2d(images, filters, [1, 1, 1, 1], "SAME")
    return LayerView(_by_channel(images[0]), _by_channel(filters[..., 0]), _by_channel(results[0]))


def _by_channel(values: Tensor) -> np.ndarray:
    return values.detach().permute(2, 0, 1).numpy()


def _headline(figure: Figure) -> None:
    figure.text(
        LEFT,
        0.945,
        "A TensorFlow network reads a face in PyTorch",
        size=26,
        color=INK,
        weight="bold",
    )
    story = (
        "mini-Xception, trained in TensorFlow: its weights run as they are, on tfcompat_dw's layers"
    )
    figure.text(LEFT, 0.917, story, size=14, color=MUTED)


# --- From the photograph to the scores -----------------------------------------------------------


def _draw_reading(
    figure: Figure, photo: np.ndarray, box: FaceBox, face: Tensor, scores: dict[str, float]
) -> None:
    grid = figure.add_gridspec(
        1, 3, left=LEFT, right=RIGHT - 0.04, top=0.86, bottom=0.525, wspace=0.32
    )
    photo_axes, face_axes, score_axes = (figure.add_subplot(grid[column]) for column in range(3))
    _draw_photo(photo_axes, photo, box)
    _draw_face(face_axes, face)
    _join(figure, photo_axes, face_axes, box)
    _draw_scores(score_axes, scores)


def _draw_photo(axes: Axes, photo: np.ndarray, box: FaceBox) -> None:
    axes.imshow(photo)
    square = Rectangle((box.left, box.top), box.side, box.side, fill=False, lw=3, ec=ACCENT)
    axes.add_patch(square)
    _bare(axes, "1  A photograph")


def _draw_face(axes: Axes, face: Tensor) -> None:
    axes.imshow(face.numpy(), cmap="gray", vmin=0, vmax=255)
    _bare(axes, "2  What the network sees: 64 x 64")
    for spine in axes.spines.values():
        spine.set(visible=True, color=ACCENT, lw=3)


def _join(figure: Figure, photo: Axes, face: Axes, box: FaceBox) -> None:
    """Two thin lines from the box to the enlarged face."""
    right, bottom = box.left + box.side, box.top + box.side
    for corner, target in (((right, box.top), (0, 1)), ((right, bottom), (0, 0))):
        line = ConnectionPatch(
            corner, target, "data", "axes fraction", axesA=photo, axesB=face, color=ACCENT, lw=1.2
        )
        figure.add_artist(line)


def _draw_scores(axes: Axes, scores: dict[str, float]) -> None:
    best = max(scores, key=lambda emotion: scores[emotion])
    colours = [ACCENT if emotion == best else MUTED for emotion in scores]
    axes.barh(list(scores), [1.0] * len(scores), color=PALE, height=0.6)
    axes.barh(list(scores), list(scores.values()), color=colours, height=0.6)
    for row, (emotion, score) in enumerate(scores.items()):
        weight = "bold" if emotion == best else "normal"
        axes.text(1.04, row, f"{score:.3f}", va="center", size=13.5, color=INK, weight=weight)
    axes.set(xlim=(0, 1), xticks=[], box_aspect=1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0, pad=8, labelsize=13.5, labelcolor=INK)
    _bare(axes, "3  What it says", ticks=True)


# --- Inside a depthwise layer --------------------------------------------------------------------


def _draw_layer(figure: Figure, view: LayerView) -> None:
    figure.text(
        LEFT, 0.462, "4  Inside: the network's first depthwise convolution", size=15, color=INK
    )
    rule = "Each channel meets a 3 x 3 filter of its own, and no channel ever looks at another one."
    figure.text(LEFT, 0.436, rule, size=13, color=MUTED)
    channels = len(view.images)
    grid = figure.add_gridspec(
        3, channels, left=0.15, right=RIGHT, top=0.4, bottom=0.025, wspace=0.1, hspace=0.1
    )
    for channel in range(channels):
        _draw_channel(figure, grid, view, channel)
    _name_row(figure, 0.342, "goes in", "")
    _name_row(figure, 0.215, "its filter", "red adds,\nblue subtracts")
    _name_row(figure, 0.088, "comes out", "red above zero,\nblue below")


def _draw_channel(figure: Figure, grid: GridSpec, view: LayerView, channel: int) -> None:
    """One column: the channel, its filter, and the two together."""
    image, weights, result = (figure.add_subplot(grid[row, channel]) for row in range(3))
    image.imshow(view.images[channel], cmap="gray")
    _show_signed(weights, view.filters, channel, share=1.0)
    _show_signed(result, view.results, channel, share=0.99)
    _bare(image, f"channel {channel}", size=11.5)
    _bare(weights)
    _bare(result)


def _show_signed(axes: Axes, values: np.ndarray, channel: int, share: float) -> None:
    """Red above zero and blue below, on one scale for all channels that covers this share."""
    reach = float(np.quantile(np.abs(values), share))
    axes.imshow(values[channel], cmap="RdBu_r", vmin=-reach, vmax=reach)


def _name_row(figure: Figure, y: float, name: str, note: str) -> None:
    figure.text(LEFT, y + (0.02 if note else 0), name, size=14, color=INK, va="center")
    figure.text(LEFT, y - 0.015, note, size=10.5, color=MUTED, va="center", linespacing=1.4)


def _bare(axes: Axes, title: str = "", size: float = 15, ticks: bool = False) -> None:
    """A title at the left, and nothing else around the picture."""
    axes.set_title(title, loc="left", size=size, color=INK, pad=8)
    if not ticks:
        axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
