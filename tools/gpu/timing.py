"""Times of calls that are too short to be timed one by one.

Every contestant, the copies among them, is timed alike: its calls, each on buffers of its own,
which together are several times the level 2 cache, are captured as one CUDA graph, and the graph is
replayed. Contestants take turns.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[], Any]
Timer = Callable[[int], list[float]]
"""Times of one call in seconds, as many as asked for."""
LEAST_CALLS = 6
"""Of a graph: what starting one takes is shared among them."""
ROUNDS = 5
TIMES_A_TURN = 2
CACHES = 4
"""Buffers of all calls over the level 2 cache."""
MOST_BUFFERS = 512


@dataclass(frozen=True)
class Machine:
    """Where things run, and how they are timed there."""

    device: str
    cache: int
    """Bytes of the last level that buffers have to be rotated through."""
    timer: Callable[[Sequence[Call]], Timer]

    def buffers(self, nbytes: int) -> int:
        """How many calls of so many bytes are cold; two at the least."""
        return min(MOST_BUFFERS, max(2, math.ceil(CACHES * self.cache / nbytes)))


def gpu() -> Machine:
    """The present one."""
    properties = torch.cuda.get_device_properties(0)
    return Machine("cuda", getattr(properties, "L2_cache_size", 64 << 20), graph_timer)


def rehearsal() -> Machine:
    """The CPU in a GPU's place: for tests of the program."""
    return Machine("cpu", 1, host_timer)


def graph_timer(calls: Sequence[Call]) -> Timer:
    """Replays of one CUDA graph of all the calls."""
    for call in calls[:2]:
        call()  # what is chosen or built at the first call is not captured
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    count = len(calls) * math.ceil(LEAST_CALLS / len(calls))
    with torch.cuda.graph(graph):
        # results stay alive for a whole round: otherwise all would be written to one buffer, warm
        results: deque[Any] = deque(maxlen=len(calls))
        for i in range(count):
            results.append(calls[i % len(calls)]())
        del results

    def times(wanted: int) -> list[float]:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(wanted + 1)]
        graph.replay()  # while it runs, the rest is queued: no waiting for the host is timed
        for event in events[:-1]:
            event.record()
            graph.replay()
        events[-1].record()
        torch.cuda.synchronize()
        pairs = itertools.pairwise(events)
        return [start.elapsed_time(end) / 1000 / count for start, end in pairs]

    return times


def host_timer(calls: Sequence[Call]) -> Timer:
    """By the host's clock."""

    def times(wanted: int) -> list[float]:
        found = []
        for _ in range(wanted):
            start = time.perf_counter()
            for call in calls:
                call()
            found.append((time.perf_counter() - start) / len(calls))
        return found

    return times


def race(timers: Mapping[str, Timer], rounds: int = ROUNDS) -> dict[str, float]:
    """Medians, in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name] += timer(TIMES_A_TURN)
    return {name: 1e6 * statistics.median(found) for name, found in times.items()}
