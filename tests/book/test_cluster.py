"""Runs on a real Dask cluster on this machine: workers and schedulers that die, and other code."""

import logging
import os
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import _experiment
import pytest
from _experiment import Config, Data, Log
from _processes import PROCESSES, children, wait_until
from implreg_book.runs import LostWorkers, RunsFailed, Store, cluster, execute, run_all
from pandas.testing import assert_frame_equal

from implreg.errors import InputError

distributed = pytest.importorskip("distributed", reason="needs Dask: pip install distributed")

pytestmark = pytest.mark.processes
FOLDER = Path(__file__).parents[1]
# The commands dask scheduler and dask worker, in processes forked from one that has imported them.
# Dask's memory manager may drop a copy of the data that no run waits for just then, and send it
# again: how often a worker reads them cannot be told with it.
COMMAND = """
import os, sys
with open({log!r}, "a") as log:
    os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
sys.path.insert(0, {path!r})
sys.dont_write_bytecode = True
import dask
dask.config.set({{"distributed.scheduler.active-memory-manager.start": False}})
from distributed.cli.dask_{kind} import main
main({options!r})
"""


class Dask:
    """A scheduler and its workers, each a process of one thread without a nanny."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.log = str(folder / "log")
        self.scheduler = None
        self.workers = []

    def start(self, path=FOLDER):
        options = ("--host", "127.0.0.1", "--port", self.port)
        self.scheduler = self._process("scheduler", *options, path=path)

    def work(self, *options, path=FOLDER):
        options = ("--nthreads", "1", "--no-nanny", *options)
        self.workers.append(self._process("worker", self.address, *options, path=path))

    def end(self):
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.join()

    def alive(self):
        return [worker for worker in self.workers if worker.is_alive()]

    def _process(self, kind, *options, path):
        code = COMMAND.format(
            log=self.log, path=str(path), kind=kind, options=[*options, "--no-dashboard"]
        )
        process = PROCESSES.Process(target=exec, args=(code,))
        process.start()
        return process


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A cluster which each test leaves as it likes."""
    dask = Dask(tmp_path_factory.mktemp("dask"))
    dask.start()
    yield dask
    dask.end()


@pytest.fixture
def two(dask):
    """That cluster with two workers that have begun to work, one of them with a GPU."""
    if not dask.scheduler.is_alive():
        dask.start()
    while len(dask.alive()) < 2:
        dask.work("--resources", f"GPU={len(dask.alive())}")
    processes = []
    while len(set(processes)) < 2:
        tasks = [Config(n, seconds=0.01) for n in range(8)]
        processes = run_all(_experiment.where, tasks, executor=dask.address).process
    return dask


@pytest.fixture
def empty(dask):
    """That cluster without workers."""
    if not dask.scheduler.is_alive():
        dask.start()
    for worker in dask.workers:
        worker.kill()
        worker.join()
    with distributed.Client(dask.address, set_as_default=False) as client:
        wait_until(lambda: not client.scheduler_info()["workers"])
    return dask


@pytest.fixture
def aside():
    """Threads for what happens while a grid runs."""
    with ThreadPoolExecutor(2) as threads:
        yield threads


def grid_of(number, log=None, seconds=0.0):
    return [Config(n, seconds=seconds, log=log or Log()) for n in range(number)]


def alone(configs, data=None):
    """The table without any cluster."""
    quiet = [Config(config.number, config.seconds) for config in configs]
    with ThreadPoolExecutor(16) as threads:
        return run_all(_experiment.run, quiet, data=data, executor=threads)


def test_the_table_is_that_of_processes_and_each_worker_reads_the_data_once(two, log, store):
    data = Data(log=log)
    for place in (None, store, store):
        table = run_all(_experiment.run, grid_of(40), data=data, executor=two.address, store=place)
        assert_frame_equal(table, run_all(_experiment.run, grid_of(40), data=Data(), workers=2))
    pids = [str(worker.pid) for worker in two.alive()]
    assert sorted(log.words()) == sorted(pids * 2)  # once each in both grids that ran
    assert not logging.getLogger("distributed.client").filters


