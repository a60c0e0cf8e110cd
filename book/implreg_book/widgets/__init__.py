"""Explorers of what the chapters tell, and the panel of a chapter's own parameters."""

from implreg_book.widgets.depth import DepthExplorer, depth_explorer
from implreg_book.widgets.panel import Panel, panel
from implreg_book.widgets.training import TrainingExplorer, training_explorer
from implreg_book.widgets.walk import WalkExplorer, walk_explorer

__all__ = [
    "DepthExplorer",
    "Panel",
    "TrainingExplorer",
    "WalkExplorer",
    "depth_explorer",
    "panel",
    "training_explorer",
    "walk_explorer",
]
