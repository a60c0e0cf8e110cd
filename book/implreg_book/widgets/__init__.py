"""Explorers of what the chapters tell: random walk to straight line, depth, training."""

from implreg_book.widgets.depth import DepthExplorer, depth_explorer
from implreg_book.widgets.training import TrainingExplorer, training_explorer
from implreg_book.widgets.walk import WalkExplorer, walk_explorer

__all__ = [
    "DepthExplorer",
    "TrainingExplorer",
    "WalkExplorer",
    "depth_explorer",
    "training_explorer",
    "walk_explorer",
]
