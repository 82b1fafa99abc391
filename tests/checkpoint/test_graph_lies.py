"""Graphs that lie are refused, by file, place and reason, in little memory and time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tfcompat_dw.checkpoint import open_checkpoint

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from graph_lies import LARGE, LIES, graph, holder, loop_of_tf_1, node  # noqa: E402
from test_tf_checkpoints import run  # noqa: E402

MEMORY, SECONDS = 128, 20
"""MiB, and seconds of one processor, for each file.  None takes more than 90 MiB, or 4 seconds."""


def written(folder: Path, cases: dict[str, Any]) -> dict[str, Path]:
    """Each in a folder of its own."""
    found = {}
    for number, (name, write) in enumerate(cases.items()):
        inner = folder / f"case_{number}"
        inner.mkdir()
        found[name] = write(inner)
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What reading each of them says, all in one process with little memory."""
    folder = tmp_path_factory.mktemp("lies")
    paths = written(folder, {name: write for name, (write, _) in LIES.items()})
    output = run(HERE / "graph_read.py", MEMORY, SECONDS, *paths.values())
    found = json.loads(output)
    return {name: {**found[str(path)], "folder": str(path.parent)} for name, path in paths.items()}


@pytest.mark.parametrize("lie", LIES)
def test_a_graph_that_lies_is_refused(lie: str, told: dict[str, Any]) -> None:
    about = told[lie]
    assert "error" in about, about
    reasons = LIES[lie][1].split("|")
    assert any(reason in about["error"] for reason in reasons), about["error"]
    assert about["path"].startswith(about["folder"])
    assert len(about["error"]) < 2000


def test_large_graphs_are_read_in_a_time_that_their_size_explains(
    tmp_path: Path,
) -> None:
    """Quadratic work would take minutes for some, and exponential work forever."""
    paths = written(tmp_path, LARGE)
    found = json.loads(run(HERE / "graph_read.py", 512, SECONDS, *paths.values()))
    assert all("nodes" in found[str(path)] for path in paths.values()), found


def test_loops_whose_names_meet_stay_apart(tmp_path: Path) -> None:
    """Of two frames, ``f`` and ``f_``, the first has the name of a node, too."""
    first, second = loop_of_tf_1("a", "f", "f"), loop_of_tf_1("b", "f_", "a/exit")
    write = graph(holder(), node("f", "Neg", "x"), *first, *second, node("y", "Abs", "b/exit"))
    found = open_checkpoint(write(tmp_path)).graph()
    assert found is not None
    ops = [node.op for node in found.nodes.values()]
    assert ops == ["Placeholder", "Neg", "While", "While", "Abs"]
