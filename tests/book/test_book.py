"""The pipeline, on throwaway books; papermill, the kernels and Jupyter Book are the real ones."""

import importlib.metadata
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import nbformat
import psutil
import pytest
import yaml

pytest.importorskip("papermill", reason="the pipeline needs the book: pip install ./book")

from _processes import as_in_a_terminal, on_small_disks, wait_until
from _project import CONFIG, PARAMETERS, Done, Project
from implreg_book.press import execute, provenance, site
from implreg_book.press import notebook as notebooks
from implreg_book.press.address import Address
from implreg_book.press.chapters import load_book
from implreg_book.press.page import stage_chapter
from implreg_book.press.plan import Step, Task, experiment_of, plan, store_of
from implreg_book.press.why import changes
from implreg_book.runs.dependencies import LIBRARIES, Root, Sources, required

from implreg import commands
from implreg.errors import InputError

pytestmark = pytest.mark.pages
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call the command line in this process; what kernels say counts as said by it."""

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["implreg", *words])
        code = commands.main()
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def one(project: Project) -> Project:
    """A book of one chapter with a parameter of every kind."""
    project.chapter("alpha", "print(width)", parameters=PARAMETERS)
    project.toc("alpha")
    return project


def environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    }


# What a user may say, and what he is told.


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("run alhpa", "there is no chapter 'alhpa', only alpha; did you mean alpha?"),
        ("book alhpa", "did you mean alpha?"),
        ("book --profile smok", "no profile 'smok', only default, smoke; did you mean smoke?"),
        ("run alpha -p widht 3", "there is no parameter of chapter alpha 'widht'"),
        ("run alpha -p width x", "parameter width of chapter alpha must be of type int, got 'x'"),
        ("run alpha -p width 2.5", "must be of type int, got 2.5"),
        ("run alpha -p width true", "must be of type int, got True"),
        ("run alpha -p rate fast", "must be of type float, got 'fast'"),
        ("run alpha -p rate .inf", "must be of type float, got inf"),
        ("run alpha -p full 1", "must be of type bool, got 1"),
        ("run alpha -p widths 64", "must be of type list[int], got 64"),
        ("run alpha -p widths [64,x]", "must be of type list[int], got [64, 'x']"),
        ("run alpha -p widths [64", "must be of type list[int], got '[64'"),
        ("run alpha -o out.txt", "must be a file that ends in .ipynb, got out.txt"),
        ("book -p width 3", "-p sets a parameter of one chapter, got 0 chapters"),
        ("book --build-dir _toc.yml/x", "_toc.yml/x could not be written (Not a directory)"),
        ("run alpha -o _toc.yml/x.ipynb", "could not be written (Not a directory)"),
        (
            "data --fetch cifar",
            "one of fashion-mnist, mnist, cifar10, cifar100, got 'cifar'",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_runs_nothing(
    one: Project, call: Callable[..., Done], words: str, told: str
) -> None:
    done = call(*words.split())
    assert done.code == 1
    assert told in done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("Error: ")
    assert not list(one.root.glob("_build/running/*"))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("width", "3", 3),
        ("rate", "3", 3.0),
        ("rate", "1e-3", 0.001),
        ("data", "mnist1d", "mnist1d"),
        ("data", "12", "12"),
        ("data", "no", "no"),
        ("full", "true", True),
        ("widths", "[1, 2]", [1, 2]),
    ],
)
def test_typed_values_are_taken_as_meant(one: Project, name: str, text: str, value: object) -> None:
    chapter = load_book(one.root).chapter("alpha")
    parsed = chapter.parse(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("profiles", "told"),
    [
        ("smoke: {beta: {}}", "profile smoke in profiles.yml: there is no chapter 'beta'"),
        ("smoke: {alpha: {widht: 3}}", "profile smoke in profiles.yml: there is no parameter"),
        ("smoke: {alpha: {width: 3.5}}", "must be of type int, got 3.5"),
        ("smoke: {alpha: 3}", "must map parameters to values, got 3"),
        ("smoke: 3", "must map chapters to parameters, got 3"),
        ("default: {}", "must not hold a profile called default"),
        ("[1]", "profiles.yml must hold a mapping, got [1]"),
        ("a: [", "profiles.yml must be YAML"),
    ],
)
def test_bad_profiles_are_refused(one: Project, profiles: str, told: str) -> None:
    one.write("book/profiles.yml", profiles)
    with pytest.raises(InputError, match=re.escape(told)):
        load_book(one.root)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ("width = 3", "must have one of the types int"),
        ("width: tuple = (3, 4)", "must have one of the types int"),
        ("width: int = 3.5", "must have a plain int as its default, got 3.5"),
        ("width: int = 3  # so that n = 3", "must have one cell tagged parameters"),
    ],
)
def test_bad_parameter_cells_are_refused(project: Project, parameters: str, told: str) -> None:
    project.chapter("alpha", "", parameters=parameters)
    project.toc("alpha")
    with pytest.raises(InputError, match=re.escape(told)):
        load_book(project.root)


def test_bad_books_are_refused(one: Project) -> None:
    one.toc("alpha", "beta")
    with pytest.raises(InputError, match=r"neither book/beta.ipynb nor book/beta.md"):
        load_book(one.root)
    one.write("book/beta.ipynb", '{"cells": [')
    with pytest.raises(InputError, match=r"beta.ipynb must be a Jupyter notebook"):
        load_book(one.root)
    (one.root / "_toc.yml").unlink()
    with pytest.raises(InputError, match=r"_toc.yml was not found in .* top folder of the book"):
        load_book(one.root)


def test_list_shows_chapters_parameters_and_profiles(
    one: Project, call: Callable[..., Done]
) -> None:
    done = call("list")
    assert done.code == 0
    assert "alpha: About alpha" in done.out
    assert re.search(r"width +int +512 +hidden units", done.out)
    assert re.search(r"widths +list\[int\] +\[64, 256\] +hidden units of each network", done.out)
    assert "profiles: default, smoke" in done.out


# What makes a chapter run again.


def planned(project: Project, values: Any = None, profile: str = "default") -> Step:
    """What is to be done for the first chapter."""
    book = load_book(project.root)
    chapter, *_ = book.chapters.values()
    given = {chapter.name: values or {}}
    (step,) = plan(Task(book, [chapter], project.root / "_build", profile, given))
    return step


def keep(project: Project, values: Any = None, profile: str = "default") -> Step:
    """Keep a run of the first chapter as if it had run."""
    step = planned(project, values, profile)
    notebook = executed(project, inputs=step.inputs, values=step.values, profile=profile)
    store = store_of(project.root / "_build")
    store.put(experiment_of(step.chapter.name), step.key, nbformat.writes(notebook).encode())
    return planned(project, values, profile)


def test_the_key_holds_all_that_a_run_depends_on_but_not_prose(one: Project) -> None:
    def key(values: Any = None, upstream: Any = None) -> str:
        chapter = load_book(one.root).chapter("alpha")
        sources = Sources(Root(one.root))
        inputs = provenance.run_inputs(chapter, values or {}, upstream or {}, sources)
        assert json.loads(json.dumps(inputs)) == inputs
        return provenance.digest(inputs)

    first = key()
    one.chapter("alpha", "print(width)", parameters=PARAMETERS, prose="Said otherwise.")
    assert key() == first
    assert len({first, key({"width": 3}), key({"width": 4}), key({}, {"beta": "1"})}) == 4
    one.chapter("alpha", "print(width + 1)", parameters=PARAMETERS)
    assert key() != first
    one.chapter("alpha", "print(width)", parameters=PARAMETERS.replace("512", "256"))
    assert key() != first

    keys = []
    for text in ("a = 1", "a = 2", "a = 1"):
        one.write("helper.py", text)
        one.chapter("alpha", "import helper", parameters=PARAMETERS)
        keys.append(key())
    assert keys[0] == keys[2] != keys[1]
    one.chapter("alpha", "print(width)", parameters=PARAMETERS)
    assert key() == first
    one.change_metadata("alpha", implreg={"also_imports": ["helper", "implreg.commands.trace"]})
    assert key() != first


@pytest.mark.parametrize("names", ["implreg.measures", ["implreg.measure"], [3]])
def test_modules_that_are_not_there_are_refused(one: Project, names: object) -> None:
    one.change_metadata("alpha", implreg={"also_imports": names})
    told = re.escape(f"must list modules of implreg or of the book's folder, got {names!r}; write")
    with pytest.raises(InputError, match=told):
        load_book(one.root)


def requirements(distribution: str) -> set[str]:
    lines = importlib.metadata.requires(distribution) or []
    return {re.split(r"[^\w-]", line)[0].lower() for line in lines if "extra" not in line}


def test_every_library_that_can_change_a_result_is_among_the_inputs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {re.split(r"[^\w-]", entry)[0] for entry in project["dependencies"]}
    # These carry data, or runs, from one place to another.
    carry = {"click", "cloudpickle", "filelock", "fsspec", "lazy-loader", "loky", "pooch", "psutil"}
    carry |= {"pyarrow", "safetensors", "tabulate", "tqdm"}
    assert needed - carry <= {*LIBRARIES, *provenance.PICTURES}
    builders = requirements("jupyter-book") | requirements("myst-parser")
    assert builders - {"click", "jsonschema", "pyyaml"} <= required(*site.BUILDERS).keys()
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    extensions = {name.replace("_", "-") for name in config["sphinx"]["extra_extensions"]}
    assert extensions <= required(*site.BUILDERS).keys()


def test_why_a_chapter_runs_is_said_and_nothing_is_done(
    one: Project, call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def why(*words: str) -> str:
        done = call("book", "--why", *words)
        assert done.code == 0, done.err
        chapter, _, site, *_ = done.out.splitlines()
        assert site.startswith("The site will be built: ")
        return chapter.removeprefix("alpha  ")

    one.write("book/profiles.yml", "smoke: {alpha: {width: 3}}\nsame: {alpha: {width: 512}}\n")
    one.write("helper.py", "")
    code = "import helper\nprint(width)"
    one.chapter("alpha", code, parameters=PARAMETERS)
    assert why() == "will run: it has no kept run to compare with"
    assert not (one.root / "_build").exists()
    step = keep(one)
    assert step.kept is not None
    ran = datetime.fromisoformat(step.kept["date"]).astimezone()
    assert why() == f"unchanged, ran {ran:%Y-%m-%d %H:%M} in 41 s"
    assert why("--force") == "will run: --force was given"
    assert why("--profile", "smoke") == (
        "will run: it never ran with the parameters of profile smoke"
    )
    assert why("alpha", "-p", "width", "256", "-p", "widths", "[64]") == (
        "will run: parameters width is 256 instead of 512 and widths is [64] instead of [64, 256]"
    )
    assert why("alpha", "-p", "width", "512") == ("will run: parameter width is set to its default")

    # Against the run with the same parameters, though another is newer.
    keep(one, {"width": 3}, profile="smoke")
    one.chapter("alpha", f"{code} ", parameters=PARAMETERS)
    assert why() == "will run: cell code changed"
    assert why("--profile", "smoke") == "will run: cell code changed"
    one.chapter("alpha", code, parameters=PARAMETERS)
    one.write("helper.py", "import other")
    one.write("other.py", "")
    assert why() == "will run: helper changed; other is new"
    one.write("helper.py", "")
    newer = provenance.versions(provenance.LIBRARIES + provenance.PICTURES) | {"torch": "9.0"}
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "versions", lambda _: newer)
        assert re.fullmatch(r"will run: torch 9\.0 instead of [\d.]+(\+\w+)?", why())
    one.swap_last_cells("alpha")
    assert why() == "will run: the order of its cells changed"
    one.swap_last_cells("alpha")
    assert why().startswith("unchanged")
    for file in Path("_build/runs/chapter.alpha").glob(f"{step.key}*"):
        file.write_text(file.read_text()[:-100])
    assert why() == "will run: its kept run is damaged"


def test_long_lists_are_cut() -> None:
    old = dict.fromkeys("abcdefg", "1")
    new = {**dict.fromkeys("abcde", "2"), "g": "1", "h": "1"}
    assert changes(old, new, "cell") == [
        "cells a, b, c and 2 more changed", "cell h is new", "cell f is gone",
    ]  # fmt: skip


def test_life_of_a_book(project: Project, call: Callable[..., Done]) -> None:
    """Built, left alone, reworded, changed, damaged: only what must run again does."""
    alpha = "print('x', end='', file=open('runs', 'a'))\nprint(width * 2)"
    project.chapter("alpha", alpha, parameters=PARAMETERS, prose="Before.")
    project.chapter(
        "summary",
        "import os; print(sorted(os.listdir(chapters)))",
        parameters="chapters: str = ''  # folder",
        reads=True,
    )
    project.toc("summary", "alpha")
    project.write("book/profiles.yml", "smoke: {alpha: {width: 21}}\n")

    done = call("book", "--profile", "smoke")
    assert done.code == 0, done.err
    assert re.search(r"alpha +ran .*\nsummary +ran", done.out)
    assert "open _build/html/index.html" in done.out
    page = project.page("alpha")
    assert "<span></span>42\n" in page
    assert "Before." in page
    assert "papermill book/alpha.ipynb out.ipynb -p width 21" in re.sub("<[^>]+>", "", page)
    assert "alpha.ipynb" in project.page("summary")
    assert str(project.root) not in page
    run = nbformat.read("_build/executed/alpha.ipynb", as_version=4).metadata.implreg
    assert run.profile == "smoke"
    assert run.parameters["width"] == 21
    assert run.versions["torch"]
    assert run.commit == "unknown"

    project.chapter("alpha", alpha, parameters=PARAMETERS, prose="After {ref}`nowhere`.")
    done = call("book", "--profile", "smoke")
    assert done.code == 1
    assert "nowhere" in done.err
    assert project.page("alpha") == page

    project.chapter("alpha", alpha, parameters=PARAMETERS, prose="After.")
    done = call("book", "--profile", "smoke", "--why")
    assert re.match(r"alpha +unchanged.*\nsummary +unchanged.*\n", done.out)
    assert done.out.endswith("\nThe site will be built: book/alpha.ipynb changed.\n")
    done = call("book", "--profile", "smoke")
    assert done.code == 0, done.err
    assert re.search(r"alpha +unchanged .*\nsummary +unchanged", done.out)
    assert "After." in project.page("alpha")
    assert "<span></span>42\n" in project.page("alpha")
    assert Path("runs").read_text() == "x"

    built = Path("_build/html/index.html").stat().st_mtime_ns
    done = call("book", "--profile", "smoke")
    assert done.code == 0, done.err
    assert "The site is unchanged; open _build/html/index.html\n" in done.out
    assert Path("_build/html/index.html").stat().st_mtime_ns == built
    done = call("book", "--why")
    assert re.search("alpha +will run: it never ran with the parameters of profile def", done.out)
    assert re.search(
        "summary +will run: it reads alpha, which will run; profile default instead of smoke\n",
        done.out,
    )
    assert "The site will be built: alpha and summary will run.\n" in done.out

    # A number altered in the kept run, or in the copy that chapters read, is never published.
    (entry,) = Path("_build/runs/chapter.alpha").iterdir()
    copy = Path("_build/executed/alpha.ipynb")
    assert entry.read_text() == copy.read_text()
    copy.write_text(copy.read_text().replace("42", "43"))
    done = call("book", "--profile", "smoke", "--force", "summary")
    assert done.code == 0, done.err
    assert entry.read_text() == copy.read_text()
    entry.write_text(entry.read_text().replace("42", "43"))
    done = call("book", "--why", "alpha", "-p", "width", "21")
    assert done.out.startswith("alpha  will run: its kept run is damaged\n")
    done = call("book", "alpha", "-p", "width", "21")
    assert done.code == 0, done.err
    assert re.search(r"alpha +ran", done.out)
    assert "open _build/preview/html/index.html" in done.out
    assert "After." in project.page("alpha")
    assert Path("runs").read_text() == "xx"

    project.chapter("alpha", f"{alpha}\nprint('more')", parameters=PARAMETERS)
    assert project.statuses() == {"alpha": "ran", "summary": "ran"}
    project.chapter("alpha", alpha, parameters=PARAMETERS)
    assert project.statuses("alpha") == {"alpha": "ran"}
    done = call("book", "--why", "summary")
    assert done.out.startswith("summary  will run: of what it reads, alpha changed\n")


def test_why_the_site_is_built_is_said(one: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    step = keep(one)
    assert step.kept is not None

    def task(**more: Any) -> Task:
        book = load_book(one.root)
        return Task(book, [book.chapter("alpha")], one.root / "_build", **more)

    def inputs(run: Any = step.kept, **more: Any) -> Any:
        return site.site_inputs(task(**more), {"alpha": run})

    def why(now: Any, running: Any = (), **more: Any) -> list[str]:
        return site.site_reasons(task(**more), now, running)

    one.write("book/page.md", "# Page")
    now = inputs()
    assert json.loads(json.dumps(now)) == now
    assert set(now["files"]) == {
        "_config.yml", "_toc.yml", "book/alpha.ipynb", "book/page.md", "book/profiles.yml",
    }  # fmt: skip
    assert "implreg_book.press.site" in now["modules"]
    assert why(now) == ["it is not there"]
    folder = one.root / "_build" / "html"
    folder.mkdir()
    (folder / "index.html").touch()
    assert why(now) == ["it does not say what it is made from"]
    (folder / site.MADE_FROM).write_text(json.dumps(now))
    assert why(now) == []
    assert why(now, force=True) == ["--force was given"]
    assert why(now, running=["alpha"]) == ["alpha will run"]
    assert why(inputs({**step.kept, "profile": "smoke"})) == ["it holds another run of alpha"]
    assert why(now | {"versions": now["versions"] | {"sphinx": "1"}}) == [
        f"sphinx 1 instead of {importlib.metadata.version('sphinx')}"
    ]
    here = Address("https://github.com/o/n", "main", "")
    assert why(inputs(address=here)) == ["address of the repository changed"]
    one.write("book/page.md", "# Other")
    one.write("_config.yml", f"{CONFIG}author: A\n")
    one.chapter("alpha", "print(width)", parameters=PARAMETERS, prose="Otherwise.")
    assert why(inputs()) == ["_config.yml, book/page.md and book/alpha.ipynb changed"]


def test_an_edit_of_a_module_reruns_exactly_the_chapters_that_import_it(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Real calls, with a copy of the package in which a module can be edited."""
    place = tmp_path_factory.mktemp("copy")
    package = place / "implreg"
    shutil.copytree(ROOT / "implreg", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "one.py").write_text("from implreg.shared import number\n")
    (package / "shared.py").write_text("number = 1\n")
    (package / "two.py").write_text("number = 2\n")
    project.chapter("alpha", "from implreg.one import number\nprint(number)")
    project.chapter("beta", "import implreg.two as two\nprint(two.number)")
    project.chapter("gamma", "import implreg as ir\nprint(ir.InputError)")
    project.toc("alpha", "beta", "gamma")

    def book(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "implreg", "book", *words],
            cwd=project.root,
            capture_output=True,
            text=True,
            env=environment() | {"PYTHONPATH": str(place)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def statuses(out: str) -> list[str]:
        return re.findall(r"^\w+ +(ran|unchanged) ", out, re.MULTILINE)

    assert statuses(book()) == ["ran"] * 3
    index = project.root / "_build" / "html" / "index.html"
    built = index.stat().st_mtime_ns
    for words in ("--why",), ():
        assert "The site is unchanged; open _build/html/index.html\n" in book(*words)
        assert index.stat().st_mtime_ns == built

    (package / "shared.py").write_text("number = 3\n")
    project.chapter("beta", "import implreg.two as two\nprint(two.number)", prose="Otherwise.")
    alpha, beta, gamma, _, site = book("--why").splitlines()
    assert alpha == "alpha  will run: implreg.shared changed"
    assert re.match("beta   unchanged, ran ", beta) and re.match("gamma  unchanged, ran ", gamma)
    assert site == "The site will be built: alpha will run; book/beta.ipynb changed."
    assert index.stat().st_mtime_ns == built
    assert statuses(book()) == ["ran", "unchanged", "unchanged"]
    assert "<span></span>3\n" in project.page("alpha")
    assert "Otherwise." in project.page("beta")


def test_what_runs_nothing_imports_nothing_heavy(one: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "implreg", "book", "--why"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "implreg_book.press.site" in imported
    assert not imported & {"torch", "matplotlib", "sklearn", "scipy", "pandas"}


# What can go wrong on the way.


def test_a_module_that_changes_while_a_chapter_runs_leaves_no_kept_run(project: Project) -> None:
    project.write("helper.py", "a = 1")
    project.chapter("alpha", "import helper; open('helper.py', 'a').write('\\nb = 2')")
    project.toc("alpha")
    assert project.statuses() == {"alpha": "failed"}
    assert not list(project.root.glob("_build/runs/chapter.*/*"))
    project.chapter("alpha", "import helper")
    assert project.statuses() == {"alpha": "ran"}


def test_failed_chapters_are_kept_and_named_and_the_others_go_on(
    project: Project, call: Callable[..., Done]
) -> None:
    project.chapter("wrong", "print('so far')\nraise ValueError('widths must be\\npositive')")
    project.chapter("dies", "import os; os._exit(1)")
    project.chapter("hangs", "import time; time.sleep(100)")
    project.chapter("fine", "print('fine')")
    project.chapter("summary", "", parameters="chapters: str = ''", reads=True)
    project.toc("summary", "wrong", "dies", "hangs", "fine")
    site = project.root / "_build" / "html"
    site.mkdir(parents=True)
    (site / "index.html").write_text("before")

    done = call("book", "--cell-timeout", "10")
    assert done.code == 1
    statuses = re.findall(r"^(\w+) +(ran|failed|skipped) ", done.out, re.MULTILINE)
    assert dict(statuses) == {
        "wrong": "failed",
        "dies": "failed",
        "hangs": "failed",
        "fine": "ran",
        "summary": "skipped",
    }
    assert "wrong failed: cell code raised ValueError: widths must be positive\n" in done.err
    assert "dies failed: the kernel died in cell code, out of memory perhaps." in done.err
    assert "hangs failed: cell code took more than 10 s; allow more with" in done.err
    assert "Its notebook is _build/failed/wrong.ipynb." in done.err
    assert "Traceback" not in done.err
    assert "the site was not built, and the one before it was left as it is" in done.err
    assert (site / "index.html").read_text() == "before"
    kept = nbformat.read("_build/failed/wrong.ipynb", as_version=4)
    outputs = [o for c in kept.cells if c.id == "code" for o in c.outputs]
    assert [o.output_type for o in outputs] == ["stream", "error"]
    assert outputs[1].traceback


def test_chapters_that_are_alike_both_run(project: Project) -> None:
    """As when one is begun as a copy of another: what they depend on is the same."""
    for name in ("one", "two"):
        project.chapter(name, "print(1)")
    project.toc("one", "two")
    assert project.statuses() == {"one": "ran", "two": "ran"}
    assert project.statuses() == {"one": "unchanged", "two": "unchanged"}


def test_chapters_run_side_by_side(project: Project, call: Callable[..., Done]) -> None:
    """Each waits for the other to begin: one after the other they would fail."""
    meet = """
        import pathlib, time
        pathlib.Path("{0}").touch()
        end = time.monotonic() + 100
        while not pathlib.Path("{1}").exists():
            assert time.monotonic() < end, "nobody came"
            time.sleep(0.05)
        """
    project.chapter("alpha", meet.format("a", "b"))
    project.chapter("beta", meet.format("b", "a"))
    project.toc("alpha", "beta")
    with patch("loky.cpu_count", return_value=2):
        assert project.statuses() == {"alpha": "ran", "beta": "ran"}


def test_a_chapter_whose_process_is_killed_runs_again(project: Project) -> None:
    project.chapter(
        "alpha",
        """
        import os, pathlib, psutil, signal
        if not pathlib.Path("killed").exists():
            pathlib.Path("killed").touch()
            os.kill(psutil.Process().ppid(), signal.SIGKILL)
        """,
    )
    project.chapter("beta", "")
    project.toc("alpha", "beta")
    assert project.statuses() == {"alpha": "ran", "beta": "ran"}


def test_kernels_side_by_side_cannot_take_the_ports_of_one_another(
    one: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.chapter("alpha", "import ipykernel; print(ipykernel.get_connection_info())")
    chapter = load_book(one.root).chapter("alpha")
    output, failed = one.root / "out.ipynb", one.root / "failed.ipynb"
    with TemporaryDirectory(prefix="sockets") as folder:
        monkeypatch.setattr(notebooks, "gettempdir", lambda: folder)
        ran = notebooks.run_chapter(chapter, {}, output, failed, label=None, cell_timeout=60)
        told = "".join(one.text for one in notebooks.outputs_of(ran))
        assert '"transport": "ipc"' in told and f'"ip": "{folder}/implreg-' in told
        assert not list(Path(folder).iterdir())  # when it has ended
    monkeypatch.setattr(notebooks, "gettempdir", lambda: str(one.root / ("long" * 30)))
    (one.root / ("long" * 30)).mkdir()
    ran = notebooks.run_chapter(chapter, {}, output, failed, label=None, cell_timeout=60)
    assert '"transport": "tcp"' in "".join(one.text for one in notebooks.outputs_of(ran))


def test_a_kernel_that_does_not_start_is_started_again(
    one: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    chapter = load_book(one.root).chapter("alpha")
    execute_notebook, tries = notebooks.papermill.execute_notebook, []

    def fails(times: int) -> Callable[..., object]:
        def start(*arguments: Any, **options: Any) -> object:
            tries.append(1)
            if len(tries) <= times:
                raise RuntimeError("Kernel died before replying to kernel_info")
            return execute_notebook(*arguments, **options)

        return start

    def run() -> None:
        output, failed = one.root / "out.ipynb", one.root / "failed.ipynb"
        notebooks.run_chapter(chapter, {}, output, failed, label=None, cell_timeout=60)

    monkeypatch.setattr(notebooks.papermill, "execute_notebook", fails(notebooks.STARTS - 1))
    run()
    assert len(tries) == notebooks.STARTS
    tries.clear()
    monkeypatch.setattr(notebooks.papermill, "execute_notebook", fails(notebooks.STARTS))
    told = "the kernel did not start in 3 tries: Kernel died before replying to kernel_info"
    with pytest.raises(notebooks.ChapterError, match=told):
        run()
    assert len(tries) == notebooks.STARTS


def test_two_books_in_one_folder_wait_for_one_another(project: Project) -> None:
    project.chapter("alpha", "import time; time.sleep(3)")
    project.chapter("beta", "")
    project.toc("alpha", "beta")
    command = [sys.executable, "-m", "implreg", "book"]
    both = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("Another command makes a book in _build; waiting" in err for _, err in told) == 1
    assert sorted(re.findall("alpha +(ran|unchanged)", "".join(out for out, _ in told))) == [
        "ran", "unchanged",
    ]  # fmt: skip
    assert "The site is unchanged" in "".join(out for out, _ in told)


def test_only_the_newest_runs_of_a_chapter_are_kept(
    one: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "RUNS_KEPT", 2)
    folder = one.root / "_build" / "runs" / "chapter.alpha"
    seen = []
    for width in (1, 2, 3):
        one.chapter("alpha", "print(width)", parameters=PARAMETERS.replace("512", str(width)))
        assert one.statuses() == {"alpha": "ran"}
        seen += [file for file in folder.iterdir() if file not in seen]
        time.sleep(1.1)  # dates are in seconds
    assert sorted(folder.iterdir()) == sorted(seen[1:])


def test_ctrl_c_stops_the_kernel_and_keeps_what_had_finished(project: Project) -> None:
    project.chapter("quick", "print('done')")
    project.chapter(
        "slow",
        """
        import os, pathlib, time
        while not list(pathlib.Path("_build/runs/chapter.quick").glob("*.ipynb")):
            time.sleep(0.1)
        pathlib.Path("pid").write_text(str(os.getpid()))
        time.sleep(100)
        """,
    )
    project.toc("quick", "slow")
    command = [sys.executable, "-m", "implreg", "book"]
    pipeline = subprocess.Popen(
        command,
        cwd=project.root,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=as_in_a_terminal,
    )
    marker = project.root / "pid"
    deadline = time.monotonic() + 600
    while not (marker.exists() and marker.read_text()):
        assert pipeline.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    pipeline.send_signal(signal.SIGINT)
    _, err = pipeline.communicate(timeout=600)
    assert pipeline.returncode == 130
    assert "the results of quick are kept; the same command goes on from there." in err
    assert "Traceback" not in err
    wait_until(lambda: not psutil.pid_exists(int(marker.read_text())))
    project.chapter("slow", "print('quick now')")
    assert project.statuses() == {"quick": "unchanged", "slow": "ran"}


def test_a_run_that_fails_or_is_stopped_leaves_the_notebook_of_the_run_before(
    project: Project, call: Callable[..., Done]
) -> None:
    target, failed = Path("_build/run/alpha.ipynb"), Path("_build/run/failed/alpha.ipynb")

    def errors() -> list[str]:
        cells = nbformat.read(failed, as_version=4).cells
        return [output.get("ename", "") for cell in cells for output in cell.get("outputs", [])]

    project.toc("alpha")
    project.chapter("alpha", "print('so far')\nraise ValueError('no')")
    done = call("run", "alpha")
    assert done.code == 1
    assert done.err.splitlines()[-2:] == [
        "Error: chapter alpha failed: cell code raised ValueError: no",
        f"Its notebook is {failed}.",
    ]  # fmt: skip
    assert errors() == ["", "ValueError"] and not target.exists()

    project.chapter("alpha", "print('fine')")
    assert call("run", "alpha").code == 0
    good = target.read_bytes()
    assert b"fine" in good and not failed.exists()

    project.chapter("alpha", "raise KeyError")
    done = call("run", "alpha")
    assert done.err.splitlines()[-2:] == [
        f"Its notebook is {failed}.", f"{target} was left as it is.",
    ]  # fmt: skip
    assert errors() == ["KeyError"] and target.read_bytes() == good

    project.chapter("alpha", "import pathlib, time; pathlib.Path('here').touch(); time.sleep(100)")
    command = subprocess.Popen(
        [sys.executable, "-m", "implreg", "run", "alpha"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=as_in_a_terminal,
    )
    wait_until(lambda: command.poll() is not None or Path("here").exists())
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=600)
    assert command.returncode == 130 and "Traceback" not in err
    assert err.split("\n")[-6:] == [
        "Chapter alpha was stopped.", f"Its notebook is {failed}.",
        f"{target} was left as it is.", "", "Interrupted.", "",
    ]  # fmt: skip
    assert errors() == [] and target.read_bytes() == good
    assert {path.name for path in target.parent.iterdir()} == {"alpha.ipynb", "failed"}


def test_a_disk_that_takes_no_more_is_one_sentence(project: Project) -> None:
    project.chapter("large", "print('x' * 100_000)")
    project.toc("large")
    done = subprocess.run(
        [sys.executable, "-m", "implreg", "run", "large"],
        capture_output=True,
        text=True,
        env=environment(),
        # The nearest to a full disk that needs no rights: no file above 50 kB.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: {project.root}/_build/run/large.running.ipynb could not be written (File too "
        f"large); choose another folder."
    )
    assert not list(project.root.glob("_build/run/*"))
    assert "Traceback" not in done.stderr


FULL = """
import sys, tempfile
from implreg.commands import main

tempfile.gettempdir()  # chosen before it is full
with open(f"{sys.argv.pop(1)}/filled", "wb", buffering=0) as file:
    file.write(bytes(10**5))
sys.exit(main())
"""


@pytest.mark.parametrize("full", ["notebooks", "temporary", "store", "_build"])
def test_a_full_disk_is_told_by_the_folder_that_is_on_it(project: Project, full: str) -> None:
    project.chapter("alpha", "")
    project.toc("alpha")
    for name in {full, "temporary"}:
        (project.root / name).mkdir()
    words = ["book"] if full in ("store", "_build") else ["run", "alpha", "-o", "notebooks/a.ipynb"]
    done = subprocess.run(
        [*on_small_disks(project.root / full), sys.executable, "-c", FULL, full, *words],
        capture_output=True,
        text=True,
        env=environment() | {"TMPDIR": str(project.root / "temporary"), "IMPLREG_STORE": "store"},
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    told = re.findall("the disk is full, (.*) could not be written; free some", done.stderr)
    assert [(project.root / path).relative_to(project.root).parts[0] for path in told] == [full]


def test_the_command_that_a_page_shows_makes_the_run_again(one: Project) -> None:
    chapter = load_book(one.root).chapter("alpha")
    values = {"width": 7, "rate": 0.25, "data": "12", "full": True, "widths": [1, 2]}
    one.chapter("alpha", "print([width, rate, data, full, widths])", parameters=PARAMETERS)
    command = provenance.papermill_command(chapter, values)  # type: ignore[arg-type]
    program = [sys.executable, "-m", *shlex.split(command)]
    subprocess.run(program, check=True, capture_output=True)
    cells = nbformat.read("out.ipynb", as_version=4).cells
    assert cells[-1].outputs[0].text == "[7, 0.25, '12', True, [1, 2]]\n"


# What becomes of an executed chapter on its way to a page.


def executed(
    project: Project,
    *outputs: dict[str, Any],
    inputs: Any = None,
    values: Any = None,
    profile: str = "smoke",
) -> nbformat.NotebookNode:
    chapter = load_book(project.root).chapter("alpha")
    notebook = nbformat.from_dict(chapter.notebook)
    notebook.cells[-1].outputs = [
        nbformat.v4.new_output("display_data", **output) for output in outputs
    ]
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["widgets"] = {"state": {}}
    notebook.metadata["implreg"] = provenance.describe_run(
        chapter,
        values or {},
        profile=profile,
        inputs=inputs or {},
        seconds=41.0,
    )
    return notebook


def figure(alt: str) -> dict[str, Any]:
    return {"data": {"image/svg+xml": "<svg/>"}, "metadata": {"implreg": {"alt": alt}}}


def test_figures_get_their_text_and_a_link_to_their_run(one: Project) -> None:
    path = one.root / "book" / "alpha.ipynb"
    source = nbformat.read(path, as_version=4)
    source.cells[-1].metadata["mystnb"] = {"figure": {"name": "fig", "caption": "A line."}}
    nbformat.write(source, path)
    chapter = load_book(one.root).chapter("alpha")
    page = stage_chapter(chapter, executed(one, figure("a rising line")))
    options = page.cells[-2].metadata.mystnb
    assert options.image.alt == "a rising line"
    link = "Made by the code cell above in {ref}`this run <run-alpha>`."
    assert options.figure.caption == f"A line. {link}"
    assert page.cells[-1].source.startswith("(run-alpha)=\n## Provenance\n")
    assert "| `widths` | `[64, 256]` | hidden units of each network |" in page.cells[-1].source
    assert "widgets" not in page.metadata


def test_figures_that_a_blind_reader_would_miss_are_refused(one: Project) -> None:
    chapter = load_book(one.root).chapter("alpha")
    with pytest.raises(InputError, match="chapter alpha, cell code: a figure must have an alt"):
        stage_chapter(chapter, executed(one, figure(" ")))
    with pytest.raises(InputError, match="chapter alpha, cell code: a cell must show one figure"):
        stage_chapter(chapter, executed(one, figure("one"), figure("two")))


def test_progress_bars_and_outputs_for_machines_do_not_reach_the_page(one: Project) -> None:
    verdict = {"application/vnd.implreg.verdict+json": {"id": "C2"}, "text/html": "<p>C2</p>"}
    chapter = load_book(one.root).chapter("alpha")
    notebook = executed(one, {"data": verdict})
    bar = nbformat.v4.new_output("stream", name="stderr", text="50%|#####     |")
    notebook.cells[-1].outputs.insert(0, bar)
    page = stage_chapter(chapter, notebook)
    (output,) = page.cells[-2].outputs
    assert dict(output.data) == {"text/html": "<p>C2</p>"}


# The real book.


def test_committed_chapters_have_no_outputs_and_typed_parameters() -> None:
    book = load_book(ROOT)
    assert book.chapters
    for chapter in book.chapters.values():
        assert chapter.notebook.metadata.kernelspec.name == "python3"
        assert chapter.title != chapter.name
        for cell in chapter.notebook.cells:
            if cell.cell_type == "code":
                assert not cell.outputs, f"{chapter.name}, cell {cell.id}"
                assert cell.execution_count is None
        for parameter in chapter.parameters.values():
            assert parameter.help, f"{chapter.name}: {parameter.name} needs a # help"
