"""The keys of runs: what changes them and what does not, from one process to the next."""

import copy
import importlib
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from _processes import PROCESSES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from implreg_book.runs import code_version, dependencies, fingerprint, run_all
from implreg_book.runs.keys import known_code
from loky import get_reusable_executor

from implreg.errors import InputError

FOLDER = Path(__file__).parents[1]

FILES = {
    "study.py": """
from dataclasses import dataclass
import helper
from parts import table

@dataclass(frozen=True)
class Config:
    number: int
    sizes: tuple = ()

def run(config, data=0):
    helper.begin()
    return table(config.number + data)

def walk(config, data=0):
    return run(config, data)
""",
    "helper.py": """
from pathlib import Path

def begin():
    with Path(__file__).with_name("log").open("a") as log:
        log.write("run ")
""",
    "parts/__init__.py": "from .tables import table",
    "parts/tables.py": """
import pandas as pd

def table(number):
    return pd.DataFrame({"value": [number]})
""",
    "parts/drawings.py": "",
    "unrelated.py": "",
}


def session(folder, store, function, numbers, sizes, data, numpy):
    """What a user does in one session: import the study and run a grid of it."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    if numpy:
        found = dependencies.importlib.metadata.version
        dependencies.importlib.metadata.version = lambda x: numpy if x == "numpy" else found(x)
    study = importlib.import_module("study")
    with ThreadPoolExecutor(1) as executor:
        configs = [study.Config(n, sizes) for n in numbers]
        run_all(getattr(study, function), configs, data=data, store=store, executor=executor)


@pytest.fixture
def computed(tmp_path):
    """Call a session and return how many runs it computed; after one that computed two."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    log, store = tmp_path / "log", str(tmp_path / "store")

    def call(function="run", numbers=(1, 2), sizes=(1,), data=1, numpy=None):
        log.write_text("")
        process = PROCESSES.Process(
            target=session, args=(tmp_path, store, function, numbers, sizes, data, numpy)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
        return len(log.read_text().split())

    assert call() == 2 and call() == 0
    return call


def test_a_changed_argument_function_or_library_is_computed_again(computed):
    assert computed(numbers=(1, 2, 3)) == 1
    assert computed(sizes=(1, 0)) == 2
    assert computed(sizes=((1,),)) == 2
    assert computed(data=2) == 2
    assert computed(data=1.0) == 2
    assert computed(function="walk") == 2
    assert computed(numpy="1.0") == 2
    assert computed() == 0


def test_a_change_of_a_module_that_is_imported_is_computed_again_and_back_again_kept(
    computed, tmp_path
):
    for name in ("study.py", "helper.py", "parts/__init__.py", "parts/tables.py"):
        (tmp_path / name).write_text(f"{FILES[name]}\nchanged = True\n")
        assert computed() == 2
        (tmp_path / name).write_text(FILES[name])
    assert computed() == 0


def test_a_change_of_a_module_that_is_not_imported_is_none(computed, tmp_path):
    for name in ("unrelated.py", "parts/drawings.py"):
        (tmp_path / name).write_text("changed = True\n")
    assert computed() == 0


def long_session(folder, store):
    """One in which a file is changed after it was imported."""
    sys.path.insert(0, str(folder))
    study = importlib.import_module("study")
    grid = {"run": study.run, "configs": [study.Config(1, (1,))], "data": 1}
    with ThreadPoolExecutor(1) as threads:
        for way in ({"executor": threads}, {"workers": 1}):
            assert run_all(**grid, **way).value.tolist() == [2]
        (folder / "study.py").write_text(FILES["study.py"].replace("+ data", "- data"))
        with pytest.raises(InputError, match="but have other code of study"):
            run_all(**grid, executor=threads, store=store)
    assert run_all(**grid, workers=1, store=store).value.tolist() == [0]
    get_reusable_executor().shutdown()  # such a process does not end before its own do


def test_after_an_edit_processes_run_the_new_code_and_what_cannot_is_refused(computed, tmp_path):
    process = PROCESSES.Process(target=long_session, args=(tmp_path, str(tmp_path / "store")))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert computed() == 1


def test_a_module_whose_code_is_not_in_the_file_of_its_name_has_no_version(tmp_path, monkeypatch):
    for name, file in ("odd", "some.odd.py"), ("prompt", "<stdin>"), ("compiled", "compiled.so"):
        (tmp_path / file).touch()
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__file__=str(tmp_path / file)))
        assert known_code(name) == ""
        with pytest.raises(InputError, match="must be a function of a module with a source file"):
            code_version(name)


# Fingerprints


class Kind(Enum):
    SAME = 1
    OTHER = 1.5


@dataclass(frozen=True)
class One:
    a: object = 1


