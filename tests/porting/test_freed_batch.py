"""A batch that a graph fixes to one is freed where its examples stay apart, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_graph import SmallGraph, numbers

from tfcompat_dw.porting.model import flat

IMAGES = torch.from_numpy(numbers(1, 2, 6, 8, 5))
SHAPE = (1, 6, 8, 5)


def separate(graph: SmallGraph, x: str) -> str:
    """As a classifier: rows of numbers by constant shapes."""
    y = graph.conv(x, graph.constant(numbers(2, 3, 3, 5, 4)), strides=[1, 2, 2, 1])
    y = graph.node("Reshape", y, graph.constant([1, 48], "int32"))
    return graph.node("Softmax", graph.node("MatMul", y, graph.constant(numbers(3, 48, 3))))


def rows(graph: SmallGraph, x: str) -> str:
    """All pixels of all examples in one matrix, and back."""
    y = graph.node("Reshape", x, graph.constant([-1, 5], "int32"))
    y = graph.node("MatMul", y, graph.constant(numbers(2, 5, 3)))
    return graph.node("Reshape", y, graph.constant([1, 48, 3], "int32"))


def mean_of_all(graph: SmallGraph, x: str) -> str:
    axes = graph.constant([0, 1, 2], "int32")
    return graph.node("Sub", x, graph.node("Mean", x, axes, keep_dims=True))


def first_of_all(graph: SmallGraph, x: str) -> str:
    first = graph.node(
        "StridedSlice", x, *(graph.constant([n], "int32") for n in (0, 1, 1)), shrink_axis_mask=1
    )
    return graph.node("AddV2", x, first)


def statistics_of_the_batch(graph: SmallGraph, x: str) -> str:
    ones, none = graph.constant(np.ones(5)), graph.constant(np.zeros(0))
    return graph.node(
        "FusedBatchNormV3", x, ones, ones, none, none,
        is_training=True, epsilon=1e-3, data_format="NHWC", U="float32",
    )  # fmt: skip


def best_row(graph: SmallGraph, x: str) -> str:
    """As MoveNet: an index into one example's rows takes another's of a batch."""
    table = graph.node("Reshape", x, graph.constant([48, 5], "int32"))
    scores = graph.node("Mean", x, graph.constant([3], "int32"), keep_dims=False)
    scores = graph.node("Reshape", scores, graph.constant([1, 48], "int32"))
    best = graph.node("ArgMax", scores, graph.constant(1, "int32"), output_type="int32")
    return graph.node("GatherV2", table, best, graph.constant(0, "int32"))


APART = (separate, rows)
MIXED = (mean_of_all, first_of_all, statistics_of_the_batch, best_row)


def ported(make: Callable[[SmallGraph, str], str]):
    graph = SmallGraph()
    return graph.port(make(graph, graph.input("x", SHAPE)))


@pytest.mark.parametrize("make", APART)
def test_two_examples_give_what_each_gives(make) -> None:
    model = ported(make)
    assert model.inputs[0].shape == (None, *SHAPE[1:])
    together = flat(model(IMAGES))[0]
    alone = torch.cat([flat(model(one[None]))[0] for one in IMAGES])
    # sums of 48 products of up to 1, in another order
    np.testing.assert_allclose(together.detach(), alone.detach(), rtol=0, atol=48 * 2**-24 * 4)


@pytest.mark.parametrize("make", MIXED)
def test_a_network_that_mixes_examples_keeps_its_batch_of_one(make) -> None:
    model = ported(make)
    assert model.inputs[0].shape == SHAPE
    assert len(flat(model(IMAGES[:1]))[0]) == 1


def test_an_open_batch_that_a_reshape_takes_for_one_is_open() -> None:
    graph = SmallGraph()
    model = graph.port(rows(graph, graph.input("x", (None, *SHAPE[1:]))))
    assert flat(model(IMAGES))[0].shape == (2, 48, 3)


# ---- rows and columns ----------------------------------------------------------------------------


def test_a_window_that_covers_small_images_leaves_large_ones_open() -> None:
    graph = SmallGraph()
    x = graph.input("x", (None, None, None, 3))
    y = graph.node(
        "AvgPool", x,
        ksize=[1, 512, 512, 1], strides=[1, 512, 512, 1], padding="SAME", data_format="NHWC",
    )  # fmt: skip
    shape = graph.node("Shape", y, out_type="int32")
    ends = [graph.constant([n], "int32") for n in (1, 4, 1)]
    count = graph.node(
        "Prod", graph.node("StridedSlice", shape, *ends), graph.constant([0], "int32")
    )
    sizes = graph.node("Pack", graph.constant(-1, "int32"), count, axis=0)
    model = graph.port(graph.node("Reshape", y, sizes))
    assert flat(model(torch.zeros(2, 700, 600, 3)))[0].shape == (2, 12)
    assert flat(model(torch.zeros(2, 70, 60, 3)))[0].shape == (2, 3)


@pytest.mark.parametrize("size", [64, 65])
def test_a_transposed_convolution_gives_the_size_that_is_asked_for(size: int) -> None:
    graph = SmallGraph()
    x = graph.input("x", (None, None, None, 3))
    small = graph.conv(x, graph.constant(numbers(1, 3, 3, 3, 4)), strides=[1, 2, 2, 1])
    y = graph.node(
        "Conv2DBackpropInput", graph.node("Shape", x, out_type="int32"),
        graph.constant(numbers(2, 3, 3, 3, 4)), small,
        strides=[1, 2, 2, 1], padding="SAME", data_format="NHWC",
    )  # fmt: skip
    assert flat(graph.port(y)(torch.zeros(2, size, size + 1, 3)))[0].shape == (
        2, size, size + 1, 3,
    )  # fmt: skip
