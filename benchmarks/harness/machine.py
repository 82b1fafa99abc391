"""Which machine this is, and what it can do per second."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from harness import build
from harness.roofline import Rates


def describe() -> dict[str, Any]:
    """For the record: processor, caches, operating system."""
    return {
        "processor": _processor(),
        "cpus": cpu_count(),
        "caches": _caches(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def cpu_count() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(threads: int) -> Rates:
    """Copies by size and multiply-adds, on that many threads; some seconds."""
    command = [str(build.rates_program()), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return Rates.from_dict({"threads": threads, **json.loads(done.stdout)})


def _processor() -> str:
    fields: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    numbers = f"family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
    return f"{fields['model name']} ({numbers})"


def _caches() -> list[str]:
    caches = []
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((cache / n).read_text().strip() for n in ("level", "type", "size"))
        except OSError:
            continue
        caches.append(f"L{level} {kind.lower()} {size}")
    return caches
