"""Runs every row of tests/transform_rows.py for three convolutions and writes docs/transforms.md.

python tools/transform_table.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from transform_rows import ROWS, ours, plain, stock  # noqa: E402

PAGE = ROOT / "docs" / "transforms.md"
COLUMNS = {
    "tfcompat_dw": ours,
    "`register_autograd`": plain,
    "`F.conv2d`": stock,
}
RIGHT = "right"

TEXT = """\
# Under PyTorch's transforms

What `tfcompat_dw.depthwise_conv2d` gives under each transform, beside the same mathematics as an
operator that is registered as PyTorch's tutorials do it (`torch.library.custom_op` and
`register_autograd`), and PyTorch's own `F.conv2d` on a padded copy. All with stride 2 and SAME
padding, on small integers in float64, so that right means equal to the last bit to what `F.conv2d`
gives in eager mode (the flop counter: to 2 flops per multiply-add of each pass).

PyTorch {version}. `python tools/transform_table.py` writes this page from
`tests/transform_rows.py`; the test suite checks our column.

Exporting for any size, tell `torch.export` the least one that leaves more than one row and column
behind all strides, `Dim("h", min=8)`: it takes a size of 1 for a case of its own.

{table}

"wrong" is the worst: a result, and no error. What the other two columns say where they are not
right:

{faults}

## Other releases of PyTorch

`tools/check_torch VERSION` runs the tests of operators, derivatives, transforms, layers, swapped
networks, DTensor, DDP and FSDP2 under another release with the module as it was built: one build
serves all. With 2.12.0 and 2.14.1 all of them hold. With 2.10.0 and 2.11.0 all but three things do,
which those releases themselves cannot: gradients leave compiled code in contiguous order, whatever
order they had; a network that was compiled before `replace_depthwise` goes on with what it had;
DTensor refuses operators whose first argument is a size, so the gradient of the input alone, or of
the filter alone (both together work). With 2.10.0, non-strict `torch.export` of a residual block
does not see that two sizes are equal.
"""


def main() -> None:
    """Run everything, write the page."""
    results = {}
    for row in ROWS:
        results[row.name] = [row.fault(convolution) for convolution in COLUMNS.values()]
        print(row.name, *(fault or RIGHT for fault in results[row.name]), sep=" | ", flush=True)
    version = torch.__version__.partition("+")[0]
    PAGE.write_text(
        TEXT.format(version=version, table=table(results), faults=faults_listed(results))
    )
    gaps = [name for name, (own, _, theirs) in results.items() if own and not theirs]
    print(f"written: {PAGE.relative_to(ROOT)}; our gaps: {', '.join(gaps) or 'none'}")


def table(results: dict[str, list[str | None]]) -> str:
    """In Markdown."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(map(cell, faults))} |" for name, faults in results.items()]
    return "\n".join(lines)


def cell(fault: str | None) -> str:
    """In a word."""
    if fault is None:
        return RIGHT
    return "**wrong**" if fault.startswith("wrong") else "error"


def faults_listed(results: dict[str, list[str | None]]) -> str:
    """Each fault once, with its rows."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, faults in results.items():
        for column, fault in zip(COLUMNS, faults, strict=True):
            if fault is not None:
                found.setdefault((column, fault), []).append(name)
    return "\n".join(
        f"* {column}: {', '.join(names)}: `{fault.replace('`', '')}`"
        for (column, fault), names in found.items()
    )


def cells_of(page: str) -> dict[str, list[str]]:
    """The table of a page: by row, its cells."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {name: cells for name, *cells in rows[1:]}


if __name__ == "__main__":
    main()
