"""Descriptions of networks: every Keras' spelling is read, and no lie gets through."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from graph_configs import Described, copied, graph, image, layer, nested
from graph_files import networks  # noqa: F401
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.porting import PortError
from tfcompat_dw.porting.config import (
    Call,
    TensorRef,
    keras_major_of,
    parse_network,
    references,
)
from tfcompat_dw.porting.graph import fold_paddings, ordered_nodes, pads_of
from tfcompat_dw.porting.port import port_network

RELU = {"activation": "relu"}


def ported(config, layers=None, version="2.3.0", hooks=None):
    """The module, with its values."""
    file = Described(config, layers or {}, version)
    made = port_network(config, file, layers=hooks)
    for pair in made.pairs:
        pair.weight.assign(file[pair.variable.key])
    return made.model.eval()


# ---- spellings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "major"),
    [
        ("1.2.2", 1),
        ("2.0.5", 2),
        ("2.4.0-tf", 2),
        ("2.21.0", 2),
        ("3.15.1", 3),
        (None, 1),
        ("x", 1),
    ],
)
def test_version_tells_whose_rules_hold(version, major):
    assert keras_major_of(version) == major


def test_sequential_of_keras_1_is_a_bare_list_with_keras_1_arguments():
    layers = [
        {
            "class_name": "Convolution2D",
            "config": {
                "name": "convolution2d_1", "batch_input_shape": [None, 6, 6, 2], "nb_filter": 3,
                "nb_row": 2, "nb_col": 3, "border_mode": "same", "subsample": [2, 1],
                "dim_ordering": "tf", "bias": False, "activation": "relu", "init": "uniform",
                "W_regularizer": None, "trainable": False,
            },
        },
        {"class_name": "Dropout", "config": {"name": "dropout_1", "p": 0.25}},
        {"class_name": "Dense", "config": {"name": "dense_1", "output_dim": 4, "bias": True}},
    ]  # fmt: skip
    network = parse_network({"class_name": "Sequential", "config": layers}, 1)
    conv, dropout, dense = network.layers[1:]
    assert network.layers[0].class_name == "InputLayer"
    assert network.layers[0].config["batch_shape"] == [None, 6, 6, 2]
    assert conv.class_name == "Conv2D"
    assert not conv.trainable
    expected = {
        "filters": 3, "kernel_size": [2, 3], "padding": "same", "strides": [2, 1],
        "data_format": "channels_last", "use_bias": False,
    }  # fmt: skip
    assert {key: conv.config[key] for key in expected} == expected
    assert dropout.config["rate"] == 0.25
    assert dense.config["units"] == 4
    assert network.outputs == TensorRef("dense_1")


def test_keras_1_weights_are_recognised_by_their_endings():
    config = {
        "class_name": "Sequential",
        "config": [
            {
                "class_name": "BatchNormalization",
                "config": {"name": "bn", "mode": 0, "axis": -1, "epsilon": 1e-5, "momentum": 0.9},
            }
        ],
    }
    names = ("gamma", "beta", "running_mean", "running_std")
    values = {f"bn_{name}": torch.full((2,), 1.0 + i) for i, name in enumerate(names)}
    model = ported(config, {"bn": values}, "1.2.0")
    x = torch.tensor([[5.0, -1.0]])
    expected = (x - 3) / torch.sqrt(torch.tensor(4 + 1e-5)) * 1 + 2  # running_std is a variance
    assert torch.allclose(model(x), expected, rtol=1e-6)  # a few operations of 2**-24 = 6e-8 each


def test_merge_of_keras_1_is_a_layer_of_its_own_kind_or_refused():
    def merged(**config):
        return graph(image(), layer("Merge", "merge", ["image", "image"], **config))

    assert parse_network(merged(mode="concat", concat_axis=-1), 1).layers[1].class_name == (
        "Concatenate"
    )
    x = torch.rand(1, 8, 8, 3)
    assert torch.equal(ported(merged(mode="sum", mode_type="raw"), version="1.0")(x), x + x)
    with pytest.raises(PortError, match="mode is a Python function"):
        ported(merged(mode="x", mode_type="lambda"), version="1.0")


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("Custom>LayerScale", "LayerScale"),
        ("keras.applications.convnext>LayerScale", "LayerScale"),
        ("tf_keras.layers.Dense", "Dense"),
        ("MaxPool2D", "MaxPooling2D"),
        ("BatchNormalizationV1", "BatchNormalization"),
        ("SeparableConvolution2D", "SeparableConv2D"),
    ],
)
def test_class_names_lose_their_packages_and_aliases(class_name, expected):
    network = parse_network(graph(image(), layer(class_name, "one", "image")), 2)
    assert network.layers[1].class_name == expected


def test_wrappers_of_values_are_replaced_by_what_they_hold():
    config = {
        "kernel_size": {"class_name": "__tuple__", "items": [3, 3]},
        "shape": {"class_name": "TensorShape", "items": [None, 4]},
        "axis": {"class_name": "ListWrapper", "items": [3]},
        "dtype": {"class_name": "Policy", "config": {"name": "mixed_float16"}},
        "activation": {"class_name": "function", "config": "relu6", "registered_name": "relu6"},
        "kernel_initializer": {"class_name": "Zeros", "config": {"dtype": "float32"}},
        "groups": 1,
        "batch_input_shape": [None, 8, 8, 3],
    }
    network = parse_network(graph(image(), layer("DepthwiseConv2D", "one", "image", **config)), 2)
    assert network.layers[1].config == {
        "name": "one", "kernel_size": [3, 3], "shape": [None, 4], "axis": [3],
        "dtype": "mixed_float16", "activation": "relu6", "batch_shape": [None, 8, 8, 3],
    }  # fmt: skip


def test_arguments_of_custom_classes_are_left_alone_in_keras_2():
    config = {"p": 3, "stride": 2, "alpha": 0.5}
    network = parse_network(graph(image(), layer("Mine", "one", "image", **config)), 2)
    assert network.layers[1].config == {"name": "one", **config}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("class_name", ["Sequential", "Model"])
def test_calls_of_nested_models_are_counted_from_0_and_from_1(class_name, first):
    relu = layer("Activation", "relu", activation="relu")
    inner = {
        "Sequential": {"class_name": "Sequential", "config": [relu]},
        "Model": graph(image(), layer("Activation", "relu", "image", activation="relu")),
    }[class_name]
    inner = {**inner, "name": "inner", "inbound_nodes": [[["a", 0, 0]], [["b", 0, 0]]]}
    subtract = layer("Subtract", "subtract", [])
    subtract["inbound_nodes"] = [[["inner", first + 1, 0, {}], ["inner", first, 0, {}]]]
    inputs = [["a", 0, 0], ["b", 0, 0]]
    model = ported(graph(image("a"), image("b"), inner, subtract, inputs=inputs))
    a, b = torch.randn(2, 1, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(a, b), b.relu() - a.relu())


def test_subgraphs_that_no_output_needs_are_left_out_with_their_layers():
    unused = layer("NoSuchLayer", "unused", "image")
    used = layer("Activation", "relu", "image", activation="relu")
    model = ported(graph(image(), unused, used))
    assert list(model.tf_names.values()) == ["relu"]


# ---- operations ----------------------------------------------------------------------------------


def node(op, constants, **attr):
    """A layer of TF 2.2 for one node of TensorFlow."""
    definition = {"name": "node", "op": op, "input": ["image"], "attr": attr}
    return layer("TensorFlowOpLayer", "node", "image", node_def=definition, constants=constants)


X = torch.arange(24.0).reshape(1, 2, 4, 3) - 7


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (node("Mul", {"1": 2.0}), X * 2),
        (node("Sub", {"0": 1.0}), 1 - X),
        (node("AddV2", {"1": [1.0, 2.0, 3.0]}), X + torch.tensor([1.0, 2.0, 3.0])),
        (node("Relu6", {}), X.clamp(0, 6)),
        (node("Mean", {"1": [1, 2]}, keep_dims={"b": True}), X.mean((1, 2), keepdim=True)),
        (node("Reshape", {"1": [-1, 12]}), X.reshape(2, 12)),
        (node("Transpose", {"1": [0, 3, 1, 2]}), X.permute(0, 3, 1, 2)),
        (node("ConcatV2", {"1": [[[[5.0]] * 4] * 2], "2": 3}),
         torch.cat([X, torch.full((1, 2, 4, 1), 5.0)], 3)),
        (node("Pad", {"1": [[0, 0], [1, 0], [0, 2], [0, 0]]}),
         nn.functional.pad(X, (0, 0, 0, 2, 1, 0))),
        (node("Squeeze", {}, squeeze_dims={"list": {"i": ["0"]}}), X[0]),
        (node("StridedSlice", {"1": [0, 1, 0, 0], "2": [0, 2, 4, 1], "3": [1, 1, 2, 1]},
              begin_mask={"i": "1"}, end_mask={"i": "1"}, shrink_axis_mask={"i": "8"}),
         X[:, 1:2, 0:4:2, 0]),
        (node("StridedSlice", {"1": [0, 0], "2": [0, 2], "3": [1, 1]}, ellipsis_mask={"i": "1"},
              new_axis_mask={"i": "0"}), X[..., 0:2]),
    ],
)  # fmt: skip
def test_nodes_of_tf_2_2_compute_what_tensorflow_does(made, expected):
    model = ported(graph(image("image", 2, 4, 3), made))
    assert torch.equal(model(X), expected)


def test_arrays_among_arguments_move_with_the_module_and_are_no_state():
    model = ported(graph(image("image", 2, 4, 3), node("Mul", {"1": [1.0, 2.0, 3.0]})))
    assert model.double()(X.double()).dtype is torch.float64
    assert not model.state_dict()


def test_unknown_functions_are_named():
    function = layer("TFOpLambda", "fft", function="signal.fft")
    function["inbound_nodes"] = [["image", 0, 0, {}]]
    with pytest.raises(PortError, match=r"'tf.signal.fft' is none of those"):
        ported(graph(image(), function))


class Plus(nn.Module):
    def forward(self, x, y):
        return x + y


def test_a_builder_can_be_given_for_a_function():
    function = layer("TFOpLambda", "f", function="bitcast")
    function["inbound_nodes"] = [["image", 0, 0, {"y": 3.0, "name": None}]]
    model = ported(graph(image(), function), hooks={"tf.bitcast": lambda spec: Plus()})
    x = torch.rand(1, 8, 8, 3)
    assert torch.equal(model(x), x + 3)


def slicing(key):
    made = layer("SlicingOpLambda", "slice", function="__operators__.getitem")
    made["inbound_nodes"] = [["image", 0, 0, {"slice_spec": key}]]
    return graph(image("image", 2, 4, 3), made)


def ends(start=None, stop=None, step=None):
    return {"start": start, "stop": stop, "step": step}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (0, X[0]),
        ([ends(), 1], X[:, 1]),
        ([ends(), ends(1), ends(), ends(step=2)], X[:, 1:, :, ::2]),
        ({"class_name": "__tuple__", "items": [ends(), ends(1)]}, X[:, 1:]),  # in SavedModels
        ([{"class_name": "__ellipsis__"}, 0], X[..., 0]),
        ([ends(), None], X[:, None]),
        ([ends(), ends(step=-1), ends(2, 0, -1)], X[:, [1, 0]][:, :, [2, 1]]),
    ],
)
def test_slices_are_read_in_every_form(key, expected):
    assert torch.equal(ported(slicing(key))(X), expected)


@pytest.mark.parametrize("key", [1.5, "1", {"a": 1}, [ends("1")], ["image", 0, 0]])
def test_computed_and_senseless_indices_are_refused(key):
    with pytest.raises(PortError, match="its index"):
        ported(slicing(key))


# ---- folding -------------------------------------------------------------------------------------


def convolution(name, source, **config):
    arguments = {"filters": 2, "kernel_size": [3, 3], "strides": [1, 1], "padding": "valid"}
    return layer("Conv2D", name, source, **arguments | config)


def padding(name, source, value=1, **config):
    return layer("ZeroPadding2D", name, source, padding=value, **config)


@pytest.mark.parametrize(
    ("layers", "outputs", "folds"),
    [
        ([padding("pad", "image"), convolution("conv", "pad")], None, True),
        ([padding("pad", "image"), convolution("conv", "pad")], ["conv", "pad"], False),
        ([padding("pad", "image"), convolution("conv", "pad", padding="same")], None, False),
        ([padding("pad", "image"), convolution("conv", "pad"), convolution("other", "pad")],
         ["conv", "other"], False),
        ([padding("pad", "image", "wide"), convolution("conv", "pad")], None, False),
        ([padding("pad", "image", [[-1, 0], [0, 0]]), convolution("conv", "pad")], None, False),
        ([padding("pad", "image", data_format="channels_first"), convolution("conv", "pad")],
         None, False),
        ([padding("pad", "image"), layer("MaxPooling2D", "pool", "pad")], None, False),
    ],
)  # fmt: skip
def test_paddings_are_folded_only_where_it_changes_nothing(layers, outputs, folds):
    ends = [[name, 0, 0] for name in outputs] if outputs else None
    network = fold_paddings(parse_network(graph(image(), *layers, outputs=ends), 2))
    assert ("pad" not in [one.name for one in network.layers]) == folds
    assert ("explicit_padding" in network.layers[-1].config) == folds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, ((2, 2), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        ([[0, 1], [2, 3]], ((0, 1), (2, 3))),
        ([[0, 1], 2], ((0, 1), (2, 2))),
        ([1, 2, 3], None),
        (1.5, None),
        (True, None),
        (-1, None),
        (10**9, None),
    ],
)
def test_paddings_are_read_in_every_form(value, expected):
    assert pads_of({"padding": value}) == expected


# ---- lies ----------------------------------------------------------------------------------------

RELU_LAYER = layer("Activation", "relu", "image", **RELU)
CYCLE = [layer("Activation", "a", "b", **RELU), layer("Activation", "b", "a", **RELU)]


def with_inbound(value):
    return {**layer("Activation", "relu", **RELU), "inbound_nodes": value}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "the model: its description is null"),
        ([], "its description is a list"),
        ({}, "Python code that the file does not have"),
        ({"class_name": "Mine", "config": {"layers": []}}, "of class 'Mine'"),
        ({"class_name": "Sequential", "config": 3}, "Python code"),
        ({"class_name": "Sequential", "config": []}, "it has no layers"),
        ({"class_name": "Sequential", "config": {"layers": 5}}, "its layers are a number"),
        (graph(image(), RELU_LAYER, RELU_LAYER), "two layers are named 'relu'"),
        (graph(image(), *CYCLE), "layer '[ab]' depends on its own output"),
        (graph(image(), layer("Activation", "relu", "relu", **RELU)), "depends on its own output"),
        (graph(image(), layer("Activation", "relu", "nowhere")),
         "layer 'relu': it takes the output of 'nowhere', which is no layer here"),
        (graph(image(), RELU_LAYER, outputs=[["relu", 3, 0]]), "call 3 of 'relu'"),
        (graph(image(), RELU_LAYER, outputs=[["relu", -1, 0]]), "no reference"),
        (graph(image(), RELU_LAYER, outputs=[["relu", 0, "0"]]), "no reference"),
        (graph(image(), RELU_LAYER, outputs=[["relu", True, 0]]), "no reference"),
        (graph(image(), RELU_LAYER, outputs=["relu"]), r"where \[layer, call, output\]"),
        (graph(image(), RELU_LAYER, inputs=[["relu", 0, 0]]), "its input 'relu' is no InputLayer"),
        (graph(image(), RELU_LAYER, inputs=[["relu"]]), r"where \[layer, call, output\]"),
        (graph(image(), with_inbound(7)), "layer 'relu': its inbound_nodes are a number"),
        (graph(image(), with_inbound([["image"]])), "'image'"),
        (graph(image(), with_inbound([[["image", 0, 0, 5]]])), "its call are a number"),
        (graph(image(), with_inbound([{"args": 1, "kwargs": {}}])), "no list and object"),
        (graph(image(), {"class_name": 5, "name": "x", "config": {}}), "class_name is a number"),
        (graph(image(), {"class_name": "Dense", "name": 5, "config": {}}), "a name is a number"),
        (graph(image(), {"class_name": "Dense", "name": "x", "config": []}), "config is a list"),
        (graph(image(), "layer", outputs=[["image", 0, 0]]), "a layer's description is text"),
        (nested(100), "models are nested more than 16 deep"),
    ],
)  # fmt: skip
def test_lies_are_refused_with_their_place(config, message):
    with pytest.raises(PortError, match=message):
        ordered_nodes(parse_network(config, 2))


@pytest.mark.parametrize("where", ["config", "args", "legacy", "outputs", "models"])
def test_nesting_ten_thousand_deep_is_refused(where):
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    config = {
        "config": lambda: graph(image(), layer("Activation", "relu", "image", x=deep)),
        "args": lambda: graph(image(), with_inbound([{"args": deep, "kwargs": {}}])),
        "legacy": lambda: graph(image(), with_inbound(deep)),
        "outputs": lambda: graph(image(), RELU_LAYER, outputs=deep),
        "models": lambda: nested(10_000),
    }[where]()
    with pytest.raises(PortError, match="nested more than"):
        parse_network(config, 2)


def test_a_deep_chain_is_no_deep_recursion():
    names = ["image", *(f"relu_{number}" for number in range(5_000))]
    layers = [layer("Activation", name, source, **RELU) for source, name in pairwise(names)]
    random.Random(0).shuffle(layers)
    config = graph(image(), *layers, outputs=[[names[-1], 0, 0]])
    nodes = ordered_nodes(parse_network(config, 2))
    assert [one.layer.name for one in nodes] == names[1:]


def test_an_output_that_a_layer_does_not_have_is_an_error_of_the_call():
    model = ported(graph(image(), RELU_LAYER, outputs=[["relu", 0, 4]]))
    with pytest.raises(IndexError, match="output 4"):
        model(torch.rand(1, 8, 8, 3))


# ---- mutations -----------------------------------------------------------------------------------

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**12),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["__class__", "forward", "relu", "Lambda", "_CONSTANT_VALUE", "../x", ""]),
    st.lists(st.one_of(st.integers(-2, 5), st.text(max_size=3), st.none()), max_size=4),
    st.dictionaries(
        st.sampled_from(["class_name", "config", "name", "args"]), st.none(), max_size=3
    ),
)


def places(value, path=()):
    """Paths of all values in a structure of JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        here = (*path, key)
        if isinstance(inner, (dict, list)):
            yield from places(inner, here)
        else:
            yield here


