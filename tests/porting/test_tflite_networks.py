"""TFLite networks of a few operators: what is refused, what a caller's modules are given."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
import torch
from drawn_arrays import floats, i32, seeds
from flatbuffers import flexbuffers
from hypothesis import given
from hypothesis import strategies as st
from tflite_cases import LONG, QUICK, Case, Result, const, live, network_of, outputs_of, ported
from tflite_network import Network, Operator, Steps, Tensor
from torch import nn

from tfcompat_dw.checkpoint import CheckpointError
from tfcompat_dw.checkpoint.schemas import MESSAGES
from tfcompat_dw.porting import PortError
from tfcompat_dw.porting.model import flat


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


def chain(*operators, shape=(1, 4), dtype="float32"):
    """Operators one after another: (name, custom options) each, or a name."""
    network = Network()
    network.inputs = [network.add(Tensor(dtype, shape, name="x"))]
    last = network.inputs[0]
    for place, operator in enumerate(operators):
        name, custom = operator if isinstance(operator, tuple) else (operator, None)
        made = network.add(Tensor(dtype, shape, name=f"result_{place}"))
        network.operators.append(Operator(name, [last], [made], custom=custom))
        last = made
    network.outputs = [last]
    return network


# ---- what is refused -----------------------------------------------------------------------------


def test_all_operators_that_are_not_there_are_listed_at_once(interpreter, folder):
    steps = ["HASHTABLE_LOOKUP", "RELU", ("Mine", b""), ("Mine", b""), "HASHTABLE_LOOKUP",
             ("Mine", b""), ("Mine", b""), ("Other's", b"")]  # fmt: skip
    data, _ = interpreter(chain(*steps), None)
    with pytest.raises(PortError) as caught:
        ported(folder, data)
    assert str(caught.value).partition(": ")[2].splitlines()[:4] == [
        "the graph has operations that cannot be carried over:",
        "  - HASHTABLE_LOOKUP, 2 times: 'result_0', 'result_4'",
        "  - Mine, 4 times: 'result_2', 'result_3', 'result_5', ...",
        "  - Other's, 1 times: 'result_7'",
    ]


REFUSED = {
    "its filter is computed": Case(
        "DEPTHWISE_CONV_2D",
        [live(np.zeros((1, 4, 4, 2))), live(np.zeros((1, 3, 3, 2))), const(np.zeros(2))],
        {"padding": "SAME", "stride_h": 1, "stride_w": 1, "depth_multiplier": 1},
    ),
    "its multiplier is 3": Case(
        "DEPTHWISE_CONV_2D",
        [live(np.zeros((1, 4, 4, 2))), const(np.zeros((1, 3, 3, 2))), const(np.zeros(2))],
        {"padding": "SAME", "stride_h": 1, "stride_w": 1, "depth_multiplier": 3},
    ),
    "its matrix is shuffled": Case(
        "FULLY_CONNECTED", [live(np.zeros((1, 4))), const(np.zeros((2, 4))), None],
        {"weights_format": 1},
    ),
    "its activation is TANH": Case(
        "ADD", [live(np.zeros((1, 4))), const(np.ones(4))], {"fused_activation_function": "TANH"}
    ),
    "its options are not there": Case(
        "Convolution2DTransposeBias",
        [live(np.zeros((1, 4, 4, 2))), const(np.zeros((2, 3, 3, 2))), const(np.zeros(2))],
        custom=b"\0\0\0",
    ),
    "its options are 7, 2 and 2": Case(
        "Convolution2DTransposeBias",
        [live(np.zeros((1, 4, 4, 2))), const(np.zeros((2, 3, 3, 2))), const(np.zeros(2))],
        custom=struct.pack("<3i", 7, 2, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_an_operator_that_is_there_is_refused_with_the_reason(interpreter, folder, reason):
    case = REFUSED[reason]
    for one in case.inputs:
        if one is not None:
            one.array = one.array.astype(np.float32)
    data, _ = interpreter(network_of(case), None)
    with pytest.raises(PortError, match=rf"{case.op}, 1 times: 'tensor_\d' \(.*{reason}.*\)"):
        ported(folder, data)


# ---- the caller's modules ------------------------------------------------------------------------


class Recorded(nn.Module):
    """Keeps what it is given."""

    def __init__(self, spec, function):
        super().__init__()
        self.spec, self.function, self.given = spec, function, None

    def forward(self, *tensors):
        self.given = tensors
        return self.function(*tensors)


def recorded(function):
    """A builder, and the modules that it made."""
    made = []

    def build(spec):
        made.append(Recorded(spec, function))
        return made[-1]

    return build, made


def test_a_module_serves_each_operator_that_is_not_there(interpreter, folder):
    builtin, _ = recorded(lambda x: x + 1)
    custom, made = recorded(lambda x: x * 2)
    data, _ = interpreter(chain("HASHTABLE_LOOKUP", ("Mine", b"two"), "RELU", ("Mine", b"")), None)
    model = ported(folder, data, layers={"HASHTABLE_LOOKUP": builtin, "Mine": custom})
    x = torch.tensor([[-3.0, -1.0, 0.0, 2.0]])
    assert torch.equal(model(x), 2 * torch.relu(2 * (x + 1)))
    assert [one.spec.name for one in made] == ["result_1", "result_3"]
    assert made[0].spec.class_name == "Mine"
    assert made[0].spec.config == {"custom_options": b"two"}
    assert made[0].spec.weights == {"input_0": (None, 4)}


def test_a_module_takes_the_place_of_an_operator_that_is_there(interpreter, folder):
    """With all of its inputs, constants too, and its activation left to the module."""
    x, filter = floats(1, (1, 4, 4, 2)), floats(2, (3, 3, 3, 2))
    options = {"padding": "SAME", "stride_h": 1, "stride_w": 2, "fused_activation_function": "RELU"}
    case = Case("CONV_2D", [live(x), const(filter), const(floats(3, (3,)))], options)
    data, _ = interpreter(network_of(case), None)
    build, made = recorded(lambda x, filter, bias: x[..., :1] - 5)
    model = ported(folder, data, layers={"CONV_2D": build})
    assert torch.equal(model(torch.from_numpy(x)), torch.from_numpy(x)[..., :1] - 5)
    assert made[0].spec.config["stride_w"] == 2
    assert made[0].spec.config["fused_activation_function"] == "RELU"
    assert made[0].given[1].numpy() == pytest.approx(filter)


def test_a_module_is_given_none_where_an_operator_has_no_input(interpreter, folder):
    case = Case("FULLY_CONNECTED", [live(floats(1, (2, 4))), const(floats(2, (3, 4))), None])
    data, _ = interpreter(network_of(case), None)
    build, made = recorded(lambda x, matrix, bias: x @ matrix.T)
    (found,) = outputs_of(ported(folder, data, layers={"FULLY_CONNECTED": build}), case)
    assert made[0].given[2] is None
    assert made[0].spec.weights == {"input_0": (2, 4), "input_1": (3, 4)}
    assert found == pytest.approx(case.inputs[0].array @ case.inputs[1].array.T, rel=1e-5)


def test_a_module_may_have_several_results_which_are_rounded_like_the_original(interpreter, folder):
    steps = Steps((0.5,), (3,))
    x = live(i32(1, 2, 3, 4).astype(np.int8), steps)
    results = [Result("int8", steps), Result("int8", Steps((0.25,), (0,)))]
    data, _ = interpreter(network_of(Case("Halves", [x], results=results, custom=b"")), None)
    build, _ = recorded(lambda x: (x[:2] + 0.2, x[2:] + 0.2))
    options = {"layers": {"Halves": build}}
    values = torch.from_numpy(x.real)
    one, other = flat(ported(folder, data, **options)(values))
    assert torch.equal(torch.cat([one, other]), values + 0.2)
    one, other = flat(ported(folder, data, **options, simulate_quantization=True)(values))
    assert torch.equal(one, values[:2])
    assert torch.equal(other, values[2:] + 0.25)


# ---- operators of MediaPipe's --------------------------------------------------------------------


def transposed(x, filter, bias, stride, same):
    """``mediapipe/util/tflite/operations/transpose_conv_bias.cc``, in plain loops of float64."""
    (n, rows, columns, _), (out, *taps, _) = x.shape, filter.shape
    cut = [
        max(0, k - (size - 1) % step - 1) if same else 0
        for size, k, step in zip((rows, columns), taps, stride, strict=True)
    ]
    height, width = (
        step * (size - 1) + k - end
        for size, k, step, end in zip((rows, columns), taps, stride, cut, strict=True)
    )
    result = np.zeros((n, height, width, out)) + bias.astype(np.float64)
    for row, column, down, right in np.ndindex(rows, columns, *taps):
        y = row * stride[0] - cut[0] // 2 + down
        across = column * stride[1] - cut[1] // 2 + right
        if 0 <= y < height and 0 <= across < width:
            result[:, y, across] += x[:, row, column].astype(np.float64) @ filter[:, down, right].T
    return result


def transposed_cases(draw):
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    taps = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    channels, out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x = floats(draw(seeds()), (draw(st.integers(1, 2)), *size, channels))
    filter = floats(draw(seeds()), (out, *taps, channels))
    return x, filter, floats(draw(seeds()), (out,)), stride, draw(st.booleans())


def test_mediapipes_transposed_convolution_computes_what_plain_loops_compute(interpreter, folder):
    @QUICK
    @given(st.composite(transposed_cases)())
    def run(drawn):
        x, filter, bias, stride, same = drawn
        options = struct.pack("<3i", 1 if same else 2, stride[1], stride[0])
        given = [live(x), const(filter), const(bias)]
        case = Case("Convolution2DTransposeBias", given, custom=options)
        data, _ = interpreter(network_of(case), None)
        (found,) = outputs_of(ported(folder, data), case)
        # Up to 4 * 4 taps of 3 channels, of products below 9: half a unit of sums below 512 each.
        np.testing.assert_allclose(found, transposed(*drawn), rtol=0, atol=48 * 2**-15)

    run()


# ---- the end of object detectors -----------------------------------------------------------------


def detection_cases(draw):
    count, classes = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    most, each = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    boxes = floats(draw(seeds()), (1, count, draw(st.sampled_from([4, 6]))))
    scores = floats(draw(seeds()), (1, count, classes + draw(st.integers(0, 1))), 0, 1)
    anchors = floats(draw(seeds()), (count, 4), 0.2, 0.8)
    options = {
        "max_detections": most, "max_classes_per_detection": each, "num_classes": classes,
        "nms_score_threshold": draw(st.sampled_from([0.0, 0.3, 2.0])),
        "nms_iou_threshold": draw(st.sampled_from([0.05, 0.3, 1.0])),
        "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
    }  # fmt: skip
    if draw(st.booleans()):
        options["use_regular_nms"] = draw(st.booleans())
    if draw(st.booleans()):
        options["detections_per_class"] = draw(st.integers(1, 4))
    if options.get("use_regular_nms"):
        options["max_classes_per_detection"] = 1
    given = [live(boxes), live(scores), const(anchors)]
    results = [Result("float32")] * 4
    return Case("TFLite_Detection_PostProcess", given, options, results, flexbuffers.Dumps(options))


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.full)])
def test_the_detections_are_those_of_the_interpreter(interpreter, folder, long):
    """What lies behind them, the interpreter leaves as it was."""

    @(LONG if long else QUICK)
    @given(st.composite(detection_cases)())
    def run(case):
        data, expected = interpreter(network_of(case), [one.array for one in case.live])
        assert not isinstance(expected, str), expected
        found = outputs_of(ported(folder, data), case)
        each = case.options["max_classes_per_detection"]
        kinds = min(each, case.options["num_classes"])
        assert [one.shape for one in found] == [one.shape for one in expected]
        assert found[3].tolist() == expected[3].tolist()
        count = int(expected[3][0])
        for one, other in zip(found[:3], expected[:3], strict=True):
            rest = one.shape[2:]
            one, other = (of.reshape(-1, each, *rest)[:count, :kinds] for of in (one, other))
            np.testing.assert_allclose(one, other, rtol=4e-7, atol=4e-7)
            assert not found[2].reshape(-1, each)[count:].any()

    run()


# ---- operations of TensorFlow's: tensorflow/lite/delegates/flex ----------------------------------


def test_an_operation_of_tensorflows_is_what_it_is_in_a_graph(interpreter, folder):
    """The interpreter here has no kernels for such; TensorFlow has."""
    x = floats(1, (1, 5, 6, 2))
    data, (expected,) = interpreter("patches", [x])
    assert b"FlexExtractImagePatches" in data
    np.testing.assert_array_equal(ported(folder, data)(torch.from_numpy(x)).numpy(), expected)


def test_an_operation_of_tensorflows_that_is_not_there_is_listed(interpreter, folder):
    node = MESSAGES["NodeDef"](name=b"n", op=b"Batch", input=[b"x"])
    options = bytes(flexbuffers.Dumps(["Batch", node.SerializeToString()]))
    data, _ = interpreter(chain(("FlexBatch", options)), None)
    with pytest.raises(PortError, match="FlexBatch, 1 times"):
        ported(folder, data)


@pytest.mark.parametrize("options", [b"", b"abc", bytes(flexbuffers.Dumps(["Relu"]))])
def test_an_operation_of_tensorflows_without_its_node_is_damaged(interpreter, folder, options):
    data, _ = interpreter(chain(("FlexRelu", options)), None)
    with pytest.raises(CheckpointError, match="FlexRelu: an operation of TensorFlow's without"):
        ported(folder, data)


# ---- shapes --------------------------------------------------------------------------------------


def test_a_convolution_without_a_bias_has_none_added(interpreter, folder):
    """TFLite's kernels want one; files of other writers have none."""
    x, filter = floats(1, (2, 5, 5, 2)), floats(2, (3, 3, 3, 2))
    options = {"padding": "SAME", "stride_h": 1, "stride_w": 1}
    zeros = const(np.zeros(3, np.float32))
    without = [[live(x), const(filter)], [live(x), const(filter), None]]
    _, (expected,) = interpreter(network_of(Case("CONV_2D", [*without[0], zeros], options)), [x])
    for inputs in without:
        case = Case("CONV_2D", inputs, options)
        data, _ = interpreter(network_of(case), None)
        # 18 products below 9: half a unit of sums below 256 each.
        assert np.abs(outputs_of(ported(folder, data), case)[0] - expected).max() < 18 * 2**-16


