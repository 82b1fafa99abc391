"""The package's own tests that are marked ``cuda``, where pytest is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from gpu.process import Finished, run_within
from gpu.session import Deadline, Report

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ("tests/test_cuda.py",)
OPTIONS = ("-m", "cuda", "-v", "--tb=line", "-p", "no:cacheprovider", "--rootdir", str(ROOT))
OUTCOME = re.compile(r"^\S*::(.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b", re.MULTILINE)


def record(report: Report, finished: Finished) -> None:
    """Every test that came to an end is a case; a skipped one was left out."""
    outcomes = OUTCOME.findall(finished.output)
    skipped = [name for name, outcome in outcomes if outcome == "SKIPPED"]
    for name, outcome in outcomes:
        if outcome != "SKIPPED":
            report.case("tests", name, [outcome] if outcome in ("FAILED", "ERROR") else [])
    if skipped:
        report.leave_out(f"tests: {len(skipped)} skipped")
    if finished.status is None:
        report.leave_out(f"tests: no time after the first {len(outcomes)}")
    elif not outcomes or finished.status not in (0, 1):
        report.case("tests", "pytest", [finished.last_line])


def run_suite(report: Report, deadline: Deadline) -> None:
    """In a process of its own."""
    if importlib.util.find_spec("pytest") is None:
        report.leave_out("tests: pytest is not installed")
        return
    files = [str(ROOT / file) for file in FILES]
    command = [sys.executable, "-m", "pytest", *OPTIONS, *files]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    record(report, run_within(command, deadline.left, PYTHONPATH=path))
