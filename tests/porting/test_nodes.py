"""TensorFlow's operations one by one: what the port computes is what ``tf.raw_ops`` computes."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_arrays import (
    axes_of,
    broadcast_pair,
    floats,
    i32,
    integers,
    numbers,
    scalar,
    seeds,
    shapes,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tfcompat_dw.porting.config import TensorRef
from tfcompat_dw.porting.layer import UnsupportedLayerError
from tfcompat_dw.porting.nodes import HANDLERS
from tfcompat_dw.porting.nodes.call import NodeCall
from tfcompat_dw.porting.nodes.known import folded
from tfcompat_dw.porting.operations import Operation
from tfcompat_dw.porting.sizes import SizeOf, evaluated

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
QUICK = settings(
    max_examples=6, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONG = settings(QUICK, max_examples=150)


class TensorFlow:
    """One process for all of the tests here."""

    def __init__(self):
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "nodes_run_tf.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def __call__(self, op, inputs, attributes):
        data = pickle.dumps((op, inputs, attributes))
        self.process.stdin.write(struct.pack("<q", len(data)) + data)
        self.process.stdin.flush()
        size = struct.unpack("<q", self.process.stdout.read(8))[0]
        return pickle.loads(self.process.stdout.read(size))

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def tensorflow():
    process = TensorFlow()
    yield process
    process.close()


# ---- one node ------------------------------------------------------------------------------------


@dataclass
class Case:
    """A node: its inputs in order (lists of arrays where TensorFlow takes lists)."""

    inputs: list
    attributes: dict = field(default_factory=dict)
    known: tuple = ()
    """Places of inputs, in TensorFlow's order, that are constants when the graph is ported."""
    more: dict = field(default_factory=dict)
    """Attributes that raw_ops works out by itself."""
    results: int | None = None
    """How many say something; None is all of them."""


def flat_inputs(case):
    """(array, whether it is known) of each input of the node."""
    found = []
    for place, value in enumerate(case.inputs):
        several = value if isinstance(value, list) else [value]
        found += [(np.asarray(one), place in case.known) for one in several]
    return found


def operation(op, case, all_known=False):
    """The module, and the tensors that it takes."""
    inputs = flat_inputs(case)
    tensors = [torch.from_numpy(np.array(one)) for one, _ in inputs]
    values = tuple(
        tensor if known or all_known else TensorRef(str(place))
        for place, (tensor, (_, known)) in enumerate(zip(tensors, inputs, strict=True))
    )
    attributes = {"T": inputs[0][0].dtype.name, **case.more, **case.attributes}
    shapes = tuple(tuple(one.shape) for one in tensors)
    bound = HANDLERS[op](NodeCall("node", op, values, attributes, shapes))
    module = Operation(bound.function, bound.args, bound.kwargs or {})
    return module, [tensors[int(ref.layer)] for ref in module.refs]


def listed(result):
    return list(result) if isinstance(result, (list, tuple)) else [result]


def computed_here(op, case, all_known=False):
    module, tensors = operation(op, case, all_known)
    with torch.no_grad():
        return [one.numpy() for one in listed(module(*tensors))]


def check(tensorflow, op, case, ulps, absolute):
    """The results agree; also where all inputs are known, and the shapes on ``meta``."""
    expected = tensorflow(op, case.inputs, case.attributes)
    if isinstance(expected, str):
        pytest.fail(f"{op} {case}: TensorFlow says {expected}")
    for all_known in (False, True):
        found = computed_here(op, case, all_known)
        for one, other in zip(found, expected[: case.results], strict=False):
            assert one.shape == other.shape
            assert one.dtype == other.dtype
            agree(one, other, ulps, absolute)
    check_meta(op, case, found)


def agree(one, other, ulps, absolute):
    if other.dtype.kind in "biu" or not (ulps or absolute):
        np.testing.assert_array_equal(one, other)
        return
    eps = np.finfo(other.dtype).eps
    np.testing.assert_allclose(one, other, rtol=ulps * eps, atol=absolute * eps)


def check_meta(op, case, found):
    """Tensors without memory have the same shapes."""
    if op in ("Where",) or op.startswith("NonMax"):
        return
    module, tensors = operation(op, case)
    state = {name: buffer.to("meta") for name, buffer in module.named_buffers()}
    result = torch.func.functional_call(module, state, tuple(one.to("meta") for one in tensors))
    for one, other in zip(listed(result), found, strict=True):
        if tensors or state:
            assert one.is_meta
        assert tuple(one.shape) == other.shape
        assert one.dtype == torch.from_numpy(np.array(other)).dtype


# ---- cases ---------------------------------------------------------------------------------------

CASES = {}
"""By operation: a strategy, and how many units in the last place may differ."""


def case(*ops, ulps=0, absolute=0, name=None):
    def add(function):
        for op in ops:
            CASES[f"{op}{'-' + name if name else ''}"] = (
                op,
                st.composite(function)(op),
                ulps,
                absolute,
            )
        return function

    return add


# ---- elementwise ---------------------------------------------------------------------------------

# Both sides compute with polynomials of their own that are right to a few units in the last place;
# near a zero of sin, log and the like the error is of the argument's size, hence `absolute`.
for _op, _low, _high, _kinds, _ulps in [
    ("Neg", -3, 3, "fdil", 0), ("Abs", -3, 3, "fdil", 0), ("Square", -3, 3, "fdil", 0),
    ("Sqrt", 0.01, 3, "fd", 1), ("Rsqrt", 0.01, 3, "fd", 4), ("Exp", -9, 9, "fd", 4),
    ("Expm1", -3, 3, "fd", 8), ("Log", 0.01, 3, "fd", 4), ("Log1p", -0.9, 3, "fd", 8),
    ("Sin", -9, 9, "fd", 4), ("Cos", -9, 9, "fd", 4), ("Tan", -1.4, 1.4, "fd", 8),
    ("Asin", -0.99, 0.99, "fd", 8), ("Acos", -0.99, 0.99, "fd", 8), ("Atan", -9, 9, "fd", 4),
    ("Sinh", -5, 5, "fd", 8), ("Cosh", -5, 5, "fd", 4), ("Asinh", -5, 5, "fd", 8),
    ("Acosh", 1.01, 5, "fd", 8), ("Atanh", -0.9, 0.9, "fd", 8), ("Floor", -3, 3, "fd", 0),
    ("Ceil", -3, 3, "fd", 0), ("Rint", -3, 3, "fd", 0), ("Sign", -3, 3, "fdil", 0),
    ("Erf", -3, 3, "fd", 8), ("Erfc", -3, 3, "fd", 64), ("Erfinv", -0.9, 0.9, "fd", 64),
    ("Lgamma", 0.1, 5, "fd", 32), ("Digamma", 0.1, 5, "fd", 32), ("Sigmoid", -9, 9, "fd", 8),
    ("Tanh", -5, 5, "fd", 8), ("Relu", -3, 3, "fdil", 0), ("Relu6", -9, 9, "fdil", 0),
    ("Elu", -5, 5, "fd", 8), ("Selu", -5, 5, "fd", 8), ("Softplus", -40, 60, "fd", 8),
    ("Softsign", -5, 5, "fd", 4), ("LogicalNot", 0, 1, "b", 0), ("IsNan", -3, 3, "fd", 0),
    ("IsInf", -3, 3, "fd", 0), ("IsFinite", -3, 3, "fd", 0), ("Invert", -9, 9, "il", 0),
    ("ZerosLike", -3, 3, "fdilb", 0), ("OnesLike", -3, 3, "fdilb", 0),
    ("Identity", -3, 3, "fib", 0),
    ("Reciprocal", 0.1, 3, "fd", 1), ("Inv", 0.1, 3, "fd", 1), ("L2Loss", -3, 3, "fd", 8),
    ("StopGradient", -3, 3, "fi", 0), ("Snapshot", -3, 3, "fi", 0), ("Digamma", 0.1, 5, "d", 32),
]:  # fmt: skip

    def _unary(draw, op, low=_low, high=_high, kinds=_kinds):
        return Case([numbers(draw, draw(shapes()), kinds, low, high)])

    case(_op, ulps=_ulps, absolute=_ulps and 4)(_unary)

for _op, _low, _high, _kinds, _ulps in [
    ("Add", -3, 3, "fdil", 0), ("AddV2", -3, 3, "fdil", 0), ("Sub", -3, 3, "fdil", 0),
    ("Mul", -3, 3, "fdil", 0), ("RealDiv", 0.1, 3, "fd", 1), ("Div", 1, 3, "fdil", 1),
    ("FloorDiv", 1, 3, "fdil", 0), ("FloorMod", 1, 3, "fdil", 4), ("Mod", 1, 3, "fdil", 0),
    ("TruncateDiv", 1, 3, "il", 0), ("TruncateMod", 1, 3, "fdil", 0), ("Pow", 0.1, 2, "fd", 16),
    ("SquaredDifference", -3, 3, "fdil", 0), ("Maximum", -3, 3, "fdil", 0),
    ("Minimum", -3, 3, "fdil", 0), ("Xlogy", 0.1, 3, "fd", 8), ("Xdivy", 0.1, 3, "fd", 2),
    ("Xlog1py", 0.1, 3, "fd", 8), ("Atan2", -3, 3, "fd", 8), ("Equal", -1, 1, "fdilb", 0),
    ("NotEqual", -1, 1, "fdilb", 0), ("Less", -1, 1, "fdil", 0), ("LessEqual", -1, 1, "fdil", 0),
    ("Greater", -1, 1, "fdil", 0), ("GreaterEqual", -1, 1, "fdil", 0),
    ("LogicalAnd", 0, 1, "b", 0), ("LogicalOr", 0, 1, "b", 0), ("BitwiseAnd", -9, 9, "il", 0),
    ("BitwiseOr", -9, 9, "il", 0), ("BitwiseXor", -9, 9, "il", 0), ("LeftShift", 0, 3, "il", 0),
    ("RightShift", 0, 3, "il", 0), ("DivNoNan", 0, 3, "fd", 1), ("MulNoNan", 0, 3, "fd", 0),
]:  # fmt: skip

    def _binary(draw, op, low=_low, high=_high, kinds=_kinds):
        pair = broadcast_pair(draw, kinds, low, high)
        return Case(pair, known=draw(st.sampled_from([(), (0,), (1,)])))

    case(_op, ulps=_ulps, absolute=_ulps and 4)(_binary)


