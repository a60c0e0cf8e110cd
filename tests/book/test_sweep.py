"""Sweeps, on throwaway books, with real kernels."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("papermill", reason="a sweep needs the book: pip install ./book")
pytest.importorskip("bs4", reason="the tests of pages need the extra test: pip install .[test]")

from _project import PARAMETERS, Done, Project
from bs4 import BeautifulSoup
from implreg_book.press import sweep
from implreg_book.press.chapters import load_book
from implreg_book.press.execute import Shared, run
from implreg_book.settings import SCHEDULER, STORE

from implreg import commands
from implreg.errors import InputError

pytestmark = pytest.mark.pages
CODE = """
from myst_nb import glue
open("began", "a").write(f"{width}\\n")
if width == 13:
    raise ValueError("13 is unlucky <b>")
glue("double", 2 * width, display=False)
glue("estimate", f"{-width / 10:.1f} [−{width:,}, 1e-05]".replace("-", "−", 1), display=False)
glue("words", "few" if width < 3 else str(width), display=False)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A book of one chapter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(STORE, raising=False)
    monkeypatch.delenv(SCHEDULER, raising=False)
    made = Project(tmp_path)
    made.chapter("alpha", CODE, parameters=PARAMETERS, prose="Before.")
    made.toc("alpha")
    return made


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def run(words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["implreg", "sweep", *words.split()])
        monkeypatch.delenv(STORE, raising=False)  # as in a process of its own
        code = commands.main()
        return Done(code, *capfd.readouterr())

    return run


def test_a_sweep_gives_notebooks_a_table_and_a_page(
    project: Project, call: Callable[..., Done]
) -> None:
    done = call("alpha -p width 2:4 -p full false,true")
    assert done.code == 0, done.err
    folder = Path("_build/sweeps/alpha")
    table = pd.read_parquet(folder / "table.parquet")
    assert table.width.tolist() == [2, 2, 3, 3]
    assert table.full.tolist() == [False, True, False, True]
    assert table.double.tolist() == [4, 4, 6, 6]
    assert table.estimate.tolist() == [-0.2, -0.2, -0.3, -0.3]
    assert table["estimate-low"].tolist() == [-2, -2, -3, -3]
    assert (table["estimate-high"] == 1e-5).all()
    assert table.words.tolist() == ["few", "few", "3", "3"]
    assert set(table) == {
        "width", "full", "double", "estimate", "estimate-low", "estimate-high", "words"
    }  # fmt: skip
    read = pd.read_csv(folder / "table.csv")
    assert read.astype({"words": str}).equals(table.astype({"words": str}))

    page = BeautifulSoup((folder / "index.html").read_text("utf-8"), "html.parser")
    assert page.html["lang"] == "en"
    heads = [th.text for th in page.thead.find_all("th")]
    assert heads == ["run", "width", "full", "double", "estimate", "words"]
    assert page.tbody.tr.find_all("td")[4].text == "-0.2 [-2, 1e-05]"
    links = [a["href"] for a in page.tbody.find_all("a")]
    assert links[1] == "notebooks/001-width-2-full-True.ipynb"
    notebook = nbformat.read(folder / links[1], as_version=4)
    nbformat.validate(notebook)
    assert [c.cell_type for c in notebook.cells] == ["markdown", "code", "code", "code"]
    assert "Before." in notebook.cells[0].source
    assert "injected-parameters" in notebook.cells[2].metadata.tags
    assert sorted(Path("began").read_text().split()) == ["2", "2", "3", "3"]

    # More values: only what is new. Other prose: nothing.
    project.chapter("alpha", CODE, parameters=PARAMETERS, prose="After.")
    done = call("alpha -p width 2:5 -p full false,true")
    assert done.code == 0, done.err
    assert sorted(Path("began").read_text().split()) == ["2", "2", "3", "3", "4", "4"]
    assert len(pd.read_parquet(folder / "table.parquet")) == 6
    assert "After." in nbformat.read(folder / links[1], as_version=4).cells[0].source


def test_points_that_fail_are_told_and_tried_again(
    project: Project, call: Callable[..., Done]
) -> None:
    done = call("alpha -p width 12,13 -o there")
    assert done.code == 1
    told = "1 of 2 runs failed, the first one with ChapterError: cell code raised ValueError: 13"
    assert told in done.err
    assert "Traceback" not in done.err
    assert pd.read_parquet("there/table.parquet").width.tolist() == [12]
    page = BeautifulSoup(Path("there/index.html").read_text("utf-8"), "html.parser")
    assert page.details.summary.text.startswith("width = 13: ChapterError: cell code raised")
    assert "13 is unlucky <b>" in page.details.pre.text
    project.chapter("alpha", CODE.replace("13", "14"), parameters=PARAMETERS)
    done = call("alpha -p width 13 -o there")
    assert done.code == 0, done.err
    assert pd.read_parquet("there/table.parquet").width.tolist() == [13]


