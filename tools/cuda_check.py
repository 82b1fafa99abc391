"""Compiles the CUDA kernels for every GPU architecture and checks what the compiler made of them.

    python tools/cuda_check.py [--accept] [--architectures 9.0]     or: make cuda-check

Needs nvcc and g++; neither a GPU nor PyTorch nor any other package.  An error is:

- a kernel that spills registers on sm_80 or sm_90, or that needs other registers, spills or shared
  memory than tests/cuda/registers.txt says (--accept writes that table anew);
- arithmetic in float64 in a kernel of another dtype, an atomic operation in any;
- a channels-last kernel that moves its channels by less than one vector at a time.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "cuda" / "registers.txt"
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
NEVER_SPILLS = ("sm_80", "sm_90")
ACCEPT = "make cuda-check ACCEPT=1"


# ---- compiling -----------------------------------------------------------------------------------


def setup_constant(name: str) -> Any:
    """A constant of setup.py, which cannot be imported where PyTorch is missing."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise LookupError(f"setup.py has no {name}")


def find_nvcc() -> str | None:
    """The compiler: of CUDA_HOME, in PATH, or where CUDA's installer puts it."""
    home = os.environ.get("CUDA_HOME")
    folders = [f"{home}/bin"] if home else []
    folders += [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    return shutil.which("nvcc", path=os.pathsep.join(folders))


def nvcc_version(nvcc: str) -> str:
    """Such as 13.0.88."""
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return text.split(", V")[-1].split()[0]


def targets(architectures: str) -> list[str]:
    """Options of nvcc for architectures in PyTorch's spelling: "8.0;9.0+PTX"."""
    options = []
    for item in architectures.split(";"):
        number = item.removesuffix("+PTX").replace(".", "")
        options.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if item.endswith("+PTX"):
            options.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return options


class Compiled(NamedTuple):
    """What nvcc says of a file: per kernel and architecture, and the PTX of each architecture."""

    log: str
    ptx: dict[str, str]


def compile_file(nvcc: str, source: Path, architectures: str) -> Compiled:
    """Compiles as setup.py does."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        flags = [*setup_constant("NVCC_FLAGS"), "-Werror=all-warnings", "--resource-usage"]
        outputs = ["--keep", f"--keep-dir={folder}", "-o", f"{folder}/out.o"]
        command = [nvcc, *flags, *targets(architectures), *outputs, "-c", str(source)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"{source.name} does not compile:\n{run.stdout}{run.stderr}")
        ptx = {path.stem: path.read_text() for path in sorted(Path(folder).glob("*.ptx"))}
    print(f"{source.name}: compiled in {time.monotonic() - start:.0f} s", flush=True)
    return Compiled(run.stdout + run.stderr, ptx)


def ptx_of(nvcc: str, source: Path, architecture: str) -> str:
    """The PTX alone, in a third of the time."""
    flags = [*setup_constant("NVCC_FLAGS"), f"-arch=compute_{architecture}", "--ptx", "-o", "-"]
    run = subprocess.run([nvcc, *flags, str(source)], capture_output=True, text=True, check=True)
    return run.stdout


def readable(names: Iterable[str]) -> dict[str, str]:
    """Kernels by their mangled names: gather_strips<float, 4, 3, 1> and the like."""
    mangled = sorted(set(names))
    run = subprocess.run(
        ["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True
    )
    plain = [
        line.split("(")[0].removeprefix("void ").replace("tfcompat_dw::cuda::", "")
        for line in run.stdout.splitlines()
    ]
    return dict(zip(mangled, plain, strict=True))


# ---- registers -----------------------------------------------------------------------------------


class Usage(NamedTuple):
    """What a kernel takes on one architecture."""

    registers: int  # of a thread
    spilled: int  # bytes of a thread's local memory: registers that there were not
    shared: int  # bytes of a block, beside what the launch asks for

    def __str__(self) -> str:
        return "/".join(map(str, self))


def number_of(architecture: str) -> int:
    """To sort by: sm_75 before sm_100."""
    return int(architecture.removeprefix("sm_"))


Usages = dict[str, dict[str, Usage]]  # by kernel, then by architecture


def parse_ptxas(log: str) -> Usages:
    """What ptxas reports."""
    entries = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame"
        r".*?Used (\d+) registers([^\n]*)",
        log,
        re.DOTALL,
    )
    names = readable(entry[0] for entry in entries)
    usages: Usages = {}
    for name, architecture, stack, registers, rest in entries:
        shared = sum(map(int, re.findall(r"(\d+) bytes smem", rest)))
        usage = Usage(int(registers), int(stack), shared)
        usages.setdefault(names[name], {})[architecture] = usage
    return usages


@dataclass(frozen=True)
class Table:
    """The committed numbers, which hold for one version of the compiler."""

    nvcc: str
    usages: Usages

    def architectures(self) -> set[str]:
        """All that any kernel was compiled for."""
        return {sm for row in self.usages.values() for sm in row}

    def text(self) -> str:
        """A line for every kernel, a column for every architecture."""
        kernels = sorted(self.usages)
        columns = sorted(self.architectures(), key=number_of)
        width = max(map(len, kernels))
        lines = [
            f"# Written by: {ACCEPT}",
            "# Registers of a thread / bytes it spills / bytes of shared memory fixed in a block.",
            f"nvcc {self.nvcc}".ljust(width) + "".join(f"  {sm:9}" for sm in columns),
        ]
        for kernel in kernels:
            cells = "".join(f"  {self.usages[kernel].get(sm, '-')!s:9}" for sm in columns)
            lines.append(kernel.ljust(width) + cells)
        return "".join(line.rstrip() + "\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Table:
        """From text()."""
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        (nvcc, *columns), *rows = (re.split(r"  +", line) for line in lines)
        usages = {
            kernel: {
                sm: Usage(*map(int, cell.split("/")))
                for sm, cell in zip(columns, cells, strict=True)
                if cell != "-"
            }
            for kernel, *cells in rows
        }
        return cls(nvcc.removeprefix("nvcc "), usages)


def spills(usages: Usages) -> Iterator[str]:
    """Kernels that spill where none may."""
    for kernel, row in sorted(usages.items()):
        for sm in NEVER_SPILLS:
            if sm in row and row[sm].spilled:
                yield f"{kernel} spills {row[sm].spilled} bytes on {sm}"


def differences(committed: Usages, found: Usages, architectures: Iterable[str]) -> Iterator[str]:
    """Where what was compiled is not what the table says."""
    wanted = sorted(architectures, key=number_of)
    for kernel in sorted(committed.keys() | found.keys()):
        for sm in wanted:
            before = committed.get(kernel, {}).get(sm)
            now = found.get(kernel, {}).get(sm)
            if before != now:
                yield f"{kernel} on {sm}: {before or 'not'} in the table, now {now or 'gone'}"


# ---- PTX -----------------------------------------------------------------------------------------

Opcodes = Counter[str]

ITEM_BYTES = {"double": 8, "float": 4, "BFloat16": 2, "Float16": 2}


class Kernel(NamedTuple):
    """A kernel's name, taken apart."""

    name: str
    dtype: str
    numbers: list[int]

    @classmethod
    def parse(cls, kernel: str) -> Kernel:
        """From name<dtype, numbers>; type arguments behind the dtype are left out."""
        name, _, arguments = kernel.removesuffix(">").partition("<")
        dtype, *rest = arguments.split(", ")
        return cls(name, dtype, [int(number) for number in rest if number.isdigit()])


def opcodes(ptx: str) -> dict[str, Opcodes]:
    """The instructions of each kernel, counted."""
    parts = re.split(r"\.entry (\w+)\(", ptx)
    names = readable(parts[1::2])
    instruction = re.compile(r"^[\s{]*(?:@!?%p\d+\s+)?([a-z]\w*(?:[.:]+\w+)*)\s", re.MULTILINE)
    return {
        names[name]: Counter(instruction.findall(body))
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def moves(counts: Opcodes, instruction: str) -> Counter[int]:
    """How many loads (ld) or stores (st) of global memory move how many bytes."""
    sizes: Counter[int] = Counter()
    for opcode, count in counts.items():
        if opcode.startswith(f"{instruction}.global."):
            lanes = re.search(r"\.v(\d)\.", opcode)
            bits = int(re.findall(r"\d+$", opcode)[0])
            sizes[bits // 8 * int(lanes[1] if lanes else 1)] += count
    return sizes


def loads_of_a_row(kernel: Kernel) -> int:
    """How many vectors of one row of sources a thread of a gathering kernel sees at the least."""
    _, taps, *stride = kernel.numbers
    if kernel.name == "gather_parities":
        return taps // 2 + 1
    return taps + stride[0]  # two columns of results


def plane_faults(kernel: Kernel, loads: Counter[int], stores: Counter[int]) -> Iterator[str]:
    """Kernels that move pieces of planes, and none of their vectors at once."""
    if not loads[16]:
        yield f"loads {sorted(loads)} bytes at a time, never 16"
    if not kernel.name.startswith("filter") and not stores[16]:
        yield f"stores {sorted(stores)} bytes at a time, never 16"


def vector_faults(kernel: Kernel, counts: Opcodes) -> Iterator[str]:
    """Kernels with vectors of channels, or of planes, that do not move them at once."""
    gathering = ("gather_strips", "gather_parities")
    summing = ("filter_channels", "backward_channels")
    loads, stores = moves(counts, "ld"), moves(counts, "st")
    if "plane" in kernel.name:
        yield from plane_faults(kernel, loads, stores)
        return
    if kernel.name == "gather_tiles":
        wide = min(16, 4 * ITEM_BYTES[kernel.dtype])
        if loads[wide] < 4:  # on their way at once
            yield f"has {loads[wide]} loads of {wide} bytes"
        return
    if kernel.name not in (*gathering, *summing) or kernel.numbers[0] == 1:
        return
    wide = kernel.numbers[0] * ITEM_BYTES[kernel.dtype]
    if kernel.name in gathering:
        if loads[wide] < loads_of_a_row(kernel):  # a bias comes one by one
            yield f"has {loads[wide]} loads of {wide} bytes"
        if set(stores) != {wide}:
            yield f"stores {sorted(stores)} bytes at a time instead of {wide}"
    elif set(loads) != {wide}:
        yield f"loads {sorted(loads)} bytes at a time instead of {wide}"


def ptx_faults(ptx: str) -> Iterator[str]:
    """Kernels that break a rule, whatever the GPU."""
    for name, counts in sorted(opcodes(ptx).items()):
        kernel = Kernel.parse(name)
        for opcode in sorted(counts):
            parts = opcode.split(".")
            if parts[0] in ("atom", "red"):
                yield f"{name} has an atomic operation: {opcode}"
            if "f64" in parts and kernel.dtype != "double":
                yield f"{name} has arithmetic in float64: {opcode}"
        yield from (f"{name} {fault}" for fault in vector_faults(kernel, counts))


# ---- the command ---------------------------------------------------------------------------------


def compile_all(nvcc: str, architectures: str) -> list[Compiled]:
    """All files, on as many cores as MAX_JOBS allows."""
    jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda source: compile_file(nvcc, source, architectures), SOURCES))


def compared(committed: Table, found: Table, every_architecture: bool) -> list[str]:
    """The differences from the committed table; none where another compiler made it."""
    if committed.nvcc != found.nvcc:
        print(
            f"{TABLE.name} was made with nvcc {committed.nvcc}, this is {found.nvcc}: "
            "registers are not compared"
        )
        return []
    architectures = found.architectures()
    if every_architecture:
        architectures |= committed.architectures()
    unlike = list(differences(committed.usages, found.usages, architectures))
    return [*unlike, f"If that is meant: {ACCEPT}, and commit {TABLE.name}"] if unlike else []


def check(nvcc: str, accept: bool, chosen: str | None) -> list[str]:
    """Compiles, compares or accepts; what is wrong."""
    files = compile_all(nvcc, chosen or setup_constant("CUDA_ARCHITECTURES"))
    found = Table(nvcc_version(nvcc), parse_ptxas("".join(file.log for file in files)))
    faults = list(spills(found.usages))
    for file in files:
        for stem, ptx in file.ptx.items():
            faults += [f"{stem}: {fault}" for fault in ptx_faults(ptx)]
    if accept:
        TABLE.write_text(found.text())
        print(f"{TABLE.name}: written")
    else:
        faults += compared(Table.parse(TABLE.read_text()), found, not chosen)
    if not faults:
        built = ", ".join(sorted(found.architectures(), key=number_of))
        print(f"{len(found.usages)} kernels for {built}: right")
    return faults


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accept", action="store_true", help="write the table of registers anew")
    parser.add_argument(
        "--architectures", metavar="LIST", help='only these: "8.0;9.0" (default: as setup.py)'
    )
    options = parser.parse_args()
    if options.accept and options.architectures:
        parser.error("--accept needs all architectures: leave --architectures out")
    nvcc = find_nvcc()
    if nvcc is None:
        sys.exit("nvcc is neither in CUDA_HOME/bin nor in PATH: install the CUDA toolkit")
    faults = check(nvcc, options.accept, options.architectures)
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
