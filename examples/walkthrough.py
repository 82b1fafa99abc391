"""Depthwise convolution in one picture, for someone who has never seen one.

    python examples/walkthrough.py [--output build/walkthrough.png]

An ordinary convolution beside a depthwise one, padding, dilation and the multiplier.  Every number
in the picture comes from calling the package; which pixels a window sees is read off the gradient,
which is not zero exactly there.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.color
import skimage.data
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from PIL import Image
from torch import Tensor

import tfcompat_dw
from tfcompat_dw.functional import Padding

INK, MUTED, LINE = "#1f2933", "#616e7c", "#9aa5b1"
CHANNELS = ("#2f6fb7", "#d9770b")  # input channel 0 and 1, and all that comes from them
MIXED = "#6b7280"  # what comes from both
WINDOWS = ("#0b7285", "#9c36b5", "#2b8a3e")  # first, second and third window
TAP = "#9c36b5"
CROSS = "\N{MULTIPLICATION SIGN}"  # on a pixel that is never read

WIDTH, HEIGHT, DPI = 16.0, 20.1, 100  # inches, and pixels per inch
MARGIN = 0.8


# --- Numbers -------------------------------------------------------------------------------------


def worked_input() -> Tensor:
    """``[1, 4, 4, 2]``: channel 0 has 1, 2, 3, 4 in every row, channel 1 is all ones."""
    rising = torch.arange(1.0, 5.0).expand(4, 4)
    return torch.stack([rising, torch.ones(4, 4)], dim=-1)[None]


def worked_filter() -> Tensor:
    """``[3, 3, 2, 2]``: filter [:, :, c, m] is 0, 2 for channel 0 and 1, 3 for channel 1."""
    return torch.tensor([[0.0, 2.0], [1.0, 3.0]]).expand(3, 3, 2, 2).contiguous()


def depthwise(image: Tensor, weights: Tensor) -> Tensor:
    """The operator itself, without padding."""
    return tfcompat_dw.depthwise_conv2d(image, weights, [1, 1, 1, 1], "VALID")


def ordinary(image: Tensor, weights: Tensor) -> Tensor:
    """PyTorch's convolution of the same image with the same ``[h, w, in, out]`` weights."""
    result = F.conv2d(image.permute(0, 3, 1, 2), weights.permute(3, 2, 0, 1))
    return result.permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Sight:
    """A convolution of a square image, by what it sees."""

    size: int
    weights: Tensor  # [k, k, 1, 1]
    padding: Padding
    stride: int = 1
    dilation: int = 1

    def result(self) -> np.ndarray:
        """The convolution of an image of ones: with weights of one, the pixels each window sees."""
        image = torch.ones(1, self.size, self.size, 1)
        strides, dilations = [1, self.stride, self.stride, 1], [self.dilation, self.dilation]
        result = tfcompat_dw.depthwise_conv2d(
            image, self.weights, strides, self.padding, dilations=dilations
        )
        return result[0, :, :, 0].numpy()

    def window(self, row: int, column: int) -> np.ndarray:
        """The weight that each pixel meets on its way to one output: the output's gradient."""
        outputs = self.result().shape
        gradient = torch.zeros(1, *outputs, 1)
        gradient[0, row, column, 0] = 1
        strides, dilations = [1, self.stride, self.stride, 1], [self.dilation, self.dilation]
        seen = tfcompat_dw.depthwise_conv2d_backprop_input(
            [1, self.size, self.size, 1],
            self.weights,
            gradient,
            strides,
            self.padding,
            dilations=dilations,
        )
        return seen[0, :, :, 0].numpy()


def window_start(seen: np.ndarray, kernel: int) -> int:
    """The row where a window starts, from the rows it sees: above the image if the top is cut."""
    rows = np.flatnonzero(seen.any(axis=1))
    return int(rows[-1]) - kernel + 1 if rows[0] == 0 else int(rows[0])


# --- Drawing -------------------------------------------------------------------------------------


def tint(colour: str, strength: float) -> tuple[float, ...]:
    """The colour mixed with white."""
    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