def changed(config, path, junk, remove):
    config = copied(config)
    if not path:
        return junk
    holder = config
    for key in path[:-1]:
        holder = holder[key]
    if remove:
        del holder[path[-1]]
    else:
        holder[path[-1]] = junk
    return config


@pytest.mark.parametrize("name", ["mixed", "paddings", "chain"])
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_mutated_descriptions_give_a_port_or_a_port_error(networks, library, name, data):  # noqa: F811
    file = open_checkpoint(networks.file(library, name, "keras"))
    config = file.model_config()
    for _ in range(data.draw(st.integers(1, 3))):
        if not isinstance(config, (dict, list)):
            break
        path = data.draw(st.sampled_from(sorted(places(config), key=repr)))
        config = changed(config, path, data.draw(JUNK), data.draw(st.booleans()))
    try:
        made = port_network(config, file)
    except (PortError, CheckpointError):
        return
    assert sum(weight.numel() for weight in made.model.parameters()) < 10**5


@pytest.mark.parametrize("kind", ["__tuple__", "DTypePolicy", "function", "__numpy__", "x"])
def test_a_config_that_looks_like_a_wrapped_value_is_a_config(kind):
    config = layer("Activation", "relu", "image", activation="relu", items=[1])
    config["config"]["class_name"] = kind
    x = torch.randn(1, 8, 8, 3)
    assert torch.equal(ported(graph(image(), config))(x), x.relu())


def test_references_are_found_in_every_structure():
    refs = [TensorRef(name) for name in "abcd"]
    call = Call(([refs[1], (refs[2],)],), {"x": refs[0], "key": [slice(None, refs[3]), 1.0, None]})
    assert sorted(ref.layer for ref in references((call.args, call.kwargs))) == list("abcd")
    assert [ref.layer for ref in references({"b": refs[1], "a": refs[0]})] == ["a", "b"]
