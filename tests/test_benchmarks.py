"""The benchmark's arithmetic, verdicts and coordinator.  No test asserts how long a thing takes.

This file is also a module of tiny contestants, which the coordinator starts in processes of their
own.
"""

from __future__ import annotations

import io
import os
import sys
import time
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from tfcompat_dw import replace_depthwise

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS.parent / "benchmarks"))

import networks  # noqa: E402
import page  # noqa: E402
from harness import cliffs, data, report, settings, targets  # noqa: E402
from harness.cases import KERNEL_PASSES, LAYERS, ORDERS, PASSES, TINY, Case, Layer  # noqa: E402
from harness.client import Client  # noqa: E402
from harness.networks import NETWORKS  # noqa: E402
from harness.peer import CannotRun, Job, Peer  # noqa: E402
from harness.race import Measurement, Plan, race  # noqa: E402
from harness.results import Results  # noqa: E402
from harness.roofline import Rates, multiply_adds, work  # noqa: E402
from harness.settings import FUNCTION, KERNEL, OURS, PEERS, Setting  # noqa: E402
from harness.worker import first_line  # noqa: E402

QUICK = Plan(rounds=4, warm_up_seconds=0.0, turn_seconds=0.004, pause_seconds=0.0)
POINTWISE = Case(Layer.parse("2x3k1"), 2)


# ---- layers ----


@pytest.mark.parametrize("text", ["14x512 k3", "28x240 k5", "56x40x144 k5 s2", "9x4 k2 s3 d2 m8"])
def test_a_layer_is_written_as_it_is_read(text: str) -> None:
    assert Layer.parse(text).name == text


@pytest.mark.parametrize("text", ["14", "14x512q3", "0x4", "4x8k0", ""])
def test_what_is_no_layer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="layer"):
        Layer.parse(text)


def test_padding_is_that_of_the_package() -> None:
    from tfcompat_dw.padding import same_padding

    for size in range(1, 12):
        for kernel in range(1, 8):
            for stride, dilation in ((1, 1), (2, 1), (3, 1), (1, 2), (1, 4)):
                layer = Layer(size, size, 1, kernel, stride, dilation)
                assert layer.padding == 2 * same_padding(size, kernel, stride, dilation)


# ---- roofline ----


@pytest.mark.parametrize(
    ("layer", "along_one_axis"),
    [
        ("3x1", 2 + 3 + 2),  # the border misses one tap on either side
        ("4x1s2", 3 + 2),  # padding is 0 before and 1 after
        ("5x1d4", 2 + 1 + 1 + 1 + 2),  # outer taps meet the image from the corners only
        ("4x1k1", 4),
        ("2x1k5", 2 + 2),
        ("7x1k2s3", 2 + 2 + 1),
    ],
)
def test_taps_in_the_padding_are_no_work(layer: str, along_one_axis: int) -> None:
    assert multiply_adds(Case(Layer.parse(layer), 1)) == along_one_axis**2
    assert multiply_adds(Case(replace(Layer.parse(layer), channels=5, multiplier=2), 3)) == (
        3 * 5 * 2 * along_one_axis**2
    )


@pytest.mark.parametrize(
    ("pass_", "elements", "flops"),
    [
        ("forward", 32 + 36 + 32, 400),
        ("backward_input", 32 + 36 + 32, 400),
        ("backward_filter", 32 + 32 + 36, 400),
        ("backward", 2 * 32 + 32 + 2 * 36, 800),
    ],
)
def test_bytes_and_flops_of_a_case_worked_by_hand(pass_: str, elements: int, flops: int) -> None:
    # x [2, 4, 4, 1], w [3, 3, 1, 4], y [2, 2, 2, 4]; 5 * 5 taps meet each image, two flops each
    case = Case(Layer.parse("4x1s2m4"), 2, "float32", 1, pass_)
    assert work(case).moved == 4 * elements
    assert work(case).flops == flops
    assert work(replace(case, dtype="bfloat16")).moved == 2 * elements


