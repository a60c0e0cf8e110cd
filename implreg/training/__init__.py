"""Stochastic gradient descent as in the paper, of one network or of many side by side."""

from implreg.training.ensemble import Ensemble
from implreg.training.sgd import SGD, Diverged, evaluate, train

__all__ = ["SGD", "Diverged", "Ensemble", "evaluate", "train"]
