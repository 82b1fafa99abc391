"""The emulated GPU finds kernels that are wrong: each of these faults is put into a copy of the
sources, and check_cuda has to name the kernel that it spoils."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Fault(NamedTuple):
    """A change of one place in a header of csrc."""

    header: str
    right: str
    wrong: str
    kernel: str
    sanitize: str = "address"


FAULTS = {
    # barriers
    "a sum over threads without the barrier of a step": Fault(
        "cuda/reduce.h",
        "{\n    __syncthreads();\n    if (member < half",
        "{\n    if (member < half",
        "filter_points<float>",
    ),
    "sums over threads without a barrier between two": Fault(
        "cuda/reduce.h",
        "  __syncthreads();  // the buffer is free again\n",
        "",
        "filter_planes<float, 0>",
    ),
    "sources are read before all have come": Fault(
        "cuda/gather_planes.h",
        "  T* results = shared + g.plan.source_slab;\n  __syncthreads();\n",
        "  T* results = shared + g.plan.source_slab;\n",
        "gather_planes<float, 3>",
    ),
    "results leave before all are made": Fault(
        "cuda/gather_planes.h",
        "  __syncthreads();\n  copy_out(",
        "  copy_out(",
        "gather_planes<float, 0>",
    ),
    "the filter is read before all of it has come": Fault(
        "cuda/gather_channels.h",
        "return all_threads(zeros == 0);",
        "return zeros == 0;",
        "gather_channels<float, 4, 3, 1>",
    ),
    "gradients are read before all have come": Fault(
        "cuda/filter_planes.h",
        "    __syncthreads();\n    if (present) {",
        "    if (present) {",
        "filter_planes<float, 3>",
    ),
    "the next unit comes before the last one is read": Fault(
        "cuda/filter_planes.h",
        "    __syncthreads();  // the slabs are read: the next unit may come in\n",
        "",
        "filter_planes<float, 5>",
    ),
    "a block's sums are added before all are there": Fault(
        "cuda/filter_channels.h",
        "= sums[n];\n  __syncthreads();\n",
        "= sums[n];\n",
        "filter_channels<float, 4, 3, 3, 1>",
    ),
    # partial sums
    "half of the members of a sum are lost": Fault(
        "cuda/reduce.h",
        "while (half * 2 < members)",
        "while (half * 4 < members)",
        "filter_points<float>",
    ),
    "the last block's sums are lost": Fault(
        "cuda/reduce.h",
        "split < splits;",
        "split + 1 < splits;",
        "reduce_partials<float>",
    ),
    "one round of walks too few": Fault(
        "cuda/filter_channels.h",
        "round < plan.rounds;",
        "round + 1 < plan.rounds;",
        "filter_channels<float, 1, 1, 3, 2>",
    ),
    # what a thread or a block sees
    "a band's sources end a row too early": Fault(
        "window.h",
        "last = (d.end - 1) * axis.stride - axis.pad + reach;",
        "last = (d.end - 1) * axis.stride - axis.pad + reach - 1;",
        "gather_planes<float, 3>",
    ),
    "a tile's last row is taken for padding": Fault(
        "cuda/gather_channels.h",
        "row_end = bound(tile.height - tile.row, kRows)",
        "row_end = bound(tile.height - tile.row - 1, kRows)",
        "gather_channels<float, 4, 5, 1>",
    ),
    "a tile's first column is taken for padding": Fault(
        "cuda/gather_channels.h",
        "col_begin = bound(-tile.col, kSeen)",
        "col_begin = bound(1 - tile.col, kSeen)",
        "gather_channels<float, 1, 3, 2>",
    ),
    "a column before the image counts as inside": Fault(
        "cuda/gather_channels.h",
        "inside[c] = x >= 0 &&",
        "inside[c] = x >= -1 &&",
        "gather_channels<float, 4, 0, 1>",
    ),
    "a walk sees a row after the last": Fault(
        "cuda/filter_channels.h",
        "y >= f.rows.sources) continue;",
        "y > f.rows.sources) continue;",
        "filter_channels<float, 2, 5, 5, 2>",
    ),
    "a point sees a source after the last": Fault(
        "cuda/gather_points.h",
        "return source < axis.sources ?",
        "return source <= axis.sources ?",
        "gather_points<float, unsigned int>",
    ),
    "parity classes begin a source too early": Fault(
        "cuda/lattice.h",
        "source - (taps - 1), 1, taps,",
        "source - taps, 1, taps,",
        "gather_channels<float, 4, 0, 1>",
    ),
    "a tile of parities begins a source too late": Fault(
        "cuda/gather_parities.h",
        "tile.row = (row + g.rows.pad) / 2 - K / 2;",
        "tile.row = (row + g.rows.pad) / 2 - K / 2 + 1;",
        "gather_parities<float, 1, 3>",
    ),
    "the first column of a tile that begins before the image is not stored": Fault(
        "cuda/gather_parities.h",
        "begin = first < 0 ? static_cast<int>(-first) : 0;",
        "begin = first < 0 ? static_cast<int>(1 - first) : 0;",
        "gather_parities<float, 4, 5>",
    ),
    "parities multiply what lies before the image": Fault(
        "cuda/gather_parities.h",
        "inside[c] = tile.col + c >= 0 &&",
        "inside[c] = tile.col + c >= -1 &&",
        "gather_parities<float, 4, 3>",
    ),
    "parities multiply padding with a filter that is not finite": Fault(
        "cuda/gather_parities.h",
        "if (!Finite && !inside[c]) continue;",
        "",
        "gather_parities<float, 4, 3>",
    ),
    "a filter of 7 x 7 that is not finite is read by columns": Fault(
        "cuda/gather_channels.h",
        "held[(kh * K + k) * kLaneSlots",
        "held[(k * K + kh) * kLaneSlots",
        "gather_channels<float, 4, 7, 1>",
    ),
    "the parts of a filter overlap": Fault(
        "cuda/filter_channels.h",
        "const int tap_col = KR == KC ? 0 : static_cast<int>(tap_block) % pieces * KC;",
        "const int tap_col = KR == KC ? 0 : static_cast<int>(tap_block) % pieces * (KC - 1);",
        "filter_channels<float, 2, 7, 2, 1>",
    ),
    "padding is multiplied with a filter that is not finite": Fault(
        "cuda/gather_channels.h",
        "return all_threads(zeros == 0);",
        "return all_threads(true);",
        "gather_channels<float, 4, 3, 1>",
    ),
    # memory
    "shared memory for a vector of sources too few": Fault(
        "cuda/plan.h",
        "plan.source_slab = slab_size<T>(source_planes * source_rows * col_axis.sources);",
        "plan.source_slab = slab_size<T>(source_planes * source_rows * col_axis.sources) - 4;",
        "gather_planes<float, 5>",
    ),
    "shared memory for a vector of results too few": Fault(
        "cuda/plan.h",
        "plan.result_slab = slab_size<T>(result_planes * plan.rows * col_axis.destinations);",
        "plan.result_slab = slab_size<T>(result_planes * plan.rows * col_axis.destinations) - 4;",
        "gather_planes<float, 0>",
    ),
    "a flat piece is moved without its last elements": Fault(
        "cuda/slab.h",
        "  for (int i = tail + t; i < end; i += threads) to[i] = from[i];\n",
        "",
        "gather_planes<float, 0>",
    ),
    "vectors are stored at any address": Fault(
        "cuda/kernels.h",
        "!aligned(a.sources, unit) || !aligned(a.destinations, unit)",
        "!aligned(a.sources, unit)",
        "gather_channels<float, 4, 0, 2>",
        "address,alignment",
    ),
    "the last row of a tile is not stored": Fault(
        "cuda/gather_channels.h",
        "if (row + i * rows.step >= g.rows.destinations) break;",
        "if (row + i * rows.step >= g.rows.destinations - 1) break;",
        "gather_channels<float, 1, 0, 2>",
    ),
}


KERNELS = sorted({fault.kernel for fault in FAULTS.values()})


def build(copy: Path, *unchanged: str, sanitize: str = "address") -> None:
    """check_cuda of a copy, for float32 alone; `unchanged` objects stay as they are."""
    make = ["make", "-C", "tests/cuda", "BUILD=../../build", "DTYPES=float32", "OPTIMIZE=-O0"]
    old = [option for name in unchanged for option in ("-o", f"../../build/{name}.o")]
    command = [*make, f"SANITIZE={sanitize}", *old, "../../build/check_cuda"]
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def check(copy: Path, kernel: str) -> subprocess.CompletedProcess[str]:
    """Eight problems that start a kernel, or as many as are right."""
    command = [copy / "build" / "check_cuda", "1", "8", kernel]
    environment = {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture(scope="module")
def copy_of_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What check_cuda is made of, built."""
    copy = tmp_path_factory.mktemp("sources")
    for folder in ("csrc", "tests/cuda", "tests/kernels"):
        shutil.copytree(ROOT / folder, copy / folder)
    build(copy)
    return copy


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_a_fault_all_is_right(kernel: str, copy_of_sources: Path) -> None:
    run = check(copy_of_sources, kernel)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{kernel}: 8\n" in run.stdout


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found(fault: Fault, copy_of_sources: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(copy_of_sources, copy)
    header = copy / "csrc" / fault.header
    text = header.read_text()
    assert text.count(fault.right) == 1, f"{fault.header} has changed: the fault needs a new place"
    header.write_text(text.replace(fault.right, fault.wrong))
    build(copy, "launch", "check_cuda", sanitize=fault.sanitize)
    run = check(copy, fault.kernel)
    assert run.returncode != 0, "the fault was not found"
    assert fault.kernel in run.stdout + run.stderr
