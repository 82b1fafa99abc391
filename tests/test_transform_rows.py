"""Every row of ``docs/transforms.md`` holds for this package, and the page says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import transform_table  # noqa: E402
from transform_rows import ROWS, Row, ours  # noqa: E402


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_row_holds(row: Row) -> None:
    assert row.fault(ours) is None


def test_the_page_shows_these_rows_and_ours_right_in_all_of_them() -> None:
    page = (ROOT / "docs" / "transforms.md").read_text()
    shown = transform_table.cells_of(page)
    assert list(shown) == [row.name for row in ROWS]
    assert {cells[0] for cells in shown.values()} == {transform_table.RIGHT}
