"""The tests' side of a TensorFlow process: starts `worker.py` and asks it questions."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
# No answer for this long means a hung process: end it, rather than the whole test run by hand.
PATIENCE = 600.0


class TensorFlowError(RuntimeError):
    """TensorFlow is missing, its process ended, or a question that has an answer raised in it."""


class TensorFlowProcess:
    """One TensorFlow with one back end. It starts with the first question."""

    def __init__(self, *, onednn: bool) -> None:
        self.onednn = onednn
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: TensorFlowError | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as this lives

    def ask(self, question: str, **arguments: Any) -> Any:
        """The answer of the worker's method of that name."""
        return self.ask_all([(question, arguments)])[0]

    def ask_all(self, questions: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        """The answers to many questions, in one message each way."""
        if self._failure is not None:
            raise self._failure
        if self._connection is None:
            self._start()
        assert self._connection is not None
        self._connection.send(list(questions))
        return [_value(answer) for answer in self._receive()]

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._process.kill()  # TensorFlow takes seconds to end by itself
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> None:
        ours, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(theirs.fileno())],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._connection = ours
        try:
            _value(self._receive())
        except TensorFlowError as error:
            advice = "these tests need it: pip install tensorflow-cpu==2.21.0, or run `make test`"
            self._failure = TensorFlowError(f"TensorFlow did not start ({error}); {advice}")
            raise self._failure from None

    def _environment(self) -> dict[str, str]:
        chosen = {
            "TF_ENABLE_ONEDNN_OPTS": str(int(self.onednn)),
            # with AMX, TensorFlow 2.21 gives for some bfloat16 shapes what lay in its memory
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
            "OMP_NUM_THREADS": "1",
            "KERAS_BACKEND": "tensorflow",
        }
        return {**os.environ, **chosen}

    def _receive(self) -> Any:
        assert self._connection is not None
        try:
            if self._connection.poll(PATIENCE):
                return self._connection.recv()
            problem = f"gave no answer within {PATIENCE:.0f} s"
        except (EOFError, ConnectionResetError):
            problem = "ended"
        self.close()
        raise TensorFlowError(f"the TensorFlow process {problem}:\n{self._last_words()}")

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode(errors="replace")


def _value(answer: tuple[str, Any]) -> Any:
    kind, value = answer
    if kind == "error":
        raise TensorFlowError(value)
    return value
