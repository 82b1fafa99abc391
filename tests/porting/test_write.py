"""What ``tfcompat-dw port`` writes is the network, and no name out of a file becomes code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hostile import NAMES, write_dense_chain

from tfcompat_dw import port_model
from tfcompat_dw.porting import PortedModel, PortError
from tfcompat_dw.porting.model import attribute_names
from tfcompat_dw.porting.write import module_code, write_port

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import real_files  # noqa: E402

BOUND = 1e-5
"""ONNX Runtime adds in another order: see tests/porting/test_real_files.py."""


@pytest.fixture(scope="module")
def model() -> PortedModel:
    return port_model(real_files.path("emotion_model.hdf5"))


def faces(count: int) -> torch.Tensor:
    return torch.rand(count, 64, 64, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1


RUN = """
import importlib.util, sys
for name in ("tensorflow", "keras", "tf_keras", "h5py", "pyfive"):
    sys.modules[name] = None
import torch
path, x, y = sys.argv[1:]
spec = importlib.util.spec_from_file_location("network", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
network = module.load()
assert not network.training
with torch.inference_mode():
    torch.save(network(torch.load(x)), y)
torch.save(sorted(network.state_dict()), y + ".names")
"""


def run_code(path: Path, x: torch.Tensor, folder: Path) -> tuple[torch.Tensor, list[str]]:
    """The output of the written module, and the names of its weights, in another process."""
    torch.save(x, folder / "x.pt")
    arguments = [path, folder / "x.pt", folder / "y.pt"]
    run = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return torch.load(folder / "y.pt"), torch.load(folder / "y.pt.names")


def test_the_code_computes_the_same_bits(model: PortedModel, tmp_path: Path) -> None:
    write_port(model, tmp_path / "network", "safetensors")
    path = write_port(model, tmp_path / "network", "py")
    y, names = run_code(path, faces(2), tmp_path)
    with torch.inference_mode():
        assert torch.equal(y, model(faces(2)))
    assert names == sorted(model.state_dict())


def test_the_exported_program_takes_any_batch(model: PortedModel, tmp_path: Path) -> None:
    program = torch.export.load(write_port(model, tmp_path / "network", "pt2")).module()
    for count in (1, 5):
        assert torch.equal(program(faces(count)), model(faces(count)))


@pytest.mark.filterwarnings("ignore")
def test_onnx_takes_any_batch(model: PortedModel, tmp_path: Path) -> None:
    path = write_port(model, tmp_path / "network", "onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    for count in (1, 3):
        with torch.inference_mode():
            expected = model(faces(count)).numpy()
        (found,) = session.run(None, {name: faces(count).numpy()})
        assert np.abs(found - expected).max() <= BOUND * np.abs(expected).max()


def test_channels_first_is_written_as_channels_first(tmp_path: Path) -> None:
    model = port_model(real_files.path("emotion_model.hdf5"), data_format="channels_first")
    write_port(model, tmp_path / "network", "safetensors")
    x = faces(2).permute(0, 3, 1, 2)
    y, _ = run_code(write_port(model, tmp_path / "network", "py"), x, tmp_path)
    with torch.inference_mode():
        assert torch.equal(y, model(x))
    program = torch.export.load(write_port(model, tmp_path / "network", "pt2")).module()
    assert torch.equal(program(x), model(x))


def test_names_out_of_a_file_do_not_become_code(tmp_path: Path) -> None:
    """The names would end the process, write tags, leave the folder, or be mangled by Python."""
    write_dense_chain(tmp_path / "hostile.keras")
    model = port_model(tmp_path / "hostile.keras")
    write_port(model, tmp_path / "network", "safetensors")
    path = write_port(model, tmp_path / "network", "py")
    x = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    y, names = run_code(path, x, tmp_path)
    with torch.inference_mode():
        assert torch.equal(y, model(x))
    assert names == sorted(model.state_dict())
    code = path.read_text()
    assert code.isascii()
    called = {node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)}
    functions = {function.id for function in called if isinstance(function, ast.Name)}
    assert functions == {"super", "build", "as_float", "Path", "Network", "load_file"}
    written = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert len(written) == 6  # and nothing elsewhere


def test_attributes_are_identifiers_and_unique() -> None:
    names = [
        *NAMES,
        "a b",
        "a_b",
        "a-b",
        "1x",
        "x" * 5000,
        "__private",
        "self",
        "train",
        "T_destination",
    ]
    found = attribute_names(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    for attribute in found.values():
        assert attribute.isidentifier()
        assert attribute.isascii()
        assert not (attribute.startswith("__") and not attribute.endswith("__"))
        assert not hasattr(PortedModel, attribute)


def test_layers_of_ones_own_are_named_where_code_cannot_be_written(tmp_path: Path) -> None:
    write_dense_chain(tmp_path / "net.keras", ["first", "second"])
    model = port_model(
        tmp_path / "net.keras", layers={"Dense": lambda spec: MyDense(*spec.weights["kernel"])}
    )
    with pytest.raises(PortError, match=r"layers of your own: 'first', 'second'"):
        module_code(model)


class MyDense(torch.nn.Linear):
    """Without weights of TensorFlow's."""

    def tf_weights(self):
        from tfcompat_dw.porting.layer import TfWeight

        return [TfWeight("kernel", self.weight, (1, 0)), TfWeight("bias", self.bias)]