@dataclass(frozen=True)
class Two:
    a: object = 1


ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(),
    st.binary(), st.datetimes(), st.timedeltas(), st.sampled_from(Kind),
)  # fmt: skip
ARRAYS = hnp.arrays(
    st.sampled_from(["f8", "f4", ">f4", "i8", "i4", "u1", "?", "c16", "M8[s]", "U3"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
TENSORS = hnp.arrays(
    st.sampled_from(["f8", "f4", "i8", "u1", "?", "c16"]), hnp.array_shapes(min_dims=0, min_side=0)
).map(torch.from_numpy)
TABLES = st.lists(st.tuples(st.integers(-9, 9), st.floats(), st.text())).map(
    lambda rows: pd.DataFrame(rows, columns=["a", "b", "c"])
)
VALUES = st.recursive(
    ATOMS | ARRAYS | TENSORS | TABLES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
        | inner.map(One)
    ),
    max_leaves=6,
)


@given(VALUES)
def test_equal_content_has_an_equal_fingerprint_and_its_kind_counts(value):
    seen = fingerprint(value)
    assert fingerprint(copy.deepcopy(value)) == seen
    assert fingerprint(pickle.loads(pickle.dumps(value))) == seen
    others = [[value], (value,), {"a": value}, One(value), Two(value), [value, value]]
    assert len({seen, *map(fingerprint, others)}) == 7


@given(st.dictionaries(st.text(), ATOMS, min_size=1))
def test_the_order_of_a_mapping_is_no_content(value):
    assert fingerprint(dict(reversed(value.items()))) == fingerprint(value)


@given(st.data())
def test_any_change_of_an_array_changes_its_fingerprint(data):
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    values = st.integers(0, 200)
    array = data.draw(
        hnp.arrays(data.draw(st.sampled_from(["f8", "i4", "u1"])), shape, elements=values)
    )
    place = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    changed = array.copy()
    changed[place] = 0 if changed[place] != 0 else 1
    variants = [
        array, changed, array.astype("f4"), array.astype("i8"), array[None], array[..., None, None],
        torch.from_numpy(array), torch.from_numpy(changed), torch.from_numpy(array)[None],
        torch.from_numpy(array).to(torch.bfloat16), array.tolist(),
        pd.DataFrame(array.reshape(1, -1)),
    ]  # fmt: skip
    assert len(set(map(fingerprint, variants))) == len(variants)


@given(hnp.arrays("f8", (3, 4)))
def test_how_an_array_or_a_tensor_lies_in_memory_is_no_content(array):
    seen = fingerprint(array)
    assert fingerprint(np.asfortranarray(array)) == seen
    assert fingerprint(array.astype(">f8")) == seen
    assert fingerprint(np.repeat(array, 2, axis=1)[:, ::2]) == seen
    tensor = torch.from_numpy(array)
    seen = fingerprint(tensor)
    assert fingerprint(tensor.T.contiguous().T) == seen
    assert fingerprint(tensor.clone().requires_grad_()) == seen
    complex_ = torch.complex(tensor, tensor)
    assert fingerprint(complex_.conj()) == fingerprint(complex_.conj().resolve_conj())
    assert fingerprint(complex_.conj().imag) == fingerprint(-tensor)


def test_all_of_a_table_is_content():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    variants = [
        table, table.rename(columns={"a": "c"}), table.set_axis([1, 0]), table[["b", "a"]],
        table.astype({"a": "i4"}), table.replace(1, 3), table.rename_axis("name"), table[:1],
        table.set_axis(pd.date_range("2020", periods=2)), table.set_axis([1, "b"], axis=1),
        table.set_axis(["1", "b"], axis=1), table.assign(a=pd.to_timedelta([1, 2], unit="s")),
        table.assign(a=pd.array([1, None], dtype="Int64")),
        table.assign(a=pd.to_datetime(["", ""])),
    ]  # fmt: skip
    assert len(set(map(fingerprint, variants))) == len(variants)
    assert fingerprint(table.copy()) == fingerprint(table)


def test_numbers_that_python_takes_for_equal_are_different_values():
    values = [
        1, 1.0, True, 1 + 0j, np.int64(1), np.float32(1), np.float64(1), "1", b"1", Path("1"),
        torch.tensor(1), torch.tensor(True), 0.0, -0.0, Kind.SAME, None, "", (), [], {},
    ]  # fmt: skip
    assert len(set(map(fingerprint, values))) == len(values)


SEEN = """
import numpy, torch
from _experiment import Config, Data, Log
from implreg_book.runs import fingerprint
values = [{"b": 1, "a": {"x": (1, 2.5, None)}}, Config(1, log=Log("a")), Data(), [1, "é", b"x"]]
print(*map(fingerprint, values))
"""


def test_fingerprints_are_the_same_in_all_processes():
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SEEN], cwd=FOLDER, env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE, text=True,
        )
        for seed in "12"
    ]  # fmt: skip
    first, second = (process.communicate()[0].split() for process in processes)
    assert first == second and len(set(first)) == 4
    assert fingerprint([1, "é", b"x"]) == first[3]


REFUSED = [
    os, sys.__stdin__, lambda: 1, {1}, np.array([object()]), np.ma.masked_array([1, 2], [0, 1]),
    torch.eye(2).to_sparse(), One, pd.Series([1]), pd.DataFrame({"a": [{1}]}),
]  # fmt: skip


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_has_no_fingerprint_is_refused_in_one_sentence(value):
    with pytest.raises(InputError, match=r"data must hold numbers, .* got a [\w.]+; pass such v"):
        fingerprint({"a": [1, (value,)]}, "data")