def test_the_scheduler_may_be_named_by_an_environment_variable_and_gpus_by_a_resource(
    two, monkeypatch
):
    monkeypatch.setenv("IMPLREG_SCHEDULER", two.address)
    table = run_all(_experiment.where, grid_of(8, seconds=0.01), gpu=True)
    (process,) = set(table.process)
    assert process == two.alive()[1].pid


def test_ctrl_c_takes_back_the_runs_that_have_not_begun(two, log, store, capfd, aside):
    def stop(*_):
        raise KeyboardInterrupt

    def happens():
        wait_until(lambda: len(Store(store).entries()) > 1)
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        aside.submit(happens)
        with pytest.raises(KeyboardInterrupt):
            configs = grid_of(200, log, seconds=0.3)
            run_all(_experiment.run, configs, executor=two.address, store=store)
    finally:
        signal.signal(signal.SIGALRM, before)
    kept = len(Store(store).entries())
    assert f"Stopped: {kept} of 200 runs are kept in {store}" in capfd.readouterr().err
    run_all(_experiment.run, [Config(-1, log=log)], executor=two.address)
    assert "-1" in log.words() and 1 < kept < len(log.words()) < 100


def test_a_worker_is_killed_and_another_comes(two, log, aside):
    configs = grid_of(60, log, seconds=0.05)

    def happens():
        wait_until(lambda: len(log.words()) > 10)
        two.alive()[0].kill()
        two.work("--resources", "GPU=1")

    happened = aside.submit(happens)
    table = run_all(_experiment.run, configs, data=Data(), executor=two.address)
    happened.result()
    assert_frame_equal(table, alone(configs, Data()))
    assert {int(word) for word in log.words()} == set(range(60))
    assert len(two.alive()) == 2


def test_a_run_that_kills_its_workers_is_given_up_alone(two, log, aside):
    configs = [Config(n, seconds=0.02, does="kill" if n == 7 else "", log=log) for n in range(40)]
    grid = aside.submit(run_all, _experiment.run, configs, executor=two.address)
    while not grid.done():
        if len(two.alive()) < 2:
            two.work("--resources", "GPU=1")
        time.sleep(0.01)
    with pytest.raises(RunsFailed) as e:
        grid.result()
    (failure,) = e.value.failures
    assert failure.config.number == 7 and failure.error.startswith("KilledWorker")
    assert_frame_equal(e.value.table, alone([config for config in configs if not config.does]))
    assert log.words().count("7") == 4  # that many workers by default of Dask


def test_a_scheduler_that_starts_again_is_given_again_what_had_not_finished(
    two, log, store, capfd, aside
):
    configs = grid_of(60, log, seconds=0.05)

    def happens():
        wait_until(lambda: len(log.words()) > 10)
        two.end()
        two.start()
        two.work()

    happened = aside.submit(happens)
    table = run_all(_experiment.run, configs, data=Data(), executor=two.address, store=store)
    happened.result()
    told = capfd.readouterr().err
    assert f"The scheduler at {two.address} has lost runs, or is gone; connecting again" in told
    assert f"The scheduler at {two.address} was restarted; going on." in told
    assert "Traceback" not in told
    assert_frame_equal(table, alone(configs, Data()))
    assert {int(word) for word in log.words()} == set(range(60))
    assert len(log.words()) < 70 and len(Store(store).entries()) == 60


def test_a_scheduler_that_does_not_come_back_leaves_what_had_finished(
    two, log, store, capfd, monkeypatch, aside
):
    configs = grid_of(60, log, seconds=0.05)

    def happens():
        wait_until(lambda: len(log.words()) > 10)
        monkeypatch.setattr(cluster, "_PATIENCE", 1)  # not before: connecting may take longer
        monkeypatch.setattr(cluster, "_CONNECT", 1)
        two.end()

    happened = aside.submit(happens)
    with pytest.raises(LostWorkers, match="did not come back within 1 s; start it again with dask"):
        run_all(_experiment.run, configs, executor=two.address, store=store)
    happened.result()
    kept = len(Store(store).entries())
    assert 5 < kept < 60
    told = capfd.readouterr().err
    assert f"Stopped: {kept} of 60 runs are kept in {store}; the same call goes on" in told
    assert "Traceback" not in told
    begun = len(log.words())
    table = run_all(_experiment.run, configs, executor=aside, store=store)
    assert_frame_equal(table, alone(configs))
    assert len(log.words()) == begun + 60 - kept


