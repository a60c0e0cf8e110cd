"""The command `runs`: what it lists, shows, deletes and exports of a store."""

import importlib
import io
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pandas as pd
import pytest
from implreg_book.runs import RunsFailed, Store, run_all
from implreg_book.runs.keys import known_code, origin_of
from implreg_book.runs.tables import decode, encode
from pandas.testing import assert_frame_equal

from implreg import commands

STUDY = """
from dataclasses import dataclass
import pandas as pd

@dataclass(frozen=True)
class Config:
    number: int
    rate: float = 0.1
    date: str = "of mine"
    sizes: tuple[int, ...] = (1, 2)

def run(config):
    if config.number < 0:
        raise ValueError(f"{config.number} is below zero")
    rows = range(1, config.number + 1)
    return pd.DataFrame({"row": rows, "value": [config.number / 3 / row for row in rows]})
"""


class Done(NamedTuple):
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


class Kept(NamedTuple):
    """What is in the store: three runs of 3, 1 and 2 rows, and a failure of number -1."""

    experiment: str
    source: Path
    table: pd.DataFrame
    keys: dict[int, str]
    files: dict[int, Path]

    def damage(self, number):
        self.files[number].write_bytes(self.files[number].read_bytes()[:-1])


@pytest.fixture
def call(monkeypatch, capfd):
    """Call `runs` in this process, with an answer to its question."""

    def run(words, answer=""):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["implreg", "runs", *words.split()])
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code = commands.main()
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Runs of a study of one's own, whose name is that of no other, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("IMPLREG_STORE", "store")
    name = f"study_{uuid4().hex[:8]}"
    source = tmp_path / f"{name}.py"
    source.write_text(STUDY)
    study = importlib.import_module(name)
    configs = [study.Config(n, 0.1 * n) for n in (3, 1, 2, -1)]
    with ThreadPoolExecutor(2) as executor, pytest.raises(RunsFailed) as error:
        run_all(study.run, configs, executor=executor)
    keys = {c.number: origin_of(study.run, None, keyed=True).key(c) for c in configs}
    files = {n: next(Path("store", f"{name}.run").glob(f"{key}*")) for n, key in keys.items()}
    del sys.modules[name]
    return Kept(f"{name}.run", source, error.value.table, keys, files)


def new_session():
    """Forget the code of studies, as a new process does."""
    known_code.cache_clear()
    importlib.invalidate_caches()


def change(source):
    source.write_text(f"{STUDY}\nchanged = True\n")
    new_session()


def left():
    """What kinds of files are in the store."""
    return sorted(path.suffix for path in Path("store").rglob("*") if path.is_file())


# ls and show


def test_ls_counts_runs_and_failures_of_each_experiment(kept, call):
    done = call("ls")
    assert done.code == 0
    head, _, row = done.out.splitlines()
    assert head.split() == ["experiment", "runs", "failed", "size"]
    assert row.split() == [kept.experiment, "3", "1", "0.01", "MB"]


def test_ls_of_an_experiment_tells_state_date_and_configuration_of_each_run(kept, call):
    kept.damage(1)
    rows = {row.split()[0]: row for row in call(f"ls {kept.experiment}").out.splitlines()[2:]}
    rows = {number: rows.pop(key[:12]) for number, key in kept.keys.items()}
    assert {number: row.split()[1] for number, row in rows.items()} == {
        3: "kept", 1: "damaged", 2: "kept", -1: "failed",
    }  # fmt: skip
    assert rows[3].endswith("number=3, rate=0.30000000000000004, date=of mine, sizes=[1,…")
    assert "+00:00" in rows[3] and "number=-1" in rows[-1]
    change(kept.source)
    assert call(f"ls {kept.experiment}").out.count("older code") == 2


def test_ls_shows_a_key_that_could_be_a_number_as_it_is(kept, call):
    Store("store").put("other.run", f"{'12345678e012':0<32}", kept.files[1].read_bytes())
    assert call("ls other.run").out.splitlines()[2].startswith("12345678e012 ")


