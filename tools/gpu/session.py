"""One run: its time, its findings, and the file that keeps them."""

from __future__ import annotations

import faulthandler
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpu.layers import Layer, Row
from gpu.targets import verdicts


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

    def case(self, group: str, name: str, wrong: Sequence[str]) -> None:
        """One case; ``wrong`` says what is wrong with it."""
        self.counts[group] = self.counts.get(group, 0) + 1
        if wrong:
            self.failures.append(f"{group}: {name}: {'; '.join(wrong)}")

    def leave_out(self, text: str) -> None:
        """What was not done, and why."""
        self.left_out.append(text)
        print("  LEFT OUT", text, flush=True)


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


@dataclass(frozen=True)
class Stage:
    """A part of the run, and the most time that it may take."""

    name: str
    seconds: float
    run: Callable[[Session, Deadline], None]


SHORTEST = 2.0  # seconds: with less, a stage is not begun
GRACE = 20.0  # seconds that a stage's last step may take beyond its end before the process ends


def run_stages(session: Session, stages: Sequence[Stage], whole: Deadline) -> None:
    """One after the other, each within its own time and what is left of the whole."""
    session.save()
    for stage in stages:
        if whole.left < SHORTEST:
            session.report.leave_out(f"{stage.name}: the time is up")
            continue
        seconds = min(stage.seconds, whole.left)
        print(f"\n== {stage.name} (at most {seconds:.0f} s)", flush=True)
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True)  # a kernel that never ends
        try:
            _run_stage(session, stage, whole)
        finally:
            faulthandler.cancel_dump_traceback_later()
        session.save()
    session.save()


def _run_stage(session: Session, stage: Stage, whole: Deadline) -> None:
    """An exception is a failure, and the other stages are still worth their time."""
    start = time.monotonic()
    try:
        stage.run(session, whole.within(stage.seconds))
        if session.device == "cuda":
            torch.cuda.synchronize()
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        session.report.failures.append(f"{stage.name} stopped: {words}")
        print("  WRONG", words[:400], flush=True)
    session.stages[stage.name] = round(time.monotonic() - start, 1)
    print(f"   {session.stages[stage.name]:.0f} s", flush=True)
