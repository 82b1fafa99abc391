"""NVIDIA's compute-sanitizer over a short parity run: addresses, then races in shared memory."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import torch

from gpu.parity import PROGRAM, differences
from gpu.problems import exact, reference_results, results, short, single_gradients
from gpu.process import Finished, run_within
from gpu.session import Deadline, Report

FOUND_SOMETHING = 86
"""Exit status: no other program's."""
ALL_RIGHT = "sanitized parity: all right"
NO_CACHE = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
"""Every tensor is an allocation of its own, so that none borders on another."""


def find_sanitizer() -> str | None:
    """In PATH, beside nvcc, or where CUDA's installer puts it."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    if nvcc:
        homes.append(str(Path(nvcc).resolve().parent.parent))
    folders = [os.environ.get("PATH", "")]
    for home in filter(None, homes):
        folders += [f"{home}/bin", f"{home}/compute-sanitizer"]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(folders))


def short_parity(device: str) -> list[str]:
    """What is wrong; run under the sanitizer, in a process of its own."""
    generator = torch.Generator().manual_seed(4)
    wrong = []
    for shape in short():
        tensors = exact(shape, generator)
        expected = reference_results(tensors, shape)
        for dtype in (torch.float32, torch.bfloat16):
            own = [tensor.to(device, dtype) for tensor in tensors]
            found = differences(results(own, shape), expected)
            found += differences(single_gradients(own, shape), expected[1:3], ("dx", "dw"))
            wrong += [f"{dtype} {shape}: {text}" for text in found]
    return wrong


def judge(finished: Finished) -> tuple[str, list[str]]:
    """The tool's own summary in a line, and what is wrong."""
    summaries = re.findall(r"SUMMARY: (.*)", finished.output)
    said = summaries[-1].strip() if summaries else "no summary"
    if finished.status == FOUND_SOMETHING:
        details = [
            line.removeprefix("=========").strip()
            for line in finished.output.splitlines()
            if re.match(r"=========\s+(Invalid|Error|Warning|Race|Barrier|Uninitialized)", line)
        ]
        return said, [said, *details[:3]]
    if finished.status != 0 or ALL_RIGHT not in finished.output:
        return said, [f"the checked program failed: {finished.last_line}"]
    return said, []


def check_sanitizer(report: Report, device: str, deadline: Deadline, tool: str) -> str:
    """One of the sanitizer's tools; returns its verdict in a line."""
    sanitizer = find_sanitizer()
    if sanitizer is None:
        verdict = f"compute-sanitizer {tool}: not installed"
        report.leave_out(verdict)
        return verdict
    options = ["--tool", tool, "--error-exitcode", str(FOUND_SOMETHING)]
    if tool == "memcheck":  # PyTorch asks the driver for functions that it may not have
        options += ["--report-api-errors", "no"]
    command = [sys.executable, str(PROGRAM), "--device", device, "--short-parity"]
    finished = run_within([sanitizer, *options, *command], deadline.left, **NO_CACHE)
    if finished.status is None:
        verdict = f"compute-sanitizer {tool}: not finished in time"
        report.leave_out(verdict)
        return verdict
    said, wrong = judge(finished)
    report.case("compute-sanitizer", tool, wrong)
    verdict = f"compute-sanitizer {tool}: {'; '.join(wrong) if wrong else said}"
    print(f"   {verdict[:400]}", flush=True)
    return verdict
