"""What is a weight of a ported graph, whether it is trained, and which layers share it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_graph import SmallGraph, numbers

from tfcompat_dw.porting.layers.convolution import Conv2D
from tfcompat_dw.porting.layers.normalization import BatchNormalization
from tfcompat_dw.porting.model import flat

KERNEL = numbers(1, 3, 3, 4, 6)
IMAGE = torch.from_numpy(numbers(2, 2, 5, 7, 4))


def trained(model) -> set[str]:
    return {name for name, one in model.named_parameters() if one.requires_grad}


# ---- shared --------------------------------------------------------------------------------------


def test_convolutions_of_one_filter_are_one_module_unless_they_scale_it() -> None:
    graph = SmallGraph()
    x, kernel = graph.input("x", (None, 5, 7, 4)), graph.constant(KERNEL)
    scales = [numbers(seed, 6) for seed in (3, 4)]
    plain, again = (graph.node("Relu", graph.conv(x, kernel)) for _ in range(2))
    scaled = [graph.node("Mul", graph.conv(x, kernel), graph.constant(one)) for one in scales]
    model = graph.port(plain, again, *scaled)
    with torch.no_grad():
        outputs = model(IMAGE)
    assert sum(isinstance(one, Conv2D) for one in model.children()) == 3
    assert torch.equal(outputs[plain], outputs[again])
    bare = torch.nn.functional.conv2d(
        IMAGE.permute(0, 3, 1, 2).double(),
        torch.from_numpy(KERNEL).permute(3, 2, 0, 1).double(),
        padding="same",
    ).permute(0, 2, 3, 1)
    for name, scale in zip(scaled, scales, strict=True):  # sums of 36 products of up to 1
        np.testing.assert_allclose(
            outputs[name], bare.numpy() * scale, rtol=0, atol=36 * 2**-24 * 4
        )


def test_a_square_matrix_and_its_transpose_are_two_layers() -> None:
    matrix, rows = numbers(1, 5, 5), numbers(2, 3, 5)
    graph = SmallGraph()
    x, kernel = graph.input("x", (None, 5)), graph.constant(matrix)
    one = graph.node("MatMul", x, kernel)
    other = graph.node("MatMul", x, kernel, transpose_b=True)
    with torch.no_grad():
        outputs = graph.port(one, other)(torch.from_numpy(rows))
    for name, product in ((one, rows @ matrix), (other, rows @ matrix.T)):
        np.testing.assert_allclose(outputs[name], product, rtol=0, atol=5 * 2**-24 * 4)


def test_what_is_added_with_more_axes_than_a_product_has_is_no_bias() -> None:
    graph = SmallGraph()
    x = graph.input("x", (None, 4))
    product = graph.node("MatMul", x, graph.constant(numbers(1, 4, 6)))
    added = graph.node("AddV2", product, graph.constant(numbers(2, 1, 1, 6)))
    assert flat(graph.port(added)(torch.zeros(3, 4)))[0].shape == (1, 3, 6)


# ---- trained -------------------------------------------------------------------------------------


def normalization(graph: SmallGraph, x: str, gamma: str, beta: str) -> str:
    moving = graph.variable(numbers(5, 6), False), graph.variable(numbers(6, 6) + 2, False)
    return graph.node(
        "FusedBatchNormV3", x, gamma, beta, *moving,
        is_training=False, epsilon=1e-3, data_format="NHWC", U="float32",
    )  # fmt: skip


def test_variables_are_trained_as_the_file_says() -> None:
    graph = SmallGraph()
    x = graph.input("x", (None, 5, 7, 4))
    first = graph.conv(x, graph.variable(KERNEL, trained=False), name="first/Conv2D")
    fixed = normalization(
        graph, first, graph.constant(np.ones(6)), graph.variable(numbers(7, 6), False)
    )
    second = graph.conv(fixed, graph.variable(numbers(8, 3, 3, 6, 6)), name="second/Conv2D")
    bias = graph.node(
        "Reshape", graph.variable(numbers(9, 6)), graph.constant([1, 1, 1, 6], "int32")
    )
    biased = graph.node("AddV2", second, bias)
    model = graph.port(
        normalization(graph, biased, graph.constant(np.ones(6)), graph.variable(numbers(7, 6)))
    )
    assert {name.rpartition(".")[2] for name in trained(model)} == {"weight", "bias"}
    assert len(trained(model)) == 3  # filter and bias of the second, beta behind it
    model.train()
    before = {name: one.clone() for name, one in model.named_buffers()}
    model(IMAGE)
    moved = {name for name, one in model.named_buffers() if not torch.equal(one, before[name])}
    norms = [name for name, one in model.named_children() if isinstance(one, BatchNormalization)]
    assert {name.partition(".")[0] for name in moved} == {norms[1]}


def test_a_scale_that_is_trained_stays_a_parameter() -> None:
    graph = SmallGraph()
    x = graph.input("x", (None, 5, 7, 4))
    scale = graph.variable(numbers(3, 6), name="scale")
    y = graph.node("Mul", graph.conv(x, graph.variable(KERNEL)), scale)
    model = graph.port(y)
    shapes = sorted(tuple(one.shape) for one in model.parameters())
    assert shapes == [(6,), (6, 4, 3, 3)]
    assert len(trained(model)) == 2


def test_scales_and_biases_of_channels_are_trained_in_a_graph_of_constants() -> None:
    graph = SmallGraph()
    x = graph.input("x", (None, 5, 7, 4))
    y = graph.node("Sub", x, graph.constant([0.5] * 4))  # a picture's preprocessing
    y = graph.node("Mul", y, graph.constant([2.0] * 4))
    y = graph.node("Relu", graph.conv(y, graph.constant(KERNEL)))
    y = graph.node("Mul", y, graph.constant(numbers(3, 6)))
    y = graph.node("AddV2", graph.constant(numbers(4, 1, 1, 1, 6)), y)
    y = graph.node("Mul", y, graph.constant(3.0))
    model = graph.port(y)
    assert sorted(tuple(one.shape) for one in model.parameters()) == [
        (1, 1, 1, 6), (6,), (6, 4, 3, 3),
    ]  # fmt: skip


def test_the_table_that_rows_are_gathered_from_is_trained() -> None:
    graph = SmallGraph()
    words = graph.input("words", (None, 3), "int32")
    y = graph.node("GatherV2", graph.constant(numbers(1, 9, 5)), words, graph.constant(0, "int32"))
    model = graph.port(y)
    assert [tuple(one.shape) for one in model.parameters()] == [(9, 5)]
    assert flat(model(torch.tensor([[1, 8, 0]], dtype=torch.int32)))[0].shape == (1, 3, 5)


@pytest.mark.parametrize("fused", [True, False])
def test_the_moving_variance_takes_up_what_its_kind_of_normalization_takes_up(fused: bool) -> None:
    """TensorFlow's fused kernel takes the unbiased variance, moments and arithmetic the biased."""
    graph = SmallGraph()
    x = graph.input("x", (None, 5, 7, 6))
    gamma, beta = graph.constant(numbers(1, 6) + 2), graph.constant(numbers(2, 6))
    if fused:
        y = normalization(graph, x, gamma, beta)
        for name in list(graph.constants):
            graph.nodes[name] = graph.nodes[name].__class__(name, "Const")
    else:
        mean, variance = graph.constant(numbers(3, 6)), graph.constant(numbers(4, 6) + 2)
        root = graph.node("Rsqrt", graph.node("AddV2", variance, graph.constant(1e-3)))
        scale = graph.node("Mul", root, gamma)
        offset = graph.node("Sub", beta, graph.node("Mul", mean, scale))
        y = graph.node("AddV2", graph.node("Mul", x, scale), offset)
    model = graph.port(y).train()
    (layer,) = [one for one in model.children() if isinstance(one, BatchNormalization)]
    before = layer.running_var.clone()
    image = torch.from_numpy(numbers(5, 2, 5, 7, 6))
    model(image)
    variance = image.flatten(0, 2).double().var(0, correction=int(fused))
    expected = before.double().lerp(variance, layer.momentum)
    np.testing.assert_allclose(layer.running_var, expected, rtol=70 * 2**-24)


