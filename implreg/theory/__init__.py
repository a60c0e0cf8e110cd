"""Predictions of the theory, to be drawn over what `trace` measures."""

from implreg.theory.architecture import Architecture, architecture
from implreg.theory.convolution import convolutional
from implreg.theory.initialisation import Prediction, at_initialisation, gap_variance
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
    "convolutional",
    "fluctuation",
    "gap_variance",
    "output_covariance",
    "pinned_deviation",
    "slope_covariance",
    "tangent_kernel",
]
