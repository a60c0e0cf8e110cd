"""From executed chapters to a static site: staging, then Jupyter Book with execution off."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

from implreg.book.chapters import Book, Chapter
from implreg.book.execute import Outcome, write_notebook
from implreg.book.provenance import label, section
from implreg.errors import InputError

# For machines, not for readers: Jupyter Book warns about any type that it cannot show.
OWN_TYPES = "application/vnd.implreg."
STRICT = ("-W", "--keep-going", "-n")
PROBLEMS_SHOWN = 10


class SiteError(RuntimeError):
    """A site that could not be built; the message says why and where the log is."""


def build_site(book: Book, outcomes: Sequence[Outcome], build: Path, *, preview: bool) -> Path:
    """Build the site of the finished chapters `outcomes` and return its first page.

    The site replaces the one before only when it is whole. A `preview` has these chapters only,
    lies in a folder of its own, and may refer to pages that it does not have.

    Raises:
        InputError: a figure of a chapter has no alternative text.
        SiteError: Jupyter Book found something wrong.
    """
    stage = build / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(
        book.root / "book",
        stage / "book",
        ignore=shutil.ignore_patterns("*.ipynb", ".ipynb_checkpoints", "__pycache__"),
    )
    shutil.copyfile(book.root / "_config.yml", stage / "_config.yml")
    toc = _preview_toc(book, outcomes) if preview else (book.root / "_toc.yml").read_text("utf-8")
    (stage / "_toc.yml").write_text(toc, encoding="utf-8")
    for outcome in outcomes:
        assert outcome.notebook is not None
        page = stage / outcome.chapter.source.relative_to(book.root)
        executed = nbformat.read(outcome.notebook, as_version=4)
        write_notebook(stage_chapter(outcome.chapter, executed), page)

    log = build / "site.log"
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(stage.resolve()), "--all", "-q", *(() if preview else STRICT)]
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        raise SiteError(f"the site has problems, all of them in {log}:\n{_problems(log, stage)}")
    target = build / "preview" / "html" if preview else build / "html"
    _swap(stage / "_build" / "html", target)
    shutil.rmtree(stage)
    return target / "index.html"


def stage_chapter(chapter: Chapter, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the page of `chapter`: its prose of today with the outputs of `executed`.

    Raises:
        InputError: a figure has no alternative text, or one cell has two figures.
    """
    outputs = {cell.id: cell for cell in executed.cells if cell.cell_type == "code"}
    cells = []
    for source in chapter.notebook.cells:
        cell = nbformat.from_dict(source)
        cells.append(cell)
        if cell.cell_type == "code":
            cell.outputs = _for_readers(outputs[cell.id].outputs)
            cell.execution_count = outputs[cell.id].execution_count
            _stage_figure(chapter, cell)
        if "parameters" in cell.metadata.get("tags", []):
            cells += [
                nbformat.v4.new_code_cell(
                    injected.source,
                    id=injected.id,
                    execution_count=injected.execution_count,
                    metadata={"tags": [*injected.metadata.tags, *_hiding(cell)]},
                )
                for injected in executed.cells
                if "injected-parameters" in injected.metadata.get("tags", [])
            ]
    provenance = section(chapter, executed.metadata.implreg)
    cells.append(nbformat.v4.new_markdown_cell(provenance, id="provenance"))
    # Of the metadata, Jupyter Book needs the kernel alone; widgets have a still picture.
    metadata = {k: executed.metadata[k] for k in ("kernelspec", "language_info")}
    page: nbformat.NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    return page


def _hiding(cell: nbformat.NotebookNode) -> list[str]:
    """Tags by which Jupyter Book hides a cell."""
    return [tag for tag in cell.metadata.get("tags", []) if tag.startswith(("hide-", "remove-"))]


def _for_readers(outputs: Sequence[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Leave out progress bars and warnings, and what only machines read."""
    kept = [nbformat.from_dict(output) for output in outputs if output.get("name") != "stderr"]
    for output in kept:
        for kind in [k for k in output.get("data", {}) if k.startswith(OWN_TYPES)]:
            del output.data[kind]
    return kept


def _stage_figure(chapter: Chapter, cell: nbformat.NotebookNode) -> None:
    """Move a figure's alternative text to where Jupyter Book looks; link its caption to the run."""
    pictures = [
        output
        for output in cell.outputs
        if any(kind.startswith("image/") for kind in output.get("data", {}))
    ]
    if not pictures:
        return
    where = f"chapter {chapter.name}, cell {cell.id}"
    if len(pictures) > 1:
        raise InputError(
            f"{where}: a cell must show one figure, got {len(pictures)}; give each its own cell."
        )
    alt = pictures[0].metadata.get("implreg", {}).get("alt", "")
    if not alt.strip():
        raise InputError(
            f"{where}: a figure must have an alternative text, got none; end the cell with "
            f"implreg.figures.show(figure, alt=...)."
        )
    options: dict[str, Any] = cell.metadata.setdefault("mystnb", {})
    # The class tells the theme that the picture itself follows the reader's light or dark theme.
    options["image"] = {"classes": "dark-light", **options.get("image", {}), "alt": alt}
    figure = options.get("figure", {})
    if "caption" in figure:
        tags = cell.metadata.get("tags", [])
        hidden = "remove-input" in tags or "remove-cell" in tags
        run = f"{{ref}}`this run <{label(chapter)}>`"
        figure["caption"] += f" Made by {run}." if hidden else (
            f" Made by the code cell above in {run}."
        )  # fmt: skip


def _preview_toc(book: Book, outcomes: Sequence[Outcome]) -> str:
    entries = [
        outcome.chapter.source.relative_to(book.root).with_suffix("").as_posix()
        for outcome in outcomes
    ] + book.pages
    toc: dict[str, Any] = {"format": "jb-book", "root": entries[0]}
    if entries[1:]:
        toc["chapters"] = [{"file": entry} for entry in entries[1:]]
    return yaml.safe_dump(toc)


def _problems(log: Path, stage: Path) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8")).splitlines()
    found = [line for line in lines if re.search("WARNING|ERROR|CRITICAL|Error:", line)]
    shown = [line.replace(f"{stage.resolve()}{os.sep}", "") for line in found or lines[-5:]]
    return "\n".join(f"  {line}" for line in shown[:PROBLEMS_SHOWN])


def _swap(new: Path, target: Path) -> None:
    """Put the folder `new` in the place of `target`."""
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)
