"""The demo after the download: port, read a face, race, draw."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import demo_picture
import numpy as np
import skimage.color
import skimage.data
import skimage.transform
import torch
from demo_picture import FaceBox
from demo_race import Job, Result, inference, race, training_step
from fetch_model import DemoError
from mini_xception import EMOTIONS, SIDE, on_stock_layers, port, prepare
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from torch import Tensor

from tfcompat_dw.checkpoint import CheckpointError
from tfcompat_dw.porting import PortedModel, PortError

FACE = FaceBox(top=70, left=170, side=110)  # in scikit-image's astronaut photograph
CROWD = 32  # faces per batch in the race
OURS = "tfcompat_dw"
CONTENDERS = {  # whether the separable layers are PyTorch's, and channels come last in memory
    OURS: (False, True),
    "PyTorch, channels_last": (True, True),
    "PyTorch, contiguous": (True, False),
}

# What runs, on how many faces, and how far the answers may be apart, relative to the largest value.
# Training has the wider limit because of PyTorch's BatchNorm: with channels last its sums are good
# to 1e-5 only, and fourteen of them in a row leave 1e-3 in the first layer's gradient.
RACES: dict[str, tuple[Callable[[PortedModel, Tensor], Job], int, float]] = {
    "one face": (inference, 1, 1e-5),
    f"{CROWD} faces": (inference, CROWD, 1e-5),
    f"{CROWD} faces, training": (training_step, CROWD, 5e-3),
}


def run(weights: Path, picture: Path, console: Console) -> None:
    """All of it, told on the console; DemoError if something does not fit."""
    network = _port(weights)
    console.print(f"Ported mini-Xception: {_count(network):,} weights, 8 separable convolutions")
    photo: np.ndarray = skimage.data.astronaut()
    face = crop(photo, FACE)
    with torch.inference_mode():
        scores = dict(zip(EMOTIONS, network(prepare(face[None]))[0].tolist(), strict=True))
    console.print(_score_table(scores), "")
    console.print(_race_table(_races(weights, photo, console)), "")
    demo_picture.draw(picture, network, photo, FACE, face, scores)
    console.print(f"Picture: {picture}")


def crop(photo: np.ndarray, box: FaceBox) -> Tensor:
    """The face in the box as the network wants it: grey, 64 x 64, 0 to 255."""
    rows, columns = slice(box.top, box.top + box.side), slice(box.left, box.left + box.side)
    grey = skimage.color.rgb2gray(photo[rows, columns])
    small = skimage.transform.resize(grey, (SIDE, SIDE), anti_aliasing=True)
    return torch.from_numpy(small * 255).float()


def _port(weights: Path) -> PortedModel:
    try:
        return port(weights)
    except (CheckpointError, PortError) as error:
        raise DemoError(f"{error}; delete {weights} and run the demo again") from error


def _count(network: PortedModel) -> int:
    return sum(
        value.numel() for value in network.state_dict().values() if value.is_floating_point()
    )


def _score_table(scores: dict[str, float]) -> Table:
    table = Table(title="\nThe astronaut's face", title_justify="left", min_width=44)
    table.add_column("emotion")
    table.add_column("score", justify="right")
    table.add_column("", width=24)
    best = max(scores, key=lambda emotion: scores[emotion])
    for emotion, score in scores.items():
        style = "bold green" if emotion == best else ""
        table.add_row(emotion, f"{score:.4f}", "█" * round(24 * score), style=style)
    return table


def _races(weights: Path, photo: np.ndarray, console: Console) -> dict[str, Result]:
    """Every race, with a progress bar; DemoError if the networks disagree."""
    crowd = _crowd(photo)
    network = _port(weights)
    results = {}
    with Progress(console=console, transient=True) as progress:
        for title, (kind, count, tolerance) in RACES.items():
            bar = progress.add_task(f"Timing {title}", total=1.0)
            jobs = {
                name: kind(
                    on_stock_layers(network) if stock else copy.deepcopy(network),
                    prepare(crowd[:count], last),
                )
                for name, (stock, last) in CONTENDERS.items()
            }
            results[title] = race(jobs, partial(_move, progress, bar))
            _check(title, results[title].difference, tolerance)
    return results


def _move(progress: Progress, bar: TaskID, share: float) -> None:
    progress.update(bar, completed=share)


def _crowd(photo: np.ndarray) -> Tensor:
    """The face again and again, a little further down or to the right each time."""
    boxes = [
        FaceBox(FACE.top + index // 8, FACE.left + index % 8, FACE.side) for index in range(CROWD)
    ]
    return torch.stack([crop(photo, box) for box in boxes])


def _check(title: str, difference: float, tolerance: float) -> None:
    if not difference <= tolerance:
        raise DemoError(
            f"{title}: {OURS} and stock PyTorch differ by {difference:.1e}, more than "
            f"{tolerance:.0e}; please report this as a bug"
        )


def _race_table(results: dict[str, Result]) -> Table:
    table = Table(
        title=f"The same network, median times on {torch.get_num_threads()} thread(s)",
        title_justify="left",
        caption="* the faster of PyTorch's memory formats: the opponent in the ratio",
        caption_justify="left",
    )
    table.add_column("separable layers from")
    for title in results:
        table.add_column(title, justify="right")
    for name in CONTENDERS:
        table.add_row(name, *(_time(result, name) for result in results.values()))
    table.add_section()
    table.add_row(f"{OURS} is", *(_verdict(result) for result in results.values()))
    table.add_row("answers agree to", *(f"{result.difference:.0e}" for result in results.values()))
    return table


def _time(result: Result, name: str) -> str:
    mark = "*" if name == _fastest_stock(result) else " "
    return f"{result.seconds[name] * 1e3:.2f} ms{mark}"


def _fastest_stock(result: Result) -> str:
    stock = [name for name in result.seconds if name != OURS]
    return min(stock, key=lambda name: result.seconds[name])


def _verdict(result: Result) -> str:
    """In words, so that nobody has to work out which way the ratio goes."""
    ratio = result.seconds[_fastest_stock(result)] / result.seconds[OURS]
    if ratio >= 1.05:
        return f"[bold green]{ratio:.2f}x faster[/] "
    if ratio > 0.95:
        return "as fast "
    return f"[bold red]{1 / ratio:.2f}x slower[/] "
