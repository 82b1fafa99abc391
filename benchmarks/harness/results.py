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

FORMAT = 2


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
        """Write the JSON file, a case per line."""
        head = {
            "format": FORMAT,
            "machine": self.machine,
            "versions": self.versions,
            "rates": [rates.to_dict() for rates in self.rates.values()],
        }
        cases = [
            json.dumps({"case": case.to_dict(), **_settings_of(of_case)})
            for case, of_case in self.measurements.items()
        ]
        content = json.dumps(head, indent=1).removesuffix("\n}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{content},\n "cases": [\n  ' + ",\n  ".join(cases) + "\n ]\n}\n")

    @staticmethod
    def load(*paths: Path) -> Results:
        """The inverse of ``save``; of several runs on one machine, the last one's rates."""
        loaded = Results({})
        for path in paths:
            content = json.loads(path.read_text())
            if content.get("format") != FORMAT:
                raise ValueError(f"{path} is not a results file of this version of the benchmark")
            loaded.machine = content["machine"]
            loaded.versions |= content["versions"]
            rates = [Rates.from_dict(each) for each in content["rates"]]
            loaded.rates |= {each.threads: each for each in rates}
            for each in content["cases"]:
                case = Case.from_dict(each["case"])
                turns = {
                    name: Measurement(name, case, tuple(t)) for name, t in each["turns"].items()
                }
                reasons = each["no_time"].items()
                missing = {name: Measurement(name, case, reason=why) for name, why in reasons}
                loaded.add((*turns.values(), *missing.values()))
        return loaded


def _settings_of(of_case: dict[str, Measurement]) -> dict[str, Any]:
    """Seconds of each turn, to four digits, or why there are none."""
    return {
        "turns": {
            name: [float(f"{seconds:.4g}") for seconds in m.turns]
            for name, m in of_case.items()
            if m.reason is None
        },
        "no_time": {name: m.reason for name, m in of_case.items() if m.reason is not None},
    }


def distinct(values: Iterable[Any]) -> Sequence[Any]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(values))
