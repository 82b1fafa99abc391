"""Two real processes: DTensor, DDP and FSDP2 give what one process gives."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
CHECKS = Path(__file__).resolve().parent / "distributed" / "checks.py"
NAMES = [
    node.name
    for node in ast.parse(CHECKS.read_text()).body
    if isinstance(node, ast.FunctionDef)
    and any(isinstance(d, ast.Name) and d.id == "check" for d in node.decorator_list)
]


@pytest.fixture(scope="module")
def faults() -> dict[str, str | None]:
    """What two processes found, by check."""
    run = subprocess.run(
        [*TORCHRUN, str(CHECKS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = {}
    for line in run.stdout.splitlines():
        if line.startswith("CHECK "):
            _, name, fault = line.split(" ", 2)
            found[name] = ast.literal_eval(fault)
    assert set(found) == set(NAMES), run.stdout + run.stderr
    return found


SIZE_FIRST = pytest.mark.xfail(
    torch.__version__ < (2, 12), reason="DTensor wants a tensor as an operator's first argument"
)


def marked(name: str) -> Any:
    """The checks that take one gradient alone, whose operator's first argument is a size."""
    alone = name in ("dtensor_single_gradients", "dtensor_second_derivative")
    return pytest.param(name, marks=SIZE_FIRST) if alone else name


@pytest.mark.parametrize("name", [marked(name) for name in NAMES])
def test_two_processes_agree_with_one(name: str, faults: dict[str, str | None]) -> None:
    assert faults[name] is None, faults[name]


# ---- the example ---------------------------------------------------------------------------------

EXAMPLE = CHECKS.parent.parent.parent / "examples" / "train_distributed.py"
STEPS = 12


def trained(folder: Path, launch: list[str], *options: str) -> tuple[dict[str, Any], str]:
    """The checkpoint of a run, and what it printed."""
    command = [*launch, str(EXAMPLE), f"--steps={STEPS}", "--save-every=4", f"--folder={folder}"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return torch.load(folder / "checkpoint.pt", weights_only=True), run.stdout


def test_example_trains_alike_in_one_process_in_two_and_after_a_crash(tmp_path: Path) -> None:
    """The bound is what the example states."""
    torchrun = [*TORCHRUN, "--max-restarts=1"]
    alone, _ = trained(tmp_path / "alone", [sys.executable])
    two, _ = trained(tmp_path / "two", torchrun)
    crashed, told = trained(tmp_path / "crashed", torchrun, "--crash-at=6")
    assert "going on from step 4" in told
    for other in (two, crashed):
        assert other["step"] == STEPS
        assert len(other["losses"]) == STEPS
        for name, parameter in alone["model"].items():
            error = (other["model"][name] - parameter).abs().max()
            assert error <= 1e-9 * parameter.abs().max(), name
    assert alone["losses"][-1] < alone["losses"][0]
    assert (tmp_path / "alone" / "loss.png").stat().st_size > 1000
