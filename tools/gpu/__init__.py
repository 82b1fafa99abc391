"""The parts of ``tools/gpu_check``: correctness, measurements, and what is made of them.

They need PyTorch and this package, nothing else; matplotlib, pytest and compute-sanitizer are used
where they are. Whatever takes a ``device`` runs on the CPU, too, where the test suite runs it.
"""
