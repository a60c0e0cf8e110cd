"""What the benchmarks share: timings side by side, fresh processes, peak memory, a check."""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor, nn

import implreg as ir

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def timing_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Options of a script with timings side by side, with how often and on how many threads."""
    parser.add_argument("--repeats", type=int, help="rounds (default: 7)")
    parser.add_argument("--threads", nargs="+", type=int, help="their numbers (default: 1 2)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, 1 round, 1 thread")
    options = parser.parse_args()
    options.repeats = options.repeats or (1 if options.quick else 7)
    options.threads = options.threads or ([1] if options.quick else [1, 2])
    return options


def fresh(function: Callable, *arguments, threads: int | None = None):
    """The result of a function of the script, run in a process of its own."""
    threads = threads or torch.get_num_threads()
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    with ProcessPoolExecutor(
        1, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        return pool.submit(function, *arguments).result()


def say(text: str) -> None:
    """Progress, on the error stream, so that the output is the tables alone."""
    print(text, file=sys.stderr, flush=True)


def show(title: str, rows: Sequence[dict]) -> None:
    table = pd.DataFrame(rows, dtype=object).fillna("")
    print(f"\n{title}\n\n{table.to_string(index=False)}")


def seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def side_by_side(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each call in every round; a round is each call once, in turn."""
    rounds = [[seconds(call) for call in calls.values()] for _ in range(repeats + 1)]
    return dict(zip(calls, np.array(rounds[1:]).T, strict=True))  # the first one warms up


def in_batches(function: Callable[..., object], *tensors: Tensor) -> tuple[Callable, int]:
    """The function on all rows of the tensors, in the batch size that is quickest, and that one."""

    def run(size: int, rows: int | None = None) -> None:
        for batch in zip(*(x[:rows].split(size) for x in tensors), strict=True):
            function(*batch)

    best, per_row = 1, np.inf
    for size in (16, 64, 256, 1024, 4096, 16384):
        rows = min(len(tensors[0]), max(size, 64))
        took = min(seconds(lambda: run(size, rows)) for _ in range(3)) / rows  # noqa: B023
        if took < per_row:
            best, per_row = size, took
        if took > 1.5 * per_row or size >= len(tensors[0]):
            break
    return lambda: run(best), min(best, len(tensors[0]))


def with_peak(call: Callable[[], object]) -> tuple[object, float, float]:
    """What a call returns, its seconds, and its peak resident memory in MB above that before it.

    The peak is `ru_maxrss`, the largest that the process ever was: in a fresh process that has
    done little else it is exact, and never too small.
    """
    before = psutil.Process().memory_info().rss
    begin = time.perf_counter()
    result = call()
    took = time.perf_counter() - begin
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return result, took, (peak - before) / 1e6


def megabytes(trace: ir.Trace) -> float:
    return sum(x.nbytes for x in vars(trace).values() if isinstance(x, Tensor)) / 1e6


def conv_network(channels: int = 16, size: int = 28) -> nn.Sequential:
    """Two 3x3 convolutions, 4x4 average pooling and a linear layer, with He initialisation."""
    net = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(channels * (size // 4) ** 2, 10),
    )  # fmt: skip
    random = torch.Generator().manual_seed(0)
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=random)
            nn.init.zeros_(layer.bias)
    return net.double()


def random_ends(paths: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Gaussian starts and ends of paths, (paths, *shape) each."""
    random = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, paths, *shape, generator=random, dtype=torch.float64)
    return x0, x1
