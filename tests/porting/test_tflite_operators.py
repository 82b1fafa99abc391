"""TFLite's operators one by one: what the port computes is what the TFLite interpreter computes.

The interpreter runs without XNNPACK: XNNPACK's arithmetic differs from that of the kernels which
define the operators (``tensorflow/lite/kernels``).  Quantized operators: test_tflite_quantized.py.
"""

from __future__ import annotations

import numpy as np
import pytest
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
from hypothesis import assume, given
from hypothesis import strategies as st
from tflite_cases import (
    LONG,
    QUICK,
    Case,
    Given,
    Result,
    const,
    live,
    network_of,
    outputs_of,
    ported,
    sparse,
    state,
)

from tfcompat_dw.porting.tflite import LOWERINGS, SAME_MEANING


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("operators")


def check(interpreter, folder, case, ulps, absolute, all_constant=False):
    """The results agree, and their types and shapes are the same."""
    data, expected = interpreter(network_of(case), [one.array for one in case.live])
    if isinstance(expected, str):
        pytest.fail(f"{case}: TFLite says {expected}")
    if all_constant:
        for one in case.live:
            one.is_constant = True
        data, _ = interpreter(network_of(case), None)
    found = outputs_of(ported(folder, data), case)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        agree(one, other, ulps, absolute)


def agree(one, other, ulps, absolute):
    if other.dtype.kind in "biu" or not (ulps or absolute):
        np.testing.assert_array_equal(one, other)
        return
    eps = np.finfo(other.dtype).eps
    np.testing.assert_allclose(one, other, rtol=ulps * eps, atol=absolute * eps)


CASES = {}
"""A strategy by the operator's name (and what is special), and how much may differ."""


def case(*ops, ulps=0, absolute=0, name=None):
    """``ulps`` are of each number, ``absolute`` of 1."""

    def add(function):
        for op in ops:
            key = f"{op}{'-' + name if name else ''}"
            CASES[key] = st.composite(function)(op), ulps, absolute
        return function

    return add


def given_as(draw, *arrays):
    """Operands of which at least one is live."""
    lives = [draw(st.booleans()) for _ in arrays]
    lives[draw(st.integers(0, len(arrays) - 1))] = True
    return [Given(one, not is_live) for one, is_live in zip(arrays, lives, strict=True)]


def fused(draw, *kinds):
    return {"fused_activation_function": draw(st.sampled_from(kinds or ACTIVATIONS))}


ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")

# ---- elementwise ---------------------------------------------------------------------------------

# Both sides compute with polynomials of their own that are right to a few units in the last place;
# near a zero of sin, log and the like the error is of the argument's size, hence `absolute`.
for _op, _low, _high, _kinds, _ulps in [
    ("ABS", -3, 3, "fi", 0), ("CEIL", -3, 3, "f", 0), ("COS", -9, 9, "f", 4),
    ("ELU", -5, 5, "f", 8),
    ("EXP", -9, 9, "f", 4), ("FLOOR", -3, 3, "f", 0), ("LOG", 0.01, 3, "f", 4),
    ("LOGICAL_NOT", 0, 1, "b", 0), ("LOGISTIC", -9, 9, "f", 8), ("NEG", -3, 3, "fil", 0),
    ("RELU", -3, 3, "f", 0), ("RELU6", -9, 9, "f", 0), ("RELU_N1_TO_1", -3, 3, "f", 0),
    ("RELU_0_TO_1", -3, 3, "f", 0), ("ROUND", -3, 3, "f", 0), ("RSQRT", 0.01, 3, "f", 4),
    ("SIGN", -3, 3, "fi", 0), ("SIN", -9, 9, "f", 4), ("SQRT", 0.01, 3, "f", 1),
    ("SQUARE", -3, 3, "f", 0), ("TANH", -5, 5, "f", 8), ("ZEROS_LIKE", -3, 3, "fil", 0),
    ("HARD_SWISH", -5, 5, "f", 4),
]:  # fmt: skip

    def _unary(draw, op, low=_low, high=_high, kinds=_kinds):
        return Case(op, [live(numbers(draw, draw(shapes()), kinds, low, high))])

    case(_op, ulps=_ulps, absolute=_ulps and 4)(_unary)

for _op, _low, _high, _kinds, _ulps in [
    ("MAXIMUM", -3, 3, "fil", 0), ("MINIMUM", -3, 3, "fil", 0), ("POW", 0.1, 2, "f", 16),
    ("SQUARED_DIFFERENCE", -3, 3, "fi", 0), ("FLOOR_DIV", 1, 3, "fi", 0),
    ("FLOOR_MOD", 1, 3, "fil", 4),
]:  # fmt: skip

    def _binary(draw, op, low=_low, high=_high, kinds=_kinds):
        return Case(op, given_as(draw, *broadcast_pair(draw, kinds, low, high)))

    case(_op, ulps=_ulps, absolute=_ulps and 4)(_binary)


