"""Measures how exact this package and TensorFlow's two CPU back ends are; writes the page on it.

    python tools/accuracy.py [--output docs/accuracy.md]

Needs what `make test` installs.  On each layer below, in each dtype, all three run forward, input
gradient and filter gradient on the same inputs; what they return is compared with TensorFlow's
float64 result.  Takes less than a minute.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import tfcompat_dw
from tfcompat_dw.library import CPU_ISA

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "tensorflow"))

from client import TensorFlowError, TensorFlowProcess  # noqa: E402  # the tests' TensorFlow
from tolerance import UNIT_ROUNDOFF  # noqa: E402

SEED = 20
DTYPES = ("float32", "bfloat16", "float16", "float64")
PASSES = ("forward", "input gradient", "filter gradient")
OURS, EIGEN, ONEDNN, BEST = "tfcompat_dw", "TF, Eigen", "TF, oneDNN", "exact, rounded once"
CONTESTANTS = (OURS, EIGEN, ONEDNN, BEST)

Arrays = tuple[np.ndarray, ...]
Compute = Callable[["Layer", Arrays, str], Arrays]


@dataclass(frozen=True)
class Layer:
    """A depthwise layer with SAME padding."""

    network: str
    size: int
    channels: int
    kernel: int
    stride: int = 1
    multiplier: int = 1
    batch: int = 4

    @property
    def strides(self) -> list[int]:
        """The 4-vector that TensorFlow takes."""
        return [1, self.stride, self.stride, 1]

    def inputs(self) -> Arrays:
        """Input, filter and output gradient: standard normal numbers, the same in every run."""
        generator = np.random.default_rng([SEED, self.size, self.channels, self.kernel])
        output = math.ceil(self.size / self.stride)
        shapes = (
            (self.batch, self.size, self.size, self.channels),
            (self.kernel, self.kernel, self.channels, self.multiplier),
            (self.batch, output, output, self.channels * self.multiplier),
        )
        return tuple(generator.standard_normal(shape) for shape in shapes)


LAYERS = (
    Layer("MobileNet", 56, 128, 3),
    Layer("MobileNet, downsampling", 112, 64, 3, stride=2),
    Layer("EfficientNet", 28, 240, 5),
    Layer("ConvNeXt", 56, 96, 7),
    Layer("depth multiplier", 28, 64, 3, multiplier=2),
)


class Error(NamedTuple):
    """How far a result is from the true one; the worst of several layers."""

    relative: float
    """Largest absolute error, divided by the largest absolute value of the true result."""
    as_eigen: bool
    """Whether every bit is that of TensorFlow's Eigen kernel."""

    def worst(self, other: Error) -> Error:
        """Both, as one."""
        return Error(max(self.relative, other.relative), self.as_eigen and other.as_eigen)


Errors = dict[tuple[str, str, str], Error]
"""By dtype, pass and contestant."""


