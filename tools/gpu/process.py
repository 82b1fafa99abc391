"""Programs that have to end in time."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finished:
    """What a program left."""

    status: int | None
    """Of its exit; None: it was ended because its time was over."""
    output: str
    """Both streams."""

    @property
    def last_line(self) -> str:
        """Where programs that fail say why."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"exit status {self.status}"


def run_within(command: Sequence[str], seconds: float, **environment: str) -> Finished:
    """Runs a program; it and all that it has started end after some seconds."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a group of its own
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        return Finished(process.returncode, output)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Finished(None, _what_is_left(process))
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def _what_is_left(process: subprocess.Popen[str]) -> str:
    """Of its output; what it started in groups of their own may hold the pipe open for long."""
    try:
        return process.communicate(timeout=5)[0]
    except subprocess.TimeoutExpired:
        return ""
