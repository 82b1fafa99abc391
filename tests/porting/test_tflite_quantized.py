"""Quantized TFLite operators: the port's numbers are those that the interpreter's integers mean.

An integer ``q`` of the original stands for ``scale * (q - zero_point)``.  The original rounds each
result to the nearest integer, which is half a step away at most, and its integer arithmetic adds an
error of its own; the port computes with real numbers.  So, in steps of the result,

    abs(port / scale + zero_point - q) <= 1/2 + (what the operator's arithmetic adds)

where what the port computes beyond the integers' range is cut to it first.  With
``simulate_quantization`` the port rounds to the nearest integer itself, from which the original's
is at most ``1/2 + 1/2 +`` what its arithmetic adds: one step, as long as that is less than one.
Sums of products of 8 bits, and means, it rounds as the original does: there the integers are the
same.

The interpreter runs without XNNPACK, whose integer arithmetic is another one.
"""

from __future__ import annotations

import numpy as np
import pytest
from drawn_arrays import floats, i32, integers, scalar, seeds, shapes
from hypothesis import given
from hypothesis import strategies as st
from roundings import RARELY
from tflite_cases import (
    LONG,
    QUICK,
    Case,
    Result,
    const,
    live,
    network_of,
    outputs_of,
    packed,
    ported,
    sparse,
)
from tflite_network import Steps

from tfcompat_dw.porting.tflite_rounding import TWICE_ROUNDED

LIMITS = {name: np.iinfo(name) for name in ("int8", "uint8", "int16", "int32")}
AS_ROUNDED = (*TWICE_ROUNDED, "MEAN", "AVERAGE_POOL_2D")
"""Operators whose integers of 8 bits the port rounds as their kernels do."""
SLACK = 2**-6
"""Of a step: a float32 of 2**15 steps has 2**-9 of them for each of a few roundings."""
EXACT = -0.5
"""Nothing is rounded: the numbers are moved only."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quantized")


def check_all(interpreter, folder, strategy, extra, examples=QUICK):
    """``extra``: what the operator's own arithmetic adds to half a step."""
    counts = []

    @examples
    @given(strategy)
    def run(case):
        counts.append(check(interpreter, folder, case, extra))

    run()
    others, numbers = np.sum(counts, axis=0)
    assert others <= 1 + RARELY * numbers


def check(interpreter, folder, case, extra):
    """How many integers are others, and of how many, where the port rounds like the kernel."""
    data, expected = interpreter(network_of(case), [one.array for one in case.live])
    if isinstance(expected, str):
        pytest.fail(f"{case}: TFLite says {expected}")
    found = outputs_of(ported(folder, data), case)
    simulated = outputs_of(ported(folder, data, simulate_quantization=True), case)
    assert len(found) == len(expected)
    results = case.results or [Result("", case.inputs[0].steps)] * len(expected)
    others = numbers = 0
    for one, rounded, other, result in zip(found, simulated, expected, results, strict=True):
        assert one.shape == rounded.shape == other.shape
        if result.steps is None and other.dtype == np.float32:
            (step,) = case.inputs[0].steps.scale
            assert np.abs(one - other).max() <= SLACK * step
            np.testing.assert_array_equal(rounded, one)
            continue
        if result.steps is None:
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(rounded, other)
            continue
        assert one.dtype == rounded.dtype == np.float32
        steps = in_steps(one, other, result.steps)
        assert np.abs(steps - other).max() <= 0.5 + extra + SLACK
        steps = in_steps(rounded, other, result.steps)
        integers = np.round(steps)
        assert np.abs(steps - integers).max() <= SLACK
        assert np.abs(integers - other).max() <= np.floor(1 + extra)
        if case.op in AS_ROUNDED and other.itemsize == 1:
            others, numbers = others + (integers != other).sum(), numbers + other.size
    return others, numbers


def in_steps(values, stored, steps):
    """Real numbers as the integers' range has them."""
    (scale,), (zero,) = steps.scale, steps.zero_point
    found = values.astype(np.float64) / np.float32(scale) + zero
    return np.clip(found, LIMITS[stored.dtype.name].min, LIMITS[stored.dtype.name].max)


CASES = {}
"""A strategy by the operator's name and the integers' type, and what its arithmetic adds."""


