"""Which modules some code imports: read from its source, and compared with what Python imports."""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import implreg_book
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implreg_book.runs import dependencies
from implreg_book.runs.dependencies import LIBRARIES, PACKAGES, Root, Sources, root_of, versions

import implreg

FOLDERS = [Path(package.__file__).parent for package in (implreg, implreg_book)]
# What the lazy face gives at most: what stands for `implreg` itself when that escapes.
PUBLIC = {f"implreg.{name}" for name in ("datasets", "measures", "theory", "tracing")}


def modules_of_package() -> list[str]:
    names = []
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def write(folder: Path, files: dict[str, str]) -> Sources:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return Sources(Root(folder))


def own(names: set[str]) -> set[str]:
    """Without the packages themselves, which are around every module of theirs."""
    return {name.partition(".")[2] for name in names} - {""}


# What a piece of code imports.


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import torch, numpy as np", set()),
        ("import implreg", set()),
        ("import implreg.theory.kernels", {"theory", "theory.kernels"}),
        ("import implreg.theory.kernels as k; k.anything", {"theory", "theory.kernels"}),
        ("import implreg.theory; implreg.measures.pool", {"theory", "measures"}),
        ("from implreg import trace as t, SGD", {"tracing", "training"}),
        ("from implreg import measures", {"measures"}),
        ("from implreg.theory import kernels, lines", {"theory", "theory.kernels", "theory.lines"}),
        ("from implreg.tracing import Trace", {"tracing"}),
        ("from implreg.figures import *", {"figures"}),
        ("import implreg as ir; ir.trace(net, ir.load('digits'))", {"tracing", "datasets"}),
        ("import implreg as ir; ir.theory.kernels.arc", {"theory", "theory.kernels"}),
        ("import implreg as ir; ir.__version__", set()),
        ("def f():\n    import implreg as ir\n    return ir.pool", {"measures"}),
        ("import implreg as ir\nclass A(ir.Trace): pass", {"tracing"}),
        ("try:\n    from implreg import measures\nexcept ImportError:\n    pass", {"measures"}),
        ("import implreg_book as bk; bk.runs.run_all(f)", {"runs"}),
        ("import implreg_book as bk; bk.claims.CLAIMS", {"evidence", "evidence.claims"}),
        ("from implreg_book import statistics", {"evidence", "evidence.statistics"}),
        ("import implreg as ir, implreg_book as bk; ir.pool, bk.press", {"measures", "press"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import implreg.files", set()),
        ("import typing as t\nif t.TYPE_CHECKING:\n    import implreg.files", set()),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import implreg.measures", {"measures"}),
        ("if not TYPE_CHECKING:\n    import implreg.measures", {"measures"}),
        ("# import implreg.measures\ntext = 'import implreg.measures'", set()),
    ],
)  # fmt: skip
def test_imports_are_found_as_they_are_written(code: str, modules: set[str]) -> None:
    assert own(Sources().imported(code)) == modules


@pytest.mark.parametrize(
    "code",
    [
        "from implreg import *",
        "import implreg as ir; f(ir)",
        "import implreg as ir; also = ir",
        "import implreg as ir; getattr(ir, name)",
        "import implreg as ir; ir.no_such_name",
        "from implreg import no_such_name",
    ],
)
def test_a_name_that_escapes_stands_for_all_that_is_public(code: str) -> None:
    assert Sources().imported(code) >= PUBLIC


def test_what_python_cannot_parse_imports_everything() -> None:
    assert Sources().imported("%matplotlib inline\nimport torch") == set(modules_of_package())


def test_relative_imports(tmp_path: Path) -> None:
    sources = write(
        tmp_path,
        {
            "mine/__init__.py": "",
            "mine/near.py": "",
            "mine/deep/__init__.py": "from . import leaf",
            "mine/deep/leaf.py": """
                from .. import near
                from ..far.end import x
                from .twig import y
            """,
            "mine/deep/twig.py": "",
            "mine/far/__init__.py": "",
            "mine/far/end.py": "x = 1",
            "mine/unused.py": "",
        },
    )
    assert set(sources.reached({"mine.deep"})) == {
        "mine", "mine.near", "mine.deep", "mine.deep.leaf", "mine.deep.twig", "mine.far",
        "mine.far.end",
    }  # fmt: skip


# Whose modules count.


def test_modules_of_users_count_where_they_are_given(tmp_path: Path) -> None:
    files = {"study.py": "import tool\nimport implreg as ir\nir.pool", "tool.py": "import torch"}
    sources = write(tmp_path, files)
    assert {"study", "tool", "implreg.measures"} <= set(sources.reached({"study"}))
    assert "torch" not in sources.reached({"study"})
    assert Sources().imported("import study") == set()
    before = sources.hashes({"study"})
    write(tmp_path, {"tool.py": "import torch.nn  # done otherwise"})
    after = sources.hashes({"study"})
    assert {name for name in after if after[name] != before.get(name)} == {"tool"}
    write(tmp_path, {"tool.py": "import third", "third.py": ""})
    assert set(sources.hashes({"study"})) == {*after, "third"}


def test_a_module_that_imports_itself_in_a_circle(tmp_path: Path) -> None:
    sources = write(tmp_path, {"a.py": "import b", "b.py": "def f():\n    import a"})
    assert set(sources.reached({"a"})) == set(sources.reached({"b"})) == {"a", "b"}


