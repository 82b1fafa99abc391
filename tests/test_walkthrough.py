"""The walkthrough's numbers come from the package and are the ones its words promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import walkthrough  # noqa: E402
from walkthrough import PADDINGS, Sight  # noqa: E402

from tfcompat_dw.functional import Padding  # noqa: E402


def test_the_worked_example_is_exact() -> None:
    result = walkthrough.depthwise(walkthrough.worked_input(), walkthrough.worked_filter())
    assert result[0].tolist() == [[[0, 36, 9, 27], [0, 54, 9, 27]]] * 2


def test_an_ordinary_convolution_adds_up_the_depthwise_ones() -> None:
    image, weights = walkthrough.worked_input(), walkthrough.worked_filter()
    by_channel = walkthrough.depthwise(image, weights).unflatten(3, (2, 2))
    assert torch.equal(walkthrough.ordinary(image, weights), by_channel.sum(dim=3))


@pytest.mark.parametrize(
    ("padding", "counts", "starts"),
    [
        (PADDINGS[0].padding, [[9, 9], [9, 9]], [0, 2]),
        (PADDINGS[1].padding, [[9, 9, 6], [9, 9, 6], [6, 6, 4]], [0, 2, 4]),
        (PADDINGS[2].padding, [[4, 6, 6], [6, 9, 9], [6, 9, 9]], [-1, 1, 3]),
    ],
)
def test_windows_see_the_pixels_that_the_outputs_count(
    padding: Padding, counts: list[list[int]], starts: list[int]
) -> None:
    sight = Sight(6, torch.ones(3, 3, 1, 1), padding, stride=2)
    assert sight.result().tolist() == counts
    windows = [sight.window(index, index) for index in range(len(counts))]
    assert [walkthrough.window_start(window, kernel=3) for window in windows] == starts
    assert [window.sum() for window in windows] == list(np.diagonal(counts))


def test_it_writes_a_picture_small_enough_for_the_docs(tmp_path: Path) -> None:
    output = tmp_path / "new folder" / "walkthrough.png"
    command = [sys.executable, EXAMPLES / "walkthrough.py", "--output", output]
    subprocess.run(command, check=True, timeout=300)
    assert output.read_bytes().startswith(b"\x89PNG")
    assert output.stat().st_size < 400_000


def test_a_place_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, EXAMPLES / "walkthrough.py", "--output", tmp_path / "file" / "a.png"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "cannot write" in run.stderr