def test_the_floor_is_the_larger_of_moving_and_computing() -> None:
    case = Case(Layer.parse("3x1"), 1)  # 27 elements, 98 flops
    moving = Rates(1, ((16, 10.0), (1000, 10.0)), 1e6)
    assert work(case).floor(moving) == pytest.approx(108 / 10)
    assert work(case).memory_bound(moving)
    computing = Rates(1, ((16, 1e6), (1000, 1e6)), 7.0)
    assert work(case).floor(computing) == pytest.approx(98 / 7)
    assert not work(case).memory_bound(computing)


def test_copy_rates_are_those_of_the_size() -> None:
    rates = Rates(1, ((100, 10.0), (10_000, 20.0)), 1.0)
    assert [rates.copy_rate(size) for size in (1, 100, 1000, 10_000, 10**9)] == pytest.approx(
        [10, 10, 15, 20, 20]
    )
    better = rates.faster(Rates(1, ((100, 9.0), (10_000, 30.0)), 2.0))
    assert better == Rates(1, ((100, 10.0), (10_000, 30.0)), 2.0)


def test_autograd_has_no_roofline() -> None:
    with pytest.raises(ValueError, match="training"):
        work(Case(TINY, 1, pass_="training"))


# ---- what counts as right ----


def test_operands_have_exact_sums_however_long() -> None:
    for case in (Case(Layer.parse("9x8m2"), 2), Case(Layer.parse("700x1k1"), 5)):
        operands = data.make_operands(case)
        largest = np.abs(operands.input).max() * np.abs(operands.grad).max()
        assert largest >= 1
        assert largest * np.prod(case.output_shape[:3]) < 2**24
        assert np.array_equal(operands.input, np.round(operands.input))


def test_a_float32_result_must_equal_the_reference() -> None:
    expected = {"output": np.full((2, 2, 2, 3), 3, np.float32)}
    result = {"output": expected["output"].copy()}
    assert data.fault(POINTWISE, result, expected) is None
    result["output"][1, 1, 1, 1] = np.nextafter(np.float32(3), np.float32(4))
    assert "1 of 24 elements differ" in str(data.fault(POINTWISE, result, expected))
    assert "shape" in str(data.fault(POINTWISE, {"output": result["output"][:1]}, expected))
    result["output"][0] = np.nan
    assert "12 elements are not finite" in str(data.fault(POINTWISE, result, expected))
    assert data.fault(POINTWISE, {}, expected) == "no output"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_16_bit_result_may_be_rounded_and_no_more(dtype: str) -> None:
    case = Case(Layer.parse("30x8"), 2, dtype)
    generator = np.random.default_rng(1)
    true = np.round(generator.normal(0, 12, case.output_shape)).astype(np.float32) * 7
    narrow = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16)
    rounded = true.astype(narrow).astype(np.float32)
    assert data.fault(case, {"output": rounded}, {"output": true}) is None
    assert "an error of" in str(data.fault(case, {"output": rounded * 1.05}, {"output": true}))
    rounded[1, 7, 7, 3] += 60 * data.tolerance(case, "output") * 84  # in a thousand of about 84
    assert "one element is off" in str(data.fault(case, {"output": rounded}, {"output": true}))


def test_no_16_bit_tolerance_is_larger_than_five_percent() -> None:
    case = Case(LAYERS[0], 32, "bfloat16", pass_="backward")
    assert data.tolerance(case, "filter_gradient") == data.LARGEST_ERROR
    assert data.tolerance(replace(case, dtype="float32"), "filter_gradient") == 0


# ---- tiny contestants, in processes of their own ----


class Multiplier(Peer):
    """Right for filters of 1x1.  Writes down when it was awake."""

    def __init__(self, threads: int) -> None:
        self.version = f"{threads} threads"

    def output(self, x: data.Array, f: data.Array) -> data.Array:
        result: data.Array = x * f[0, 0, :, 0]
        return result

    def prepare(self, case: Case, operands: data.Operands) -> Job:
        def call() -> data.Array:
            start = time.monotonic_ns()
            result = self.output(operands.input, operands.filter)
            time.sleep(0.001)
            if "AWAKE" in os.environ:
                with open(os.environ["AWAKE"], "a") as log:
                    log.write(f"{os.getpid()} {start} {time.monotonic_ns()}\n")
            return result

        return Job(call, lambda value: {"output": value})


class OffByOne(Multiplier):
    """Wrong in one pixel."""

    def output(self, x: data.Array, f: data.Array) -> data.Array:
        result = super().output(x, f)
        result[0, 1, 0, 2] += 1
        return result