def case(*ops, dtypes=("int8", "uint8", "int16"), extra=0.0, name=None):
    def add(function):
        for op in ops:
            for dtype in dtypes:
                key = f"{op}-{dtype}{'-' + name if name else ''}"
                CASES[key] = st.composite(function)(op, dtype), extra
        return function

    return add


# ---- integers and their steps --------------------------------------------------------------------


def zero_of(draw, dtype):
    """16 bits are symmetric."""
    if dtype == "int16":
        return 0
    return draw(st.integers(-20, 20)) + (128 if dtype == "uint8" else 0)


def steps_of(draw, dtype, amplitude):
    """Steps that numbers up to ``amplitude`` nearly fill, or overflow, the integers with."""
    room = (LIMITS[dtype].max - LIMITS[dtype].min) / 2
    scale = np.float32(amplitude / room * draw(st.sampled_from([0.7, 1.0, 2.0])))
    return Steps((float(scale),), (zero_of(draw, dtype),))


def stored(draw, shape, dtype, amplitude=3.0):
    """A live operand of numbers up to about ``amplitude``."""
    limits = LIMITS[dtype]
    array = integers(draw(seeds()), shape, limits.min, limits.max, np.dtype(dtype))
    return live(array, steps_of(draw, dtype, amplitude))


def largest(*operands):
    return [float(np.abs(one.real).max()) for one in operands]


def weights_of(draw, shape, dtype, axis=None):
    """Constants of 8 bits: with one scale, or one for each index of an axis.

    Beside uint8 they are uint8 with a zero point; else they are symmetric.
    """
    if dtype == "uint8":
        array = integers(draw(seeds()), shape, 0, 255, np.uint8)
        return const(array, Steps((float(np.float32(0.01)),), (draw(st.integers(100, 150)),)))
    array = integers(draw(seeds()), shape, -127, 127, np.int8)
    count = 1 if axis is None else shape[axis]
    scales = floats(draw(seeds()), (count,), 0.002, 0.01)
    return const(array, Steps(tuple(scales.tolist()), (0,) * count, axis or 0))


def bias_of(draw, x, weights, units):
    """In steps of the products; of 64 bits beside 16."""
    scales = tuple(float(np.float32(x.steps.scale[0]) * np.float32(w)) for w in weights.steps.scale)
    kind = np.int64 if x.array.dtype == np.int16 else np.int32
    array = integers(draw(seeds()), (units,), -3000, 3000, kind)
    return const(array, Steps(scales, (0,) * len(scales), 0))


def result_of(draw, x, weights, taps):
    """Steps for sums of so many products."""
    return Result(x.array.dtype.name, steps_of(draw, x.array.dtype.name, taps**0.5 * 1.5))


# ---- nothing is rounded --------------------------------------------------------------------------


@case("RESHAPE", extra=EXACT)
def _reshape(draw, op, dtype):
    x = stored(draw, draw(shapes(1, 3)), dtype)
    return Case(op, [x, const(i32(-1))], {"new_shape": []})


@case("CONCATENATION", extra=EXACT)
def _concatenation(draw, op, dtype):
    shape, axis = list(draw(shapes(1))), 0
    first = stored(draw, shape, dtype)
    rest = live(integers(draw(seeds()), shape, 0, 99, np.dtype(dtype)), first.steps)
    return Case(op, [first, rest], {"axis": axis, "fused_activation_function": "NONE"})


@case("SPLIT", extra=EXACT)
def _split(draw, op, dtype):
    x = stored(draw, (2, 3 * draw(st.integers(1, 3))), dtype)
    return Case(op, [const(scalar(1)), x], {"num_splits": 3}, [Result(dtype, x.steps)] * 3)


@case("UNPACK", dtypes=("int8", "uint8"), extra=EXACT)
def _unpack(draw, op, dtype):
    x = stored(draw, (2, 3), dtype)
    return Case(op, [x], {"axis": 0, "num": 2}, [Result(dtype, x.steps)] * 2)


@case("STRIDED_SLICE", extra=EXACT)
def _strided_slice(draw, op, dtype):
    x = stored(draw, draw(shapes(2, 2, 2, 5)), dtype)
    return Case(op, [x, const(i32(0, 1)), const(i32(2, -1)), const(i32(1, 1))], {"end_mask": 2})


@case("TRANSPOSE", extra=EXACT)
def _transpose(draw, op, dtype):
    return Case(op, [stored(draw, draw(shapes(2, 2)), dtype), const(i32(1, 0))])


