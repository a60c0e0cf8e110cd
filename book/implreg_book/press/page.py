"""The page of one chapter: its prose of today with the outputs of its run."""

from collections.abc import Sequence
from typing import Any

import nbformat

from implreg.errors import InputError
from implreg_book.press import explorers
from implreg_book.press.chapters import Chapter
from implreg_book.press.notebook import beside
from implreg_book.press.provenance import code_label, label, section

# For machines, not for readers: Jupyter Book warns about any type that it cannot show, and a widget
# would ask for a kernel.
FOR_MACHINES = ("application/vnd.implreg.", "application/vnd.jupyter.widget-view")


def stage_chapter(chapter: Chapter, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the page of `chapter`: its prose of today with the outputs of `executed`.

    Raises:
        InputError: a figure has no alternative text, or one cell has two figures.
    """
    cells = []
    hiding: list[str] = []  # of the parameters, for what is injected behind them
    for today, ran in beside(chapter, executed):
        if today is None:
            assert ran is not None
            cell = nbformat.v4.new_code_cell(
                ran.source,
                id=ran.id,
                execution_count=ran.execution_count,
                metadata={"tags": [*ran.metadata.tags, *hiding]},
            )
        else:
            cell, hiding = nbformat.from_dict(today), _hiding(today)
            if name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
                place = code_label(name)
                cells.append(nbformat.v4.new_markdown_cell(f"({place})=", id=place[:64]))
            if ran is not None:
                cell.outputs = _for_readers(ran.outputs)
                cell.execution_count = ran.execution_count
                _stage_figure(chapter, cell)
        cells.append(cell)
        # A cell of its own, as the options of a figure hold for all outputs of a cell.
        if ran is not None:
            for html in explorers.mounts(ran.outputs, f"{chapter.name}-{cell.id}"):
                cells.append(nbformat.v4.new_markdown_cell(html, id=f"{cell.id}-live"))
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
        for kind in [k for k in output.get("data", {}) if k.startswith(FOR_MACHINES)]:
            del output.data[kind]
    return kept


def _stage_figure(chapter: Chapter, cell: nbformat.NotebookNode) -> None:
    """Move a figure's alternative text to where Jupyter Book looks; link its caption to the run."""
    pictures = [o for o in cell.outputs if any("image/" in kind for kind in o.get("data", {}))]
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
        place = "" if hidden else "the code cell above in "
        figure["caption"] += f" Made by {place}{{ref}}`this run <{label(chapter)}>`."