def test_the_shape_of_an_input_may_be_an_output(interpreter, folder):
    network = chain("RELU", shape=(3, 4))
    shape = network.add(Tensor("int32", (2,)))
    network.operators.append(Operator("SHAPE", [0], [shape], {"out_type": "int32"}))
    network.outputs.append(2)
    data, (_, shape) = interpreter(network, [floats(1, (3, 4))])
    assert flat(ported(folder, data)(torch.zeros(3, 4)))[1].tolist() == shape.tolist() == [3, 4]


def enlarging(shape):
    """A transposed convolution whose size is computed from the input's, as converters write it."""
    network = Network()

    def constant(array):
        return network.add(Tensor(array.dtype.name, array.shape, array.tobytes()))

    def add(op, inputs, dtype="int32", **options):
        made = network.add(Tensor(dtype))
        network.operators.append(Operator(op, inputs, [made], options))
        return made

    x = network.add(Tensor("float32", shape, name="x", open_shape=(-1, -1, -1, shape[3])))
    sizes = add("SHAPE", [x], out_type="int32")
    ends = [[constant(i32(place)) for place in (axis, axis + 1, 1)] for axis in range(3)]
    each = [add("STRIDED_SLICE", [sizes, *three], shrink_axis_mask=1) for three in ends]
    large = [add("MUL", [one, constant(np.array(2, np.int32))]) for one in each[1:]]
    size = add("PACK", [each[0], *large, constant(np.array(3, np.int32))], axis=0, values_count=4)
    filter = constant(floats(1, (3, 3, 3, shape[3])))
    given = {"padding": "SAME", "stride_h": 2, "stride_w": 2}
    network.inputs = [x]
    network.outputs = [add("TRANSPOSE_CONV", [size, filter, x], "float32", **given)]
    return network


def test_a_size_that_is_computed_from_an_open_one_stays_open(interpreter, folder):
    data, _ = interpreter(enlarging((1, 2, 2, 2)), None)
    model = ported(folder, data)
    assert model.inputs[0].shape == (None, None, None, 2)
    assert [type(one).__name__ for one in model.children()] == ["Conv2DTranspose"]
    for shape in [(1, 2, 2, 2), (2, 5, 4, 2)]:
        x = floats(2, shape)
        _, (expected,) = interpreter(enlarging(shape), [x])
        # 4 taps of 2 channels, of products below 9.
        assert np.abs(model(torch.from_numpy(x)).detach().numpy() - expected).max() < 8 * 2**-17


def test_a_squeezed_batch_of_one_stays_squeezed(interpreter, folder):
    case = Case("SQUEEZE", [live(floats(1, (1, 1, 4)))], {"squeeze_dims": []})
    data, (expected,) = interpreter(network_of(case), [case.inputs[0].array])
    model = ported(folder, data)
    assert outputs_of(model, case)[0].shape == expected.shape == (4,)
    assert model.inputs[0].shape == (1, 1, 4)
    assert re.search("squeeze", repr(model))