@case("FloorDiv", "FloorMod", "TruncateDiv", "TruncateMod", "Div", name="of negative integers")
def _negative_division(draw, op):
    shape = draw(shapes())
    x, y = (integers(draw(seeds()), shape) for _ in range(2))
    return Case([x, np.where(y == 0, 5, y).astype(np.int32)])


@case("DivNoNan", "MulNoNan", "Xdivy", "Xlogy", name="with zeros", ulps=4)
def _zeros(draw, op):
    shape = draw(shapes(1))
    x, y = (np.abs(integers(draw(seeds()), shape, 0, 2)).astype(np.float32) for _ in range(2))
    return Case([x, y if op != "Xlogy" else y + 1])


@case("Round", "Rint")
def _halves(draw, op):
    return Case([integers(draw(seeds()), draw(shapes())).astype(np.float32) / 2])


@case("Cast")
def _cast(draw, op):
    x = numbers(draw, draw(shapes()), "fdilb", -9, 9)
    kind = draw(st.sampled_from(["float32", "float64", "int32", "int64", "bool", "uint8", "int8"]))
    x = abs(x) if kind == "uint8" and x.dtype.kind == "f" else x
    return Case([x], {"DstT": kind}, more={"SrcT": x.dtype.name})


@case("Cast", name="to half")
def _cast_to_half(draw, op):
    return Case([numbers(draw, draw(shapes()), "fi")], {"DstT": "float16"})


@case("LeakyRelu")
def _leaky_relu(draw, op):
    alpha = draw(st.sampled_from([0.0, 0.25, 0.5]))
    return Case([numbers(draw, draw(shapes()), "fd")], {"alpha": alpha})


@case("ClipByValue")
def _clip(draw, op):
    x = numbers(draw, draw(shapes(1)), "fdi", -5, 5)
    return Case([x, scalar(-2, x.dtype), scalar(3, x.dtype)], known=(1, 2))


@case("Select", name="of rows")
def _select_rows(draw, op):
    shape = draw(shapes(1))
    choice = integers(draw(seeds()), shape[:1] if draw(st.booleans()) else shape, 0, 1, np.bool_)
    kind = draw(st.sampled_from("fi"))
    return Case([choice, numbers(draw, shape, kind), numbers(draw, shape, kind)], more={})


@case("SelectV2")
def _select(draw, op):
    x, y = broadcast_pair(draw)
    choice = integers(draw(seeds()), np.broadcast_shapes(x.shape, y.shape), 0, 1, np.bool_)
    return Case([choice, x, y], known=draw(st.sampled_from([(), (0,), (2,)])))


@case("Where")
def _where(draw, op):
    return Case([numbers(draw, draw(shapes(1)), "b")])


@case("AddN")
def _add_n(draw, op):
    shape, kind = draw(shapes()), draw(st.sampled_from("fi"))
    xs = [numbers(draw, shape, kind) for _ in range(draw(st.integers(1, 3)))]
    return Case([xs])


@case("IdentityN")
def _identity_n(draw, op):
    return Case([[numbers(draw, draw(shapes())) for _ in range(3)]])


@case("Bucketize")
def _bucketize(draw, op):
    limits = sorted({float(n) for n in draw(st.lists(st.integers(-5, 5), min_size=1, max_size=4))})
    return Case([integers(draw(seeds()), draw(shapes())).astype(draw(st.sampled_from("fil")))],
                {"boundaries": limits})  # fmt: skip


@case("ApproximateEqual")
def _approximate_equal(draw, op):
    shape = draw(shapes())
    return Case(
        [integers(draw(seeds()), shape).astype(np.float32) for _ in "xy"], {"tolerance": 1.5}
    )


# ---- reductions ----------------------------------------------------------------------------------


# A sum of up to 4**4 numbers of both signs: its error is n * eps of the largest partial sum.
@case("Mean", "Sum", "EuclideanNorm", ulps=64, absolute=64)
@case("Max", "Min")
@case("All", "Any")
@case("Prod", ulps=64)
def _reduction(draw, op):
    shape = draw(shapes())
    kinds = "b" if op in ("All", "Any") else "fd" if op == "EuclideanNorm" else "fdil"
    low, high = (0.5, 1.4) if op == "Prod" else (-3, 3)
    x = numbers(draw, shape, kinds, low, high)
    return Case([x, axes_of(draw, len(shape))], {"keep_dims": draw(st.booleans())}, known=(1,))


@case("ArgMax", "ArgMin")
def _arg_max(draw, op):
    shape = draw(shapes(1))
    x = integers(draw(seeds()), shape, 0, 2).astype(draw(st.sampled_from("fi")))  # ties
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    kind = draw(st.sampled_from(["int32", "int64"]))
    return Case([x, scalar(axis)], {"output_type": kind}, known=(1,))


@case("TopKV2")
def _top_k(draw, op):
    shape = draw(shapes(1))
    x = integers(draw(seeds()), shape, 0, 3).astype(draw(st.sampled_from("fi")))  # ties
    k = draw(st.integers(0, shape[-1]))
    return Case([x, scalar(k)], known=(1,))


@case("Cumsum", "Cumprod", ulps=16, absolute=16)
def _cumsum(draw, op):
    shape = draw(shapes(1))
    axis = scalar(draw(st.integers(-len(shape), len(shape) - 1)))
    flags = {"exclusive": draw(st.booleans()), "reverse": draw(st.booleans())}
    return Case([numbers(draw, shape, "fdi", 0.5, 2), axis], flags, known=(1,))


@case("Softmax", "LogSoftmax", ulps=16, absolute=16)
def _softmax(draw, op):
    return Case([numbers(draw, draw(shapes(1)), "fd", -9, 9)])


# ---- places --------------------------------------------------------------------------------------


@case("Reshape")
def _reshape(draw, op):
    x = numbers(draw, draw(shapes()), "fib")
    parts = [size for size in x.shape if draw(st.booleans())]
    rest = x.size // int(np.prod(parts, dtype=int))
    shape = np.array([*parts, draw(st.sampled_from([-1, rest]))], np.int32)
    return Case([x, shape.astype(draw(st.sampled_from("il")))], known=(1,))


@case("Squeeze")
def _squeeze(draw, op):
    shape = draw(shapes(high=2))
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    axes = [axis - len(shape) * draw(st.booleans()) for axis in ones if draw(st.booleans())]
    return Case([numbers(draw, shape)], {"axis": axes})


@case("ExpandDims")
def _expand_dims(draw, op):
    shape = draw(shapes())
    axis = scalar(draw(st.integers(-len(shape) - 1, len(shape))))
    return Case([numbers(draw, shape, "fib"), axis], known=(1,))


@case("Transpose", "ConjugateTranspose")
def _transpose(draw, op):
    shape = draw(shapes())
    order = draw(st.permutations(range(len(shape))))
    return Case([numbers(draw, shape, "fib"), np.array(order, np.int32)], known=(1,))


@case("ConcatV2", "Concat")
def _concatenate(draw, op):
    shape = draw(shapes(1))
    axis, kind = draw(st.integers(0, len(shape) - 1)), draw(st.sampled_from("fib"))
    parts = [numbers(draw, (*shape[:axis], draw(st.integers(0, 3)), *shape[axis + 1 :]), kind)
             for _ in range(draw(st.integers(2, 3)))]  # fmt: skip
    along = scalar(axis - len(shape) if draw(st.booleans()) else axis)
    if op == "Concat":
        return Case([scalar(axis), parts], known=(0,), more={})
    return Case([parts, along], known=(1,))


@case("Pack")
def _pack(draw, op):
    shape, kind = draw(shapes()), draw(st.sampled_from("fib"))
    xs = [numbers(draw, shape, kind) for _ in range(draw(st.integers(1, 3)))]
    return Case([xs], {"axis": draw(st.integers(-len(shape) - 1, len(shape)))})


