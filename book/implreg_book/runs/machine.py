"""This machine: what a result was made with, for its provenance, and locks of its processes."""

import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock


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


def lock_of(name: str) -> FileLock:
    """Return the lock called `name`, the same for all processes of this user on this machine.

    It is free again when its process ends in any way. Its file lies among the temporary ones, so
    that no folder of a user's own fills with them.
    """
    folder = Path(tempfile.gettempdir()) / f"implreg-locks-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / hashlib.sha256(name.encode()).hexdigest()[:32])
