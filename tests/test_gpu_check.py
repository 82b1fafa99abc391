"""``tools/gpu_check``: what can be proven of it without a GPU.

Targets, tables and pictures over the committed run and over results made by hand; checks that find
seeded faults, on the CPU in a GPU's place; timing over a stand-in for CUDA graphs; stages that end
in time. No test asserts how long a thing takes.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import gpu.session as session_module  # noqa: E402
import gpu_check  # noqa: E402
from gpu import bench, parity, peers, pictures, sanitizer, suite, timing, transforms  # noqa: E402
from gpu.layers import DTYPES, LAYERS, PASSES, Layer, Row, layer_of  # noqa: E402
from gpu.problems import Shape, exact, reference_results, results, shapes, short  # noqa: E402
from gpu.process import Finished, run_within  # noqa: E402
from gpu.session import Deadline, Report, Session, Stage, run_stages  # noqa: E402
from gpu.tables import findings, layer_line, table, times  # noqa: E402
from gpu.targets import Copies, ratios, verdicts  # noqa: E402

H100 = json.loads((ROOT / "benchmarks" / "results" / "cuda_h100.json").read_text())
LARGE = Layer(100, 100, 3, 1, 1, 1, 10)  # 80 MB in float32: 10 us at 8 TB/s
SMALL = Layer(10, 10, 3, 1, 1, 1, 1)
MOVED = 80_000_000


# ---- layers --------------------------------------------------------------------------------------


def test_a_layer_is_named_by_what_differs_from_the_usual() -> None:
    assert Layer(56, 144, 5, 2, 1, 1, 8).full_name == "56x144 k5 s2, batch 8"
    assert Layer(33, 256, 3, 1, 4, 8, 1).name == "33x256 k3 d4 m8"


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.full_name)
def test_output_and_bytes_are_those_of_the_operator(layer: Layer) -> None:
    x = torch.empty(layer.batch, layer.size, layer.size, layer.channels, device="meta")
    f = torch.empty(layer.kernel, layer.kernel, layer.channels, layer.multiplier, device="meta")
    y = bench.our_call(x, f, x, layer, PASSES["forward"], True)()
    assert y.shape[1] == y.shape[2] == layer.output_size
    assert layer.moved("filter grad", 4) == 4 * (x.numel() + y.numel())
    assert layer.moved("backward", 2) == 2 * (2 * x.numel() + y.numel())


# ---- targets -------------------------------------------------------------------------------------


def row(layer: Layer, pass_: str, us: float, copy_us: float, **torch_us: float | None) -> Row:
    """In float32, NHWC; the copy's time is that of the pass' own bytes."""
    return {
        "layer": list(layer),
        "dtype": "f32",
        "order": "nhwc",
        "pass": pass_,
        "us": us,
        "bytes": layer.moved(pass_, 4),
        "copy_us": copy_us,
        "copies": {"copy_": copy_us},
        "peers": {f"torch {name}": value for name, value in torch_us.items()},
    }


def just_met() -> list[Row]:
    """Copies at 8 TB/s for the large layer; everything near its limit, and not beyond."""
    small_us = 3.0 + SMALL.moved("forward", 4) / (MOVED / 10)
    large = {"forward": (11.0, 10.0), "input grad": (11.0, 10.0), "filter grad": (11.5, 10.0)}
    rows = [row(LARGE, p, us, copy, nchw=99.0, nhwc=17.0) for p, (us, copy) in large.items()]
    rows.append(row(LARGE, "backward", 20.0, 15.0, nchw=120.0, nhwc=80.0))
    for pass_ in ("forward", "input grad", "filter grad"):
        rows.append(row(SMALL, pass_, small_us, 1.0, nchw=1.5 * small_us))
    rows.append(row(SMALL, "backward", 2 * small_us, 1.0, nchw=7.5 * small_us))
    return rows


def missed(rows: list[Row], layers: tuple[Layer, ...] = (LARGE, SMALL)) -> list[str]:
    return [verdict.text for verdict in verdicts(rows, layers) if not verdict.met]


def changed(pass_: str, layer: Layer, **values: Any) -> list[Row]:
    """All at its limit but for one time."""
    rows = just_met()
    chosen = next(r for r in rows if r["pass"] == pass_ and layer_of(r) == layer)
    chosen.update(values)  # type: ignore[typeddict-item]
    return rows


def test_a_run_at_the_limits_meets_every_target() -> None:
    found = verdicts(just_met(), (LARGE, SMALL))
    assert missed(just_met()) == []
    assert len(found) == 6
    assert str(found[0]) == (
        "MET    nhwc f32 forward, large layers: share of a copy: geomean 91%, worst 91% (target "
        "90%) on 100x100 k3, batch 10; 1 layer"
    )


@pytest.mark.parametrize(
    ("pass_", "layer", "values", "text"),
    [
        ("forward", LARGE, {"us": 11.2}, "forward, large layers: share of a copy"),
        ("input grad", LARGE, {"us": 11.2}, "input grad, large layers"),
        ("filter grad", LARGE, {"us": 11.8}, "filter grad, large layers"),
        ("filter grad", SMALL, {"us": 3.1}, "beyond moving their bytes at 8.00 TB/s: worst 3.1 us"),
        ("forward", LARGE, {"peers": {"torch nchw": 99.0, "torch nhwc": 16.0}}, "geomean 1.48x"),
        ("backward", LARGE, {"peers": {"torch nhwc": 70.0}}, "geomean 2.90x"),
    ],
)
def test_one_time_beyond_its_limit_is_a_target_missed(
    pass_: str, layer: Layer, values: dict[str, Any], text: str
) -> None:
    (found,) = missed(changed(pass_, layer, **values))
    assert text in found


def test_a_layer_that_is_slower_than_torch_is_named_however_good_the_mean() -> None:
    rows = changed("forward", SMALL, peers={"torch nchw": 2.9})
    rows[0]["peers"] = {"torch nhwc": 99.0}
    (found,) = missed(rows)
    assert "worst 0.97x (target 1x) on 10x10 k3, batch 1 against torch nchw" in found


def test_the_worst_layer_counts_however_good_the_others_are() -> None:
    fast = Layer(100, 100, 5, 1, 1, 1, 10)
    rows = [*changed("forward", LARGE, us=11.2), row(fast, "forward", 10.0, 10.0)]
    chosen = [r for r in rows if r["pass"] == "forward" and layer_of(r) != SMALL]
    (found,) = [text for text in missed(chosen, (LARGE, fast)) if "no times" not in text]
    assert "geomean 94%, worst 89% (target 90%) on 100x100 k3, batch 10; 2 layers" in found


def test_a_target_of_which_layers_are_missing_is_not_met() -> None:
    rows = [r for r in just_met() if layer_of(r) != SMALL or r["pass"] != "backward"]
    (found,) = missed(rows)
    assert found.startswith("nhwc f32 forward + backward")
    assert found.endswith("not measured: 10x10 k3, batch 1")


def test_a_target_without_any_time_is_not_met() -> None:
    rows = [r for r in just_met() if layer_of(r) == SMALL and r["pass"] != "backward"]
    lost = ", large layers: no times; not measured: 100x100 k3, batch 10"
    both = ": no times; not measured: 100x100 k3, batch 10, 10x10 k3, batch 1"
    assert [text for text in missed(rows) if "no times" in text] == [
        *(f"nhwc f32 {pass_}{lost}" for pass_ in ("forward", "input grad", "filter grad")),
        f"nhwc f32 forward + backward{both}",
    ]
    assert len(missed(rows, (SMALL,))) == 1  # no target of large layers without one


def test_filters_larger_than_5_are_compared_with_torch_alone() -> None:
    slow = Layer(100, 100, 7, 1, 1, 1, 10)
    rows = [*just_met(), *(row(slow, p, 99.0, 10.0, nchw=999.0) for p in PASSES)]
    assert missed(rows, (LARGE, SMALL, slow)) == []


def test_both_passes_are_compared_with_the_format_that_is_faster_in_their_sum() -> None:
    rows = [
        row(LARGE, "forward", 10.0, 9.0, nchw=20.0, nhwc=50.0),
        row(LARGE, "backward", 10.0, 9.0, nchw=80.0, nhwc=30.0),
    ]
    assert ratios(rows, ["forward"]) == [(2.0, LARGE, "torch nchw")]
    assert ratios(rows, ["forward", "backward"]) == [(4.0, LARGE, "torch nhwc")]
    rows[1]["peers"]["torch nhwc"] = None  # it could not run
    assert ratios(rows, ["forward", "backward"]) == [(5.0, LARGE, "torch nchw")]
    rows[1]["peers"]["torch nchw"] = None
    assert ratios(rows, ["forward", "backward"]) == []


def test_a_copy_is_never_slower_than_a_smaller_one() -> None:
    double = LARGE._replace(batch=20)
    good = row(LARGE, "forward", 12.0, 10.0)
    bad = row(double, "forward", 24.0, 30.0)
    assert Copies([bad]).doubtful() == []
    copies = Copies([good, bad])
    assert copies.share(good) == pytest.approx(10 / 12)
    assert copies.share(bad) == pytest.approx(20 / 24)
    (text,) = copies.doubtful()
    assert "batch 20: copied at 5.33 TB/s, slower than a smaller copy; 8.00 TB/s is taken" in text
    # for the backward pass, whose bytes are 3 and not 2 images, the rate of the same layer's copy
    assert copies.microseconds(row(double, "backward", 1.0, 1.0)) == pytest.approx(30)


def test_a_small_copy_does_not_bound_a_large_one_from_above() -> None:
    slow = row(SMALL, "forward", 1.0, 2.0)
    copies = Copies([slow, row(LARGE, "forward", 12.0, 10.0)])
    assert copies.microseconds(slow) == 2.0


def test_the_copy_that_came_out_slower_than_the_kernel_is_mended() -> None:
    rows = [r for r in H100["rows"] if (r["dtype"], r["order"]) == ("f32", "nhwc")]
    chosen = [r for r in rows if r["layer"][:2] == [56, 128] and r["pass"] == "forward"]
    assert chosen[0]["copy_us"] / chosen[0]["us"] > 1.1
    assert Copies(rows).share(chosen[0]) == pytest.approx(142.69 / 179.58, abs=1e-4)


def test_no_kernel_of_the_committed_run_is_faster_than_its_copy() -> None:
    copies = Copies(H100["rows"])
    assert max(copies.share(r) for r in H100["rows"]) < 1


def test_the_committed_run_is_judged_per_memory_order_and_dtype() -> None:
    measured = tuple(dict.fromkeys(layer_of(r) for r in H100["rows"]))
    found = verdicts(H100["rows"], measured)
    assert len(found) == 5 * 6
    assert not any(verdict.met for verdict in found)
    assert found[4].text == (
        "nhwc f32 forward: times the faster torch's speed: geomean 1.03x (target 1.5x), worst "
        "0.29x (target 1x) on 56x144 k5 s2, batch 1 against torch nhwc; 15 layers"
    )


def test_the_page_quotes_the_committed_run() -> None:
    page = (ROOT / "docs" / "cuda.md").read_text()
    copies = Copies(H100["rows"])
    chosen = [r for r in H100["rows"] if (r["dtype"], r["order"]) == ("f32", "nhwc")]
    for layer in dict.fromkeys(map(layer_of, chosen)):
        cells = []
        for pass_ in ("forward", "input grad", "filter grad"):
            (own,) = (r for r in chosen if layer_of(r) == layer and r["pass"] == pass_)
            ((ratio, _, _),) = ratios([own], [pass_])
            cells.append(f"{100 * copies.share(own):.0f} %, {ratio:.1f}x")
        assert f"| {layer.name} | {layer.batch} | {' | '.join(cells)} |\n" in page


# ---- tables and pictures -------------------------------------------------------------------------


def test_a_line_has_times_shares_and_ratios() -> None:
    rows = just_met()
    line = layer_line(LARGE, rows[:4], rows)
    assert line.split() == [
        *("100x100", "k3,", "batch", "10", "|", "11.0", "91%", "1.55x", "|", "11.0", "91%"),
        *("1.55x", "|", "11.5", "87%", "1.48x", "|", "20.0", "75%", "4.00x"),
    ]
    assert "n/a" in layer_line(LARGE, [row(LARGE, "forward", 11.0, 10.0)], rows)


def test_a_table_has_a_line_for_each_layer() -> None:
    assert len(table(H100["rows"], "nhwc", "f32")) == 3 + 15


def test_a_run_is_told_with_what_is_wrong_and_what_was_left_out() -> None:
    content = {
        "counts": {"parity": 3, "views": 2},
        "failures": ["parity: a: output by 1", "benchmark stopped: RuntimeError: x"],
        "left_out": ["benchmark nchw f32: the time is up"],
        "sanitizer": ["compute-sanitizer memcheck: 0 errors"],
    }
    assert findings(content) == [
        "parity: 2 of 3 right",
        "views: 2 of 2 right",
        "  WRONG parity: a: output by 1",
        "  WRONG benchmark stopped: RuntimeError: x",
        "compute-sanitizer memcheck: 0 errors",
        "  LEFT OUT benchmark nchw f32: the time is up",
    ]
    assert findings({**content, "failures": ["parity: x"] * 50})[-3].endswith(
        "10 more that are wrong"
    )


def test_a_rehearsal_is_no_verdict() -> None:
    content = {"rows": just_met(), "layers": [LARGE, SMALL]}
    assert sum(line.startswith("MET") for line in times(content)) == 6
    assert not any(line.startswith("MET") for line in times({**content, "device": "cpu"}))


def test_pictures_have_a_panel_for_each_memory_order_and_dtype(tmp_path: Path) -> None:
    assert [title for title, _ in pictures.panels(H100["rows"])] == [
        *("NHWC f32", "NHWC bf16", "NHWC f16", "NCHW f32", "NCHW bf16")
    ]
    own = [r for r in just_met() if layer_of(r) == LARGE]
    shares = pictures.shares(own, own)
    assert {name: round(bars[LARGE]) for name, bars in shares.items()} == {
        "forward": 91,
        "input grad": 91,
        "filter grad": 87,
    }
    assert pictures.speeds(own, own)["forward + backward"][LARGE] == pytest.approx(97 / 31)
    paths = pictures.write(just_met(), "a GPU", tmp_path / "run.json")
    assert [path.name for path in paths] == ["run-share.png", "run-ratio.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert pictures.write([], "a GPU", tmp_path / "empty.json") == []


def test_an_earlier_run_is_shown_without_matplotlib_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(H100))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--show", str(path)])
    gpu_check.main()
    printed = capsys.readouterr().out
    assert "parity: 656 of 656 right" in printed
    assert "MISSED nhwc f32 forward, large layers" in printed
    assert "no pictures: matplotlib is not installed" in printed
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


# ---- correctness ---------------------------------------------------------------------------------

OF_A_KIND = (Shape(2, 7, 6, 5, (3, 3)), Shape(1, 6, 7, 3, (2, 5), (2, 1), channels_last=False))


def test_every_kernel_is_among_the_shapes() -> None:
    for chosen in (list(shapes()), list(short())):
        for last in (True, False):
            own = [shape for shape in chosen if shape.channels_last == last]
            assert {(3, 3), (5, 5), (7, 7)} <= {shape.kernel for shape in own}
            assert {(1, 1), (2, 2)} <= {shape.stride for shape in own}
            assert any(shape.multiplier > 1 for shape in own)
            assert any(shape.dilation != (1, 1) for shape in own)
            assert any(shape.channels % 4 for shape in own)


@pytest.mark.parametrize("shape", [*OF_A_KIND, *short()], ids=str)
def test_the_sizes_are_those_of_the_operator(shape: Shape) -> None:
    x, f, b, grad = exact(shape, torch.Generator().manual_seed(0))
    out, *gradients = results([x, f, b, grad], shape)
    assert out.shape == grad.shape
    assert [gradient.shape for gradient in gradients] == [x.shape, f.shape, b.shape]


def test_parity_holds_on_the_cpu_and_counts_every_dtype() -> None:
    report = Report()
    parity.check_parity(report, "cpu", Deadline(60), OF_A_KIND)
    parity.check_views(report, "cpu")
    assert report.counts == {"CPU kernels": 2, "parity": 8, "views": 32}
    assert report.failures == []


def test_parity_says_what_it_had_no_time_for(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    parity.check_parity(report, "cpu", Deadline(0), OF_A_KIND)
    assert report.left_out == ["parity: the last 2 of 2 shapes"]
    assert report.counts == {}
    assert "LEFT OUT" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fault", ["two units", "a NaN", "not zero"])
def test_a_single_wrong_element_is_found(fault: str, dtype: torch.dtype) -> None:
    shape = OF_A_KIND[0]
    tensors = exact(shape, torch.Generator().manual_seed(0))
    expected = reference_results(tensors, shape)
    expected[2][0, 0, 0, 0] = 0.0 if fault == "not zero" else 1.0
    got = [tensor.clone().to(dtype) for tensor in expected]
    assert parity.differences(got, expected) == []
    eps = torch.finfo(dtype).eps
    wrong = {"two units": 1 + 2 * eps, "a NaN": torch.nan, "not zero": eps}[fault]
    got[2][0, 0, 0, 0] = wrong
    (text,) = parity.differences(got, expected)
    assert text.startswith("filter grad")


def wrong_every(turns: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, one bit of whose last result is wrong every so many calls."""
    calls = []

    def run(*args: Any) -> Any:
        found = function(*args)
        calls.append(args)
        if len(calls) % turns == 0:
            last = found[-1].contiguous().flatten().view(torch.uint8)
            last[0] ^= 1
            found[-1] = last.view(found[-1].dtype).view(found[-1].shape)
        return found

    return run