# ---- types and inputs ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_graph_of_another_float_takes_its_own_type_and_that_of_the_port(dtype: str) -> None:
    graph = SmallGraph()
    x = graph.input("x", (None, 5, 7, 4), dtype)
    y = graph.conv(x, graph.constant(KERNEL, dtype), T=dtype)
    y = graph.node("AddV2", y, graph.constant(numbers(2, 5, 7, 6), dtype), T=dtype)
    model = graph.port(y)
    given = IMAGE.to(getattr(torch, dtype))
    output = flat(model(given))[0]
    assert output.dtype == torch.float32
    assert torch.equal(output, flat(model(given.float()))[0])


def test_text_that_nothing_takes_is_an_input_that_does_not_matter() -> None:
    graph = SmallGraph()
    graph.input("comment", (None,), "string")
    x = graph.input("x", (None, 4))
    model = graph.port(graph.node("Relu", x))
    assert torch.equal(model("words", torch.ones(1, 4)), torch.ones(1, 4))


def test_a_prelu_of_one_slope_is_an_operation() -> None:
    graph = SmallGraph()
    x = graph.input("x", (None, 4))
    model = graph.port(graph.node("Prelu", x, graph.constant(0.25)))
    assert torch.equal(model(torch.tensor([[-2.0, 4.0]])), torch.tensor([[-0.5, 4.0]]))