# --- Measuring -----------------------------------------------------------------------------------


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest values of a dtype."""
    result: np.ndarray = torch.from_numpy(values).to(getattr(torch, dtype)).double().numpy()
    return result


def compute_here(layer: Layer, inputs: Arrays, dtype: str) -> Arrays:
    """The three passes of this package."""
    x, f, g = (torch.from_numpy(values).to(getattr(torch, dtype)) for values in inputs)
    results = (
        tfcompat_dw.depthwise_conv2d(x, f, layer.strides, "SAME"),
        tfcompat_dw.depthwise_conv2d_backprop_input(x.shape, f, g, layer.strides, "SAME"),
        tfcompat_dw.depthwise_conv2d_backprop_filter(x, f.shape, g, layer.strides, "SAME"),
    )
    return tuple(result.double().numpy() for result in results)


def compute_in(process: TensorFlowProcess) -> Compute:
    """The three passes of TensorFlow, in a process of its own."""

    def compute(layer: Layer, inputs: Arrays, dtype: str) -> Arrays:
        x, f, g = inputs
        (results,) = process.ask(
            "depthwise_conv2d",
            examples=[(x, f, g.ravel())],
            dtype=dtype,
            gradients="functions",
            strides=layer.strides,
            padding="SAME",
            data_format="NHWC",
        )
        return tuple(results)

    return compute


def measure(eigen: Compute, onednn: Compute, done: Callable[[], None]) -> Errors:
    """Every error, the worst over the layers."""
    errors: Errors = {}
    for layer in LAYERS:
        exact = layer.inputs()
        for dtype in DTYPES:
            inputs = tuple(rounded(values, dtype) for values in exact)
            for key, error in compare(layer, inputs, dtype, eigen, onednn):
                errors[key] = error.worst(errors.get(key, error))
            done()
    return errors


def compare(
    layer: Layer, inputs: Arrays, dtype: str, eigen: Compute, onednn: Compute
) -> Iterator[tuple[tuple[str, str, str], Error]]:
    """The errors on one layer in one dtype."""
    true = eigen(layer, inputs, "float64")  # the only kernel that TensorFlow has for float64
    results = {
        OURS: compute_here(layer, inputs, dtype),
        EIGEN: true if dtype == "float64" else eigen(layer, inputs, dtype),
        ONEDNN: onednn(layer, inputs, dtype),
        BEST: tuple(rounded(values, dtype) for values in true),
    }
    for contestant, arrays in results.items():
        for number, name in enumerate(PASSES):
            error = np.abs(arrays[number] - true[number]).max() / np.abs(true[number]).max()
            same = np.array_equal(arrays[number], results[EIGEN][number])
            yield (dtype, name, contestant), Error(float(error), same)


# --- Writing -------------------------------------------------------------------------------------

PAGE = """\
# Accuracy

How far the results of this package, and of TensorFlow's two CPU back ends, are from the true
ones. `python tools/accuracy.py` measured every number here and wrote this page.

Each of the layers below runs forward, input gradient and filter gradient in each dtype, with
standard normal input, filter and output gradient (seed {seed}), rounded to the dtype first. The
true result is TensorFlow's own in float64, on the same rounded inputs.

A cell is the largest error of any element, divided by the largest absolute value of the true
result; in brackets the same in units of the dtype's unit roundoff u, the relative error of one
rounding. It is the worst of the layers. **exact, rounded once** is the true result rounded to the
dtype: nothing that is stored in this dtype can be closer.

{errors}

"= Eigen": for this dtype TensorFlow ran its Eigen kernel with oneDNN turned on, too; every bit is
the same. In float64 the Eigen result is the reference, so those rows are the distance between two
float64 results.

| unit roundoff u | {dtype_names} |
|---|{dtype_rules}|
| | {roundoffs} |

## Why they differ

**16 bits.** Each output is a sum: of the filter's taps forward, of taps and multiplier in the
input gradient, of all output pixels in the filter gradient. TensorFlow's Eigen kernels keep that
sum in the element type, so it is rounded to 8 (bfloat16) or 11 (float16) bits after every term.
Once a sum of thousands of terms has grown, a new term may be less than half of its last bit and is
lost. This package sums in float32 and rounds once, at the end, in all three passes: what remains
is that one rounding, as in the last column. oneDNN does the same where it takes the call: bfloat16,
on a processor with instructions for it.

float16 also has a small range: in the Eigen kernels a sum beyond 65504 is infinite even if later
terms bring it back; here only a result beyond it is.

**float32 and float64.** All sum in the type itself. They differ in the order of the terms and in
whether product and sum are rounded together (FMA), and none is right to the last bit. The longest
sums are those of the filter gradient, where the order matters most: this package sums groups of
rows first and then adds the groups.

The bounds that the test suite holds every element to follow from this arithmetic: see
`tests/tensorflow/tolerance.py`.

## What was measured

