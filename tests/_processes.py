"""Real processes for tests that soon begin: forked from one that has imported what takes long."""

import resource
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from multiprocessing import get_context

import psutil
import pytest

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload([
    "pytest", "hypothesis.extra.numpy", "torch", "implreg_book.runs.grid",
    "implreg_book.runs.cluster", "distributed.cli.dask_scheduler", "distributed.cli.dask_worker",
])  # fmt: skip


def wait_until(condition, seconds=600):
    """Wait for what other processes do, and fail if it never happens."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def as_in_a_terminal():
    """For `preexec_fn`: what a shell starts in the background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def children(pid):
    """All processes that this one has started, and those that these have."""
    return psutil.Process(pid).children(recursive=True)


def alive(processes):
    """Those that have not ended, whether or not somebody has asked for their exit code."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def on_small_disks(*folders, size="64k"):
    """Words before a command that finds in each of `folders` a small file system of its own.

    These end with the command.
    """
    for user in ([], ["--user", "--map-root-user"]):
        alone = ["unshare", *user, "--mount"]
        probe = [*alone, "mount", "-t", "tmpfs", "tmpfs", str(folders[0])]
        if shutil.which("unshare") and subprocess.run(probe, capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("a full disk needs unshare of util-linux, as root or with user namespaces.")
    mounts = [f"mount -t tmpfs -o size={size} tmpfs '{folder}'" for folder in folders]
    return [*alone, "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh"]


@contextmanager
def small_files(largest=1000):
    """The nearest to a full disk that needs no rights: no file has more bytes than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
