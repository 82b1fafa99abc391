"""Times the same network built from different layers, and checks that the answers agree."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mini_xception import FIRST
from torch import Tensor, nn

Job = Callable[[], Tensor]

WARM_UP = 3
SECONDS = 1.5  # per race, roughly
FEWEST, MOST = 15, 150  # rounds per race


@dataclass(frozen=True)
class Result:
    """Median seconds per run, and the largest difference from the first job's answer.

    The difference is relative to that answer's largest magnitude.
    """

    seconds: Mapping[str, float]
    difference: float


def inference(network: nn.Module, images: Tensor) -> Job:
    """The probabilities, without gradients."""
    network.eval()

    def job() -> Tensor:
        with torch.inference_mode():
            probabilities: Tensor = network(images)
        return probabilities

    return job


def training_step(network: nn.Module, images: Tensor) -> Job:
    """Forward and backward; the gradient of the first layer, to which all the others contribute."""
    network.train()
    emotions = torch.arange(len(images)) % 7

    def job() -> Tensor:
        network.zero_grad()
        logarithms = network(images).log()  # it ends in a softmax
        torch.autograd.backward(F.nll_loss(logarithms, emotions))
        gradient = network.get_submodule(FIRST).get_parameter("weight").grad
        assert gradient is not None
        return gradient

    return job


def race(jobs: Mapping[str, Job], on_progress: Callable[[float], None]) -> Result:
    """Run the jobs in turn, again and again; ``on_progress`` hears the share that is done.

    Taking turns spreads whatever else the machine does over all of them.
    """
    answers = [_warm_up(job) for job in jobs.values()]
    times: dict[str, list[float]] = {name: [] for name in jobs}
    rounds = _rounds(jobs)
    for index in range(rounds):
        for name, job in jobs.items():
            times[name].append(_seconds(job))
        on_progress((index + 1) / rounds)
    return Result({name: statistics.median(t) for name, t in times.items()}, _difference(answers))


def _warm_up(job: Job) -> Tensor:
    for _ in range(WARM_UP - 1):
        job()
    return job().clone()


def _rounds(jobs: Mapping[str, Job]) -> int:
    """How many rounds fit into SECONDS."""
    one_round = sum(_seconds(job) for job in jobs.values())
    return min(max(round(SECONDS / one_round), FEWEST), MOST)


def _seconds(job: Job) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def _difference(answers: list[Tensor]) -> float:
    first, *others = answers
    largest = max((other - first).abs().max().item() for other in others)
    return largest / first.abs().max().item()
