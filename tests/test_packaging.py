"""The wheel: what is in it, what it is bound to, and that it works where it is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, **options: Any) -> str:
    result = subprocess.run(command, capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps")
    environment = {"TFCOMPAT_DW_CUDA": "0", **os.environ}  # the objects that are there already
    run(*pip, "--wheel-dir", folder, ROOT, env=environment)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", folder, wheel)
    return folder


def test_one_wheel_serves_every_cpython_from_3_10_on(wheel: Path) -> None:
    assert wheel.name.split("-")[2:4] == ["cp310", "abi3"]


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"tfcompat_dw/_C.abi3.so", "tfcompat_dw/py.typed", "tfcompat_dw/_C.pyi"} <= set(names)
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "tfcompat_dw").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert "tfcompat_dw/porting/compare.html.j2" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tfcompat_dw"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    metadata = next(name for name in names if name.endswith("METADATA"))
    required = [
        line
        for line in zipfile.ZipFile(wheel).read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist")
    ]
    assert [line for line in required if "extra ==" not in line] == ["Requires-Dist: torch>=2.10"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="torch-abi-audit needs Python 3.11")
def test_the_library_uses_the_stable_abi_of_torch_2_10_and_of_python(installed: Path) -> None:
    library = installed / "tfcompat_dw" / "_C.abi3.so"
    audit = Path(sys.executable).with_name("torch-abi-audit")
    report = json.loads(run(audit, "--check", "both", "--json", library))
    (extension,) = report["extensions"]
    assert extension["cpython"]["compliant"]
    assert extension["torch"]["stable"]
    assert extension["torch"]["min_torch_version"] == "2.10.0"


def test_the_library_asks_torch_for_c_functions_only(installed: Path) -> None:
    """C++ symbols of at::, c10:: and torch:: are what a new PyTorch changes."""
    library = installed / "tfcompat_dw" / "_C.abi3.so"
    symbols = run("nm", "--dynamic", "--undefined-only", "--demangle", library).splitlines()
    names = [line.split(maxsplit=1)[1] for line in symbols]
    assert [name for name in names if re.search(r"\b(at|c10|caffe2|torch)::", name)] == []
    from_torch = [name for name in names if "torch" in name]
    assert "torch_call_dispatcher" in from_torch
    assert [name for name in from_torch if not name.startswith(("aoti_torch_", "torch_"))] == []


def test_the_library_needs_torch_and_the_c_and_cpp_runtimes_only(installed: Path) -> None:
    library = installed / "tfcompat_dw" / "_C.abi3.so"
    needed = [
        line.split("[")[1].rstrip("]")
        for line in run("readelf", "--dynamic", "--wide", library).splitlines()
        if "(NEEDED)" in line
    ]
    allowed = ("libtorch", "libc10", "libstdc++", "libgcc_s", "libc.", "libm.", "ld-linux")
    assert [name for name in needed if not name.startswith(allowed)] == []


def test_an_installed_wheel_computes_the_worked_example(installed: Path, tmp_path: Path) -> None:
    script = (
        "import torch, tfcompat_dw\n"
        "print(tfcompat_dw.__file__)\n"
        "rows = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(4, 4)\n"
        "x = torch.stack([rows, torch.ones(4, 4)], -1)[None]\n"
        "f = torch.tensor([[0.0, 2.0], [1.0, 3.0]]).expand(3, 3, 2, 2)\n"
        "print(tfcompat_dw.depthwise_conv2d(x, f, [1, 1, 1, 1], 'VALID').tolist())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    location, result = run(sys.executable, "-c", script, cwd=tmp_path, env=environment).splitlines()
    assert Path(location).is_relative_to(installed)
    row = [[0.0, 36.0, 9.0, 27.0], [0.0, 54.0, 9.0, 27.0]]
    assert json.loads(result) == [[row, row]]
