"""Run in a process of its own: opens checkpoints without TensorFlow, within a limit of memory.

``python tf_read.py MiB path ...``: the process may take so much more than it has after its imports.
Prints a JSON object: for each path the tensors' digests by name, or the error.
"""

from __future__ import annotations

import sys

sys.modules["tensorflow"] = None  # an import of it raises

import hashlib  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from tfcompat_dw.checkpoint import (  # noqa: E402
    CheckpointError,
    bundle,
    open_checkpoint,
    saved_model,
    table_checkpoint,
)

assert bundle
assert saved_model
assert table_checkpoint


def tensor_bytes(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def digests(path):
    """By name; a tensor that is refused has its error there."""
    try:
        checkpoint = open_checkpoint(path)
    except CheckpointError as error:
        return f"CheckpointError: {error}"
    result = {}
    for name in checkpoint:
        try:
            result[name] = hashlib.sha256(tensor_bytes(checkpoint[name])).hexdigest()
        except CheckpointError as error:
            result[name] = f"CheckpointError: {error}"
    return result


def limit_memory(mebibytes):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    torch.zeros(4).any()  # whatever is loaded late, now
    limit_memory(int(sys.argv[1]))
    print(json.dumps({path: digests(path) for path in sys.argv[2:]}))
