"""The kernels without torch, under AddressSanitizer and UBSan: the CPU's with every
instruction set, CUDA's on an emulation of the GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS.parent / "tools"))

import cuda_check  # noqa: E402

NVCC = cuda_check.find_nvcc()
# Every kernel by its name, as nvcc compiled them.
CUDA_KERNELS = sorted(cuda_check.Table.parse(cuda_check.TABLE.read_text()).usages)


def _built(folder: str, build: str, program: str) -> Path:
    """A checking program, built where it is not up to date."""
    out = TESTS.parent / "build" / build
    jobs = f"-j{os.cpu_count() or 1}"
    make = ["make", jobs, "-C", str(TESTS / folder), f"BUILD={out}", str(out / program)]
    run = subprocess.run(make, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return out / program


@pytest.fixture(scope="module")
def check_kernels() -> Path:
    return _built("kernels", "kernels", "check_kernels")


@pytest.fixture(scope="module")
def check_cuda() -> Path:
    return _built("cuda", "cuda_kernels", "check_cuda")


def _outcomes(program: Path, *arguments: str, **environment: str) -> list[tuple[str, str]]:
    """What a checking program prints for each seed, and its complaints; all seeds side by side."""
    runs = [
        subprocess.Popen(
            [program, str(seed), *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    return [run.communicate() for run in runs]


def _check(outcomes: list[tuple[str, str]], right: str) -> None:
    """AddressSanitizer may warn of what it knows little of: fibres."""
    assert [printed for printed, _ in outcomes] == [right] * 2, outcomes


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512bf16"])
def test_kernels_are_exact_and_stay_inside_their_arrays(isa: str, check_kernels: Path) -> None:
    outcomes = _outcomes(check_kernels, "4000", TFCOMPAT_DW_ISA=isa)
    if f"'{isa}', but this processor and build offer" in outcomes[0][1]:
        pytest.skip(f"this processor or compiler has no {isa}")
    _check(outcomes, f"4000 problems right with {isa}\n")


def test_every_cuda_kernel_is_exact_on_an_emulated_gpu(check_cuda: Path) -> None:
    for printed, complaints in _outcomes(check_cuda, "8", *CUDA_KERNELS):
        ran = dict(re.findall(r"^(.+): (\d+)$", printed, re.MULTILINE))
        assert sorted(ran) == CUDA_KERNELS, printed + complaints
        assert min(map(int, ran.values())) >= 8, printed


def test_cuda_launch_plans_cover_every_result_once() -> None:
    """They know no number of processors, so how a sum is split cannot depend on it."""
    check_plans = _built("cuda", "cuda_kernels", "check_plans")
    right = "the plans of 3000 problems cover everything once\n"
    _check(_outcomes(check_plans, "3000"), right)


@pytest.mark.skipif(NVCC is None, reason="this machine has no nvcc")
def test_cuda_kernels_compile(tmp_path: Path) -> None:
    """The emulation replaces what is CUDA's own, the launch among it; nvcc sees that, too."""
    source = TESTS.parent / "csrc" / "cuda" / "bfloat16.cu"
    assert NVCC is not None
    nvcc = [NVCC, "-std=c++17", "-arch=sm_90", "-Xptxas=-O0", "-c", str(source), "-o"]
    run = subprocess.run([*nvcc, str(tmp_path / "kernels.o")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
