"""The store of runs under fault: whatever happens to it, tables are right and it is told."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import _experiment
import fsspec
import numpy as np
import pandas as pd
import pytest
from _experiment import Config, Log
from _processes import PROCESSES, on_small_disks, wait_until
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from hypothesis import example, given
from hypothesis import strategies as st
from implreg_book.runs import RunsFailed, Store, run_all
from implreg_book.runs.store import Damaged
from implreg_book.runs.tables import decode, encode
from pandas.testing import assert_frame_equal

from implreg.errors import InputError

FOLDER = Path(__file__).parents[1]
KEY = "0123456789abcdef" * 2


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "store")


def files(place):
    return sorted(Path(place).rglob("*.parquet"))


def damaged(place):
    store = Store(place)
    return [entry for entry, content in store.read(store.entries()) if isinstance(content, Damaged)]


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
COLUMNS = st.sampled_from([
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.floats(width=32).map(np.float32),
    st.booleans(), TEXT,
    st.datetimes(pd.Timestamp(1700, 1, 1), pd.Timestamp(2200, 1, 1)),
    st.sampled_from([None, "a", "b"]),
])  # fmt: skip


@given(st.data())
def test_a_table_comes_back_as_it_was_put(data):
    rows = data.draw(st.integers(0, 4))
    names = data.draw(st.lists(TEXT, unique=True, min_size=1, max_size=6))
    table = pd.DataFrame({
        name: pd.Series(data.draw(st.lists(data.draw(COLUMNS), min_size=rows, max_size=rows)))
        for name in names
    })  # fmt: skip
    meta = {"config": {"number": 1, "sizes": [1, 2]}}
    found, told = decode(encode(table, meta))
    assert_frame_equal(found, table)
    assert told == meta


# Damage


@pytest.fixture(scope="module")
def kept(tmp_path_factory, threads):
    """A store of one run, its only file and what that held, and the log of the run."""
    folder = tmp_path_factory.mktemp("kept")
    config = Config(3, log=Log(str(folder / "log")))
    place = str(folder / "store")
    table = run_all(_experiment.run, [config], store=place, executor=threads)
    return config, place, table


POSITIONS = st.integers(0, 10**5)


@given(
    st.one_of(
        st.tuples(st.just("flip"), POSITIONS, st.integers(1, 255)),
        st.tuples(st.just("cut"), POSITIONS, st.just(0)),
        st.tuples(st.just("append"), st.just(0), st.integers(0, 255)),
    )
)
@example(("flip", 0, 1))
@example(("flip", -1, 1))
@example(("cut", 0, 0))
@example(("cut", -1, 0))
def test_a_file_with_any_byte_changed_lost_or_added_is_reported_computed_again_and_replaced(
    kept, threads, damage
):
    config, place, table = kept
    (file,) = files(place)
    content = bytearray(file.read_bytes())
    kind, position, byte = damage
    position %= len(content)
    if kind == "flip":
        content[position] ^= byte
    elif kind == "cut":
        content = content[:position]
    else:
        content.append(byte)
    file.write_bytes(content)
    computed = len(config.log.words())
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        again = run_all(_experiment.run, [config], store=place, executor=threads)
    assert_frame_equal(again, table)
    assert f"1 of 1 run in {place} were damaged" in errors.getvalue()
    assert str(file) in errors.getvalue()
    assert len(config.log.words()) == computed + 1
    (new,) = files(place)
    assert new.read_bytes() != content and not damaged(place)
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        assert_frame_equal(run_all(_experiment.run, [config], store=place), table)
    assert "damaged" not in errors.getvalue()


def test_a_file_under_the_key_of_another_run_is_never_taken_for_that(place, log, threads, capfd):
    configs = [Config(n, log=log) for n in (1, 2)]
    table = run_all(_experiment.run, configs, store=place, executor=threads)
    first, second = files(place)
    key = first.stem.split("-")[0]
    renamed = second.with_name(f"{key}-{second.stem.split('-')[1]}.parquet")
    second.rename(renamed)
    first.unlink()
    again = run_all(_experiment.run, configs, store=place, executor=threads)
    assert_frame_equal(again, table)
    assert "1 of 1 run in" in capfd.readouterr().err
    assert len(log.words()) == 4 and not renamed.exists() and not damaged(place)


def test_a_whole_copy_is_taken_where_another_is_damaged(place, log, threads):
    config = Config(1, log=log)
    table = run_all(_experiment.run, [config], store=place, executor=threads)
    (file,) = files(place)
    for name in (f"{file.stem.split('-')[0]}-{'0' * 32}", f"{file.stem.split('-')[0]}-{'f' * 32}"):
        file.with_name(f"{name}.parquet").write_bytes(b"PAR1")
    assert_frame_equal(run_all(_experiment.run, [config], store=place), table)
    assert log.words() == ["1"]


def test_files_of_others_in_the_folder_of_a_store_do_no_harm(place, log, threads):
    config = Config(1, log=log)
    table = run_all(_experiment.run, [config], store=place, executor=threads)
    (file,) = files(place)
    for name in ("notes.txt", "_experiment.run/notes.parquet", f"_experiment.run/{KEY}.txt"):
        Path(place, name).write_text("mine")
    assert_frame_equal(run_all(_experiment.run, [config], store=place), table)
    assert [entry.path for entry in Store(place).entries()] == [str(file)]
    assert Store(place).debris() == []


# Places


@pytest.mark.parametrize("url", ["memory://{}", "memory://{}/deeper/", "file://{}"])
def test_a_store_can_be_wherever_fsspec_has_a_file_system(url, tmp_path, log, threads):
    place = url.format(tmp_path / "store" if url.startswith("file") else uuid4())
    configs = [Config(1, log=log), Config(2, does="raise once", log=log)]
    with pytest.raises(RunsFailed):
        run_all(_experiment.run, configs, store=place, executor=threads)
    table = run_all(_experiment.run, configs, store=place, executor=threads)
    assert_frame_equal(run_all(_experiment.run, configs, store=place), table)
    assert sorted(log.words()) == ["1", "2", "2"]
    assert len(Store(place).entries()) == 2 and not Store(place).debris()


class Buckets(DirFileSystem):
    """As s3fs: paths begin with a bucket, which is made along with a folder in it."""

    protocol = "buckets"
    cachable = False
    top = ""

    def __init__(self):
        super().__init__(self.top, LocalFileSystem(auto_mkdir=True))


@pytest.fixture
def buckets(tmp_path, monkeypatch):
    """The folder of all buckets, with one that is called mine."""
    (tmp_path / "buckets" / "mine").mkdir(parents=True)
    monkeypatch.setattr(Buckets, "top", str(tmp_path / "buckets"))
    fsspec.register_implementation("buckets", Buckets, clobber=True)
    return tmp_path / "buckets"


def test_a_bucket_that_is_not_there_is_refused_and_not_made(buckets, log, threads):
    config = Config(1, log=log)
    for place in ("buckets://mime/runs", "buckets://mime"):
        with pytest.raises(InputError) as e:
            run_all(_experiment.run, [config], store=place, executor=threads)
        assert str(e.value) == (
            f"store must be in a bucket that exists, got {place}, but no bucket mime can be found; "
            f"make it, or name another."
        )
    assert not log.words() and os.listdir(buckets) == ["mine"]
    for place in ("buckets://mine/runs", "buckets://mine"):
        table = run_all(_experiment.run, [config], store=place, executor=threads)
        assert_frame_equal(run_all(_experiment.run, [config], store=place), table)
    assert log.words() == ["1", "1"] and not Store("buckets://mine").debris()


def test_a_host_that_is_not_there_is_refused():
    class NoHost(DirFileSystem):
        def __init__(self):
            raise OSError(-2, "Name or service not known")

    fsspec.register_implementation("nohost", NoHost, clobber=True)
    with pytest.raises(InputError, match=r"fsspec can open, got nohost://a \(\[Errno -2\] Name or"):
        Store("nohost://a")


@pytest.fixture
def nobody():
    """What can write only where everybody can; root becomes another user."""
    folder = Path(tempfile.mkdtemp())  # whose parents everybody can enter
    folder.chmod(0o777)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_store_that_cannot_be_written_is_refused_before_anything_runs(nobody, threads):
    log = Log(str(nobody / "log"))
    store = nobody / "store"
    store.mkdir()
    store.chmod(0o555)
    with pytest.raises(PermissionError):
        run_all(_experiment.run, [Config(1, log=log)], store=store, executor=threads)
    (nobody / "file").touch()
    with pytest.raises(OSError):
        run_all(_experiment.run, [Config(1, log=log)], store=nobody / "file", executor=threads)
    assert not log.words()


def test_a_complete_grid_is_read_from_a_store_that_cannot_be_written(nobody, threads):
    log = Log(str(nobody / "log"))
    configs = [Config(n, log=log) for n in range(3)]
    store = nobody / "store"
    table = run_all(_experiment.run, configs, store=store, executor=threads)
    for folder in [*store.iterdir(), store]:
        folder.chmod(0o555)
    assert_frame_equal(run_all(_experiment.run, configs, store=store, executor=threads), table)
    with pytest.raises(PermissionError):
        run_all(_experiment.run, [*configs, Config(3, log=log)], store=store, executor=threads)
    assert len(log.words()) == 3


FULL = """
import subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from _experiment import Config, Log, run
from implreg_book.runs import Store, run_all

