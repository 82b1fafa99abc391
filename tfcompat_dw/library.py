"""Loads the compiled library, which defines ``torch.ops.tfcompat_dw``, or says what to do."""

from __future__ import annotations

import torch
from torch.torch_version import TorchVersion

OLDEST_TORCH = "2.10"


def _load() -> tuple[str, str | None]:
    if TorchVersion(torch.__version__) < OLDEST_TORCH:
        raise ImportError(
            f"tfcompat_dw needs torch >= {OLDEST_TORCH}, found {torch.__version__}; "
            "upgrade with: pip install --upgrade torch"
        )
    try:
        from tfcompat_dw import _C
    except ImportError as error:
        raise ImportError(
            f"the compiled part of tfcompat_dw cannot be loaded ({error}); "
            "build it from a source checkout with: pip install --no-build-isolation -e ."
        ) from error
    return _C.cpu_isa(), _C.cuda_architectures()


CPU_ISA, CUDA_ARCHITECTURES = _load()
"""Instruction set of the CPU kernels; ``TFCOMPAT_DW_ISA`` overrides the choice. The GPUs that
``CUDA_ARCHITECTURES`` lists have kernels; None: this build has no CUDA kernels."""
