"""What a run found, and its JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cases import Case
from harness.race import Measurement
from harness.roofline import Rates, work

FORMAT = 1


@dataclass
class Results:
    """Everything that a report or a picture needs."""

    machine: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    """By setting."""
    rates: dict[int, Rates] = field(default_factory=dict)
    """By number of threads."""
    measurements: dict[Case, dict[str, Measurement]] = field(default_factory=dict)
    """By setting; cases in the order in which they ran."""

    def add(self, measurements: Iterable[Measurement]) -> None:
        """Keep them."""
        for measurement in measurements:
            of_case = self.measurements.setdefault(measurement.case, {})
            of_case[measurement.setting] = measurement

    def cases(self) -> list[Case]:
        """In the order in which they ran."""
        return list(self.measurements)

    def of(self, case: Case) -> dict[str, Measurement]:
        """The case's measurements, by setting."""
        return self.measurements.get(case, {})

    def seconds(self, case: Case, setting: str) -> float | None:
        """The time, if there is one."""
        measurement = self.of(case).get(setting)
        return None if measurement is None else measurement.seconds

    def fastest(self, case: Case, settings: Iterable[str]) -> tuple[str, float] | None:
        """Which of the settings took the least time, and how much."""
        timed = [(s, t) for s in settings if (t := self.seconds(case, s)) is not None]
        return min(timed, key=lambda pair: pair[1]) if timed else None

    def floor(self, case: Case) -> float:
        """The least time that the machine allows."""
        return work(case).floor(self.rates[case.threads])

    def save(self, path: Path) -> None:
        """Write the JSON file, with medians beside the turns for other readers."""
        content = {
            "format": FORMAT,
            "machine": self.machine,
            "versions": self.versions,
            "rates": [rates.to_dict() for rates in self.rates.values()],
            "measurements": [
                {
                    "setting": m.setting,
                    "case": m.case.to_dict(),
                    "seconds": m.seconds,
                    "turns": m.turns,
                    "reason": m.reason,
                }
                for of_case in self.measurements.values()
                for m in of_case.values()
            ],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> Results:
        """The inverse of ``save``."""
        content = json.loads(path.read_text())
        if content.get("format") != FORMAT:
            raise ValueError(f"{path} is not a results file of this version of the benchmark")
        rates = [Rates.from_dict(each) for each in content["rates"]]
        loaded = Results(content["machine"], content["versions"], {r.threads: r for r in rates})
        loaded.add(
            Measurement(m["setting"], Case.from_dict(m["case"]), tuple(m["turns"]), m["reason"])
            for m in content["measurements"]
        )
        return loaded


def distinct(values: Iterable[Any]) -> Sequence[Any]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(values))