def test_determinism_is_checked_to_the_bit_and_in_every_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, bad = Report(), Report()
    parity.check_determinism(good, "cpu", Deadline(60), OF_A_KIND)
    assert good.counts == {"determinism": 8}
    assert good.failures == []
    monkeypatch.setattr(parity, "everything", wrong_every(parity.RUNS, parity.everything))
    parity.check_determinism(bad, "cpu", Deadline(60), OF_A_KIND[:1])
    assert len(bad.failures) == 4
    assert all(f"run {parity.RUNS} gave other bits" in failure for failure in bad.failures)


def test_sums_that_determinism_is_checked_on_depend_on_their_order() -> None:
    """Those of parity do not: whole sixteenths are exact in any order."""
    from gpu.problems import noise

    shape = parity.SPLIT[0]
    for tensors, differs in (
        (noise(shape, torch.float32, "cpu"), True),
        ([t.float() for t in exact(shape, torch.Generator().manual_seed(1))], False),
    ):
        x, _, _, grad = tensors
        forth = results(tensors, shape)[2]
        back = results([x.flip(0), *tensors[1:3], grad.flip(0)], shape)[2]
        assert torch.equal(forth, back) is not differs


@pytest.mark.parametrize("name", [name for name in transforms.ANYWHERE if "compile" not in name])
def test_a_check_of_transforms_holds_on_the_cpu(name: str) -> None:
    assert transforms.ANYWHERE[name]("cpu") == []


