"""Predictions at random initialisation for convolutional networks."""

from implreg.theory.convolution.predict import convolutional, moments_between
from implreg.theory.convolution.reading import read

__all__ = ["convolutional", "moments_between", "read"]
