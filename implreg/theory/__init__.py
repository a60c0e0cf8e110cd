"""Predictions of the theory, to be drawn over what `trace` measures."""

from implreg.theory.architecture import architecture
from implreg.theory.initialisation import Prediction, at_initialisation, gap_variance
from implreg.theory.layers import Architecture
from implreg.theory.process import (
    chord_deviation,
    fluctuation,
    output_covariance,
    pinned_deviation,
    slope_covariance,
)
from implreg.theory.training import Trained, after_training, tangent_kernel

__all__ = [
    "Architecture",
    "Prediction",
    "Trained",
    "after_training",
    "architecture",
    "at_initialisation",
    "chord_deviation",
    "fluctuation",
    "gap_variance",
    "output_covariance",
    "pinned_deviation",
    "slope_covariance",
    "tangent_kernel",
]
