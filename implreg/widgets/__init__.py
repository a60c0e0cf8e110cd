"""The path explorer: move two samples and the mathematics answers, in a notebook and on a page."""

from implreg.widgets.path import PathExplorer, path_explorer
from implreg.widgets.random_networks import random_network

__all__ = ["PathExplorer", "path_explorer", "random_network"]
