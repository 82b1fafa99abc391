"""Graphs that lie are refused, by file, place and reason, in little memory and time."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tfcompat_dw.checkpoint import CheckpointError, open_checkpoint
from tfcompat_dw.checkpoint.graph import Graph

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from graph_dice import random_graph  # noqa: E402
from graph_lies import (  # noqa: E402
    FOUR,
    LARGE,
    LIES,
    graph,
    holder,
    loop_of_tf_1,
    node,
    of_objects,
    with_values,
)
from test_tf_checkpoints import run  # noqa: E402
from tf_tables import bundle_entry, write_bundle  # noqa: E402

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
    ops = [one.op for one in found.nodes.values()]
    assert ops == ["Placeholder", "Neg", "While", "While", "Abs"]


def test_variables_of_the_size_that_the_file_says_are_read(tmp_path: Path) -> None:
    """Beside the lie of another size."""
    found = open_checkpoint(with_values(4)(tmp_path)).graph()
    assert found is not None
    (name,) = found.variable_names
    assert found.constants[name].tolist() == [1, 2, 3, 4]


def test_arguments_that_callers_give_one_name_are_told_apart(tmp_path: Path) -> None:
    name = {"key": b"_user_specified_name", "value": {"s": b"x"}}
    notes = [{"key": number, "value": {"attr": [name]}} for number in range(3)]
    write = of_objects(arguments=("a", "b", "c"), notes=notes)
    found = open_checkpoint(write(tmp_path)).graph()
    assert found is not None
    assert [one.name for one in found.inputs] == ["x", "x_1", "x_2"]


def read_random(number: int, folder: Path) -> set[str]:
    """The operations of a random graph, all of which is read."""
    path = folder / "dice.meta"
    path.write_bytes(random_graph(random.Random(number)).SerializeToString())
    found = open_checkpoint(path).graph()
    assert found is not None
    check_graph(found)
    for name in found.constants:
        found.constants[name]
    return {one.op for one in found.nodes.values()}


def check_graph(graph: Graph) -> None:
    """Nodes come after those that they take results of; so it is within maps."""
    before: set[str] = set()
    for name, found in graph.nodes.items():
        assert name == found.name
        assert {one.node for one in found.inputs} <= before
        before.add(name)
        if found.op == "MapFn":
            body = found.attributes["body"]
            assert len(body.inputs) == len(found.inputs)
            check_graph(body)
    assert {one.node for one in graph.outputs.values()} <= before
    assert {one.output.node for one in graph.inputs} <= before
    names = [one.name for one in graph.inputs]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("count", [700, pytest.param(50_000, marks=pytest.mark.full)])
def test_graphs_of_random_nodes_are_read_or_refused(count: int, tmp_path: Path) -> None:
    write_bundle(tmp_path / "dice", {b"v": bundle_entry(FOUR, 4)}, FOUR)
    met: Counter[str] = Counter()
    for number in range(count):
        with suppress(CheckpointError):
            met.update(read_random(number, tmp_path))
    assert met["Placeholder"] > count / 5
    assert {"MapFn", "While", "Variable", "Switch", "Merge", "If", "Split"} <= set(met)
