"""The explorers' JavaScript: modules in `js/`, put together into one text for each explorer."""

import re
from functools import cache
from pathlib import Path

from implreg.figures.display import variables

JS = Path(__file__).parent / "js"
# JupyterLab would take arrow keys for moves between cells, and d d would delete the cell. It looks
# at the focused element alone.
KEEP_KEYS = """
const keepKeys = (element) => element.addEventListener("focusin", ({ target }) => {
  target.setAttribute("data-lm-suppress-shortcuts", "true");
});
"""
_RENDER = "keepKeys(context.el); return EXPLORER.render(context);"
_NOTEBOOK = f"{KEEP_KEYS}\nexport default {{ render(context) {{ {_RENDER} }} }};\n"
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)


def notebook_module(name: str, folder: Path = JS) -> str:
    """The explorer `name` as an anywidget module, whose default export has `render`.

    Args:
        name: of the explorer's JavaScript module.
        folder: that holds it; what it imports may lie there or beside those of this package.
    """
    return f"{modules(name, folder=folder)}\n{_NOTEBOOK.replace('EXPLORER', scope(name))}"


@cache
def styles() -> str:
    """The explorers' style sheet, with the colours of the figures in light and dark."""
    light, dark = variables(0), variables(1)
    dark_rule = f".implreg-explorer{{{dark}color-scheme:dark}}"
    return (
        f".implreg-explorer{{{light}}}\n"
        f"@media (prefers-color-scheme:dark){{{dark_rule}}}\n"
        # Where a page or JupyterLab has a switch of its own, that decides.
        f':is([data-theme="light"],[data-jp-theme-light="true"]) .implreg-explorer'
        f"{{{light}color-scheme:light}}\n"
        f':is([data-theme="dark"],[data-jp-theme-light="false"]) {dark_rule}\n'
    ) + (JS / "explorers.css").read_text(encoding="utf-8")


def modules(*names: str, folder: Path = JS) -> str:
    """The modules `names` and all that they import, each once and in a scope of its own.

    Each is taken from `folder` or, if it is not there, from those of this package.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        file = folder / f"{name}.js"
        source = (file if file.is_file() else JS / file.name).read_text(encoding="utf-8")
        for _, needed in _IMPORT.findall(source):
            add(needed)
        body = _IMPORT.sub(lambda found: f"const {found[1]} = {scope(found[2])};\n", source)
        exported = ", ".join(_EXPORT.findall(body))
        body = _EXPORT.sub("", body)
        done[name] = f"const {scope(name)} = (() => {{\n{body}return {{ {exported} }};\n}})();"

    for name in names:
        add(name)
    return "\n".join(done.values())


def scope(name: str) -> str:
    """What holds the exports of a module in a bundle."""
    return f"${name.replace('-', '_')}"
