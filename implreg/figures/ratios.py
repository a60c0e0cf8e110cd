"""Figures of ratios to a reference."""

import math
from collections.abc import Mapping

from matplotlib.lines import Line2D

from implreg.errors import InputError
from implreg.figures.axes import letter_panels, log_axis, name_rows
from implreg.figures.display import CATEGORIES, MUTED, Figure, legend, number, show, style
from implreg.statistics import Estimate


def plot_ratios(
    ratios: Mapping[str, Mapping[str, Estimate]], *, reference: str = "reference"
) -> Figure:
    """Ratios to a reference, one row per condition and one panel per quantity, on a log axis.

    Intervals that contain 1 are drawn hollow, those apart from 1 full.

    Args:
        ratios: by quantity in words, by condition, its ratio to the reference with its interval;
            conditions without an estimate (n = 0) are named as such. At most four quantities.
        reference: what the denominator is, in words.

    Raises:
        InputError: no quantity, more than four, or quantities with different conditions.
    """
    rows = list(next(iter(ratios.values()), {}))
    if not rows or len(ratios) > 4 or any(list(found) != rows for found in ratios.values()):
        raise InputError(
            f"ratios must hold one to four quantities with the same conditions, at least one, got "
            f"{ {name: list(found) for name, found in ratios.items()} }; compute them alike."
        )
    canvas, panels = letter_panels(len(ratios), height=1.3 + 0.36 * len(rows), sharey=True)
    told = []
    with style():
        for panel, (quantity, found) in zip(panels, ratios.items(), strict=True):
            panel.axvline(1, color=MUTED, linewidth=1.4)
            words = []
            for i, (name, x) in enumerate(found.items()):
                if not x.n or math.isnan(x.value):
                    panel.annotate("no run", (1, i), ha="center", va="center", color=MUTED)
                    words.append(f"{name} no run")
                    continue
                apart = not x.low <= 1 <= x.high
                panel.plot([x.low, x.high], [i, i], color=CATEGORIES[0], linewidth=2.4)
                panel.plot(x.value, i, "o", color=CATEGORIES[0], markersize=7.5,
                           markerfacecolor=None if apart else "none", zorder=4)  # fmt: skip
                words.append(f"{name} {number(x.value)} ({number(x.low)} to {number(x.high)})")
            told.append(f"{quantity}: {', '.join(words)}")
            panel.set_xlabel(f"{quantity}, ratio")
            name_rows(panel, rows)
            log_axis(panel, "x")
        legend(
            canvas,
            [
                Line2D([], [], color=CATEGORIES[0], marker="o", label="interval apart from 1"),
                Line2D([], [], color=CATEGORIES[0], marker="o", markerfacecolor="none",
                       label="interval contains 1"),
            ],
        )  # fmt: skip
    alt = (
        f"Dot plot of ratios to the {reference} for {len(rows)} conditions, with intervals. "
        f"{'; '.join(told)}."
    )
    return show(canvas, alt=alt)
