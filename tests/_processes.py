"""Real processes for tests that soon begin: forked from one that has imported what takes long."""

import signal
import time
from multiprocessing import get_context

import psutil

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
