"""Names that nothing else has."""

from __future__ import annotations

from collections.abc import Iterable


class Names:
    """Names that are given once: ``name``, then ``name_1``, ``name_2``, ...

    Args:
        reserved: names that nothing else may get.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = set(reserved)
        self._last: dict[str, int] = {}

    def new(self, name: str) -> str:
        """The name, or the first one like it that is free."""
        unique = name
        while unique in self._taken:
            self._last[name] = self._last.get(name, 0) + 1
            unique = f"{name}_{self._last[name]}"
        self._taken.add(unique)
        return unique
