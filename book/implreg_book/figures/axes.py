"""Panels, scales and ticks of the figures of tables."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from implreg.figures.display import MINUS, new_figure, number, round_ticks, style
from implreg_book.evidence.statistics import Estimate

_TICK = ticker.FuncFormatter(lambda value, _: f"{value:,.5g}".replace("-", MINUS))


def letter_panels(count: int, *, height: float, sharey: bool = False) -> tuple[Canvas, list[Axes]]:
    """A figure of at most two panels a row, of `height` inches each, lettered if several."""
    columns = min(count, 2)
    lines = -(-count // columns)
    with style():
        canvas = new_figure(height * lines + (0.6 if columns == 1 else 0.3))
        grid = canvas.add_gridspec(lines, columns)
        panels: list[Axes] = []
        for i in range(count):
            shared = panels[0] if sharey and panels else None
            panels.append(canvas.add_subplot(grid[i // columns, i % columns], sharey=shared))
            if sharey:
                panels[i].tick_params(labelleft=i % columns == 0)
            if count > 1:
                panels[i].set_title("abcdefghijklmnopqrstuvwxyz"[i], loc="left", fontweight="bold")
    return canvas, panels


def scale(panel: Axes, log: str, xs: Sequence[float], *, smallest: float, apart: float) -> None:
    """Scales and ticks; `smallest` is the least y, `apart` the room of an x label (share)."""
    for axis in log:
        log_axis(panel, axis)
    if "x" in log and len(xs) <= 12:  # the measured values, as far as their labels have room
        room = apart * np.log(xs[-1] / xs[0])
        labelled: list[float] = []
        for x in reversed(xs):
            if not labelled or np.log(labelled[-1] / x) >= room:
                labelled.append(x)
        panel.set_xticks(labelled, [number(x) for x in labelled])
        panel.set_xticks(xs, minor=True)
    elif "x" not in log:
        panel.xaxis.set_major_locator(round_ticks(5 if apart < 0.2 else 4))
        panel.xaxis.set_major_formatter(_TICK)
    if "y" not in log:
        panel.yaxis.set_major_locator(round_ticks(6))
        panel.yaxis.set_major_formatter(_TICK)
        low, high = panel.get_ylim()
        # Sizes are read from zero, unless they hardly differ.
        if smallest >= 0 and low < 0.8 * high:
            panel.set_ylim(bottom=0)


def log_axis(panel: Axes, axis: str) -> None:
    """A logarithmic axis whose ticks are plain numbers, enough of them to read it."""
    (panel.set_xscale if axis == "x" else panel.set_yscale)("log")
    low, high = panel.get_xlim() if axis == "x" else panel.get_ylim()
    decades = np.log10(high / low)
    one = panel.xaxis if axis == "x" else panel.yaxis
    if decades < 0.7:
        one.set_major_locator(round_ticks(5))
        one.set_minor_locator(ticker.NullLocator())
    else:
        subs = [1.0] if decades > 3 else [1.0, 2.0, 5.0]
        one.set_major_locator(ticker.LogLocator(subs=subs, numticks=12))
    one.set_major_formatter(_TICK)
    one.set_minor_formatter(ticker.NullFormatter())


def with_interval(estimate: Estimate) -> str:
    """An estimate in the words of an alternative text."""
    value, low, high = map(number, (estimate.value, estimate.low, estimate.high))
    return value if np.isnan(estimate.low) else f"{value} ({low} to {high})"


def name_rows(panel: Axes, names: list[str]) -> None:
    """Name the rows 0, 1, ... of a panel from top to bottom."""
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.xaxis.set_major_locator(round_ticks(5))
