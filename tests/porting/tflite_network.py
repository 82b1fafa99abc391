"""Small TFLite networks as plain data: what a test asks ``tflite_run.py`` to write and to run."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent


@dataclass
class Steps:
    """``real = scale * (stored - zero_point)``."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...] = (0,)
    axis: int = 0


@dataclass
class Tensor:
    """A tensor of the file: a constant if it has ``data``."""

    dtype: str
    shape: tuple[int, ...] = ()
    data: bytes | None = None
    steps: Steps | None = None
    sparsity: dict[str, Any] | None = None
    name: str = ""
    is_variable: bool = False
    open_shape: tuple[int, ...] | None = None
    """With -1 where a size is open."""


@dataclass
class Operator:
    """One operator; tensors by their numbers, -1 for none."""

    name: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any] = field(default_factory=dict)
    custom: bytes | None = None


@dataclass
class Network:
    """One subgraph, or several: ``others`` are those that operators of the first one call."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    others: list[Network] = field(default_factory=list)
    is_plain: bool = False
    """Whether TFLite's slow kernels are to run it, which define what the others compute."""

    def add(self, tensor: Tensor) -> int:
        """The tensor's number."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1


class Interpreter:
    """TensorFlow's own writer of files and its interpreter, in one process for many networks."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "tflite_run.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def __call__(
        self, network: Network | str, inputs: list[np.ndarray] | None
    ) -> tuple[bytes, list[np.ndarray] | str]:
        """The file, and its outputs or what the interpreter says against it.

        Without inputs the file is written and not run.  A name is that of a function of
        ``tflite_run.py``, which TensorFlow itself converts and computes.
        """
        assert self.process.stdin
        assert self.process.stdout
        data = pickle.dumps((network, inputs))
        self.process.stdin.write(struct.pack("<q", len(data)) + data)
        self.process.stdin.flush()
        head = self.process.stdout.read(8)
        if len(head) < 8:
            status = self.process.wait(timeout=60)
            self._start()  # so that one network is to blame
            return b"", f"the interpreter ended with status {status}"
        return pickle.loads(self.process.stdout.read(struct.unpack("<q", head)[0]))

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(timeout=60)
