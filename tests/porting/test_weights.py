"""Variables of files find their layers, by Keras' own rules, and what does not fit is listed."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from graph_configs import Described, graph, image, layer
from graph_files import LIBRARIES, NAMES, networks  # noqa: F401

from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.porting import PortError, port_model
from tfcompat_dw.porting.config import keras_major_of, parse_network
from tfcompat_dw.porting.port import modules_with_weights, port_network
from tfcompat_dw.porting.weights import keras_2_name, keras_3_name, variables_by_layer

# ---- names and order -----------------------------------------------------------------------------


def assigned(file):
    """The checkpoint's key of each variable by ``outer/inner/kernel``."""
    network = parse_network(file.model_config(), keras_major_of(file.keras_version()))
    found, problems = variables_by_layer(network, file)
    assert not problems
    return {"/".join((*path, one.name)): one for path, ones in found.items() for one in ones}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", NAMES)
def test_both_formats_assign_the_same_arrays_and_use_every_one(networks, library, name):  # noqa: F811
    h5, archive = (open_checkpoint(networks.file(library, name, end)) for end in ("h5", "keras"))
    by_h5, by_archive = assigned(h5), assigned(archive)
    assert list(by_h5) == list(by_archive)
    for key in by_h5:
        assert torch.equal(h5[by_h5[key].key], archive[by_archive[key].key])
    assert {one.key for one in by_h5.values()} == set(h5)
    used = {one.key for one in by_archive.values()}
    assert used == {key for key in archive if key.startswith("layers/")}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_weight_of_a_module_is_its_variable_bit_by_bit(networks, library):  # noqa: F811
    file = networks.file(library, "mixed", "h5")
    checkpoint, found = open_checkpoint(file), assigned(open_checkpoint(file))
    for path, module in modules_with_weights(port_model(file)):
        for weight in getattr(module, "tf_weights", list)():
            one = found.pop("/".join((*path, weight.name)))
            assert torch.equal(weight.to_tf(), checkpoint[one.key])
    assert not found


WRAPPED = """
import importlib, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["CUDA_VISIBLE_DEVICES"] = "3", ""
import numpy as np
library, folder = sys.argv[1:]
keras = importlib.import_module(library)
layers = keras.layers
image = keras.Input((5, 4, 3), name="image")
x = layers.TimeDistributed(layers.Dense(4), name="each")(image)
x = layers.TimeDistributed(layers.BatchNormalization(), name="each_bn")(x)
flat = layers.Reshape((5, 16))(x)
rnn = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both")(flat)
model = keras.Model(image, [x, rnn])
random = np.random.default_rng(0)
for variable in model.weights:
    variable.assign(random.uniform(0.5, 1, tuple(variable.shape)).astype("f4"))
model.save(folder + "/wrapped.keras")
model.save(folder + "/wrapped.h5")
np.savez(folder + "/wrapped.npz", *[np.asarray(v) for v in model.get_layer("both").get_weights()])
"""


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_wrappers_have_the_variables_of_what_they_wrap(tmp_path_factory, library, ending):
    folder = tmp_path_factory.getbasetemp() / f"wrapped_{library}"
    if not folder.exists():
        folder.mkdir()
        program = [sys.executable, "-c", WRAPPED, library, folder]
        subprocess.run(program, check=True, capture_output=True)
    checkpoint = open_checkpoint(folder / f"wrapped.{ending}")
    found = assigned(checkpoint)
    both = [f"both/{way}_layer/{name}" for way in ("forward", "backward")
            for name in ("kernel", "recurrent_kernel", "bias")]  # fmt: skip
    assert list(found) == [
        "each/kernel", "each/bias", "each_bn/gamma", "each_bn/beta", "each_bn/moving_mean",
        "each_bn/moving_variance", *both,
    ]  # fmt: skip
    arrays = np.load(folder / "wrapped.npz")
    for name, array in zip(both, arrays.values(), strict=True):
        assert np.array_equal(checkpoint[found[name].key], array)


