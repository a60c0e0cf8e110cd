"""A chapter executed once for each point of a grid of parameters: notebooks and glued numbers."""

import ast
import html
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from pandas.api.types import is_object_dtype
from tqdm import tqdm

from implreg.errors import InputError
from implreg_book.parameters.schema import Value, Values
from implreg_book.press.chapters import Book, Chapter
from implreg_book.press.execute import Shared, run_steps
from implreg_book.press.notebook import beside, glued
from implreg_book.press.plan import Step, find, store_of
from implreg_book.runs.dependencies import Root, Sources
from implreg_book.runs.report import LostWorkers, counted, say
from implreg_book.runs.work import Failure

_NUMBER = r"[-−]?[\d,]*\.?\d+(?:e[-+]?\d+)?"
_ESTIMATE = re.compile(rf"({_NUMBER})(?: \[({_NUMBER}),\s({_NUMBER})\])?")
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


def steps_of(
    book: Book, chapter: Chapter, fixed: Values, grid: Mapping[str, Sequence[Value]], build: Path
) -> list[Step]:
    """Return what is to be done for every combination of the values in `grid`, without repetition.

    Args:
        book: that the chapter is of.
        chapter: to execute.
        fixed: parameters that are the same everywhere, such as those of a profile.
        grid: the values of each parameter that varies, the last name varying quickest.
        build: folder of all results.

    Raises:
        InputError: the chapter reads other chapters, or values do not go together.
    """
    if chapter.reads_chapters:
        raise InputError(
            f"chapter {chapter.name} reads the results of other chapters and cannot be swept; "
            f"choose one that does not."
        )
    store, sources = store_of(build), Sources(Root(book.root))
    combinations = [
        chapter.checked(fixed | dict(zip(grid, chosen, strict=True)))
        for chosen in product(*grid.values())
    ]
    every = [find(store, chapter, values, {}, sources) for values in combinations]
    return list({step.key: step for step in every}.values())


def run_sweep(
    steps: Sequence[Step], shared: Shared, build: Path, **where: Any
) -> list[tuple[Step, str | Failure]]:
    """Execute those of `steps` that are not kept, side by side, and keep them.

    Args:
        steps: of one chapter.
        shared: what they share.
        build: folder of all results.
        **where: scheduler and workers, see `implreg_book.press.execute.run_steps`.

    Returns:
        Each step with its executed notebook, or how it failed.
    """
    store = store_of(build)
    done: dict[str, str | Failure] = {s.key: s.text for s in steps if s.text is not None}
    todo = replace(shared, steps={step.key: step for step in steps if step.text is None})
    label = steps[0].chapter.name
    with tqdm(total=len(steps), initial=len(done), desc=label, unit="run") as bar:
        try:
            for step, result in run_steps(todo, store, **where) if todo.steps else ():
                bar.update()
                done[step.key] = result
        except (KeyboardInterrupt, LostWorkers):
            kept = counted(sum(isinstance(one, str) for one in done.values()), len(steps))
            say(f"Stopped: {kept} are kept in {store.place}; the same call goes on from there.")
            raise
    return [(step, done[step.key]) for step in steps]


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
        grid[name] = chapter.parse_several(name, text)
    return grid


def table_of(
    finished: Sequence[tuple[Step, nbformat.NotebookNode]], varied: Sequence[str]
) -> pd.DataFrame:
    """Return the parameters of each step, `varied` first, and what its notebook has glued."""
    values = pd.DataFrame([{n: _cell(v) for n, v in step.values.items()} for step, _ in finished])
    first = [name for name in varied if name in values]
    values = values[[*first, *values.columns.difference(first, sort=False)]]
    rows = pd.DataFrame([_numbers_of(executed) for _, executed in finished])
    table = pd.concat([values, rows], axis=1)
    for name in table.columns:
        # A number here and a text there: no file format holds that.
        if is_object_dtype(table[name]) and table[name].map(type).nunique() > 1:
            table[name] = table[name].map(str, na_action="ignore")
    return table


def page(
    chapter: Chapter,
    table: pd.DataFrame,
    links: Sequence[str],
    failures: Sequence[tuple[Step, Failure]],
) -> str:
    """Return the index page of a sweep: its table with links to the notebooks, its failures."""
    shown = table.map(_shown)
    for name in [name for name in table if {f"{name}-low", f"{name}-high"} <= set(table)]:
        low, high = (shown.pop(f"{name}{end}") for end in ("-low", "-high"))
        shown[name] += " [" + low + ", " + high + "]"
    linked = [f'<a href="{html.escape(link)}">{i}</a>' for i, link in enumerate(links)]
    shown.insert(0, "run", linked)
    body = shown.to_html(index=False, escape=False, border=0, na_rep="")
    failed = "".join(
        f"<details><summary>{html.escape(f'{_named(step)}: {failure.error}')}</summary>"
        f"<pre>{html.escape(failure.traceback)}</pre></details>"
        for step, failure in failures
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


def file_name(number: int, values: Values, varied: Sequence[str]) -> str:
    """Return the name of a notebook, such as ``003-width-64.ipynb``."""
    words = "-".join(f"{name}-{values[name]}" for name in varied)
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9._]+', '-', words)[:80].strip('-')}.ipynb"


def _named(step: Step) -> str:
    return ", ".join(f"{name} = {_cell(value)}" for name, value in step.values.items())


def _numbers_of(executed: nbformat.NotebookNode) -> dict[str, Any]:
    """Return the numbers and texts that an executed notebook has glued, by name."""
    found: dict[str, Any] = {}
    for name, text in glued(executed).items():
        with suppress(ValueError, SyntaxError):  # of a figure or a table
            found |= _numbers(name, ast.literal_eval(text))
    return found


def _numbers(name: str, value: Any) -> dict[str, Any]:
    """Columns of a glued value: an estimate has three, and a number is one."""
    match = _ESTIMATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return {name: value} if isinstance(value, int | float | str) else {}
    found = zip((name, f"{name}-low", f"{name}-high"), match.groups(), strict=True)
    return {own: _number(text) for own, text in found if text is not None}


def _number(text: str) -> float:
    plain = text.replace("−", "-").replace(",", "")
    return int(plain) if plain.lstrip("-").isdecimal() else float(plain)


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))
