"""Explorers on a page: from the output of an executed notebook to state and script."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from implreg.widgets.bundle import page_script
from implreg.widgets.explorer import PAGE_TYPE

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
        files = (_state_file(page, name), _script_file(page))
        yield "\n".join(
            [
                f'<div hidden class="explorer-state" data-explorer="{page["explorer"]}" '
                f'data-state="{name}"></div>',
                *(f'<script defer src="../_static/{_FOLDER}/{file}"></script>' for file in files),
            ]
        )


def write_scripts(outputs: Sequence[nbformat.NotebookNode], name: str, stage: Path) -> None:
    """Write the scripts of `mounts` into the staging tree."""
    for page in _pages(outputs):
        folder = stage / _ASSETS / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _state_file(page, name)).write_text(state_script(page, name), encoding="utf-8")
        script = page_script(page["explorer"])
        (folder / _script_file(page)).write_text(script, encoding="utf-8")


def state_script(page: Mapping[str, Any], name: str) -> str:
    """The script that tells the page an explorer's state."""
    state = json.dumps(page["state"], separators=(",", ":"))
    return f"(window.explorerStates ??= {{}})[{json.dumps(name)}] = {state};\n"


def _pages(outputs: Sequence[nbformat.NotebookNode]) -> list[dict[str, Any]]:
    """What explorers among the outputs of a cell say of themselves."""
    datas = [output.get("data", {}) for output in outputs]
    return [data[PAGE_TYPE] for data in datas if PAGE_TYPE in data]


# Names change with contents, so that no browser shows an old one.
def _state_file(page: Mapping[str, Any], name: str) -> str:
    return f"{name}.{_short_hash(state_script(page, name))}.js"


def _script_file(page: Mapping[str, Any]) -> str:
    return f"{page['explorer']}.{_short_hash(page_script(page['explorer']))}.js"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