@pytest.mark.parametrize(
    ("class_name", "keras_3", "keras_2"),
    [
        ("Conv2D", "conv2d", "conv2d"),
        ("Conv2DTranspose", "conv2d_transpose", "conv2d_transpose"),
        ("DepthwiseConv2D", "depthwise_conv2d", "depthwise_conv2d"),
        ("ReLU", "re_lu", "re_lu"),
        ("PReLU", "p_re_lu", "p_re_lu"),
        ("LSTM", "lstm", "lstm"),
        ("GlobalAveragePooling2D", "global_average_pooling2d", "global_average_pooling2d"),
        ("TFOpLambda", "tf_op_lambda", "tf_op_lambda"),
        ("MyLayer3", "my_layer3", "my_layer3"),
        ("_Mine", "__mine", "private__mine"),
    ],
)
def test_containers_are_named_as_keras_names_them(class_name, keras_3, keras_2):
    assert (keras_3_name(class_name), keras_2_name(class_name)) == (keras_3, keras_2)


def test_files_of_tf_2_12_call_containers_by_the_attribute(networks, tmp_path):  # noqa: F811
    class Renamed(type(open_checkpoint(networks.file("tf_keras", "deep", "keras")))):
        def layers(self):
            old = "_layer_checkpoint_dependencies"
            return {key.replace("layers", old): ones for key, ones in super().layers().items()}

    file = open_checkpoint(networks.file("tf_keras", "deep", "keras"))
    expected = assigned(file)
    file.__class__ = Renamed
    assert assigned(file) == expected


# ---- nested models in legacy files ---------------------------------------------------------------


def dense(name, source, units, **config):
    return layer("Dense", name, source, units=units, **config)


def batch_normalization(name, source, **config):
    return layer(
        "BatchNormalization", name, source, axis=[-1], epsilon=1e-3, momentum=0.9, **config
    )


def block(frozen=()):
    """dense -> bn -> dense, as a model in a model."""
    layers = [
        dense("first", "inside", 3, trainable="first" not in frozen),
        batch_normalization("bn", "first"),
        dense("second", "bn", 3, trainable="second" not in frozen),
    ]
    inner = graph(image("inside", 3), *layers)
    inner = {**inner, "name": "inner", "inbound_nodes": [[["image", 0, 0, {}]]]}
    return graph(image("image", 3), inner, outputs=[["inner", 1, 0]])


TRAINABLE = [("first", "kernel"), ("first", "bias"), ("bn", "gamma"), ("bn", "beta"),
             ("second", "kernel"), ("second", "bias")]  # fmt: skip
MOVING = [("bn", "moving_mean"), ("bn", "moving_variance")]


def values(order, name_of):
    """Arrays that differ, named by the writer."""
    found = {}
    for layer_name, short in order:
        number = (TRAINABLE + MOVING).index((layer_name, short))
        shape = (3, 3) if short == "kernel" else (3,)
        found[name_of(layer_name, short)] = torch.full(shape, 1.0 + number)
    return found


def is_right(model):
    weights = {
        (path[-1], weight.name): weight.to_tf().unique().tolist()
        for path, module in modules_with_weights(model)
        for weight in getattr(module, "tf_weights", list)()
    }
    return weights == {one: [1.0 + number] for number, one in enumerate(TRAINABLE + MOVING)}


def ported(config, layers):
    file = Described(config, layers, "2.3.0")
    made = port_network(config, file)
    for pair in made.pairs:
        pair.weight.assign(file[pair.variable.key])
    return made.model


FROZEN = [one for one in TRAINABLE if one[0] != "first"]
FIRST = [one for one in TRAINABLE if one[0] == "first"]


@pytest.mark.parametrize(
    ("order", "name_of", "frozen"),
    [
        (TRAINABLE + MOVING, "{0}/{1}:0", ()),
        (MOVING + TRAINABLE, "{0}/{1}:0", ()),  # names tell
        (TRAINABLE + MOVING, "inner/{0}/{1}", ()),
        (TRAINABLE + MOVING, "model/inner/{0}/{0}/{1}:0", ()),
        (TRAINABLE + MOVING, "{0}_1/{1}:0", ()),  # TensorFlow made the scopes unique: order tells
        (TRAINABLE + MOVING, "x{0}y/{1}:0", ()),
        (FROZEN + FIRST + MOVING, "x{0}y/{1}:0", ("first",)),  # frozen ones are not trainable
    ],
)
def test_a_nested_models_variables_are_told_by_names_or_by_order(order, name_of, frozen):
    arrays = values(order, name_of.format)
    assert is_right(ported(block(frozen), {"inner": arrays}))