class WrongLater(Multiplier):
    """Right until it has been looked at."""

    factor = 1.0

    def output(self, x: data.Array, f: data.Array) -> data.Array:
        result: data.Array = super().output(x, f) * np.float32(self.factor)
        return result

    def prepare(self, case: Case, operands: data.Operands) -> Job:
        job = super().prepare(case, operands)

        def results(value: data.Array) -> dict[str, data.Array]:
            self.factor = 2.0
            return job.results(value)

        return Job(job.call, results)


class Unwilling(Multiplier):
    """Has no kernel for it."""

    def prepare(self, case: Case, operands: data.Operands) -> Job:
        raise CannotRun("not on Tuesdays")


class Dying(Multiplier):
    """Takes its process with it."""

    def output(self, x: data.Array, f: data.Array) -> data.Array:
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)


class NotInstalled(Multiplier):
    """An import that fails."""

    def __init__(self, threads: int) -> None:
        raise ImportError("no module named 'tomorrow'")


def tiny(peer: type[Peer], **environment: str) -> Setting:
    environment["PYTHONPATH"] = str(TESTS)
    return Setting(peer.__name__, peer.__name__, "test_benchmarks", peer.__name__, environment)


def raced(tmp_path: Path, case: Case, *chosen: Setting) -> list[Measurement]:
    clients = [Client(setting, threads=1) for setting in chosen]
    try:
        return race(clients, case, tmp_path, QUICK)
    finally:
        for client in clients:
            client.close()


def test_one_contestant_is_awake_at_a_time_and_they_take_turns(tmp_path: Path) -> None:
    log = tmp_path / "awake"
    one, other = raced(tmp_path, POINTWISE, *[tiny(Multiplier, AWAKE=str(log))] * 2)
    assert len(one.turns) == len(other.turns) == QUICK.rounds
    assert one.reason is None
    assert other.reason is None
    calls = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    calls.sort(key=lambda call: call[1])
    assert all(before[2] <= after[1] for before, after in pairwise(calls))
    turns = [process for process, _ in groupby(process for process, _, _ in calls)]
    assert turns == turns[:2] * (1 + QUICK.rounds)  # the first is to warm up


def test_what_is_wrong_or_fails_has_a_reason_and_no_time(tmp_path: Path) -> None:
    reasons = {
        OffByOne: "wrong output: 1 of 24 elements differ, by up to 1",
        WrongLater: "wrong output: ",
        Unwilling: "not on Tuesdays",
        Dying: "its process ended: last words",
        NotInstalled: "ImportError: no module named 'tomorrow'",
    }
    *failed, fine = raced(tmp_path, POINTWISE, *map(tiny, (*reasons, Multiplier)))
    for measurement, reason in zip(failed, reasons.values(), strict=True):
        assert measurement.reason is not None
        assert measurement.reason.startswith(reason)
        assert measurement.seconds is None
    assert fine.reason is None
    assert fine.seconds is not None


def test_a_reason_is_what_an_error_says_after_its_traceback() -> None:
    text = 'Graph execution error:\n\nDetected at (most recent call last):\n  File "a.py", line 1\n'
    assert first_line(ValueError(text + "\nonly supported for NHWC\n\t [[node]]")) == (
        "only supported for NHWC"
    )
    assert first_line(ValueError()) == "no message"


def test_a_process_that_died_is_started_again_for_the_next_case(tmp_path: Path) -> None:
    client = Client(tiny(Dying), threads=1)
    for _ in range(2):
        assert race([client], POINTWISE, tmp_path, QUICK)[0].reason == (
            "its process ended: last words"
        )


def test_ours_and_torch_have_right_results_in_every_pass_and_order(tmp_path: Path) -> None:
    chosen = [s for s in (OURS, FUNCTION, *PEERS) if s.module.endswith(("_ours", "_torch"))]
    clients = [Client(setting, threads=1) for setting in chosen]
    plan = replace(QUICK, rounds=1, turn_seconds=0.0)
    layers = [Layer.parse("8x3s2"), Layer.parse("6x9x4k2m3"), Layer.parse("9x5d2")]
    cases = [Case(layer, 2, pass_=p, order=o) for layer in layers for p in PASSES for o in ORDERS]
    cases += [Case(layers[0], 2, d, pass_=p) for d in ("bfloat16", "float16") for p in PASSES]
    allowed = {
        "its memory order is NHWC",
        "timed for calls of the forward pass and of training only",
    }
    try:
        for case in cases:
            for measurement in race(clients, case, tmp_path, plan):
                assert measurement.reason is None or measurement.reason in allowed, measurement
                assert measurement.setting != OURS.name or measurement.reason is None
    finally:
        for client in clients:
            client.close()


