"""A worker process: one contestant, asleep on a pipe until it is told to do something.

Started by ``client.py`` with the module and class of the contestant, the number of threads and one
end of a pipe.  Nothing here uses stdout, which libraries may write to.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import data
from harness.cases import Case
from harness.peer import CannotRun, Job, Peer

FEWEST_WARM_UPS = 2


@dataclass
class Running:
    """The case in work, and what the last call returned."""

    case: Case
    job: Job
    expected: dict[str, data.Array]
    value: Any

    def fault(self) -> str | None:
        """What is wrong with the last result."""
        return data.fault(self.case, self.job.results(self.value), self.expected)


class Worker:
    """The questions: every public method answers one."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._running: Running | None = None

    def prepare(self, case: dict[str, Any], folder: str, warm_up: float) -> float:
        """Make the case ready, call it for `warm_up` seconds; about how long does a call take?"""
        self.drop()
        ready = Case.from_dict(case)
        names = data.RESULTS[ready.pass_]
        operands = data.Operands(
            *(data.load(Path(folder), name) for name in ("input", "filter", "grad"))
        )
        expected = {name: data.load(Path(folder), name) for name in names}
        job = self._peer.prepare(ready, operands)
        value = job.call()
        times: list[float] = []
        while len(times) < FEWEST_WARM_UPS or (sum(times) < warm_up and len(times) < 100):
            start = time.perf_counter()
            value = job.call()
            times.append(time.perf_counter() - start)
        self._running = Running(ready, job, expected, value)
        return min(times)

    def turn(self, calls: int) -> list[float]:
        """Seconds of each call, after one that brings caches and threads back to work."""
        running = self._ready()
        call, clock = running.job.call, time.perf_counter
        running.value = None
        call()
        times = []
        for _ in range(calls):
            running.value = None  # frees the last result before the clock starts
            start = clock()
            value = call()
            times.append(clock() - start)
            running.value = value
        return times

    def fault(self) -> str | None:
        """What is wrong with the result of the last call that was timed, or None."""
        return self._ready().fault()

    def drop(self) -> None:
        """Free the case's memory."""
        self._running = None
        gc.collect()

    def _ready(self) -> Running:
        if self._running is None:
            raise CannotRun("no case is ready")
        return self._running


def answer(worker: Worker, question: str, arguments: dict[str, Any]) -> tuple[str, Any]:
    """("answer", value), or ("n/a", reason): whatever a library raises is its answer."""
    try:
        return "answer", getattr(worker, question)(**arguments)
    except CannotRun as reason:
        return "n/a", str(reason)
    except Exception as error:
        return "n/a", f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """What the message says first, short enough for a table; TensorFlow begins with a traceback."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith('File "') and line[-1] != ":"]
    return (telling or [line for line in lines if line] or ["no message"])[0][:200]


def main() -> None:
    """Answer until the pipe closes."""
    module, peer, threads, descriptor = sys.argv[1:]
    connection = Connection(int(descriptor))
    try:
        contestant: Peer = getattr(importlib.import_module(module), peer)(int(threads))
    except Exception as error:  # a library that is missing or does not load
        connection.send(("n/a", f"{type(error).__name__}: {first_line(error)}"))
        return
    worker = Worker(contestant)
    gc.disable()  # no collection within a timed call; drop() collects
    gc.freeze()  # what the imports made is here to stay
    connection.send(("answer", contestant.version))
    while True:
        try:
            question, arguments = connection.recv()
        except EOFError:
            return
        connection.send(answer(worker, question, arguments))


if __name__ == "__main__":
    main()
