"""A process that draws a chapter anew: requests come in as lines of JSON, and so go answers.

A notebook's kernel stays free for the controls meanwhile; an interrupt stops the runs alone.
What is printed and the bars of the runs go to the standard error.
"""

import base64
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import chdir
from html import escape
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt

from implreg.errors import InputError
from implreg_book.parameters.registry import find, module_name
from implreg_book.parameters.schema import Parameters, Values, in_time
from implreg_book.press.chapters import load_book
from implreg_book.press.notebook import glued, outputs_of, run_chapter
from implreg_book.runs.grids import share_missing
from implreg_book.runs.report import LostWorkers

_BOOK = Path(__file__).parents[2]
_CITED = re.compile(r"\{cite:\w+\}`([a-z]+)(\d+)\w*`")
_ROLE = re.compile(r"\{[\w:]+\}`(?:([^`<]*?)\s*<[^`>]*>|([^`]*))`")


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what began in the back
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = answer_to(request)
        except KeyboardInterrupt:
            answer = {"stopped": "Stopped; what has finished is kept, and Run goes on from there."}
        except (InputError, LostWorkers, OSError, RuntimeError) as error:
            answer = {"error": str(error)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """What it costs to draw a chapter with some parameters, or the drawing.

    Args:
        request: `chapter`, `values` of its parameters, and `draw`, whether to run it.

    Raises:
        InputError: parameters that the chapter cannot have.
        ChapterError: its notebook failed.
    """
    chapter = request["chapter"]
    schema = find(chapter)
    assert schema is not None
    module = import_module(f"implreg_book.chapters.{module_name(chapter)}")
    p = schema.of(request["values"])
    if not request["draw"]:
        missing = share_missing(module.grids(p)) if hasattr(module, "grids") else 1.0
        return {"seconds": missing * p.cost(), "cost": in_time(missing * p.cost())}
    return drawn(module, p) if hasattr(module, "grids") else executed(chapter, p.changed())


def drawn(module: ModuleType, p: Parameters) -> dict[str, Any]:
    """The chapter of a module with the parameters `p`."""
    found = module.measure(p)
    figures = [draw(found) for draw in module.FIGURES.values()]
    return {
        "prose": opening(p.chapter, module.numbers(found)),
        "figures": [picture(made.svg, made.alt) for made in figures],
        "tables": [table_html(make(found)) for make in getattr(module, "TABLES", {}).values()],
        "verdicts": [html_of(verdict) for verdict in module.verdicts(found).values()],
    }


def executed(name: str, values: Values) -> dict[str, Any]:
    """A chapter whose code is in its notebook, run from its first cell to its last.

    Raises:
        ChapterError: a cell failed.
    """
    chapter = load_book(_BOOK.parent).chapter(name)
    with TemporaryDirectory(prefix="implreg-") as folder, chdir(_BOOK.parent):
        running, failed = (Path(folder) / f"{end}.ipynb" for end in ("running", "failed"))
        notebook = run_chapter(chapter, values, running, failed, label=None, cell_timeout=3600)
    datas = [output.get("data", {}) for output in outputs_of(notebook)]
    pages = ["".join(data.get("text/html", "")) for data in datas]
    numbers = {told: text.strip("'") for told, text in glued(notebook).items()}
    return {
        "prose": opening(name, {told.partition("-")[2]: text for told, text in numbers.items()}),
        "figures": [
            picture(output.data["image/svg+xml"], output.metadata["implreg"]["alt"])
            for output in outputs_of(notebook)
            if "image/svg+xml" in output.get("data", {})
        ],
        "tables": [page for page in pages if "<table" in page],
        "verdicts": [page for page in pages if 'class="claim' in page],
    }


def html_of(shown: Any) -> str:
    """What a notebook displays as HTML."""
    return str(shown._repr_mimebundle_()["text/html"])


def picture(svg: str, alt: str) -> dict[str, str]:
    """A figure for a notebook."""
    return {"svg": base64.b64encode(svg.encode()).decode(), "alt": alt}


def table_html(table: "pd.DataFrame | pd.io.formats.style.Styler") -> str:
    """A table for a notebook."""
    return str(table.to_html(border=0) if isinstance(table, pd.DataFrame) else table.to_html())


def opening(chapter: str, numbers: Mapping[str, object]) -> str:
    """The first lines of a chapter with these numbers, as HTML."""
    notebook = json.loads((_BOOK / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    return with_numbers("".join(notebook["cells"][0]["source"]), numbers)


def with_numbers(prose: str, numbers: Mapping[str, object]) -> str:
    r"""MyST prose as HTML, its title left out and numbers in their places.

    >>> with_numbers("# T\n\nIt {glue:text}`x-course` ({doc}`width`).", {"course": "falls"})
    '<p>It falls (width).</p>\n'
    """
    text = re.sub(r"^# .*\n", "", prose)
    for name, value in numbers.items():
        glued = re.compile(rf"\{{glue:text\}}`\w+(?:-\w+)*?-{re.escape(name)}`")
        text = glued.sub(escape(str(value)).replace("\\", r"\\"), text)
    text = _CITED.sub(lambda cited: f"{cited[1].title()} ({cited[2]})", text)
    text = _ROLE.sub(lambda role: role[1] or role[2], text)
    return str(MarkdownIt().render(text))


if __name__ == "__main__":
    main()
