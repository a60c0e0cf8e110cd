"""What a result was made with, for its provenance: the machine and the commit."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil


def hardware() -> dict[str, Any]:
    """Return the model of the processor (`cpu`), the number of `cores`, and the `memory`."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
    }


def commit(root: Path) -> str:
    """Return what `git describe` says of the checkout at `root`, "unknown" if there is none."""
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
