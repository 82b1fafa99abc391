"""All networks of `keras.applications` with depthwise convolutions, layer by layer against TF."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_files import BOUND, distance

from tfcompat_dw.porting import port_model

PROGRAM = Path(__file__).with_name("graph_applications.py")
NETWORKS = [
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "MobileNetV3Large",
    *(f"EfficientNetB{number}" for number in range(8)),
    *(f"EfficientNetV2{kind}" for kind in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    "NASNetMobile", "NASNetLarge", "Xception",
    *(f"ConvNeXt{kind}" for kind in ("Tiny", "Small", "Base", "Large", "XLarge")),
]  # fmt: skip
QUICK = {
    ("MobileNetV3Small", 64), ("MobileNetV3Small", 65), ("EfficientNetB0", 65),
    ("EfficientNetV2B0", 64), ("NASNetMobile", 65), ("ConvNeXtTiny", 65),
}  # fmt: skip
FOLDED = {"MobileNet": 4, "MobileNetV2": 4, "MobileNetV3Small": 4, "MobileNetV3Large": 4,
          "NASNetMobile": 16, "NASNetLarge": 16}  # fmt: skip
"""Paddings that become a part of the convolution behind them; of EfficientNet it is 5."""


def sizes(name: str) -> tuple[int, int]:
    """An even and an odd one; Xception takes no less than 71."""
    return (96, 75) if name == "Xception" else (64, 65)


def ending(size: int) -> str:
    """Both formats are read."""
    return "h5" if size % 2 else "keras"


CASES = [(name, size) for name in NETWORKS for size in sizes(name)]


def write(folder: Path, cases: list[tuple[str, int]]) -> None:
    arguments = [str(word) for name, size in cases for word in (name, size, ending(size))]
    program = [sys.executable, PROGRAM, folder, *arguments]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The small networks' files, all by one process."""
    folder = tmp_path_factory.mktemp("applications")
    write(folder, sorted(QUICK))
    return folder


def compare(folder: Path, name: str, size: int) -> None:
    model = port_model(folder / f"{name}_{size}.{ending(size)}")
    with np.load(folder / f"{name}_{size}.npz") as arrays:
        image = torch.from_numpy(arrays["image"])
        with torch.inference_mode():
            layers = model.layer_outputs(image)
            output = model(image)
        expected = {key.partition(" ")[2]: key for key in arrays if key.startswith("layer ")}
        assert set(layers) <= set(expected)
        folded = set(expected) - set(layers)
        usual = 5 if name.startswith("EfficientNetB") else 0
        assert len(folded) == FOLDED.get(name, usual)
        assert all("pad" in layer for layer in folded)
        distances = {layer: distance(layers[layer], arrays[expected[layer]]) for layer in layers}
        distances["the network's output"] = distance(output, arrays["output"])
    worst = max(distances, key=lambda layer: distances[layer])
    assert distances[worst] <= BOUND, worst


@pytest.mark.parametrize(("name", "size"), sorted(QUICK))
def test_every_layer_of_a_small_network_is_keras(quick, name, size):
    compare(quick, name, size)


@pytest.mark.full
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_of_every_network_is_keras_at_an_even_and_an_odd_size(tmp_path, name):
    for size in sizes(name):
        write(tmp_path, [(name, size)])
        compare(tmp_path, name, size)
        for file in tmp_path.iterdir():
            file.unlink()


def test_the_table_has_all_27_networks():
    assert len(NETWORKS) == len(set(NETWORKS)) == 27
    assert set(CASES) > QUICK
