"""Trains a small MobileNet to tell faces from other pictures, in one process or in several.

    python examples/train_distributed.py
    torchrun --nproc-per-node 2 examples/train_distributed.py
    torchrun --nproc-per-node 2 --max-restarts 1 examples/train_distributed.py --crash-at 60

Every process takes its part of each batch, DistributedDataParallel averages the gradients, and the
parameters come out as those of one process (to 1e-9 of the largest: float64, sums in another
order).  The first process writes a checkpoint as it goes; whoever starts again with the same
``--folder`` goes on from there: give each of these commands a folder of its own.  The last one
kills a process on the way.

The pictures are 200 of 25 x 25 pixels from scikit-image (``lfw_subset``), 40 of them kept for the
test; the layers are ``tfcompat_dw.SeparableConv2D``, and group norms, which do not look at other
examples of the batch.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from torch import Tensor, nn
    from torch.nn.parallel import DistributedDataParallel

    from tfcompat_dw import SeparableConv2D
except ImportError as error:
    sys.exit(f"train_distributed: {error}; run `make demo`, which installs what it needs")

FOLDER = Path(__file__).resolve().parent.parent / "build" / "train"
BATCH = 32
TEST_IMAGES = 40
SEED = 0


@dataclass
class State:
    """What a checkpoint holds besides the model."""

    step: int = 0
    losses: list[float] = field(default_factory=list)


def main() -> None:
    """Train, test, draw."""
    options = arguments()
    torch.set_num_threads(1)
    rank, processes = start_processes()
    if BATCH % processes:
        sys.exit(f"train_distributed: {processes} processes cannot share batches of {BATCH}")
    options.folder.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, quiet=rank > 0)
    images, labels, test_images, test_labels = faces()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    checkpoint = options.folder / "checkpoint.pt"
    state = resume(saved_state(checkpoint, rank, processes), model, optimizer)
    if state.step:
        console.print(f"going on from step {state.step} of {checkpoint}")
    parallel = DistributedDataParallel(model) if processes > 1 else model
    share = BATCH // processes
    columns = TextColumn("training on {task.fields[n]}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TextColumn("loss {task.fields[loss]}"), console=console) as bar:
        names = f"{processes} process{'es' if processes > 1 else ''}"
        task = bar.add_task("", total=options.steps, completed=state.step, n=names, loss="")
        while state.step < options.steps:
            if options.crash_at == state.step and rank == processes - 1 and is_first_start():
                os.kill(os.getpid(), signal.SIGKILL)
            chosen = batch_of(state.step, len(images))[rank * share : (rank + 1) * share]
            loss = step(parallel, optimizer, images[chosen], labels[chosen])
            state.losses.append(average(loss, processes))
            state.step += 1
            bar.update(task, completed=state.step, loss=f"{state.losses[-1]:.3f}")
            if rank == 0 and (state.step % options.save_every == 0 or state.step == options.steps):
                save(checkpoint, model, optimizer, state)
    if rank == 0:
        with torch.inference_mode():
            right = (model(test_images).argmax(1) == test_labels).sum().item()
        console.print(f"{right} of {TEST_IMAGES} pictures right that it had not seen")
        picture = options.folder / "loss.png"
        draw(picture, state.losses)
        console.print(f"the loss: {picture}")
    if processes > 1:
        dist.destroy_process_group()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--save-every", type=int, default=20, help="steps from checkpoint to next")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of checkpoint and picture")
    parser.add_argument("--crash-at", type=int, help="the step before which a process is killed")
    return parser.parse_args()


def start_processes() -> tuple[int, int]:
    """This one's rank, and how many there are: what torchrun says, or one."""
    if "RANK" not in os.environ:
        return 0, 1
    store, rank, processes = next(dist.rendezvous("env://"))
    # started again, processes must not find the addresses of those that were killed
    store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    return dist.get_rank(), dist.get_world_size()


def is_first_start() -> bool:
    """Whether torchrun has not restarted the processes yet."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"


def faces() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images [n, 1, 25, 25] and labels (1: a face), to train and to test."""
    from skimage.data import lfw_subset

    images = torch.from_numpy(lfw_subset()).double()[:, None] - 0.5
    labels = (torch.arange(len(images)) < len(images) // 2).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    return images[train], labels[train], images[test], labels[test]


def network() -> nn.Module:
    """A MobileNet of three blocks; the same weights in every process."""
    torch.manual_seed(SEED)

    def block(inputs: int, outputs: int, strides: int) -> nn.Module:
        layer = SeparableConv2D(
            *(inputs, outputs, 3, strides, "same"), data_format="channels_first", use_bias=False
        )
        return nn.Sequential(layer, nn.GroupNorm(4, outputs), nn.ReLU())

    return nn.Sequential(
        *(block(1, 16, 1), block(16, 32, 2), block(32, 64, 2), block(64, 64, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)),
    ).double()


def batch_of(step: int, count: int) -> Tensor:
    """Which images make the batch of a step, whoever asks."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(step))[:BATCH]


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> Tensor:
    """One step of gradient descent; the loss."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()


def average(loss: Tensor, processes: int) -> float:
    """Over the processes."""
    if processes > 1:
        dist.all_reduce(loss)
    return loss.item() / processes


def saved_state(path: Path, rank: int, processes: int) -> dict[str, Any] | None:
    """The first process's checkpoint, for all of them: only it needs to see the folder."""
    found = [torch.load(path, weights_only=True) if rank == 0 and path.exists() else None]
    if processes > 1:
        dist.broadcast_object_list(found)
    return found[0]


def resume(
    saved: dict[str, Any] | None, model: nn.Module, optimizer: torch.optim.Optimizer
) -> State:
    """From a checkpoint, if there is one."""
    if saved is None:
        return State()
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return State(saved["step"], saved["losses"])


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """In one piece: whoever is killed meanwhile leaves the old one."""
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), **vars(state)}
    written = path.with_suffix(".tmp")
    torch.save(content, written)
    written.replace(path)


def draw(path: Path, losses: list[float]) -> None:
    """The loss of every step."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
    ax.plot(range(1, len(losses) + 1), losses, color="#d1495b", linewidth=1)
    ax.set_xlabel("step")
    ax.set_ylabel("cross entropy")
    ax.set_title("Faces or not, a small MobileNet on tfcompat_dw's layers", fontsize=10)
    ax.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
