"""What this installation will use: the first thing to put into a bug report."""

from __future__ import annotations

import platform

import torch

from tfcompat_dw import autograd, library


def show_config() -> None:
    """Prints versions, the kernels in use and the threads they run on."""
    import tfcompat_dw  # here, because the package imports this module

    rows = {
        "tfcompat_dw": tfcompat_dw.__version__,
        "python": platform.python_version(),
        "torch": f"{torch.__version__} (built for {library.OLDEST_TORCH} and newer)",
        "CPU kernels": f"{library.CPU_ISA}, {torch.get_num_threads()} threads",
        "CUDA kernels": f"for {library.CUDA_ARCHITECTURES}"
        if library.CUDA_ARCHITECTURES
        else "none in this build",
        "autograd": (
            "torch.autograd.Function on the Autograd key"
            if autograd.PRIVATE_NAMES_PRESENT
            else "torch.library.register_autograd (reverse mode only, no torch.func)"
        ),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
