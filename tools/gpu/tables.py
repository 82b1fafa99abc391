"""Tables of times, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpu.layers import DTYPES, LAYERS, ORDERS, PASSES, Layer, Row, layer_of
from gpu.targets import Copies, ratios, verdicts

HEAD = f"{'':26}" + "".join(f" | {pass_:^22}" for pass_ in PASSES)
UNITS = f"{'':26}" + f" | {'us':>7} {'copy':>5} {'torch':>8}" * len(PASSES)


def table(rows: Sequence[Row], order: str, dtype: str) -> list[str]:
    """Microseconds, share of a copy of as many bytes, times the faster torch's speed."""
    chosen = [row for row in rows if (row["order"], row["dtype"]) == (order, dtype)]
    lines = [f"{order} {dtype}", HEAD, UNITS]
    for layer in dict.fromkeys(layer_of(row) for row in chosen):
        lines.append(layer_line(layer, [r for r in chosen if layer_of(r) == layer], rows))
    return lines


def layer_line(layer: Layer, own: Sequence[Row], rows: Sequence[Row]) -> str:
    """One line; ``rows`` are all of the run, for their copies."""
    copies = Copies(rows)
    measured = {row["pass"]: row for row in own}
    cells = [_cell(measured[p], copies) if p in measured else " " * 22 for p in PASSES]
    return " | ".join([f"{layer.full_name:26}", *cells])


def _cell(row: Row, copies: Copies) -> str:
    known = ratios([row], [row["pass"]], list(row["peers"]))
    ratio = f"{known[0][0]:.2f}x" if known else "n/a"
    return f"{row['us']:7.1f} {copies.share(row):5.0%} {ratio:>8}"


def variants_table(rows: Sequence[Row]) -> list[str]:
    """Microseconds of ours and of PyTorch's other ways to the same result."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row["peers"]))
    names = ["ours", *peers]
    width = max(map(len, names), default=0)
    lines = [f"{'':44}" + "".join(f" {name:>{width}}" for name in names)]
    for row in rows:
        title = f"{row['order']} {row['dtype']} {layer_of(row).full_name} {row['pass']}"
        times = [row["us"], *(row["peers"].get(peer) for peer in peers)]
        cells = (f"{'n/a' if time is None else f'{time:.1f}':>{width}}" for time in times)
        lines.append(f"{title:44} " + " ".join(cells))
    return lines


def findings(content: Mapping[str, Any], most: int = 40) -> list[str]:
    """Counts of what was checked, then the first failures, then all that was left out."""
    failures = content["failures"]
    lines = []
    for group, count in content["counts"].items():
        wrong = sum(failure.startswith(f"{group}: ") for failure in failures)
        lines.append(f"{group}: {count - wrong} of {count} right")
    lines += [f"  WRONG {failure[:400]}" for failure in failures[:most]]
    if len(failures) > most:
        lines.append(f"  and {len(failures) - most} more that are wrong")
    left_out = content.get("left_out", [])
    lines += [verdict for verdict in content.get("sanitizer", []) if verdict not in left_out]
    return lines + [f"  LEFT OUT {text}" for text in left_out]


def times(content: Mapping[str, Any]) -> list[str]:
    """All tables, copies that are not believed, and at the end the verdicts."""
    rows, variants = content["rows"], content.get("variants", [])
    if not rows:
        return []
    lines = ["us, share of a copy of as many bytes, times the speed of the faster torch"]
    for order in ORDERS:
        for dtype in DTYPES:
            if any((row["order"], row["dtype"]) == (order, dtype) for row in rows):
                lines += ["", *table(rows, order, dtype)]
    if variants:
        lines += ["", "PyTorch's other kernels, us", *variants_table(variants)]
    lines += ["", f"fastest copy: {Copies(rows).best / 1e6:.2f} TB/s, read and write together"]
    lines += Copies(rows).doubtful()
    if content.get("device") == "cpu":
        return [*lines, "", "a rehearsal on the CPU: its times say nothing of a GPU"]
    layers = [Layer(*each) for each in content.get("layers", LAYERS)]
    return lines + [""] + [str(verdict) for verdict in verdicts(rows, layers)]