def test_an_all_failing_sweep_still_has_its_page(
    project: Project, call: Callable[..., Done]
) -> None:
    done = call("alpha -p width 13")
    assert done.code == 1
    assert pd.read_parquet("_build/sweeps/alpha/table.parquet").empty
    assert "13 is unlucky" in Path("_build/sweeps/alpha/index.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("alpha", "a sweep needs parameters that vary, got none"),
        ("alhpa -p width 3", "did you mean alpha?"),
        ("alpha -p widht 3", "there is no parameter of chapter alpha 'widht'"),
        ("alpha -p width 3,x", "parameter width of chapter alpha must be of type int, got 'x'"),
        ("alpha -p width 3:3", "must have at least one value, got ''"),
        ("alpha -p width [3", "must have values with commas between them, got '[3'"),
        ("alpha -p widths 3,4", "must be of type list[int], got 3"),
        ("alpha -p width 3 -p width 4", "must be given once, got it again with 4"),
        ("alpha -p width 3 -o book", "the output must be a new folder or that of an earlier sweep"),
        ("alpha -p width 3 --workers 0", "workers must be a whole number of at least 1, got 0"),
        ("alpha -p width 3 --scheduler nowhere", "executor must be the address of a Dask"),
        ("summary -p chapters a", "reads the results of other chapters and cannot be swept"),
    ],
)
def test_bad_input_is_one_sentence_and_runs_nothing(
    project: Project, call: Callable[..., Done], words: str, told: str
) -> None:
    project.chapter("summary", "", parameters="chapters: str = ''", reads=True)
    project.toc("alpha", "summary")
    done = call(words)
    assert done.code == 1
    assert told in done.err
    assert done.err.startswith("Error: ") or "\nError: " in done.err
    assert "Traceback" not in done.err
    assert not Path("began").exists()


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("width", "64,128,256", [64, 128, 256]),
        ("width", "0:3", [0, 1, 2]),
        ("width", "10:0:-5, 7", [10, 5, 7]),
        ("rate", "1e-3,1", [0.001, 1.0]),
        ("data", "digits, mnist1d", ["digits", "mnist1d"]),
        ("data", "no,1e3,0:3", ["no", "1e3", "0:3"]),
        ("data", "'a,b',c", ["a,b", "c"]),
        ("full", "true,false", [True, False]),
        ("widths", "[64, 128],[256]", [[64, 128], [256]]),
    ],
)
def test_values_are_taken_as_meant(
    project: Project, name: str, text: str, values: list[object]
) -> None:
    parsed = load_book(project.root).chapter("alpha").parse_several(name, text)
    assert parsed == values
    assert [type(v) for v in parsed] == [type(v) for v in values]


def test_a_worker_with_other_code_refuses(project: Project) -> None:
    chapter = load_book(project.root).chapter("alpha")
    book = load_book(project.root)
    (step,) = sweep.steps_of(book, chapter, {}, {"width": [3]}, project.root / "_build")
    other = replace(step, inputs=step.inputs | {"versions": {"torch": "1.0"}})
    with pytest.raises(InputError, match=r"the workers must have the same code .*torch"):
        run("a", Shared({"a": other}, "default", 60))


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(0, 1e9), st.sampled_from("gef"))
def test_estimates_are_read_as_they_are_printed(
    x: float, low: float, high: float, as_: str
) -> None:
    spec = f",.{3}{as_}"
    texts = [f"{v:{spec}}".replace("-", "−", 1) if v < 0 else f"{v:{spec}}" for v in (x, low, high)]
    numbers = sweep._numbers("a", f"{texts[0]} [{texts[1]}, {texts[2]}]")
    expected = [float(f"{v:{spec}}".replace(",", "")) for v in (x, low, high)]
    assert np.array_equal([numbers["a"], numbers["a-low"], numbers["a-high"]], expected)


def test_file_names_are_plain() -> None:
    values: Any = {"data": "a/b c", "widths": [64, 128]}
    name = sweep.file_name(7, values, ["data", "widths"])
    assert re.fullmatch(r"007-data-a-b-c-widths-64-128\.ipynb", name)
