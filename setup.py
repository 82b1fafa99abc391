"""Builds ``tfcompat_dw._C``: LibTorch stable ABI, limited Python API, one wheel for all.

Environment:
    TFCOMPAT_DW_CUDA       0, 1 or auto (default): CUDA kernels where nvcc is found
    TORCH_CUDA_ARCH_LIST   the GPUs to build for, as in PyTorch: "9.0", "8.0;9.0+PTX"
    CUDA_HOME              the CUDA toolkit, where nvcc is not in PATH
    MAX_JOBS               compiler processes
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from setuptools import setup

try:
    from torch.utils import cpp_extension
    from torch.utils.cpp_extension import BuildExtension, CppExtension
except ImportError as error:
    sys.exit(
        f"tfcompat_dw builds against an installed PyTorch >= 2.10, and its import failed: {error}\n"
        "Install it first (pip install torch), then: pip install --no-build-isolation ."
    )

ROOT = Path(__file__).resolve().parent
TORCH_TARGET = "0x020a000000000000"  # 2.10: the oldest torch whose stable ABI has what is used here


# Turing to Blackwell, and PTX that newer GPUs compile for themselves. Not Jetson Thor: CUDA 12 has
# another number for it (10.1) than CUDA 13 (11.0).
CUDA_ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX"
NVCC_FLAGS = ["-std=c++17", "-O3", "-Xcompiler", "-fvisibility=hidden"]


def cuda_home() -> Path | None:
    """The CUDA toolkit: chosen by its compiler, never by whether this machine has a GPU."""
    nvcc = shutil.which("nvcc")
    folders = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    if nvcc:
        folders.insert(2, str(Path(nvcc).resolve().parent.parent))
    for folder in folders:  # nvcc in PATH may be a script that lies elsewhere
        if folder and all(
            (Path(folder) / part).is_file() for part in ("bin/nvcc", "include/cuda_runtime.h")
        ):
            return Path(folder)
    return None


def cuda_toolkit() -> Path | None:
    """The toolkit to build CUDA kernels with; None: build none."""
    choice = os.environ.get("TFCOMPAT_DW_CUDA", "auto")
    if choice not in ("auto", "0", "1"):
        sys.exit(f"TFCOMPAT_DW_CUDA must be auto, 0 or 1, got {choice!r}")
    home = cuda_home() if choice != "0" else None
    if choice == "1" and home is None:
        sys.exit(
            "TFCOMPAT_DW_CUDA=1, but no nvcc is in CUDA_HOME/bin, PATH or /usr/local/cuda/bin; "
            "install the CUDA toolkit (12.8 or newer) or set CUDA_HOME"
        )
    return home


def relative(pattern: str) -> list[str]:
    """Files of the checkout, as setuptools wants them."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


def extension() -> CppExtension:
    """All files below csrc/, as one module. CUDA kernels need no PyTorch that is built for CUDA."""
    sources = relative("csrc/**/*.cpp")
    cxx = [
        "-std=c++17",
        "-O3",
        "-ffp-contract=fast",  # ISO mode turns fused multiply-add off
        "-fvisibility=hidden",
        "-Wall",
        "-g0",
        f"-DTORCH_TARGET_VERSION={TORCH_TARGET}",
    ]
    link: dict[str, Any] = {}
    toolkit = cuda_toolkit()
    if toolkit:
        architectures = os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
        cpp_extension.CUDA_HOME = str(toolkit)  # torch sets it only if it is itself built for CUDA
        sources += relative("csrc/cuda/*.cu")
        cxx.append(f'-DTFCOMPAT_DW_CUDA="{architectures}"')
        # libtorch holds libtorch_cuda, if there is one; static cudart: any CUDA's PyTorch will do
        libraries = [folder for folder in ("lib64", "lib") if (toolkit / folder).is_dir()]
        link = {
            "libraries": ["cudart_static", "dl", "rt", "pthread"],
            "library_dirs": [str(toolkit / folder) for folder in libraries],
            "extra_link_args": ["-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed"],
        }
    print(
        f"tfcompat_dw: {len(sources)} files, CUDA kernels: "
        + (f"for {architectures} with {toolkit}" if toolkit else "none")
    )
    return CppExtension(
        "tfcompat_dw._C",
        sources,
        depends=relative("csrc/**/*.h"),
        extra_compile_args={"cxx": cxx, "nvcc": NVCC_FLAGS},
        py_limited_api=True,
        **link,
    )


class Build(BuildExtension):
    """Keeps objects where the next build, editable or of a wheel, finds those that are current."""

    def initialize_options(self) -> None:
        """Sets the folder, which a command line may change."""
        super().initialize_options()
        self.build_temp = str(ROOT / "build" / "objects")


setup(
    ext_modules=[extension()],
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
