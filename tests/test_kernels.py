"""The kernels without torch, under AddressSanitizer and UBSan: the CPU's with every
instruction set, CUDA's on an emulation of the GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def _built(folder: str, build: str, program: str) -> Path:
    """A checking program, built where it is not up to date."""
    out = TESTS.parent / "build" / build
    jobs = f"-j{os.cpu_count() or 1}"
    make = ["make", jobs, "-C", str(TESTS / folder), f"BUILD={out}"]
    run = subprocess.run(make, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return out / program


@pytest.fixture(scope="module")
def check_kernels() -> Path:
    return _built("kernels", "kernels", "check_kernels")


@pytest.fixture(scope="module")
def check_cuda() -> Path:
    return _built("cuda", "cuda_kernels", "check_cuda")


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512bf16"])
@pytest.mark.parametrize("seed", [1, 2])
def test_kernels_are_exact_and_stay_inside_their_arrays(
    isa: str, seed: int, check_kernels: Path
) -> None:
    run = subprocess.run(
        [check_kernels, str(seed), "4000"],
        env={**os.environ, "TFCOMPAT_DW_ISA": isa},
        capture_output=True,
        text=True,
    )
    if f"'{isa}', but this processor and build offer" in run.stderr:
        pytest.skip(f"this processor or compiler has no {isa}")
    assert run.stdout == f"4000 problems right with {isa}\n", run.stdout + run.stderr


@pytest.mark.parametrize("seed", [1, 2])
def test_cuda_kernels_are_exact_on_an_emulated_gpu(seed: int, check_cuda: Path) -> None:
    run = subprocess.run([check_cuda, str(seed), "20"], capture_output=True, text=True)
    assert run.stdout == "20 problems right\n", run.stdout + run.stderr


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="this machine has no nvcc")
def test_cuda_kernels_compile(tmp_path: Path) -> None:
    """The emulation replaces what is CUDA's own, the launch among it; nvcc sees that, too."""
    source = TESTS.parent / "csrc" / "cuda" / "bfloat16.cu"
    nvcc = ["nvcc", "-std=c++17", "-arch=sm_90", "-Xptxas=-O0", "-c", str(source), "-o"]
    run = subprocess.run([*nvcc, str(tmp_path / "kernels.o")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
