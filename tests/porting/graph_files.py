"""The files that `graph_networks.py` writes, once for all tests of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tfcompat_dw.porting.model import flat

PROGRAM = Path(__file__).with_name("graph_networks.py")
LIBRARIES = ("keras", "tf_keras")
NAMES = ("mixed", "paddings", "chain", "frozen", "deep", "mobilenet_v2")
BOUND = 1e-5
"""Of the largest value.  Sums of fewer than 1e3 float32 products are off by about 1e3 * 2**-24 / 30
= 2e-6 where rounding errors mostly cancel; batch normalization and 50 layers add to that."""


class Networks:
    """Files and what Keras computes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, library: str, name: str, ending: str) -> Path:
        return self.folder / library / f"{name}.{ending}"

    def values(self, library: str, name: str, kind: str) -> dict[str, np.ndarray]:
        """Of the kind "input", "output" or "layer", by number or name."""
        with np.load(self.file(library, name, "npz")) as arrays:
            found = {key: arrays[key] for key in arrays if key.startswith(f"{kind} ")}
        return {key.partition(" ")[2]: value for key, value in found.items()}

    def inputs(self, library: str, name: str) -> list[torch.Tensor]:
        return [torch.from_numpy(value) for value in self.values(library, name, "input").values()]


@pytest.fixture(scope="session")
def networks(tmp_path_factory) -> Networks:
    """Both libraries' networks; importing this in several modules writes them once."""
    folder = tmp_path_factory.getbasetemp() / "graph_networks"
    if not folder.exists():
        for library in LIBRARIES:
            (folder / library).mkdir(parents=True)
        programs = [
            subprocess.Popen([sys.executable, PROGRAM, library, folder / library], **QUIET)
            for library in LIBRARIES
        ]
        for program in programs:
            _, errors = program.communicate()
            assert program.returncode == 0, errors
    return Networks(folder)


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}


def run(model, inputs) -> list[torch.Tensor]:
    """The outputs, flattened."""
    with torch.no_grad():
        return flat(model(*inputs))


def distance(actual, expected) -> float:
    """The largest difference over the largest value."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    largest = np.abs(expected).max(initial=0)
    return float(np.abs(actual - expected).max(initial=0) / (largest or 1))
