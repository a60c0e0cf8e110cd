"""What a grid of runs costs beside its runs, and how much two processes are worth.

Prints two tables. The first is of overhead: runs that do nothing but return a table of one row with
40 columns, in warm workers.

* `ms` is the time of a whole grid divided by the number of runs: the median over the rounds, and
  the smallest and largest.
* Rows with something under `against` divide it by that of the same function, handed out plainly by
  another library in the same round: the median of the ratios, and the smallest and largest. Files
  read plainly are those of the store, by `pandas.read_parquet`.
* `target` is what the project promises, in ms.

The second is of 20 tasks of 0.1 s, each a loop of small matrix products in one thread: the time by
one process over that by two, median over the rounds, and the same by plain loky, which is what the
machine can do. It tells something only with two idle cores; the load at the start is written on the
error stream.

Progress bars are switched off. Rows of Dask are left out where it cannot be imported.

    python benchmarks/runs_speed.py                        # 2 minutes
    python benchmarks/runs_speed.py --quick                # few runs, 1 round, to try the script
"""

import argparse
import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported

import joblib
import loky
import numpy as np
import pandas as pd
import psutil
from _measure import say, seconds, show, side_by_side
from implreg_book.runs import run_all

WORKERS = 2
COLUMNS = [f"column_{i}" for i in range(40)]
LOCAL, CLUSTER, SPEED_UP = 5.0, 20.0, 1.8
TASK = 0.1  # seconds


@dataclass(frozen=True)
class Config:
    number: int
    products: int = 0


def row(config: Config) -> pd.DataFrame:
    return pd.DataFrame([np.full(len(COLUMNS), float(config.number))], columns=COLUMNS)


def work(config: Config) -> pd.DataFrame:
    matrix = np.eye(32)
    for _ in range(config.products):
        matrix = matrix @ matrix
    return pd.DataFrame({"trace": [matrix.trace()]})


def local(runs: int, repeats: int) -> list[dict]:
    """Processes of this machine, and the store."""
    configs = [Config(n) for n in range(runs)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kept = folder / "kept"
        run_all(row, configs, store=kept, workers=WORKERS)
        files = list(kept.rglob("*.parquet"))
        # One that is not the pool of `run_all`, which `loky.get_reusable_executor` would share.
        pool = loky.ProcessPoolExecutor(WORKERS)
        stack.callback(pool.shutdown)
        parallel = stack.enter_context(joblib.Parallel(WORKERS))
        own = {
            "processes": lambda: run_all(row, configs, workers=WORKERS),
            "processes, kept": lambda: run_all(row, configs, workers=WORKERS, store=new(folder)),
            "read back": lambda: run_all(row, configs, store=kept),
        }
        plain = {
            "loky": lambda: [f.result() for f in [pool.submit(row, c) for c in configs]],
            "joblib": lambda: parallel(joblib.delayed(row)(config) for config in configs),
            "pandas": lambda: pd.concat(map(pd.read_parquet, files)),
        }
        took = side_by_side(own | plain, repeats)
    against = {
        "processes": ["loky", "joblib"], "processes, kept": ["loky", "joblib"],
        "read back": ["pandas"],
    }  # fmt: skip
    return rows_of(took, runs, against, {"processes, kept": LOCAL})


def cluster(runs: int, repeats: int, quick: bool) -> list[dict]:
    """A Dask cluster of this machine, to try the script within this process."""
    try:
        import distributed
    except ImportError:
        return []
    configs = [Config(n) for n in range(runs)]
    with (
        tempfile.TemporaryDirectory() as folder,
        distributed.LocalCluster(
            WORKERS, threads_per_worker=1, processes=not quick, dashboard_address=":0"
        ) as own,
        distributed.Client(own, set_as_default=False) as client,
    ):
        address = own.scheduler_address
        calls = {
            "Dask": lambda: run_all(row, configs, executor=address),
            "Dask, kept": lambda: run_all(row, configs, executor=address, store=new(folder)),
            "client.map": lambda: client.gather(client.map(row, configs, pure=False)),
        }
        took = side_by_side(calls, repeats)
    against = {"Dask": ["client.map"], "Dask, kept": ["client.map"]}
    return rows_of(took, runs, against, {"Dask": CLUSTER, "Dask, kept": CLUSTER})


def new(folder: str | Path) -> str:
    return tempfile.mkdtemp(dir=folder)


def rows_of(took: dict, runs: int, against: dict, targets: dict) -> list[dict]:
    rows = []
    for what, others in against.items():
        each = took[what] / runs * 1e3
        ms = np.median(each)
        line = {
            "what": what, "ms": f"{ms:.2f}", "against": "", "other ms": "", "ratio": "",
            "from": f"{each.min():.2f}", "to": f"{each.max():.2f}",
        }  # fmt: skip
        if what in targets and runs >= 100:  # the target is for many
            line |= {"target": f"{targets[what]:g}", "met": "yes" if ms <= targets[what] else "NO"}
        rows.append(line)
        for other in others:
            ratios = took[what] / took[other]
            rows.append({
                "what": what, "against": other,
                "other ms": f"{np.median(took[other]) / runs * 1e3:.2f}",
                "ratio": f"{np.median(ratios):.2f}", "from": f"{ratios.min():.2f}",
                "to": f"{ratios.max():.2f}",
            })  # fmt: skip
    return rows


def speed_up(tasks: int, repeats: int, length: float) -> list[dict]:
    sample = 2000
    took = min(seconds(lambda: work(Config(0, sample))) for _ in range(9))
    products = int(length / took * sample)
    configs = [Config(n, products) for n in range(tasks)]

    # Long enough that every process has some: its first run also reads the source of `work`.
    warm = [Config(n, products // 5) for n in range(4 * WORKERS)]

    def timed(workers: int) -> float:
        run_all(work, warm, workers=workers)
        return seconds(lambda: run_all(work, configs, workers=workers))

    def plain() -> float:
        with loky.ProcessPoolExecutor(WORKERS) as pool:
            list(pool.map(work, warm))
            return seconds(lambda: list(pool.map(work, configs)))

    times = np.array([[timed(1), timed(WORKERS), plain()] for _ in range(repeats)])
    found = []
    for column, what in ((1, "processes"), (2, "plain loky")):
        ratios = times[:, 0] / times[:, column]
        row = {
            "what": what, "tasks": tasks, "1 process s": f"{np.median(times[:, 0]):.2f}",
            f"{WORKERS} processes s": f"{np.median(times[:, column]):.2f}",
            "speed-up": f"{np.median(ratios):.2f}", "from": f"{ratios.min():.2f}",
            "to": f"{ratios.max():.2f}",
        }  # fmt: skip
        if length >= TASK and column == 1:
            met = "yes" if np.median(ratios) >= SPEED_UP else "NO"
            row |= {"target": f"{SPEED_UP:g}", "met": met}
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, help="rounds (default: 7)")
    parser.add_argument("--quick", action="store_true", help="few runs, 1 round")
    options = parser.parse_args()
    repeats = options.repeats or (1 if options.quick else 7)
    say(f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}; {repeats} rounds ...")
    worth = speed_up(*((4, repeats, 0.01) if options.quick else (20, repeats, TASK)))
    runs = 10 if options.quick else 200
    show(
        "Overhead of a run in ms, and as a multiple of plain submission, median over rounds",
        local(runs, repeats) + cluster(runs, repeats, options.quick),
    )
    show(
        f"Time of tasks of {TASK:g} s by one process over that by {WORKERS}, median over rounds",
        worth,
    )


if __name__ == "__main__":
    main()
