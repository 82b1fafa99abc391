"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import tfcompat_dw
from tfcompat_dw import cli

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "porting"))

import real_files  # noqa: E402
from hostile import NAMES, write_dense_chain  # noqa: E402

FACES = "emotion_model.hdf5"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_help_names_every_command_and_option() -> None:
    help = run("--help")
    assert help.exit_code == 0
    for command, options in {
        "inspect": ["--json", "--no-tensors"],
        "port": ["--output", "--write", "--data-format"],
        "compare": ["--weights", "--input", "--range", "--html", "--json", "--tolerance"],
    }.items():
        assert command in help.stdout
        of_command = run(command, "--help")
        assert of_command.exit_code == 0
        for option in options:
            assert option in of_command.stdout


def test_the_program_is_installed_and_runs() -> None:
    program = Path(sys.executable).parent / "tfcompat-dw"
    run = subprocess.run([program, "--help"], capture_output=True, text=True)
    assert run.returncode == 0
    assert "Trained TensorFlow and Keras networks" in run.stdout


# ---- inspect -------------------------------------------------------------------------------------


def test_inspect_lists_layers_and_tensors() -> None:
    found = run("inspect", real_files.path(FACES))
    assert found.exit_code == 0
    assert "Keras 2.0.5" in found.stdout
    assert "● separable_conv2d_1" in found.stdout
    assert "46 layers, 8 of them depthwise" in found.stdout
    assert "185 tensors" in found.stdout
    assert "tensors" not in run("inspect", "--no-tensors", real_files.path(FACES)).stdout


def test_inspect_prints_json_and_nothing_else() -> None:
    found = json.loads(run("inspect", "--json", real_files.path(FACES)).stdout)
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert layers["separable_conv2d_1"] == {
        "name": "separable_conv2d_1",
        "class": "SeparableConv2D",
        "depthwise": True,
        "kernel": [3, 3],
        "strides": [1, 1],
        "padding": "same",
        "multiplier": 1,
        "weights": {"depthwise_kernel": [3, 3, 8, 1], "pointwise_kernel": [1, 1, 8, 16]},
    }
    assert not layers["conv2d_1"]["depthwise"]
    assert len(found["tensors"]) == 185


def test_inspect_lists_the_layers_within_the_loop_of_a_saved_model() -> None:
    found = json.loads(run("inspect", "--json", real_files.path("yamnet")).stdout)
    depthwise = [layer for layer in found["layers"] if layer["depthwise"]]
    assert [layer["kernel"] for layer in depthwise] == [[3, 3]] * 13
    assert len(found["tensors"]) == 113


def test_names_out_of_a_file_are_printed_as_they_are(tmp_path: Path) -> None:
    write_dense_chain(tmp_path / "hostile.keras")
    found = run("inspect", tmp_path / "hostile.keras")
    assert found.exit_code == 0
    assert "[bold]rich[/bold]" in found.stdout
    listed = json.loads(run("inspect", "--json", tmp_path / "hostile.keras").stdout)
    assert [layer["name"] for layer in listed["layers"]][1:] == list(NAMES)


# ---- port ----------------------------------------------------------------------------------------


def test_port_writes_what_is_asked_for_and_prints_where(tmp_path: Path) -> None:
    found = run("port", real_files.path(FACES), "-o", tmp_path, "--write", "safetensors")
    assert found.exit_code == 0
    assert found.stdout.split() == [str(tmp_path / "emotion_model.safetensors")]
    assert [path.name for path in tmp_path.iterdir()] == ["emotion_model.safetensors"]