def test_installed_libraries_count_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"lib/inner.py": "", "lib/__init__.py": "import click", "click.py": ""})
    for name in ("lib/__init__.py", "lib/inner.py"):
        module = name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
        assert root_of(module, tmp_path / name) == Root(tmp_path.resolve())
    assert set(Sources(Root(tmp_path)).reached({"lib"})) == {"lib", "click"}
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    root = root_of("lib.inner", tmp_path / "lib" / "inner.py")
    assert root == Root(tmp_path.resolve(), frozenset({"lib"}))
    assert set(Sources(root).reached({"lib"})) == {"lib"}


def test_data_beside_a_module_counts_and_the_face_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Sources().hashes({"implreg.errors"})
    assert set(found) == {"implreg.errors"}
    assert "implreg/datasets/data/fashion-mnist.npz" in Sources().hashes({"implreg.datasets"})

    own = tuple(Root(tmp_path, frozenset({package})) for package in PACKAGES)
    monkeypatch.setattr(dependencies, "OWN", own)
    files = ["__init__.py", "data/a.npz", "near/__init__.py", "near/b.js", "near/deep/c.js"]
    files += ["near/__pycache__/d", "far/__init__.py", "far/e.js"]
    files += ["py.typed", "data/README.md", "data/LICENSE.txt", "near/face.pyi"]  # prose and marks
    write(tmp_path, {f"implreg/{name}": "" for name in files})
    assert set(Sources().hashes({"implreg.near"})) == {
        "implreg.near", "implreg/data/a.npz", "implreg/near/b.js", "implreg/near/deep/c.js",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("def f(x):\n    'Says otherwise.'\n\n    return x + 1", True),
        ("def f(x):  # a word\n    return x + 1", True),
        ("def f(x):\n    return (x\n            + 1)", True),
        ("def f(x):\n    return x + 2", False),
        ("def f(x):\n    return x + 1\n'at the end'", False),
        ("def f(x):\n    return 1 + x", False),
        ("def f(x):\n    return x +", False),
    ],
)
def test_code_counts_and_prose_does_not(tmp_path: Path, source: str, same: bool) -> None:
    before = write(tmp_path, {"one.py": "'Adds.'\ndef f(x):\n    'One more.'\n    return x + 1"})
    old = before.hashes({"one"})
    assert (write(tmp_path, {"one.py": source}).hashes({"one"}) == old) is same


def test_versions_are_those_of_installed_libraries() -> None:
    found = versions(("torch", "no-such-library"))
    assert set(found) == {"python", "torch"}
    assert set(LIBRARIES) <= set(versions())


# Against Python itself.

FORMS: tuple[Callable[[str], str], ...] = (
    "import {}".format,
    "import {} as x".format,
    "from {} import x".format,
    "def f():\n    import {}".format,
    "try:\n    import {}\nexcept ImportError:\n    pass".format,
    "from . import {}".format,
    "from .{} import x".format,
)
NAMES = [f"m{i}" for i in range(6)]


@settings(max_examples=60)
@given(
    graph=st.lists(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(FORMS)), max_size=3),
        min_size=len(NAMES),
        max_size=len(NAMES),
    )
)
def test_all_that_can_be_reached_is_reached_and_nothing_else(
    graph: list[list[tuple[str, Callable[[str], str]]]],
) -> None:
    edges = dict(zip(NAMES, ({target for target, _ in line} for line in graph), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        files = {"p/__init__.py": ""}
        for name, line in zip(NAMES, graph, strict=True):
            code = [form(t) if "." in form("") else form(f"p.{t}") for t, form in line]
            files[f"p/{name}.py"] = "\n".join(code)
        sources = write(Path(folder), files)
        for start in NAMES:
            expected, todo = {start}, [start]
            while todo:
                new = edges[todo.pop()] - expected
                expected |= new
                todo += new
            assert set(sources.reached({f"p.{start}"})) == {"p", *(f"p.{n}" for n in expected)}


IMPORTS_EACH_ALONE = """
import contextlib, importlib, json, os, sys

def names_after(*codes):  # of all modules, in a process of its own
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(read)
        for code in codes:
            exec(code)
        with open(write, "w") as out:
            json.dump([*sys.modules], out)
        os._exit(0)
    os.close(write)
    with open(read) as answer:
        names = json.load(answer)
    os.wait()
    return names

def ours(name):
    return name.split(".")[0] in ("implreg", "implreg_book")

codes = json.load(sys.stdin)
for name in names_after(*codes):  # what others made is imported once, for speed
    if not ours(name):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
for code in codes:
    print(json.dumps([name for name in names_after(code) if ours(name)]))
"""


def test_nothing_that_python_imports_is_missed() -> None:
    """Each module, and a name of each public one by way of the lazy face, imported alone."""
    pytest.importorskip("papermill", reason="some modules need the extra book")
    codes = [f"import {name}" for name in modules_of_package() if name != "implreg.__main__"]
    for package in (implreg, implreg_book, implreg_book.runs):
        public = {getattr(getattr(package, n), "__module__", n): n for n in package.__all__}
        codes += [f"import {package.__name__} as p; p.{name}" for name in public.values()]
    path = os.pathsep.join(str(folder.parent) for folder in FOLDERS)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_EACH_ALONE],
        input=json.dumps(codes),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(codes)
    sources = Sources()
    for code, answer in zip(codes, answers, strict=True):
        missed = set(json.loads(answer)) - set(sources.reached(sources.imported(code)))
        assert not missed, f"{code} also imports {missed}"
