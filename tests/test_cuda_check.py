"""``make cuda-check`` finds what it is there for; with nvcc, the kernels' PTX keeps its rules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import cuda_check  # noqa: E402
from cuda_check import Table, Usage  # noqa: E402

HOT = "gather_strips<float, 4, 3, 1>"
MANGLED = "_ZN11tfcompat_dw4cuda13gather_stripsIfLi4ELi3ELi1EEEvNS0_12GatherStripsEPKT_S5_S5_PS3_"
FILTER = (
    "_ZN11tfcompat_dw4cuda15filter_channelsIfLi4ELi3ELi3ELi1EEEvNS0_14FilterChannelsEPKT_S5_PS3_"
)
PLANES = "_ZN11tfcompat_dw4cuda13gather_planesIfLi3ELi1EEEvNS0_12GatherPlanesEPKT_S5_S5_PS3_"
REDUCE = "_ZN11tfcompat_dw4cuda15reduce_partialsIdEEvPKdillPd"

LOG = f"""\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{MANGLED}' for 'sm_80'
ptxas info    : Function properties for {MANGLED}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 126 registers, used 1 barriers, 512 bytes smem
ptxas info    : Compile time = 82.7 ms
ptxas info    : Compiling entry function '{MANGLED}' for 'sm_90'
ptxas info    : Function properties for {MANGLED}
    24 bytes stack frame, 52 bytes spill stores, 68 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 24 bytes cumulative stack size