| layer (SAME padding) | input | kernel | stride | multiplier |
|---|---|---|---|---|
{layers}

{machine}
"""


def page(errors: Errors) -> str:
    """The Markdown page."""
    return PAGE.format(
        seed=SEED,
        errors=errors_table(errors),
        dtype_names=" | ".join(DTYPES),
        dtype_rules="|".join("---" for _ in DTYPES),
        roundoffs=" | ".join(
            f"2^{round(math.log2(UNIT_ROUNDOFF[dtype]))} = {UNIT_ROUNDOFF[dtype]:.1e}"
            for dtype in DTYPES
        ),
        layers="\n".join(map(layer_row, LAYERS)),
        machine="\n".join(machine()),
    )


def errors_table(errors: Errors) -> str:
    """One row for each dtype and pass."""
    rows = [
        f"| | {' | '.join(CONTESTANTS)} |",
        f"|---|{'---|' * len(CONTESTANTS)}",
    ]
    for dtype in DTYPES:
        for name in PASSES:
            cells = (cell(errors, dtype, name, contestant) for contestant in CONTESTANTS)
            rows.append(f"| {dtype}, {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def cell(errors: Errors, dtype: str, name: str, contestant: str) -> str:
    """An error in both units, or why there is none."""
    error = errors[dtype, name, contestant]
    if contestant == ONEDNN and error.as_eigen:
        return "= Eigen"
    if dtype == "float64" and contestant != OURS:
        return "reference"
    roundoffs = f"{error.relative / UNIT_ROUNDOFF[dtype]:#.2g}".rstrip(".")
    return f"{error.relative:.1e} ({roundoffs} u)"


def layer_row(layer: Layer) -> str:
    """What a layer is."""
    shape = f"{layer.batch} x {layer.size} x {layer.size} x {layer.channels}"
    return (
        f"| {layer.network} | {shape} | {layer.kernel} x {layer.kernel} "
        f"| {layer.stride} | {layer.multiplier} |"
    )


def machine() -> Iterator[str]:
    """What ran, and on what."""
    yield f"* tfcompat_dw {tfcompat_dw.__version__} ({CPU_ISA} kernels)"
    yield f"* PyTorch {torch.__version__}, TensorFlow {tensorflow_version()}"
    yield f"* Python {platform.python_version()}, NumPy {np.__version__}"
    name, extensions = processor()
    yield f"* Processor: {name}{' with ' + ', '.join(extensions) if extensions else ''}"


def tensorflow_version() -> str:
    """The installed TensorFlow's version, by whichever name it was installed."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "of unknown version"


def processor() -> tuple[str, list[str]]:
    """Its name, and the extensions that decide which kernels run."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    facts = dict(line.replace("\t", "").split(":", 1) for line in reversed(lines) if ":" in line)
    wanted = ("fma", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
    present = facts.get("flags", "").split()
    name = facts.get("model name", platform.machine()).strip()
    return name, [extension for extension in wanted if extension in present]


# --- The command ---------------------------------------------------------------------------------


def main() -> int:
    """Measure, write, and say where."""
    parser = argparse.ArgumentParser(
        description="Measure the accuracy of this package and of TensorFlow, and write the page."
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "accuracy.md")
    output: Path = parser.parse_args().output
    if not output.parent.is_dir():
        parser.error(f"--output: there is no folder {output.parent}")

    console = Console(stderr=True)
    eigen, onednn = TensorFlowProcess(onednn=False), TensorFlowProcess(onednn=True)
    columns = (
        TextColumn("Measuring, each layer in each dtype"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=len(LAYERS) * len(DTYPES))
            errors = measure(compute_in(eigen), compute_in(onednn), lambda: progress.advance(task))
    except TensorFlowError as error:
        console.print(f"accuracy: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    finally:
        eigen.close()
        onednn.close()
    output.write_text(page(errors), encoding="utf-8")
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
