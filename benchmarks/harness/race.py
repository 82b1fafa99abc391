"""The coordinator: gives turns round-robin, so that one worker is awake and the others sleep.

A turn is some calls in a row, after one that does not count and brings the caches, the clock rate
and the threads back to work.  A contestant's time is the median, over its turns, of the medians of
its turns: whatever else the machine does is spread over all contestants.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import data
from harness.cases import Case
from harness.client import Client, NotAvailable
from harness.expected import expected_results


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 9
    warm_up_seconds: float = 0.05
    turn_seconds: float = 0.03
    """About how long a turn takes; slow contestants make one call."""
    budget_seconds: float = 1.5
    """A contestant that has used it up, and had `fewest_rounds` turns, gets no more."""
    fewest_rounds: int = 3
    pause_seconds: float = 0.005
    """Between turns: threads that spin for more work go to sleep."""
    most_calls: int = 1000


@dataclass(frozen=True)
class Measurement:
    """One contestant's time for a case, or why there is none."""

    setting: str
    case: Case
    turns: tuple[float, ...] = ()
    """Median seconds of a call, by turn."""
    reason: str | None = None

    @property
    def seconds(self) -> float | None:
        """The median of the turns."""
        return statistics.median(self.turns) if self.reason is None else None

    @property
    def spread(self) -> float | None:
        """The interquartile range of the turns, as a share of the median."""
        if self.seconds is None or len(self.turns) < 2:
            return None
        low, _, high = statistics.quantiles(self.turns, n=4, method="inclusive")
        return (high - low) / self.seconds


@dataclass
class _Contestant:
    client: Client
    calls: int = 1
    turns: list[float] = field(default_factory=list)
    used: float = 0.0
    reason: str | None = None

    def ask(self, question: str, **arguments: object) -> object:
        """The worker's answer; None once it has failed, with the reason kept."""
        if self.reason is not None:
            return None
        try:
            return self.client.ask(question, **arguments)
        except NotAvailable as reason:
            self.reason = str(reason)
            return None

    def check(self) -> None:
        """A result that is wrong has no time."""
        fault = self.ask("fault")
        if isinstance(fault, str):
            self.reason = fault

    def prepare(self, case: Case, folder: Path, plan: Plan) -> None:
        """Warm up, look at the result, and decide how many calls make a turn."""
        warm_up = plan.warm_up_seconds
        seconds = self.ask("prepare", case=case.to_dict(), folder=str(folder), warm_up=warm_up)
        self.check()
        if isinstance(seconds, float):
            wanted = plan.turn_seconds / max(seconds, 1e-7)
            self.calls = round(min(max(wanted, 1), plan.most_calls))

    def turn(self, plan: Plan) -> None:
        """Its turn, if it still races."""
        if self.used > plan.budget_seconds and len(self.turns) >= plan.fewest_rounds:
            return
        start = time.perf_counter()
        times = self.ask("turn", calls=self.calls)
        self.used += time.perf_counter() - start
        if isinstance(times, list):
            self.turns.append(statistics.median(times))
            time.sleep(plan.pause_seconds)


def race(
    clients: Sequence[Client],
    case: Case,
    folder: Path,
    plan: Plan,
    on_step: Callable[[], None] = lambda: None,
) -> list[Measurement]:
    """Time all contestants on the case, whose files go into ``folder``.

    ``on_step`` is called ``plan.rounds + 2`` times.
    """
    operands = data.make_operands(case)
    data.save(folder, vars(operands).items())
    data.save(folder, expected_results(case, operands).items())
    del operands
    contestants = [_Contestant(client) for client in clients]
    for contestant in contestants:
        contestant.prepare(case, folder, plan)
        time.sleep(plan.pause_seconds)
    on_step()
    for _ in range(plan.rounds):
        for contestant in contestants:
            contestant.turn(plan)
        on_step()
    for contestant in contestants:
        contestant.check()
        contestant.ask("drop")
    on_step()
    return [Measurement(c.client.setting.name, case, tuple(c.turns), c.reason) for c in contestants]
