"""What several test files need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing that was compiled before, and nothing left behind."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
