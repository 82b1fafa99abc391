"""The example that ports a face detector from TFLite and trains it on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import real_files  # noqa: E402
from fetch_model import FACES  # noqa: E402


def test_the_example_finds_a_face_and_learns_to_find_eyes_upside_down(tmp_path: Path) -> None:
    """A third of its training, in which most of what is learned is learned."""
    (tmp_path / "downloads" / "faces").mkdir(parents=True)
    for file in FACES.files:
        shutil.copy(real_files.path(file.name), tmp_path / "downloads" / file.name)
    example = HERE.parent / "examples" / "find_faces.py"
    run = subprocess.run(
        [sys.executable, example, "--build", tmp_path, "--steps", "100"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr
    assert "upright: 1 face in the first photograph" in run.stdout
    counts = re.findall(r"eyes right in (\d+) of (\d+) faces", run.stdout)
    (before, several), (after, as_many) = ((int(a), int(b)) for a, b in counts)
    assert several == as_many > 15
    assert before < several / 4  # it takes mouths for eyes
    assert after > several / 2
    assert (tmp_path / "find_faces.png").read_bytes().startswith(b"\x89PNG")
