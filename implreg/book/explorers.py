"""Explorers on a page: from the output of an executed notebook to state and script."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import nbformat

from implreg.widgets.bundle import page_script
from implreg.widgets.explorer import PAGE_TYPE

_ASSETS = Path("book/_assets")  # served as `_static`
_FOLDER = "explorers"
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def bring_to_life(output: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    """Yield `output` and, if it is an explorer, what mounts it in the place of its still picture.

    The page is in a folder beside `_static`.
    """
    data = output.get("data", {})
    yield output
    if PAGE_TYPE not in data:
        return
    data.pop(_WIDGET_VIEW, None)
    name, state = data[PAGE_TYPE]["explorer"], data[PAGE_TYPE]["state"]
    version = hashlib.sha256(page_script(name).encode()).hexdigest()[:8]
    held = json.dumps(state, separators=(",", ":")).replace("</", "<\\/")
    lines = [
        f'<script type="application/json" class="explorer-state" data-explorer="{name}">',
        held,
        "</script>",
        f'<script defer src="../_static/{_FOLDER}/{name}.js?v={version}"></script>',
    ]
    yield nbformat.v4.new_output("display_data", {"text/html": "\n".join(lines)})


def write_scripts(executed: nbformat.NotebookNode, stage: Path) -> None:
    """Write the scripts of the explorers of a notebook into the staging tree."""
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            if PAGE_TYPE in output.get("data", {}):
                name = output.data[PAGE_TYPE]["explorer"]
                script = stage / _ASSETS / _FOLDER / f"{name}.js"
                script.parent.mkdir(parents=True, exist_ok=True)
                script.write_text(page_script(name), encoding="utf-8")
