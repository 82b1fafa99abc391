"""Run in a process of its own: reads all of a graph without TensorFlow, within limits.

``python graph_read.py MiB SECONDS path ...``: the process may take so much more memory than it has
after its imports, and so much of a processor's time for each file.  Prints a JSON object: for each
path what it has, or the error.
"""

from __future__ import annotations

import sys

sys.modules["tensorflow"] = None  # an import of it raises

import json  # noqa: E402
import signal  # noqa: E402

import torch  # noqa: E402
from tf_read import limit_memory  # noqa: E402

from tfcompat_dw.checkpoint import (  # noqa: E402
    CheckpointError,
    graph_def,
    open_checkpoint,
    saved_graphs,
    tfjs_graph,
    tflite,
)

assert graph_def
assert saved_graphs
assert tfjs_graph
assert tflite


def read(path):
    """All constants, all graphs with all of their constants; the error of any."""
    try:
        checkpoint = open_checkpoint(path)
        sizes = []
        for signature in checkpoint.signatures() or (None,):
            graph = checkpoint.graph(signature)
            if graph is not None:
                kept = [graph.constants[name] for name in graph.constants]
                sizes.append([len(graph.nodes), len(kept)])
        for name in checkpoint:
            checkpoint[name]
    except CheckpointError as error:
        return {"error": str(error), "path": error.path, "place": error.place}
    return {"nodes": sizes}


if __name__ == "__main__":
    torch.zeros(4).any()  # whatever is loaded late, now
    limit_memory(int(sys.argv[1]))
    found = {}
    for path in sys.argv[3:]:
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[2]))
        found[path] = read(path)
    print(json.dumps(found))