folder, threads, log = Path(sys.argv[1]), ThreadPoolExecutor(2), Log(sys.argv[1] + ".log")

def call(numbers):
    configs = [Config(n, log=log) for n in numbers]
    return run_all(run, configs, store=folder / "store", executor=threads)

def kept():
    return {path: path.read_bytes() for path in folder.rglob("*.parquet")}

table = call(range(4))
before = kept()
assert len(before) == 4
table = call(range(40))
assert table.number.tolist() == [n for n in range(40) for _ in range(2)]
assert (table.value[::2] == table.number[::2] / 3).all()
full = kept()
assert before.items() <= full.items() and 4 < len(full) < 40, len(full)
store = Store(folder / "store")
assert all(isinstance(content, bytes) for _, content in store.read(store.entries()))
assert not store.debris()
subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
assert call(range(40)).equals(table)
assert len(kept()) == 40 and full.items() <= kept().items()
assert call(range(40)).equals(table)
assert len(log.words()) == 40 + (40 - len(full)), log.words()
print(len(full))
"""


def test_a_disk_that_runs_full_is_named_while_the_table_is_complete_and_the_rest_kept_later(
    tmp_path,
):
    """On a small file system that ends with its process."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [*on_small_disks(disk), sys.executable, "-c", FULL, str(disk)]
    done = subprocess.run(command, cwd=FOLDER, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    missing = 40 - int(done.stdout)
    assert f"A finished run is not kept: the disk is full, {disk}/store" in done.stderr
    assert f"{missing} of 40 runs are in the table but not kept: the disk is full" in done.stderr
    assert done.stderr.count("disk is full") == 2


# Many writers


def grid(place, log, barrier):
    with ThreadPoolExecutor(2) as executor:
        barrier.wait()
        configs = [Config(n, seconds=0.01, log=log) for n in range(60)]
        table = run_all(_experiment.run, configs, store=place, executor=executor)
    assert table.number.tolist() == [n for n in range(60) for _ in range(2)]
    assert (table.value[::2] == table.number[::2] / 3).all()


def test_two_processes_may_do_the_same_grid_in_the_same_store(place, log):
    barrier = PROCESSES.Barrier(2)
    both = [PROCESSES.Process(target=grid, args=(place, log, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    computed = len(log.words())
    assert computed > 60  # they did meet
    assert not damaged(place) and not Store(place).debris()
    configs = [Config(n, seconds=0.01, log=log) for n in range(60)]
    table = run_all(_experiment.run, configs, store=place)
    alone = run_all(_experiment.run, configs, executor=ThreadPoolExecutor(1))
    assert_frame_equal(table, alone)
    assert len(log.words()) == computed + 60


def test_nothing_is_ever_read_half_written_or_mixed(place):
    """Two threads put the same key, with the same and with different content, under a reader."""
    store, tables = Store(place), [pd.DataFrame({"n": [i] * 10_000}) for i in range(3)]
    contents = [encode(table, {}) for table in tables]
    store.put("module.run", KEY, contents[0])
    end = threading.Event()

    def put():
        while not end.is_set():
            for content in contents:
                store.put("module.run", KEY, content)

    with ThreadPoolExecutor(2) as writers:
        results = [writers.submit(put) for _ in range(2)]
        try:
            reads = 0
            deadline = time.monotonic() + 600
            while reads < 200 and time.monotonic() < deadline:
                for _, content in store.read(store.entries()):
                    assert content in contents
                    reads += 1
        finally:
            end.set()
        for result in results:
            result.result()
    assert reads >= 200 and len(store.entries()) == 3 and not store.debris()


def write_for_ever(place):
    content = encode(pd.DataFrame({"n": range(4_000_000)}), {})
    while True:
        Store(place).put("module.run", KEY, content)


def test_a_writer_that_is_killed_leaves_no_half_file_under_a_key(place, log, threads):
    table = run_all(_experiment.run, [Config(1, log=log)], store=place, executor=threads)
    writer = PROCESSES.Process(target=write_for_ever, args=(place,))
    writer.start()
    folder = Path(place, "module.run")
    wait_until(lambda: folder.is_dir() and any(n.endswith(".part") for n in os.listdir(folder)))
    writer.kill()
    writer.join()
    store = Store(place)
    assert not damaged(place) and len(store.debris()) <= 1
    # The same if it is killed while it looks whether the store can be written.
    Path(place, ".0.part").touch()
    debris = store.debris()
    assert len(debris) in (1, 2)
    assert_frame_equal(run_all(_experiment.run, [Config(1)], store=place, executor=threads), table)
    for path in debris:
        store.remove(path)
    assert not store.debris() and not list(Path(place).rglob("*.part"))