@case("Unpack")
def _unpack(draw, op):
    shape = draw(shapes(1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    return Case([numbers(draw, shape, "fib")], {"num": shape[axis], "axis": axis})


@case("Split")
def _split(draw, op):
    shape, parts = list(draw(shapes(1))), draw(st.integers(1, 3))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] *= parts
    along = scalar(axis - len(shape) if draw(st.booleans()) else axis)
    x = numbers(draw, tuple(shape), "fib")
    return Case([along, x], {"num_split": parts}, known=(0,))


@case("SplitV")
def _split_v(draw, op):
    shape = list(draw(shapes(1)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    parts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    shape[axis] = sum(parts)
    if len(parts) > 1 and draw(st.booleans()):
        parts[draw(st.integers(0, len(parts) - 1))] = -1
    return Case([numbers(draw, tuple(shape)), np.array(parts, np.int32), scalar(axis)],
                {"num_split": len(parts)}, known=(1, 2))  # fmt: skip


@case("Slice")
def _slice(draw, op):
    shape = draw(shapes(1))
    begin = [draw(st.integers(0, size)) for size in shape]
    size = [draw(st.sampled_from([-1, draw(st.integers(0, n - b))]))
            for n, b in zip(shape, begin, strict=True)]  # fmt: skip
    return Case([numbers(draw, shape, "fib"), i32(*begin), i32(*size)], known=(1, 2))


@case("StridedSlice")
def _strided_slice(draw, op):
    shape = draw(shapes(1))
    count = draw(st.integers(1, len(shape)))
    masks = {f"{name}_mask": draw(st.integers(0, 2**count - 1)) for name in ("begin", "end")}
    dots = draw(st.sampled_from([None, *range(count)]))
    masks["ellipsis_mask"] = 0 if dots is None else 1 << dots
    new = draw(st.integers(0, 2**count - 1)) & ~masks["ellipsis_mask"]
    shrunk = draw(st.integers(0, 2**count - 1)) & ~masks["ellipsis_mask"] & ~new
    masks |= {"new_axis_mask": new, "shrink_axis_mask": shrunk}
    begin = [draw(st.integers(-6, 6)) for _ in range(count)]
    end = [draw(st.sampled_from([-6, -2, -1, 0, 1, 2, 5, 2**31 - 1])) for _ in range(count)]
    step = [draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in range(count)]
    axis = 0
    for place in range(count):  # an index has to be there, and steps forward
        if place == dots:
            axis = len(shape) - (count - place - 1 - bin(new >> place + 1).count("1"))
        elif not new & (1 << place):
            if shrunk & (1 << place) and axis < len(shape):
                begin[place] = draw(st.integers(-shape[axis], shape[axis] - 1))
                step[place] = 1
            axis += 1
    x = numbers(draw, shape, "fib")
    return Case([x, i32(*begin), i32(*end), i32(*step)], masks, known=(1, 2, 3))


@case("Gather", "GatherV2")
def _gather(draw, op):
    shape = draw(shapes(1))
    axis = draw(st.integers(-len(shape), len(shape) - 1)) if op == "GatherV2" else 0
    where = axis % len(shape)
    batch = draw(st.integers(0, where)) if op == "GatherV2" else 0
    index_shape = (*shape[:batch], *draw(shapes(most=2)))
    kind = draw(st.sampled_from([np.int32, np.int64]))
    indices = integers(draw(seeds()), index_shape, 0, shape[axis] - 1, kind)
    x = numbers(draw, shape, "fib")
    if op == "Gather":
        return Case([x, indices], known=draw(st.sampled_from([(), (0,), (1,)])))
    known = draw(st.sampled_from([(2,), (0, 2), (1, 2)]))
    return Case([x, indices, scalar(axis)], {"batch_dims": batch}, known=known)


@case("GatherNd")
def _gather_nd(draw, op):
    shape = draw(shapes(1))
    depth = draw(st.integers(0, len(shape)))
    rows = draw(shapes(most=2))
    parts = [integers(draw(seeds()), rows, 0, size - 1) for size in shape[:depth]]
    indices = np.stack(parts, -1) if parts else np.zeros((*rows, 0), np.int32)
    return Case([numbers(draw, shape), indices])


@case("ScatterNd")
def _scatter_nd(draw, op):
    shape = draw(shapes(1))
    depth = draw(st.integers(1, len(shape)))
    rows = draw(shapes(1, 2))
    indices = np.stack([integers(draw(seeds()), rows, 0, n - 1) for n in shape[:depth]], -1)
    updates = integers(draw(seeds()), (*rows, *shape[depth:])).astype(draw(st.sampled_from("fi")))
    return Case([indices, updates, i32(*shape)], known=(2,), more={"T": updates.dtype.name})


@case("SparseToDense")
def _sparse_to_dense(draw, op):
    shape = draw(shapes(1, 3))
    flat = st.sets(st.integers(0, int(np.prod(shape)) - 1)) if np.prod(shape) else st.just(set())
    places = sorted(draw(flat))  # as TensorFlow wants them, each one once
    indices = np.stack(np.unravel_index(np.array(places, np.int64), shape), -1).astype("i4")
    if len(shape) == 1 and draw(st.booleans()):
        indices = indices[0, 0] if len(places) == 1 and draw(st.booleans()) else indices[:, 0]
    values = numbers(draw, () if draw(st.booleans()) else (indices.size // max(1, len(shape)),))
    default = np.array(7, values.dtype)
    return Case([indices, i32(*shape), values, default], known=(1,), more={"T": values.dtype.name})


@case("Tile")
def _tile(draw, op):
    shape = draw(shapes())
    repeats = np.array([draw(st.integers(0, 3)) for _ in shape], np.int32)
    return Case([numbers(draw, shape, "fib"), repeats], known=(1,))


@case("BroadcastTo")
def _broadcast(draw, op):
    shape = draw(shapes())
    x = numbers(draw, tuple(1 if draw(st.booleans()) else n for n in shape), "fib")
    first = draw(shapes(most=1))
    return Case([x, np.array([*first, *shape], np.int32)], known=(1,))


@case("Pad", "PadV2")
def _pad(draw, op):
    shape = draw(shapes())
    ends = [[draw(st.integers(0, 2)) for _ in "ab"] for _ in shape]
    x = numbers(draw, shape, "fib" if op == "Pad" else "fi")
    value = [scalar(7, x.dtype)] if op == "PadV2" else []
    pads = np.array(ends, np.int32).reshape(-1, 2)
    return Case([x, pads, *value], known=(1, 2))


@case("MirrorPad")
def _mirror_pad(draw, op):
    shape, mode = draw(shapes(1)), draw(st.sampled_from(["REFLECT", "SYMMETRIC"]))
    most = [size - (mode == "REFLECT") for size in shape]
    ends = [[draw(st.integers(0, n)) for _ in "ab"] for n in most]
    pads = np.array(ends, np.int32)
    return Case([numbers(draw, shape), pads], {"mode": mode}, known=(1,))


@case("ReverseV2", "Reverse")
def _reverse(draw, op):
    shape = draw(shapes())
    x = numbers(draw, shape, "fib")
    if op == "Reverse":
        return Case([x, integers(draw(seeds()), (len(shape),), 0, 1, np.bool_)], known=(1,))
    return Case([x, np.atleast_1d(axes_of(draw, len(shape)))], known=(1,))


@case("ReverseSequence")
def _reverse_sequence(draw, op):
    shape = draw(shapes(2))
    batch, along = draw(st.permutations(range(len(shape))))[:2]
    lengths = integers(draw(seeds()), (shape[batch],), 0, shape[along])
    return Case([numbers(draw, shape), lengths], {"seq_dim": along, "batch_dim": batch})


@case("Roll")
def _roll(draw, op):
    shape = draw(shapes(1))
    axis = draw(st.integers(0, len(shape) - 1))
    return Case(
        [numbers(draw, shape), scalar(draw(st.integers(-5, 5))), scalar(axis)], known=(1, 2)
    )


@case("SpaceToDepth", "DepthToSpace")
def _space_to_depth(draw, op):
    n, h, w, c, b = (draw(st.integers(1, 3)) for _ in range(5))
    b += 1
    shape = (n, h * b, w * b, c) if op == "SpaceToDepth" else (n, h, w, c * b * b)
    return Case([numbers(draw, shape)], {"block_size": b})


@case("SpaceToBatchND", "BatchToSpaceND")
def _space_to_batch(draw, op):
    block = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    n, sizes = draw(st.integers(1, 2)), [draw(st.integers(1, 3)) for _ in block]
    rest = draw(shapes(most=2))
    ends = [[draw(st.integers(0, 1)) for _ in "ab"] for _ in block]
    if op == "BatchToSpaceND":
        ends = [[a, b] if a + b <= s * k else [0, 0]
                for (a, b), s, k in zip(ends, sizes, block, strict=True)]  # fmt: skip
        shape = (n * int(np.prod(block)), *sizes, *rest)
    else:
        ends = [[a, b + -(a + s + b) % k] for (a, b), s, k in zip(ends, sizes, block, strict=True)]
        shape = (n, *sizes, *rest)
    return Case([numbers(draw, shape), i32(*block), np.array(ends, np.int32)], known=(1, 2))


@case("SpaceToBatch", "BatchToSpace")
def _old_space_to_batch(draw, op):
    b = draw(st.integers(2, 3))
    shape = (b * b, 2, 3, 2) if op == "BatchToSpace" else (2, 2 * b - 1, b - 1, 2)
    ends = [[0, 1], [1, 0]]
    return Case([numbers(draw, shape), np.array(ends, np.int32)], {"block_size": b}, known=(1,))


@case("InvertPermutation")
def _invert(draw, op):
    return Case([i32(*draw(st.permutations(range(5))))], known=(0,))


# ---- images --------------------------------------------------------------------------------------


def image_shape(draw, low=1, high=9):
    return (draw(st.integers(1, 2)), draw(st.integers(low, high)), draw(st.integers(low, high)),
            draw(st.integers(1, 3)))  # fmt: skip


def windows(draw, shape, axes=2):
    """Windows that fit without padding."""
    return {
        "ksize": [1, *(draw(st.integers(1, min(3, n))) for n in shape[1 : 1 + axes]), 1],
        "strides": [1, *(draw(st.integers(1, 3)) for _ in range(axes)), 1],
        "padding": draw(st.sampled_from(["SAME", "VALID"])),
    }


@case("MaxPool", "MaxPoolV2")
@case("AvgPool", ulps=8, absolute=8)
def _pool(draw, op):
    shape = image_shape(draw)
    given = windows(draw, shape)
    x = numbers(draw, shape, "f" if op == "AvgPool" else "fi")
    if op == "MaxPoolV2":
        inputs = [x, i32(*given["ksize"]), i32(*given["strides"])]
        return Case(inputs, {"padding": given["padding"]}, known=(1, 2))
    return Case([x], given)


@case("MaxPool", name="explicit")
def _pool_explicit(draw, op):
    shape = image_shape(draw)
    given = windows(draw, shape)
    ends = [draw(st.integers(0, size - 1)) for size in given["ksize"][1:3] for _ in "ab"]
    given |= {"padding": "EXPLICIT", "explicit_paddings": [0, 0, *ends, 0, 0]}
    return Case([numbers(draw, shape, "f")], given)


@case("MaxPool3D")
@case("AvgPool3D", ulps=8, absolute=8)
def _pool_3d(draw, op):
    shape = (1, *(draw(st.integers(2, 5)) for _ in range(3)), 2)
    given = windows(draw, shape, 3)
    given["strides"] = within(given["strides"], given["ksize"])
    return Case([numbers(draw, shape, "f")], given)


def within(strides, kernel):
    """No larger than windows: else TensorFlow's CPU kernels for volumes pad by less than zero."""
    return [min(pair) for pair in zip(strides, kernel, strict=True)]


@case("MaxPoolWithArgmax")
def _argmax_pool(draw, op):
    shape = image_shape(draw)
    kind = draw(st.sampled_from(["int32", "int64"]))
    extra = {"Targmax": kind, "include_batch_in_index": draw(st.booleans())}
    x = integers(draw(seeds()), shape, 0, 3).astype(np.float32)  # ties
    return Case([x], {**windows(draw, shape), **extra})


@case("ExtractImagePatches")
def _patches(draw, op):
    shape = image_shape(draw, 5)
    given = windows(draw, shape)
    rates = [1, draw(st.integers(1, 2)), draw(st.integers(1, 2)), 1]
    return Case([numbers(draw, shape)], {"ksizes": given["ksize"], "strides": given["strides"],
                                         "rates": rates, "padding": given["padding"]})  # fmt: skip


@case("Dilation2D", ulps=1)
def _dilation(draw, op):
    shape = image_shape(draw, 5)
    given = windows(draw, shape)
    filter = floats(draw(seeds()), (*given["ksize"][1:3], shape[3]))
    rates = [1, draw(st.integers(1, 2)), draw(st.integers(1, 2)), 1]
    return Case([numbers(draw, shape, "f"), filter], {"strides": given["strides"], "rates": rates,
                                                      "padding": given["padding"]})  # fmt: skip


@case("LRN", ulps=16)
def _lrn(draw, op):
    shape = (*image_shape(draw)[:3], draw(st.integers(1, 8)))
    given = {"depth_radius": draw(st.integers(0, 9)), "bias": 1.0, "alpha": 0.5, "beta": 0.75}
    return Case([numbers(draw, shape, "f")], given)


@case("ResizeNearestNeighbor")
# An interpolation of numbers up to 3 in magnitude: weights, products and sums are rounded once
# each, 3 * 4 roundings; where weights come from PyTorch's own formula, one more of the place,
# which is up to 16: 16 * 3 units.
@case("ResizeBilinear", absolute=64)
@case("ResizeBicubic", absolute=128)
def _resize(draw, op):
    rule = draw(st.sampled_from([{}, {"align_corners": True}, {"half_pixel_centers": True}]))
    size = i32(draw(st.integers(1, 16)), draw(st.integers(1, 16)))
    x = numbers(draw, image_shape(draw), "fi" if op == "ResizeNearestNeighbor" else "f")
    return Case([x, size], rule, known=(1,))


@case("ResizeArea", absolute=128)
def _resize_area(draw, op):
    size = i32(draw(st.integers(1, 16)), draw(st.integers(1, 16)))
    return Case([numbers(draw, image_shape(draw), "f"), size], known=(1,))


# Places are products of three rounded numbers; an error of 2 units in a place among up to 9 cells
# is one of 2 * 9 units of the difference of two cells, which is up to 6.
@case("CropAndResize", absolute=256)
def _crop_and_resize(draw, op):
    shape, count = image_shape(draw, 2), draw(st.integers(1, 4))
    boxes = floats(draw(seeds()), (count, 4), -0.2, 1.2)
    which = integers(draw(seeds()), (count,), 0, shape[0] - 1)
    size = i32(draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    given = {"extrapolation_value": 0.5, "method": "bilinear"}
    return Case([numbers(draw, shape, "f"), boxes, which, size], given, known=(3,))


@case("CropAndResize", name="nearest")
def _crop_nearest(draw, op):
    shape, count = (2, 9, 5, 2), 3
    boxes = floats(draw(seeds()), (count, 4), -0.2, 1.2)
    which = integers(draw(seeds()), (count,), 0, 1)
    given = {"extrapolation_value": 0.5, "method": "nearest"}
    return Case([numbers(draw, shape, "f"), boxes, which, i32(3, 4)], given, known=(3,))


@case(*(f"NonMaxSuppression{version}" for version in ("", "V2", "V3", "V4", "V5")))
def _suppression(draw, op):
    count = draw(st.integers(1, 12))
    # Quarters: overlaps are exact, and no two ways of computing them differ.
    boxes = (integers(draw(seeds()), (count, 4), 0, 8) / 4).astype(np.float32)
    scores = (integers(draw(seeds()), (count,), 0, 8) / 8).astype(np.float32)
    most, share = scalar(draw(st.integers(0, 9))), draw(st.sampled_from([0.25, 0.3, 0.5]))
    overlap = scalar(share, np.float32)
    if op == "NonMaxSuppression":
        return Case([boxes, scores, most], {"iou_threshold": share}, known=(2,))
    inputs = [boxes, scores, most, overlap]
    given = {}
    if op > "NonMaxSuppressionV2":
        inputs.append(scalar(draw(st.sampled_from([0.0, 0.5])), np.float32))
    if op == "NonMaxSuppressionV5":
        inputs.append(scalar(0.0, np.float32))
    if op > "NonMaxSuppressionV3":
        given["pad_to_max_output_size"] = draw(st.booleans())
    return Case(inputs, given, known=(2, 3, 4, 5))


@case("NonMaxSuppressionV5", name="soft", ulps=8)
def _soft_suppression(draw, op):
    count = draw(st.integers(1, 12))
    boxes = (integers(draw(seeds()), (count, 4), 0, 8) / 4).astype(np.float32)
    scores = floats(draw(seeds()), (count,), 0.1, 1)
    inputs = [boxes, scores, scalar(9), *(scalar(v, np.float32) for v in (0.6, 0.05, 0.5))]
    return Case(inputs, {"pad_to_max_output_size": False}, known=(2, 3, 4, 5))


# ---- products ------------------------------------------------------------------------------------

# Dot products of at most 3 * 3 * 3 numbers up to 3 in magnitude: 27 * 9 units at the most.
PRODUCT = {"ulps": 16, "absolute": 256}


@case("MatMul", **PRODUCT)
def _matmul(draw, op):
    m, k, n = (draw(st.integers(1, 4)) for _ in range(3))
    turned = {"transpose_a": draw(st.booleans()), "transpose_b": draw(st.booleans())}
    a = (k, m) if turned["transpose_a"] else (m, k)
    b = (n, k) if turned["transpose_b"] else (k, n)
    kind = draw(st.sampled_from("fdi"))
    return Case([numbers(draw, a, kind), numbers(draw, b, kind)], turned)


@case("BatchMatMul", "BatchMatMulV2", **PRODUCT)
def _batch_matmul(draw, op):
    m, k, n = (draw(st.integers(1, 4)) for _ in range(3))
    turned = {"adj_x": draw(st.booleans()), "adj_y": draw(st.booleans())}
    batch = draw(shapes(most=2))
    other = batch if op == "BatchMatMul" else tuple(1 if draw(st.booleans()) else b for b in batch)
    a = (*batch, *((k, m) if turned["adj_x"] else (m, k)))
    b = (*other, *((n, k) if turned["adj_y"] else (k, n)))
    kind = draw(st.sampled_from("fd"))
    return Case([numbers(draw, a, kind), numbers(draw, b, kind)], turned)


@case("Einsum", **PRODUCT)
def _einsum(draw, op):
    equation = draw(st.sampled_from(["ab,bc->ac", "abc,cd->abd", "BTNH,BFNH->BNFT", "...a,ab->...b",
                                     "ab->ba", "aab->b", "abc->c"]))  # fmt: skip
    sizes = {letter: draw(st.integers(1, 3)) for letter in equation if letter.isalpha()}
    inputs = [numbers(draw, tuple(sizes[one] if one != "." else 2 for one in
                                  part.replace("...", ".")), "f")
              for part in equation.partition("->")[0].split(",")]  # fmt: skip
    return Case([inputs], {"equation": equation})


@case("BiasAdd")
def _bias_add(draw, op):
    shape = draw(shapes(2))
    last = draw(st.booleans()) or len(shape) < 3
    bias = numbers(draw, (shape[-1 if last else 1],), "f")
    return Case([numbers(draw, shape, "f"), bias], {"data_format": "NHWC" if last else "NCHW"})


def convolution(draw, kernel, axes=2, explicit=True):
    """Strides, padding and dilations; a stride or a dilation, not both."""
    strides = [draw(st.integers(1, 3)) for _ in range(axes)]
    dilations = [1 if max(strides) > 1 else draw(st.integers(1, 2)) for _ in range(axes)]
    given = {"strides": [1, *strides, 1], "dilations": [1, *dilations, 1]}
    given["padding"] = draw(st.sampled_from(["SAME", "VALID", *(["EXPLICIT"] * explicit)]))
    if given["padding"] == "EXPLICIT":
        given["explicit_paddings"] = [0, 0, *(draw(st.integers(0, 2)) for _ in range(4)), 0, 0]
    return given


@case("Conv2D", **PRODUCT)
def _conv(draw, op):
    shape = (1, draw(st.integers(5, 9)), draw(st.integers(5, 9)), draw(st.sampled_from([1, 2, 4])))
    groups = draw(st.sampled_from([1, shape[3]]))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), shape[3] // groups, 2 * groups)
    inputs = [numbers(draw, shape, "f"), numbers(draw, kernel, "f")]
    return Case(inputs, convolution(draw, kernel))


@case("Conv3D", **PRODUCT)
def _conv_3d(draw, op):
    given = convolution(draw, (), 3, explicit=False)
    given["dilations"] = [1] * 5  # TensorFlow's CPU kernel has no others
    given["strides"] = within(given["strides"], [1, 2, 3, 1, 1])
    return Case([numbers(draw, (1, 4, 5, 6, 2), "f"), numbers(draw, (2, 3, 1, 2, 3), "f")], given)


@case("Conv2DBackpropInput", **PRODUCT)
def _transposed(draw, op):
    size = [draw(st.integers(5, 9)), draw(st.integers(5, 9))]
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), 2, 3)
    given = convolution(draw, kernel)
    given["dilations"] = [1] * 4
    ends = given.get("explicit_paddings", [0] * 8)
    out = []
    for axis in range(2):
        stride, k = given["strides"][axis + 1], kernel[axis]
        pads = sum(ends[2 + 2 * axis : 4 + 2 * axis])
        valid = (size[axis] + pads - k) // stride + 1
        out.append(-(-size[axis] // stride) if given["padding"] == "SAME" else valid)
    return Case([i32(2, *size, 2), numbers(draw, kernel, "f"), numbers(draw, (2, *out, 3), "f")],
                given, known=(0,))  # fmt: skip


@case("Conv3DBackpropInputV2", **PRODUCT)
def _transposed_3d(draw, op):
    given = {"strides": [1, 2, 1, 2, 1], "padding": draw(st.sampled_from(["SAME", "VALID"]))}
    out = (2, 5, 3) if given["padding"] == "SAME" else (2, 4, 2)
    inputs = [
        i32(1, 4, 5, 5, 2),
        numbers(draw, (2, 2, 3, 2, 3), "f"),
        numbers(draw, (1, *out, 3), "f"),
    ]
    return Case(inputs, given, known=(0,))


@case("DepthwiseConv2dNative", **PRODUCT)
def _depthwise(draw, op):
    shape = (1, draw(st.integers(5, 9)), draw(st.integers(5, 9)), draw(st.integers(1, 3)))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), shape[3], draw(st.integers(1, 2)))
    given = convolution(draw, kernel)
    given["strides"][2] = given["strides"][1]  # TensorFlow's CPU kernel has no others
    given["dilations"] = [1] * 4
    return Case([numbers(draw, shape, "f"), numbers(draw, kernel, "f")], given)


@case("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", ulps=32, absolute=64)
def _batch_norm(draw, op):
    shape = image_shape(draw, 2)
    x = numbers(draw, shape, "f")
    scale, offset, mean = (floats(draw(seeds()), shape[3:]) for _ in range(3))
    variance = floats(draw(seeds()), shape[3:], 0.1, 2)
    training = draw(st.booleans())
    if training:
        mean = variance = np.zeros(0, np.float32)
    inputs = [x, scale, offset, mean, variance]
    known = draw(st.sampled_from([(), (1, 2), (1, 2, 3, 4)]))
    given = {"epsilon": 1e-3, "is_training": training}
    return Case(inputs, given, known=known, results=3 if training else 1)


# ---- tensors that are made -----------------------------------------------------------------------


@case("Fill")
def _fill(draw, op):
    value = numbers(draw, (), "fdib")
    shape = np.array(draw(shapes()), np.int32)
    return Case(
        [shape, value], known=draw(st.sampled_from([(0,), (0, 1)])), more={"T": value.dtype.name}
    )


@case("Range")
def _range(draw, op):
    kind = draw(st.sampled_from([np.int32, np.int64, np.float32]))
    start, step = draw(st.integers(-5, 5)), draw(st.sampled_from([-3, -1, 1, 2]))
    limit = (
        start + step * draw(st.integers(0, 5)) + draw(st.integers(0, 1)) * (1 if step > 0 else -1)
    )
    return Case(
        [scalar(v, kind) for v in (start, limit, step)],
        known=(0, 1, 2),
        more={"Tidx": kind.__name__},
    )


@case("LinSpace", ulps=2, absolute=8)
def _linspace(draw, op):
    ends = [scalar(draw(st.integers(-5, 5)), np.float32) for _ in "ab"]
    return Case([*ends, scalar(draw(st.integers(1, 9)))], known=(2,))


@case("OneHot")
def _one_hot(draw, op):
    shape = draw(shapes(most=3))
    indices = integers(draw(seeds()), shape, -1, 4, draw(st.sampled_from([np.int32, np.int64])))
    on, off = numbers(draw, (), "f"), numbers(draw, (), "f")
    axis = draw(st.integers(-1, len(shape)))
    return Case(
        [indices, scalar(draw(st.integers(0, 4))), on, off], {"axis": axis}, known=(1, 2, 3)
    )


@case("Shape", "Size", "Rank")
def _shape(draw, op):
    kind = {} if op == "Rank" else {"out_type": draw(st.sampled_from(["int32", "int64"]))}
    return Case([numbers(draw, draw(shapes()))], kind)


@case("MatrixDiag", "MatrixDiagPart", "MatrixBandPart", "MatrixSetDiag")
def _matrices(draw, op):
    shape = (*draw(shapes(most=1)), 3, draw(st.integers(3, 4)))
    x = numbers(draw, shape, "fi")
    if op == "MatrixBandPart":
        ends = [scalar(draw(st.integers(-1, 3))) for _ in "ab"]
        return Case([x, *ends], known=(1, 2))
    if op == "MatrixSetDiag":
        diagonal = integers(draw(seeds()), (*shape[:-2], min(shape[-2:]))).astype(x.dtype)
        return Case([x, diagonal])
    return Case([x])


@case("MatrixDiagV3")
def _diag(draw, op):
    x = numbers(draw, draw(shapes(1, 2)), "f")
    rest = [scalar(0), scalar(-1), scalar(-1), scalar(0, np.float32)]
    return Case([x, *rest], known=(1, 2, 3, 4))


# ---- signals -------------------------------------------------------------------------------------

# log2(16) stages of sums of numbers up to 3 in magnitude, 16 of them.
FOURIER = {"ulps": 16, "absolute": 256}


@case("RFFT", **FOURIER)
def _rfft(draw, op):
    shape = (*draw(shapes(most=2)), draw(st.integers(1, 16)))
    length = i32(draw(st.integers(1, shape[-1])))
    complex = {"Tcomplex": draw(st.sampled_from(["complex64", "complex128"]))}
    x = floats(
        draw(seeds()), shape, dtype={"complex64": "f", "complex128": "d"}[complex["Tcomplex"]]
    )
    return Case([x, length], complex, known=(1,))


@case("FFT", "IFFT", "Real", "Imag", "Angle", "ComplexAbs", "Conj", **FOURIER)
def _complex(draw, op):
    shape = (*draw(shapes(most=2)), draw(st.integers(1, 16)))
    x = floats(draw(seeds()), shape) + 1j * floats(draw(seeds()), shape)
    return Case([x.astype(np.complex64)])


@case("IRFFT", **FOURIER)
def _irfft(draw, op):
    length = draw(st.integers(1, 16))
    shape = (*draw(shapes(most=2)), length // 2 + 1)
    x = floats(draw(seeds()), shape) + 1j * floats(draw(seeds()), shape)
    return Case([x.astype(np.complex64), i32(length)], known=(1,))


@case("Complex")
def _of_parts(draw, op):
    shape = draw(shapes())
    return Case([floats(draw(seeds()), shape) for _ in "xy"])


# ---- quantization --------------------------------------------------------------------------------


@case("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel", "FakeQuantWithMinMaxArgs")
def _fake_quantization(draw, op):
    shape = draw(shapes(1))
    x = floats(draw(seeds()), shape, -8, 8)
    given = {"num_bits": draw(st.sampled_from([2, 8, 16])), "narrow_range": draw(st.booleans())}
    size = shape[-1:] if op.endswith("Channel") else ()
    low, high = floats(draw(seeds()), size, -6, -0.1), floats(draw(seeds()), size, 0.1, 6)
    if op.endswith("Args"):
        return Case([x], {**given, "min": float(low), "max": float(high)})
    return Case([x, low, high], given)


# ---- the tests -----------------------------------------------------------------------------------


def check_examples(tensorflow, name, how):
    op, strategy, ulps, absolute = CASES[name]

    @how
    @given(strategy)
    def run(case):
        check(tensorflow, op, case, ulps, absolute)

    run()


@pytest.mark.parametrize("name", CASES)
def test_a_node_computes_what_tensorflow_computes(tensorflow, name):
    check_examples(tensorflow, name, QUICK)


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_a_node_computes_what_tensorflow_computes_in_many_cases(tensorflow, name):
    check_examples(tensorflow, name, LONG)


# ---- what TensorFlow's CPU kernels do not have ---------------------------------------------------


def run_here(op, inputs, attributes, known=()):
    return computed_here(op, Case(inputs, attributes, known))[0]


def test_images_with_channels_first_are_those_with_channels_last_turned():
    x, kernel = floats(1, (2, 3, 9, 8)), floats(2, (3, 2, 3, 4))
    depthwise, turned = floats(3, (3, 3, 3, 2)), np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    windows = {"strides": [1, 2, 2, 1], "padding": "SAME", "ksize": [1, 3, 2, 1]}
    vector = floats(4, (3,))
    cases = [
        ("MaxPool", [], windows), ("AvgPool", [], windows), ("Conv2D", [kernel], windows),
        ("DepthwiseConv2dNative", [depthwise], windows),
        ("BiasAdd", [vector], {}),
        ("FusedBatchNormV3", [vector, vector, vector, vector**2], {"is_training": False}),
    ]  # fmt: skip
    for op, rest, last in cases:
        expected = run_here(op, [turned, *rest], last)
        first = {
            key: [value[place] for place in (0, 3, 1, 2)] if isinstance(value, list) else value
            for key, value in last.items()
        }
        found = run_here(op, [x, *rest], {**first, "data_format": "NCHW"}).transpose(0, 2, 3, 1)
        # Sums of up to 3 * 2 * 3 products up to 9 in magnitude, in another order.
        atol = 18 * 9 * np.finfo(np.float32).eps if "Conv" in op else 0
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("op", ["SpaceToDepth", "DepthToSpace"])
def test_blocks_of_images_with_channels_first_keep_tensorflows_order_of_channels(op):
    x = floats(1, (2, 8, 4, 6))
    last = run_here(op, [np.ascontiguousarray(x.transpose(0, 2, 3, 1))], {"block_size": 2})
    found = run_here(op, [x], {"block_size": 2, "data_format": "NCHW"})
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1), last)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_dilated_depthwise_convolutions_are_those_of_the_spread_filter(tensorflow, padding):
    x, filter = floats(1, (2, 9, 11, 3)), floats(2, (3, 2, 3, 2))
    spread = np.zeros((5, 4, 3, 2), np.float32)
    spread[::2, ::3] = filter
    given = {"strides": [1, 1, 1, 1], "padding": padding}
    (expected,) = tensorflow("DepthwiseConv2dNative", [x, spread], given)
    found = run_here("DepthwiseConv2dNative", [x, filter], {**given, "dilations": [1, 2, 3, 1]})
    # Sums of 6 products up to 9 in magnitude.
    np.testing.assert_allclose(found, expected, rtol=0, atol=6 * 9 * np.finfo(np.float32).eps)


def test_a_transposed_convolution_with_dilation_is_the_gradient_of_the_convolution():
    filter, grad = floats(1, (3, 2, 3, 4)), floats(2, (2, 8, 7, 4))
    given = {"strides": [1, 1, 1, 1], "padding": "SAME", "dilations": [1, 2, 3, 1]}
    found = run_here("Conv2DBackpropInput", [i32(2, 8, 7, 3), filter, grad], given, known=(0,))
    x = torch.zeros(2, 8, 7, 3, requires_grad=True)
    module, _ = operation("Conv2D", Case([x.detach().numpy(), filter], given))
    module(x, torch.from_numpy(filter)).backward(torch.from_numpy(grad))
    # Sums of 3 * 2 * 4 products up to 9 in magnitude.
    np.testing.assert_allclose(found, x.grad, rtol=0, atol=24 * 9 * np.finfo(np.float32).eps)


# ---- numbers of few bits -------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, -1, 0])
def test_fake_quantization_is_what_integers_would_hold(axis):
    x = floats(1, (3, 4), -3, 3)
    count = 1 if axis is None else x.shape[axis]
    scale = floats(2, (count,), 0.01, 0.03)
    zero = integers(3, (count,), -9, 9)
    given = {
        "scale": scale.tolist(),
        "zero_point": zero.tolist(),
        "axis": axis or 0,
        "dtype": "int8",
    }
    found = run_here("FakeQuantize", [x], {**given, "axis": -1 if axis is None else axis})
    shape = (1, -1) if axis == -1 else (-1, 1)
    scale, zero = scale.reshape(shape), zero.reshape(shape)
    steps = x / scale
    rounded = np.trunc(steps) + np.where(abs(steps - np.trunc(steps)) >= 0.5, np.sign(steps), 0)
    expected = (np.clip(rounded + zero, -128, 127) - zero).astype(np.float32) * scale
    np.testing.assert_array_equal(found, expected)


def test_fake_quantizations_gradient_passes_inside_the_range_and_moves_its_ends(tensorflow):
    x, grad = floats(1, (64,), -8, 8), floats(2, (64,))
    low, high = scalar(-2.5, np.float32), scalar(3.25, np.float32)
    expected = tensorflow("FakeQuantWithMinMaxVarsGradient", [grad, x, low, high], {})
    module, _ = operation("FakeQuantWithMinMaxVars", Case([x, low, high]))
    ends = [torch.tensor(one, requires_grad=True) for one in (x, low, high)]
    module(*ends).backward(torch.from_numpy(grad))
    for one, other in zip(ends, expected, strict=True):
        # The ends' are sums of 64 numbers up to 3.
        np.testing.assert_allclose(one.grad, other, rtol=0, atol=64 * 3 * np.finfo(np.float32).eps)


# ---- gradients -----------------------------------------------------------------------------------

GRADIENTS = [
    ("Softplus", [(5,)], {}), ("DivNoNan", [(5,), (5,)], {}), ("Mean", [(2, 3), i32(1)], {}),
    ("AvgPool", [(1, 5, 5, 1)],
     {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}),
    ("GatherV2", [(3, 2, 4), i32(1, 0, 1), i32(1)], {}),
    ("ResizeBilinear", [(1, 3, 4, 1), i32(5, 7)], {}),
    ("ResizeBicubic", [(1, 3, 4, 1), i32(5, 7)], {"align_corners": True}),
    ("Conv2D", [(1, 5, 5, 1), (3, 3, 1, 2)], {"strides": [1, 2, 2, 1], "padding": "SAME"}),
    ("Conv2DBackpropInput", [i32(1, 5, 5, 1), (3, 3, 1, 2), (1, 3, 3, 2)],
     {"strides": [1, 2, 2, 1], "padding": "SAME"}),
    ("DepthwiseConv2dNative", [(1, 5, 5, 2), (3, 3, 2, 2)],
     {"strides": [1, 2, 2, 1], "padding": "SAME"}),
    ("FusedBatchNormV3", [(2, 3, 2), (2,), (2,), (0,), (0,)], {"is_training": True}),
    ("Prelu", [(3, 4), (4,)], {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"), GRADIENTS, ids=[one[0] for one in GRADIENTS]
)
def test_gradients_are_those_of_the_function(op, inputs, attributes):
    arrays = [floats(place + 1, one, 0.5, 3, np.float64) if isinstance(one, tuple) else one
              for place, one in enumerate(inputs)]  # fmt: skip
    known = tuple(place for place, one in enumerate(inputs) if not isinstance(one, tuple))
    module, tensors = operation(op, Case(arrays, attributes, known))
    live = [one.requires_grad_() for one in tensors]
    assert torch.autograd.gradcheck(lambda *xs: listed(module(*xs))[0], live)


# ---- sizes ---------------------------------------------------------------------------------------

X = TensorRef("x")


def of_sizes(op, inputs, attributes=None, shapes=((None, None, 3),)):
    """The module of a node, some inputs of which are lists with sizes of X in them."""
    values = []
    for value in inputs:
        if isinstance(value, list):
            array = np.empty(len(value), object)
            array[:] = value
            value = array
        values.append(value)
    bound = HANDLERS[op](NodeCall("node", op, tuple(values), attributes or {}, shapes))
    return Operation(bound.function, bound.args, bound.kwargs or {})


ROWS, COLUMNS = SizeOf(X, 0), SizeOf(X, 1)
SIZED = {
    "Reshape": (lambda: of_sizes("Reshape", [X, [ROWS, COLUMNS * 3]]),
                lambda x: x.reshape(len(x), -1)),
    "Fill": (lambda: of_sizes("Fill", [[COLUMNS, 2], torch.tensor(5.0)]),
             lambda x: torch.full((x.shape[1], 2), 5.0)),
    "Slice": (lambda: of_sizes("Slice", [X, [0, 1, 0], [-1, COLUMNS - 1, 2]]),
              lambda x: x[:, 1:, :2]),
    "Range": (lambda: of_sizes("Range", [[0], [COLUMNS], [2]]),
              lambda x: torch.arange(0, x.shape[1], 2, dtype=torch.int32)),
    "Mul": (lambda: of_sizes("Mul", [X, np.array(COLUMNS, object)]),
            lambda x: x * x.shape[1]),
    "Add": (lambda: of_sizes("Add", [X, [ROWS, 1, COLUMNS]]),
            lambda x: x + torch.tensor([len(x), 1, x.shape[1]])),
    "Tile": (lambda: of_sizes("Tile", [X, [1, 2, ROWS]]), lambda x: x.repeat(1, 2, len(x))),
    "Tile of sizes": (lambda: of_sizes("Tile", [[ROWS, COLUMNS], [ROWS]]),
                      lambda x: torch.tensor(x.shape[:2], dtype=torch.int32).repeat(len(x))),
    "OneHot": (lambda: of_sizes("OneHot", [torch.tensor([1, 0]), [COLUMNS], torch.tensor(2.0),
                                           torch.tensor(0.0)]),
               lambda x: 2.0 * (torch.tensor([1, 0])[:, None] == torch.arange(x.shape[1]))),
    "Pack": (lambda: of_sizes("Pack", [np.array(ROWS, object), torch.tensor(7, dtype=torch.int32)]),
             lambda x: torch.tensor([len(x), 7], dtype=torch.int32)),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZED)
def test_sizes_are_computed_when_the_network_runs_and_in_an_exported_program(name):
    made, expected = SIZED[name]
    module = made()
    assert module.refs == [X]
    dims = ({0: torch.export.Dim("rows", max=99), 1: torch.export.Dim("columns", min=3, max=99)},)
    example = torch.from_numpy(floats(1, (4, 5, 3)))
    program = torch.export.export(module, (example,), dynamic_shapes=(dims,)).module()
    compiled = torch.compile(module, backend="eager", dynamic=True)
    for shape in [(4, 5, 3), (2, 7, 3)]:
        x = torch.from_numpy(floats(2, shape))
        for run in (module, program, compiled):
            assert torch.equal(run(x), expected(x))
    assert made().to("meta")(example.to("meta")).device.type == "meta"


IMAGE_HEIGHT, IMAGE_WIDTH = SizeOf(X, 1), SizeOf(X, 2)
WINDOWS = {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}
DOUBLE = [IMAGE_HEIGHT * 2, IMAGE_WIDTH * 2]
OF_IMAGES = {
    "MaxPool": ([X], WINDOWS),
    "AvgPool": ([X], WINDOWS),
    "Conv2D": ([X, torch.ones(3, 3, 3, 2)], WINDOWS),
    "Conv2DBackpropInput": ([[ROWS, *DOUBLE, 2], torch.ones(3, 3, 2, 3), X], WINDOWS),
    "ResizeNearestNeighbor": ([X, DOUBLE], {}),
    "ResizeBilinear": ([X, DOUBLE], {}),
    "ResizeBicubic": ([X, DOUBLE], {"align_corners": True}),
    "MirrorPad": ([X, torch.tensor([[0, 0], [2, 1], [0, 3], [0, 0]])], {"mode": "REFLECT"}),
    "SpaceToBatchND": ([X, torch.tensor([2]), np.array([[1, IMAGE_HEIGHT % 2 + 1]], object)], {}),
    "StridedSlice": ([X, torch.tensor([0, 5]), torch.tensor([0, 1]), torch.tensor([1, -2])],
                     {"begin_mask": 1, "end_mask": 1}),
}  # fmt: skip


@pytest.mark.parametrize("op", OF_IMAGES)
def test_functions_of_images_of_any_size_are_one_exported_program(op):
    inputs, attributes = OF_IMAGES[op]
    module = of_sizes(op, inputs, attributes, ((None, None, None, 3),))
    dims = {0: torch.export.Dim("n", min=2, max=9), 1: 2 * torch.export.Dim("h", min=3, max=99),
            2: torch.export.Dim("w", min=5, max=99)}  # fmt: skip
    example = torch.from_numpy(floats(1, (2, 8, 9, 3)))
    program = torch.export.export(module, (example,), dynamic_shapes=((dims,),)).module()
    x = torch.from_numpy(floats(2, (3, 12, 14, 3)))
    # Averages are divided by counts that the program computes: one more rounding.
    torch.testing.assert_close(program(x), module(x), rtol=2 * torch.finfo(x.dtype).eps, atol=0)


def test_a_cast_and_arrays_with_fractions_follow_the_module_to_another_dtype():
    bound = HANDLERS["Cast"](NodeCall("n", "Cast", (X,), {"SrcT": "int32", "DstT": "float32"}))
    cast = Operation(bound.function, bound.args, bound.kwargs)
    add = of_sizes("Add", [X, torch.tensor([0.5, 1.5])])
    ones = torch.ones(2, dtype=torch.int32)
    assert cast(ones).dtype is torch.float32
    assert cast.double()(ones).dtype is torch.float64
    assert add.half()(ones.half()).dtype is torch.float16
    assert not cast.state_dict() | add.state_dict()
    assert repr(cast) == "Operation(cast, ·, dtype=float32)"


# ---- arithmetic on sizes -------------------------------------------------------------------------

FOLDED = {}


def fold(*ops):
    def add(function):
        for op in ops:
            FOLDED[op] = st.composite(function)(op)
        return function

    return add


def few(draw, *shape, low=1, high=9, dtype=np.int32):
    return integers(draw(seeds()), shape, low, high, dtype)


@fold("Add", "AddV2", "Sub", "Mul", "FloorDiv", "FloorMod", "Div", "Maximum", "Minimum")
def _fold_arithmetic(draw, op):
    pair = [few(draw, draw(st.integers(1, 3))), few(draw)]
    return Case(pair if draw(st.booleans()) else pair[::-1])


@fold("RealDiv")
def _fold_division(draw, op):
    return Case([few(draw, 3, dtype=np.float32), scalar(4, np.float32)])


@fold("Neg", "Identity", "Size", "Rank", "ZerosLike", "OnesLike", "Shape")
def _fold_unary(draw, op):
    return Case([few(draw, *draw(shapes(most=2)))])


@fold("Floor", "Ceil")
def _fold_floor(draw, op):
    return Case([few(draw, 3, dtype=np.float32) / 4])


@fold("Cast")
def _fold_cast(draw, op):
    kinds = [(np.float32, "int32"), (np.int32, "float32"), (np.int32, "int64")]
    kind, other = draw(st.sampled_from(kinds))
    return Case([few(draw, 3, dtype=kind) / kind(1 + (other == "int32"))], {"DstT": other},
                more={"SrcT": np.dtype(kind).name})  # fmt: skip


@fold("Prod", "Sum", "Max", "Min")
def _fold_reduction(draw, op):
    shape = draw(shapes(1, 2, 1, 3))
    return Case(
        [few(draw, *shape), axes_of(draw, len(shape))], {"keep_dims": draw(st.booleans())}, (1,)
    )


@fold("StridedSlice")
def _fold_strided_slice(draw, op):
    ends = i32(draw(st.integers(-4, 3))), i32(draw(st.integers(-5, 5)))
    step = i32(draw(st.sampled_from([1, 2, -1])))
    shrinks = int(step[0]) == 1 and draw(st.booleans())
    return Case([few(draw, 4), *ends, step], {"shrink_axis_mask": int(shrinks)}, (1, 2, 3))


@fold("Slice")
def _fold_slice(draw, op):
    return Case([few(draw, 4), i32(draw(st.integers(0, 2))), i32(draw(st.sampled_from([-1, 2])))],
                known=(1, 2))  # fmt: skip


@fold("GatherV2")
def _fold_gather(draw, op):
    return Case([few(draw, 4), few(draw, 2, low=0, high=3), scalar(0)], known=(1, 2))


@fold("Pack", "ConcatV2")
def _fold_pack(draw, op):
    if op == "Pack":
        return Case([[few(draw, 2), few(draw, 2)]], {"axis": draw(st.integers(-2, 1))})
    return Case([[few(draw, 2), few(draw, 3)], scalar(0)], known=(1,))


@fold("Unpack", "Split", "SplitV")
def _fold_split(draw, op):
    x = few(draw, 4)
    if op == "Unpack":
        return Case([x], {"num": 4})
    if op == "Split":
        return Case([scalar(0), x], {"num_split": 2}, (0,))
    return Case([x, i32(1, -1, 2), scalar(0)], {"num_split": 3}, (1, 2))


@fold(
    "ExpandDims",
    "Squeeze",
    "Reshape",
    "Transpose",
    "ReverseV2",
    "Tile",
    "BroadcastTo",
    "Pad",
    "PadV2",
)
def _fold_places(draw, op):
    rest = {"ExpandDims": [scalar(1)], "Squeeze": [], "Reshape": [i32(3, -1)],
            "Transpose": [i32(1, 0)], "ReverseV2": [i32(1)], "Tile": [i32(2, 3)],
            "BroadcastTo": [i32(2, 3)],
            "Pad": [np.array([[0, 1], [2, 0]], np.int32)],
            "PadV2": [np.array([[0, 1], [2, 0]], np.int32), scalar(5)]}[op]  # fmt: skip
    return Case([few(draw, 1, 3), *rest], {"axis": [0]} if op == "Squeeze" else {}, (1, 2))


@fold("Fill")
def _fold_fill(draw, op):
    return Case([i32(2, 3), few(draw)], known=(0,))


@fold("Select", "SelectV2")
def _fold_select(draw, op):
    return Case(
        [few(draw, 3, low=0, high=1, dtype=np.bool_), few(draw, 3), few(draw, 3)], known=(0,)
    )


@fold("Range", "Greater", "Equal", "LessEqual", "Pow", "Square", "Sqrt", "Rsqrt", "Round", "Mean")
def _fold_numbers(draw, op):
    """Without sizes that are open."""
    kind = np.float32 if op in ("Sqrt", "Rsqrt", "Round") else np.int32
    if op == "Range":
        return Case([scalar(0), few(draw), scalar(2)], known=(0, 1, 2))
    if op == "Mean":
        return Case([few(draw, 4), scalar(0)], known=(0, 1))
    count = 2 if op in ("Greater", "Equal", "LessEqual", "Pow") else 1
    return Case([few(draw, 3, high=4, dtype=kind) for _ in range(count)], known=(0, 1))


def with_sizes(array, sizes):
    """Each of its numbers is the size of an axis of X."""
    found = np.empty(array.size, object)
    for place, value in enumerate(array.flatten().tolist()):
        sizes.append(value)
        found[place] = SizeOf(X, len(sizes) - 1)
    return found.reshape(array.shape)


def plain(array):
    found = np.empty(array.size, object)
    found[:] = array.flatten().tolist()
    return found.reshape(array.shape)


def without_sizes(array, sizes):
    """The numbers that formulas come to."""
    values = [evaluated(value, lambda _, axis: sizes[axis]) for value in np.asarray(array).flat]
    return np.array(values).reshape(np.shape(array))


@pytest.mark.parametrize("op", FOLDED)
def test_arithmetic_on_sizes_is_tensorflows(tensorflow, op):
    @QUICK
    @given(FOLDED[op])
    def run(case):
        sizes, inputs = [], flat_inputs(case)
        values = [plain(one) if known else with_sizes(one, sizes) for one, known in inputs]
        if sizes:  # what is known comes as tensors
            values = [torch.from_numpy(np.array(one)) if known else value
                      for value, (one, known) in zip(values, inputs, strict=True)]  # fmt: skip
        attributes = {"T": inputs[0][0].dtype.name, **case.more, **case.attributes}
        found = folded(NodeCall("node", op, tuple(values), attributes))
        assert found is not None
        expected = tensorflow(op, case.inputs, case.attributes)
        several = found if isinstance(found, tuple) else (found,)
        for one, other in zip(several, expected, strict=True):
            assert one.dtype == object
            # Numbers with fractions are rounded to float32 after each step, as TensorFlow's are.
            np.testing.assert_array_equal(without_sizes(one, sizes), other, strict=False)

    run()


@pytest.mark.parametrize("op", ["Greater", "Equal"])
def test_comparisons_of_open_sizes_are_left_to_the_running_network(op):
    call = NodeCall("node", op, (np.array([ROWS, 3], object), torch.tensor([3, 3])), {})
    assert folded(call) is None
    module = of_sizes(op, [[ROWS, 3], torch.tensor([3, 3])])
    compare = {"Greater": torch.gt, "Equal": torch.eq}[op]
    assert torch.equal(module(torch.zeros(5, 1, 1)), compare(torch.tensor([5, 3]), torch.tensor(3)))


TABLE = torch.arange(12.0)
OF_CONSTANTS = {
    "Tile": ([TABLE, [ROWS]], lambda x: TABLE.repeat(len(x))),
    "StridedSlice": ([TABLE, torch.tensor([1]), [COLUMNS], torch.tensor([2])],
                     lambda x: TABLE[1 : x.shape[1] : 2]),
    "Slice": ([TABLE, [ROWS], torch.tensor([-1])], lambda x: TABLE[len(x) :]),
    "Reshape": ([TABLE, [ROWS, -1]], lambda x: TABLE.reshape(len(x), -1)),
    "BroadcastTo": ([TABLE, [COLUMNS, 12]], lambda x: TABLE.expand(x.shape[1], 12)),
}  # fmt: skip


@pytest.mark.parametrize("op", OF_CONSTANTS)
def test_constants_that_open_sizes_cut_or_repeat_are_left_to_the_running_network(op):
    inputs, expected = OF_CONSTANTS[op]
    values = [np.array(one, object) if isinstance(one, list) else one for one in inputs]
    assert folded(NodeCall("node", op, tuple(values), {})) is None
    module, x = of_sizes(op, inputs, shapes=((12,), *[(1,)] * 3)), torch.zeros(3, 9, 1)
    assert torch.equal(module(*[x] * len(module.refs)), expected(x))


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Tile", (np.array([ROWS], object), torch.tensor([2**40]))),
        ("BroadcastTo", (np.array([ROWS], object), torch.tensor([2**40]))),
        ("Pad", (np.array([ROWS], object), torch.tensor([[0, 2**40]]))),
        ("Range", (np.array(0, object), torch.tensor(2**40), torch.tensor(1))),
        ("Range", (np.array(0, object), torch.tensor(9), torch.tensor(0))),
        ("Reshape", (np.array([ROWS], object), torch.tensor([7]))),
        ("GatherV2", (np.array([ROWS], object), torch.tensor([9]), torch.tensor(0))),
        ("FloorDiv", (np.array([3], object), torch.tensor([0]))),
        ("ConcatV2", (np.array([ROWS], object), torch.tensor([[1]]), torch.tensor(0))),
    ],
)
def test_arithmetic_on_sizes_that_makes_no_sense_is_refused(op, inputs):
    with pytest.raises(UnsupportedLayerError):
        folded(NodeCall("node", op, inputs, {}))


# ---- what is refused -----------------------------------------------------------------------------

LIVE = TensorRef("x")
BAD = [
    ("Add", (LIVE,), {}, "1 inputs"),
    ("Add", (LIVE, LIVE), {"T": "string"}, "type is 'string'"),
    ("Reshape", (LIVE, LIVE), {}, "computed from values"),
    ("Reshape", (LIVE, torch.tensor([2**40])), {}, "contains"),
    ("Reshape", (LIVE, torch.tensor([0.5])), {}, "shape is"),
    ("Fill", (torch.tensor([-5]), torch.tensor(1.0)), {}, "contains -5"),
    ("Range", (torch.tensor(0), torch.tensor(2**40), torch.tensor(1)), {}, "makes numbers"),
    ("Range", (torch.tensor(0), torch.tensor(5), torch.tensor(0)), {}, "makes numbers"),
    ("Range", (torch.tensor(0.0), torch.tensor(torch.nan), torch.tensor(1.0)), {}, "makes numbers"),
    ("Pad", (LIVE, torch.tensor([[1, -1]])), {}, "paddings"),
    ("Mean", (LIVE, torch.tensor(99)), {}, "axis is"),
    ("Conv2D", (LIVE, LIVE), {"strides": [1, 0, 1, 1], "padding": "SAME"}, "strides"),
    ("Conv2D", (LIVE, LIVE), {"strides": [2, 1, 1, 1], "padding": "SAME"}, "not of the image's"),
    ("Conv2D", (LIVE, LIVE), {"strides": [1, 1, 1, 1], "padding": "ODD"}, "padding is 'ODD'"),
    ("MaxPool", (LIVE,), {"ksize": "x", "strides": [1] * 4, "padding": "SAME"}, "ksize"),
    ("ResizeBilinear", (LIVE, torch.tensor([0, 4])), {}, "size is"),
    ("Split", (torch.tensor(0), LIVE), {"num_split": 2**30}, "num_split"),
    ("StridedSlice", (LIVE, *[torch.tensor([0])] * 2, torch.tensor([0])), {}, "step"),
    ("Cast", (LIVE,), {"DstT": "qint8"}, "qint8"),
    ("Einsum", (LIVE,), {"equation": "__import__"}, "equation"),
    ("MatrixDiagV3", (LIVE, *[torch.tensor(1)] * 3, LIVE), {}, "main diagonal"),
    ("FakeQuantize", (LIVE,), {"scale": [0.0], "zero_point": [0], "dtype": "int8"}, "scale is"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes", "message"), BAD)
def test_arguments_that_make_no_sense_are_refused_with_the_reason(op, inputs, attributes, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        HANDLERS[op](NodeCall("node", op, inputs, attributes))


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3),
    st.lists(st.integers(-3, 2**33), max_size=5), st.lists(st.text(max_size=2), max_size=3),
    st.dictionaries(st.text(max_size=1), st.none(), max_size=1), st.just((None, 3)),
)  # fmt: skip
KEYS = ["T", "axis", "keep_dims", "strides", "ksize", "padding", "dilations", "data_format", "DstT",
        "equation", "block_size", "num_split", "begin_mask", "new_axis_mask", "epsilon", "mode",
        "boundaries", "scale", "dtype", "batch_dims", "output_type"]  # fmt: skip
VALUES = st.one_of(
    st.just(LIVE),
    st.lists(st.integers(-(2**62), 2**62), max_size=4).map(torch.tensor),
    st.integers(-9, 9).map(torch.tensor),
    st.floats(allow_nan=True).map(torch.tensor),
    st.just(torch.zeros(2, 0)),
    st.lists(st.sampled_from([1, 2, ROWS, COLUMNS, ROWS // 2]), min_size=1, max_size=4).map(
        lambda values: np.array(values, object)
    ),
)


@pytest.mark.parametrize("op", HANDLERS)
def test_any_node_gives_a_function_or_a_reason(op):
    """Whatever its inputs and attributes are; its result on ``meta`` takes no memory."""

    @settings(QUICK, max_examples=5)
    @given(st.lists(VALUES, max_size=6), st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=4))
    def run(inputs, attributes):
        call = NodeCall("node", op, tuple(inputs), attributes, ())
        with contextlib.suppress(UnsupportedLayerError, ValueError):
            folded(call)
        try:
            bound = HANDLERS[op](call)
        except UnsupportedLayerError:
            return
        module = Operation(bound.function, bound.args, bound.kwargs or {}).to("meta")
        repr(module)
        try:
            result = module(*(torch.empty(2, 4, 4, 3, device="meta") for _ in module.refs))
        except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError):
            return  # the port says so of the node
        assert (
            all(one.is_meta for one in listed(result) if isinstance(one, Tensor)) or not module.refs
        )

    run()