class Board:
    """A part of the figure in which positions are counted in cells, from the top left."""

    def __init__(
        self, figure: Figure, left: float, top: float, width: float, height: float, cell: float
    ) -> None:
        """A board at ``left``, ``top``, ``width`` by ``height`` inches, with cells of ``cell``."""
        box = (left / WIDTH, 1 - (top + height) / HEIGHT, width / WIDTH, height / HEIGHT)
        self.axes: Axes = figure.add_axes(box)
        self.axes.set(xlim=(0, width / cell), ylim=(height / cell, 0))
        self.axes.set_axis_off()

    def grid(
        self,
        x: float,
        y: float,
        values: np.ndarray,
        colour: str,
        cell: float = 1.0,
        size: float = 12.0,
        strength: float = 0.16,
    ) -> None:
        """A table of numbers in boxes of one colour."""
        for row, column in np.ndindex(values.shape):
            left, top = x + column * cell, y + row * cell
            self.box(left, top, cell, cell, tint(colour, strength), colour)
            text = f"{values[row, column]:g}".replace("-", "\N{MINUS SIGN}")
            self.text(left + cell / 2, top + cell / 2, text, size=size, align="center")

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str | tuple[float, ...] = "none",
        edge: str | tuple[float, ...] = INK,
        line: float = 1.0,
        style: str = "solid",
        above: int = 2,
    ) -> None:
        """A rectangle."""
        self.axes.add_patch(
            Rectangle(
                (x, y), width, height, fc=fill, ec=edge, lw=line, ls=style, zorder=above,
                clip_on=False,
            )
        )  # fmt: skip

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 12.0,
        colour: str = INK,
        align: str = "left",
        bold: bool = False,
    ) -> None:
        """Words, centred in height."""
        self.axes.text(
            x, y, text, size=size, color=colour, ha=align, va="center", zorder=5,
            weight="bold" if bold else "normal", linespacing=1.45,
        )  # fmt: skip

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
        """A thin arrow."""
        self.axes.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=13, color=colour, lw=1.5, zorder=1,
                shrinkA=0, shrinkB=0,
            )
        )  # fmt: skip

    def plus(self, x: float, y: float) -> None:
        """A plus in a circle."""
        self.axes.add_patch(Circle((x, y), 0.5, fc="white", ec=MIXED, lw=1.5, zorder=3))
        self.text(x, y, "+", size=15, align="center")


def heading(figure: Figure, top: float, number: int, title: str, words: str) -> None:
    """A section's number, title and one sentence."""
    board = Board(figure, MARGIN, top, WIDTH - 2 * MARGIN, 0.9, cell=1)
    board.axes.axhline(0, color=LINE, lw=1)
    board.text(0, 0.33, f"{number}   {title}", size=18, bold=True)
    board.text(0, 0.72, words, size=13, colour=MUTED)


# --- 1: ordinary and depthwise -------------------------------------------------------------------

LANES = (2.3, 6.1, 10.6, 14.4)  # the middle of each filter's row, in cells
INPUTS = (4.2, 12.5)  # the middle of each input channel
INPUT_X, FILTER_X, OUTPUT_X = 0.0, 7.0, 13.4
CELL = 0.4


def draw_kinds(figure: Figure, top: float) -> None:
    """An ordinary convolution at the left, a depthwise one at the right, on the same numbers."""
    half = (WIDTH - 2 * MARGIN) / 2
    for index, draw in enumerate((draw_ordinary, draw_depthwise)):
        draw(Board(figure, MARGIN + index * (half + 0.2), top, half - 0.2, 7.2, CELL))