def test_without_onnxscript_all_but_onnx_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    hidden = lambda name: None if name == "onnxscript" else real(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    write_dense_chain(tmp_path / "net.keras", ["a"])
    found = run("port", tmp_path / "net.keras", "-o", tmp_path / "out")
    assert found.exit_code == 0
    assert "no ONNX: pip install 'tfcompat_dw[onnx]'" in found.stderr
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["net.pt2", "net.py", "net.safetensors"]


def test_a_name_that_is_no_modules_becomes_one(tmp_path: Path) -> None:
    write_dense_chain(tmp_path / "1 - net.v2.keras", ["a"])
    found = run("port", tmp_path / "1 - net.v2.keras", "--write", "py")
    assert found.stdout.strip() == str(tmp_path / "_1___net.py")


ERRORS: dict[str, tuple[bytes, str]] = {
    "empty.h5": (b"", "the file is empty"),
    "text.h5": (b"hello, world, this is text", "of no known kind"),
    "cut.h5": (b"\x89HDF\r\n\x1a\n", "cut short"),
    "cut.keras": (b"PK\x03\x04", "no zip archive"),
}


@pytest.mark.parametrize("command", ["inspect", "port", "compare"])
@pytest.mark.parametrize("name", ERRORS)
def test_a_bad_file_is_refused_in_one_line_on_stderr(
    name: str, command: str, tmp_path: Path
) -> None:
    content, reason = ERRORS[name]
    (tmp_path / name).write_bytes(content)
    found = run(command, tmp_path / name)
    assert found.exit_code == 1
    assert found.stdout == ""
    assert found.stderr.startswith(f"error: {tmp_path / name}: ")
    assert reason in found.stderr


def test_a_missing_file_and_a_network_without_graph_are_named(tmp_path: Path) -> None:
    missing = run("inspect", tmp_path / "none.h5")
    assert missing.exit_code == 1
    assert "no such file" in missing.stderr
    bundle = run("port", real_files.path("yamnet") / "variables" / "variables")
    assert bundle.exit_code == 1
    assert "load_tf_weights" in bundle.stderr
    assert run("inspect").exit_code == 2


# ---- compare -------------------------------------------------------------------------------------


def compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own, for TensorFlow."""
    return subprocess.run(
        [sys.executable, "-m", "tfcompat_dw.cli", "compare", *map(str, arguments)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_compare_finds_that_every_layer_agrees_on_a_picture(tmp_path: Path) -> None:
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "astronaut.png")
    page = tmp_path / "page.html"
    arguments = ["--input", tmp_path / "astronaut.png", "--range", "-1", "1", "--html", page]
    run = compare(real_files.path(FACES), *arguments, "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["agrees"]
    assert len(found["layers"]) == 45
    assert max(layer["relative"] for layer in found["layers"]) < 1e-5
    text = page.read_text()
    assert "The port computes what the original computes" in text
    assert text.count("<img") >= 3 * 6


def test_compare_names_the_first_layer_of_other_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = tfcompat_dw.port_model(real_files.path(FACES))
    with torch.no_grad():
        model.get_submodule("batch_normalization_4").weight.mul_(1.5)
    values = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(values, tmp_path / "other.safetensors")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(1, 64, 64, 1)).astype("f4"))
    arguments = ["--weights", tmp_path / "other.safetensors", "--input", tmp_path / "x.npy"]
    run = compare(real_files.path(FACES), *arguments)
    assert run.returncode == 3, run.stderr
    lines = run.stdout.splitlines()
    assert "the first layer that diverges: batch_normalization_4" in lines
    assert any(line.startswith("likely cause: every channel is scaled") for line in lines)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.npy", b"no array", "no array in NumPy's format"),
        ("x.png", b"no picture", "no picture that can be read"),
    ],
)
def test_compare_refuses_input_that_is_none(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    from tfcompat_dw.porting.model import ModelInput
    from tfcompat_dw.porting.run import inputs_for

    (tmp_path / name).write_bytes(content)
    with pytest.raises(tfcompat_dw.porting.PortError, match=reason):
        inputs_for([ModelInput("x", (None, 64, 64, 1))], str(tmp_path / name), (8, 8), (0, 1))


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    from tfcompat_dw.porting.model import ModelInput
    from tfcompat_dw.porting.run import inputs_for

    np.save(tmp_path / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(tfcompat_dw.porting.PortError, match="no array in NumPy's format"):
        inputs_for([ModelInput("x", (None, 1))], str(tmp_path / "x.npy"), (8, 8), (0, 1))
