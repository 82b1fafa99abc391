"""What several test files of graphs need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tflite_network import Interpreter


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """TFLite's, in a process that starts with the first test that asks for it."""
    process = Interpreter()
    yield process
    process.close()
