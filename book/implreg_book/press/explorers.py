"""Explorers on a page: from the output of an executed notebook to state and script."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from implreg.errors import prepare_folder

_ASSETS = Path("book/_assets")  # served as `_static`
_FOLDER = "explorers"


def mounts(outputs: Sequence[nbformat.NotebookNode], name: str) -> Iterator[str]:
    """Yield the HTML that mounts each explorer among `outputs`, for a place behind its picture.

    The page is in a folder beside `_static`. State and explorer are ordinary scripts, as a page
    that is opened from disk may load nothing else, and run when the page has been read.

    Args:
        outputs: of one cell.
        name: of the cell, unlike that of any other of the book.
    """
    for page in _pages(outputs):
        kind = f'class="explorer-state" data-explorer="{page["explorer"]}"'
        lines = [f'<div hidden {kind} data-state="{name}"></div>']
        source = f"../_static/{_FOLDER}"
        lines += [f'<script defer src="{source}/{x}"></script>' for x in _scripts(page, name)]
        yield "\n".join(lines)


def write_scripts(chapter: str, executed: nbformat.NotebookNode, stage: Path) -> None:
    """Write the scripts of all `mounts` of a chapter into the staging tree."""
    for cell in executed.cells:
        for page in _pages(cell.get("outputs", [])):
            for file, text in _scripts(page, f"{chapter}-{cell.id}").items():
                place = prepare_folder(stage / _ASSETS / _FOLDER) / file
                place.write_text(text, encoding="utf-8")


def state_script(page: Mapping[str, Any], name: str) -> str:
    """The script that tells the page an explorer's state."""
    state = json.dumps(page["state"], separators=(",", ":"))
    return f"(window.explorerStates ??= {{}})[{json.dumps(name)}] = {state};\n"


def _pages(outputs: Sequence[nbformat.NotebookNode]) -> list[dict[str, Any]]:
    """What explorers among the outputs of a cell say of themselves."""
    datas = [output.get("data", {}) for output in outputs]
    if not any("explorer" in kind for data in datas for kind in data):
        return []
    from implreg.widgets.explorer import PAGE_TYPE  # seconds to import, and most cells have none

    return [data[PAGE_TYPE] for data in datas if PAGE_TYPE in data]


def _scripts(page: Mapping[str, Any], name: str) -> dict[str, str]:
    """State and explorer by the names of their files, which change with contents.

    So no browser shows an old one.
    """
    from implreg_book.widgets.scripts import page_script

    explorer = page["explorer"]
    return {
        f"{stem}.{hashlib.sha256(text.encode()).hexdigest()[:8]}.js": text
        for stem, text in ((name, state_script(page, name)), (explorer, page_script(explorer)))
    }
