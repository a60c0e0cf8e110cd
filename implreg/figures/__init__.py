"""Figures: tidy tables and traces go in, one picture for light and dark pages comes out."""

from implreg.figures.display import Figure, show, style
from implreg.figures.intervals import plot_correlations, plot_ratios
from implreg.figures.paths import plot_gaps, plot_path, plot_samples
from implreg.figures.tables import plot_against, plot_compare, plot_z

__all__ = [
    "Figure",
    "plot_against",
    "plot_compare",
    "plot_correlations",
    "plot_gaps",
    "plot_path",
    "plot_ratios",
    "plot_samples",
    "plot_z",
    "show",
    "style",
]
