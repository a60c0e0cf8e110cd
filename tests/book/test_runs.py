"""Grids of runs: order, resumption, failures, and what is refused; with real processes."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import _experiment
import numpy as np
import pandas as pd
import pytest
import torch
from _experiment import Config, Data, Log
from _processes import PROCESSES, alive, as_in_a_terminal, children, small_files, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from implreg_book.runs import LostWorkers, RunsFailed, Store, run_all, workers
from implreg_book.runs.keys import origin_of
from implreg_book.runs.work import Unlike, perform
from pandas.testing import assert_frame_equal

from implreg.errors import InputError

pytestmark = pytest.mark.processes
FOLDER = Path(__file__).parents[1]


def plain(numbers):
    """The table of runs of these numbers, without any machinery."""
    tables = [_experiment.run(Config(n)).assign(number=n, seconds=0.0, does="") for n in numbers]
    return pd.concat(tables, ignore_index=True)


# The table


def test_the_table_is_the_same_however_it_comes_about(store, threads):
    configs = [Config(n) for n in (3, 1, 2)]
    expected = plain([3, 1, 2])
    with ProcessPoolExecutor(1, PROCESSES) as process, ThreadPoolExecutor(1) as thread:
        given = [{"executor": executor} for executor in (process, threads, thread)]
        for i, way in enumerate([{"workers": 2}, *given]):
            for place in (None, f"{store}{i}", f"{store}{i}"):
                table = run_all(_experiment.run, configs, store=place, **way)
                assert_frame_equal(table, expected)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9)), st.booleans())
def test_rows_are_in_the_order_of_configurations_and_each_of_these_runs_once(
    threads, tmp_path_factory, numbers, before, kept
):
    log = Log(str(tmp_path_factory.mktemp("runs") / "log"))
    options = {"executor": threads, "store": f"memory://{uuid4()}" if kept else None}
    if before and kept:
        run_all(_experiment.run, [Config(n, log=log) for n in before], **options)
    table = run_all(_experiment.run, [Config(n, log=log) for n in numbers], **options)
    assert_frame_equal(table, plain(numbers))
    if kept:
        assert sorted(map(int, log.words())) == sorted({*before, *numbers})


def test_columns_that_the_run_reports_itself_are_kept_and_fields_of_many_values_left_out(threads):
    table = run_all(_experiment.where, [Config(np.int64(3), does="x")], executor=threads)
    assert [*table.columns] == ["process", "gpu", "number", "seconds", "does"]
    assert table.number.tolist() == [3]


def test_data_are_sent_once_to_each_process_and_not_with_each_run(tmp_path, log):
    data = Data(log=log)
    table = run_all(_experiment.run, [Config(n) for n in range(40)], data=data, workers=2)
    assert_frame_equal(table.assign(value=table.value / 5.5), plain(range(40)))
    assert 1 <= len(log.words()) <= 2 and len(set(log.words())) == len(log.words())


# Kept runs, and clients that are killed


def test_kept_runs_are_not_computed_again(store, log, threads, monkeypatch):
    monkeypatch.setenv("IMPLREG_STORE", store)
    run_all(_experiment.run, [Config(n, log=log) for n in (1, 2)], executor=threads)
    run_all(_experiment.run, [Config(n, log=log) for n in (3, 2, 1)], executor=threads)
    assert sorted(log.words()) == ["1", "2", "3"]


def test_a_grid_whose_client_is_killed_three_times_loses_no_run_and_repeats_only_those_in_flight(
    store, log
):
    configs = [Config(n, seconds=0.01, log=log) for n in range(200)]
    orphans = []
    for begun in (0, 50, 100, 150):  # the first is killed while its processes begin
        client = PROCESSES.Process(
            target=run_all, args=(_experiment.run, configs), kwargs={"store": store, "workers": 2}
        )
        client.start()
        wait_until(lambda: len(log.words()) >= begun and len(children(client.pid)) >= 3)  # noqa: B023
        orphans += children(client.pid)
        client.kill()  # alone, not its group
        client.join()
        assert client.exitcode == -signal.SIGKILL
    wait_until(lambda: not alive(orphans))
    assert 100 < len(Store(store).entries()) < 200
    table = run_all(_experiment.run, configs, store=store, workers=2)
    times = Counter(map(int, log.words()))
    assert times.keys() == set(range(200))
    assert times.total() <= 200 + 3 * (2 + 1)
    elsewhere = [replace(config, log=Log()) for config in configs]
    assert_frame_equal(table, run_all(_experiment.run, elsewhere, workers=2))


SLOW = """
import sys
from _experiment import Config, Log, run
from implreg_book.runs import run_all
configs = [Config(n, seconds=0.05, log=Log(sys.argv[1])) for n in range(200)]
run_all(run, configs, store=sys.argv[2] if len(sys.argv) > 2 else None, workers=1)
"""


def test_ctrl_c_says_what_is_kept_and_ends_the_workers(store, tmp_path):
    """One client alone, and one with all of its group as in a terminal."""
    logs = [Log(str(tmp_path / name)) for name in "ab"]
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", SLOW, log.path, *place], cwd=FOLDER, text=True,
            stderr=subprocess.PIPE, start_new_session=True,
            preexec_fn=as_in_a_terminal,
        )
        for log, place in zip(logs, ([store], []))
    ]  # fmt: skip
    for client, log, interrupt in zip(clients, logs, (os.kill, os.killpg)):
        wait_until(lambda: len(log.words()) > 10)  # noqa: B023
        its_workers = children(client.pid)
        interrupt(client.pid, signal.SIGINT)
        errors = client.communicate()[1]
        assert client.returncode == -signal.SIGINT and "KeyboardInterrupt" in errors
        wait_until(lambda: not alive(its_workers))  # noqa: B023
        if client is clients[0]:
            kept = len(Store(store).entries())
            assert f"Stopped: {kept} of 200 runs are kept in {store}; the same call" in errors
        else:
            assert "of 200 runs; none is kept, as there is no store." in errors


def test_a_run_is_not_told_as_kept_before_it_is(store, threads, monkeypatch, capfd):
    put = Store.put

    def stopped(self, experiment, key, content):
        if len(self.entries()) == 2:
            raise KeyboardInterrupt
        return put(self, experiment, key, content)

    monkeypatch.setattr(Store, "put", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_all(_experiment.run, [Config(n) for n in range(5)], executor=threads, store=store)
    assert f"Stopped: 2 of 5 runs are kept in {store}" in capfd.readouterr().err


def test_what_stops_a_grid_takes_back_the_runs_that_a_given_executor_has_not_begun(log, threads):
    def stop(*_):
        raise KeyboardInterrupt

    def happens():
        wait_until(lambda: len(log.words()) > 3)
        os.kill(os.getpid(), signal.SIGALRM)

    configs = [Config(n, seconds=0.05, log=log) for n in range(50)]
    before = signal.signal(signal.SIGALRM, stop)
    with ThreadPoolExecutor(1) as executor:
        try:
            threads.submit(happens)
            with pytest.raises(KeyboardInterrupt):
                run_all(_experiment.run, configs, executor=executor)
        finally:
            signal.signal(signal.SIGALRM, before)
    assert 1 <= len(log.words()) < 50


# Failures


def test_failures_are_collected_while_all_other_runs_go_on(store, log):
    does = ["", "raise", "exit", "", "return a number", "return objects", "miss", ""]
    configs = [Config(n, does=what, log=log) for n, what in enumerate(does)]
    with pytest.raises(RunsFailed) as e:
        run_all(_experiment.run, configs, store=store, workers=2)
    assert str(e.value).startswith("5 of 8 runs failed, the first one Config(number=1")
    found = e.value.failures
    assert [failure.config for failure in found] == [configs[n] for n in (1, 2, 4, 5, 6)]
    assert [failure.error.split(":")[0] for failure in found] == [
        "ValueError", "SystemExit", "InputError", "InputError", "OSError",
    ]  # fmt: skip
    assert found[0].error == "ValueError: this number is no good"
    assert 'raise ValueError("this number' in found[0].traceback
    assert "a pandas DataFrame, got an object of the type int" in found[2].error
    assert "columns of one type each that Parquet can hold" in found[3].error
    expected = plain([0, 3, 7]).assign(does="")
    assert_frame_equal(e.value.table, expected)
    # What may be gone the next time is tried again at once, twice; all others the next time.
    assert Counter(log.words())["6"] == 3 and Counter(log.words())["1"] == 1
    files = [Path(entry.path).suffix for entry in Store(store).entries()]
    assert Counter(files) == {".parquet": 3, ".json": 5}
    with pytest.raises(RunsFailed):
        run_all(_experiment.run, configs, store=store, workers=2, retries=0)
    again = Counter(log.words())
    assert again["0"] == 1 and again["1"] == 2 and again["6"] == 4


@pytest.mark.parametrize(
    ("does", "begin", "end"),
    [
        ([1, 0, 0], "1 of 3 runs failed, Config(number=0", " and the table of all others"),
        ([1, 0, 1], "2 of 3 runs failed, the first one Config(number=0", " and the table of all"),
        ([1, 1, 1], "all 3 runs failed, the first one Config(number=0", "has every traceback."),
        ([1], "the only run failed, Config(number=0", "the exception has every traceback."),
    ],
)
def test_how_many_runs_failed_is_told(does, begin, end, threads):
    configs = [Config(n, does="raise" if fails else "") for n, fails in enumerate(does)]
    with pytest.raises(RunsFailed) as e:
        run_all(_experiment.run, configs, executor=threads)
    assert str(e.value).startswith(begin) and end in str(e.value)
    assert len(e.value.failures) == sum(does) and len(e.value.table) == 2 * does.count(0)


def test_data_that_the_temporary_folder_does_not_take_are_told(tmp_path, threads, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError) as caught, small_files():
        run_all(_experiment.run, [Config(1)], data=Data(np.arange(1e4)), executor=threads)
    assert Path(caught.value.filename).parent == tmp_path
    assert not [*tmp_path.iterdir()]


def test_a_run_that_failed_is_tried_again_by_the_next_call_and_then_no_failure_any_more(
    store, log, threads
):
    configs = [Config(1, does="raise once", log=log), Config(2, log=log)]
    with pytest.raises(RunsFailed):
        run_all(_experiment.run, configs, store=store, executor=threads)
    assert [entry.failed for entry in Store(store).entries()].count(True) == 1
    assert len(run_all(_experiment.run, configs, store=store, executor=threads)) == 4
    assert [entry.failed for entry in Store(store).entries()] == [False, False]
    assert sorted(log.words()) == ["1", "1", "2"]


def test_numbers_of_numpy_and_paths_in_configurations_are_kept_as_others(store, threads):
    configs = [
        Config(np.int64(n), does="raise" if n == 1 else "", sizes=(Path("a"), np.int8(n)))
        for n in range(3)
    ]
    for _ in range(2):
        with pytest.raises(RunsFailed) as e:
            run_all(_experiment.run, configs, store=store, executor=threads)
        assert_frame_equal(e.value.table, plain([0, 2]))


@given(st.integers(0, 3))
def test_a_run_is_retried_as_often_as_asked_and_only_if_that_may_help(
    threads, tmp_path_factory, retries
):
    log = Log(str(tmp_path_factory.mktemp("runs") / "log"))
    configs = [Config(n, does=what, log=log) for n, what in enumerate(["miss", "raise", "exit"])]
    with pytest.raises(RunsFailed):
        run_all(_experiment.run, configs, executor=threads, retries=retries)
    assert Counter(log.words()) == {"0": retries + 1, "1": 1, "2": 1}


def test_a_run_that_succeeds_at_its_second_try_is_no_failure(threads, log):
    table = run_all(_experiment.run, [Config(1, does="miss once", log=log)], executor=threads)
    assert_frame_equal(table.assign(does=""), plain([1]))


def test_a_run_that_kills_its_process_is_found_among_innocent_ones_and_fails_alone(store, log):
    """The others run side by side again, even where an innocent one had bad luck meanwhile."""
    does = ["meet and kill", "miss at second try", *[""] * 8, "meet", "meet"]
    configs = [Config(n, 1.0 * (n in (1, 2)), what, log) for n, what in enumerate(does)]
    with pytest.raises(RunsFailed) as e:
        run_all(_experiment.run, configs, store=store, workers=2, retries=1)
    (failure,) = e.value.failures
    assert failure.config == configs[0] and failure.error.endswith("its worker was killed 2 times")
    table = e.value.table.assign(seconds=0.0, does="")
    assert_frame_equal(table, plain(range(1, 12)))
    begun = Counter(log.words())
    assert begun["0"] == 3 and begun["1"] == 3  # once among others, and then alone
    assert max(begun[str(n)] for n in range(3, 12)) == 1
    assert len(run_all(_experiment.run, configs[1:], store=store)) == 22


def test_a_given_executor_that_breaks_keeps_what_had_finished(store, capfd):
    configs = [Config(n, does="kill" if n == 20 else "") for n in range(40)]
    with ProcessPoolExecutor(1, PROCESSES) as executor:
        with pytest.raises(LostWorkers, match="pass a new one"):
            run_all(_experiment.run, configs, store=store, executor=executor)
        with pytest.raises(BrokenExecutor):
            executor.submit(int)
    assert len(Store(store).entries()) == 20
    assert f"Stopped: 20 of 40 runs are kept in {store}" in capfd.readouterr().err


# What is refused

BAD = {
    "configs must hold at least one configuration, got none": {"configs": []},
    "configs must be instances of a frozen dataclass, got 3": {"configs": [3]},
    "configs must be instances of a frozen dataclass, got <class": {"configs": [Config]},
    "configs must hold numbers, text, .* got a builtins.module": {
        "configs": [Config(os)], "store": "memory://bad",
    },
    "data must hold numbers, text, .* got a _io.TextIOWrapper": {"data": sys.__stdin__},
    "run must be a function at the top level of a module, got .*lambda": {"run": lambda c: None},
    "retries must be a whole number of at least 0, got -1": {"retries": -1},
    "workers must be a whole number of at least 1, got 0": {"workers": 0},
    "workers is for processes of this machine, got 2 with an executor": {
        "workers": 2, "executor": ThreadPoolExecutor(1),
    },
    "gpu asks for a GPU, but torch finds none here": {"gpu": True},
    "gpu is for processes and for Dask, got an executor": {
        "gpu": True, "executor": ThreadPoolExecutor(1),
    },
    "store must be a folder or a URL that fsspec can open, got nosuch://a": {"store": "nosuch://a"},
}  # fmt: skip


@pytest.mark.parametrize("sentence", BAD)
def test_what_cannot_be_used_is_refused_in_one_sentence(sentence, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    arguments = {"run": _experiment.run, "configs": [Config(1)]} | BAD[sentence]
    with pytest.raises(InputError, match=sentence) as e:
        run_all(**arguments)
    assert str(e.value).endswith(".") and "\n" not in str(e.value)


def test_a_worker_with_other_libraries_than_the_client_runs_nothing(log):
    origin = origin_of(_experiment.run, None, keyed=True)
    other = replace(origin, versions=origin.versions | {"numpy": "1.0"})
    answer = perform(_experiment.run, Config(1, log=log), None, other)
    assert isinstance(answer, Unlike) and f"numpy {np.__version__}" in answer.difference
    assert not log.words()
    assert isinstance(perform(_experiment.run, Config(1, log=log), None, origin), bytes)


NOTEBOOK = """
from dataclasses import dataclass
import pandas as pd
from implreg.errors import InputError
from implreg_book.runs import run_all

