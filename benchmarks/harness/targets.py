"""The project's speed targets on the CPU, and whether a run met them.

A ratio is the fastest peer's time over ours, per layer.  Shares of the roofline are those of the
kernels by themselves, for layers whose floor is at least 50 microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.cases import TINY, Case
from harness.results import Results, distinct
from harness.roofline import geometric_mean
from harness.settings import FUNCTION, KERNEL, OURS, TITLES

SMALLEST_FLOOR = 50e-6
_TORCH = ("torch_contiguous", "torch_channels_last")


@dataclass(frozen=True)
class Verdict:
    """One line at the end of a run."""

    met: bool
    text: str

    def __str__(self) -> str:
        return f"{'MET   ' if self.met else 'MISSED'} {self.text}"


@dataclass(frozen=True)
class AgainstPeers:
    """The fastest of some peers, which we must beat by a factor: in the mean, and on each layer."""

    pass_: str
    dtype: str
    order: str
    peers: tuple[str, ...]
    mean: float
    worst: float


AGAINST_PEERS = (
    AgainstPeers(
        "forward",
        "float32",
        "nhwc",
        (*_TORCH, "tensorflow_onednn", "tflite", "onnxruntime"),
        mean=2.0,
        worst=1.0,
    ),
    AgainstPeers(
        "backward",
        "float32",
        "nhwc",
        (*_TORCH, "tensorflow_onednn", "tensorflow_eigen"),
        mean=6.0,
        worst=2.0,
    ),
    AgainstPeers("forward", "float32", "nchw", ("torch_contiguous", "onnxruntime"), 3.0, 1.0),
    AgainstPeers("backward", "float32", "nchw", ("torch_contiguous",), 6.0, 1.0),
    AgainstPeers("forward", "bfloat16", "nhwc", _TORCH, 1.3, 1.0),
    AgainstPeers("backward", "bfloat16", "nhwc", _TORCH, 2.5, 1.0),
    AgainstPeers("forward", "bfloat16", "nchw", ("torch_contiguous",), 1.3, 1.0),
    AgainstPeers("backward", "bfloat16", "nchw", ("torch_contiguous",), 2.5, 1.0),
)
LARGEST_FLOAT16 = 1.2
"""Our float16 over our bfloat16, on every layer."""
LARGEST_TINY = {"forward": 0.4, "forward_grad": 0.6, "training": 0.4}
"""Our time for a tiny call over that of ``F.conv2d``."""


def smallest_share(order: str, threads: int) -> float:
    """Of the roofline, on every layer."""
    if order == "nchw":
        return 0.5
    return 0.7 if threads == 1 else 0.6


def verdicts(results: Results) -> list[Verdict]:
    """One per target, number of threads and pass that the run covered."""
    cases = results.cases()
    found: list[Verdict] = []
    for threads in distinct(case.threads for case in cases):
        chosen = [case for case in cases if case.threads == threads]
        layers = [case for case in chosen if case.layer != TINY]
        tiny = [case for case in chosen if case.layer == TINY and case.batch == 1]
        for target in AGAINST_PEERS:
            found += _against_peers(results, target, layers)
        found += _roofline(results, layers, threads)
        found += _float16(results, layers)
        found += _tiny(results, tiny)
    return found


def _select(cases: Sequence[Case], pass_: str, dtype: str, order: str) -> list[Case]:
    wanted = (pass_, dtype, order)
    return [case for case in cases if (case.pass_, case.dtype, case.order) == wanted]


def _short(case: Case) -> str:
    return f"{case.layer.name} batch {case.batch}"


def _failed(results: Results, cases: Sequence[Case], setting: str, title: str) -> Verdict | None:
    """The verdict if some of our own times are missing."""
    reasons = [
        f"{_short(case)}: {measurement.reason}"
        for case in cases
        if (measurement := results.of(case).get(setting)) is not None and measurement.reason
    ]
    if not reasons:
        return None
    return Verdict(False, f"{title}: no time for {len(reasons)} of {len(cases)}; {reasons[0]}")


def _against_peers(
    results: Results, target: AgainstPeers, cases: Sequence[Case]
) -> Iterator[Verdict]:
    cases = _select(cases, target.pass_, target.dtype, target.order)
    if not cases:
        return
    title = f"{cases[0].kind}: times the fastest peer's speed"
    failure = _failed(results, cases, OURS.name, title)
    if failure is not None:
        yield failure
        return
    ratios = []
    absent = set(target.peers)
    for case in cases:
        best, ours = results.fastest(case, target.peers), results.seconds(case, OURS.name)
        absent -= {peer for peer in target.peers if results.seconds(case, peer) is not None}
        if best is not None and ours is not None:
            ratios.append((best[1] / ours, case, best[0]))
    if not ratios:
        return
    mean = geometric_mean([ratio for ratio, _, _ in ratios])
    worst, case, peer = min(ratios, key=lambda each: each[0])
    without = f"; without {', '.join(TITLES[p] for p in sorted(absent))}" if absent else ""
    yield Verdict(
        mean >= target.mean and worst >= target.worst,
        f"{title}: geomean {mean:.2f}x (target {target.mean:g}x), worst {worst:.2f}x (target "
        f"{target.worst:g}x) on {_short(case)} against {TITLES[peer]}; {_count(ratios)}{without}",
    )


def _roofline(results: Results, cases: Sequence[Case], threads: int) -> Iterator[Verdict]:
    for order in ("nhwc", "nchw"):
        for pass_ in ("forward", "backward"):
            chosen = _select(cases, pass_, "float32", order)
            chosen = [case for case in chosen if results.floor(case) >= SMALLEST_FLOOR]
            if not chosen:
                continue
            title = f"{chosen[0].kind}: kernel's share of the roofline"
            failure = _failed(results, chosen, KERNEL.name, title)
            if failure is not None:
                yield failure
                continue
            shares = [
                (results.floor(case) / seconds, case)
                for case in chosen
                if (seconds := results.seconds(case, KERNEL.name)) is not None
            ]
            if not shares:
                continue
            target = smallest_share(order, threads)
            worst, case = min(shares, key=lambda each: each[0])
            mean = geometric_mean([share for share, _ in shares])
            yield Verdict(
                worst >= target,
                f"{title}: geomean {100 * mean:.0f} %, worst {100 * worst:.0f} % (target "
                f"{100 * target:.0f} %) on {_short(case)}; {_count(shares)}",
            )


def _float16(results: Results, cases: Sequence[Case]) -> Iterator[Verdict]:
    for order in ("nhwc", "nchw"):
        for pass_ in ("forward", "backward"):
            ratios = []
            for case in _select(cases, pass_, "float16", order):
                half = results.seconds(case, OURS.name)
                brain = results.seconds(replace(case, dtype="bfloat16"), OURS.name)
                if half is not None and brain is not None:
                    ratios.append((half / brain, case))
            if not ratios:
                continue
            worst, case = max(ratios, key=lambda each: each[0])
            mean = geometric_mean([ratio for ratio, _ in ratios])
            yield Verdict(
                worst <= LARGEST_FLOAT16,
                f"{case.kind}: time over our bfloat16's: geomean {mean:.2f}x, worst "
                f"{worst:.2f}x (target {LARGEST_FLOAT16:g}x) on {_short(case)}; {_count(ratios)}",
            )


def _tiny(results: Results, cases: Sequence[Case]) -> Iterator[Verdict]:
    for pass_, target in LARGEST_TINY.items():
        for case in _select(cases, pass_, "float32", "nhwc"):
            best = results.fastest(case, _TORCH)
            for setting in (OURS, FUNCTION):
                ours = results.seconds(case, setting.name)
                if best is None or ours is None:
                    continue
                name = "operator" if setting is OURS else "tf.nn function"
                yield Verdict(
                    ours / best[1] <= target,
                    f"{case.kind}: call of the {name} on {_short(case)}: {ours * 1e6:.1f} us, "
                    f"{ours / best[1]:.2f}x F.conv2d's (target {target:g}x)",
                )


def _count(items: Sequence[object]) -> str:
    return f"{len(items)} case{'s' if len(items) != 1 else ''}"