def draw_ordinary(board: Board) -> None:
    """Every output adds up all the channels."""
    result = ordinary(worked_input(), worked_filter())[0].numpy()
    draw_inputs(board, "An ordinary convolution mixes the channels")
    lane = 0
    for output in range(2):
        middle = (LANES[lane] + LANES[lane + 1]) / 2
        for channel in range(2):
            draw_filter(board, lane, channel, output)
            board.arrow((FILTER_X + 3.2, LANES[lane]), (OUTPUT_X - 1.75, middle), CHANNELS[channel])
            lane += 1
        board.plus(OUTPUT_X - 1.3, middle)
        board.arrow((OUTPUT_X - 0.8, middle), (OUTPUT_X - 0.15, middle), MIXED)
        parts = [
            depthwise(worked_input(), worked_filter())[0, 0, 0, 2 * c + output] for c in (0, 1)
        ]
        origin = f"{parts[0]:g} + {parts[1]:g}\n= {result[0, 0, output]:g}"
        draw_output(board, middle, result[:, :, output], MIXED, output, origin)
    board.text(
        0, 17.2, "Each output adds up all the channels, each through its own filter.", size=13
    )


def draw_depthwise(board: Board) -> None:
    """Every output comes from one channel."""
    result = depthwise(worked_input(), worked_filter())[0].numpy()
    multiplier = worked_filter().shape[3]
    draw_inputs(board, "A depthwise convolution keeps them apart")
    for lane, middle in enumerate(LANES):
        channel, m = divmod(lane, multiplier)
        draw_filter(board, lane, channel, m)
        board.arrow((FILTER_X + 3.2, middle), (OUTPUT_X - 0.15, middle), CHANNELS[channel])
        origin = f"c = {channel}\nm = {m}"
        draw_output(board, middle, result[:, :, lane], CHANNELS[channel], lane, origin)
    pixels = worked_input()[0, 0, :3, 0].tolist()
    row = " + ".join(f"{pixel:g}" for pixel in pixels)
    weight = worked_filter()[0, 0, 0, 1].item()
    origin = f"The {result[0, 0, 1]:g}: 3 rows of ({row}) · {weight:g}."
    board.text(0, 17.2, f"Each output comes from one channel. {origin}", size=13)


def draw_inputs(board: Board, title: str) -> None:
    """The two channels of the image, one window marked in each."""
    board.text(0, -0.45, title, size=15, bold=True)
    image = worked_input()[0].numpy()
    for channel, middle in enumerate(INPUTS):
        colour = CHANNELS[channel]
        board.grid(INPUT_X, middle - 2, image[:, :, channel], colour)
        board.box(INPUT_X, middle - 2, 3, 3, edge=INK, line=2.4, above=4)
        board.text(INPUT_X, middle - 2.5, f"input channel {channel}", colour=colour, bold=True)


def draw_filter(board: Board, lane: int, channel: int, m: int) -> None:
    """One 3x3 filter, with an arrow from the channel it looks at."""
    middle, colour = LANES[lane], CHANNELS[channel]
    weights = worked_filter()[:, :, channel, m].numpy()
    board.arrow((INPUT_X + 4.2, INPUTS[channel]), (FILTER_X - 0.15, middle), colour)
    board.grid(FILTER_X, middle - 1.5, weights, colour, strength=0.32)
    board.text(FILTER_X, middle - 1.85, f"filter[:, :, {channel}, {m}]", size=11, colour=colour)


def draw_output(
    board: Board, middle: float, values: np.ndarray, colour: str, number: int, origin: str
) -> None:
    """One output channel; the number that comes from the marked windows is marked as well."""
    board.grid(OUTPUT_X, middle - 1, values, colour)
    board.box(OUTPUT_X, middle - 1, 1, 1, edge=INK, line=2.4, above=4)
    board.text(OUTPUT_X, middle - 1.45, f"output channel {number}", colour=colour, bold=True)
    board.text(OUTPUT_X + 2.35, middle, origin, size=12, colour=colour)


# --- 2: padding ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaddingCase:
    """A padding with what to say about it."""

    title: str
    padding: Padding
    words: str


