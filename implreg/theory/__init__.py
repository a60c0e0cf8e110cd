"""Predictions of the theory, to be drawn over what `trace` measures."""

from implreg.theory.initialisation import (
    Prediction,
    at_initialisation,
    gap_variance,
    slope_covariance,
)

__all__ = ["Prediction", "at_initialisation", "gap_variance", "slope_covariance"]