@case("PAD", extra=EXACT)
def _pad(draw, op, dtype):
    x = stored(draw, draw(shapes(2, 2)), dtype)
    return Case(op, [x, const(np.array([[0, 2], [1, 1]], np.int32))])


@case("MAXIMUM", "MINIMUM", extra=EXACT)
def _larger(draw, op, dtype):
    shape = draw(shapes(1))
    x = stored(draw, shape, dtype)
    return Case(op, [x, live(integers(draw(seeds()), shape, 0, 99, np.dtype(dtype)), x.steps)])


@case("RESIZE_NEAREST_NEIGHBOR", extra=EXACT)
def _resize_nearest(draw, op, dtype):
    x = stored(draw, (1, *draw(shapes(2, 2, 1, 7)), 2), dtype)
    rule = draw(st.sampled_from(["align_corners", "half_pixel_centers"]))
    return Case(op, [x, const(i32(*draw(shapes(2, 2, 1, 12))))], {rule: True})


@case("GATHER", extra=EXACT)
def _gather(draw, op, dtype):
    return Case(op, [stored(draw, (3, 2), dtype), const(i32(2, 0, 1, 1))], {"axis": 0})


@case("PADV2", "SLICE", "PACK", "SPLIT_V", "SQUEEZE", dtypes=("int8", "uint8"), extra=EXACT)
def _moved(draw, op, dtype):
    x = stored(draw, (1, 3, 2), dtype)
    value = const(np.array(7, dtype), x.steps)
    more, options, count = {
        "PADV2": ([const(np.array([[0, 0], [1, 2], [0, 1]], np.int32)), value], {}, 1),
        "SLICE": ([const(i32(0, 1, 0)), const(i32(1, 2, -1))], {}, 1),
        "PACK": ([live(x.array // 2, x.steps)], {"axis": 1, "values_count": 2}, 1),
        "SPLIT_V": ([const(i32(1, -1)), const(scalar(1))], {"num_splits": 2}, 2),
        "SQUEEZE": ([], {"squeeze_dims": [0]}, 1),
    }[op]
    return Case(op, [x, *more], options, [Result(dtype, x.steps)] * count)


@case("REDUCE_MAX", "REDUCE_MIN", extra=EXACT)
def _largest(draw, op, dtype):
    x = stored(draw, draw(shapes(3, 3)), dtype)
    return Case(op, [x, const(i32(1))], {"keep_dims": draw(st.booleans())})


@case("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", dtypes=("int8", "uint8"), extra=EXACT)
def _blocks(draw, op, dtype):
    return Case(op, [stored(draw, (2, 4, 2, 4), dtype)], {"block_size": 2})


@case("SELECT_V2", dtypes=("int8", "uint8"), extra=EXACT)
def _select(draw, op, dtype):
    x = stored(draw, (2, 3), dtype)
    choice = integers(draw(seeds()), (2, 3), 0, 1, np.bool_)
    return Case(op, [live(choice), x, live(x.array // 2, x.steps)], {}, [Result(dtype, x.steps)])


@case("GREATER", "LESS_EQUAL", dtypes=("int8", "uint8"), extra=EXACT)
def _compared(draw, op, dtype):
    x = stored(draw, (2, 3), dtype)
    y = live(integers(draw(seeds()), (2, 3), 0, 99, np.dtype(dtype)), x.steps)
    return Case(op, [x, y], {}, [Result("bool")])


@case("DEQUANTIZE", extra=EXACT)
def _dequantize(draw, op, dtype):
    """Some kernels take the zero point's part off after the multiplication."""
    return Case(op, [stored(draw, draw(shapes(1)), dtype)], {}, [Result("float32")])


@case("ARG_MAX", dtypes=("int8", "uint8"), extra=EXACT)
def _arg_max(draw, op, dtype):
    x = stored(draw, draw(shapes(2, 3, 2, 5)), dtype)
    return Case(op, [x, const(scalar(-1))], {"output_type": "int32"}, [Result("int32")])


@case("TOPK_V2", dtypes=("int8", "uint8"), extra=EXACT)
def _top_k(draw, op, dtype):
    x = stored(draw, (2, 6), dtype)
    return Case(op, [x, const(scalar(3))], results=[Result(dtype, x.steps), Result("int32")])


# ---- one rounding --------------------------------------------------------------------------------

ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")


def fused(draw, *kinds):
    return {"fused_activation_function": draw(st.sampled_from(kinds or ACTIVATIONS))}


# A factor is of 31 bits and a shift: a product is rounded once before the shift and once after it.
# Of a shift by one place the first of these is a quarter of a step.
TWICE = 0.25


@case("QUANTIZE")
def _quantize(draw, op, dtype):
    x = floats(draw(seeds()), draw(shapes(1)))
    return Case(op, [live(x)], results=[Result(dtype, steps_of(draw, dtype, 3.0))])


@case("ADD", "SUB")
def _add(draw, op, dtype):
    shape = draw(shapes(1))
    x, y = stored(draw, shape, dtype), stored(draw, shape[draw(st.integers(0, 1)) :], dtype, 1.0)
    result = Result(dtype, steps_of(draw, dtype, sum(largest(x, y))))
    return Case(op, [x, y], fused(draw) | {"pot_scale_int16": False}, [result])


@case("MUL", extra=TWICE)
def _multiply(draw, op, dtype):
    shape = draw(shapes(1))
    x, y = stored(draw, shape, dtype), stored(draw, shape, dtype, 1.5)
    result = Result(dtype, steps_of(draw, dtype, float(np.prod(largest(x, y)))))
    return Case(op, [x, y], fused(draw), [result])


@case("QUANTIZE", extra=TWICE, name="again")
def _requantize(draw, op, dtype):
    x = stored(draw, draw(shapes(1)), dtype)
    return Case(op, [x], results=[Result(dtype, steps_of(draw, dtype, 3.0))])


@case("RELU", "RELU6", "LEAKY_RELU", extra=TWICE)
@case("RELU_N1_TO_1", dtypes=("int8", "uint8"), extra=TWICE)
def _relu(draw, op, dtype):
    x = stored(draw, draw(shapes(1)), dtype, 8.0)
    options = {"alpha": 0.25} if op == "LEAKY_RELU" else {}
    return Case(op, [x], options, [Result(dtype, steps_of(draw, dtype, 7.0))])


@case("PRELU", dtypes=("int8", "uint8"), extra=TWICE)
def _prelu(draw, op, dtype):
    x = stored(draw, draw(shapes(4, 4)), dtype)
    slopes = stored(draw, (1, 1, x.array.shape[3]), dtype, 0.5)
    slopes.is_constant = True
    return Case(op, [x, slopes], results=[Result(dtype, steps_of(draw, dtype, 3.0))])


def pool_options(draw):
    return {
        "padding": draw(st.sampled_from(["SAME", "VALID"])),
        "stride_h": draw(st.integers(1, 3)),
        "stride_w": draw(st.integers(1, 3)),
        "filter_height": draw(st.integers(1, 3)),
        "filter_width": draw(st.integers(1, 3)),
        **fused(draw),
    }


@case("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(draw, op, dtype):
    x = stored(draw, (1, *draw(shapes(2, 2, 3, 6)), 2), dtype)
    return Case(op, [x], pool_options(draw))


@case("LOGISTIC", "SOFTMAX", dtypes=("int8", "uint8"))
def _probabilities(draw, op, dtype):
    x = stored(draw, draw(shapes(1, 3, 1, 6)), dtype, 6.0)
    options = {"beta": draw(st.sampled_from([1.0, 0.5]))} if op == "SOFTMAX" else {}
    return Case(op, [x], options, [Result(dtype, Steps((1 / 256,), (LIMITS[dtype].min,)))])


@case("TANH", dtypes=("int8", "uint8"))
def _tanh(draw, op, dtype):
    x = stored(draw, draw(shapes(1)), dtype)
    zero = 128 if dtype == "uint8" else 0
    return Case(op, [x], results=[Result(dtype, Steps((1 / 128,), (zero,)))])


# ---- convolutions and products -------------------------------------------------------------------

# Sums of 64 bits, which integers of 16 have, are multiplied by a factor of 15 bits: it is wrong by
# 2**-15 at most, which is a step where the result has 2**15 of them.
BITS_15 = 1.0
# Sums of products of 8 bits: the factors here are below 2**-3, so that what is rounded twice is
# rounded to 2**-3 of a step first.
EIGHTH = 2**-4


def windows(draw):
    return {
        "padding": draw(st.sampled_from(["SAME", "VALID"])),
        "stride_h": draw(st.integers(1, 2)),
        "stride_w": draw(st.integers(1, 2)),
    }


def dilations(draw):
    return {f"dilation_{axis}_factor": draw(st.integers(1, 2)) for axis in "hw"}


@case("CONV_2D", dtypes=("int8", "uint8"), extra=EIGHTH)
@case("CONV_2D", dtypes=("int16",), extra=BITS_15)
def _conv_2d(draw, op, dtype):
    c, out = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    x = stored(draw, (1, *draw(shapes(2, 2, 5, 7)), c), dtype)
    axis = 0 if dtype != "uint8" and draw(st.booleans()) else None
    filter = weights_of(draw, (out, *draw(shapes(2, 2, 1, 3)), c), dtype, axis)
    result = result_of(draw, x, filter, filter.array[0].size)
    given = [x, filter, bias_of(draw, x, filter, out)]
    return Case(op, given, windows(draw) | dilations(draw) | fused(draw), [result])


@case("DEPTHWISE_CONV_2D", dtypes=("int8", "uint8"), extra=EIGHTH)
@case("DEPTHWISE_CONV_2D", dtypes=("int16",), extra=BITS_15)
def _depthwise_conv_2d(draw, op, dtype):
    c, multiplier = draw(st.integers(1, 12)), draw(st.integers(1, 2))
    x = stored(draw, (1, *draw(shapes(2, 2, 5, 7)), c), dtype)
    axis = 3 if dtype != "uint8" and draw(st.booleans()) else None
    filter = weights_of(draw, (1, *draw(shapes(2, 2, 1, 3)), c * multiplier), dtype, axis)
    result = result_of(draw, x, filter, filter.array[..., 0].size)
    options = windows(draw) | dilations(draw) | fused(draw) | {"depth_multiplier": multiplier}
    return Case(op, [x, filter, bias_of(draw, x, filter, c * multiplier)], options, [result])


@case("TRANSPOSE_CONV", dtypes=("int8", "uint8"), extra=EIGHTH)
@case("TRANSPOSE_CONV", dtypes=("int16",), extra=BITS_15)
def _transpose_conv(draw, op, dtype):
    c, out, (h, w) = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(shapes(2, 2, 2, 4))
    x = stored(draw, (1, h, w, c), dtype)
    axis = 0 if dtype != "uint8" and draw(st.booleans()) else None
    filter = weights_of(draw, (out, 3, 3, c), dtype, axis)
    result = result_of(draw, x, filter, 9 * c)
    size = const(i32(1, 2 * h - draw(st.integers(0, 1)), 2 * w, out))
    options = {"padding": "SAME", "stride_h": 2, "stride_w": 2} | fused(draw)
    given = [size, filter, x, bias_of(draw, x, filter, out)]
    return Case(op, given[: 3 + draw(st.booleans())], options, [result])


@case("FULLY_CONNECTED", dtypes=("int8", "uint8"), extra=EIGHTH)
@case("FULLY_CONNECTED", dtypes=("int16",), extra=BITS_15)
def _fully_connected(draw, op, dtype):
    columns, units = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    x = stored(draw, (*draw(shapes(1, 2)), columns), dtype)
    axis = 0 if dtype != "uint8" and draw(st.booleans()) else None
    matrix = weights_of(draw, (units, columns), dtype, axis)
    bias = bias_of(draw, x, matrix, units) if draw(st.booleans()) else None
    options = fused(draw) | {"keep_num_dims": draw(st.booleans())}
    return Case(op, [x, matrix, bias], options, [result_of(draw, x, matrix, columns)])


@case("BATCH_MATMUL", dtypes=("int8",), extra=EIGHTH)
@case("BATCH_MATMUL", dtypes=("int16",), extra=BITS_15)
def _batch_matmul(draw, op, dtype):
    rows, inner, columns = (draw(st.integers(1, 5)) for _ in range(3))
    x, y = stored(draw, (2, rows, inner), dtype), stored(draw, (2, inner, columns), dtype, 1.0)
    return Case(op, [x, y], results=[result_of(draw, x, y, inner)])


# ---- arithmetic that adds to the rounding --------------------------------------------------------


# The part of the zero point is rounded on its own where all of an image is averaged.
@case("MEAN", extra=0.5)
def _mean(draw, op, dtype):
    x = stored(draw, (*draw(shapes(3, 3)), draw(st.integers(1, 20))), dtype)
    axes = const(i32(*draw(st.sampled_from([(1, 2), (3,), (0, 1), (-1, -2)]))))
    # over x.steps no simple fraction, whose ties float32 misses
    other = steps_of(draw, dtype, 1.93)
    result = Result(dtype, draw(st.sampled_from([x.steps, other])))
    return Case(op, [x, axes], {"keep_dims": draw(st.booleans())}, [result])


@case("SUM", dtypes=("int8", "uint8", "int16"))
def _sum(draw, op, dtype):
    x = stored(draw, draw(shapes(3, 3)), dtype)
    result = Result(dtype, steps_of(draw, dtype, 5.0))
    return Case(op, [x, const(i32(draw(st.integers(-3, 2))))], {"keep_dims": True}, [result])


@case("HARD_SWISH", dtypes=("int8", "uint8"), extra=0.5)
def _hard_swish(draw, op, dtype):
    x = stored(draw, draw(shapes(1)), dtype, 5.0)
    return Case(op, [x], results=[Result(dtype, steps_of(draw, dtype, 5.0))])


@case("L2_NORMALIZATION", dtypes=("int8", "uint8"), extra=0.5)
def _l2_normalization(draw, op, dtype):
    x = stored(draw, draw(shapes(2, 4, 1, 6)), dtype)
    zero = 128 if dtype == "uint8" else 0
    return Case(op, [x], {"fused_activation_function": "NONE"},
                [Result(dtype, Steps((1 / 128,), (zero,)))])  # fmt: skip


# A place has 10 bits behind the point.  So has the number of inputs for one output, whose error is
# half of the last of them and grows with the place, which is below 12; neighbours differ by all of
# the range.
@case("RESIZE_BILINEAR", dtypes=("int8", "uint8"), extra=2 * (12 / 2 + 1) / 2**10 * 2**8)
@case("RESIZE_BILINEAR", dtypes=("int16",), extra=2 * (12 / 2 + 1) / 2**10 * 2**16)
def _resize_bilinear(draw, op, dtype):
    x = stored(draw, (1, *draw(shapes(2, 2, 1, 7)), 2), dtype)
    rule = draw(st.sampled_from(["align_corners", "half_pixel_centers"]))
    return Case(op, [x, const(i32(*draw(shapes(2, 2, 1, 12))))], {rule: True})


# TFLite's has integers of 5 bits before the point and 26 behind it, and logarithms of sums that are
# right to 2**-7 of them: a part of a step of 16/256, as it has to be.
@case("LOG_SOFTMAX", dtypes=("int8", "uint8"), extra=0.25)
def _log_softmax(draw, op, dtype):
    x = stored(draw, draw(shapes(1, 3, 1, 6)), dtype)
    return Case(op, [x], {}, [Result(dtype, Steps((16 / 256,), (LIMITS[dtype].max,)))])


@case("ABS", "SQUARED_DIFFERENCE", dtypes=("int8",), extra=TWICE)
@case("ELU", "EXP", "LOG", "GELU", "RSQRT", dtypes=("int8",))
def _tables(draw, op, dtype):
    x = stored(draw, draw(shapes(1)), dtype)
    if op in ("LOG", "RSQRT"):
        x.steps.zero_point = (-128,)
        x.array = np.maximum(x.array, -100)
    given = [x] + [stored(draw, x.array.shape, dtype)] * (op == "SQUARED_DIFFERENCE")
    amplitude = {"EXP": 20.0, "SQUARED_DIFFERENCE": 20.0}.get(op, 3.0)
    options = {"approximate": draw(st.booleans())} if op == "GELU" else {}
    return Case(op, given, options, [Result(dtype, steps_of(draw, dtype, amplitude))])


# Tables of 16 bits between whose numbers lines are drawn.  Numbers of the sigmoid's are 1/24 apart:
# a line is 1/24**2 / 8 * max(sigmoid'') = 0.7 steps of 2**-15 away, the table's rounding adds a
# quarter.  The hyperbolic tangent is twice a sigmoid.  The exponential's numbers are 10/512 apart,
# which makes 1.6 steps, and end at -10; each of the 6 exponentials in a sum is half a step wrong,
# and so is the inverse.
@case("LOGISTIC", dtypes=("int16",), extra=1.0)
@case("TANH", dtypes=("int16",), extra=2.0)
@case("SOFTMAX", dtypes=("int16",), extra=1.6 + 6 / 2 + 0.5)
def _sixteen(draw, op, dtype):
    x = stored(draw, draw(shapes(1, 3, 1, 6)), dtype, 2.0 if op == "SOFTMAX" else 6.0)
    options = {"beta": 1.0} if op == "SOFTMAX" else {}
    return Case(op, [x], options, [Result(dtype, Steps((1 / 32768,), (0,)))])


# ---- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", CASES)
def test_the_real_numbers_are_those_of_the_integers(interpreter, folder, key):
    check_all(interpreter, folder, *CASES[key])


@pytest.mark.full
@pytest.mark.parametrize("key", CASES)
def test_the_real_numbers_are_those_of_the_integers_in_many_cases(interpreter, folder, key):
    check_all(interpreter, folder, *CASES[key], LONG)


# ---- integers for weights alone ------------------------------------------------------------------


def dynamic(draw, op):
    """Live floats, constants of 8 or 4 bits: the original rounds what is live to 8 bits, too."""
    c, units = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    if op == "FULLY_CONNECTED":
        x, shape, axis = floats(draw(seeds()), (2, c)), (units, c), 0
    elif op == "CONV_2D":
        x, shape, axis = floats(draw(seeds()), (1, 5, 6, c)), (units, 3, 3, c), 0
    else:
        x, shape, axis = floats(draw(seeds()), (1, 5, 6, c)), (1, 3, 3, c), 3
    filter = weights_of(draw, shape, "int8", axis if op != "FULLY_CONNECTED" else None)
    if draw(st.booleans()) and op != "DEPTHWISE_CONV_2D":
        filter.array = np.clip(filter.array // 16, -7, 7)
        packed(filter)
    bias = const(floats(draw(seeds()), (shape[axis],)))
    options = {} if op == "FULLY_CONNECTED" else windows(draw)
    options |= {"depth_multiplier": 1} if op == "DEPTHWISE_CONV_2D" else {}
    return Case(op, [live(x), filter, bias], options, [Result("float32")])


@pytest.mark.parametrize("op", ["FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"])
def test_floats_beside_weights_of_few_bits_are_not_rounded(interpreter, folder, op):
    """The original takes the nearest of steps of ``largest / 127``, or a little more than that.

    Its zero point is rounded, too, where there is one: a step in all for each product.
    """

    @QUICK
    @given(st.composite(dynamic)(op))
    def run(case):
        x, filter, _ = case.inputs
        data, (expected,) = interpreter(network_of(case), [x.array])
        model = ported(folder, data)
        (found,) = outputs_of(model, case)
        axis = 3 if op == "DEPTHWISE_CONV_2D" else 0
        weights = np.abs(np.moveaxis(filter.real, axis, 0).reshape(filter.array.shape[axis], -1))
        step = np.abs(x.array).max() / 127
        assert np.abs(found - expected).max() <= step * weights.sum(1).max() * (1 + SLACK)
        kernel = np.sort(np.abs(filter.real).ravel())
        layer = next(
            one for one in model.parameters() if one.numel() == kernel.size and one.dim() > 1
        )
        np.testing.assert_array_equal(np.sort(layer.detach().abs().numpy().ravel()), kernel)

    run()


@pytest.mark.parametrize("op", ["FULLY_CONNECTED", "CONV_2D"])
def test_weights_of_4_bits_beside_activations_of_8(interpreter, folder, op):
    check_all(interpreter, folder, st.composite(_few_bits)(op), EIGHTH)


def _few_bits(draw, op):
    case = (_fully_connected if op == "FULLY_CONNECTED" else _conv_2d)(draw, op, "int8")
    filter = case.inputs[1]
    filter.array = np.clip(filter.array // 16, -7, 7)
    packed(filter)
    return case


@pytest.mark.parametrize("op", ["FULLY_CONNECTED"])
def test_weights_of_8_bits_without_their_zeros(interpreter, folder, op):
    check_all(interpreter, folder, st.composite(_without_zeros)(op), EIGHTH)


def _without_zeros(draw, op):
    case = _fully_connected(draw, op, "int8")
    matrix = case.inputs[1]
    matrix.array = matrix.array * integers(draw(seeds()), matrix.array.shape, 0, 1, np.int8)
    matrix.array[0, 0] = 1
    sparse(matrix, [0, 1], [True, False], {})
    return case
