"""Sphinx extension: leave out scripts that a page does not need or has already.

Jupyter Book always loads thebe, which runs code on somebody's server and which this book does not
offer; and it writes some scripts into a page twice.
"""

from typing import Any

from sphinx.application import Sphinx


def _keep_each_script_once(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    kept = {
        (str(script), str(getattr(script, "attributes", {}).get("body", ""))): script
        for script in context.get("script_files", [])
    }
    context["script_files"] = list(kept.values())


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx, after the extensions of Jupyter Book itself."""
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]
    app.registry.css_files[:] = [
        sheet for sheet in app.registry.css_files if sheet[0] != "sphinx-thebe.css"
    ]
    app.connect("html-page-context", _keep_each_script_once, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