def test_an_error_in_a_check_is_its_own_failure() -> None:
    def stops(device: str) -> list[str]:
        raise ValueError(f"no {device}")

    report = Report()
    checks = {"one": stops, "two": lambda device: [], "three": lambda device: ["differs"]}
    transforms.check_all(report, "cpu", Deadline(60), "streams", checks)
    transforms.check_all(report, "cpu", Deadline(0), "streams", {"late": stops})
    assert report.counts == {"streams": 3}
    assert report.failures == ["streams: one: ValueError: no cpu", "streams: three: differs"]
    assert report.left_out == ["streams: late: no time"]


def test_streams_count_the_turns_that_differ() -> None:
    expected = [torch.ones(3), torch.zeros(2)]
    other = [torch.ones(3), torch.tensor([0.0, -0.0])]  # equal, but not the same bits
    assert transforms.differing([expected, other, expected], expected) == 1


# ---- timing --------------------------------------------------------------------------------------


class FakeCuda:
    """Stands in for ``torch.cuda``: logs what happens, and its clock ticks with every call."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.clock = 0.0
        self.capturing: list[Callable[[], Any]] | None = None
        self.graph = self.Capture
        self.CUDAGraph = lambda: SimpleNamespace(replay=self.replay, calls=[])
        self.Event = lambda enable_timing: FakeEvent(self)

    def Capture(self, graph: Any) -> Any:  # noqa: N802  the name under which it is called is graph
        from contextlib import contextmanager

        @contextmanager
        def capture() -> Any:
            self.log.append("capture")
            yield
            self.log.append("captured")

        return capture()

    def replay(self) -> None:
        self.log.append("replay")
        self.clock += 12.0

    def synchronize(self) -> None:
        self.log.append("synchronize")


class FakeEvent:
    """Milliseconds of the stand-in's clock."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda

    def record(self) -> None:
        self.cuda.log.append("record")
        self.at = self.cuda.clock

    def elapsed_time(self, other: FakeEvent) -> float:
        return other.at - self.at


