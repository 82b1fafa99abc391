"""The project's speed targets on a GPU, and whether a run met them.

A share is the time of a copy of as many bytes over ours. A ratio is the time of the faster of
PyTorch's two memory formats over ours, per layer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gpu.layers import DTYPES, LAYERS, ORDERS, Layer, Row, layer_of

LARGE = 64_000_000
"""Bytes that a layer moves: from here on the share of a copy counts, below the time of a launch."""
KERNELS = range(3, 6)
"""Larger filters compute longer than they move."""
SMALLEST_SHARE = {"forward": 0.90, "input grad": 0.90, "filter grad": 0.85}
LAUNCH_US = 3.0
"""What a smaller layer may take beyond moving its bytes at the run's best copy rate."""
FORMATS = ("torch nchw", "torch nhwc")
"""The peers: PyTorch with contiguous and with channels_last tensors."""
SMALLEST_MEAN = {("forward",): 1.5, ("forward", "backward"): 3.0}
"""Ratios, of one pass or of the sum of two."""
SMALLEST_RATIO = 1.0
DOUBTFUL = 0.9
"""A copy at less than this part of a smaller one's rate has been timed wrongly."""


@dataclass(frozen=True)
class Verdict:
    """One line at the end of a run."""

    met: bool
    text: str

    def __str__(self) -> str:
        return f"{'MET   ' if self.met else 'MISSED'} {self.text}"


class Copies:
    """How fast the run copied. A larger copy is not slower, byte by byte, than a smaller one."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._measured = [
            (row["bytes"], row["bytes"] / row["copy_us"], row)
            for row in rows
            if row["pass"] == "forward"
        ]
        self.best = max((rate for _, rate, _ in self._measured), default=math.nan)
        """Bytes per microsecond."""

    def _rate(self, nbytes: int) -> float:
        return max((rate for size, rate, _ in self._measured if size <= nbytes), default=math.nan)

    def microseconds(self, row: Row) -> float:
        """Of a copy of what the pass moves, at the best rate of any copy no larger than that."""
        rate = self._rate(layer_bytes(row))
        return row["copy_us"] if math.isnan(rate) else row["bytes"] / rate

    def share(self, row: Row) -> float:
        """Of that copy's speed."""
        return self.microseconds(row) / row["us"]

    def doubtful(self) -> list[str]:
        """Copies that are not believed, in words."""
        return [
            f"{row['order']} {row['dtype']} {layer_of(row).full_name}: copied at "
            f"{rate / 1e6:.2f} TB/s, slower than a smaller copy; {self._rate(size) / 1e6:.2f} "
            "TB/s is taken"
            for size, rate, row in self._measured
            if rate < DOUBTFUL * self._rate(size)
        ]


def layer_bytes(row: Row) -> int:
    """Of input and output, each once."""
    layer = layer_of(row)
    return layer.moved("forward", DTYPES[row["dtype"]].itemsize)


def verdicts(rows: Sequence[Row], layers: Sequence[Layer] = LAYERS) -> list[Verdict]:
    """One per target, memory order and dtype that the run covered."""
    copies = Copies(rows)
    found: list[Verdict] = []
    for order in ORDERS:
        for dtype in DTYPES:
            chosen = [row for row in rows if (row["order"], row["dtype"]) == (order, dtype)]
            if not chosen:
                continue
            title = f"{order} {dtype}"
            for pass_ in SMALLEST_SHARE:
                found += _share(chosen, layers, copies, pass_, title)
            found += _small(chosen, layers, copies, title)
            for passes in SMALLEST_MEAN:
                found += _ratio(chosen, layers, passes, title)
    return found


def is_large(layer: Layer, dtype: str) -> bool:
    """One of those that must come near to the copy."""
    return layer.moved("forward", DTYPES[dtype].itemsize) >= LARGE


_Wanted = Callable[[Layer, str], bool]
"""Whether a target has to do with a layer in a dtype."""


def _missing(
    rows: Sequence[Row], layers: Sequence[Layer], passes: Sequence[str], wanted: _Wanted
) -> str:
    """Layers without a time, in words: a target that they have a part in is not met."""
    dtype = rows[0]["dtype"]
    measured = {(layer_of(row), row["pass"]) for row in rows}
    names = [
        layer.full_name
        for layer in layers
        if wanted(layer, dtype) and any((layer, pass_) not in measured for pass_ in passes)
    ]
    return f"; not measured: {', '.join(names)}" if names else ""