@case("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
def _comparison(draw, op):
    kinds = "filb" if op in ("EQUAL", "NOT_EQUAL") else "fil"
    pair = broadcast_pair(draw, kinds, -1, 1)
    return Case(op, given_as(draw, *pair), results=[Result("bool")])


@case("LOGICAL_AND", "LOGICAL_OR")
def _logical(draw, op):
    return Case(op, given_as(draw, *broadcast_pair(draw, "b")))


@case("ADD", "SUB", "MUL", "DIV", ulps=1)
def _arithmetic(draw, op):
    kinds, low = ("fi", 0.4) if op == "DIV" else ("fil", -3)
    return Case(op, given_as(draw, *broadcast_pair(draw, kinds, low, 3)), fused(draw))


@case("DIV", "FLOOR_DIV", "FLOOR_MOD", name="of negative integers")
def _negative_division(draw, op):
    shape = draw(shapes())
    x, y = (integers(draw(seeds()), shape) for _ in range(2))
    return Case(op, given_as(draw, x, np.where(y == 0, 5, y).astype(np.int32)))


@case("POW", name="of integers")
def _power(draw, op):
    shape = draw(shapes())
    x, y = integers(draw(seeds()), shape, -3, 3), integers(draw(seeds()), shape, 0, 4)
    return Case(op, given_as(draw, x, y))


@case("ATAN2", ulps=8)
def _atan2(draw, op):
    """TFLite's reads past the end of an operand that is to be broadcast."""
    shape = draw(shapes())
    return Case(op, given_as(draw, floats(draw(seeds()), shape), floats(draw(seeds()), shape)))


@case("ROUND", name="of halves")
def _halves(draw, op):
    return Case(op, [live(integers(draw(seeds()), draw(shapes())).astype(np.float32) / 2)])


@case("PRELU")
def _prelu(draw, op):
    shape = draw(shapes(4, 4))
    cut = shape[draw(st.integers(1, 3)) :]
    slopes = tuple(1 if draw(st.booleans()) else size for size in cut)
    return Case(op, [live(floats(draw(seeds()), shape)), const(floats(draw(seeds()), slopes))])


@case("LEAKY_RELU")
def _leaky_relu(draw, op):
    alpha = draw(st.sampled_from([0.0, 0.25, 0.5]))
    return Case(op, [live(numbers(draw, draw(shapes()), "f"))], {"alpha": alpha})


# erf is a polynomial of each side's own, and near zero and far below it what is left of a sum that
# cancels; the tanh form has a product of three numbers in it.
@case("GELU", ulps=16, absolute=4)
def _gelu(draw, op):
    given = [live(floats(draw(seeds()), draw(shapes()), -4, 4))]
    return Case(op, given, {"approximate": draw(st.booleans())})


@case("SOFTMAX", ulps=16, absolute=16)
def _softmax(draw, op):
    beta = draw(st.sampled_from([1.0, 0.5, 2.0]))
    return Case(op, [live(floats(draw(seeds()), draw(shapes(1))))], {"beta": beta})


@case("LOG_SOFTMAX", ulps=16, absolute=16)
def _log_softmax(draw, op):
    return Case(op, [live(floats(draw(seeds()), draw(shapes(1))))])


@case("L2_NORMALIZATION", ulps=8)
def _l2_normalization(draw, op):
    x = floats(draw(seeds()), draw(shapes(1)))
    if draw(st.booleans()):
        x[0] = 0
    return Case(op, [live(x)], {"fused_activation_function": "NONE"})


@case("LOCAL_RESPONSE_NORMALIZATION", ulps=32)
def _local_response_normalization(draw, op):
    x = floats(draw(seeds()), draw(shapes(4, 4, 1, 6)))
    options = {
        "radius": draw(st.integers(0, 7)),
        "bias": draw(st.sampled_from([1.0, 2.0])),
        "alpha": draw(st.sampled_from([1.0, 0.25])),
        "beta": draw(st.sampled_from([0.5, 0.75, 1.0])),
    }
    return Case(op, [live(x)], options)


@case("FAKE_QUANT", absolute=4)
def _fake_quant(draw, op):
    low, high = draw(st.sampled_from([(-1.0, 1.0), (-0.3, 2.0), (0.0, 6.0), (-2.0, 0.0)]))
    options = {
        "min": low, "max": high, "num_bits": draw(st.sampled_from([8, 16, 4]))
    }  # fmt: skip
    return Case(op, [live(floats(draw(seeds()), draw(shapes(1))))], options)


@case("CAST")
def _cast(draw, op):
    x = numbers(draw, draw(shapes()), "filb", -9, 9)
    kind = draw(st.sampled_from(["float32", "int32", "int64", "bool", "uint8", "int16", "int8"]))
    x = abs(x) if kind == "uint8" and x.dtype.kind == "f" else x
    options = {"in_data_type": x.dtype.name, "out_data_type": kind}
    return Case(op, [live(x)], options, [Result(kind)])


@case("DEQUANTIZE")
def _dequantize(draw, op):
    x = floats(draw(seeds()), draw(shapes()), dtype=np.float16)
    return Case(op, [live(x)], results=[Result("float32")])


@case("ADD", name="of a constant in half precision")
def _half_constant(draw, op):
    shape = draw(shapes())
    half = Given(floats(draw(seeds()), shape, dtype=np.float16), True, through=("DEQUANTIZE",))
    return Case(op, [live(floats(draw(seeds()), shape)), half])


@case("ADD_N", ulps=1)
def _add_n(draw, op):
    shape, kind = draw(shapes()), draw(st.sampled_from("fi"))
    arrays = [numbers(draw, shape, kind) for _ in range(draw(st.integers(2, 4)))]
    return Case(op, given_as(draw, *arrays))


@case("SELECT")
def _select(draw, op):
    shape = draw(shapes(1, low=2))  # of one number TFLite makes one without axes
    rows = shape[:1] if draw(st.booleans()) else shape
    choice, kind = integers(draw(seeds()), rows, 0, 1, np.bool_), draw(st.sampled_from("filb"))
    x, y = (numbers(draw, shape, kind) for _ in range(2))
    return Case(op, given_as(draw, choice, x, y), results=[Result(x.dtype.name)])


@case("SELECT_V2")
def _select_v2(draw, op):
    x, y = broadcast_pair(draw, "filb")
    shape = np.broadcast_shapes(x.shape, y.shape)
    choice = integers(draw(seeds()), shape[draw(st.integers(0, len(shape))) :], 0, 1, np.bool_)
    assume(np.prod(shape) > 1)  # of one number TFLite makes one without axes
    return Case(op, given_as(draw, choice, x, y), results=[Result(x.dtype.name)])


@case("WHERE")
def _where(draw, op):
    x = numbers(draw, draw(shapes(1)), "b")
    x.flat[0] = True  # Python gets no tensor of nothing out of the interpreter
    return Case(op, [live(x)], results=[Result("int64")])


@case("DENSIFY", absolute=2**6, name="of a matrix")
def _densify(draw, op):
    """Rows or columns first, in blocks or not, of three types."""
    units, columns = 2 * draw(st.integers(1, 3)), 4 * draw(st.integers(1, 3))
    kind = draw(st.sampled_from([np.float32, np.float16]))
    matrix = floats(draw(seeds()), (units, columns), dtype=kind)
    matrix *= (
        integers(draw(seeds()), (units, columns // 4, 1), 0, 1).repeat(4, 2).reshape(units, columns)
    )
    matrix[0, 0] = 1
    blocks = draw(st.sampled_from([{}, {1: 4}, {0: 2, 1: 2}]))
    order = draw(st.permutations([0, 1])) + list(range(2, 2 + len(blocks)))
    first = draw(st.booleans())
    given = Given(matrix, True, through=("DEQUANTIZE",) if kind == np.float16 else ())
    x = live(floats(draw(seeds()), (2, columns)))
    matrix = sparse(given, order, [first, False] + [True] * len(blocks), blocks)
    return Case("FULLY_CONNECTED", [x, matrix, None])


@case("BITWISE_XOR", "RIGHT_SHIFT")
def _bits(draw, op):
    shape, kind = draw(shapes()), draw(st.sampled_from([np.int32, np.int16, np.int8]))
    low, high = (0, 6) if op == "RIGHT_SHIFT" else (-9, 9)
    x, y = (
        integers(draw(seeds()), shape, dtype=kind),
        integers(draw(seeds()), shape, low, high, kind),
    )
    return Case(op, given_as(draw, x, y))


@case("BUCKETIZE")
def _bucketize(draw, op):
    limits = sorted({float(n) for n in draw(st.lists(st.integers(-5, 5), min_size=1, max_size=4))})
    x = integers(draw(seeds()), draw(shapes())).astype(draw(st.sampled_from("fil")))
    return Case(op, [live(x)], {"boundaries": limits}, [Result("int32")])


# ---- convolutions and products -------------------------------------------------------------------

# A sum of up to 4 * 3 * 3 products of numbers below 3: each of its roundings is at most half a unit
# of a partial sum below 324, which is 2**8 units of 1 and some.
SUM = 2**9


def windows(draw):
    return {
        "padding": draw(st.sampled_from(["SAME", "VALID"])),
        "stride_h": draw(st.integers(1, 3)),
        "stride_w": draw(st.integers(1, 3)),
    }


def dilated(draw, options):
    gaps = {
        "dilation_h_factor": draw(st.integers(1, 2)),
        "dilation_w_factor": draw(st.integers(1, 2)),
    }
    return options | gaps


def bias(draw, channels):
    return Given(floats(draw(seeds()), (channels,)), draw(st.booleans()))


@case("CONV_2D", absolute=SUM)
def _conv_2d(draw, op):
    n, c, out, groups = (draw(st.integers(1, 3)) for _ in range(4))
    x = floats(draw(seeds()), (n, *draw(shapes(2, 2, 5, 8)), c * groups))
    filter = floats(draw(seeds()), (out * groups, *draw(shapes(2, 2, 1, 3)), c))
    options = dilated(draw, windows(draw)) | fused(draw)
    is_live = groups == 1 and draw(st.booleans())
    return Case(op, [live(x), Given(filter, not is_live), bias(draw, out * groups)], options)


@case("DEPTHWISE_CONV_2D", absolute=SUM)
def _depthwise_conv_2d(draw, op):
    n, c, multiplier = (draw(st.integers(1, 3)) for _ in range(3))
    x = floats(draw(seeds()), (n, *draw(shapes(2, 2, 5, 8)), c))
    filter = floats(draw(seeds()), (1, *draw(shapes(2, 2, 1, 3)), c * multiplier))
    options = dilated(draw, windows(draw)) | fused(draw)
    options["depth_multiplier"] = multiplier
    return Case(op, [live(x), const(filter), bias(draw, c * multiplier)], options)


def input_sizes(options, sizes, kernel):
    """Of an image that a transposed convolution makes one of ``sizes`` of."""
    strides = [options[f"stride_{axis}"] for axis in "dhw" if f"stride_{axis}" in options]
    if options["padding"] == "SAME":
        return [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    return [(n - k) // s + 1 for n, k, s in zip(sizes, kernel, strides, strict=True)]


@case("TRANSPOSE_CONV", absolute=SUM)
def _transpose_conv(draw, op):
    n, c, out = (draw(st.integers(1, 3)) for _ in range(3))
    sizes, kernel, options = draw(shapes(2, 2, 4, 9)), draw(shapes(2, 2, 1, 4)), windows(draw)
    x = floats(draw(seeds()), (n, *input_sizes(options, sizes, kernel), c))
    filter = floats(draw(seeds()), (out, *kernel, c))
    given = [const(i32(n, *sizes, out)), const(filter), live(x), bias(draw, out)]
    given = given[: 3 + draw(st.booleans())]
    return Case(op, given, options | fused(draw), [Result("float32")])


def deep(draw):
    options = windows(draw) | {"stride_d": draw(st.integers(1, 2))}
    return options | {f"dilation_{axis}_factor": draw(st.integers(1, 2)) for axis in "dhw"}


@case("CONV_3D", absolute=SUM)
def _conv_3d(draw, op):
    n, c, out = (draw(st.integers(1, 3)) for _ in range(3))
    x = floats(draw(seeds()), (n, *draw(shapes(3, 3, 3, 5)), c))
    filter = floats(draw(seeds()), (*draw(shapes(3, 3, 1, 2)), c, out))
    given = [live(x), const(filter), bias(draw, out)]
    return Case(op, given[: 2 + draw(st.booleans())], deep(draw) | fused(draw))


@case("CONV_3D_TRANSPOSE", absolute=SUM)
def _conv_3d_transpose(draw, op):
    n, c, out = (draw(st.integers(1, 2)) for _ in range(3))
    sizes, kernel, options = draw(shapes(3, 3, 3, 6)), draw(shapes(3, 3, 1, 3)), windows(draw)
    options["stride_d"] = draw(st.integers(1, 2))
    x = floats(draw(seeds()), (n, *input_sizes(options, sizes, kernel), c))
    filter = floats(draw(seeds()), (*kernel, out, c))
    given = [const(i32(n, *sizes, out)), const(filter), live(x), bias(draw, out)]
    given = given[: 3 + draw(st.booleans())]
    # The fast kernel leaves a tap out where it pads the first axis.
    return Case(op, given, options, [Result("float32")], is_plain=True)


@case("FULLY_CONNECTED", absolute=SUM)
def _fully_connected(draw, op):
    columns, units = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    x = floats(draw(seeds()), (*draw(shapes(1, 3)), columns))
    matrix = Given(floats(draw(seeds()), (units, columns)), draw(st.booleans()))
    options = fused(draw) | {"keep_num_dims": draw(st.booleans())}
    return Case(op, [live(x), matrix, bias(draw, units) if draw(st.booleans()) else None], options)


@case("FULLY_CONNECTED", name="of rows that are joined", absolute=SUM)
def _fully_connected_joined(draw, op):
    """The input's axes are flattened into rows as long as the matrix'."""
    n, columns, units = (draw(st.integers(1, 4)) for _ in range(3))
    x = floats(
        draw(seeds()), draw(st.sampled_from([(n, columns, 2), (n, 2, columns), (2, n, columns)]))
    )
    matrix = floats(draw(seeds()), (units, 2 * columns))
    x = x if x.size % (2 * columns) == 0 else x[:2]
    return Case(op, [live(x), const(matrix), bias(draw, units)], fused(draw))


@case("BATCH_MATMUL", absolute=SUM)
def _batch_matmul(draw, op):
    rows, inner, columns = (draw(st.integers(1, 4)) for _ in range(3))
    batch = draw(shapes(0, 2, 1, 3))
    turned = {"adj_x": draw(st.booleans()), "adj_y": draw(st.booleans())}
    # The kernel reads past the end of a second operand that is broadcast beside a turned first one.
    broadcasts = not turned["adj_x"] and draw(st.booleans())
    other = tuple(1 if broadcasts and draw(st.booleans()) else size for size in batch)
    a = floats(draw(seeds()), (*batch, *((inner, rows) if turned["adj_x"] else (rows, inner))))
    b = floats(
        draw(seeds()), (*other, *((columns, inner) if turned["adj_y"] else (inner, columns)))
    )
    return Case(op, given_as(draw, a, b), turned)


# ---- from step to step ---------------------------------------------------------------------------

# Up to 8 products below 1 in each of 5 steps, whose errors the next ones take over.
STEPS = 2**8


@case("UNIDIRECTIONAL_SEQUENCE_LSTM", absolute=STEPS)
def _lstm(draw, op):
    n, steps, columns, units = (draw(st.integers(1, 4)) for _ in range(4))
    inputs = [const(floats(draw(seeds()), (units, columns), -1, 1)) for _ in range(4)]
    hidden = [const(floats(draw(seeds()), (units, units), -1, 1)) for _ in range(4)]
    biases = [const(floats(draw(seeds()), (units,), -1, 1)) for _ in range(4)]
    if draw(st.booleans()):  # what is not forgotten is taken in
        inputs[0] = hidden[0] = biases[0] = None
    options = {
        "time_major": draw(st.booleans()), "cell_clip": draw(st.sampled_from([0.0, 10.0, 0.25])),
        "fused_activation_function": draw(st.sampled_from(["TANH", "RELU", "RELU6"])),
    }  # fmt: skip
    shape = (steps, n, columns) if options["time_major"] else (n, steps, columns)
    given = [live(floats(draw(seeds()), shape, -1, 1)), *inputs, *hidden, None, None, None, *biases]
    states = [state(n, units), state(n, units)]
    return Case(op, [*given, None, None, *states, *[None] * (4 * draw(st.booleans()))], options)


@case("UNIDIRECTIONAL_SEQUENCE_RNN", absolute=STEPS)
def _rnn(draw, op):
    n, steps, columns, units = (draw(st.integers(1, 4)) for _ in range(4))
    options = {
        "time_major": draw(st.booleans()),
        "fused_activation_function": draw(st.sampled_from(["TANH", "RELU", "RELU6", "NONE"])),
    }
    shape = (steps, n, columns) if options["time_major"] else (n, steps, columns)
    weights = [floats(draw(seeds()), of, -0.5, 0.5) for of in ((units, columns), (units, units))]
    given = [live(floats(draw(seeds()), shape, -1, 1)), *map(const, weights)]
    return Case(op, [*given, const(floats(draw(seeds()), (units,))), state(n, units)], options)


# ---- pools and images ----------------------------------------------------------------------------


@case("AVERAGE_POOL_2D", ulps=4, absolute=8)
@case("MAX_POOL_2D")
@case("L2_POOL_2D", ulps=8)
def _pool(draw, op):
    x = floats(draw(seeds()), (draw(st.integers(1, 2)), *draw(shapes(2, 2, 4, 8)), 3))
    sizes = {"filter_height": draw(st.integers(1, 4)), "filter_width": draw(st.integers(1, 4))}
    return Case(op, [live(x)], windows(draw) | sizes | fused(draw))


# A place among 7 is computed with three roundings of at most 2 * eps each, on both sides and for
# two axes; neighbours differ by at most 6.
@case("RESIZE_BILINEAR", absolute=2 * 2 * 3 * 2 * 6)
@case("RESIZE_NEAREST_NEIGHBOR")
def _resize(draw, op):
    x = floats(draw(seeds()), (draw(st.integers(1, 2)), *draw(shapes(2, 2, 1, 7)), 2))
    rule = draw(st.sampled_from(["", "align_corners", "half_pixel_centers"]))
    size = const(i32(*draw(shapes(2, 2, 1, 12))))
    return Case(op, [live(x), size], {rule: True} if rule else {})


@case("SPACE_TO_DEPTH")
def _space_to_depth(draw, op):
    block, (n, h, w, c) = draw(st.integers(1, 3)), draw(shapes(4, 4, 1, 3))
    x = floats(draw(seeds()), (n, h * block, w * block, c))
    return Case(op, [live(x)], {"block_size": block})


@case("DEPTH_TO_SPACE")
def _depth_to_space(draw, op):
    block, (n, h, w, c) = draw(st.integers(1, 3)), draw(shapes(4, 4, 1, 3))
    x = floats(draw(seeds()), (n, h, w, c * block * block))
    return Case(op, [live(x)], {"block_size": block})


@case("MIRROR_PAD")
def _mirror_pad(draw, op):
    shape, mode = draw(shapes(1, 4, 2, 4)), draw(st.sampled_from(["REFLECT", "SYMMETRIC"]))
    most = [size - (mode == "REFLECT") for size in shape]
    pads = [[draw(st.integers(0, end)) for _ in range(2)] for end in most]
    kind = draw(st.sampled_from([np.int32, np.int64]))
    return Case(
        op, [live(floats(draw(seeds()), shape)), const(np.array(pads, kind))], {"mode": mode}
    )


@case("SPACE_TO_BATCH_ND")
def _space_to_batch(draw, op):
    rank = draw(st.integers(1, 2))
    block = draw(shapes(rank, rank, 1, 3))
    inner = draw(shapes(rank, rank, 1, 3))
    pads = [[draw(st.integers(0, one - 1)), 0] for one in block]
    sizes = [n * one - pair[0] for n, one, pair in zip(inner, block, pads, strict=True)]
    x = floats(draw(seeds()), (2, *sizes, 3))
    return Case(op, [live(x), const(i32(*block)), const(np.array(pads, np.int32))])


@case("BATCH_TO_SPACE_ND")
def _batch_to_space(draw, op):
    rank = draw(st.integers(1, 2))
    block, inner = draw(shapes(rank, rank, 1, 3)), draw(shapes(rank, rank, 1, 3))
    crops = [[draw(st.integers(0, max(0, n * b - 1) // 2)) for _ in range(2)]
             for n, b in zip(inner, block, strict=True)]  # fmt: skip
    x = floats(draw(seeds()), (2 * int(np.prod(block)), *inner, 3))
    return Case(op, [live(x), const(i32(*block)), const(np.array(crops, np.int32))])


# ---- reductions ----------------------------------------------------------------------------------


# A sum of up to 4**4 numbers of both signs: its error is n * eps of the largest partial sum.
@case("MEAN", "SUM", ulps=64, absolute=64)
@case("REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL")
@case("REDUCE_PROD", ulps=64)
def _reduction(draw, op):
    shape = draw(shapes(1))
    x = numbers(draw, shape, "b" if op in ("REDUCE_ANY", "REDUCE_ALL") else "fil")
    axes = axes_of(draw, len(shape)).astype(np.int32)
    return Case(op, [live(x), const(axes)], {"keep_dims": draw(st.booleans())})


@case("ARG_MAX", "ARG_MIN")
def _arg_max(draw, op):
    shape = draw(shapes(1))
    x = numbers(draw, shape, "fib") if draw(st.booleans()) else integers(draw(seeds()), shape, 0, 2)
    x = x.astype(np.uint8) if draw(st.booleans()) and x.dtype.kind == "i" and x.min() >= 0 else x
    axis = const(scalar(draw(st.integers(-len(shape), len(shape) - 1))))
    kind = draw(st.sampled_from(["int32", "int64"]))
    return Case(op, [live(x), axis], {"output_type": kind}, [Result(kind)])


@case("CUMSUM", ulps=16, absolute=16)
def _cumsum(draw, op):
    shape = draw(shapes(1))
    axis = const(scalar(draw(st.integers(-len(shape), len(shape) - 1))))
    options = {"exclusive": draw(st.booleans()), "reverse": draw(st.booleans())}
    return Case(op, [live(numbers(draw, shape, "fil")), axis], options)


@case("TOPK_V2")
def _top_k(draw, op):
    shape = draw(shapes(1))
    x = numbers(draw, shape, "fil") if draw(st.booleans()) else integers(draw(seeds()), shape, 0, 2)
    k = const(scalar(draw(st.integers(1, shape[-1]))))
    return Case(op, [live(x), k], results=[Result(x.dtype.name), Result("int32")])


# ---- arranging -----------------------------------------------------------------------------------


@case("RESHAPE")
def _reshape(draw, op):
    shape = draw(shapes(0, 3))
    x = numbers(draw, shape, "filb")
    flat = draw(st.permutations([*shape, 1]))
    if draw(st.booleans()):
        flat[draw(st.integers(0, len(flat) - 1))] = -1
    if draw(st.booleans()):
        return Case(op, [live(x)], {"new_shape": flat})
    return Case(op, [live(x), const(np.array(flat, np.int32))], {"new_shape": []})


@case("SQUEEZE")
def _squeeze(draw, op):
    shape = [draw(st.sampled_from([1, 1, 2])) for _ in range(draw(st.integers(1, 4)))]
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    dims = sorted(draw(st.sets(st.sampled_from(ones)))) if ones else []
    dims = [axis - len(shape) if draw(st.booleans()) else axis for axis in dims]
    return Case(op, [live(numbers(draw, shape, "fil"))], {"squeeze_dims": dims})


@case("EXPAND_DIMS")
def _expand_dims(draw, op):
    shape = draw(shapes())
    axis = const(scalar(draw(st.integers(-len(shape) - 1, len(shape)))))
    return Case(op, [live(numbers(draw, shape)), axis])


@case("TRANSPOSE")
def _transpose(draw, op):
    shape = draw(shapes(1, 5))
    order = draw(st.permutations(range(len(shape))))
    return Case(op, [live(numbers(draw, shape, "filb")), const(i32(*order))])


def ends(draw, size):
    """(begin, end, step) of an axis; what is beyond it is cut."""
    step = draw(st.sampled_from([-2, -1, 1, 2]))
    begin, end = (draw(st.integers(-size - 2, size + 2)) for _ in range(2))
    return begin, end, step


@case("STRIDED_SLICE")
def _strided_slice(draw, op):
    shape = draw(shapes(1, 4))
    taken = draw(st.integers(1, len(shape)))
    each = [ends(draw, size) for size in shape[:taken]]
    masks = {f"{key}_mask": draw(st.integers(0, 2**taken - 1)) for key in ("begin", "end")}
    shrunk = draw(st.integers(0, 2**taken - 1)) if draw(st.booleans()) else 0
    for axis in range(taken):
        if shrunk >> axis & 1:
            begin = draw(st.integers(-shape[axis], shape[axis] - 1))
            each[axis] = (begin, begin + 1 if begin != -1 else shape[axis], 1)
            masks = {key: value & ~(1 << axis) for key, value in masks.items()}
    inputs = [const(i32(*one)) for one in zip(*each, strict=True)]
    x = live(numbers(draw, shape, "filb"))
    return Case(op, [x, *inputs], masks | {"shrink_axis_mask": shrunk})


@case("STRIDED_SLICE", name="with new axes and an ellipsis")
def _strided_slice_of_any_rank(draw, op):
    shape = draw(shapes(1, 3))
    masks, each = {"new_axis": 0, "ellipsis": 0}, []
    taken = draw(st.integers(0, len(shape) - 1))  # to TFLite an ellipsis is one axis at least
    before = draw(st.integers(0, taken))
    for axis in [*range(before), None, *range(len(shape) - taken + before, len(shape))]:
        if axis is None:
            masks["ellipsis"] |= 1 << len(each)
            each.append((0, 0, 1))
            continue
        if len(each) < 4 and len(shape) < 4 and draw(st.integers(0, 3)) == 0:
            masks["new_axis"] |= 1 << len(each)
            each.append((0, 0, 1))
        each.append(ends(draw, shape[axis]))
    inputs = [const(i32(*one)) for one in zip(*each, strict=True)]
    options = {f"{key}_mask": value for key, value in masks.items()}
    return Case(op, [live(floats(draw(seeds()), shape)), *inputs], options)


@case("STRIDED_SLICE", name="whose ends count from its beginnings")
def _strided_slice_of_counts(draw, op):
    shape = draw(shapes(1, 4, 2, 5))
    begins = [draw(st.integers(-size, size - 1)) for size in shape]
    counts = [draw(st.integers(1, -begin if begin < 0 else size - begin))
              for size, begin in zip(shape, begins, strict=True)]  # fmt: skip
    inputs = [const(i32(*one)) for one in (begins, counts, [1] * len(shape))]
    return Case(op, [live(floats(draw(seeds()), shape)), *inputs], {"offset": True})


@case("SLICE")
def _slice(draw, op):
    shape, kind = draw(shapes(1)), draw(st.sampled_from([np.int32, np.int64]))
    begin = [draw(st.integers(0, size - 1)) for size in shape]
    size = [draw(st.sampled_from([-1, draw(st.integers(1, n - first))]))
            for n, first in zip(shape, begin, strict=True)]  # fmt: skip
    return Case(op, [live(numbers(draw, shape, "filb")), const(np.array(begin, kind)),
                     const(np.array(size, kind))])  # fmt: skip


@case("CONCATENATION")
def _concatenation(draw, op):
    shape, kind = list(draw(shapes(1))), draw(st.sampled_from("fil"))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        shape[axis] = draw(st.integers(1, 3))
        parts.append(numbers(draw, shape, kind))
    return Case(op, given_as(draw, *parts), {"axis": axis} | fused(draw, "NONE"))


@case("PACK")
def _pack(draw, op):
    shape, kind = draw(shapes(0, 3)), draw(st.sampled_from("fil"))
    parts = [numbers(draw, shape, kind) for _ in range(draw(st.integers(1, 3)))]
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return Case(op, given_as(draw, *parts), {"axis": axis, "values_count": len(parts)})


@case("UNPACK")
def _unpack(draw, op):
    shape = draw(shapes(1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    x, count = numbers(draw, shape, "fib"), shape[axis]
    return Case(op, [live(x)], {"axis": axis, "num": count}, [Result(x.dtype.name)] * count)


@case("SPLIT")
def _split(draw, op):
    shape, count = list(draw(shapes(1))), draw(st.integers(1, 3))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] *= count
    x = numbers(draw, shape, "fi")
    return Case(op, [const(scalar(axis)), live(x)], {"num_splits": count},
                [Result(x.dtype.name)] * count)  # fmt: skip


@case("SPLIT_V")
def _split_v(draw, op):
    shape, sizes = list(draw(shapes(1))), list(draw(shapes(1, 3)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    shape[axis] = sum(sizes)
    if draw(st.booleans()):
        sizes[draw(st.integers(0, len(sizes) - 1))] = -1
    x = numbers(draw, shape, "fil")
    return Case(op, [live(x), const(i32(*sizes)), const(scalar(axis))], {"num_splits": len(sizes)},
                [Result(x.dtype.name)] * len(sizes))  # fmt: skip


@case("GATHER")
def _gather(draw, op):
    shape = draw(shapes(1))
    batch_dims = draw(st.integers(0, len(shape) - 1))
    axis = draw(st.integers(batch_dims, len(shape) - 1))
    inner = draw(shapes(0, 2))
    kind = draw(st.sampled_from([np.int32, np.int64]))
    places = integers(draw(seeds()), (*shape[:batch_dims], *inner), 0, shape[axis] - 1, kind)
    axis -= len(shape) * draw(st.booleans()) * (batch_dims == 0)
    x = numbers(draw, shape, "filb")
    return Case(op, given_as(draw, x, places), {"axis": axis, "batch_dims": batch_dims})


@case("GATHER_ND")
def _gather_nd(draw, op):
    shape = draw(shapes(1))
    depth = draw(st.integers(1, len(shape)))
    outer = draw(shapes(0, 2))
    places = np.stack([integers(draw(seeds()), outer, 0, n - 1) for n in shape[:depth]], -1)
    return Case(op, given_as(draw, numbers(draw, shape, "fil"), places))


@case("SCATTER_ND", ulps=4, absolute=4)
def _scatter_nd(draw, op):
    shape = draw(shapes(1))
    depth = draw(st.integers(1, len(shape)))
    outer = draw(shapes(1, 2))
    places = np.stack([integers(draw(seeds()), outer, 0, n - 1) for n in shape[:depth]], -1)
    updates = numbers(draw, (*outer, *shape[depth:]), "fil")
    given = [*given_as(draw, places, updates), const(i32(*shape))]
    return Case(op, given, results=[Result(updates.dtype.name)])


@case("SPARSE_TO_DENSE")
def _sparse_to_dense(draw, op):
    shape = draw(shapes(1, 3))
    flat = sorted(draw(st.sets(st.integers(0, int(np.prod(shape)) - 1), min_size=1, max_size=5)))
    places = np.stack(np.unravel_index(flat, shape), -1).astype(np.int32)
    places = places[:, 0] if len(shape) == 1 and draw(st.booleans()) else places
    kind = draw(st.sampled_from([np.float32, np.int32, np.int64]))
    values = integers(draw(seeds()), (len(flat),), dtype=kind)
    values = values[0] if len(flat) == 1 and draw(st.booleans()) else values
    given = [const(places), const(i32(*shape)), live(values), const(scalar(-1, kind))]
    return Case(op, given, results=[Result(np.dtype(kind).name)])


@case("DYNAMIC_UPDATE_SLICE")
def _update_slice(draw, op):
    shape = draw(shapes(1))
    x = numbers(draw, shape, "fil")
    part = numbers(draw, [draw(st.integers(1, size)) for size in shape], "f").astype(x.dtype)
    begin = i32(*(draw(st.integers(-2, size)) for size in shape))
    return Case(op, [live(x), live(part), Given(begin, draw(st.booleans()))])


@case("SEGMENT_SUM", ulps=4, absolute=4)
def _segment_sum(draw, op):
    x = numbers(draw, draw(shapes(1)), "fi")
    begins = integers(draw(seeds()), x.shape[:1], 0, 1)
    return Case(op, [live(x), live(np.cumsum(begins, dtype=np.int32) - begins[0])])


@case("UNSORTED_SEGMENT_SUM", "UNSORTED_SEGMENT_PROD", ulps=4, absolute=4)
@case("UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_MIN")
def _segments(draw, op):
    x = numbers(draw, draw(shapes(1)), "fi")
    rank = draw(st.integers(1, x.ndim))
    segments = integers(draw(seeds()), x.shape[:rank], -1, 3)
    return Case(op, [live(x), Given(segments, draw(st.booleans())), const(scalar(4))])


@case("UNIQUE")
def _unique(draw, op):
    kind = draw(st.sampled_from(["int32", "int64"]))
    x = integers(draw(seeds()), (draw(st.integers(1, 9)),), 0, 4)
    x = x.astype(draw(st.sampled_from([np.float32, np.int32, np.int64])))
    return Case(op, [live(x)], {"idx_out_type": kind}, [Result(x.dtype.name), Result(kind)])


@case("EMBEDDING_LOOKUP")
def _embedding_lookup(draw, op):
    table = floats(draw(seeds()), draw(shapes(2, 3)))
    rows = integers(draw(seeds()), (draw(st.integers(1, 5)),), 0, len(table) - 1)
    return Case(op, [live(rows), const(table)], results=[Result("float32")])


@case("TILE")
def _tile(draw, op):
    shape, kind = draw(shapes(1)), draw(st.sampled_from([np.int32, np.int64]))
    times = np.array([draw(st.integers(1, 3)) for _ in shape], kind)
    return Case(op, [live(numbers(draw, shape, "filb")), const(times)])


@case("BROADCAST_TO")
def _broadcast_to(draw, op):
    shape, kind = draw(shapes(1)), draw(st.sampled_from([np.int32, np.int64]))
    cut = shape[draw(st.integers(0, len(shape))) :]
    given = tuple(1 if draw(st.booleans()) else size for size in cut)
    return Case(op, [live(numbers(draw, given, "fil")), const(np.array(shape, kind))])


@case("PAD", "PADV2")
def _pad(draw, op):
    shape, kind = draw(shapes(1)), draw(st.sampled_from([np.int32, np.int64]))
    pads = np.array([[draw(st.integers(0, 2)) for _ in range(2)] for _ in shape], kind)
    x = numbers(draw, shape, "fil")
    value = [const(scalar(2, x.dtype))] if op == "PADV2" else []
    return Case(op, [live(x), const(pads), *value])


@case("REVERSE_V2")
def _reverse(draw, op):
    shape = draw(shapes(1))
    first, count = draw(st.integers(0, len(shape) - 1)), draw(st.integers(1, 2))
    axes = [axis - len(shape) * draw(st.booleans())
            for axis in range(first, min(first + count, len(shape)))]  # fmt: skip
    return Case(op, [live(numbers(draw, shape, "fil")), const(i32(*axes))])


@case("REVERSE_SEQUENCE")
def _reverse_sequence(draw, op):
    shape = draw(shapes(2, 4))
    batch, along = draw(st.permutations(range(len(shape))))[:2]
    lengths = integers(draw(seeds()), (shape[batch],), 0, shape[along])
    lengths = lengths.astype(draw(st.sampled_from([np.int32, np.int64])))
    options = {"seq_dim": along, "batch_dim": batch}
    return Case(op, [live(numbers(draw, shape, "fil")), live(lengths)], options)


@case("ONE_HOT")
def _one_hot(draw, op):
    shape, depth = draw(shapes(0, 3)), draw(st.integers(1, 4))
    indices = integers(draw(seeds()), shape, -1, depth, draw(st.sampled_from([np.int32, np.int64])))
    on, off = numbers(draw, (), "f") if draw(st.booleans()) else np.int32(7), None
    off = np.array(-2, on.dtype)
    given = [live(indices), const(scalar(depth)), const(on), const(off)]
    axis = draw(st.integers(-1, len(shape)))
    return Case(op, given, {"axis": axis}, [Result(on.dtype.name)])


@case("MATRIX_DIAG")
def _matrix_diag(draw, op):
    return Case(op, [live(numbers(draw, draw(shapes(1, 3)), "fil"))])


@case("MATRIX_SET_DIAG")
def _matrix_set_diag(draw, op):
    shape = draw(shapes(2, 3))
    x = numbers(draw, shape, "fi")
    diagonal = integers(draw(seeds()), (*shape[:-2], min(shape[-2:])), dtype=x.dtype)
    return Case(op, given_as(draw, x, diagonal))


# ---- made tensors --------------------------------------------------------------------------------


@case("SHAPE")
def _shape(draw, op):
    kind = draw(st.sampled_from(["int32", "int64"]))
    return Case(op, [live(numbers(draw, draw(shapes(1))))], {"out_type": kind}, [Result(kind)])


@case("RANK")
def _rank(draw, op):
    return Case(op, [live(numbers(draw, draw(shapes())))], results=[Result("int32")])


@case("FILL")
def _fill(draw, op):
    value = numbers(draw, (), "filb")
    kind = draw(st.sampled_from([np.int32, np.int64]))
    dims = const(np.array(draw(shapes()), kind))
    return Case(op, [dims, live(value)], results=[Result(value.dtype.name)])


@case("RANGE")
def _range(draw, op):
    start, count = draw(st.integers(-5, 5)), draw(st.integers(1, 6))
    step = draw(st.sampled_from([-2, -1, 1, 2, 3]))
    kind = draw(st.sampled_from([np.int32, np.float32]))
    given = [scalar(one, kind) for one in (start, start + count * step, step)]
    return Case(op, [const(one) for one in given])


@case("BROADCAST_ARGS")
def _broadcast_args(draw, op):
    x, y = (one.shape for one in broadcast_pair(draw))
    kind = draw(st.sampled_from([np.int32, np.int64]))
    assume(x and y)
    return Case(op, [const(np.array(x, kind)), const(np.array(y, kind))])


# ---- boxes, Fourier transforms -------------------------------------------------------------------


# The scores of soft suppression are products of as many as 4 exponentials.
@case("NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", ulps=16)
def _non_max_suppression(draw, op):
    count = draw(st.integers(1, 9))
    corners = floats(draw(seeds()), (count, 2, 2), 0, 5)
    boxes = np.concatenate([corners.min(1), corners.max(1) + 0.5], -1).astype(np.float32)
    scores = floats(draw(seeds()), (count,), 0, 1)
    boxes[-1] = boxes[0] if draw(st.booleans()) else boxes[-1]
    numbers = [np.float32(draw(st.sampled_from([0.1, 0.5, 1.0]))), np.float32(0.2)]
    given = [live(boxes), live(scores), const(scalar(draw(st.integers(1, 5))))]
    given += [const(one) for one in numbers]
    results = ["int32", "int32"]
    if op.endswith("V5"):
        given.append(const(np.float32(draw(st.sampled_from([0.0, 0.5])))))
        results.insert(1, "float32")
    return Case(op, given, results=[Result(one) for one in results])


@case("RFFT2D", absolute=64)
def _rfft2d(draw, op):
    lengths = [draw(st.sampled_from([2, 4, 8])) for _ in range(2)]
    x = floats(draw(seeds()), (*draw(shapes(0, 2)), *lengths))
    return Case(op, [live(x), const(i32(*lengths))], results=[Result("complex64")])


@case("REAL", "IMAG", "COMPLEX_ABS", ulps=1)
def _of_complex(draw, op):
    shape = draw(shapes())
    x = (floats(draw(seeds()), shape) + 1j * floats(draw(seeds()), shape)).astype(np.complex64)
    return Case(op, [live(x)], results=[Result("float32")])


# ---- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", CASES)
def test_an_operator_computes_what_the_interpreter_computes(interpreter, folder, key):
    strategy, ulps, absolute = CASES[key]

    @QUICK
    @given(strategy)
    def run(case):
        check(interpreter, folder, case, ulps, absolute)

    run()


def test_every_operator_is_compared():
    tested = {key.partition("-")[0] for key in CASES}
    assert {*LOWERINGS, *SAME_MEANING} - tested == ELSEWHERE


ELSEWHERE = {"QUANTIZE"}
"""Tested in the files beside this one; and so are custom operators."""


@pytest.mark.full
@pytest.mark.parametrize("key", CASES)
def test_an_operator_computes_what_the_interpreter_computes_in_many_cases(interpreter, folder, key):
    """Also where all that it takes is constant, and computed when the network is ported."""
    strategy, ulps, absolute = CASES[key]

    @LONG
    @given(strategy, st.booleans())
    def run(case, all_constant):
        check(interpreter, folder, case, ulps, absolute, all_constant)

    run()
