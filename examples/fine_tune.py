"""From a Keras file to a network of one's own: port, fine-tune in PyTorch, hand back to Keras.

    python examples/fine_tune.py

MLPerf Tiny's visual wake words network (a MobileNet of Keras 2.4 for pictures of 96 x 96 pixels,
trained by Silicon Labs to say whether a person is in them) is downloaded (34 MB) and ported.  It
has never seen scikit-image's ``lfw_subset``: 100 faces and 100 other crops of 25 x 25 grey pixels,
far from the photographs that it was trained on.  It is tested on 40 of them, trained on the other
160, and tested again; its weights then go into a Keras file as they came from one.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

try:
    import torch
    import torch.nn.functional as F
    from fetch_model import MLTK, DemoError, fetch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from torch import Tensor, nn

    from tfcompat_dw import export_keras_weights, port_model
    from tfcompat_dw.porting.layers.normalization import BatchNormalization
except ImportError as error:
    sys.exit(f"fine_tune: {error}; run `make demo`, which installs what it needs")

BUILD = Path(__file__).resolve().parent.parent / "build"
SIDE = 96
TEST_IMAGES = 40
BATCH = 32
RATE = 3e-4
SEED = 0
PERSON = 0
"""The network's outputs are the probabilities of a person and of none."""


@dataclass
class Story:
    """What the picture shows."""

    images: Tensor
    labels: Tensor
    before: Tensor
    after: Tensor
    losses: list[float]


def main() -> None:
    """Port, test, train, test, hand back, draw."""
    options = arguments()
    torch.manual_seed(SEED)
    console = Console(highlight=False)
    try:
        with console.status(f"Fetching {MLTK.requirement} ({MLTK.megabytes} MB)"):
            file = fetch(MLTK, options.build / "downloads")[0]
    except DemoError as error:
        sys.exit(f"fine_tune: {error}")

    model = port_model(file)  # this is all it takes: a torch.nn.Module
    weights = sum(parameter.numel() for parameter in model.parameters())
    console.print(f"ported {file.name}: {len(list(model.children()))} layers, {weights:,} weights")

    images, labels, test_images, test_labels = pictures()
    before = probabilities(model, test_images)
    console.print(f"before: {accuracy(before, test_labels)} of {TEST_IMAGES} pictures right")
    losses = train(model, images, labels, options.epochs, console)
    after = probabilities(model, test_images)
    console.print(f"after: {accuracy(after, test_labels)} of {TEST_IMAGES} pictures right")

    handed_back = options.build / "fine_tuned.h5"
    export_keras_weights(model, file, handed_back)
    console.print(f"for Keras: {handed_back}")
    picture = options.build / "fine_tune.png"
    draw(picture, Story(test_images, test_labels, before, after, losses))
    console.print(f"picture: {picture}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--build", type=Path, default=BUILD, help="where all files go")
    return parser.parse_args()


def pictures() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images [n, 96, 96, 3] from 0 to 255 and labels, to train and to test."""
    from skimage.data import lfw_subset

    small = torch.from_numpy(lfw_subset()).float()[:, None]
    large = F.interpolate(small, (SIDE, SIDE), mode="bilinear").clamp(0, 1) * 255
    images = large.permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
    labels = torch.where(torch.arange(len(images)) < len(images) // 2, PERSON, 1 - PERSON)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return images[train], labels[train], images[test], labels[test]


def probabilities(model: nn.Module, images: Tensor) -> Tensor:
    """Of a person, for each image."""
    model.eval()
    with torch.inference_mode():
        return model(images)[:, PERSON]


def accuracy(person: Tensor, labels: Tensor) -> int:
    """How many are right."""
    return int(((person > 0.5) == (labels == PERSON)).sum())


def train(
    model: nn.Module, images: Tensor, labels: Tensor, epochs: int, console: Console
) -> list[float]:
    """Adam on all weights.  The losses.

    Batch norms keep the statistics of the photographs, as Keras advises for a few steps on few
    pictures: their moving averages would take hundreds of steps to follow (momentum 0.99).
    """
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    losses = []
    model.train()
    for layer in model.modules():
        if isinstance(layer, BatchNormalization):
            layer.eval()
    columns = TextColumn("training"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TextColumn("loss {task.fields[loss]}"), console=console) as bar:
        steps = epochs * len(images) // BATCH
        task = bar.add_task("", total=steps, loss="")
        for _ in range(epochs):
            for chosen in torch.randperm(len(images)).split(BATCH):
                optimizer.zero_grad()
                scores = model(images[chosen]).clamp_min(1e-7).log()  # it ends in a softmax
                loss = F.nll_loss(scores, labels[chosen])
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                bar.update(task, advance=1, loss=f"{losses[-1]:.3f}")
    return losses


def draw(path: Path, story: Story) -> None:
    """Test images with what the network said of them before and after, and the loss."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = 12
    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.2, 1))
    axes = left.subplots(3, shown // 3)
    for index, ax in enumerate(axes.flat):
        ax.imshow(story.images[index].numpy() / 255)
        ax.set_axis_off()
        person = bool(story.labels[index] == PERSON)
        words = [f"{float(values[index]):.0%}" for values in (story.before, story.after)]
        right_now = (float(story.after[index]) > 0.5) == person
        colour = "#1b7f4b" if right_now else "#b3261e"
        ax.set_title(f"{words[0]} → {words[1]}", fontsize=10, color=colour)
    counts = [accuracy(values, story.labels) for values in (story.before, story.after)]
    left.suptitle(
        f"A person? Before and after fine-tuning: {counts[0]}, {counts[1]} of {TEST_IMAGES} right",
        fontsize=11,
    )
    ax = right.subplots()
    ax.plot(range(1, len(story.losses) + 1), story.losses, color="#d1495b", linewidth=1)
    ax.set_xlabel("step")
    ax.set_ylabel("cross entropy")
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
