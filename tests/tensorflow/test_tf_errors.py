"""What TensorFlow refuses is refused here, with a ValueError or TypeError that names the argument.

TensorFlow refuses a call if its own kernels do so eagerly, or if it cannot be traced into a graph;
its oneDNN kernels check less and are no measure. `bad_calls.py` lists the calls, and the exceptions
in both directions with their reasons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bad_calls import ACCEPTED, GOOD, REFUSED, REFUSED_HERE_ONLY, Call
from client import TensorFlowProcess

import tfcompat_dw


def run_ours(call: Call) -> torch.Tensor:
    given = {name: as_given(name, value) for name, value in call.arguments.items()}
    if "layer" not in given:
        return getattr(tfcompat_dw, call.function)(**given)
    axis = 1 if given["layer"].get("data_format") == "channels_first" else -1
    in_channels = given["built_for"][axis]
    return getattr(tfcompat_dw, call.function)(in_channels, **given["layer"])(given["input"])


def as_given(name: str, value: Any) -> Any:
    is_tensor = isinstance(value, np.ndarray) and name != "padding"
    return torch.from_numpy(value) if is_tensor else value


def outcome(call: Call, tensorflow: TensorFlowProcess, graph: bool = False) -> str:
    arguments = {"function": call.function, "arguments": call.arguments, "graph": graph}
    return tensorflow.ask("outcome", **arguments)


def is_refused(call: Call, tensorflow: TensorFlowProcess) -> bool:
    """Eagerly or else in a graph (where a stride of 0 would end the process with SIGFPE)."""
    return any(outcome(call, tensorflow, graph) != "returned" for graph in (False, True))


@pytest.mark.parametrize("call", REFUSED, ids=str)
def test_what_tensorflow_refuses_is_refused_by_name(
    call: Call, tf_eigen: TensorFlowProcess
) -> None:
    assert is_refused(call, tf_eigen)
    with pytest.raises((ValueError, TypeError), match=call.names):
        run_ours(call)


@pytest.mark.parametrize("call", ACCEPTED, ids=str)
def test_what_tensorflow_refuses_is_accepted_on_purpose(
    call: Call, tf_eigen: TensorFlowProcess
) -> None:
    assert outcome(call, tf_eigen) != "returned"
    assert call.reason
    assert isinstance(run_ours(call), torch.Tensor)


@pytest.mark.parametrize("call", REFUSED_HERE_ONLY, ids=str)
def test_what_tensorflow_accepts_is_refused_on_purpose(
    call: Call, tf_eigen: TensorFlowProcess
) -> None:
    assert outcome(call, tf_eigen) == "returned"
    assert call.reason
    with pytest.raises((ValueError, TypeError), match=call.names):
        run_ours(call)


@pytest.mark.parametrize("call", GOOD, ids=str)
def test_the_calls_that_the_table_spoils_are_good(call: Call, tf_eigen: TensorFlowProcess) -> None:
    assert not is_refused(call, tf_eigen)
    assert isinstance(run_ours(call), torch.Tensor)