def test_a_graph_is_timed_warm_and_without_waiting_for_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(torch, "cuda", cuda)
    times_of = timing.graph_timer([lambda: cuda.log.append("call")] * 4)
    # two calls before the capture, then as many whole rounds as make six calls
    warm = ["call", "call", "synchronize"]
    assert cuda.log == [*warm, "capture", *["call"] * 8, "captured"]
    cuda.log.clear()
    assert times_of(2) == [0.012 / 8] * 2
    assert cuda.log == [
        *("replay", "record", "replay", "record", "replay", "record", "synchronize")
    ]


def test_results_are_kept_while_others_of_their_round_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that each has memory of its own, as the inputs have."""
    alive: set[int] = set()
    most = []

    class Result:
        def __init__(self) -> None:
            alive.add(id(self))
            most.append(len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    monkeypatch.setattr(torch, "cuda", FakeCuda())
    timing.graph_timer([Result] * 5)
    assert max(most) in (5, 6)
    assert most[:2] == [1, 1]  # the two that warm up


def test_contestants_take_turns_and_medians_count() -> None:
    turns = []

    def timer(name: str, seconds: list[float]) -> timing.Timer:
        def run(wanted: int) -> list[float]:
            turns.append(name)
            return [seconds.pop(0) for _ in range(wanted)]

        return run

    found = timing.race(
        {"a": timer("a", [9e-6, 1e-6, 2e-6, 3e-6]), "b": timer("b", [5e-6] * 4)}, rounds=2
    )
    assert turns == ["a", "b", "a", "b"]
    assert found == {"a": pytest.approx(2.5), "b": pytest.approx(5.0)}


def test_buffers_are_several_times_the_cache_and_never_one() -> None:
    machine = timing.Machine("cuda", 50_000_000, timing.host_timer)
    assert machine.buffers(1_000_000) == 200
    assert machine.buffers(400_000_000) == 2
    assert machine.buffers(100) == timing.MOST_BUFFERS


def test_copies_move_the_bytes_of_the_layer_to_a_page_by_every_method() -> None:
    for layer in LAYERS:
        nbytes = layer.moved("forward", 2)
        assert abs(2 * bench.copy_bytes(nbytes) - nbytes) <= bench.PAGE
    moved = []

    def timer(calls: Any) -> timing.Timer:
        for call in calls:
            call()
        moved.append([call.__closure__ for call in calls])
        return lambda wanted: [1.0] * wanted

    timers = bench.copy_timers(3 * bench.PAGE, timing.Machine("cpu", 1 << 20, timer))
    assert set(timers) == {
        *("copy_", "elementwise", "copy_, one buffer", "elementwise, one buffer")
    }
    for closures in moved:
        tensors = [cell.cell_contents for closure in closures for cell in closure]
        assert {t.nbytes for t in tensors} == {bench.copy_bytes(3 * bench.PAGE)}
        assert len({t.data_ptr() for t in tensors}) == len(tensors)  # all of them cold
        assert sum(t.nbytes for t in tensors) >= timing.CACHES << 20


# ---- peers ---------------------------------------------------------------------------------------

PEER_LAYERS = (Layer(6, 4, 3, 1, 1, 1, 2), Layer(9, 3, 5, 2, 1, 2, 1), Layer(8, 2, 3, 1, 2, 1, 1))


def whole(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-4, 5, shape, generator=generator).float()


@pytest.mark.parametrize("layer", PEER_LAYERS, ids=lambda layer: layer.full_name)
@pytest.mark.parametrize("peer", [*peers.FORMATS, *peers.variants()], ids=lambda peer: peer.name)
@pytest.mark.parametrize("pass_", PASSES)
def test_a_peer_computes_what_we_compute(pass_: str, peer: peers.Peer, layer: Layer) -> None:
    lanes, out = layer.channels * layer.multiplier, layer.output_size
    x = whole(layer.batch, layer.size, layer.size, layer.channels)
    f = whole(layer.kernel, layer.kernel, layer.channels, layer.multiplier)
    grad = whole(layer.batch, out, out, lanes)
    mask = PASSES[pass_]
    ours = bench.our_call(x, f, grad, layer, mask, True)()
    planes = [t.permute(0, 3, 1, 2).contiguous() for t in (x, grad)]
    also = bench.our_call(planes[0], f, planes[1], layer, mask, False)()
    weight = peers.torch_weight(f)
    call = peers.torch_call(
        peer.stored(x, True), weight, peer.stored(planes[1], False), layer, mask
    )
    with peer.settings():
        theirs = call()

    def by_name(found: Any, nhwc: bool) -> dict[str, torch.Tensor]:
        """Images as NCHW, filters as PyTorch's."""
        found = list(found) if isinstance(found, tuple | list) else [found]
        kept = [t for t in found if t is not None and t.numel()]
        names = ["image"] * (pass_ != "filter grad") + ["filter"] * mask[1]
        named = dict(zip(names, kept, strict=True))
        if nhwc and "image" in named:
            named["image"] = named["image"].permute(0, 3, 1, 2)
        if "filter" in named and named["filter"].shape == f.shape:
            named["filter"] = peers.torch_weight(named["filter"])
        return named

    expected = by_name(theirs, False)
    for found in (by_name(ours, True), by_name(also, False)):
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            assert torch.equal(tensor, expected[name])


