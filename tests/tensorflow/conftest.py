"""The two TensorFlow processes. A missing TensorFlow fails the tests that need it; nothing is
skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from client import TensorFlowProcess
from oracle import Oracle


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def tf_eigen() -> Iterator[TensorFlowProcess]:
    """TensorFlow's own CPU kernels, which its documentation describes, with all argument checks."""
    process = TensorFlowProcess(onednn=False)
    yield process
    process.close()


@pytest.fixture(scope="session")
def tf_onednn() -> Iterator[TensorFlowProcess]:
    """TensorFlow as it starts by default on x86."""
    process = TensorFlowProcess(onednn=True)
    yield process
    process.close()


@pytest.fixture(scope="session")
def oracle(tf_eigen: TensorFlowProcess, tf_onednn: TensorFlowProcess) -> Oracle:
    return Oracle(tf_eigen, tf_onednn)
