"""Graphs that nobody's TensorFlow wrote, on the whole way from the file to a port."""

from __future__ import annotations

import random
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "checkpoint"))

import flat_tables as flat  # noqa: E402
from graph_dice import random_graph  # noqa: E402
from graph_lies import FOUR, TEXT, beside, const, graph, holder, node, restoring  # noqa: E402
from tf_tables import INT32, bundle_entry, write_bundle  # noqa: E402

from tfcompat_dw import port_model  # noqa: E402
from tfcompat_dw.checkpoint import CheckpointError  # noqa: E402
from tfcompat_dw.checkpoint.tflite_schema import OPERATORS  # noqa: E402
from tfcompat_dw.porting import PortError  # noqa: E402


@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.full)])
def test_graphs_of_random_nodes_are_ported_or_refused(count: int, tmp_path: Path) -> None:
    write_bundle(tmp_path / "dice", {b"v": bundle_entry(FOUR, 4)}, FOUR)
    ends: Counter[str] = Counter()
    for number in range(count):
        data = random_graph(random.Random(number)).SerializeToString()
        (tmp_path / "dice.meta").write_bytes(data)
        try:
            port_model(tmp_path / "dice.meta")
        except (CheckpointError, PortError) as error:
            ends[type(error).__name__] += 1
        else:
            ends["ported"] += 1
    assert min(ends[end] for end in ("CheckpointError", "PortError", "ported")) > 0


def test_a_graph_of_variables_and_a_saver_is_no_network(tmp_path: Path) -> None:
    """Its only placeholder is the Saver's file name, which would be taken for input and output."""
    nodes = [made for made in restoring() if made["name"] not in (b"x", b"y", b"file")]
    text = {"dtype": {"type": TEXT}, "shape": {"shape": {}}}
    nodes += [const("name", type=TEXT, string_val=[b"model"])]
    nodes += [node("file", "PlaceholderWithDefault", "name", **text)]
    nodes += [node("saved", "Identity", "file", T={"type": TEXT})]
    write = beside(nodes)
    with pytest.raises(PortError, match="nothing but variables and what saves them"):
        port_model(write(tmp_path))


def test_2000_negations_in_a_row_are_no_matter_of_recursion(tmp_path: Path) -> None:
    """Behind ``relu(-x)``, which might be a part of a PReLU."""
    count = 2000
    negations = [node(f"n{n}", "Neg", f"n{n - 1}" if n else "part") for n in range(count)]
    write = graph(
        holder("x", 1, 4), const("alpha", 4), node("minus", "Neg", "x"),
        node("part", "Relu", "minus"), *negations, node("product", "Mul", "alpha", f"n{count - 1}"),
        node("positive", "Relu", "x"), node("y", "Sub", "positive", "product"),
    )  # fmt: skip
    x = torch.tensor([[1.5, -2.0, 0.0, -0.5]])
    assert torch.equal(port_model(write(tmp_path))(x), x.relu() - (-x).relu())


@pytest.mark.parametrize("op", OPERATORS)
def test_tflite_operators_with_any_number_of_inputs_are_ported_or_refused(
    op: str, tmp_path: Path
) -> None:
    """Some are constants, options are the schema's own."""
    data = flat.buffer(FOUR)
    for count in (0, 1, 2, 4):
        for constants in {0, count // 2, count}:
            inputs = [
                flat.tensor(f"t{n}", (1, 2, 2, 1), buffer=int(n < constants)) for n in range(count)
            ]
            tensors = [*inputs, flat.tensor("y", (1, 2, 2, 1))]
            operator = flat.operator(0, range(count), [count])
            graph = flat.subgraph(tensors, range(constants, count), [count], [operator])
            model = flat.model([graph], [data], [OPERATORS.index(op)])
            (tmp_path / "one.tflite").write_bytes(flat.flatbuffer(model))
            with suppress(PortError):
                port_model(tmp_path / "one.tflite")


def test_a_shape_that_is_a_single_number_is_no_matter_of_the_batch(tmp_path: Path) -> None:
    """TensorFlow takes lists only."""
    size = const("size", type=INT32, int_val=[4])
    write = graph(holder("x", 1, 4), size, node("y", "Reshape", "x", "size"))
    assert port_model(write(tmp_path))(torch.arange(4.0)[None]).tolist() == [0, 1, 2, 3]


def test_an_input_of_immense_size_is_refused(tmp_path: Path) -> None:
    write = graph(holder("x", 2**40, 2**40), node("y", "Neg", "x"))
    with pytest.raises(PortError, match=r"lie\.pb: an input of shape .* is larger than any is"):
        port_model(write(tmp_path))
