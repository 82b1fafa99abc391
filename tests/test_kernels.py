"""The kernels without torch, under AddressSanitizer and UBSan, with every instruction set."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "kernels"
BUILD = FOLDER.parent.parent / "build" / "kernels"


@pytest.fixture(scope="module")
def check_kernels() -> Path:
    """The checking program, built where it is not up to date."""
    jobs = f"-j{os.cpu_count() or 1}"
    build = subprocess.run(
        ["make", jobs, "-C", str(FOLDER), f"BUILD={BUILD}"], capture_output=True, text=True
    )
    assert build.returncode == 0, build.stderr
    return BUILD / "check_kernels"


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
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
