"""Figures of one path: one picture for light and dark pages."""

from implreg.figures.display import Figure, show, style
from implreg.figures.paths import plot_gaps, plot_path
from implreg.figures.samples import plot_samples

__all__ = ["Figure", "plot_gaps", "plot_path", "plot_samples", "show", "style"]
