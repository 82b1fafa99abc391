"""The two TensorFlow processes. Where TensorFlow is missing its tests fail; none is skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from client import TensorFlowProcess
from oracle import Oracle


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    """Work is shared between threads on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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
