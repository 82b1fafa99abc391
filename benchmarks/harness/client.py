"""The coordinator's side of a worker process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.settings import Setting

WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 240.0  # seconds; a worker that takes longer is ended
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""For glibc: what is freed stays with the process.

Otherwise every call may get its result as new pages, which can take longer than computing it; to
whom that happens depends on the layout of the heap, so the same case would be fast in one run and
slow in the next.
"""


class NotAvailable(Exception):  # noqa: N818  # an answer rather than an error
    """Why there is no result."""


class Client:
    """Starts the process when it is first asked, and again after a case that killed it."""

    def __init__(self, setting: Setting, threads: int) -> None:
        self.setting = setting
        self.version: str | None = None
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as this lives
        self._never: str | None = None

    def ask(self, question: str, **arguments: Any) -> Any:
        """The answer of the worker's method of that name; raises ``NotAvailable``."""
        if self._connection is None:
            self._start()
        assert self._connection is not None
        try:
            self._connection.send((question, arguments))
        except (BrokenPipeError, ConnectionResetError):
            raise self._ended("ended") from None
        return self._receive()

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> None:
        if self._never is not None:
            raise NotAvailable(self._never)
        ours, theirs = Pipe()
        setting = self.setting
        descriptor = theirs.fileno()
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(WORKER), setting.module, setting.peer),
                *(str(self._threads), str(descriptor)),
            ],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=[descriptor],
            start_new_session=True,  # Ctrl-C is for the coordinator
        )
        theirs.close()
        self._connection = ours
        try:
            self.version = self._receive()
        except NotAvailable as reason:
            self._never = str(reason)
            self.close()
            raise

    def _environment(self) -> dict[str, str]:
        threads = str(self._threads)
        fixed = {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_DYNAMIC": "FALSE",
            "CUDA_VISIBLE_DEVICES": "-1",
            **KEEP_MEMORY,
        }
        return {**os.environ, **fixed, **self.setting.environment}

    def _receive(self) -> Any:
        assert self._connection is not None
        try:
            if not self._connection.poll(PATIENCE):
                raise self._ended(f"gave no answer within {PATIENCE:.0f} s")
            kind, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise self._ended("ended") from None
        if kind == "n/a":
            raise NotAvailable(value)
        return value

    def _ended(self, what: str) -> NotAvailable:
        self.close()
        self._errors.seek(0)
        words = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return NotAvailable(f"its process {what}" + (f": {words[-1][:200]}" if words else ""))
