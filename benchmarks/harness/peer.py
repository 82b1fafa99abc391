"""What a worker process asks of the contestant that lives in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from harness.cases import Case
from harness.data import Array, Operands


class CannotRun(Exception):  # noqa: N818  # an answer rather than an error
    """Why a contestant has no result for a case."""


class Job(NamedTuple):
    """A case made ready: operands converted, graphs compiled."""

    call: Callable[[], Any]
    """What is timed."""
    results: Callable[[Any], dict[str, Array]]
    """From what it returned: float32, images [n, h, w, c], filter gradients [h, w, in, mult]."""


class Peer(ABC):
    """One library with one setting.  Its imports happen when it is made."""

    version: str

    @abstractmethod
    def __init__(self, threads: int) -> None:
        """Import the library and fix its number of threads."""

    @abstractmethod
    def prepare(self, case: Case, operands: Operands) -> Job:
        """Raises ``CannotRun``, or whatever the library raises, if the case is not for it."""