# ---- verdicts ----


MACHINE = {"processor": "A [fast] one", "cpus": 1, "caches": [], "system": "", "load_before": 0}
FLAT = Rates(1, ((1, 1e9), (10, 1e9)), 1e12)


def results_of(*rows: tuple[Case, dict[str, float | str]]) -> Results:
    """Times in seconds, or reasons."""
    results = Results(dict(MACHINE), rates={1: FLAT, 2: replace(FLAT, threads=2)})
    for case, times in rows:
        for setting, time_ in times.items():
            is_time = not isinstance(time_, str)
            measured = ((float(time_),) * 3, None) if is_time else ((), str(time_))
            results.add([Measurement(setting, case, *measured)])
    return results


FAST, SLOW = Case(LAYERS[0], 8), Case(LAYERS[4], 8)


def lines(results: Results, about: str) -> list[str]:
    return [str(v) for v in targets.verdicts(results) if about in v.text]


def test_a_target_is_met_by_mean_and_worst_layer() -> None:
    results = results_of(
        (FAST, {"ours": 1.0, "torch_contiguous": 9.0, "tflite": 4.0}),
        (SLOW, {"ours": 2.0, "torch_contiguous": 3.0, "tensorflow_eigen": 0.1}),
    )
    (line,) = lines(results, "fastest peer")  # the mean of 4 and 1.5; Eigen is not in this one
    assert line.startswith("MET    forward float32 NHWC, 1 thread: ")
    assert "geomean 2.45x (target 2x), worst 1.50x (target 1x) on 14x512 k3 batch 8" in line
    assert "against torch contiguous; 2 cases" in line
    assert line.endswith("; without ONNX Runtime, TF oneDNN, torch channels_last")


@pytest.mark.parametrize(("fast", "slow"), [(2.0, 1.9), (9.0, 0.99)])
def test_a_target_is_missed_by_the_mean_or_by_one_layer(fast: float, slow: float) -> None:
    results = results_of(
        (FAST, {"ours": 1.0, "tflite": fast}), (SLOW, {"ours": 1.0, "tflite": slow})
    )
    assert lines(results, "fastest peer")[0].startswith("MISSED")


def test_a_layer_on_which_we_have_no_time_misses_the_target() -> None:
    results = results_of(
        (FAST, {"ours": 1.0, "tflite": 9.0}), (SLOW, {"ours": "wrong output: all", "tflite": 1.0})
    )
    (line,) = lines(results, "fastest peer")
    assert line.startswith("MISSED")
    assert line.endswith("no time for 1 of 2; 14x512 k3 batch 8: wrong output: all")


def test_the_share_of_the_roofline_is_that_of_the_kernel_and_of_large_layers() -> None:
    floor = work(FAST).floor(FLAT)
    small = Case(TINY, 2)
    assert work(small).floor(FLAT) < targets.SMALLEST_FLOOR
    for share, word in ((0.71, "MET"), (0.69, "MISSED")):
        results = results_of(
            (FAST, {"ours": 9.0, "ours_kernel": floor / share}),
            (small, {"ours": 9.0, "ours_kernel": 9.0}),
        )
        (line,) = lines(results, "roofline")
        assert line.startswith(word)
        assert f"worst {100 * share:.0f} % (target 70 %)" in line
    two = replace(FAST, threads=2)
    results = results_of((two, {"ours_kernel": floor / 0.61}))
    assert lines(results, "roofline")[0].startswith("MET")


def test_float16_is_compared_with_our_bfloat16() -> None:
    half, brain = replace(FAST, dtype="float16"), replace(FAST, dtype="bfloat16")
    for ratio, word in ((1.2, "MET"), (1.21, "MISSED")):
        results = results_of((half, {"ours": ratio}), (brain, {"ours": 1.0}))
        assert lines(results, "bfloat16's")[0].startswith(word)


