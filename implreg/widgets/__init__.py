"""Explorers: move a point in a notebook and the mathematics answers."""

from implreg.widgets.explorer import PathExplorer, path_explorer

__all__ = ["PathExplorer", "path_explorer"]
