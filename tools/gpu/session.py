"""One run: its time, its findings, and the file that keeps them."""

from __future__ import annotations

import faulthandler
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from gpu.layers import Layer, Row
from gpu.targets import verdicts

Item = TypeVar("Item")


class GpuLostError(Exception):
    """Nothing works on the GPU any more: the run has to go on in a new process."""


class Deadline:
    """A moment that a piece of work must not pass."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Nothing is left."""
        return self.left == 0.0

    def within(self, seconds: float) -> Deadline:
        """The earlier of this one and one in ``seconds``."""
        return Deadline(min(seconds, self.left))


class Report:
    """Counts cases, keeps the failures and what there was no time or no tool for."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.failures: list[str] = []
        self.left_out: list[str] = []
        self.progress: dict[str, int] = {}
        """How many items of a list have been begun, by its name."""
        self.running = ""
        """What is being done, in words."""
        self.until = math.inf
        """When it has to be done, by the monotonic clock."""

    def begin(self, name: str, seconds: float = math.inf) -> None:
        """Something that takes so long at the most: else a kernel does not end."""
        self.running = name
        self.until = time.monotonic() + seconds

    def remaining(self, name: str, items: Sequence[Item]) -> Iterator[Item]:
        """Those that no process of this run has begun."""
        for i in range(self.progress.get(name, 0), len(items)):
            self.progress[name] = i + 1
            yield items[i]

    def attempt(
        self,
        group: str,
        name: str,
        device: str,
        check: Callable[[], Sequence[str]],
        seconds: float = math.inf,
    ) -> None:
        """A case that says itself what is wrong, by an exception, too."""
        self.begin(f"{group}: {name}", seconds)
        try:
            wrong = check()
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
        self.until = math.inf
        self.case(group, name, wrong)
        if wrong and not works(device):
            raise GpuLostError(self.running)

    def case(self, group: str, name: str, wrong: Sequence[str]) -> None:
        """One case; ``wrong`` says what is wrong with it."""
        self.counts[group] = self.counts.get(group, 0) + 1
        if wrong:
            self.failures.append(f"{group}: {name}: {'; '.join(wrong)}")

    def leave_out(self, text: str) -> None:
        """What was not done, and why."""
        self.left_out.append(text)
        print("  LEFT OUT", text, flush=True)


def works(device: str) -> bool:
    """Whether the GPU still answers: an address that is out of bounds is the end of a process."""
    try:
        if device == "cuda":
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


@dataclass
class Session:
    """What all stages share."""

    device: str
    output: Path
    about: dict[str, Any]
    layers: Sequence[Layer]
    """Those that are to be timed."""
    report: Report = field(default_factory=Report)
    rows: list[Row] = field(default_factory=list)
    variants: list[Row] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    started: float = 0.0
    """Tells this run from an earlier one, when a process takes over."""
    begun: str = ""
    """The stage that a process is in, when it dies."""
    used: dict[str, float] = field(default_factory=dict)
    """Seconds of stages that go on in another process."""
    processes: int = 1

    def content(self) -> dict[str, Any]:
        """All that is known so far."""
        judged = verdicts(self.rows, self.layers) if self.device == "cuda" else []
        return {
            "device": self.device,
            **self.about,
            "counts": self.report.counts,
            "failures": self.report.failures,
            "left_out": self.report.left_out,
            "stages": self.stages,
            "started": self.started,
            "begun": self.begun,
            "used": self.used,
            "processes": self.processes,
            "progress": self.report.progress,
            "layers": self.layers,
            "verdicts": [str(verdict) for verdict in judged],
            "rows": self.rows,
            "variants": self.variants,
        }

    def save(self) -> None:
        """A run that is cut off later has left this."""
        content = self.content()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.output.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(content, indent=1) + "\n")
        unfinished.replace(self.output)

    def resume(self) -> None:
        """Takes over what the processes before this one have left, if they have come so far."""
        content = json.loads(self.output.read_text()) if self.output.exists() else {}
        if content.get("started") != self.started:
            return
        own = self.content()
        self.about |= {name: value for name, value in content.items() if name not in own}
        self.report.counts = content["counts"]
        self.report.failures = content["failures"]
        self.report.left_out = content["left_out"]
        self.report.progress = content["progress"]
        self.rows = content["rows"]
        self.variants = content["variants"]
        self.stages = content["stages"]
        self.used = content["used"]
        self.processes = content["processes"] + 1
        if content["begun"]:
            self.report.failures.append(f"{content['begun']}: the process died")
            self.stages[content["begun"]] = 0.0


@dataclass(frozen=True)
class Stage:
    """A part of the run, and the most time that it may take."""

    name: str
    seconds: float
    run: Callable[[Session, Deadline], None]
    resumes: bool = False
    """Whether a new process goes on within it (``Report.remaining``)."""


SHORTEST = 2.0  # seconds: with less, a stage is not begun
GRACE = 20.0  # seconds that a stage's last step may take beyond its end before the process ends
RESUME = 75
"""Exit status: go on with ``--resume``, in a process that has the GPU anew."""
MOST_PROCESSES = 8


def run_stages(session: Session, stages: Sequence[Stage], whole: Deadline) -> None:
    """One after the other, each within its own time and what is left of the whole."""
    session.save()
    for stage in stages:
        if stage.name in session.stages:
            continue
        seconds = min(stage.seconds - session.used.get(stage.name, 0.0), whole.left)
        if seconds < SHORTEST:
            session.report.leave_out(f"{stage.name}: the time is up")
            continue
        print(f"\n== {stage.name} (at most {seconds:.0f} s)", flush=True)
        session.begun = stage.name
        session.report.begin(stage.name)
        session.save()
        faulthandler.dump_traceback_later(seconds + 2 * GRACE, exit=True)  # what holds Python, too
        ended = threading.Event()
        arguments = (session, stage, seconds, ended)
        threading.Thread(target=_watch, args=arguments, daemon=True).start()
        try:
            _run_stage(session, stage, whole.within(seconds))
        finally:
            ended.set()
            faulthandler.cancel_dump_traceback_later()
        session.begun = ""
        session.save()
    session.save()


def _run_stage(session: Session, stage: Stage, deadline: Deadline) -> None:
    """An exception is a failure, and the other stages are still worth their time."""
    start = time.monotonic()
    try:
        stage.run(session, deadline)
        if session.device == "cuda":
            torch.cuda.synchronize()
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        session.report.failures.append(f"{stage.name} stopped: {words}")
        print("  WRONG", words[:400], flush=True)
        if isinstance(error, GpuLostError) or not works(session.device):
            _go_on_anew(session, stage, time.monotonic() - start)
    session.stages[stage.name] = round(time.monotonic() - start, 1)
    print(f"   {session.stages[stage.name]:.0f} s", flush=True)


def _watch(session: Session, stage: Stage, seconds: float, ended: threading.Event) -> None:
    """Finds a kernel that never ends, or a step that takes too long."""
    start = time.monotonic()
    end = start + seconds + GRACE
    while not ended.wait(0.05):
        now = time.monotonic()
        if now < min(end, session.report.until):
            continue
        try:
            session.report.failures.append(f"{stage.name} did not end, in {session.report.running}")
            print(f"  WRONG did not end, in {session.report.running}", flush=True)
            _go_on_anew(session, stage, now - start)
        finally:  # whatever the other thread is doing to what is saved
            os._exit(RESUME)


def _go_on_anew(session: Session, stage: Stage, seconds: float) -> None:
    """Ends the process at once: what waits for the GPU would wait for ever."""
    session.used[stage.name] = session.used.get(stage.name, 0.0) + seconds
    if not stage.resumes or session.processes >= MOST_PROCESSES:
        session.stages[stage.name] = round(session.used[stage.name], 1)
    session.begun = ""
    session.save()
    os._exit(RESUME)
