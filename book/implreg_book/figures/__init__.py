"""Figures of tables: tidy tables go in, one picture for light and dark pages comes out."""

from implreg_book.figures.intervals import plot_correlations, plot_ratios
from implreg_book.figures.tables import plot_against, plot_compare, plot_z

__all__ = ["plot_against", "plot_compare", "plot_correlations", "plot_ratios", "plot_z"]