def test_a_peer_leaves_the_settings_as_they_were() -> None:
    def fails(peer: peers.Peer) -> None:
        with peer.settings():
            for name, value in peer.cudnn:
                assert getattr(torch.backends.cudnn, name) == value
            raise ZeroDivisionError

    before = torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark
    for peer in peers.variants():
        with pytest.raises(ZeroDivisionError):
            fails(peer)
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark) == before


def test_an_older_torch_has_fewer_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace(enabled=True, benchmark=False))
    found = {peer.name: peer.cudnn for peer in peers.variants()}
    assert "nchw cuDNN" not in found
    assert found["nchw native"] == (("enabled", False),)


def test_a_peer_that_cannot_run_is_none_and_ours_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses() -> Any:
        raise RuntimeError("not supported")

    def timer(calls: Any) -> timing.Timer:
        calls[0]()  # as a capture does
        return timing.host_timer(calls)

    machine = timing.Machine("cpu", 1, timer)
    monkeypatch.setattr(bench, "torch_call", lambda *args: refuses)
    (found,) = bench.bench_layer(PEER_LAYERS[0], "f32", "nhwc", machine, passes=["forward"])
    assert found["peers"] == {"torch nchw": None, "torch nhwc": None}
    monkeypatch.setattr(bench, "our_call", lambda *args: refuses)
    report = Report()
    bench.bench(report, [], Deadline(60), machine, PEER_LAYERS[:1], "f32", "nhwc")
    assert report.failures == ["benchmark: nhwc f32 6x4 k3, batch 2: not supported"]