PADDINGS = (
    PaddingCase(
        '"VALID": no padding',
        "VALID",
        "Every window lies inside the image. The last\nrow and column are never read ("
        + CROSS
        + ").",
    ),
    PaddingCase(
        '"SAME": as TensorFlow pads',
        "SAME",
        "6 / 2 = 3 outputs each way. They need a row and a\n"
        "column more, which go to the bottom and the right.",
    ),
    PaddingCase(
        "Explicit: [[0, 0], [1, 1], [1, 1], [0, 0]]",
        [[0, 0], [1, 1], [1, 1], [0, 0]],
        "One on each side, which is PyTorch's padding=1:\n"
        "the shape that SAME has, but other numbers.",
    ),
)


def draw_paddings(figure: Figure, top: float) -> None:
    """The same image and filter under three paddings, at stride 2."""
    width = (WIDTH - 2 * MARGIN) / 3
    for index, case in enumerate(PADDINGS):
        draw_padding(Board(figure, MARGIN + index * width, top, width - 0.2, 4.4, 0.36), case)


def draw_padding(board: Board, case: PaddingCase) -> None:
    """The windows on the diagonal, the padding they reach into, and what each output counts."""
    sight = Sight(6, torch.ones(3, 3, 1, 1), case.padding, stride=2)
    counts = sight.result()
    board.text(0, 0.3, case.title, size=14, bold=True)
    draw_image(board, sight, x=1, y=2.1)
    for index in range(len(counts)):
        start = window_start(sight.window(index, index), kernel=3)
        colour = WINDOWS[index]
        board.box(1 + start, 2.1 + start, 3, 3, (*to_rgb(colour), 0.25), colour, line=2.4, above=4)
    board.arrow((8.3, 5.1), (9.3, 5.1), LINE)
    draw_counts(board, counts, x=9.6, y=5.1 - len(counts) / 2)
    board.text(0, 10.9, case.words, size=12, colour=MUTED)


def draw_image(board: Board, sight: Sight, x: float, y: float) -> None:
    """The pixels, those that no window sees crossed out, and a ring of places outside."""
    outputs = range(len(sight.result()))
    seen = sum(sight.window(row, column) for row in outputs for column in outputs)
    for row, column in np.ndindex(sight.size + 2, sight.size + 2):
        left, top = x + column - 1, y + row - 1
        if 1 <= row <= sight.size and 1 <= column <= sight.size:
            board.box(left, top, 1, 1, tint(CHANNELS[0], 0.16), CHANNELS[0])
            if not np.asarray(seen)[row - 1, column - 1]:
                board.text(left + 0.5, top + 0.5, CROSS, size=13, colour=MUTED, align="center")
        else:
            board.box(left, top, 1, 1, "white", "#d5dae0", style="dotted", above=1)


def draw_counts(board: Board, counts: np.ndarray, x: float, y: float) -> None:
    """The outputs, with the windows' colours on the diagonal."""
    board.grid(x, y, counts, CHANNELS[0], size=13)
    for index in range(len(counts)):
        colour = WINDOWS[index]
        board.box(x + index, y + index, 1, 1, (*to_rgb(colour), 0.25), colour, line=2.4, above=4)


# --- 3: dilation and multiplier ------------------------------------------------------------------


def draw_dilations(figure: Figure, top: float) -> None:
    """Where the nine weights of one filter land, for three dilations."""
    weights = torch.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    for index, dilation in enumerate((1, 2, 3)):
        board = Board(figure, MARGIN + index * 2.35, top, 2.2, 3.0, 0.3)
        sight = Sight(7, weights, "SAME", dilation=dilation)
        board.text(0, 0.6, f"dilation {dilation}", size=13, bold=True)
        draw_taps(board, sight.window(3, 3))


def draw_taps(board: Board, met: np.ndarray) -> None:
    """The image, with its weight in each pixel that meets one."""
    for (row, column), weight in np.ndenumerate(met):
        used = weight != 0
        fill = tint(TAP, 0.3) if used else tint(CHANNELS[0], 0.08)
        board.box(column, row + 1.5, 1, 1, fill, tint(CHANNELS[0], 0.5) if not used else TAP)
        if used:
            board.text(column + 0.5, row + 2, f"{weight:g}", size=11, align="center")


