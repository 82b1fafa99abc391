"""Builds ``tfcompat_dw._C``: LibTorch stable ABI, limited Python API, one wheel for all.

Environment:
    TFCOMPAT_DW_CUDA       auto (default), 0 or 1: whether to build CUDA kernels
    MAX_JOBS               compiler processes
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import setup

try:
    from torch.utils.cpp_extension import BuildExtension, CppExtension
except ImportError as error:
    sys.exit(
        f"tfcompat_dw builds against an installed PyTorch >= 2.10, and its import failed: {error}\n"
        "Install it first (pip install torch), then: pip install --no-build-isolation ."
    )

ROOT = Path(__file__).resolve().parent
TORCH_TARGET = "0x020a000000000000"  # 2.10: the oldest torch whose stable ABI has what is used here


def cuda_wanted() -> bool:
    """CUDA kernels are chosen by toolchain. There are none yet: only an explicit 1 is refused."""
    choice = os.environ.get("TFCOMPAT_DW_CUDA", "auto")
    if choice not in ("auto", "0", "1"):
        sys.exit(f"TFCOMPAT_DW_CUDA must be auto, 0 or 1, got {choice!r}")
    if choice == "1":
        sys.exit("TFCOMPAT_DW_CUDA=1: this version has no CUDA kernels yet; use auto or 0")
    return False


def extension() -> CppExtension:
    """All C++ files below csrc/, as one module."""
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.cpp"))
    headers = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.h"))
    flags = [
        "-std=c++17",
        "-O3",
        "-ffp-contract=fast",  # ISO mode turns fused multiply-add off
        "-fvisibility=hidden",
        "-Wall",
        "-g0",
        f"-DTORCH_TARGET_VERSION={TORCH_TARGET}",
    ]
    print(f"tfcompat_dw: CPU kernels from {len(sources)} files, CUDA kernels: {cuda_wanted()}")
    return CppExtension(
        "tfcompat_dw._C",
        sources,
        depends=headers,
        extra_compile_args={"cxx": flags},
        py_limited_api=True,
    )


setup(
    ext_modules=[extension()],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