@dataclass(frozen=True)
class Config:
    number: int

def run(config, data):
    return pd.DataFrame({"value": [config.number * data]})

configs = [Config(n) for n in range(3)]
try:
    run_all(run, configs, data=2, store="store")
except InputError as error:
    print(error)
print(run_all(run, configs, data=2, workers=1).value.tolist())
"""


def test_a_function_of_a_notebook_runs_without_a_store_and_is_refused_with_one(tmp_path):
    done = subprocess.run([sys.executable, "-"], input=NOTEBOOK, cwd=tmp_path, text=True,
                          capture_output=True)  # fmt: skip
    refusal, table = done.stdout.splitlines()
    assert "run must be a function of a module with a source file" in refusal
    assert "move it into a .py file or leave the store out." in refusal
    assert table == "[0, 2, 4]"
    assert not (tmp_path / "store").exists()


# GPUs


def claim(names, log):
    workers._claim(names)
    log.write(f"{os.getpid()}:{os.environ['CUDA_VISIBLE_DEVICES']}")
    time.sleep(600)


def test_each_process_has_a_gpu_of_its_own_which_is_free_again_when_it_is_killed(log):
    names = sorted(f"GPU-{uuid4()}/{i}" for i in range(2))
    processes = [PROCESSES.Process(target=claim, args=(names, log)) for _ in range(3)]
    try:
        for process in processes:
            process.start()
        wait_until(lambda: len(log.words()) == 2)
        time.sleep(0.5)
        held = dict(word.split(":") for word in log.words())
        assert sorted(held.values()) == names
        killed = next(p for p in processes if str(p.pid) in held)
        killed.kill()
        wait_until(lambda: len(log.words()) == 3)
        pid, name = log.words()[2].split(":")
        assert pid not in held and name == held[str(killed.pid)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def test_runs_that_need_a_gpu_share_none(monkeypatch):
    names = sorted(f"GPU-{uuid4()}" for _ in range(2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ", ".join(names))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    table = run_all(_experiment.where, [Config(n, seconds=0.05) for n in range(12)], gpu=True)
    pairs = table[["process", "gpu"]].drop_duplicates()
    assert sorted(pairs.gpu) == names
    assert pairs.process.nunique() == 2


def test_processes_work_in_the_folder_where_the_client_is_now(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run_all(_experiment.run, [Config(0, log=Log("log"))], workers=1)
        assert Path("log").is_file()