def two_grids_without_workers(empty, capfd, monkeypatch, aside):
    """Grids with and without data, both connected and told that there are no workers."""
    monkeypatch.setattr(execute, "_QUIET", 0.1)
    tables = [
        aside.submit(run_all, _experiment.run, grid_of(5), data=data, executor=empty.address)
        for data in (None, Data())
    ]
    told = []

    def both_told():
        told.append(capfd.readouterr().err)
        sentence = f"{empty.address} has no workers; start some with dask worker {empty.address}."
        return "".join(told).count(sentence) == 2

    wait_until(both_told)
    return tables


def test_without_workers_it_says_so_and_goes_on_when_one_comes(empty, capfd, monkeypatch, aside):
    tables = two_grids_without_workers(empty, capfd, monkeypatch, aside)
    assert not any(table.done() for table in tables)
    empty.work()
    assert_frame_equal(tables[0].result(600), alone(grid_of(5)))
    assert_frame_equal(tables[1].result(600), alone(grid_of(5), Data()))


def test_a_scheduler_that_dies_while_it_has_no_workers_is_given_up(
    empty, monkeypatch, capfd, aside
):
    tables = two_grids_without_workers(empty, capfd, monkeypatch, aside)
    monkeypatch.setattr(cluster, "_PATIENCE", 1)  # not before: connecting may take longer
    monkeypatch.setattr(cluster, "_CONNECT", 1)
    empty.end()
    for table in tables:
        with pytest.raises(LostWorkers, match="did not come back within 1 s"):
            table.result(600)


def test_a_worker_with_other_code_is_refused_and_nothing_is_kept(empty, tmp_path, store):
    shutil.copy(FOLDER / "_experiment.py", tmp_path)
    with (tmp_path / "_experiment.py").open("a") as file:
        file.write("\nchanged = True\n")
    empty.work(path=tmp_path)
    with pytest.raises(InputError, match="but have other code of _experiment, or of what") as e:
        run_all(_experiment.run, grid_of(20), executor=empty.address, store=store)
    assert str(e.value).endswith("install the same there, or start them where they find it.")
    assert Store(store).entries() == []


@pytest.mark.parametrize("scheduler_has_it", [False, True])
def test_a_worker_without_the_module_is_refused_in_one_sentence(
    scheduler_has_it, tmp_path, store, monkeypatch
):
    dask = Dask(tmp_path)
    (tmp_path / "own").mkdir()
    shutil.copy(FOLDER / "_experiment.py", tmp_path / "own" / "_elsewhere.py")
    try:
        dask.start(path=tmp_path / "own" if scheduler_has_it else FOLDER)
        dask.work()
        monkeypatch.syspath_prepend(tmp_path / "own")
        own = import_module("_elsewhere")
        for data in (None, own.Data()):
            with pytest.raises(InputError) as e:
                run_all(own.run, [own.Config(1)], data=data, executor=dask.address, store=store)
            assert str(e.value) == (
                "the workers must have the same code and libraries as the client, but have no "
                "module _elsewhere; install the same there, or start them where they find it."
            )
    finally:
        dask.end()
    assert Store(store).entries() == []


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:1", "nonsense", "foo://a:1"])
def test_an_address_without_a_scheduler_is_refused_in_one_sentence(address, monkeypatch, capfd):
    monkeypatch.setattr(cluster, "_CONNECT", 0.5)
    with pytest.raises(InputError, match="but none answers at") as e:
        run_all(_experiment.run, grid_of(1), executor=address)
    assert "\n" not in str(e.value) and str(e.value).endswith("pass the address it prints.")
    assert "Traceback" not in capfd.readouterr().err
    assert not logging.getLogger("distributed.client").filters


@pytest.mark.filterwarnings("error")
def test_a_cluster_of_its_own_ends_with_the_grid():
    from dask import config

    method = {"distributed.worker.multiprocessing-method": "forkserver"}  # which is faster
    before = children(os.getpid())
    with config.set(method):
        table = run_all(_experiment.run, grid_of(10), data=Data(), executor="local")
    assert_frame_equal(table, alone(grid_of(10), Data()))
    assert set(children(os.getpid())) <= set(before)
