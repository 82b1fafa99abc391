"""What several test files need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

LONG = ("test_kernels.py", "test_cuda_faults.py", "test_packaging.py")
"""Files that compile for minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first: processes that share the files out end together."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing that was compiled before, and nothing left behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
