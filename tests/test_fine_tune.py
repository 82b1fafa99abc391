"""The example that ports a network, trains it on and hands it back to Keras."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

import tfcompat_dw

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import real_files  # noqa: E402
from fetch_model import MLTK  # noqa: E402


def test_the_example_learns_faces_and_writes_a_file_that_holds_what_it_learned(
    tmp_path: Path,
) -> None:
    (tmp_path / "downloads").mkdir()
    for file in MLTK.files:
        shutil.copy(real_files.path(file.name), tmp_path / "downloads")
    run = subprocess.run(
        [sys.executable, HERE.parent / "examples" / "fine_tune.py", "--build", tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    before, after = (int(found) for found in re.findall(r"(\d+) of 40 pictures right", run.stdout))
    assert before < 30
    assert after > 36  # of 40, where half of them by chance would be 20
    assert (tmp_path / "fine_tune.png").read_bytes().startswith(b"\x89PNG")
    original = real_files.path("visual_wake_words.h5")
    old, new = (
        tfcompat_dw.port_model(path).state_dict() for path in (original, tmp_path / "fine_tuned.h5")
    )
    moving = [name for name in old if "running" in name]
    assert all(np.array_equal(old[name], new[name]) for name in moving)  # they were held
    assert not np.array_equal(old["conv2d.weight"], new["conv2d.weight"])
    with h5py.File(original) as one, h5py.File(tmp_path / "fine_tuned.h5") as other:
        assert one.attrs["model_config"] == other.attrs["model_config"]
