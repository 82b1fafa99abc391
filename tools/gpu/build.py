"""Runs setup.py for tools/gpu_check, with whatever setuptools there is.

python tools/gpu/build.py -q build_ext --inplace ...
"""

from __future__ import annotations

import runpy
import sys
import sysconfig
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """As ``python setup.py``, but that pyproject.toml is not read.

    An extension that is built in place needs none of its metadata, and setuptools below 77, which
    Python 3.11 and older still bring along, refuses to read its license.
    """
    try:
        from setuptools.dist import Distribution
    except ImportError as error:
        sys.exit(f"tools/gpu_check: {error}; PyTorch builds extensions with setuptools: install it")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        sys.exit(
            f"tools/gpu_check: no Python.h in {headers}; install the headers of {sys.executable} "
            "(Debian: python3-dev)"
        )

    def reads_nothing(*_: Any, **__: Any) -> None:
        pass

    Distribution.parse_config_files = reads_nothing  # type: ignore[method-assign]
    sys.argv[0] = str(ROOT / "setup.py")
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