def _nothing(title: str, missing: str) -> Iterator[Verdict]:
    """A target of which no time is there: missed, unless no layer has a part in it."""
    if missing:
        yield Verdict(False, f"{title}: no times{missing}")


def _large(layer: Layer, dtype: str) -> bool:
    return layer.kernel in KERNELS and is_large(layer, dtype)


def _not_large(layer: Layer, dtype: str) -> bool:
    return layer.kernel in KERNELS and not is_large(layer, dtype)


def _any(layer: Layer, dtype: str) -> bool:
    return True


def _share(
    rows: Sequence[Row], layers: Sequence[Layer], copies: Copies, pass_: str, title: str
) -> Iterator[Verdict]:
    chosen = [r for r in rows if r["pass"] == pass_ and _large(layer_of(r), r["dtype"])]
    missing = _missing(rows, layers, [pass_], _large)
    if not chosen:
        yield from _nothing(f"{title} {pass_}, large layers", missing)
        return
    shares = [(copies.share(row), row) for row in chosen]
    mean = statistics.geometric_mean([share for share, _ in shares])
    worst, row = min(shares, key=lambda each: each[0])
    target = SMALLEST_SHARE[pass_]
    yield Verdict(
        worst >= target and not missing,
        f"{title} {pass_}, large layers: share of a copy: geomean {mean:.0%}, worst {worst:.0%} "
        f"(target {target:.0%}) on {layer_of(row).full_name}; {_count(shares)}{missing}",
    )


def _small(
    rows: Sequence[Row], layers: Sequence[Layer], copies: Copies, title: str
) -> Iterator[Verdict]:
    chosen = [
        row
        for row in rows
        if row["pass"] in SMALLEST_SHARE and _not_large(layer_of(row), row["dtype"])
    ]
    missing = _missing(rows, layers, list(SMALLEST_SHARE), _not_large)
    if not chosen:
        yield from _nothing(f"{title} smaller layers", missing)
        return
    beyond = [(row["us"] - row["bytes"] / copies.best, row) for row in chosen]
    worst, row = max(beyond, key=lambda each: each[0])
    yield Verdict(
        worst <= LAUNCH_US and not missing,
        f"{title} smaller layers: beyond moving their bytes at {copies.best / 1e6:.2f} TB/s: worst "
        f"{worst:.1f} us (target {LAUNCH_US:g} us) on {layer_of(row).full_name}, {row['pass']}; "
        f"{len(chosen)} times{missing}",
    )


def ratios(
    rows: Sequence[Row], passes: Sequence[str], peers: Sequence[str] = FORMATS
) -> list[tuple[float, Layer, str]]:
    """Per layer: the fastest peer's time over ours, for the sum of some passes, and which it is."""
    found = []
    by_layer: dict[Layer, dict[str, Row]] = {}
    for row in rows:
        by_layer.setdefault(layer_of(row), {})[row["pass"]] = row
    for layer, measured in by_layer.items():
        if any(pass_ not in measured for pass_ in passes):
            continue
        chosen = [measured[pass_] for pass_ in passes]
        times = {}
        for peer in peers:
            parts = [row["peers"].get(peer) for row in chosen]
            known = [part for part in parts if part is not None]
            if len(known) == len(parts):
                times[peer] = sum(known)
        if times:
            best = min(times, key=lambda peer: times[peer])
            found.append((times[best] / sum(row["us"] for row in chosen), layer, best))
    return found


def _ratio(
    rows: Sequence[Row], layers: Sequence[Layer], passes: tuple[str, ...], title: str
) -> Iterator[Verdict]:
    found = ratios(rows, passes)
    missing = _missing(rows, layers, passes, _any)
    if not found:
        yield from _nothing(f"{title} {' + '.join(passes)}", missing)
        return
    mean = statistics.geometric_mean([ratio for ratio, _, _ in found])
    worst, layer, peer = min(found, key=lambda each: each[0])
    target = SMALLEST_MEAN[passes]
    yield Verdict(
        mean >= target and worst >= SMALLEST_RATIO and not missing,
        f"{title} {' + '.join(passes)}: times the faster torch's speed: geomean {mean:.2f}x "
        f"(target {target:g}x), worst {worst:.2f}x (target {SMALLEST_RATIO:g}x) on "
        f"{layer.full_name} against {peer}; {_count(found)}{missing}",
    )


def _count(layers: Sequence[object]) -> str:
    return f"{len(layers)} layer{'s' if len(layers) != 1 else ''}"
