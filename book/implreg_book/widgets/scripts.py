"""The JavaScript of the explorers on a page, where there is no kernel."""

import json
from functools import cache
from pathlib import Path

from implreg.widgets.bundle import modules, scope, styles

JS = Path(__file__).parent / "js"


@cache
def page_script(name: str) -> str:
    """The explorer `name` as a script that mounts it wherever a page has its state.

    An ordinary script, so that it also runs from a folder on disk, where browsers load no modules.
    """
    return (
        f'"use strict";\n(() => {{\n{modules(name, "host", folder=JS)}\n'
        f"{scope('host')}.mount({json.dumps(name)}, {scope(name)}.render, "
        f"{json.dumps(styles())});\n}})();\n"
    )