def test_what_neither_names_nor_order_tell_is_refused():
    shuffled = values([*MOVING, *TRAINABLE], "x{0}y/{1}:0".format)
    with pytest.raises(PortError, match="neither their names nor their order tell"):
        ported(block(), {"inner": shuffled})


def test_layers_of_one_name_in_two_nested_models_are_told_apart():
    def model(name):
        inner = graph(image("inside", 3), dense("dense", "inside", 3, use_bias=False))
        return {**inner, "name": name, "inbound_nodes": [[["inside", 0, 0, {}]]]}

    outer = graph(image("inside", 3), model("a"), model("b"), outputs=[["a", 1, 0], ["b", 1, 0]])
    outer = {**outer, "name": "outer", "inbound_nodes": [[["image", 0, 0, {}]]]}
    config = graph(image("image", 3), outer, outputs=[["outer", 1, 0], ["outer", 1, 1]])
    arrays = {f"{name}/dense/kernel:0": torch.full((3, 3), value) for name, value in
              (("b", 2.0), ("a", 1.0))}  # fmt: skip
    a, b = ported(config, {"outer": arrays})(torch.ones(1, 3))
    assert a.tolist() == [[3, 3, 3]]
    assert b.tolist() == [[6, 6, 6]]


# ---- what does not fit --------------------------------------------------------------------------

KERNEL, BIAS = torch.ones(3, 4), torch.ones(4)


@pytest.mark.parametrize(
    ("layers", "messages"),
    [
        ({}, ["layer 'dense' ('Dense'): the file has no kernel"]),
        ({"dense": {"dense/kernel:0": KERNEL}}, ["layer 'dense' ('Dense')", "bias"]),
        ({"dense": {"dense/kernel:0": KERNEL, "dense/bias:0": torch.ones(5)}},
         ["layer 'dense' ('Dense')", "(5,) in the file", "(4,) by"]),
        ({"dense": {"dense/kernel:0": KERNEL.T, "dense/bias:0": BIAS}}, ["layer 'dense'", "(3,)"]),
        ({"dense": {"dense/kernel:0": KERNEL, "dense/bias:0": BIAS, "dense/more:0": BIAS}},
         ["left over in the file", "more"]),
        ({"dense": {"dense/kernel:0": KERNEL, "dense/bias:0": BIAS}, "other": {"x:0": BIAS}},
         ["variables for 'other', which is no layer"]),
        ({"dense": {}, "relu": {"x:0": BIAS}}, ["'relu'", "'dense'"]),
    ],
)  # fmt: skip
def test_missing_surplus_and_misshapen_variables_are_all_listed(layers, messages):
    config = graph(image("image", 3), dense("dense", "image", 4), layer("ReLU", "relu", "dense"))
    with pytest.raises(PortError) as caught:
        ported(config, layers)
    for message in messages:
        assert message in str(caught.value)


def test_groups_without_variables_are_no_layers_of_concern():
    config = graph(image("image", 3), layer("ReLU", "relu", "image"))
    assert ported(config, {"dropout_7": {}, "top_level_model_weights": {}})


def test_a_description_that_asks_for_more_than_the_file_holds_takes_no_memory(networks, tmp_path):  # noqa: F811
    with zipfile.ZipFile(networks.file("keras", "chain", "keras")) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    huge = parts["config.json"].replace(b'"units": 3', b'"units": 300000000000')
    assert huge != parts["config.json"]
    with zipfile.ZipFile(tmp_path / "huge.keras", "w") as archive:
        for name, part in {**parts, "config.json": huge}.items():
            archive.writestr(name, part)
    with pytest.raises(PortError, match="layer 'dense'"):
        port_model(tmp_path / "huge.keras")
