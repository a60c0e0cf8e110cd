"""A throwaway book, for the tests of what is done with books."""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import yaml
from implreg_book.press.chapters import load_book
from implreg_book.press.execute import run_chapters
from implreg_book.press.plan import Task

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
CONFIG = """\
title: T
only_build_toc_files: true
execute: {execute_notebooks: 'off'}
"""
PARAMETERS = """\
width: int = 512  # hidden units
rate: float = 0.5  # step size
data: str = "digits"  # data set
full: bool = False  # all of it
widths: list[int] = [
    64,
    256,
]  # hidden units of each network
"""


class Done(NamedTuple):
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


class Project:
    """A book in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "book").mkdir()
        self.write("_config.yml", CONFIG)
        self.write("book/profiles.yml", "smoke: {}\n")

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def toc(self, *names: str) -> None:
        chapters = [{"file": f"book/{name}"} for name in names[1:]]
        toc = {"format": "jb-book", "root": f"book/{names[0]}", "chapters": chapters}
        self.write("_toc.yml", yaml.safe_dump(toc))

    def chapter(
        self, name: str, code: str, *, prose: str = "", parameters: str = "", reads: bool = False
    ) -> None:
        v4 = nbformat.v4
        cells = [v4.new_markdown_cell(f"# About {name}\n\n{prose}", id="title")]
        if parameters:
            tags = {"tags": ["parameters"]}
            cells.append(v4.new_code_cell(parameters, id="parameters", metadata=tags))
        cells.append(v4.new_code_cell(textwrap.dedent(code), id="code"))
        metadata: dict[str, Any] = dict(KERNEL)
        if reads:
            metadata["implreg"] = {"reads_chapters": True}
        notebook = v4.new_notebook(cells=cells, metadata=metadata)
        nbformat.write(notebook, self.root / "book" / f"{name}.ipynb")

    def change_metadata(self, name: str, **metadata: object) -> None:
        path = self.root / "book" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.update(metadata)
        nbformat.write(notebook, path)

    def swap_last_cells(self, name: str) -> None:
        path = self.root / "book" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[-2:] = notebook.cells[:-3:-1]
        nbformat.write(notebook, path)

    def statuses(self, *names: str) -> dict[str, str]:
        """Run these chapters or all, without a site, and return what became of each."""
        book = load_book(self.root)
        task = Task(
            book, [book.chapter(name) for name in names or book.chapters], self.root / "_build"
        )
        outcomes = run_chapters(task, keep=True, cell_timeout=600, say=lambda _: None)
        return {outcome.chapter.name: outcome.status for outcome in outcomes}

    def page(self, name: str) -> str:
        return (self.root / "_build" / "html" / "book" / f"{name}.html").read_text("utf-8")
