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
        "filter_any_planes<float>",
    ),
    "sources are read before all have come": Fault(
        "cuda/gather_planes.h",
        "copy_in();\n  __syncthreads();\n  const bool forward = p.rows.forward;\n  const StripAxis",
        "copy_in();\n  const bool forward = p.rows.forward;\n  const StripAxis",
        "gather_planes<float, 3, 1>",
    ),
    "results leave before all are made": Fault(
        "cuda/gather_planes.h",
        "count, put);\n        }\n      });\n  __syncthreads();\n",
        "count, put);\n        }\n      });\n",
        "gather_planes<float, 3, 2>",
    ),
    "a tile is read before all of it has come": Fault(
        "cuda/gather_tiles.h",
        "      __syncthreads();\n      if (skips) {",
        "      if (skips) {",
        "gather_tiles<float, 16, 1>",
    ),
    "the next filter rows come before the last are read": Fault(
        "cuda/gather_tiles.h",
        "      __syncthreads();  // the sources are read: the next may come, or the results\n",
        "",
        "gather_tiles<float, 16, 1>",
    ),
    "results of copies are added before all are made": Fault(
        "cuda/gather_tiles.h",
        "  __syncthreads();\n  if (p.channels_last) {\n    store_made",
        "  if (p.channels_last) {\n    store_made",
        "gather_tiles<float, 16, 1>",
    ),
    "gradients are read before all have come": Fault(
        "cuda/filter_planes.h",
        "    own.copy_in();\n    __syncthreads();\n",
        "    own.copy_in();\n",
        "filter_planes<float, 3, 2>",
    ),
    "the next unit comes before the last one is read": Fault(
        "cuda/filter_planes.h",
        "    __syncthreads();  // the slabs are read: the next unit may come in\n",
        "",
        "filter_planes<float, 5, 2>",
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
        "gather_planes<float, 3, 1>",
    ),
    "a strip's last row is taken for padding": Fault(
        "cuda/strip.h",
        "seen.end = needed < rows.size ? needed : rows.size;",
        "seen.end = needed < rows.size ? needed : rows.size - 1;",
        "gather_strips<float, 2, 5, 1>",
    ),
    "a strip needs a row less than it takes": Fault(
        "cuda/gather_strips.h",
        "      (count - 1) * S + K);",
        "      (count - 1) * S + K - 1);",
        "gather_strips<float, 1, 7, 1>",
    ),
    "a strip's first column is taken for padding": Fault(
        "cuda/strip.h",
        "return place >= 0 && place < size;",
        "return place >= 1 && place < size;",
        "gather_strips<float, 1, 3, 2>",
    ),
    "a result row is put before its last source row": Fault(
        "cuda/strip.h",
        "put((number - (K - 1)) / S,",
        "put((number - (K - 2)) / S,",
        "gather_strips<float, 4, 3, 1>",
    ),
    "the second row of a round is taken for the first": Fault(
        "cuda/strip.h",
        "rows.exists(first + (number + half) * rows.pitch)",
        "rows.exists(first + number * rows.pitch)",
        "gather_strips<float, 4, 3, 1>",
    ),
    "the second launch begins where the first one did": Fault(
        "cuda/kernels.h",
        "GatherArrays<T>{a.sources + first * source_image,",
        "GatherArrays<T>{a.sources + 0 * source_image,",
        "gather_strips<float, 1, 5, 1>",
    ),
    "columns outside the image come into a tile": Fault(
        "cuda/gather_tiles.h",
        "if (rows.has(at.row) && cols.has(at.col) && plane < planes) {",
        "if (rows.has(at.row) && plane < planes) {",
        "gather_tiles<float, 16, 1>",
    ),
    "a tile begins at its own plane instead of its block's": Fault(
        "cuda/gather_tiles.h",
        "const int plane = block.source_plane + at.vector * V;",
        "const int plane = block.plane + at.vector * V;",
        "gather_tiles<float, 16, 2>",
    ),
    "the last copy of a result is lost": Fault(
        "cuda/gather_tiles.h",
        "for (int copy = 1; copy < copies; ++copy)",
        "for (int copy = 1; copy + 1 < copies; ++copy)",
        "gather_tiles<float, 16, 1>",
    ),
    "taps after the last column have weights": Fault(
        "cuda/gather_tiles.h",
        "if (!present || kh >= rows || kw >= cols) return 0;",
        "if (!present || kh >= rows) return 0;",
        "gather_tiles<float, 4, 2>",
    ),
    "a walk sees a row after the last": Fault(
        "cuda/filter_walk.h",
        "(phase + 1 < S || i + 1 < steps) && w.row >= 0 && w.row < w.height;",
        "(phase + 1 < S || i + 1 < steps) && w.row >= 0 && w.row <= w.height;",
        "filter_channels<float, 1, 5, 5, 2>",
    ),
    "a walk meets a gradient row that is another's": Fault(
        "cuda/filter_walk.h",
        "if (i < w.count && w.made[j])",
        "if (i <= w.count && w.made[j])",
        "filter_channels<float, 1, 7, 7, 1>",
    ),
    "what met padding is not summed again": Fault(
        "cuda/filter_channels.h",
        "if (!finite(sums)) add_walks(std::true_type());",
        "",
        "filter_channels<float, 4, 3, 3, 2>",
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
        "gather_tiles<float, 16, 1>",
    ),
    "pairs of rows begin a source too late": Fault(
        "cuda/gather_parities.h",
        "{g.rows.source(row_pair) - K / 2, 1,",
        "{g.rows.source(row_pair) - K / 2 + 1, 1,",
        "gather_parities<float, 1, 3>",
    ),
    "the column before the image counts as a result": Fault(
        "cuda/gather_parities.h",
        "const bool made[2] = {g.cols.has(col),",
        "const bool made[2] = {true,",
        "gather_parities<float, 1, 5>",
    ),
    "pairs multiply what lies after the image": Fault(
        "cuda/gather_parities.h",
        "- K / 2, 1, g.cols.sources}",
        "- K / 2, 1, g.cols.sources + 1}",
        "gather_parities<float, 4, 3>",
    ),
    "pairs multiply padding with a filter that is not finite": Fault(
        "cuda/gather_parities.h",
        "!(Finite || (exists && rows.inside[c]))) continue;",
        "!(Finite || exists || rows.inside[c])) continue;",
        "gather_parities<float, 4, 3>",
    ),
    "groups of taps overlap": Fault(
        "cuda/filter_walk.h",
        "return {static_cast<int>(group) * KR, col * KC};",
        "return {static_cast<int>(group) * KR, col * (KC - 1)};",
        "filter_channels<float, 1, 5, 5, 1>",
    ),
    "a walk's rows do not begin at its group's taps": Fault(
        "cuda/filter_planes.h",
        "- rows.before + tap.row * rows.pitch -",
        "- rows.before -",
        "filter_planes<float, 7, 1>",
    ),
    "taps after the last row are stored": Fault(
        "cuda/filter_channels.h",
        "const bool exists = row < f.kernel_rows && col < f.kernel_cols;",
        "const bool exists = col < f.kernel_cols;",
        "filter_channels<float, 1, 5, 5, 2>",
    ),
    "padding is multiplied with a filter that is not finite": Fault(
        "cuda/strip.h",
        "  return zeros == 0;\n}",
        "  return true;\n}",
        "gather_strips<float, 4, 3, 1>",
    ),
    "a tile multiplies padding with a filter that is not finite": Fault(
        "cuda/gather_tiles.h",
        "if (skips || all_threads(zeros == 0)) break;",
        "if (skips || all_threads(true)) break;",
        "gather_tiles<float, 4, 1>",
    ),
    "a gradient counts twice in the bias": Fault(
        "cuda/backward_walk.h",
        "if (a == K / 2 && made)",
        "if (a > 0 && made)",
        "backward_channels<float, 2, 3>",
    ),
    "the sums of the turned filter are not turned back": Fault(
        "cuda/backward_channels.h",
        "int64_t{K * K - 1 - (a * K + k)}",
        "int64_t{a * K + k}",
        "backward_channels<float, 1, 3>",
    ),
    "input gradients leave before all are made": Fault(
        "cuda/backward_planes.h",
        "          __syncthreads();\n          inputs.copy_out",
        "          inputs.copy_out",
        "backward_planes<float, 3>",
    ),
    "every band of input gradients begins with its first row of gradients": Fault(
        "cuda/backward_planes.h",
        "static_cast<int>(band.begin - from.begin) + at.row - f.rows.before",
        "at.row - f.rows.before",
        "backward_planes<float, 5>",
    ),
    "the sums of a turned filter of planes are not turned back": Fault(
        "cuda/backward_planes.h",
        "(K * K - 1 - k) * channels",
        "k * channels",
        "backward_planes<float, 3>",
    ),
    "a block whose sums are not finite in some threads goes two ways": Fault(
        "cuda/backward_planes.h",
        "!all_threads(finite(sums))",
        "!finite(sums)",
        "backward_planes<float, 5>",
    ),
    "each thread goes its own way where its filter is not finite": Fault(
        "cuda/backward_planes.h",
        "const bool finite_filter = all_threads(",
        "const bool finite_filter = (",
        "backward_planes<float, 3>",
    ),
    "strips of the input are two columns wide, and one is walked": Fault(
        "cuda/kernels.h",
        "p.batch, p.channels, 1, kBackwardPlaneCols, 1,",
        "p.batch, p.channels, 1, 2, 1,",
        "backward_planes<float, 3>",
    ),
    "gradients at the border are in no window's middle": Fault(
        "cuda/kernels.h",
        "return axis.pad <= middle &&",
        "return axis.pad <= middle ||",
        "backward_channels<float, 1, 3>",
    ),
    "a row far before the image is counted in 32 bits": Fault(
        "cuda/filter_planes.h",
        "int64_t{view.row} * cols.sources + seen_cols.first;",
        "view.row * cols.sources + seen_cols.first;",
        "filter_planes<float, 3, 1>",
    ),
    "columns of taps are counted in 32 bits however far apart they are": Fault(
        "cuda/kernels.h",
        " && places(p.cols) * lanes <= UINT32_MAX;",
        ";",
        "filter_channels<float, 4, 3, 3, 1>",
    ),
    # memory
    "shared memory for a vector too few": Fault(
        "cuda/plan.h",
        "piece = slab_size<T>(plan.whole ? planes * elements : elements);",
        "piece = slab_size<T>(plan.whole ? planes * elements : elements) - 4;",
        "gather_planes<float, 5, 1>",
    ),
    "shared memory for one band of several": Fault(
        "cuda/plan.h",
        "return plan.whole ? piece : planes * piece;",
        "return piece;",
        "gather_planes<float, 3, 1>",
    ),
    "all bands of a block begin at one alignment": Fault(
        "cuda/slab.h",
        "p * piece_size_ + lead_of(first_ + p * plane_size_);",
        "p * piece_size_ + lead_of(first_);",
        "gather_planes<float, 3, 1>",
    ),
    "a row of the band before is stored": Fault(
        "cuda/gather_planes.h",
        "if (y < 0 || y >= block.tall()",
        "if (y >= block.tall()",
        "gather_plane_parities<float, 3>",
    ),
    "some threads of a block sum again": Fault(
        "cuda/filter_planes.h",
        "if (!all_threads(finite(sums)))",
        "if (!finite(sums))",
        "filter_planes<float, 3, 2>",
    ),
    "planes begin where the first channel's do": Fault(
        "cuda/gather_planes.h",
        "(block.first_channel + at.plane) % channels",
        "at.plane % channels",
        "gather_planes<float, 7, 1>",
    ),
    "a flat piece is moved without its last elements": Fault(
        "cuda/slab.h",
        "  for (int i = tail + t; i < end; i += threads) to[i] = from[i];\n",
        "",
        "gather_planes<float, 3, 1>",
    ),
    "some threads of a block fill a tile again": Fault(
        "cuda/gather_tiles.h",
        "if (skips || all_threads(zeros == 0)) break;",
        "if (skips || zeros == 0) break;",
        "gather_tiles<float, 16, 2>",
    ),
    "shared memory for a row of a tile too few": Fault(
        "cuda/tile_plan.h",
        "(height + span) * row_bytes};",
        "(height + span - 1) * row_bytes};",
        "gather_tiles<float, 16, 1>",
    ),
    "a tile loads vectors at any address": Fault(
        "cuda/kernels.h",
        "aligned(a.sources, kChannels<T> * sizeof(T))",
        "true",
        "gather_tiles<float, 4, 1>",
        "address,alignment",
    ),
    "the last row of a tile is not stored": Fault(
        "cuda/gather_tiles.h",
        "if (!results.has(row + i, col + j)) return;",
        "if (!results.has(row + i + 1, col + j)) return;",
        "gather_tiles<float, 16, 2>",
    ),
    "a strip stores vectors at any address": Fault(
        "cuda/kernels.h",
        "aligned(a.filter, bytes) && aligned(a.destinations, bytes);",
        "aligned(a.filter, bytes);",
        "gather_strips<float, 4, 3, 2>",
        "address,alignment",
    ),
    "an odd number counts as one of pairs of channels": Fault(
        "cuda/kernels.h",
        "p.channels % several == 0 ? several : 1;",
        "p.channels >= several ? several : 1;",
        "gather_strips<float, 2, 5, 2>",
        "address,alignment",
    ),
    "a divisor's multiplier is one too small": Fault(
        "cuda/plan.h",
        "(above << 32) / value_ + 1)",
        "(above << 32) / value_)",
        "gather_strips<float, 4, 3, 1>",
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


def check(copy: Path, kernel: str, rounds: int) -> subprocess.CompletedProcess[str]:
    """Some problems that start a kernel, or as many as are right."""
    command = [copy / "build" / "check_cuda", "1", str(rounds), kernel]
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
    run = check(copy_of_sources, kernel, 24)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{kernel}: 24\n" in run.stdout


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found(fault: Fault, copy_of_sources: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(copy_of_sources, copy)
    header = copy / "csrc" / fault.header
    text = header.read_text()
    assert text.count(fault.right) == 1, f"{fault.header} has changed: the fault needs a new place"
    header.write_text(text.replace(fault.right, fault.wrong))
    build(copy, "launch", "check_cuda", sanitize=fault.sanitize)
    run = check(copy, fault.kernel, 48)  # what shows in one of ten is found in 99 of 100 runs
    assert run.returncode != 0, "the fault was not found"
    name = fault.kernel.partition("<")[0]  # its vectors may be too long for the problem
    assert f"{name}<float" in run.stdout + run.stderr