def test_tiny_calls_are_compared_with_the_faster_f_conv2d() -> None:
    times: dict[str, float | str] = {
        "ours": 3.9,
        "ours_function": 4.1,
        "torch_contiguous": 11.0,
        "torch_channels_last": 10.0,
    }
    results = results_of((Case(TINY, 1), times), (Case(TINY, 1, pass_="forward_grad"), times))
    words = [line.split()[0] for line in lines(results, "F.conv2d")]
    assert words == ["MET", "MISSED", "MET", "MET"]
    assert lines(results, "fastest peer") == []


def test_there_is_no_verdict_on_what_did_not_run() -> None:
    assert (
        targets.verdicts(results_of((replace(FAST, pass_="backward_input"), {"ours": 1.0}))) == []
    )


# ---- cliffs ----


def test_a_sweep_moves_one_parameter_through_the_base() -> None:
    base = Case(Layer.parse("28x64"), 2)
    widths = cliffs.sweep(base, "width")
    assert [case.layer.width for case in widths] == list(range(1, 114))
    assert all(replace(case.layer, width=28) == base.layer for case in widths)
    kernels = [case.layer.kernel for case in cliffs.sweep(base, "kernel")]
    assert kernels == [*range(1, 14), 31]
    assert all(base in cliffs.sweep(base, parameter) for parameter in cliffs.STEPS)
    channels = [case.layer.channels for case in cliffs.sweep(base, "channels")]
    assert min(channels) == 1
    assert max(channels) == 1024


def test_a_shape_that_costs_more_than_twice_its_neighbour_is_listed() -> None:
    base = Case(Layer.parse("28x64"), 16)
    rows: list[tuple[Case, dict[str, float | str]]] = []
    for case in cliffs.sweep(base, "kernel"):
        cost = {7: 2.5, 11: 1.9}.get(case.layer.kernel, 1.0)
        rows.append((case, {"ours": cost * work(case).floor(FLAT)}))
    results = results_of(*rows)
    found = cliffs.cliffs(results, [base])
    assert {(c.case.layer.kernel, c.neighbour.layer.kernel) for c in found} == {(7, 6), (7, 8)}
    assert found[0].step == pytest.approx(2.5)
    verdict = cliffs.verdict(results, [base])
    assert not verdict.met
    assert "2 steps of more than 2x" in verdict.text


def test_small_calls_are_no_cliffs() -> None:
    base = Case(Layer.parse("4x8"), 1)
    rows: list[tuple[Case, dict[str, float | str]]]
    rows = [(case, {"ours": 40e-6}) for case in cliffs.sweep(base, "kernel")]
    assert cliffs.verdict(results_of(*rows), [base]).met


# ---- files, tables, pictures, command line ----


@pytest.fixture
def some_results() -> Results:
    times: dict[str, float | str] = {
        "ours": 0.10,
        "ours_kernel": 0.09,
        "tflite": 0.20,
        "onnxruntime": "inference [only]",
        "torch_contiguous": "wrong output: all",
    }
    return results_of(*[(replace(FAST, pass_=pass_), times) for pass_ in KERNEL_PASSES])


def test_results_come_back_from_their_file(tmp_path: Path, some_results: Results) -> None:
    path = tmp_path / "new" / "results.json"
    some_results.save(path)
    assert Results.load(path) == some_results


def test_tables_name_what_is_missing_and_why(some_results: Results) -> None:
    from rich.console import Console

    text = io.StringIO()
    to = Console(file=text, width=200)
    report.print_machine(to, some_results)
    report.print_tables(to, some_results)
    report.print_verdicts(to, targets.verdicts(some_results))
    printed = text.getvalue()
    assert "A [fast] one" in printed
    assert "n/a: ONNX Runtime: inference [only] (1 of 1 layer)" in printed
    assert "n/a: torch contiguous: wrong output: all (1 of 1 layer)" in printed
    assert "WRONG" in printed
    assert "2.00x" in printed
    assert "MISSED" in printed


