"""Explorers on a page: from the output of an executed notebook to state and script."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat

from implreg.widgets.bundle import page_script
from implreg.widgets.explorer import PAGE_TYPE

_ASSETS = Path("book/_assets")  # served as `_static`
_FOLDER = "explorers"


def mounts(outputs: Sequence[nbformat.NotebookNode]) -> Iterator[str]:
    """Yield the HTML that mounts each explorer among `outputs`, for a place behind its picture.

    The page is in a folder beside `_static`.
    """
    for output in outputs:
        page = output.get("data", {}).get(PAGE_TYPE)
        if page is None:
            continue
        name = page["explorer"]
        version = hashlib.sha256(page_script(name).encode()).hexdigest()[:8]
        held = json.dumps(page["state"], separators=(",", ":")).replace("</", "<\\/")
        yield (
            f'<script type="application/json" class="explorer-state" data-explorer="{name}">'
            f"{held}</script>\n"
            f'<script defer src="../_static/{_FOLDER}/{name}.js?v={version}"></script>'
        )


def write_scripts(executed: nbformat.NotebookNode, stage: Path) -> None:
    """Write the scripts of the explorers of a notebook into the staging tree."""
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            if PAGE_TYPE in output.get("data", {}):
                name = output.data[PAGE_TYPE]["explorer"]
                script = stage / _ASSETS / _FOLDER / f"{name}.js"
                script.parent.mkdir(parents=True, exist_ok=True)
                script.write_text(page_script(name), encoding="utf-8")
