"""A grid: many runs of an experiment, in parallel, kept, resumed where they were interrupted."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm import tqdm

from implreg.checks import check_count
from implreg.errors import InputError, explain_os_error
from implreg_book.runs import results
from implreg_book.runs.cluster import Cluster
from implreg_book.runs.execute import Execution
from implreg_book.runs.keys import Origin, origin_of
from implreg_book.runs.report import LostWorkers, counted, say
from implreg_book.runs.store import Store
from implreg_book.runs.tables import columns_of, decode, unpack
from implreg_book.runs.work import Failure
from implreg_book.runs.workers import Processes, Workers
from implreg_book.settings import SCHEDULER, STORE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class RunsFailed(RuntimeError):
    """Runs of a grid failed, after all others were done.

    Attributes:
        failures: one per failed run, in the order of the configurations.
        table: of the runs that did not fail; empty if all did.
    """

    def __init__(self, failures: Sequence[Failure], table: pd.DataFrame, runs: int) -> None:
        first, number = failures[0], len(failures)
        failed, done = counted(number, runs), " and the table of all others, which are done"
        if number == runs:
            failed, done = f"all {runs:,} runs" if runs > 1 else "the only run", ""
        which = f"{'the first one ' if number > 1 else ''}{first.config} with {first.error}"
        super().__init__(f"{failed} failed, {which}; the exception has every traceback{done}.")
        self.failures = tuple(failures)
        self.table = table


def run_all(
    run: Callable[..., pd.DataFrame],
    configs: "Sequence[DataclassInstance]",
    *,
    data: Any = None,
    label: str = "runs",
    store: str | Path | None = None,
    executor: Executor | str | None = None,
    workers: int | None = None,
    gpu: bool = False,
    retries: int = 2,
) -> pd.DataFrame:
    """One tidy table of all runs: what each returned, with its configuration in further columns.

    Args:
        run: a function of a module, from a configuration (and `data`, if given) to a table. What it
            returns must depend on nothing else.
        configs: one frozen dataclass per run, of numbers, text, and tuples and dataclasses of them.
        data: what all runs share, such as a `Dataset` of your own: tensors, arrays, tables, and
            lists, mappings and dataclasses of them. Each worker receives it once, unless Dask's
            memory manager drops a copy that no run waits for.
        label: of the progress bar.
        store: folder or fsspec URL where every finished run is kept and looked up; by default what
            the environment variable `IMPLREG_STORE` names, and without that none. The key of a
            run is its configuration, the source of `run` and of what that imports, `data`, and the
            versions of libraries.
        executor: where to run: the address of a Dask scheduler ("tcp://host:8786"), "local" for a
            Dask cluster on this machine, or any `concurrent.futures.Executor`; by default what
            `IMPLREG_SCHEDULER` names, and without that processes of this machine.
        workers: how many processes, by default one for each core.
        gpu: whether each run needs a GPU for itself: each process has one, and of a Dask cluster
            those workers are used that were started with ``--resources GPU=1``.
        retries: how often a run is tried again whose worker was killed or that raised an `OSError`
            or `MemoryError`. Other exceptions would only come again.

    Returns:
        The tables below one another, in the order of `configs`, whatever the order of execution,
        and the same whether they were computed or kept.

    Raises:
        InputError: an argument that cannot be used; workers with other code or libraries.
        RunsFailed: some runs failed, after all others were done.
        LostWorkers: the workers are gone for good; what had finished is kept.
        OSError: the store cannot be written. One that cannot be written any more, as on a full
            disk, is reported, and the runs go on.
    """
    if not configs:
        raise InputError("configs must hold at least one configuration, got none; check the grid.")
    for config in configs:
        frozen = getattr(type(config), "__dataclass_params__", None)
        if frozen is None or not frozen.frozen:
            raise InputError(
                f"configs must be instances of a frozen dataclass, got {config!r}; make it one."
            )
    check_count("retries", retries, at_least=0)
    place = store or os.environ.get(STORE)
    kept = Store(place) if place else None
    origin = origin_of(run, data, keyed=kept is not None)
    keys = [origin.key(c) if kept else str(i) for i, c in enumerate(configs)]
    grid = _Grid(origin, dict(zip(keys, configs, strict=True)), kept)
    with tqdm(total=len(grid.configs), desc=label, unit="run") as bar:
        if data is None:
            bar.update(grid.look_up_results())
        for _ in grid.look_up():
            bar.update()
        todo = {key: c for key, c in grid.configs.items() if key not in grid.tables}
        if todo:
            if kept is not None:
                kept.check_writable()  # now, not after hours
            try:
                where = _workers(executor, workers, len(todo), gpu=gpu)
                with Execution(run, todo, data, origin, where, retries) as execution:
                    for key, result in execution.results():
                        grid.take(key, result)
                        bar.update()
            except (KeyboardInterrupt, LostWorkers):
                say(grid.stopped())
                raise
    grid.finish()
    return grid.result(keys)


class _Grid:
    """What is known of the runs of a grid, in memory and in its store."""

    def __init__(self, origin: Origin, configs: Mapping[str, Any], store: Store | None) -> None:
        self.origin = origin
        self.configs = configs
        self.store = store
        self.tables: dict[str, pd.DataFrame] = {}
        self.failures: dict[str, Failure] = {}
        self._told: dict[str, dict[str, Any]] = {}  # when they ran and how long
        self._old: dict[str, list[str]] = {}  # files of failures and damaged ones, by key
        self._unkept: dict[str, bytes] = {}

    def look_up_results(self) -> int:
        """Take the runs that came with the book, say so, and return their number."""
        kept = results.look_up(self.origin.experiment, self.configs)
        self.tables |= {key: run.table for key, run in kept.items()}
        if kept:
            print(results.describe(kept.values(), len(self.configs), self.origin.code))
        return len(kept)

    def look_up(self) -> Iterator[str]:
        """Read the runs that are kept, and yield their keys."""
        if self.store is None:
            return
        wanted = []
        for entry in self.store.entries(self.origin.experiment):
            if entry.key in self.configs and entry.key not in self.tables:
                if entry.failed:
                    self._old.setdefault(entry.key, []).append(entry.path)
                else:
                    wanted.append(entry)
        damaged = []
        for entry, content in self.store.read(wanted):
            table, told = unpack(entry, content)
            if table is None:
                damaged.append(entry.path)
                self._old.setdefault(entry.key, []).append(entry.path)
            elif entry.key not in self.tables:
                self.tables[entry.key], self._told[entry.key] = table, told
                yield entry.key
        if damaged:
            say(
                f"{counted(len(damaged), len(wanted))} in {self.store.place} were damaged and are "
                f"computed again where there is no other copy, the first one {damaged[0]}."
            )

    def take(self, key: str, result: bytes | Failure) -> None:
        """Keep what came back from a worker."""
        if isinstance(result, Failure):
            self.failures[key] = result
        else:
            self.tables[key], self._told[key] = decode(result)
        if self.store is None:
            return
        try:
            if isinstance(result, Failure):
                told = asdict(self.origin) | asdict(result)
                self.store.put_failure(self.origin.experiment, key, told)
            else:
                self._put(key, result)
        except OSError as error:
            if isinstance(result, bytes):
                if not self._unkept:
                    reason = explain_os_error(error)
                    say(f"A finished run is not kept: {reason} The other runs go on.")
                self._unkept[key] = result

    def finish(self) -> None:
        """Try once more to keep what could not be kept, and say what is not; record results."""
        reason = ""
        for key in list(self._unkept):
            try:
                self._put(key, self._unkept[key])
                del self._unkept[key]
            except OSError as error:
                reason = explain_os_error(error)
        if self._unkept:
            missing = counted(len(self._unkept), len(self.configs))
            say(f"{missing} are in the table but not kept: {reason}")
        if not self.origin.data and not self.failures:
            runs = [
                (self.configs[key], self.tables[key], told["seconds"], told["date"])
                for key, told in self._told.items()
            ]
            results.record(self.origin, runs)

    def stopped(self) -> str:
        """Return what an interruption has left."""
        every = len(self.configs)
        if self.store is None:
            done = counted(len(self.tables), every)
            return f"Stopped after {done}; none is kept, as there is no store."
        # The store itself knows: what interrupts may come between keeping a run and noting that.
        damaged = {path for paths in self._old.values() for path in paths}
        entries = self.store.entries(self.origin.experiment)
        kept = {e.key for e in entries if not e.failed and e.path not in damaged}
        done = counted(len(kept & self.configs.keys()), every)
        return f"Stopped: {done} are kept in {self.store.place}; the same call goes on from there."

    def result(self, keys: Sequence[str]) -> pd.DataFrame:
        """Return the table of all runs, or raise `RunsFailed`."""
        tables = [
            self.tables[key].assign(**columns_of(asdict(self.configs[key]), self.tables[key]))
            for key in keys
            if key in self.tables
        ]
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        if self.failures:
            failures = [self.failures[key] for key in dict.fromkeys(keys) if key in self.failures]
            raise RunsFailed(failures, table, len(self.configs))
        return table

    def _put(self, key: str, content: bytes) -> None:
        assert self.store is not None
        written = self.store.put(self.origin.experiment, key, content)
        for path in self._old.pop(key, []):
            if path != written:
                self.store.remove(path)


def _workers(
    executor: Executor | str | None, workers: int | None, tasks: int, *, gpu: bool
) -> Workers:
    executor = executor or os.environ.get(SCHEDULER)
    if not executor:
        return Processes(workers, tasks, gpu=gpu)
    if workers is not None:
        raise InputError(
            f"workers is for processes of this machine, got {workers} with an executor; leave one "
            f"of the two out."
        )
    if isinstance(executor, str):
        return Cluster(executor, gpu=gpu)
    if gpu:
        raise InputError(
            "gpu is for processes and for Dask, got an executor; let its workers choose their GPU "
            "themselves."
        )
    return Workers(executor)