ptxas info    : Compile time = 93.5 ms
ptxas info    : Compiling entry function '{REDUCE}' for 'sm_90'
ptxas info    : Function properties for {REDUCE}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers
"""
PARSED = {
    HOT: {"sm_80": Usage(126, 0, 512), "sm_90": Usage(128, 24, 0)},
    "reduce_partials<double>": {"sm_90": Usage(30, 0, 0)},
}


# ---- the table of registers ----------------------------------------------------------------------


def test_the_compilers_report_is_read() -> None:
    assert cuda_check.parse_ptxas(LOG) == PARSED


def test_a_table_is_read_as_it_was_written() -> None:
    table = Table("13.0.88", PARSED)
    assert Table.parse(table.text()) == table


def test_the_committed_table_is_written_by_this_program_for_what_setup_builds() -> None:
    text = cuda_check.TABLE.read_text()
    table = Table.parse(text)
    assert table.text() == text
    built = cuda_check.setup_constant("CUDA_ARCHITECTURES").replace("+PTX", "").replace(".", "")
    assert table.architectures() == {f"sm_{number}" for number in built.split(";")}
    assert all(row.keys() == table.architectures() for row in table.usages.values())
    assert list(cuda_check.spills(table.usages)) == []


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_a_spill_is_an_error_where_none_may_be(architecture: str) -> None:
    usages = {HOT: {"sm_75": Usage(128, 8, 0), architecture: Usage(128, 16, 0)}}
    assert list(cuda_check.spills(usages)) == [f"{HOT} spills 16 bytes on {architecture}"]


def test_what_changed_is_told_with_the_way_to_accept_it() -> None:
    committed = {"kept": {"sm_90": Usage(1, 0, 0)}, "old": {"sm_90": Usage(30, 0, 0)}}
    committed[HOT] = {"sm_80": Usage(126, 0, 0), "sm_90": Usage(128, 0, 0)}
    found = {"kept": {"sm_90": Usage(1, 0, 0)}, "new": {"sm_90": Usage(40, 0, 0)}}
    found[HOT] = {"sm_80": Usage(126, 0, 0), "sm_90": Usage(112, 0, 64)}
    faults = cuda_check.compared(Table("13", committed), Table("13", found), True)
    assert faults == [
        f"{HOT} on sm_90: 128/0/0 in the table, now 112/0/64",
        "new on sm_90: not in the table, now 40/0/0",
        "old on sm_90: 30/0/0 in the table, now gone",
        "If that is meant: make cuda-check ACCEPT=1, and commit registers.txt",
    ]
    assert cuda_check.compared(Table("13", found), Table("13", found), True) == []


def test_an_architecture_that_is_not_built_any_more_is_told_unless_some_were_chosen() -> None:
    committed = Table("13", PARSED)
    found = Table("13", {kernel: {"sm_90": row["sm_90"]} for kernel, row in PARSED.items()})
    assert cuda_check.compared(committed, found, False) == []
    assert cuda_check.compared(committed, found, True)[0] == (
        f"{HOT} on sm_80: 126/0/512 in the table, now gone"
    )


def test_another_compilers_registers_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda_check.compared(Table("13.0.88", PARSED), Table("12.8.93", {}), True) == []
    assert "made with nvcc 13.0.88, this is 12.8.93" in capsys.readouterr().out


def test_architectures_become_options_of_nvcc() -> None:
    assert cuda_check.targets("8.0;12.0+PTX") == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]


# ---- PTX -----------------------------------------------------------------------------------------


def ptx(kernel: str, *instructions: str) -> str:
    """A kernel as nvcc writes it; registers may bear any name, such as %f64."""
    lines = "".join(f"\t{instruction};\n" for instruction in instructions)
    return (
        f".visible .entry {kernel}(\n\t.param .u64 p\n)\n{{\n\t.reg .f64 \t%fd<2>;\n{lines}\n}}\n"
    )


LOADS = ["@%p1 ld.global.nc.v4.f32 \t{%f1, %f2, %f3, %f64}, [%rd1]"] * 4
STORE = "st.global.v4.f32 \t[%rd1], {%f1, %f2, %f3, %f4}"
FMA = "fma.rn.f32 \t%f64, %f1, %f2, %f64"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (ptx(MANGLED, *LOADS, FMA, STORE), []),
        (ptx(MANGLED, *LOADS, "{  cvt.f64.f32 \t%fd1, %f1", STORE), ["in float64: cvt.f64.f32"]),
        (ptx(REDUCE, "add.f64 \t%fd1, %fd1, %fd1"), []),
        (ptx(REDUCE, "atom.global.add.f64 \t%fd1, [%rd1], %fd1"), ["operation: atom.global.add"]),
        (ptx(REDUCE, "@!%p2 red.global.add.f64 \t[%rd1], %fd1"), ["operation: red.global.add.f64"]),
        (ptx(REDUCE, "barrier.red.and.pred \t%p1, 0, %p2", "bar.sync \t0"), []),
        (ptx(MANGLED, *LOADS[:3], STORE), ["has 3 loads of 16 bytes"]),
        (ptx(MANGLED, *LOADS, STORE, "st.global.f32 \t[%rd1], %f1"), ["stores [4, 16] bytes"]),
        (ptx(FILTER, *LOADS, "st.global.f32 \t[%rd1], %f1"), []),
        (ptx(PLANES, LOADS[0], STORE, "st.global.f32 \t[%rd1], %f1"), []),
        (ptx(PLANES, LOADS[0], "st.global.f32 \t[%rd1], %f1"), ["stores [4] bytes"]),
        (ptx(PLANES, "ld.global.nc.f32 \t%f1, [%rd1]", STORE), ["loads [4] bytes"]),
        (ptx(FILTER, *LOADS, "ld.global.nc.v2.b64 \t{%rd2, %rd3}, [%rd1]"), []),
        (ptx(FILTER, *LOADS, "ld.global.nc.u16 \t%rs1, [%rd1]"), ["loads [2, 16] bytes"]),
    ],
)
def test_kernels_that_break_a_rule_are_told(text: str, faults: list[str]) -> None:
    found = list(cuda_check.ptx_faults(text))
    assert len(found) == len(faults)
    assert all(part in fault for part, fault in zip(faults, found, strict=True)), found


NVCC = cuda_check.find_nvcc()


@pytest.mark.skipif(NVCC is None, reason="this machine has no nvcc")
@pytest.mark.parametrize("source", ["float32", "bfloat16", "float16"])
def test_ptx_has_wide_loads_no_float64_and_no_atomics(source: str) -> None:
    assert NVCC is not None
    text = cuda_check.ptx_of(NVCC, ROOT / "csrc" / "cuda" / f"{source}.cu", "90")
    assert list(cuda_check.ptx_faults(text)) == []
    # the rules do look at these kernels: the same instructions a number at a time break them
    dtype = {"float32": "float", "bfloat16": "BFloat16", "float16": "Float16"}[source]
    faults = list(cuda_check.ptx_faults(text.replace(".v4.", ".").replace(".v2.", ".")))
    for kernel in (
        f"gather_strips<{dtype}, 4, 3",
        f"gather_parities<{dtype}, 4, 3",
        f"gather_tiles<{dtype}, 16, 1",
        f"filter_channels<{dtype}, 4, 3",
        f"gather_planes<{dtype}, 3, 1",
        f"gather_plane_parities<{dtype}, 3",
        f"backward_planes<{dtype}, 3",
        f"filter_planes<{dtype}, 3, 1",
    ):
        assert any(fault.startswith(kernel) for fault in faults), faults