def test_ls_in_a_real_process_finds_the_code_in_the_folder_where_it_runs(kept):
    program = [sys.executable, "-m", "implreg", "runs", "ls", kept.experiment]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.stdout.count(" kept ") == 3 and done.stdout.count(" failed ") == 1


def test_show_tells_all_of_a_run_and_its_table(kept, call):
    shown = call(f"show {kept.keys[3][:8]}").out
    for words in (
        "status +kept", f"experiment +{kept.experiment}", "number +3", "numpy +2", "seconds +0",
        r"sizes +\[1, 2\]", "rate +0.3000",
    ):  # fmt: skip
        assert re.search(words, shown)
    assert kept.table[:3][["row", "value"]].to_string(index=False) in shown
    assert re.search("row +1\nvalue +0.3333", call(f"show {kept.keys[1]}").out)


def test_show_tells_why_a_run_failed(kept, call):
    done = call(f"show {kept.keys[-1]}")
    assert done.code == 0 and re.search("status +failed", done.out)
    assert "ValueError: -1 is below zero" in done.out
    assert 'raise ValueError(f"{config.number} is below zero")' in done.out


def test_show_tells_of_a_run_of_a_chapter(kept, call):
    run = {"set": {"width": 3}, "duration": 1.5, "key": "a", "date": "today", "versions": {}}
    notebook = json.dumps({"metadata": {"implreg": run}}).encode()
    Store("store").put("chapter.alpha", "ab" * 16, notebook)
    done = call(f"show {'ab' * 16}")
    assert done.code == 0 and re.search(r"status +kept\n.*seconds +1\.5\n", done.out, re.DOTALL)
    assert re.search("width +3", done.out)


def test_show_of_a_damaged_file_says_so_in_one_sentence(kept, call):
    kept.damage(2)
    done = call(f"show {kept.keys[2]}")
    assert done.code == 1 and str(kept.files[2]) in done.out
    assert done.err.splitlines()[-1].startswith("Error: the file is damaged; the run is computed")


@pytest.mark.parametrize("command", ["show", "rm --yes"])
def test_a_key_of_no_run_or_of_many_is_refused(kept, call, command):
    shutil.copy(kept.files[1], kept.files[1].with_name(f"{kept.keys[1][:31]}x.parquet"))
    twin = f"{kept.keys[1][:31]}{'1' if kept.keys[1][31] == '0' else '0'}"
    Store("store").put(kept.experiment, twin, kept.files[1].read_bytes())
    for key, many in ("xyz", 0), (twin[:31], 2):
        done = call(f"{command} {key}")
        assert done.code == 1
        assert done.err.endswith(f"got {key}, with which {many} begin; see runs ls.\n")
    assert len(Store("store").entries()) == 5


@pytest.mark.parametrize("words", ["ls", "show a", "rm --failed", "export a.run a.csv"])
def test_a_store_without_runs_is_told(call, words, tmp_path):
    done = call(f"{words} --store {tmp_path}/empty")
    assert done.code == 1
    assert done.err == (
        f"Error: there are no runs in {tmp_path}/empty; name another folder with --store.\n"
    )
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("words", ["ls {}", "rm --experiment {}", "export {} a.csv"])
def test_an_unknown_experiment_is_refused_with_those_that_there_are(kept, call, words):
    done = call(words.format("other.run"))
    assert done.code == 1
    assert f"one of {kept.experiment}, got other.run; choose one." in done.err


# rm


def test_rm_deletes_only_after_a_yes(kept, call):
    done = call(f"rm {kept.keys[3]}", "n\n")
    assert done.code == commands.INTERRUPTED and len(left()) == 4
    assert "Delete from store this many files: 1?" in done.out
    assert call(f"rm {kept.keys[3]}", "y\n").out.endswith("Files deleted: 1.\n")
    assert left() == [".json", ".parquet", ".parquet"]
    assert call(f"rm {kept.keys[1][:10]} {kept.keys[2][:10]} --yes").code == 0
    assert left() == [".json"]


