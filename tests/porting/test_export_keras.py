"""`export_keras_weights`: Keras loads what was written, and computes what the module computes."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from graph_files import BOUND, LIBRARIES, distance, networks, run  # noqa: F401

from tfcompat_dw.checkpoint import CheckpointError, open_checkpoint
from tfcompat_dw.porting import PortError, export_keras_weights, port_model

PROGRAM = Path(__file__).with_name("graph_run_keras.py")
CASES = {
    "keras": [("mixed", "keras"), ("deep", "keras"), ("deep", "h5"), ("mobilenet_v2", "keras"),
              ("mobilenet_v2", "h5"), ("chain", "h5"), ("paddings", "h5")],
    "tf_keras": [("mixed", "keras"), ("mixed", "h5"), ("deep", "h5"), ("mobilenet_v2", "h5"),
                 ("chain", "keras")],
}  # fmt: skip
"""Keras 3 does not load its own HDF5 files with operators: it takes them for layers."""


def trained(file):
    """A port whose every weight was changed."""
    model = port_model(file)
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def exported(networks, tmp_path_factory):  # noqa: F811
    """Of each case: the module, what was written, and what Keras made of it."""
    folder = tmp_path_factory.mktemp("exported")
    found = {}
    for library, cases in CASES.items():
        arguments = []
        for name, ending in cases:
            original = networks.file(library, name, ending)
            target = folder / f"{library}_{name}.{ending}"
            model = trained(original)
            export_keras_weights(model, original, target)
            inputs, outputs = target.with_suffix(".in.npz"), target.with_suffix(".out.npz")
            np.savez(inputs, *[value.numpy() for value in networks.inputs(library, name)])
            arguments += [target, inputs, outputs]
            found[library, name, ending] = (model, original, target, outputs)
        program = [sys.executable, PROGRAM, library, *arguments]
        done = subprocess.run(program, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return found


ALL = [(library, *case) for library, cases in CASES.items() for case in cases]


@pytest.mark.parametrize("case", ALL, ids="-".join)
def test_keras_loads_it_and_computes_the_same(networks, exported, case):  # noqa: F811
    model, _, _, outputs = exported[case]
    arrays = np.load(outputs)
    expected = [arrays[key] for key in arrays if key.startswith("output")]
    actual = run(model, networks.inputs(*case[:2]))
    old = networks.values(*case[:2], "output").values()
    for one, other, before in zip(actual, expected, old, strict=True):
        assert distance(one, other) <= BOUND
        assert distance(before, other) > 1e-3  # it is not the original


@pytest.mark.parametrize("case", ALL, ids="-".join)
def test_nothing_but_numbers_changes_and_porting_it_gives_the_module(exported, case):
    model, original, target, _ = exported[case]
    again = port_model(target)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    one, other = open_checkpoint(original), open_checkpoint(target)
    assert one.model_config() == other.model_config()
    assert {key: one.info(key) for key in one} == {key: other.info(key) for key in other}
    if target.suffix == ".h5":
        assert original.stat().st_size == target.stat().st_size
    else:
        with zipfile.ZipFile(original) as old, zipfile.ZipFile(target) as new:
            assert old.namelist() == new.namelist()
            assert old.read("config.json") == new.read("config.json")
            assert new.testzip() is None


def test_an_unchanged_module_gives_the_same_file(networks, tmp_path):  # noqa: F811
    original = networks.file("keras", "mixed", "h5")
    export_keras_weights(port_model(original), original, tmp_path / "same.h5")
    assert (tmp_path / "same.h5").read_bytes() == original.read_bytes()


def test_the_original_may_be_the_target_and_no_other_file_stays(networks, tmp_path):  # noqa: F811
    for ending in ("h5", "keras"):
        file = tmp_path / f"net.{ending}"
        shutil.copy(networks.file("keras", "chain", ending), file)
        model = trained(file)
        export_keras_weights(model, file, file)
        assert torch.equal(port_model(file).dense.weight, model.dense.weight)
    assert sorted(os.listdir(tmp_path)) == ["net.h5", "net.keras"]
    assert stat.S_IMODE(file.stat().st_mode) & 0o400


def test_other_dtypes_of_the_file_are_kept(networks, tmp_path):  # noqa: F811
    original = tmp_path / "double.h5"
    shutil.copy(networks.file("keras", "chain", "h5"), original)
    key = "model_weights/dense/chain/dense/bias"
    with h5py.File(original, "a") as file:
        (key,) = [name for name in datasets(file) if name.endswith("dense/bias")]
        values = file[key][:]
        del file[key]
        file.create_dataset(key, data=values.astype(">f8"))
    model = trained(original)
    export_keras_weights(model, original, tmp_path / "new.h5")
    with h5py.File(tmp_path / "new.h5") as file:
        assert file[key].dtype == np.dtype(">f8")
        assert np.array_equal(file[key][:], model.dense.bias.detach().numpy())


def datasets(file):
    names = []
    file.visititems(lambda name, one: names.append(name) if isinstance(one, h5py.Dataset) else None)
    return names


# ---- refusals ------------------------------------------------------------------------------------


def test_another_networks_file_is_refused(networks, tmp_path):  # noqa: F811
    model = port_model(networks.file("keras", "chain", "h5"))
    with pytest.raises(PortError, match="was not made of this file"):
        export_keras_weights(model, networks.file("keras", "frozen", "h5"), tmp_path / "new.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("ending", "other"), [("h5", "keras"), ("keras", "h5")])
def test_the_other_format_is_refused(networks, tmp_path, ending, other):  # noqa: F811
    file = networks.file("keras", "chain", ending)
    with pytest.raises(ValueError, match=f"must end in .{ending}"):
        export_keras_weights(port_model(file), file, tmp_path / f"new.{other}")


def test_compressed_numbers_are_refused_with_a_remedy(networks, tmp_path):  # noqa: F811
    file = tmp_path / "compressed.h5"
    shutil.copy(networks.file("keras", "chain", "h5"), file)
    with h5py.File(file, "a") as old:
        (key,) = [name for name in datasets(old) if name.endswith("dense/kernel")]
        values = old[key][:]
        del old[key]
        old.create_dataset(key, data=values, compression="gzip")
    model = port_model(file)
    with pytest.raises(PortError, match="save it again"):
        export_keras_weights(model, file, tmp_path / "new.h5")


def test_a_damaged_original_is_refused(networks, tmp_path):  # noqa: F811
    file = networks.file("keras", "chain", "h5")
    model = port_model(file)
    (tmp_path / "cut.h5").write_bytes(file.read_bytes()[:5000])
    with pytest.raises((CheckpointError, PortError)):
        export_keras_weights(model, tmp_path / "cut.h5", tmp_path / "new.h5")
    assert not (tmp_path / "new.h5").exists()