def test_pictures_are_drawn_of_what_is_there(
    tmp_path: Path, some_results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    import plot

    some_results.save(tmp_path / "r.json")
    monkeypatch.setattr(sys, "argv", ["plot.py", str(tmp_path / "r.json")])
    plot.main()
    for name in ("r-layers.png", "r-roofline.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_every_option_may_be_repeated_and_has_a_default() -> None:
    import bench

    given = ["--layer", "14x512", "--layer", "9x8k5", "--batch", "2", "--batch", "3"]
    given += ["--dtype", "float32", "--dtype", "float16", "--threads", "1", "--order", "nhwc"]
    given += ["--pass", "forward", "--pass", "training"]
    chosen = bench.chosen_cases(bench.arguments(given))
    assert len(chosen) == 16
    everything = bench.chosen_cases(bench.arguments(["--threads", "1"]))
    assert {case.layer for case in everything} == {*LAYERS, TINY}
    assert len(everything) == len(LAYERS) * 2 * 3 * 2 * 2 + 3
    names = {setting.name for setting in bench.contestants(["tflite"])}
    assert names == {"ours", "ours_kernel", "ours_function", "tflite"}
    assert bench.contestants(None)[3:] == list(PEERS)
    assert len(bench.cliff_bases(bench.arguments(["--cliffs"]))) == len(cliffs.BASES) * 4


@pytest.mark.parametrize("wrong", [["--layer", "14"], ["--batch", "0"], ["--peer", "numpy"]])
def test_a_wrong_option_is_explained(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import bench

    with pytest.raises(SystemExit):
        bench.arguments(wrong)
    assert wrong[0] in capsys.readouterr().err


def test_every_contestant_has_a_class_of_its_own_title() -> None:
    everyone = [OURS, KERNEL, FUNCTION, *PEERS]
    assert len({setting.name for setting in everyone}) == len(everyone) == len(settings.TITLES)
    for setting in everyone:
        source = TESTS.parent / "benchmarks" / (setting.module.replace(".", "/") + ".py")
        assert f"class {setting.peer}(" in source.read_text()


# ---- whole networks ----


@pytest.mark.parametrize(
    ("name", "convolutions"), [("MobileNetV2", 17), ("EfficientNet-B0", 16), ("ConvNeXt-T", 18)]
)
def test_networks_have_their_published_depthwise_layers(name: str, convolutions: int) -> None:
    swapped = replace_depthwise(NETWORKS[name]())
    assert len(swapped.swapped) == convolutions
    assert not swapped.kept


def test_a_network_with_a_wrong_gradient_has_no_time() -> None:
    """However small it is beside the others."""
    case = networks.Case("MobileNetV2", "training", 1, 1)
    right = [torch.ones(9), 100 * torch.ones(9), torch.full((4,), 0.01)]
    stock = dict.fromkeys(networks.STOCK, right)
    networks.check(case, {**stock, networks.OURS: [t * (1 + 1e-6) for t in right]})
    with pytest.raises(SystemExit, match=r"gradient 2 of 2 is off by 2\.0e-02"):
        networks.check(case, {**stock, networks.OURS: [*right[:2], torch.zeros(4)]})


# ---- the pages ----


def test_the_pages_show_the_committed_results() -> None:
    """After ``python benchmarks/page.py`` nothing changes."""
    results = page.cpu_results()
    assert page.PAGE.read_text() == page.page(results)
    text = page.README.read_text()
    assert page.readme(results, text) == text
    assert page.summary(results) in text


def test_results_are_read_as_they_are_written(tmp_path: Path) -> None:
    case = replace(POINTWISE, batch=3)
    results = Results({"processor": "some"}, {"ours": "1"})
    results.add([Measurement("ours", case, (1e-3, 2e-3)), Measurement("tflite", case, reason="no")])
    results.save(tmp_path / "one.json")
    other = Results({"processor": "some"}, {"tflite": "2"})
    other.add([Measurement("ours", POINTWISE, (4.5678e-3,))])
    other.save(tmp_path / "two.json")
    loaded = Results.load(tmp_path / "one.json", tmp_path / "two.json")
    assert loaded.versions == {"ours": "1", "tflite": "2"}
    assert loaded.cases() == [case, POINTWISE]
    assert loaded.of(case) == results.of(case)
    assert loaded.seconds(POINTWISE, "ours") == 4.568e-3
