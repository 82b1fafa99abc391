"""The parts of the benchmark; ``bench.py`` and ``plot.py`` one folder up are the commands."""
