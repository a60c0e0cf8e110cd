"""Stochastic gradient descent as in the paper, of one network or of many side by side."""

from implreg.training.ensemble import Ensemble
from implreg.training.loop import Diverged, evaluate, fill_statistics, train
from implreg.training.recipes import SGD, Recipe

__all__ = ["SGD", "Diverged", "Ensemble", "Recipe", "evaluate", "fill_statistics", "train"]
