"""Compiles the benchmark's C++ helpers on demand, into ``build/bench/``."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "build" / "bench"


class BuildError(RuntimeError):
    """There is no compiler, or it refused."""


def rates_program() -> Path:
    """What measures the machine, compiled for it."""
    native = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    flags = ("-std=c++17", "-O3", native, "-pthread")
    return _linked(FOLDER / "rates", [HERE / "rates.cpp"], flags, headers=[])


def kernels_library() -> Path:
    """The package's CPU kernels without PyTorch, from the sources and flags of its own build."""
    sources = [HERE / "kernels.cpp", *sorted((ROOT / "csrc" / "cpu").glob("*.cpp"))]
    headers = [*(ROOT / "csrc").glob("*.h"), *(ROOT / "csrc" / "cpu").glob("*.h")]
    flags = (
        "-std=c++17",
        "-O3",
        "-ffp-contract=fast",
        "-fvisibility=hidden",
        "-fPIC",
        "-fopenmp",
        "-shared",
        f"-I{ROOT}",
    )
    return _linked(FOLDER / "kernels.so", sources, flags, headers)


def _linked(
    target: Path, sources: Sequence[Path], flags: Sequence[str], headers: Sequence[Path]
) -> Path:
    """The target, made again if it is older than a source or header."""
    newest = max(path.stat().st_mtime for path in (*sources, *headers, HERE / "build.py"))
    if target.exists() and target.stat().st_mtime > newest:
        return target
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise BuildError(f"{compiler} is not there (Debian: apt-get install g++)")
    FOLDER.mkdir(parents=True, exist_ok=True)
    mine = f"{os.getpid()}"  # two runs at once do not write the same files
    objects = [FOLDER / f"{target.stem}-{source.stem}-{mine}.o" for source in sources]
    compiled = target.with_suffix(f".{mine}")
    options = [flag for flag in flags if flag != "-shared"]
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            commands = [
                [compiler, *options, "-c", str(source), "-o", str(made)]
                for source, made in zip(sources, objects, strict=True)
            ]
            list(pool.map(_run, commands))
        _run([compiler, *flags, *map(str, objects), "-o", str(compiled)])
        compiled.replace(target)
    finally:
        for made in (*objects, compiled):
            made.unlink(missing_ok=True)
    return target


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
