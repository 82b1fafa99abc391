"""What a user sees at import: the names, the configuration, and one sentence if it cannot work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import tfcompat_dw
from tfcompat_dw import library

FAILURES = {
    "an old torch": (
        "import torch; torch.__version__ = '2.9.1+cpu'",
        {},
        "ImportError: tfcompat_dw needs torch >= 2.10, found 2.9.1+cpu; "
        "upgrade with: pip install --upgrade torch",
    ),
    "nothing compiled": (
        "import sys; sys.modules['tfcompat_dw._C'] = None",
        {},
        "build it from a source checkout with: pip install --no-build-isolation -e .",
    ),
    "an unknown instruction set": (
        "",
        {"TFCOMPAT_DW_ISA": "mmx"},
        "ValueError: TFCOMPAT_DW_ISA is 'mmx', but this processor and build offer: ",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_import_that_cannot_work_says_why_and_what_to_do(name: str) -> None:
    preparation, environment, text = FAILURES[name]
    run = subprocess.run(
        [sys.executable, "-c", f"{preparation}\nimport tfcompat_dw"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert text in run.stderr.splitlines()[-1]


def test_all_public_names_are_there_with_a_docstring() -> None:
    for name in tfcompat_dw.__all__:
        assert getattr(tfcompat_dw, name).__doc__


def test_show_config_names_the_kernels_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    tfcompat_dw.show_config()
    printed = capsys.readouterr().out
    for part in (tfcompat_dw.__version__, library.CPU_ISA, "torch", "CUDA kernels"):
        assert part in printed


def test_importing_the_package_imports_nothing_but_torch() -> None:
    """The run-time dependency is torch alone: what comes with it is there before."""
    script = (
        "import sys, torch, torch.library, torch.utils.flop_counter\n"
        "before = set(sys.modules)\n"
        "import tfcompat_dw\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(eval(run.stdout)) <= {"tfcompat_dw", "torch", "torchgen", "functorch"}