def test_layers_without_time_or_memory_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(bench, "bench_layer", full)
    name = "benchmark: nchw f16 6x4 k3, batch 2"
    for seconds, why in ((60, "not enough memory"), (0, "no time")):
        report = Report()
        machine = timing.rehearsal()
        bench.bench(report, [], Deadline(seconds), machine, PEER_LAYERS[:1], "f16", "nchw")
        assert report.left_out == [f"{name}: {why}"]
        assert report.failures == []


# ---- programs in processes of their own ----------------------------------------------------------


def is_running(pid: int) -> bool:
    """And not just waiting for its parent to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_program_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    script = f"sleep 300 & echo $! > {started}; echo begun; wait"
    finished = run_within(["sh", "-c", script], 3.0)
    assert finished == Finished(None, "begun\n")
    pid = int(started.read_text())
    for _ in range(100):  # a signal has been sent; it need not have arrived
        if not is_running(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("what the program had started went on")


def test_a_program_that_fails_says_why_in_its_last_line() -> None:
    finished = run_within(["sh", "-c", "echo one; echo $WORD >&2; exit 3"], 60, WORD="two")
    assert (finished.status, finished.last_line) == (3, "two")
    assert Finished(-11, "\n").last_line == "exit status -11"


CLEAN = f"========= COMPUTE-SANITIZER\n{sanitizer.ALL_RIGHT}\n========= ERROR SUMMARY: 0 errors\n"
INVALID = """\
========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at 0x90 in gather_points
========= ERROR SUMMARY: 1 error
"""
RACE = """\
========= Error: Race reported between Write access at 0x1 and Read access at 0x2 [4 hazards]
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""


@pytest.mark.parametrize(
    ("status", "output", "said", "wrong"),
    [
        (0, CLEAN, "0 errors", []),
        (86, INVALID, "1 error", ["1 error", "Invalid __global__ write of size 4 bytes"]),
        (86, RACE, "1 hazard displayed (1 error, 0 warnings)", None),
        (0, "wrong numbers\n", "no summary", ["the checked program failed: wrong numbers"]),
        (1, f"{CLEAN}crash\n", "0 errors", ["the checked program failed: crash"]),
    ],
)
def test_what_the_sanitizer_says_is_understood(
    status: int, output: str, said: str, wrong: list[str] | None
) -> None:
    found = sanitizer.judge(Finished(status, output))
    assert found[0] == said
    assert found[1] == wrong if wrong is not None else len(found[1]) == 2


