"""Explorers: move a point and the mathematics answers, in a notebook and on a page."""

from implreg.widgets.depth import DepthExplorer, depth_explorer
from implreg.widgets.path import PathExplorer, path_explorer
from implreg.widgets.random_networks import random_network
from implreg.widgets.training import TrainingExplorer, training_explorer
from implreg.widgets.walk import WalkExplorer, walk_explorer

__all__ = [
    "DepthExplorer",
    "PathExplorer",
    "TrainingExplorer",
    "WalkExplorer",
    "depth_explorer",
    "path_explorer",
    "random_network",
    "training_explorer",
    "walk_explorer",
]
