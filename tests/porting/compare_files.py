"""Runs `tfcompat-dw compare --json` several times in one process, which imports TensorFlow once.

    python compare_files.py ARGUMENTS [-- ARGUMENTS ...]

Prints a list of pairs, exit code and what was printed.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby

from typer.testing import CliRunner

from tfcompat_dw import cli


def main(*arguments: str) -> None:
    groups = [list(group) for key, group in groupby(arguments, lambda one: one == "--") if not key]
    runs = [CliRunner().invoke(cli.app, ["compare", "--json", *group]) for group in groups]
    print("\n" + json.dumps([(run.exit_code, run.stdout or run.stderr) for run in runs]))


if __name__ == "__main__":
    main(*sys.argv[1:])