def installed(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compute-sanitizer of its own making, first in PATH."""
    program = folder / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_the_sanitizer_is_run_with_its_tool_over_the_short_parity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'echo "$@" > {tmp_path}/args; printf "%s" "{CLEAN}"'
    installed(tmp_path, script, monkeypatch)
    report = Report()
    verdict = sanitizer.check_sanitizer(report, "cuda", Deadline(60), "memcheck")
    assert verdict == "compute-sanitizer memcheck: 0 errors"
    assert (report.counts, report.failures) == ({"compute-sanitizer": 1}, [])
    given = (tmp_path / "args").read_text().split()
    assert given[:4] == ["--tool", "memcheck", "--error-exitcode", "86"]
    assert given[4:6] == ["--report-api-errors", "no"]
    assert given[7:] == [str(ROOT / "tools" / "gpu_check.py"), "--device", "cuda", "--short-parity"]


def test_the_sanitizer_that_does_not_end_or_is_not_there_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Report()
    installed(tmp_path, "sleep 600", monkeypatch)
    sanitizer.check_sanitizer(report, "cuda", Deadline(0.5), "racecheck")
    monkeypatch.setattr(sanitizer, "find_sanitizer", lambda: None)
    sanitizer.check_sanitizer(report, "cuda", Deadline(60), "memcheck")
    assert report.left_out == [
        "compute-sanitizer racecheck: not finished in time",
        "compute-sanitizer memcheck: not installed",
    ]
    assert report.counts == {}


def test_what_runs_under_the_sanitizer_is_right_on_the_cpu() -> None:
    assert sanitizer.short_parity("cpu") == []


SUITE = """\
tests/test_cuda.py::test_a[DepthwiseConv2D, channels first-cuda] PASSED [ 10%]
tests/test_cuda.py::test_b[compile, training-cuda] FAILED               [ 20%]
tests/test_cuda.py::test_c SKIPPED (needs an NVIDIA GPU)                [ 30%]
=== short test summary info ===
FAILED tests/test_cuda.py::test_b[compile, training-cuda] - assert PASSED is None
"""


def test_tests_are_counted_from_what_pytest_prints() -> None:
    report = Report()
    suite.record(report, Finished(1, SUITE))
    assert report.counts == {"tests": 2}
    assert report.failures == ["tests: test_b[compile, training-cuda]: FAILED"]
    assert report.left_out == ["tests: 1 skipped"]


def test_tests_that_do_not_begin_or_end_are_no_success() -> None:
    report = Report()
    suite.record(report, Finished(2, "ERROR: no module named x\n"))
    suite.record(report, Finished(None, SUITE.splitlines()[0]))
    assert report.failures == ["tests: pytest: ERROR: no module named x"]
    assert report.left_out == ["tests: no time after the first 1"]


def test_the_marked_tests_are_those_that_gpu_check_runs() -> None:
    marked = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").glob("*.py")
        if "pytest.mark.cuda" in path.read_text() and path.name != Path(__file__).name
    }
    assert marked == set(suite.FILES)


# ---- stages --------------------------------------------------------------------------------------


def session(tmp_path: Path) -> Session:
    about = {"gpu": "a GPU"}
    return Session("cpu", tmp_path / "folder" / "run.json", about, gpu_check.TINY_LAYERS)


def test_stages_end_in_time_and_what_was_left_out_is_named(tmp_path: Path) -> None:
    seen = []

    def looks(session: Session, deadline: Deadline) -> None:
        seen.append(deadline.left)

    own = session(tmp_path)
    run_stages(own, [Stage("a", 5.0, looks), Stage("b", 900.0, looks)], Deadline(60.0))
    assert 0 < seen[0] <= 5
    assert 5 < seen[1] <= 60
    run_stages(own, [Stage("c", 5.0, looks)], Deadline(0.0))
    assert len(seen) == 2
    assert own.report.left_out == ["c: the time is up"]


def test_a_stage_that_stops_is_a_failure_and_the_next_one_runs(tmp_path: Path) -> None:
    def stops(session: Session, deadline: Deadline) -> None:
        raise RuntimeError("an illegal memory access")

    def counts(session: Session, deadline: Deadline) -> None:
        session.report.case("parity", "x", [])

    own = session(tmp_path)
    run_stages(own, [Stage("a", 5, stops), Stage("b", 5, counts)], Deadline(60))
    assert own.report.failures == ["a stopped: RuntimeError: an illegal memory access"]
    assert own.report.counts == {"parity": 1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_alarm_is_left_when_a_stage_ends_as_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """It would end the process of whoever called, minutes later."""
    before = threading.active_count()
    alarms: list[float | None] = []
    set_alarm = lambda seconds, exit: alarms.append(seconds)  # noqa: E731
    monkeypatch.setattr(faulthandler, "dump_traceback_later", set_alarm)
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: alarms.append(None))

    def stops(session: Session, deadline: Deadline) -> None:
        raise error

    with suppress(KeyboardInterrupt):
        run_stages(session(tmp_path), [Stage("a", 5, stops)], Deadline(60))
    assert alarms == [45.0, None]
    for _ in range(100):
        if threading.active_count() == before:
            return
        time.sleep(0.05)
    pytest.fail("a thread still watches")


def test_a_case_that_raises_is_named_and_the_others_are_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = parity.results, itertools.count()

    def refused_once(tensors: list[torch.Tensor], shape: Shape) -> list[torch.Tensor]:
        if next(calls) == 2:  # after the CPU kernels' and float64
            raise RuntimeError("a CUDA kernel was refused")
        return real(tensors, shape)

    monkeypatch.setattr(parity, "results", refused_once)
    report, shape = Report(), next(iter(short()))
    parity.check_parity(report, "cpu", Deadline(60), [shape])
    assert report.counts["parity"] == 4
    (failure,) = report.failures
    assert failure.startswith(f"parity: torch.float32 {shape}: RuntimeError: a CUDA kernel was")


GOES_ON = """
import sys
sys.path.insert(0, "tools")
import gpu.session as s
from pathlib import Path

def items(session, deadline):
    for item in session.report.remaining("items", ["a", "b", "c"]):
        def check():
            if item == "b":
                {in_b}
            return []
        session.report.attempt("items", item, "cpu", check, {case_seconds})

def after(session, deadline):
    session.report.case("after", "x", [])

s.GRACE = 0.2
session = s.Session("cpu", Path(sys.argv[1]), {{"gpu": "a GPU"}}, ())
if "--resume" in sys.argv:
    session.resume()
s.run_stages(session, [s.Stage("items", {seconds}, items, {resumes}), s.Stage("after", 5, after)],
             s.Deadline(60))
"""


LOST = "s.works = lambda device: False; raise RuntimeError('illegal address')"
HUNG = "__import__('time').sleep(60)"
DIED = "__import__('os').abort()"
DID_NOT_END = "items did not end, in items: b"


@pytest.mark.parametrize(
    ("in_b", "seconds", "case_seconds", "resumes", "says", "items"),
    [
        (LOST, 5, 60, True, "illegal", 3),
        (LOST, 5, 60, False, "illegal", 2),
        (HUNG, 3, 60, True, DID_NOT_END, 1),  # all of the stage's time is used up
        (HUNG, 40, 0.3, True, DID_NOT_END, 2),
        (DIED, 5, 60, True, "items: the process died", 0),  # nothing was saved within the stage
    ],
    ids=["lost", "lost, not resumed", "hung stage", "hung case", "crashed"],
)
def test_a_run_goes_on_in_a_new_process(
    tmp_path: Path,
    in_b: str,
    seconds: float,
    case_seconds: float,
    resumes: bool,
    says: str,
    items: int,
) -> None:
    program = GOES_ON.format(in_b=in_b, seconds=seconds, resumes=resumes, case_seconds=case_seconds)
    command = [sys.executable, "-c", program, str(tmp_path / "run.json")]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == (-signal.SIGABRT if in_b is DIED else session_module.RESUME)
    second = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    content = json.loads((tmp_path / "run.json").read_text())
    assert any(says in failure for failure in content["failures"])
    assert content["counts"]["after"] == 1
    out_of_time = in_b is HUNG and seconds == 3
    assert list(content["stages"]) == (["after"] if out_of_time else ["items", "after"])
    assert content["counts"].get("items", 0) == items


def test_an_earlier_runs_results_are_not_taken_over(tmp_path: Path) -> None:
    old = session(tmp_path)
    old.report.failures.append("of an earlier run")
    old.started = 1.0
    old.save()
    new = session(tmp_path)
    new.started = 2.0
    new.resume()
    assert new.report.failures == []
    assert new.processes == 1
    new.output = tmp_path / "nothing.json"
    new.resume()
    again = session(tmp_path)
    again.started = 1.0
    again.resume()
    assert again.report.failures == ["of an earlier run"]
    assert again.processes == 2


def test_a_view_that_ends_a_process_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report()
    monkeypatch.setattr(session_module, "works", lambda device: False)
    real, calls = parity.differences, itertools.count()
    wrong = lambda *given: ["lost"] if next(calls) == 3 else real(*given)  # noqa: E731
    monkeypatch.setattr(parity, "differences", wrong)
    with pytest.raises(session_module.GpuLostError):
        parity.check_views(report, "cpu")
    parity.check_views(report, "cpu")
    assert report.counts["views"] == len(parity.DTYPES) * len(parity.VIEWS) * 2
    assert len(report.failures) == 1


def test_the_program_is_started_again_as_often_as_it_asks(tmp_path: Path) -> None:
    """In a copy, with a Python that only writes down how it is called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    shutil.copy(ROOT / "tools" / "gpu_check", tools)
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'case "$1" in -c) echo 9.0 ;; tools/gpu_check.py) echo "$4 $5" >>calls\n'
        "[ $(wc -l <calls) -gt 2 ] || exit 75; exit 1;; esac\n"
    )
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python)}
    run = subprocess.run([tools / "gpu_check", "--no-bench"], env=environment)
    assert run.returncode == 1
    lines = (tmp_path / "calls").read_text().splitlines()
    assert [line.strip() for line in lines] == [
        "--no-bench",
        "--resume --no-bench",
        "--resume --no-bench",
    ]


