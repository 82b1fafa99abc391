"""Networks that other authors trained compute in PyTorch what they compute in Keras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.transform
import torch
from torch import Tensor

from tfcompat_dw import port_model
from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.porting.compare import compare

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import real_files  # noqa: E402

BOUND = 1e-5
"""Of the largest value of each layer: a hundred layers of float32 sums, each in another order."""
FILES = {"emotion_model.hdf5": (64, 64, 1), "visual_wake_words.h5": (96, 96, 3)}


@pytest.fixture(scope="module", params=FILES)
def original(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Tensor, dict[str, np.ndarray]]:
    """A file, an input and every layer's output in Keras."""
    folder = tmp_path_factory.mktemp("original")
    file = real_files.path(request.param)
    x = np.random.default_rng(0).uniform(0, 1, (2, *FILES[request.param])).astype("f4")
    np.savez(folder / "inputs.npz", x)
    command = [sys.executable, HERE / "run_original.py", file]
    subprocess.run(
        [*command, folder / "inputs.npz", folder / "outputs.npz"], check=True, timeout=300
    )
    with np.load(folder / "outputs.npz") as arrays:
        return file, torch.from_numpy(x), dict(arrays)


def test_every_layer_gives_what_keras_gives(
    original: tuple[Path, Tensor, dict[str, np.ndarray]],
) -> None:
    file, x, expected = original
    model = port_model(file)
    with torch.inference_mode():
        outputs = {name: value.numpy() for name, value in model.layer_outputs(x).items()}
    found = compare(outputs, expected, BOUND)
    assert found.agrees, f"{found.first}: {found.cause}"
    assert found.layers[-1].name == list(expected)[-1]
    assert set(found.only_original) <= {name for name in expected if "zero_padding" in name}


def picture(image: np.ndarray) -> Tensor:
    """96 x 96 pixels, 0 to 255, as MLPerf Tiny's pictures are."""
    small = skimage.transform.resize(image, (96, 96), anti_aliasing=True)
    return torch.from_numpy(small * 255).float()[None]


def test_visual_wake_words_sees_a_person_in_the_astronaut_and_none_in_the_coffee() -> None:
    model = port_model(real_files.path("visual_wake_words.h5"))
    with torch.inference_mode():
        astronaut = model(picture(skimage.data.astronaut()))[0, 0].item()
        coffee = model(picture(skimage.data.coffee()))[0, 0].item()
    assert astronaut == pytest.approx(0.92, abs=0.01)
    assert coffee == pytest.approx(0.01, abs=0.01)


WITHOUT_TENSORFLOW = """
import sys
for name in ("tensorflow", "keras", "tf_keras", "h5py"):
    sys.modules[name] = None
import torch, tfcompat_dw
for path, shape in zip(sys.argv[1::2], sys.argv[2::2]):
    model = tfcompat_dw.port_model(path)
    x = torch.zeros(1, *map(int, shape.split(",")))
    print(tuple(model(x).shape))
"""


def test_port_works_where_importing_tensorflow_and_keras_raises() -> None:
    arguments = [
        word
        for name, shape in FILES.items()
        for word in (str(real_files.path(name)), ",".join(map(str, shape)))
    ]
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.split("\n")[:2] == ["(1, 7)", "(1, 2)"], run.stderr


TF_VALUES = """
import os, sys
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
import numpy as np, tensorflow as tf
reader = tf.train.load_checkpoint(sys.argv[1])
names = reader.get_variable_to_shape_map()
values = {name: reader.get_tensor(name) for name in names}
strings = {name: np.frombuffer(v, "u1") for name, v in values.items() if isinstance(v, bytes)}
np.savez(sys.argv[2], **values | strings)
"""


def test_yamnet_holds_what_tensorflow_finds_in_it(tmp_path: Path) -> None:
    """A SavedModel of TF 2.8: names and values of all variables."""
    folder = real_files.path("yamnet")
    arguments = [str(folder / "variables" / "variables"), str(tmp_path / "values.npz")]
    subprocess.run([sys.executable, "-c", TF_VALUES, *arguments], check=True, timeout=120)
    checkpoint = open_checkpoint(folder)
    with np.load(tmp_path / "values.npz") as expected:
        assert set(checkpoint) == set(expected.files)
        assert len(checkpoint) == 113
        for name in checkpoint:
            assert np.array_equal(checkpoint[name].numpy(), expected[name]), name
    names = checkpoint.variable_names()
    depthwise = [key for key in checkpoint if names.get(key, "").endswith("depthwise_kernel")]
    assert [tuple(checkpoint[key].shape)[:2] for key in depthwise] == [(3, 3)] * 13