def test_rm_deletes_failures_damaged_files_and_those_of_killed_writers(kept, call):
    for folder in (Path("store"), kept.files[1].parent):
        (folder / ".0123.part").touch()
    kept.damage(2)
    assert call("rm --damaged --yes").out == "Files deleted: 3.\n"
    assert left() == [".json", ".parquet", ".parquet"]
    assert call("rm --failed --yes").out == "Files deleted: 1.\n"
    assert left() == [".parquet", ".parquet"]
    assert call("rm --damaged --failed --yes").out == "There is nothing to delete.\n"


def test_rm_deletes_runs_of_older_code_but_not_of_code_that_it_does_not_find(kept, call):
    assert call("rm --older --yes").out == "There is nothing to delete.\n"
    change(kept.source)
    away = kept.source.rename("elsewhere")
    new_session()
    assert call("rm --older --yes").out == "There is nothing to delete.\n"
    assert call(f"ls {kept.experiment}").out.count("unknown code") == 3
    away.rename(kept.source)
    new_session()
    assert call("rm --older --yes").out == "Files deleted: 3.\n"
    assert left() == [".json"]


def test_rm_deletes_all_of_an_experiment(kept, call):
    shutil.copytree(kept.files[1].parent, "store/other.run")
    assert call(f"rm --experiment {kept.experiment} --yes").out == "Files deleted: 4.\n"
    assert [path.parent.name for path in Path("store").rglob("*.json")] == ["other.run"]
    assert call("rm --experiment other.run --failed --yes").out == "Files deleted: 1.\n"
    assert left() == [".parquet"] * 3


@pytest.mark.parametrize("words", ["rm", "rm abc --failed", "rm abc --experiment a"])
def test_rm_wants_to_know_what_to_delete(kept, call, words):
    done = call(words)
    assert done.code == 2 and "say what to delete: either KEYS, or" in done.err
    assert len(left()) == 4


# export


@pytest.mark.parametrize("name", ["runs.csv", "runs.parquet"])
def test_export_writes_the_table_that_the_runs_gave(kept, call, name):
    done = call(f"export {kept.experiment} {name}")
    assert done.out == f"{name} has 6 rows; runs: 3; left out: 1, see runs ls {kept.experiment}.\n"
    exported = pd.read_csv(name) if name.endswith("csv") else pd.read_parquet(name)
    assert [*exported.columns] == [*kept.table.columns, "key", "code"]  # it has a date of its own
    assert dict(zip(exported.number, exported.key)) == {n: kept.keys[n] for n in (1, 2, 3)}
    order = ["number", "row"]
    exported = exported.sort_values(order, ignore_index=True)[[*kept.table.columns]]
    assert_frame_equal(exported, kept.table.sort_values(order, ignore_index=True))


def test_export_has_a_run_once_that_two_writers_have_kept(kept, call):
    table, meta = decode(kept.files[3].read_bytes())
    Store("store").put(kept.experiment, kept.keys[3], encode(table, meta | {"seconds": 9}))
    assert left().count(".parquet") == 4
    assert call(f"export {kept.experiment} a.csv").out.startswith("a.csv has 6 rows; runs: 3;")
    assert call("ls").out.splitlines()[2].split()[1] == "3"


def test_export_takes_runs_of_older_code_only_if_asked(kept, call):
    change(kept.source)
    done = call(f"export {kept.experiment} a.csv")
    assert done.code == 1 and "add --older to take all 4." in done.err
    assert not Path("a.csv").exists()
    assert call(f"export {kept.experiment} a.csv --older").code == 0
    assert len(pd.read_csv("a.csv")) == 6


def test_export_refuses_in_one_sentence_files_that_it_cannot_write(kept, call):
    done = call(f"export {kept.experiment} a.txt")
    assert done.code == 1 and "FILE must end in .parquet or .csv, got a.txt" in done.err
    for name in ("nowhere/a.csv", "nowhere/a.parquet"):
        done = call(f"export {kept.experiment} {name}")
        assert done.code == 1 and "Traceback" not in done.err
        assert done.err.splitlines()[-1].startswith("Error: nowhere")
        assert "could not be written" in done.err