def test_stages_without_time_are_named_in_the_results(tmp_path: Path) -> None:
    own = session(tmp_path)
    run_stages(own, [Stage("a", 5, lambda session, deadline: None)], Deadline(0.0))
    assert "a: the time is up" in json.loads(own.output.read_text())["left_out"]


def test_a_run_that_is_cut_off_has_left_what_it_had(tmp_path: Path) -> None:
    def measures(session: Session, deadline: Deadline) -> None:
        session.rows += just_met()

    def is_cut_off(session: Session, deadline: Deadline) -> None:
        raise KeyboardInterrupt

    own = session(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_stages(own, [Stage("a", 5, measures), Stage("b", 5, is_cut_off)], Deadline(60))
    content = json.loads(own.output.read_text())
    assert content["rows"] == just_met()
    assert list(content["stages"]) == ["a"]
    assert times({**content, "device": "cuda"})[-1].startswith(("MET", "MISSED"))


def test_the_most_important_stages_come_first() -> None:
    names = [s.name for s in gpu_check.stages(timing.rehearsal(), LAYERS, True, True)]
    checks = ["parity", "determinism", "transforms"]
    assert names[:5] == [*checks, "copy rate", "benchmark nhwc f32"]
    benchmarks = [name for name in names if name.startswith("benchmark")]
    assert len(benchmarks) == 2 * len(DTYPES)
    alone = [s.name for s in gpu_check.stages(timing.rehearsal(), LAYERS, False, True)]
    assert alone == [name for name in names if name.startswith(("copy", "bench", "PyTorch"))]


def test_a_rehearsal_of_the_benchmark_writes_results_and_pictures(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    program = [sys.executable, str(ROOT / "tools" / "gpu_check.py"), "--device", "cpu"]
    finished = run_within(
        [*program, "--no-check", "--layers", "1", "--output", str(output)],
        300,
        OMP_NUM_THREADS="1",
    )
    assert finished.status == 0, finished.output
    content = json.loads(output.read_text())
    assert content["failures"] == content["left_out"] == []
    assert len(content["rows"]) == 2 * len(DTYPES) * len(PASSES)
    assert len(content["variants"]) == len(DTYPES) * len(PASSES)
    assert all(rate > 0 for by in content["copy_rates"].values() for rate in by.values())
    for found in content["rows"]:
        assert found["copy_us"] == min(found["copies"].values())
        assert set(found["peers"]) == {peer.name for peer in peers.FORMATS}
        assert all(us > 0 for us in (found["us"], *found["peers"].values()))
    assert {path.name for path in tmp_path.iterdir()} == {
        *("results.json", "results-share.png", "results-ratio.png")
    }


def test_without_a_gpu_the_command_says_so_and_builds_nothing() -> None:
    run = subprocess.run(
        [ROOT / "tools" / "gpu_check"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "finds no NVIDIA GPU" in run.stderr
    assert run.stdout == ""


FAKE_PYTHON = """\
#!/bin/sh
case "$*" in
    *get_device_capability*) echo 9.0 ;;
    *CUDA_ARCHITECTURES*) exit $BUILT_FOR_ANOTHER ;;
    *) echo "$TFCOMPAT_DW_CUDA $TORCH_CUDA_ARCH_LIST: $*" >> "$LOG" ;;
esac
"""


@pytest.mark.parametrize("built_for_another", [0, 1])
def test_the_command_builds_for_the_present_gpu_and_checks(
    built_for_another: int, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    log = tmp_path / "log"
    names = {"PYTHON": str(python), "LOG": str(log), "BUILT_FOR_ANOTHER": str(built_for_another)}
    run = run_within([str(ROOT / "tools" / "gpu_check"), "--no-bench"], 60, **names)
    assert run.status == 0, run.output
    build, check = log.read_text().splitlines()
    assert build.startswith("1 9.0: tools/gpu/build.py -q build_ext --inplace --build-temp ")
    assert build.endswith("--force") is bool(built_for_another)
    words = check.split()
    assert words[-4:-2] == ["tools/gpu_check.py", "--started"]
    assert words[-2].isdigit()
    assert words[-1] == "--no-bench"


def test_the_build_reads_no_metadata_that_an_older_setuptools_refuses() -> None:
    command = [sys.executable, str(ROOT / "tools" / "gpu" / "build.py"), "-q", "--name"]
    run = run_within(command, 60, TFCOMPAT_DW_CUDA="0")
    assert run.status == 0, run.output
    assert "tfcompat-dw" not in run.output  # the name is in pyproject.toml alone
