"""A chapter executed once for each point of a grid of parameters: notebooks and glued numbers."""

import ast
import html
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pandas as pd
from pandas.api.types import is_object_dtype

from implreg.book.chapters import Chapter, Value, Values, parse_values
from implreg.book.execute import beside, run_chapter
from implreg.book.provenance import digest, run_inputs
from implreg.dependencies import Root, Sources
from implreg.errors import InputError
from implreg.runs import Failure
from implreg.settings import SCHEDULER

NOTEBOOK = "notebook"  # column with the executed notebook
_CORES = "LOKY_MAX_CPU_COUNT"
_RECORD = "application/papermill.record/text/plain"
_NUMBER = r"[-−]?[\d,]*\.?\d+(?:e[-+]?\d+)?"
_ESTIMATE = re.compile(rf"({_NUMBER}) \[({_NUMBER}),\s({_NUMBER})\]")
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.8rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid; vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
pre { overflow-x: auto; }
"""


@dataclass(frozen=True)
class Point:
    """One execution of a chapter.

    Attributes:
        chapter: its name.
        run: the key of the run, see `implreg.book.provenance.run_inputs`.
        values: the parameters that are set, lists as tuples.
        cell_timeout: seconds that one cell may take.
    """

    chapter: str
    run: str
    values: tuple[tuple[str, Any], ...]
    cell_timeout: float


@dataclass(frozen=True)
class Code:
    """What all points share of a chapter: its code cells, as a notebook, and what it starts."""

    notebook: str
    also_imports: tuple[str, ...]


def points(
    chapter: Chapter, fixed: Values, grid: Mapping[str, Sequence[Value]], cell_timeout: float
) -> tuple[list[Point], Code]:
    """Return every combination of the values in `grid`, the last name varying quickest.

    Args:
        chapter: to execute.
        fixed: parameters that are the same everywhere, such as those of a profile.
        grid: the values of each parameter that varies.
        cell_timeout: seconds that one cell may take.

    Raises:
        InputError: the chapter reads other chapters.
    """
    if chapter.reads_chapters:
        raise InputError(
            f"chapter {chapter.name} reads the results of other chapters and cannot be swept; "
            f"choose one that does not."
        )
    sources = Sources(Root(Path()))
    found = []
    for chosen in product(*grid.values()):
        values = fixed | dict(zip(grid, chosen, strict=True))
        key = digest(run_inputs(chapter, values, {}, sources))
        frozen = tuple((name, _frozen(value)) for name, value in values.items())
        found.append(Point(chapter.name, key, frozen, cell_timeout))
    code = nbformat.from_dict(chapter.notebook)
    code.cells = [cell for cell in code.cells if cell.cell_type == "code"]
    return found, Code(nbformat.writes(code), chapter.also_imports)


def parse_grid(chapter: Chapter, given: Sequence[tuple[str, str]]) -> dict[str, list[Value]]:
    """Return the values of each parameter, as a user typed them: ``64,128`` or ``0:10``.

    Raises:
        InputError: nothing to vary, a parameter named twice, or values that it cannot have.
    """
    if not given:
        raise InputError(
            "a sweep needs parameters that vary, got none; set them as in -p width 64,128,256."
        )
    grid: dict[str, list[Value]] = {}
    for name, text in given:
        if name in grid:
            raise InputError(
                f"parameter {name} must be given once, got it again with {text}; put all its "
                f"values into one -p, with commas between them."
            )
        grid[name] = parse_values(chapter, name, text)
    return grid


def run(point: Point, code: Code) -> pd.DataFrame:
    """Execute a chapter; one row with its glued numbers and texts, and with its notebook.

    An estimate with its interval becomes three columns, with ``-low`` and ``-high`` for the ends.

    Raises:
        ChapterError: a cell failed, or took too long.
        InputError: this worker has other code than the client.
    """
    notebook = nbformat.reads(code.notebook, as_version=4)
    file = Path(f"{point.chapter}.ipynb")
    chapter = Chapter(point.chapter, file, point.chapter, notebook, {}, False, code.also_imports)
    values: Values = {n: list(v) if isinstance(v, tuple) else v for n, v in point.values}
    if digest(run_inputs(chapter, values, {}, Sources())) != point.run:
        raise InputError(
            "the workers must have the same code and libraries as the client, but have others; "
            "install the same there."
        )
    os.environ.pop(SCHEDULER, None)  # runs of the chapter would wait for the worker that it is on
    os.environ.setdefault(_CORES, "1")
    with TemporaryDirectory(prefix="implreg-") as folder:
        output = Path(folder) / file
        run_chapter(
            chapter, values, output, root=Path(), label=None, cell_timeout=point.cell_timeout
        )
        executed = nbformat.read(output, as_version=4)
    return pd.DataFrame([glued(executed) | {NOTEBOOK: nbformat.writes(executed)}])


def glued(executed: nbformat.NotebookNode) -> dict[str, Any]:
    """Return the numbers and texts that an executed notebook has glued, by name."""
    found: dict[str, Any] = {}
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            text = output.get("data", {}).get(_RECORD)
            if name is None or text is None:
                continue
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                continue  # a figure or a table
            found |= _numbers(name, value)
    return found


def table_of(points: Sequence[Point], varied: Sequence[str], rows: pd.DataFrame) -> pd.DataFrame:
    """Return the parameters of each point, `varied` first, and what it has glued."""
    values = pd.DataFrame([{n: _cell(v) for n, v in point.values} for point in points])
    first = [name for name in varied if name in values]
    values = values[[*first, *values.columns.difference(first, sort=False)]]
    own = [NOTEBOOK, *(field.name for field in fields(Point))]
    table = pd.concat([values, rows.drop(columns=own, errors="ignore")], axis=1)
    for name in table.columns:
        # A number here and a text there: no file format holds that.
        if is_object_dtype(table[name]) and table[name].map(type).nunique() > 1:
            table[name] = table[name].map(str, na_action="ignore")
    return table


def page(
    chapter: Chapter, table: pd.DataFrame, links: Sequence[str], failures: Sequence[Failure]
) -> str:
    """Return the index page of a sweep: its table with links to the notebooks, its failures."""
    shown = table.copy()
    for name in [name for name in table if {f"{name}-low", f"{name}-high"} <= set(table)]:
        ends = [shown.pop(f"{name}{end}").map(_shown) for end in ("-low", "-high")]
        shown[name] = shown[name].map(_shown) + " [" + ends[0] + ", " + ends[1] + "]"
    linked = [f'<a href="{html.escape(link)}">{i}</a>' for i, link in enumerate(links)]
    shown.insert(0, "run", linked)
    for name in shown.columns[1:]:
        shown[name] = shown[name].map(_shown)
    body = shown.to_html(index=False, escape=False, border=0, na_rep="")
    failed = "".join(
        f"<details><summary>{html.escape(_named(f.config))}: {html.escape(f.error)}</summary>"
        f"<pre>{html.escape(f.traceback)}</pre></details>"
        for f in failures
    )
    title = html.escape(f"{chapter.title}, {len(table) + len(failures)} runs")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n"
        f"<p>Each row is one execution of the chapter; its first cell leads to the notebook. The "
        f'same table: <a href="table.csv">table.csv</a>, '
        f'<a href="table.parquet">table.parquet</a>.</p>\n'
        f'<div class="scroll" role="region" aria-label="All runs" tabindex="0">\n{body}\n</div>\n'
        + (f"<h2>Failed: {len(failures)}</h2>\n{failed}\n" if failures else "")
        + "</main>\n</body>\n</html>\n"
    )


def merged(chapter: Chapter, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the chapter's notebook, prose of today included, with what `executed` has put out."""
    whole: nbformat.NotebookNode = nbformat.from_dict(executed)
    whole.cells = [ran or today for today, ran in beside(chapter, executed)]
    return whole


def file_name(number: int, point: Point, varied: Sequence[str]) -> str:
    """Return the name of a notebook, such as ``003-width-64.ipynb``."""
    values = dict(point.values)
    words = "-".join(f"{name}-{values[name]}" for name in varied)
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9._]+', '-', words)[:80].strip('-')}.ipynb"


def _named(point: Point) -> str:
    return ", ".join(f"{name} = {_cell(value)}" for name, value in point.values)


def _numbers(name: str, value: Any) -> dict[str, Any]:
    """Columns of a glued value: an estimate has three, and a number is one."""
    if isinstance(value, int | float):
        return {name: value}
    if not isinstance(value, str):
        return {}
    if match := _ESTIMATE.fullmatch(value):
        names = (name, f"{name}-low", f"{name}-high")
        return dict(zip(names, map(_number, match.groups()), strict=True))
    return {name: _number(value) if re.fullmatch(_NUMBER, value) else value}


def _number(text: str) -> float:
    plain = text.replace("−", "-").replace(",", "")
    return int(plain) if plain.lstrip("-").isdecimal() else float(plain)


def _frozen(value: Value) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))
