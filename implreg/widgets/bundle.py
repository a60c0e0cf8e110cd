"""The explorers' JavaScript: modules in `js/`, put together into one text for each explorer.

A notebook takes the text as a module, a page as an ordinary script, so that it also runs from a
folder on disk, where browsers load no modules.
"""

import json
import re
from functools import cache
from pathlib import Path

from implreg.figures.display import THEMED

JS = Path(__file__).parent / "js"
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)


def notebook_module(name: str) -> str:
    """The explorer `name` as an anywidget module, whose default export has `render`."""
    return f"{modules(name)}\nexport default {{ render: {scope(name)}.render }};\n"


@cache
def page_script(name: str) -> str:
    """The explorer `name` as a script that mounts it wherever a page has its state."""
    return (
        f'"use strict";\n(() => {{\n{modules(name, "host")}\n'
        f"{scope('host')}.mount({json.dumps(name)}, {scope(name)}.render, "
        f"{json.dumps(styles())});\n}})();\n"
    )


@cache
def styles() -> str:
    """The explorers' style sheet, with the colours of the figures in light and dark."""
    light, dark = (
        "".join(f"--{name}:{pair[theme]};" for name, pair in THEMED.items()) for theme in (0, 1)
    )
    dark_rule = f".implreg-explorer{{{dark}color-scheme:dark}}"
    return (
        f".implreg-explorer{{{light}}}\n"
        f"@media (prefers-color-scheme:dark){{{dark_rule}}}\n"
        # Where a page or JupyterLab has a switch of its own, that decides.
        f':is([data-theme="light"],[data-jp-theme-light="true"]) .implreg-explorer'
        f"{{{light}color-scheme:light}}\n"
        f':is([data-theme="dark"],[data-jp-theme-light="false"]) {dark_rule}\n'
    ) + (JS / "explorers.css").read_text(encoding="utf-8")


def modules(*names: str) -> str:
    """The modules `names` and all that they import, each once and in a scope of its own."""
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        source = (JS / f"{name}.js").read_text(encoding="utf-8")
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