FILTERS: dict[str, Sequence[Sequence[int]]] = {
    "blur": ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "level\nedges": ((-1, -1, -1), (0, 0, 0), (1, 1, 1)),
    "upright\nedges": ((-1, 0, 1), (-1, 0, 1), (-1, 0, 1)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
}


def draw_multiplier(figure: Figure, left: float, top: float) -> None:
    """One channel of a photograph and four filters: four output channels."""
    photo = skimage.color.rgb2gray(skimage.data.astronaut())[20:220, 125:325]
    image = torch.from_numpy(photo).float()[None, ..., None]
    weights = torch.tensor(list(FILTERS.values())).float().permute(1, 2, 0)[:, :, None, :]
    results = depthwise(image, weights)[0].numpy()
    side = 1.32
    Board(figure, left, top, side, 1, 1).text(0, 0.8, "one channel", size=13, bold=True)
    show(figure, left, top + 1, side, image[0, :, :, 0].numpy())
    for m, name in enumerate(FILTERS):
        x = left + side + 0.38 + m * (side + 0.06)
        board = Board(figure, x, top, side, 1, 0.2)
        board.grid(0, 1.5, weights[:, :, 0, m].numpy(), CHANNELS[0], size=8.5, strength=0.3)
        board.text(3.3, 3, f"m = {m}\n{name}", size=10)
        show(figure, x, top + 1, side, results[:, :, m])


def show(figure: Figure, left: float, top: float, side: float, pixels: np.ndarray) -> None:
    """A grey picture; its darkest and brightest hundredth are cut off."""
    board = Board(figure, left, top, side, side, side)
    low, high = np.quantile(pixels, (0.01, 0.99))
    board.axes.imshow(pixels, cmap="gray", vmin=low, vmax=high, extent=(0, 1, 1, 0))


# --- The whole -----------------------------------------------------------------------------------


def draw() -> Figure:
    """The picture."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    title = Board(figure, MARGIN, 0.4, WIDTH - 2 * MARGIN, 1.1, cell=1)
    title.text(0, 0.3, "Depthwise convolution, as TensorFlow does it", size=27, bold=True)
    title.text(
        0,
        0.78,
        "A filter slides over the image; each output is the sum of the pixels in its window, each "
        "times its weight.",
        size=14,
        colour=MUTED,
    )
    heading(
        figure, 1.6, 1, "Two ways to convolve an image of two channels",
        "The same image and the same four filters. Depthwise, output channel c·mult + m comes from "
        "input channel c and filter[:, :, c, m] alone; here, mult = 2.",
    )  # fmt: skip
    draw_kinds(figure, 3.1)
    heading(
        figure, 10.5, 2, "Padding: which pixels does a window see?",
        "A 6 x 6 image and a 3 x 3 window that moves by 2. All pixels and weights are 1, so each "
        "output counts the pixels that its window sees.",
    )  # fmt: skip
    draw_paddings(figure, 11.6)
    heading(
        figure, 16.2, 3, "Dilation spreads a filter out; the multiplier adds filters",
        "Left: where the weights 1 to 9 of one filter land. Right: one channel and four filters "
        "make four output channels (multiplier 4).",
    )  # fmt: skip
    draw_dilations(figure, 17.2)
    draw_multiplier(figure, 8.05, 17.43)
    return figure


def main() -> int:
    """Write the picture to ``--output``."""
    parser = argparse.ArgumentParser(description="Depthwise convolution in one picture.")
    default = Path(__file__).resolve().parent.parent / "build" / "walkthrough.png"
    parser.add_argument("--output", type=Path, default=default, help="default: build/...")
    output: Path = parser.parse_args().output
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        save(draw(), output)
    except OSError as error:
        print(f"walkthrough: cannot write {output}: {error}", file=sys.stderr)
        return 1
    print(f"walkthrough: {output}")
    return 0


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of 256 colours, which is all that the picture needs: a third of the bytes."""
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png")
    Image.open(pixels).convert("RGB").quantize(256).save(path, format="png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
